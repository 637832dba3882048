"""What the docstrings of all rules say alike, written once: a line ``{name}`` in one of them stands for a part."""

from __future__ import annotations

import re

PARTS = {
    "params": """\
    params : numpy.ndarray or nesting of list, tuple, dict of them
        float32 or float64 (they may be mixed), of any shapes, C- or Fortran-contiguous, none sharing memory with
        another.  Updated in place by `step`.  They are never resized in place while the optimizer lives: NumPy refuses
        to, for there are weak references to them.
""",
    "prepared": """\
    weight_decay : float
        Pulls parameters towards 0: added to the gradient (L2).  0 or greater.
    decoupled_weight_decay : bool
        Shrink the parameters by ``1 - lr weight_decay`` before the update instead; ``lr weight_decay`` at most 1.
    maximize : bool
        Climb instead of descending.
""",
    "preparation": """\
    ``p = (1 - lr weight_decay) p``                                  if `decoupled_weight_decay`
    ``g = -grad``                                                    if `maximize`, else ``g = grad``
    ``g = g + weight_decay p``                                       if `weight_decay` is not 0 nor decoupled
""",
    "bits": """\
    Every coefficient, such as ``1 - rho``, is formed in double and rounded once to the dtype of the array.  The result
    has the bits of the NumPy twin in `instep.reference`, on every instruction set, for any number of threads.
""",
    "raises": """\
    Raises
    ------
    TypeError
        Something is not an array of float32 or float64, or an option is not of its type.
    ValueError
        An array is read-only, not contiguous or shares memory with another; an option is out of its range or
        contradicts another.
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
""",
}


def filled(docstring: str | None, options: tuple[str, ...] = ()) -> str | None:
    """The docstring with its parts; ``{options of RMSprop}`` stands for a function's `options`."""
    if docstring is None:  # under python -OO
        return None

    def part(match: re.Match[str]) -> str:
        name = match[1]
        if name.startswith("options of "):
            return f"    {', '.join(options)}\n        As for `instep.{name.removeprefix('options of ')}`.\n"
        return PARTS[name]

    return re.sub(r"^    \{([\w ]+)\}\n", part, docstring, flags=re.MULTILINE)
