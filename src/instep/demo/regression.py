"""A line through a hundred points, learned from one point at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console

from ..optimizers import Optimizer
from ..schedules import Schedule, constant, cosine
from ..tables import Table
from .picture import canvas, count_epochs, plot_epochs, save, scale_by_powers, strokes

DTYPE = np.float64
LEARNING_RATES = (10.0, 1.0, 0.1, 0.01, 0.001)
OVERFLOWING = 1e100
POINTS = 100
RUNS = 64  # side by side, each with the points in an order of its own
SLOPE, INTERCEPT, NOISE = 2.0, 1.0, 0.5

Array = NDArray[Any]


def run(make: partial[Optimizer], epochs: int, seed: int, output: Path) -> None:
    """Learn y = w x + b with and without a schedule, print and draw both beside what least squares finds."""
    rng = np.random.default_rng(seed)
    x, y = points(rng)
    order = orders(rng, epochs)
    fitted = np.polyfit(x, y, 1)
    console = Console(highlight=False)
    lr = make.keywords.get("lr")
    if lr is None:
        one = order[:, :1]
        lr = min(LEARNING_RATES, key=lambda lr: of_epochs(learn(make, x, y, one, cosine(lr, len(one))), x, y).mean())
        tried = ", ".join(f"{tried:g}" for tried in LEARNING_RATES)
        console.print(f"lr={lr:g}: of {tried} the one with the least mean loss\n")
    schedules = {f"lr={lr:g}": constant(lr), f"lr={lr:g}, falling to 0": cosine(lr, len(order))}
    paths = {name: learn(make, x, y, order, schedule) for name, schedule in schedules.items()}
    losses = {name: of_epochs(path, x, y) for name, path in paths.items()}

    rule = type(make(np.zeros(2, DTYPE))).__name__
    table = Table(f"{rule}: y = w x + b, {epochs} epoch{'s' * (epochs > 1)} of {POINTS} steps", "", "w", "b", "loss")
    lines: dict[str, Any] = {"drawn from": (SLOPE, INTERCEPT), "least squares": fitted}
    lines |= {f"last step, {name}": path[-1, 0] for name, path in paths.items()}
    for name, line in lines.items():
        table.add(name, *(f"{value:#.5g}" for value in (*line, loss(np.array(line), x, y))))
    table.show(console)
    if not all(of_run.max() < OVERFLOWING for of_run in losses.values()):
        raise ArithmeticError("w and b run away with these options: no picture; --lr may be too large")
    with canvas(10, 3.9) as figure:
        draw(figure, x, y, paths, losses, fitted)
        figure.suptitle(f"{rule} fits a line to one point at a time: {outcome(losses, float(loss(fitted, x, y)))}")
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def points(rng: np.random.Generator) -> tuple[Array, Array]:
    """Points about the line that is to be found."""
    x = rng.uniform(-5, 5, POINTS)
    return x, SLOPE * x + INTERCEPT + rng.normal(0, NOISE, POINTS)


def orders(rng: np.random.Generator, epochs: int) -> Array:
    """Which point comes at each step, a column for each run: in each epoch all of them, shuffled."""
    runs = [np.concatenate([rng.permutation(POINTS) for _ in range(epochs)]) for _ in range(RUNS)]
    return np.stack(runs, axis=1)


def learn(make: Callable[..., Optimizer], x: Array, y: Array, order: Array, lr: Schedule) -> Array:
    """(w, b) of each run after each step, from (0, 0); no run knows of the others, for every rule goes by elements."""
    lines = np.zeros((order.shape[1], 2), DTYPE)
    opt = make(lines, lr=lr(0))
    path = np.empty((len(order), *lines.shape), DTYPE)
    with np.errstate(over="ignore", invalid="ignore"):
        for step, k in enumerate(order):
            w, b = lines.T
            slope_of_loss = 2 * (w * x[k] + b - y[k])
            opt.lr = lr(opt.step_count)
            opt.step(np.column_stack([slope_of_loss * x[k], slope_of_loss]))
            path[step] = lines
    return path


def loss(lines: Array, x: Array, y: Array) -> Array:
    """The mean square of the error over all points, for each line."""
    w, b = lines[..., :1], lines[..., 1:]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.mean((w * x + b - y) ** 2, axis=-1)
    return np.where(np.isnan(mean), np.inf, mean)


def of_epochs(path: Array, x: Array, y: Array) -> Array:
    """The loss in each epoch, the mean over its steps and over the runs."""
    return np.array([loss(path[begin : begin + POINTS], x, y).mean() for begin in range(0, len(path), POINTS)])


def outcome(losses: dict[str, Array], least: float) -> str:
    """What these losses show: Rprop goes by lr in its first step alone, and others may be slow with such an lr."""
    constant, falling = losses.values()
    if np.array_equal(constant, falling):
        return "a falling lr changes nothing"
    if constant[-1] - least > 10 * (falling[-1] - least):
        return "a constant lr goes on shaking, a falling one settles"
    return "with a constant lr, and with one that falls to 0"


def draw(figure: Figure, x: Array, y: Array, paths: dict[str, Array], losses: dict[str, Array], fitted: Array) -> None:
    """The points with the lines at the end, w and b on their way, and the loss, which a schedule lets settle."""
    panels = figure.subplot_mosaic([["line", "first", "loss"], ["line", "second", "loss"]])
    line, mean = panels["line"], panels["loss"]
    both = [panels["first"], panels["second"]]
    ends = np.array([-5.0, 5.0])
    line.scatter(x, y, s=10, color="0.7", label=f"{POINTS} points")
    for axes, (name, path), stroke in zip(both, paths.items(), reversed([*islice(strokes(), 2)]), strict=True):
        line.plot(ends, np.polyval(path[-1, 0], ends), label=name, **stroke)
        axes.plot(np.arange(1, len(path) + 1) / POINTS, path[:, 0], color=stroke["color"], linewidth=0.6)
        axes.set_title(f"w and b, {name}")
        plot_epochs(mean, losses[name], label=name, **stroke)
    both[0].sharex(both[1])
    both[0].sharey(both[1])
    both[0].tick_params(labelbottom=False)
    count_epochs(both[1])
    for axes in both:
        for letter, value in zip("wb", fitted, strict=True):
            axes.axhline(value, color="k", linewidth=1, linestyle=":")
            axes.annotate(letter, (1, value), (2, -3), ("axes fraction", "data"), "offset points", weight="bold")
    mean.axhline(float(loss(fitted, x, y)), color="k", linewidth=1, linestyle=":", label="least squares")
    line.set(title="The line after the last step", xlabel="x", ylabel="y")
    mean.set(title=f"Mean squared error, {RUNS} runs")
    scale_by_powers(mean)
    line.legend()
    mean.legend()
