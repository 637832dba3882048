"""The arithmetic that kernels and NumPy share, and what the twins of several rules are made of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._core import FloatMode

Array = np.ndarray[Any, Any]


@contextmanager
def default_arithmetic() -> Iterator[None]:
    """IEEE's default floating-point mode inside, and no warnings, whatever the caller has set.

    Python itself reads and prints a number as the mode says: a checkpoint read while rounding upward would be another.
    """
    with FloatMode(), np.errstate(all="ignore"):
        yield


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
    """The gradient that a rule sees; decoupled decay has shrunk `param` by then."""
    if weight_decay and decoupled_weight_decay:
        param *= 1 - lr * weight_decay
    g = -grad if maximize else grad
    return g + weight_decay * param if weight_decay and not decoupled_weight_decay else g


def sign(x: Array) -> Array:
    """-1, 1, or `x` itself where it is a zero or NaN."""
    return np.where(x > 0, x.dtype.type(1), np.where(x < 0, x.dtype.type(-1), x))
