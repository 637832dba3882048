"""A line through a hundred points, learned from one point at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import style
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from .. import RMSprop

DTYPE = np.float64
POINTS = 100
SLOPE, INTERCEPT, NOISE = 2.0, 1.0, 0.5

Array = NDArray[np.float64]


def run(options: dict[str, Any], epochs: int, seed: int, output: Path) -> None:
    """Learn y = w x + b, print w and b beside what least squares finds, draw the line and the way there."""
    rng = np.random.default_rng(seed)
    x, y = points(rng)
    path = learn(x, y, options, epochs, rng)
    least_squares = np.polyfit(x, y, 1)

    table = Table(title=f"y = w x + b, {epochs} epochs of {POINTS} steps")
    for heading in ("", "w", "b"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, (w, b) in {
        "drawn from": (SLOPE, INTERCEPT),
        "least squares": least_squares,
        "after the last step": path[-1],
        "mean over the last epoch": path[-POINTS:].mean(axis=0),
    }.items():
        table.add_row(name, f"{w:#.5g}", f"{b:#.5g}")
    console = Console(highlight=False)
    console.print(table)
    draw(x, y, path, least_squares, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def points(rng: np.random.Generator) -> tuple[Array, Array]:
    """Points about the line that is to be found."""
    x = rng.uniform(-5, 5, POINTS)
    return x, SLOPE * x + INTERCEPT + rng.normal(0, NOISE, POINTS)


def learn(x: Array, y: Array, options: dict[str, Any], epochs: int, rng: np.random.Generator) -> Array:
    """(w, b) after each step, from (0, 0)."""
    line = np.zeros(2, DTYPE)
    opt = RMSprop(line, **options)
    path = np.empty((epochs * POINTS, 2), DTYPE)
    order = np.concatenate([rng.permutation(POINTS) for _ in range(epochs)])
    for step, k in enumerate(order):
        w, b = line
        slope_of_loss = 2 * (w * x[k] + b - y[k])
        opt.step(np.array([slope_of_loss * x[k], slope_of_loss]))
        path[step] = line
    return path


def draw(x: Array, y: Array, path: Array, least_squares: Array, output: Path) -> None:
    """The points with the line at the end on the left, w and b over the epochs on the right."""
    with style.context("instep.demo.picture"):
        figure = Figure(figsize=(9, 3.6))
        left, right = figure.subplots(1, 2)

        ends = np.array([-5.0, 5.0])
        left.scatter(x, y, s=12, color="0.6", label=f"{POINTS} points")
        left.plot(ends, np.polyval(path[-1], ends), color="0.3", linewidth=0.8, label="after the last step")
        left.plot(ends, np.polyval(path[-POINTS:].mean(axis=0), ends), color="C2", label="mean over the last epoch")
        left.set(title="The line", xlabel="x", ylabel="y")
        left.legend()

        step = np.arange(1, len(path) + 1)
        for name, values, fitted in zip("wb", path.T, least_squares, strict=True):
            right.plot(step, values, linewidth=0.8, label=name)
            right.axhline(fitted, color="0.3", linewidth=1, linestyle="--")
        right.plot([], [], "--", color="0.3", linewidth=1, label="least squares")
        right.set(title="The way there", xlabel="step", xscale="log")
        right.legend()
        with output.open("wb") as file:
            figure.savefig(file, format="png")
