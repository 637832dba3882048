"""The NumPy twin of every rule: what the kernels compute, in NumPy's words.

Each function has the signature of its namesake in `instep` and leaves the same bits behind, NaN payloads aside, for
NumPy rounds a Python float to the dtype of the array it meets, once, as the kernels do.  Read it as documentation, and
test against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core import Options

Array = np.ndarray[Any, Any]


def rmsprop(
    param: Any,
    grad: Any,
    square_avg: Any = None,
    *,
    variance: Any = None,
    grad_avg: Any = None,
    momentum_buffer: Any = None,
    step_count: int = 1,
    lr: float = 1e-3,
    rho: float = 0.9,
    eps: float = 1e-8,
    eps_inside: bool = False,
    momentum: float = 0.0,
    nesterov: bool = False,
    lr_in_momentum: bool = False,
    centered: bool = False,
    initial_square_avg: float = 0.0,
    bias_correction: bool = False,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    maximize: bool = False,
) -> None:
    """`instep.rmsprop` in NumPy: the same arguments, the same bits."""
    check_options("rmsprop", param.dtype, {name: value for name, value in locals().items() if name in RMSPROP_OPTIONS})
    with np.errstate(all="ignore"):
        g = -grad if maximize else grad
        if weight_decay and decoupled_weight_decay:
            param *= 1 - lr * weight_decay
        elif weight_decay:
            g = g + weight_decay * param

        if centered:
            largest = np.finfo(param.dtype).max
            d = np.clip(g - grad_avg, -largest, largest)
            variance[...] = rho * (variance + (1 - rho) * d * d)
            grad_avg += (1 - rho) * d
            v = variance
        else:
            square_avg[...] = rho * square_avg + (1 - rho) * (g * g)
            v = square_avg
        if bias_correction:
            v = v * (1 / (1 - whole_power(rho, step_count)))

        update = g / (np.sqrt(v + eps) if eps_inside else np.sqrt(v) + eps)
        if lr_in_momentum or not momentum:
            update = lr * update
        if momentum:
            momentum_buffer[...] = momentum * momentum_buffer + update
            update = update + momentum * momentum_buffer if nesterov else momentum_buffer
            if not lr_in_momentum:
                update = lr * update
        param -= update


def variance_of(square_avg: Array, grad_avg: Array) -> Array:
    """The variance that centered RMSprop carries, from the averages that other libraries carry.

    ``square_avg - grad_avg**2``, and 0 where rounding makes that negative.  A new array.
    """
    variance: Array = np.maximum(square_avg - grad_avg * grad_avg, 0)
    return variance


def square_avg_of(variance: Array, grad_avg: Array) -> Array:
    """The average of the squared gradient that other libraries carry, from the state of centered RMSprop.

    ``variance + grad_avg**2``.  A new array.
    """
    square_avg: Array = variance + grad_avg * grad_avg
    return square_avg


RMSPROP_OPTIONS = frozenset(Options("rmsprop").values())


def check_options(rule: str, dtype: np.dtype[Any], options: dict[str, Any]) -> None:
    """Refuse what the kernels refuse, with the same words."""
    Options(rule).replace(options, (dtype,))


def whole_power(x: float, n: int) -> float:
    """``x**n`` by squaring, in multiplications alone: `pow` has other bits under another C library."""
    power = 1.0
    while n > 0:
        if n & 1:
            power *= x
        x *= x
        n >>= 1
    return power
