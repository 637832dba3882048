"""A line through a hundred points, learned from one point at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator
from numpy.typing import NDArray
from rich.console import Console

from ..optimizers import Optimizer
from ..schedules import Schedule, constant, cosine
from ..tables import Table
from .picture import canvas, save, strokes

DTYPE = np.float64
LEARNING_RATES = (10.0, 1.0, 0.1, 0.01, 0.001)
OVERFLOWING = 1e100
POINTS = 100
SLOPE, INTERCEPT, NOISE = 2.0, 1.0, 0.5

Array = NDArray[Any]


def run(make: partial[Optimizer], epochs: int, seed: int, output: Path) -> None:
    """Learn y = w x + b with and without a schedule, print and draw both beside what least squares finds."""
    rng = np.random.default_rng(seed)
    x, y = points(rng)
    order = np.concatenate([rng.permutation(POINTS) for _ in range(epochs)])
    fitted = np.polyfit(x, y, 1)
    console = Console(highlight=False)
    lr = make.keywords.get("lr")
    if lr is None:
        lr = min(LEARNING_RATES, key=lambda lr: loss(learn(make, x, y, order, cosine(lr, len(order))), x, y).mean())
        tried = ", ".join(f"{tried:g}" for tried in LEARNING_RATES)
        console.print(f"lr={lr:g}: of {tried} the one with the least mean loss\n")
    schedules = {f"lr={lr:g}": constant(lr), f"lr={lr:g}, falling to 0": cosine(lr, len(order))}
    paths = {name: learn(make, x, y, order, schedule) for name, schedule in schedules.items()}

    rule = type(make(np.zeros(2, DTYPE))).__name__
    table = Table(f"{rule}: y = w x + b, {epochs} epoch{'s' * (epochs > 1)} of {POINTS} steps", "", "w", "b", "loss")
    lines: dict[str, Any] = {"drawn from": (SLOPE, INTERCEPT), "least squares": fitted}
    lines |= {f"last step, {name}": path[-1] for name, path in paths.items()}
    for name, line in lines.items():
        table.add(name, *(f"{value:#.5g}" for value in (*line, loss(np.array([line]), x, y)[0])))
    table.show(console)
    if not all(loss(path, x, y).max() < OVERFLOWING for path in paths.values()):
        raise ArithmeticError("w and b run away with these options: no picture; --lr may be too large")
    with canvas(10, 3.9) as figure:
        draw(figure, x, y, paths, fitted)
        figure.suptitle(
            f"{rule} fits a line to one point at a time: a constant lr goes on shaking, a falling one settles"
        )
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def points(rng: np.random.Generator) -> tuple[Array, Array]:
    """Points about the line that is to be found."""
    x = rng.uniform(-5, 5, POINTS)
    return x, SLOPE * x + INTERCEPT + rng.normal(0, NOISE, POINTS)


def learn(make: Callable[..., Optimizer], x: Array, y: Array, order: Array, lr: Schedule) -> Array:
    """(w, b) after each step, from (0, 0)."""
    line = np.zeros(2, DTYPE)
    opt = make(line, lr=lr(0))
    path = np.empty((len(order), 2), DTYPE)
    with np.errstate(over="ignore", invalid="ignore"):
        for step, k in enumerate(order):
            w, b = line
            slope_of_loss = 2 * (w * x[k] + b - y[k])
            opt.lr = lr(opt.step_count)
            opt.step(np.array([slope_of_loss * x[k], slope_of_loss]))
            path[step] = line
    return path


def loss(path: Array, x: Array, y: Array) -> Array:
    """The mean square of the error over all points, for each line."""
    w, b = path.T[..., np.newaxis]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.mean((w * x + b - y) ** 2, axis=1)
    return np.where(np.isnan(mean), np.inf, mean)


def draw(figure: Figure, x: Array, y: Array, paths: dict[str, Array], fitted: Array) -> None:
    """The points with the lines at the end, w and b on their way, and the loss, which a schedule lets settle."""
    points, weights, losses = figure.subplots(1, 3)
    ends = np.array([-5.0, 5.0])
    points.scatter(x, y, s=10, color="0.7", label=f"{POINTS} points")
    for (name, path), stroke in zip(paths.items(), reversed([*islice(strokes(), 2)]), strict=True):
        points.plot(ends, np.polyval(path[-1], ends), label=name, **stroke)
        epoch = np.arange(1, len(path) + 1) / POINTS
        weights.plot(epoch, path, color=stroke["color"], linewidth=0.6)
        of_epochs = loss(path, x, y).reshape(-1, POINTS).mean(axis=1)
        losses.plot(epoch[POINTS - 1 :: POINTS], of_epochs, label=name, **stroke)
    for letter, value in zip("wb", fitted, strict=True):
        weights.axhline(value, color="k", linewidth=1, linestyle=":")
        weights.annotate(letter, (1, value), (2, -3), ("axes fraction", "data"), "offset points", weight="bold")
    losses.axhline(loss(fitted[np.newaxis], x, y)[0], color="k", linewidth=1, linestyle=":", label="least squares")
    points.set(title="The line after the last step", xlabel="x", ylabel="y")
    weights.set(title="w and b, and least squares", xlabel="epoch")
    losses.set(title="Mean squared error", xlabel="epoch", yscale="log")
    bottom, top = losses.get_ylim()
    losses.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if top < 100 * bottom else (1,)))
    losses.yaxis.set_major_formatter("{x:g}")
    losses.yaxis.set_minor_locator(NullLocator())
    points.legend()
    losses.legend()
