"""What the arrays of a step may hold: numbers for which some processors take twenty times as long.

A unit that died has gradients of 0 and averages that decay until they are subnormal, which rounding then keeps them;
a vanishing gradient is subnormal itself, or its square is.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import reference
from .._core import Options
from .work import Work, dialect, make_work

SIZE = 16_384  # elements, which stay in cache
NORMAL, DEAD, UPDATES = "normal numbers", "one in ten dead", "subnormal updates"
TINY_GRADIENT = 1e-12  # whose square is normal, and for which eps makes steps short
STEPS = 5  # after which a step is about as long as those that follow


def held(dtype: Any) -> dict[str, tuple[float, float]]:
    """The gradients and the states that there are to step: what begins as something else is soon that."""
    smallest = float(np.finfo(dtype).smallest_normal)
    return {
        NORMAL: (1e-3, 1e-6),
        "zeros": (0, 0),
        "subnormal states": (0, smallest / 100),
        "subnormal gradients": (smallest / 100, 0),
        "subnormal squares": (0.3 * math.sqrt(smallest), 0),
        UPDATES: (TINY_GRADIENT, 0),
        "NaN": (math.nan, math.nan),
        "infinity": (math.inf, math.inf),
        DEAD: (1e-3, 1e-6),
    }


def holding(kind: str, what: str, dtype: Any, framework: str | None = None) -> Work | None:
    """Arrays that hold one of these; None if it cannot be, as no lr makes the update of a sign subnormal."""
    options = dialect(kind, framework)
    if what == UPDATES:
        lr = lr_of_subnormal_updates(options, dtype)
        if lr is None:
            return None
        options = options.replace({"lr": lr}, (dtype,))
    work = make_work(kind, [(SIZE,)], dtype, options)
    fill(work, slice(None), *held(dtype)[what])
    if what == DEAD:
        fill(work, slice(None, None, 10), *held(dtype)["subnormal states"])
    return work


def fill(work: Work, part: slice, grad: float, state: float) -> None:
    """Give these elements such a gradient and such states."""
    for array, value in zip(work.of_each[0][1:], (grad, *[state] * len(work.states)), strict=True):
        array[part] = value


def lr_of_subnormal_updates(options: Options, dtype: Any) -> float | None:
    """The lr with which a parameter that has a tiny gradient moves by a tenth of the smallest normal number."""
    smallest = float(np.finfo(dtype).smallest_normal)
    at_one, at_two = (moved(options.replace({"lr": lr}, (np.float64,))) for lr in (1.0, 2.0))
    lr = smallest / 10 / at_one
    return lr if lr > smallest and at_one < at_two else None


def moved(options: Options) -> float:
    """How far tiny gradients move a parameter in a step, after some."""
    param, grad, *states = (np.full(1, x) for x in (0.0, TINY_GRADIENT, *[0.0] * len(options.states)))
    named: dict[str, Any] = dict(zip(options.states, states, strict=True))
    for t in range(1, STEPS + 1):
        param[:] = 0
        getattr(reference, options.rule)(param, grad, **named, step_count=t, **options.formula())
    return abs(float(param[0]))
