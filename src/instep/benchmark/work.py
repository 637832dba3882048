"""What is stepped: arrays under the options of a rule, or of a variant such as ``adamw``, in a framework's dialect."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .._core import Options
from ..arithmetic import Array
from ..dialects import family, presets

Arrays = list[Array]
Shapes = list[tuple[int, ...]]

LR = 1e-2  # everybody's


def dialect(kind: str, framework: str | None = None) -> Options:
    """The options that a framework has by default, or the first that has the rule."""
    spoken, defaults = presets(kind), family()[kind]._defaults
    options = spoken[framework] if framework else next(iter(spoken.values()), defaults)
    return Options(family()[kind].rule).replace(defaults | options | {"lr": LR}, (np.float32, np.float64))


@dataclass(frozen=True)
class Work:
    """``grads[k]`` and ``states[name][k]`` go with ``params[k]``."""

    kind: str
    options: Options
    params: Arrays
    grads: Arrays
    states: dict[str, Arrays]

    def under(self, options: Options) -> Work:
        """The same arrays under other options, which have the same states."""
        return replace(self, options=options)

    def copy(self) -> Work:
        """The same numbers in other arrays."""
        params, grads, *states = (
            [array.copy() for array in arrays] for arrays in (self.params, self.grads, *self.states.values())
        )
        return replace(self, params=params, grads=grads, states=dict(zip(self.states, states, strict=True)))

    @property
    def of_each(self) -> list[tuple[Array, ...]]:
        """Parameter, gradient and states that go together."""
        return list(zip(self.params, self.grads, *self.states.values(), strict=True))

    @property
    def flat(self) -> list[tuple[Array, ...]]:
        """The same as arrays of one dimension, which share their memory."""
        return [tuple(array.reshape(-1) for array in arrays) for arrays in self.of_each]

    @property
    def elements(self) -> int:
        """Of all parameters."""
        return sum(param.size for param in self.params)

    @property
    def bytes(self) -> int:
        """What a step moves for an element: parameter and states read and written, gradient read."""
        return self.params[0].itemsize * (3 + 2 * len(self.states))


def make_work(kind: str, shapes: Shapes, dtype: Any = np.float32, options: Options | None = None) -> Work:
    """Arrays whose values stay normal however often they are stepped.

    The gradients are positive, because the roof, which shares the arrays, adds them to what others take the root of.
    """
    options = options or dialect(kind)
    generator = np.random.default_rng(0)
    grads = [generator.random(shape, np.float32).astype(dtype) for shape in shapes]
    for grad in grads:
        grad += dtype(0.5)
    ones = [[np.ones(shape, dtype) for shape in shapes] for _ in range(1 + len(options.states))]
    return Work(kind, options, ones[0], grads, dict(zip(options.states, ones[1:], strict=True)))


def elements(shapes: Shapes) -> int:
    """Of all arrays."""
    return sum(math.prod(shape) for shape in shapes)
