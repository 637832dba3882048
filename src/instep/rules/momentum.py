"""Momentum that the learning rate enters at one end or the other."""

from __future__ import annotations

import numpy as np

from .._core import Options
from ..arithmetic import Array, default_arithmetic
from ..optimizers import Optimizer
from ..storage import decoded, encoded


class WithMomentum(Optimizer):
    """Converts ``momentum_buffer`` by the present `lr` where `lr_in_momentum` is assigned between steps."""

    __slots__ = ()

    def _keeps_states(self, options: Options, before: Options) -> bool:
        return super()._keeps_states(options, before) and not _moves_lr(options, before)

    @default_arithmetic
    def _make_states(self, options: Options, before: Options, old: dict[str, list[Array]]) -> dict[str, list[Array]]:
        states = super()._make_states(options, before, old)
        if "momentum_buffer" in old and "momentum_buffer" in states and _moves_lr(options, before):
            lr, into = before.values()["lr"], bool(options.values()["lr_in_momentum"])
            buffers = zip(old["momentum_buffer"], self._leaves, strict=True)
            states["momentum_buffer"] = [
                encoded(move_lr(decoded(buffer, param), lr, into=into), buffer) for buffer, param in buffers
            ]
        return states


def _moves_lr(options: Options, before: Options) -> bool:
    """Whether lr would meet a momentum that there is at its other end."""
    old = before.values()
    return bool(old["momentum"]) and options.values()["lr_in_momentum"] != old["lr_in_momentum"]


def move_lr(buffer: Array, lr: float, *, into: bool) -> Array:
    """The momentum with `lr` in it of one without, or the other way round, as a new array."""
    if buffer.dtype.type(lr) == 0:
        raise ValueError(
            f"lr_in_momentum cannot change while lr is 0 in {buffer.dtype} (lr={lr!r}): the momentum could not be "
            "converted"
        )
    moved: Array = np.asarray(np.multiply(buffer, lr) if into else np.true_divide(buffer, lr))
    if (np.isfinite(buffer) & ~np.isfinite(moved)).any():
        way = "multiplied" if into else "divided"
        raise ValueError(f"lr_in_momentum cannot change: the momentum {way} by lr={lr!r} overflows {buffer.dtype}")
    return moved
