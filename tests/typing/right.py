"""What type checkers must take."""

from typing import Any, ClassVar, assert_type

import numpy as np

import instep
from instep import SGD, Adam, AdamW, Optimizer, RMSprop

params = {"w": np.ones(3), "b": [np.ones(2, np.float32)]}

adam = Adam(params, lr=0.1, beta1=0.5, amsgrad=True, weight_decay=0.1)
assert_type(adam, Adam)
assert_type(adam.lr, float)
assert_type(adam.amsgrad, bool)
assert_type(adam.step_count, int)
assert_type(adam.options, dict[str, float | bool])
adam.lr = 0.5
adam.lr = 1  # an int is a float to a type checker, and here
adam.amsgrad = False
adam.step({"w": np.ones(3), "b": [None]})
adam.step_one("w", np.ones(3))
adam.bind(None)
adam.save("run.checkpoint")
adam.load_state_dict(adam.state_dict())

assert_type(AdamW(params), AdamW)
assert_type(AdamW(params, weight_decay=0.1, decoupled_weight_decay=False).weight_decay, float)
assert_type(SGD(params=params, momentum=0.9), SGD)
state = {"square_avg": {"w": np.ones(3), "b": [np.ones(2, np.float32)]}}
assert_type(RMSprop(params, state=state, step_count=3).step_count, int)
assert_type(RMSprop.preset("torch", params, alpha=0.5), RMSprop)
assert_type(RMSprop.preset("torch", params, groups={"w": {"lr": 0.5}}, master="split"), RMSprop)
assert_type(AdamW.preset("torch", params), AdamW)
assert_type(instep.load("run.checkpoint", params), Optimizer)


class Mine(RMSprop):
    """A user's own defaults."""

    __slots__ = ()

    lr: float = 0.1
    centered: bool = True


class Labelled(Adam):
    """With an int for a default, and what is no option."""

    label: ClassVar[str] = "at length"

    lr: float = 1


class Halving(Adam):
    """With arguments of its own."""

    def __init__(self, params: Any, speed: float) -> None:
        super().__init__(params, lr=speed / 2)


assert_type(Labelled(params).lr, float)
assert_type(Labelled.label, str)
assert_type(Halving(params, speed=0.5).lr, float)
assert_type(Mine(params), Mine)
assert_type(Mine(params, momentum=0.9).centered, bool)
assert_type(Mine.preset("keras", params), Mine)


def train(optimizer: Optimizer) -> float:
    """Every optimizer has these."""
    optimizer.lr *= 0.5
    optimizer.weight_decay = 0.1
    optimizer.maximize = True
    return optimizer.lr


train(Mine(params))
train(instep.Lion(params))

assert_type(instep.adam(np.ones(3), np.ones(3), np.ones(3), np.ones(3), lr=0.1, step_count=7), None)
instep.adamw(np.ones(3), np.ones(3), np.ones(3), np.ones(3), weight_decay=0.5)
instep.sgd(np.ones(3), np.ones(3), momentum=0.9, momentum_buffer=np.ones(3))
instep.reference.adam(np.ones(3), np.ones(3), np.ones(3), np.ones(3), lr=0.1)
with instep.num_threads(2):
    adam.step({"w": np.ones(3), "b": [np.ones(2, np.float32)]})
