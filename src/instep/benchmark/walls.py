"""What no step can be faster than, as contenders beside it.

the loop alone    the rule's kernel, called in C over the same arrays, unchecked
the roof          the bytes of the rule with the arithmetic of a copy, over the same arrays
the divider       the square roots and divisions of an element and nothing else, on arrays that stay in the first cache
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, ClassVar

import numpy as np

from .. import reference
from .._bench import Walk
from .._core import Options, get_num_threads, isas
from .measure import Contender
from .work import Work, make_work

BARE, ROOF, DIVIDER = "the loop alone", "the roof", "the divider"
WALLS = (BARE, ROOF, DIVIDER)

# The loop in csrc/bench/walls.c by the roots and divisions of an element.  A rule meets the one that takes as many of
# both as it does, or somewhat fewer: it is a wall all the same.
DIVIDERS = {(0, 0): "", (1, 1): "divider", (2, 1): "divider of two roots"}


class _Counted(np.ndarray[Any, Any]):
    """An array that counts what is done with it and with all that comes of it."""

    done: ClassVar[Counter[str]] = Counter()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **kwargs: Any) -> Any:
        self.done[ufunc.__name__] += 1
        plain = [one.view(np.ndarray) if isinstance(one, _Counted) else one for one in inputs]
        if out:
            kwargs["out"] = tuple(one.view(np.ndarray) for one in out)
        return np.asarray(getattr(ufunc, method)(*plain, **kwargs)).view(_Counted)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return np.asarray(super().__array_function__(function, types, args, kwargs)).view(_Counted)


def roots_and_divisions(options: Options) -> tuple[int, int]:
    """How many of each an element of the rule takes, counted while its NumPy twin steps one."""
    _Counted.done.clear()
    param, grad, *states = (np.ones(1).view(_Counted) for _ in range(2 + len(options.states)))
    named: dict[str, Any] = dict(zip(options.states, states, strict=True))
    twin: Any = getattr(reference, options.rule)
    twin.__wrapped__(param, grad, **named, **options.formula())  # which takes arrays of any class
    return _Counted.done["sqrt"], _Counted.done["divide"]


def walk(work: Work, isa: str | None = None) -> Walk:
    """The loops over these arrays."""
    return Walk(work.options, work.params, work.grads, work.states, isa)


def walls(work: Work, with_divider: bool) -> list[Contender]:
    """The bare loop and the roof over these arrays, and the divider for as many elements."""
    bare = walk(work)
    roofs = [walk(work, isa) for isa, runs in isas().items() if runs]
    found = []
    for threads in sorted({1, get_num_threads()}):
        # The widest vectors are the fastest in cache and not always in memory.
        roof = min(roofs, key=lambda one: min(one.seconds("roof", threads, 1) for _ in range(7)))
        found.append(Contender(BARE, threads, partial(bare.seconds, "bare", threads)))
        found.append(Contender(ROOF, threads, partial(roof.seconds, "roof", threads)))
    roots, divisions = roots_and_divisions(work.options)
    loop = DIVIDERS[max(done for done in DIVIDERS if done[0] <= roots and done[1] <= divisions)]
    if with_divider and loop:
        few = make_work(work.kind, [(1024,)], options=work.options)
        found.append(Contender(DIVIDER, 1, partial(divider, walk(few), loop, few.elements, work.elements)))
    return found


def divider(few: Walk, loop: str, resident: int, size: int, steps: int) -> float:
    """The time that the divider takes for so many elements, a few of which are walked over and over."""
    walks = -(-steps * size // resident)
    return few.seconds(loop, 1, walks) * (steps * size) / (walks * resident)
