"""Roots with the divider and without: what choosing between `x86_v4` and `x86_v4_fma` is worth on this processor.

    python bench/lab/roots.py [--rules RMSprop ...] [--size 8192] [--rounds 100]

Bound steps of one array that stays in cache, on one thread, interleaved; nanoseconds an element, the shortest of the
rounds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

import instep
from instep._core import set_isa

WITH, WITHOUT = "x86_v4", "x86_v4_fma"
STEPS = 10  # that one time is of


def bound(rule: str, dtype: str, size: int) -> instep.optimizers.Optimizer:
    """An optimizer of one array that holds normal numbers."""
    rng = np.random.default_rng(0)
    param, grad = (rng.uniform(0.5, 1.5, size).astype(dtype) for _ in range(2))
    optimizer = getattr(instep, rule)(param, lr=1e-5)
    optimizer.bind(grad)
    return optimizer


def shortest(rule: str, dtype: str, size: int, rounds: int) -> dict[str, float]:
    """Of the loops of either kind."""
    best = {WITH: float("inf"), WITHOUT: float("inf")}
    optimizer = bound(rule, dtype, size)
    for _ in range(rounds):
        for isa in best:
            set_isa(isa)
            optimizer.step()
            begin = time.perf_counter_ns()
            for _ in range(STEPS):
                optimizer.step()
            best[isa] = min(best[isa], (time.perf_counter_ns() - begin) / STEPS / size)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", default=["RMSprop", "Adagrad", "Adam", "Yogi", "Adadelta"])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=100)
    arguments = parser.parse_args()

    instep.set_num_threads(1)
    table = Table("rule", "dtype", "with the divider", "without", "without / with", title="nanoseconds an element")
    pairs = [(rule, dtype) for rule in arguments.rules for dtype in ("float32", "float64")]
    for rule, dtype in track(pairs, description="stepping", transient=True):
        best = shortest(rule, dtype, arguments.size, arguments.rounds)
        table.add_row(rule, dtype, f"{best[WITH]:.3f}", f"{best[WITHOUT]:.3f}", f"{best[WITHOUT] / best[WITH]:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
