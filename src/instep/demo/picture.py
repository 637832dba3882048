"""How the demos draw: one style, and colours and kinds of line for any number of curves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rcParams, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import Locator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

LINES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)))

FEW = 10


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, to be drawn and saved in the style of the demos."""
    with style.context("instep.demo.picture"):
        yield Figure(figsize=(width, height))


def save(figure: Figure, output: Path) -> None:
    """Write the picture; through a file of our own, since matplotlib says nothing of a path that it cannot open."""
    with output.open("wb") as file:
        figure.savefig(file, format="png")


def plot_epochs(axes: Axes, values: Sequence[float] | NDArray[Any], **stroke: Any) -> None:
    """A value an epoch, with a mark at each where a line of so few would hardly be seen."""
    axes.plot(np.arange(1, len(values) + 1), values, marker="o" if len(values) <= FEW else "", **stroke)
    count_epochs(axes)


def count_epochs(axes: Axes) -> None:
    """Along the x axis, in whole numbers."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10), integer=True, min_n_ticks=1))


def scale_by_powers(axes: Axes) -> None:
    """Make the y axis of what has been drawn logarithmic, with plain numbers however little of it there is."""
    axes.set_yscale("log")
    bottom, top = axes.get_ylim()
    locator: Locator = LogLocator(subs=(1, 2, 3, 5) if top < 100 * bottom else (1,))
    axes.yaxis.set_major_locator(locator if top > 5 * bottom else MaxNLocator(4))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def strokes() -> Iterator[dict[str, Any]]:
    """A colour and a kind of line for each of many curves: where a colour comes back, the line is another."""
    colors = rcParams["axes.prop_cycle"].by_key()["color"]
    for color, line in zip(cycle(colors), cycle(LINES)):
        yield dict(color=color, linestyle=line)
