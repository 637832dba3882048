"""Five steps of two weights, every number shown: small enough to check by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import floor, isfinite, log10
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from ..optimizers import Optimizer

DTYPE = np.float64
GRADS = ((0.5, 0.0), (0.4, 0.3), (0.3, 0.0), (0.5, 0.2), (0.4, 0.0))
NAME_WIDTH = 10  # of the quantities, which go on in the next line; a number is never cut

Quantities = dict[str, list[float | None]]


def run(make: Callable[[Any], Optimizer]) -> None:
    """Print what a step reads, leaves behind and changes, a column a step, as many columns as fit side by side."""
    console = Console(highlight=False)
    rule, weights = follow(make)
    cells = [{name: spell(values) for name, values in quantities.items()} for quantities in weights]
    width = max(len(text) for rows in cells for texts in rows.values() for text in texts)
    fitting = max(1, (console.width - NAME_WIDTH) // (width + 1))
    name_width = max(NAME_WIDTH, console.width - fitting * (width + 1))
    console.print(f"{rule}: {len(GRADS)} steps of {len(weights)} weights, w <- w - update, in float64\n")
    for weight, rows in enumerate(cells, start=1):
        for first in range(0, len(GRADS), fitting):
            steps = range(first, min(first + fitting, len(GRADS)))
            table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
            table.add_column(f"weight {weight}", no_wrap=True)
            for step in steps:
                table.add_column(f"step {step + 1}", justify="right", min_width=width, no_wrap=True)
            for name, texts in rows.items():
                table.add_row(
                    in_lines(name, name_width), *(texts[step] for step in steps), style="bold" if name == "w" else None
                )
            console.print(table, "")


def follow(make: Callable[[Any], Optimizer]) -> tuple[str, list[Quantities]]:
    """The name of the rule, and for each weight its gradient, states, update and value in every step from w = 0."""
    w = np.zeros(2, DTYPE)
    opt = make(w)
    names = ["gradient", *opt.state, "update", "update / gradient", "w"]
    weights: list[Quantities] = [{name: [] for name in names} for _ in w]
    for step in GRADS:
        before, grad = w.copy(), np.array(step, DTYPE)
        opt.step(grad)
        update = before - w
        for k, quantities in enumerate(weights):
            states = [float(array[k]) for array in opt.state.values()]
            ratio = float(update[k] / grad[k]) if grad[k] else None
            for name, value in zip(names, (float(grad[k]), *states, float(update[k]), ratio, float(w[k])), strict=True):
                quantities[name].append(value)
    return type(opt).__name__, weights


def in_lines(name: str, width: int) -> str:
    """A name in lines that end at a space or behind an underscore, of this width unless one part is longer."""
    lines = [""]
    for part in re.findall(r"[^ _]+[ _]?", name):
        if lines[-1] and len(lines[-1] + part.rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip() for line in lines)


def spell(values: list[float | None]) -> list[str]:
    """Numbers of one row with as many decimals, so that the largest shows five digits; a dash where there is none."""
    sizes = [abs(value) for value in values if value and isfinite(value)]
    if sizes and not (0.01 <= max(sizes) < 10_000 and max(sizes) < 1000 * min(sizes)):
        form = "z.2e"
    else:
        form = f"z.{4 - floor(log10(max(sizes, default=1)))}f"
    return ["-" if value is None else format(value, form) for value in values]
