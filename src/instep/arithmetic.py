"""The arithmetic that kernels and NumPy share, and what the twins of several rules are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np

from ._core import run_in_default_arithmetic

Array = np.ndarray[Any, Any]

P = ParamSpec("P")
R = TypeVar("R")


def default_arithmetic(function: Callable[P, R]) -> Callable[P, R]:
    """Runs in IEEE's default floating-point mode, and without warnings, whatever the caller has set.

    Python itself reads and prints a number as the mode says: a checkpoint read while rounding upward would be another.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = run_in_default_arithmetic(function, args, kwargs)
        return result

    return run


def whole_power(x: float, n: int) -> float:
    """``x**n`` by squaring, in multiplications alone: `pow` has other bits under another C library."""
    power = 1.0
    while n > 0:
        if n & 1:
            power *= x
        x *= x
        n >>= 1
    return power


def prepared(
    param: Array, grad: Array, lr: float, weight_decay: float, decoupled_weight_decay: bool, maximize: bool
) -> Array:
    """The gradient that a rule sees; decoupled decay has shrunk `param` by then.

    Times 1 is not for nothing: a subnormal gradient counts as 0, however a rule goes on with it.
    """
    if weight_decay and decoupled_weight_decay:
        param *= 1 - lr * weight_decay
    g = (-1.0 if maximize else 1.0) * grad
    return g + weight_decay * param if weight_decay and not decoupled_weight_decay else g


def towards(x: Array, size: Array | float) -> Array:
    """`size` in the direction of `x`, or `x` itself where it is a zero or NaN: sign(x) size, without a product."""
    size = np.asarray(size, x.dtype)
    return np.where(x > 0, size, np.where(x < 0, -size, x))
