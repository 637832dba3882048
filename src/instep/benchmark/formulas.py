"""Every rule as NumPy tutorials and numba's users write it: an element's update and its new states.

The same words step whole arrays in NumPy and, compiled, one number after another in numba.  They are peers, not twins:
each speaks the first dialect of its rule, without the options that are off there.  `coefficients` is what a step forms
once, from its number and the options that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

f32 = np.float32


class Formula(NamedTuple):
    """``element(p, g, *states, *coefficients(t, *options))`` gives what p loses, and the states."""

    element: Callable[..., tuple[Any, ...]]
    coefficients: Callable[..., tuple[Any, ...]]

    def options(self, values: dict[str, float | bool]) -> tuple[float, ...]:
        """Those that `coefficients` names, of all."""
        code = self.coefficients.__code__
        return tuple(values[name] for name in code.co_varnames[1 : code.co_argcount])


def _rmsprop(p: Any, g: Any, v: Any, lr: Any, rho: Any, rest: Any, eps: Any) -> tuple[Any, ...]:
    v = rho * v + rest * (g * g)
    return lr * (g / (np.sqrt(v) + eps)), v


def _rmsprop_step(t: int, lr: float, rho: float, eps: float) -> tuple[Any, ...]:
    return f32(lr), f32(rho), f32(1 - rho), f32(eps)


def _sgd(p: Any, g: Any, lr: Any) -> tuple[Any, ...]:
    return (lr * g,)


def _sgd_step(t: int, lr: float) -> tuple[Any, ...]:
    return (f32(lr),)


def _adagrad(p: Any, g: Any, s: Any, lr: Any, eps: Any) -> tuple[Any, ...]:
    s = s + g * g
    return lr * (g / (np.sqrt(s) + eps)), s


def _adagrad_step(t: int, lr: float, eps: float) -> tuple[Any, ...]:
    return f32(lr), f32(eps)


def _adam(
    p: Any, g: Any, m: Any, v: Any, lr: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any, unbias: Any, eps: Any
) -> tuple[Any, ...]:
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return lr * (m / (np.sqrt(v * unbias) + eps)), m, v


def _adam_step(t: int, lr: float, beta1: float, beta2: float, eps: float) -> tuple[Any, ...]:
    rate, unbias = lr / (1 - beta1**t), 1 / (1 - beta2**t)
    return f32(rate), f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2), f32(unbias), f32(eps)


def _adamw(
    p: Any, g: Any, m: Any, v: Any, decay: Any, lr: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any, unbias: Any,
    eps: Any,
) -> tuple[Any, ...]:  # fmt: skip
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return decay * p + lr * (m / (np.sqrt(v * unbias) + eps)), m, v


def _adamw_step(t: int, lr: float, beta1: float, beta2: float, eps: float, weight_decay: float) -> tuple[Any, ...]:
    decay, rate, unbias = lr * weight_decay, lr / (1 - beta1**t), 1 / (1 - beta2**t)
    return f32(decay), f32(rate), f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2), f32(unbias), f32(eps)


def _yogi(
    p: Any, g: Any, m: Any, v: Any, lr: Any, beta1: Any, rest1: Any, rest2: Any, unbias: Any, eps: Any
) -> tuple[Any, ...]:
    square = g * g
    m = beta1 * m + rest1 * g
    v = v - rest2 * np.sign(v - square) * square
    return lr * (m / (np.sqrt(v * unbias) + eps)), m, v


def _yogi_step(t: int, lr: float, beta1: float, beta2: float, eps: float) -> tuple[Any, ...]:
    rate, unbias = lr / (1 - beta1**t), 1 / (1 - beta2**t)
    return f32(rate), f32(beta1), f32(1 - beta1), f32(1 - beta2), f32(unbias), f32(eps)


def _adadelta(p: Any, g: Any, v: Any, d: Any, lr: Any, rho: Any, rest: Any, eps: Any) -> tuple[Any, ...]:
    v = rho * v + rest * (g * g)
    u = np.sqrt(d + eps) / np.sqrt(v + eps) * g
    return lr * u, v, rho * d + rest * (u * u)


def _rprop(
    p: Any, g: Any, s: Any, before: Any, eta_minus: Any, eta_plus: Any, step_min: Any, step_max: Any
) -> tuple[Any, ...]:
    x = before * g
    s = s * np.where(x > 0, eta_plus, np.where(x < 0, eta_minus, f32(1)))
    s = np.where(s > step_max, step_max, np.where(s < step_min, step_min, s))
    g = np.where(x < 0, f32(0), g)
    return np.sign(g) * s, s, g


def _rprop_step(t: int, eta_minus: float, eta_plus: float, step_min: float, step_max: float) -> tuple[Any, ...]:
    return f32(eta_minus), f32(eta_plus), f32(step_min), f32(step_max)


def _lion(p: Any, g: Any, m: Any, lr: Any, beta1: Any, rest1: Any, beta2: Any, rest2: Any) -> tuple[Any, ...]:
    return lr * np.sign(beta1 * m + rest1 * g), beta2 * m + rest2 * g


def _lion_step(t: int, lr: float, beta1: float, beta2: float) -> tuple[Any, ...]:
    return f32(lr), f32(beta1), f32(1 - beta1), f32(beta2), f32(1 - beta2)


FORMULAS = {
    "rmsprop": Formula(_rmsprop, _rmsprop_step),
    "sgd": Formula(_sgd, _sgd_step),
    "adagrad": Formula(_adagrad, _adagrad_step),
    "adam": Formula(_adam, _adam_step),
    "adamw": Formula(_adamw, _adamw_step),
    "yogi": Formula(_yogi, _yogi_step),
    "adadelta": Formula(_adadelta, _rmsprop_step),
    "rprop": Formula(_rprop, _rprop_step),
    "lion": Formula(_lion, _lion_step),
}
