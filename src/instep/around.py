"""What surrounds a rule in an array's step, in NumPy: the twin of ``csrc/blocks.c`` and ``walk.c``, bit for bit.

In this order:

================================================  =====================================================================
``g = grad``                                      read exactly from float16, bfloat16 or float32
``g = c grad_scale g``                            with c of `clip_factor`; one product, with the sign of `maximize`,
                                                  but two where ``c grad_scale`` is less than any normal float32
                                                  and there is no `clip_value`
``g = max(min(g, clip_value), -clip_value)``      if `clip_value`
the rule                                          on float32 or float64, whatever the arrays are stored in
``param_avg = d param_avg + (1 - d) p``           if `average_decay`, which is d; in an array's first step it is p
parameter and states are written                  stochastically rounded where they have fewer bits: `instep.storage`
the copy of the parameter is written              rounded to the nearest, the even one of two that are as near
================================================  =====================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from . import reference, storage
from ._core import Options, Rows, run_in_step_arithmetic, some
from .arithmetic import Array

__all__ = ["clip_factor", "missed", "norm", "square_sum", "step"]

_LANES = 32  # partial sums of a block
_SMALLEST_FLOAT = 2.0**-126  # that is normal


def square_sum(grads: Iterable[Array | Rows]) -> float:
    """The sum of the squares of all elements, exact over blocks of 256, within which 32 partial sums are folded.

    It does not depend on the order of the blocks.  Squares are formed in double: those of float32 numbers are exact.
    A row of `Rows` begins a block: as many as are whole in 256 elements are a block together, a longer one has several.

    Parameters
    ----------
    grads : iterable of numpy.ndarray or Rows
        The gradients.  Rows of the same index are added up first: in float64 if their values are of it, else in
        float32, as beside a parameter of that dtype.

    Returns
    -------
    float
        The sum; infinite where it is too large, NaN where an element is one.
    """
    sums: list[float] = []
    for grad in grads:
        flat = _runs(grad) if isinstance(grad, Rows) else storage.as_numbers(grad).ravel(order="K")
        sums += run_in_step_arithmetic(_sums_of_blocks, (flat,), {})
    if any(map(math.isnan, sums)):
        return math.nan
    try:
        return math.fsum(sums)
    except OverflowError:  # of the sum of finite numbers
        return math.inf


def _runs(rows: Rows) -> Array:
    """The values in ascending order of their rows, with zeros where a block ends before 256 elements."""
    dtype = np.float64 if rows.values.dtype == np.float64 else np.float32
    values = storage.summed(rows.indices, rows.values, dtype)[1]
    size = math.prod(values.shape[1:])
    together = max(storage.BLOCK // max(size, 1), 1)
    padded = np.zeros((-(-len(values) // together) * together, size), dtype)
    padded[: len(values)] = values.reshape(len(values), size)
    run = together * size
    blocks = np.zeros((len(padded) // together, -(-run // storage.BLOCK) * storage.BLOCK), dtype)
    blocks[:, :run] = padded.reshape(-1, run)
    return blocks.ravel()


def _sums_of_blocks(flat: Array) -> list[float]:
    squares = np.zeros((-(-flat.size // storage.BLOCK), storage.BLOCK // _LANES, _LANES))
    squares.reshape(-1)[: flat.size] = flat.astype(np.float64) * flat.astype(np.float64)
    lanes = np.zeros((len(squares), _LANES))
    for row in range(storage.BLOCK // _LANES):
        lanes += squares[:, row]
    while lanes.shape[1] > 1:
        lanes = lanes[:, : lanes.shape[1] // 2] + lanes[:, lanes.shape[1] // 2 :]
    found: list[float] = lanes[:, 0].tolist()
    return found


def norm(grads: Iterable[Array | Rows], grad_scale: float = 1.0) -> float:
    """The norm of all gradients together, times `grad_scale`.

    Parameters
    ----------
    grads : iterable of numpy.ndarray or Rows
        The gradients.
    grad_scale : float
        The option.

    Returns
    -------
    float
        What `Optimizer.grad_norm` is after a step.
    """
    return grad_scale * math.sqrt(square_sum(grads))


def clip_factor(norm: float, bound: float) -> float:
    """What a gradient of this norm is multiplied by, so that its norm is `bound` at most; 0 bounds nothing.

    The same as optax and Keras have it; torch divides by ``norm + 1e-6`` instead.

    Parameters
    ----------
    norm : float
        From `norm`, with the scale.
    bound : float
        The option `clip_norm` or `clip_global_norm`.

    Returns
    -------
    float
        At most 1.
    """
    return bound / norm if bound and norm > bound else 1.0


def step(
    rule: str,
    param: Array,
    grad: Array,
    states: Mapping[str, Array],
    *,
    step_count: int = 1,
    stream: int = 0,
    clip: float = 1.0,
    copy: Array | None = None,
    **options: Any,
) -> None:
    """Take one step of an array, in place, with all that surrounds its rule.

    Parameters
    ----------
    rule : str
        The name of the rule, such as ``"rmsprop"``; that of AdamW is ``"adam"``.
    param : numpy.ndarray
        float32, float64, float16 or bfloat16; not the ``uint16`` of their bits.
    grad : numpy.ndarray
        Of the shape of `param`; float16, bfloat16, or the type of the arithmetic.
    states : mapping of numpy.ndarray
        By name; ``param_low`` is the lower half of a `param` in two halves.
    step_count : int
        Which step this is, from 1.
    stream : int
        The number of the array among the parameters, in the order of their keys: see `instep.storage`.
    clip : float
        What `clip_factor` gives for the norm of this gradient, or of all of them.
    copy : numpy.ndarray
        float16 or bfloat16: what the parameter is written to as well, rounded to the nearest.
    **options
        Of the optimizer.

    Raises
    ------
    ValueError
        There is no state of a name that these options need.
    """
    run_in_step_arithmetic(_step, (rule, param, grad, states, step_count, stream, clip, copy, options), {})


def _step(
    rule: str,
    param: Array,
    grad: Array,
    states: Mapping[str, Array],
    step_count: int,
    stream: int,
    clip: float,
    copy: Array | None,
    options: dict[str, Any],
) -> None:
    options = Options(rule).values() | options
    of_formula = {name: options[name] for name in Options(rule).of_formula}

    def random(place: int) -> Array:
        return storage.random_bits(options["seed"], stream, step_count, place, param.size)

    low = states.get("param_low")
    p = storage.from_split(_flat16(param), low.ravel(order="K")) if low is not None else _opened(param)
    g = storage.as_numbers(grad).ravel(order="K").astype(p.dtype)
    scale = options["grad_scale"] * clip
    if 0 < scale < _SMALLEST_FLOAT and not options["clip_value"]:  # the norm was huge: it takes two products in float32
        g, scale = _SMALLEST_FLOAT * g, scale / _SMALLEST_FLOAT
    if options["clip_value"]:
        bound = p.dtype.type(options["clip_value"])
        g = (-scale if options["maximize"] else scale) * g
        g = np.where(g > bound, bound, g)
        g = np.where(-bound > g, -bound, g)
        of_formula["maximize"] = False
    else:
        g = scale * g
    needed = Options(rule).replace(options, ()).states
    lacking = [name for name in needed if name not in states]
    if lacking:
        raise ValueError(f"states lacks {some(lacking)}: {rule} needs it with these options")
    names = [name for name in needed if name != "param_avg"]
    opened = {name: _opened_state(states[name], p.size) for name in names}
    getattr(reference, rule)(p, g, **opened, step_count=step_count, **of_formula)

    for k, name in enumerate(names):
        _close_state(states[name], opened[name], random(1 + k))
    if low is not None:
        high, lower = storage.to_split(p)
        _flat16(param)[...], low.reshape(-1, order="A")[...] = high, lower
    else:
        _close(param, p, random(0))
    if copy is not None:
        copy.reshape(-1, order="A")[...] = p
    if options["average_decay"]:
        keep = options["average_decay"]
        average = states["param_avg"].reshape(-1, order="A")
        average[...] = keep * average + (1 - keep) * p if step_count > 1 else p


def missed(rule: str, states: Mapping[str, Array], steps: int, **options: Any) -> None:
    """Take the steps that a row missed, with `exact_rows`: of its states, in place, as if its gradient had been 0.

    Parameters
    ----------
    rule : str
        The name of the rule, such as ``"rmsprop"``; that of AdamW is ``"adam"``.
    states : mapping of numpy.ndarray
        Those of the row, by name.
    steps : int
        How many.
    **options
        Of the optimizer.
    """
    run_in_step_arithmetic(_missed, (rule, states, steps, options), {})


def _missed(rule: str, states: Mapping[str, Array], steps: int, options: dict[str, Any]) -> None:
    options = Options(rule).values() | options
    of_formula = {name: options[name] for name in Options(rule).of_formula}
    if not states:
        return
    nothing = np.zeros_like(next(iter(states.values())))
    for _ in range(steps):
        getattr(reference, rule)(nothing.copy(), nothing, **states, **of_formula)


def _flat16(array: Array) -> Array:
    return array.reshape(-1, order="A").view(np.uint16)


def _opened(stored: Array) -> Array:
    return storage.as_numbers(stored).reshape(-1, order="A")


def _close(stored: Array, x: Array, random: Array) -> None:
    if stored.dtype == np.float16:
        _flat16(stored)[...] = storage.to_half(x, random)
    elif stored.dtype.name == "bfloat16":
        _flat16(stored)[...] = storage.to_bfloat16(x, random)
    else:
        stored.reshape(-1, order="A")[...] = x


def _opened_state(stored: Array, size: int) -> Array:
    if stored.dtype == np.uint8:
        return storage.from_bytes(storage.BYTE, stored, size)
    if stored.dtype == np.int8:
        return storage.from_bytes(storage.SIGNED_BYTE, stored.view(np.uint8), size)
    return _opened(stored)


def _close_state(stored: Array, x: Array, random: Array) -> None:
    if stored.dtype == np.uint8:
        stored[...] = storage.to_bytes(storage.BYTE, x, random)
    elif stored.dtype == np.int8:
        stored.view(np.uint8)[...] = storage.to_bytes(storage.SIGNED_BYTE, x, random)
    else:
        _close(stored, x, random)
