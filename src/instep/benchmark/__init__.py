"""What `instep bench` measures, and what `bench/` is made from.

work       arrays to step, under the options of a rule in a framework's dialect
peers      every contender, at its best and in its own dialect, cross-checked before it is timed
formulas   every rule as NumPy's and numba's users write it
walls      what no step can be faster than
variants   the options of a rule, turned on
around     what a trainer does around a step, in its pass, in passes of NumPy and by torch
measure    contenders interleaved, medians
suite      the sections of a run
claims     what a run has to show
machine    where it ran
report     the tables, for a terminal and for a README
picture    time an element against size, with the walls drawn
"""
