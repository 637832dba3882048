"""What the docstrings of all rules say alike, written once: a line ``{name}`` in one of them stands for a part."""

from __future__ import annotations

import re

PARTS = {
    "params": """\
    params : numpy.ndarray or nesting of list, tuple, dict of them
        float64, float32, float16 or bfloat16 (they may be mixed), of any shapes, C- or Fortran-contiguous, none sharing
        memory with another.  Updated in place by `step`, in the arithmetic of float64 or else of float32: see `master`
        for those of 16 bits.  NumPy refuses to resize them in place while the optimizer lives.
""",
    "prepared": """\
    weight_decay : float
        Pulls parameters towards 0: added to the gradient (L2).  0 or greater.
    decoupled_weight_decay : bool
        Shrink the parameters by ``1 - lr weight_decay`` before the update instead; ``lr weight_decay`` at most 1.
        Without `weight_decay`, as in Keras by default, it changes nothing.
    maximize : bool
        Climb instead of descending.
    grad_scale : float
        What every gradient is multiplied by first: one over the scale of the loss, or over the number of gradients that
        were summed.  Greater than 0.
    clip_value : float
        No element of a gradient is larger than this, either way; 0 for no bound.
    clip_norm : float
        A gradient whose norm is larger is scaled down to it, array by array; 0 for no bound.  Squares are formed in
        float64: there, elements of less than 1.5e-154 count as 0, and a norm of more than 1.3e154 is infinite and
        leaves zeros.
    clip_global_norm : float
        The same for the norm of all gradients together; 0 for no bound.  At most one of the three bounds may be set.
    skip_nonfinite : bool
        Skip a step whose gradients hold a NaN or an infinity, or may do so times `grad_scale`, whole: no parameter,
        state or count changes, but `skipped_steps`.
    grow_every : int
        Let `grad_scale` change by itself, as a dynamic loss scale does: it doubles after a step that was skipped, as
        with `skip_nonfinite`, and halves after this many steps in a row that were not; 0 for never.  It is one over the
        scale of the loss then, and nothing else: where k gradients are accumulated, divide the loss by k.
    statistics : bool
        Measure the norms of gradient, update and parameter of every array at each step: see `norms`.  Where a gradient
        is of `Rows` they are of these rows alone.
    zero_grads : bool
        Set every gradient to 0 as soon as it has been used, for trainers that add to it.
    average_decay : float
        How much of an average of the parameters a step keeps, in [0, 1); 0 for no average.  The state ``param_avg`` is
        that average; the first step makes it the parameters.  What is written into parameters between steps does not
        reach the average of arrays and rows that are not stepped: write it into ``state["param_avg"]`` too.
    exact_rows : bool
        Let the averages of a row catch up with the steps that it missed when it is next among the `Rows` of a gradient,
        as if that had been 0 in them; otherwise they wait.  Goes where nothing else would have happened: without
        momentum, an average of gradients, weight decay or `average_decay`.  The state ``row_steps`` has the last step
        of every row.  Where it is turned off all rows catch up first.
    seed : int
        Of the random numbers that parameters and states of fewer than 32 bits are rounded with.  Those of an array go
        by its number among the parameters in the order of their keys, whatever the order of the items of a dict.
    groups : dict of dict
        Options by place: ``{"*/bias": {"weight_decay": 0.0}}`` gives the arrays whose place matches the pattern options
        of their own.  A place is spelled as in `state_dict`, and ``*`` matches slashes too.  A pattern that matches
        nothing is refused, and so are two that match the same array.
    state_dtype : {None, "bfloat16", "8bit"}
        What the state arrays of float32 arithmetic are kept in, stochastically rounded; None for float32.  Refused
        where a parameter is float64.
    master : {None, "split", "float32"}
        What is kept beside parameters of 16 bits: nothing, so that each step is rounded stochastically; the 16 lower
        bits of a bfloat16 as ``param_low``, which makes the training that of float32; or the parameter in float32 as
        ``param_master``, of which the 16 bits are a copy, rounded to the nearest.  With that it is the master that is
        trained: what is written into the parameters is lost at the next step, unless it is written into
        ``state["param_master"]`` too.
    state : dict
        Arrays to keep the state in, such as ``numpy.memmap``: by name, each in the nesting of the params, as in the
        attribute `state`.  Steps update them in place, and go on from what is in them.  They are read through once:
        what no step leaves there is refused, such as a negative number in an average of squares, and so is a
        ``param_master`` that is not its parameter.  They are used until an option or `load` needs others.  By default
        they are made.
    step_count : int
        How many steps that state has taken.
""",
    "preparation": """\
    ``p = (1 - lr weight_decay) p``                                  if `decoupled_weight_decay`
    ``g = -grad``                                                    if `maximize`, else ``g = grad``
    ``g = g + weight_decay p``                                       if `weight_decay` is not 0 nor decoupled
""",
    "bits": """\
    Every coefficient is formed in double and rounded once to the dtype of the array.  The result has the bits of the
    NumPy twin in `instep.reference`, on every instruction set, for any number of threads.
""",
    "raises": """\
    Raises
    ------
    TypeError
        Something is not an array of one of these dtypes, or an option is not of its type.
    ValueError
        An array is read-only, not contiguous or shares memory with another; an option is out of its range or
        contradicts another; `groups`, `state_dtype`, `master` or `state` do not go with the parameters.
""",
    "function": """\
    param : numpy.ndarray
        float32 or float64, of any shape, C- or Fortran-contiguous.  Updated in place.
    grad : numpy.ndarray
        Of the shape and dtype of `param`.  Not modified.  Copied first when it is not laid out as `param`.
""",
    "function raises": """\
    Raises
    ------
    TypeError
        An argument is not an array, or of another dtype, or a state that these options need is missing, or one that
        they do not need is given.
    ValueError
        An array is read-only, not contiguous, of another shape, or shares memory with another one; an option is out
        of its range or contradicts another.  In both cases nothing has been written.

    Notes
    -----
    The numbers in a state are the caller's to answer for: they are not looked at.  They must be what the rule leaves
    there, with no negative one in an average or sum of squares, whose root would be a NaN, or among sizes of steps.
""",
}


def filled(docstring: str | None, options: tuple[str, ...] = ()) -> str | None:
    """The docstring with its parts; ``{options of RMSprop}`` stands for a function's `options`."""
    if docstring is None:  # under python -OO
        return None

    def part(match: re.Match[str]) -> str:
        indent, name = match.groups()
        if name.startswith("options of "):
            text = f"    {', '.join(options)}\n        As for `instep.{name.removeprefix('options of ')}`.\n"
        else:
            text = PARTS[name]
        return text if indent else re.sub(r"^    ", "", text, flags=re.MULTILINE)  # which Python 3.13 takes away

    return re.sub(r"^(    )?\{([\w ]+)\}\n", part, docstring, flags=re.MULTILINE)
