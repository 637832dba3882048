"""How the demos draw: one style, and colours and kinds of line for any number of curves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib import rcParams, style
from matplotlib.figure import Figure

LINES = ("-", (0, (6, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)))


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """A figure of so many inches, to be drawn and saved in the style of the demos."""
    with style.context("instep.demo.picture"):
        yield Figure(figsize=(width, height))


def save(figure: Figure, output: Path) -> None:
    """Write the picture; through a file of our own, since matplotlib says nothing of a path that it cannot open."""
    with output.open("wb") as file:
        figure.savefig(file, format="png")


def strokes() -> Iterator[dict[str, Any]]:
    """A colour and a kind of line for each of many curves: where a colour comes back, the line is another."""
    colors = rcParams["axes.prop_cycle"].by_key()["color"]
    for color, line in zip(cycle(colors), cycle(LINES)):
        yield dict(color=color, linestyle=line)
