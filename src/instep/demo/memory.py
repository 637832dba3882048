"""What two rules remember: Adagrad sums the squares of all gradients, RMSprop averages those of late.

Every number is read off the optimizers: their states, and how far they move a parameter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from ..rules.adagrad import Adagrad
from ..rules.rmsprop import RMSprop
from ..tables import Table
from .picture import canvas, save, strokes

DTYPE = np.float64
LR = 0.01
STEPS = 10_000
MEMORY = 60
SPARSE, EVERY = 60, 5
STATES: dict[type[Adagrad | RMSprop], str] = {Adagrad: "square_sum", RMSprop: "square_avg"}

Array = NDArray[np.float64]


def run(output: Path) -> None:
    """Step both, print and draw what becomes of their learning rates."""
    console = Console(highlight=False)
    constant = {rule.__name__: updates(rule, np.ones(STEPS)) for rule in STATES}
    shown = [10**power for power in range(5)]
    table = Table(f"Update / gradient, lr={LR}, the gradient always 1", "step", *map(str, shown))
    for name, values in constant.items():
        table.add(name, *(f"{values[step - 1]:.5f}" for step in shown))
    table.show(console)
    console.print()
    for name, values in constant.items():
        console.print(f"{name} moves the parameter {values.sum():.4g} in all")
    with canvas(10, 4.2) as figure:
        draw(figure, constant)
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def updates(rule: type[Adagrad | RMSprop], gradients: Array) -> Array:
    """By how much each step moves a parameter."""
    param = np.zeros(1, DTYPE)
    opt = rule(param, lr=LR)
    moved = np.empty(len(gradients), DTYPE)
    for step, gradient in enumerate(gradients):
        param[0] = 0
        opt.step(np.array([gradient], DTYPE))
        moved[step] = -param[0]
    return moved


def weights(rule: type[Adagrad | RMSprop]) -> Array:
    """What part of the state comes from the gradient k steps back, after `MEMORY` steps.

    An array of as many elements, each of which has had a gradient of 1 in another step and 0 in the others.
    """
    opt = rule(np.zeros(MEMORY, DTYPE))
    for gradient in np.eye(MEMORY, dtype=DTYPE)[::-1]:
        opt.step(gradient)
    state = opt.state[STATES[rule]]
    return np.asarray(state / state.sum())


def rates(rule: type[Adagrad | RMSprop]) -> Array:
    """What a gradient would be multiplied by, after each step: the first element has one in each, the other in few."""
    opt = rule(np.zeros(2, DTYPE), lr=LR)
    found = np.empty((SPARSE, 2), DTYPE)
    for step in range(SPARSE):
        opt.step(np.array([1, step % EVERY == 0], DTYPE))
        found[step] = LR / (np.sqrt(opt.state[STATES[rule]]) + opt.eps)
    return found


def draw(figure: Figure, constant: dict[str, Array]) -> None:
    """The dying rate, the memory, and the rate of a parameter that seldom has a gradient."""
    dying, memory, sparse = figure.subplots(1, 3)
    for (name, values), rule, stroke in zip(constant.items(), STATES, strokes(), strict=False):
        dying.plot(np.arange(1, STEPS + 1), values, label=name, **stroke)
        memory.plot(100 * weights(rule), label=name, **stroke)
        often, seldom = rates(rule).T
        sparse.plot(range(1, SPARSE + 1), seldom, label=f"{name}, 1 in {EVERY}", **stroke)
        sparse.plot(range(1, SPARSE + 1), often, label=f"{name}, all", alpha=0.5, linewidth=1, **stroke)
    dying.set(title="A constant gradient:\none rate dies, one stays", xlabel="step", ylabel="update / gradient")
    dying.set(xscale="log", yscale="log")
    memory.set(title=f"How much a gradient counts\nafter {MEMORY} steps", xlabel="steps back", ylabel="% of the state")
    sparse.set(title=f"A gradient in one step of {EVERY},\nor in all", xlabel="step", ylabel="lr / (sqrt(state) + eps)")
    sparse.set(ylim=(0, None))
    figure.suptitle("Adagrad remembers all gradients alike, RMSprop the latest best")
    for axes in (dying, memory, sparse):
        axes.legend()
