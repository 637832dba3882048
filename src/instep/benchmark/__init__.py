"""What `instep bench` measures, and what `bench/` is made from.

peers      every contender, at its best and in one dialect, cross-checked before it is timed
measure    contenders interleaved, medians
suite      the sections of a run
claims     what a run has to show
machine    where it ran
report     the tables, for a terminal and for a README
picture    time an element against size, with the walls drawn
"""
