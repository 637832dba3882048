"""Five steps of two weights, every number shown: small enough to check by hand."""

from __future__ import annotations

from itertools import product
from math import sqrt
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from .. import RMSprop

DTYPE = np.float64
GRADS = ((0.5, 0.0), (0.4, 0.3), (0.3, 0.0), (0.5, 0.2), (0.4, 0.0))


def run(options: dict[str, Any]) -> None:
    """Print g, the average v of its square, lr divided by what divides g, and w, after each step from w = 0."""
    w = np.zeros(2, DTYPE)
    opt = RMSprop(w, **options)
    average = "variance" if opt.centered else "square_avg"

    table = Table(
        title="RMSprop, step by step", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True
    )
    table.add_column("t", justify="right")
    for heading, weight in product(("g", "v", "effective\nlr", "w"), ("1", "2")):
        table.add_column(f"{heading}{weight}", justify="right", style="bold" if heading == "w" else None)
    for step, g in enumerate(GRADS, start=1):
        opt.step(np.array(g, DTYPE))
        v = opt.state[average].tolist()
        effective_lr = [opt.lr / denominator(opt, x) for x in v]
        table.add_row(
            str(step),
            *(f"{x:.1f}" for x in g),
            *(f"{x:.5f}" for x in v),
            *(f"{x:.4g}" for x in effective_lr),
            *(f"{x:.4f}" for x in w),
        )
    Console(highlight=False).print(table)


def denominator(opt: RMSprop, v: float) -> float:
    """What the gradient is divided by."""
    if opt.bias_correction:
        v /= 1 - opt.rho**opt.step_count
    return sqrt(v + opt.eps) if opt.eps_inside else sqrt(v) + opt.eps
