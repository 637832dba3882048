"""What a faster step saves of a whole training: the network of `instep demo`, stepped in three ways.

    python bench/training.py bench/results/training/NAME.json

Each trains on the same batches of digits: with the rule in NumPy as a tutorial writes it, with `instep.RMSprop`, and
without an optimizer, which is what the gradients alone take and no optimizer can be below.  They take turns, an epoch
each, and the time of a training is the median of its epochs times their number.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import instep
from instep.benchmark import machine
from instep.demo import digits

BATCHES = (16, 32, 64, 128)
EPOCHS = 100
LR, RHO, EPS = 1e-3, 0.9, 1e-8
NUMPY, INSTEP, NOTHING = "NumPy", "instep", "no optimizer"

Step = Callable[[digits.Params], None]


def with_numpy(params: digits.Params) -> Step:
    """RMSprop as a tutorial writes it."""
    averages = {name: np.zeros_like(param) for name, param in params.items()}

    def step(grads: digits.Params) -> None:
        for name, grad in grads.items():
            averages[name] = RHO * averages[name] + (1 - RHO) * grad**2
            params[name] -= LR * grad / (np.sqrt(averages[name]) + EPS)

    return step


def with_instep(params: digits.Params) -> Step:
    """The same by one call."""
    return instep.RMSprop(params, lr=LR, rho=RHO, eps=EPS).step


def with_nothing(params: digits.Params) -> Step:
    """The gradients are made, and thrown away."""
    return lambda grads: None


WAYS = {NUMPY: with_numpy, INSTEP: with_instep, NOTHING: with_nothing}


def train(batch: int, epochs: int) -> dict[str, Any]:
    """The seconds of each epoch and the accuracy at the end, for each of the three."""
    rng = np.random.default_rng(0)
    images, test = digits.load(rng)
    start = digits.network(rng)
    params = {way: {name: param.copy() for name, param in start.items()} for way in WAYS}
    steps = {way: make(params[way]) for way, make in WAYS.items()}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    order = list(WAYS)
    for _ in range(epochs):
        shuffled = rng.permutation(len(images.digits))
        batches = [shuffled[at : at + batch] for at in range(0, len(shuffled), batch)]
        for way in order:
            begin = perf_counter()
            for chosen in batches:
                steps[way](digits.gradients(params[way], images.pixels[chosen], images.digits[chosen]))
            seconds[way].append(perf_counter() - begin)
        order.append(order.pop(0))
    accuracies = {way: digits.measure(params[way], test)[1] for way in WAYS}
    if abs(accuracies[NUMPY] - accuracies[INSTEP]) > 0.01:
        raise ArithmeticError(f"the two trainings end apart: {accuracies}")
    rows = {}
    for way in WAYS:
        low, median, high = quantiles(seconds[way], n=4)
        rows[way] = {"median": median * epochs, "low": low * epochs, "high": high * epochs, "accuracy": accuracies[way]}
    return {"batch": batch, "epochs": epochs, "steps": epochs * len(batches), "times": rows}


def run() -> dict[str, Any]:
    """Every size of batch, on one thread of the BLAS, as the demo does."""
    with threadpool_limits(1, user_api="blas"):
        rows = [train(batch, EPOCHS) for batch in BATCHES]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine.describe(),
        "numpy": np.__version__,
        "trainings": rows,
    }


def spelled(times: dict[str, float]) -> str:
    """The median, and the quartiles."""
    return f"{times['median']:.2f} s ({times['low']:.2f} to {times['high']:.2f})"


def ratio(row: dict[str, Any]) -> str:
    """How many times as long a training with NumPy's rule takes."""
    return f"{row['times'][NUMPY]['median'] / row['times'][INSTEP]['median']:.1f}"


def markdown(result: dict[str, Any]) -> str:
    """What it comes to, a table of the trainings, and where they took place."""
    small, large = ((row["batch"], ratio(row)) for row in (result["trainings"][0], result["trainings"][-1]))
    lines = [
        f"**A whole training is {small[1]} times as fast**, gradients included, at batch {small[0]}. At batch "
        f"{large[0]} it is {large[1]} times, for there the gradients take most of the time.",
        "",
        "| batch | rule in NumPy | instep | no optimizer at all | NumPy / instep |",
        "|---:|---:|---:|---:|---:|",
    ]
    for row in result["trainings"]:
        numpy, ours, nothing = (spelled(row["times"][way]) for way in (NUMPY, INSTEP, NOTHING))
        lines.append(f"| {row['batch']} | {numpy} | **{ours}** | {nothing} | **{ratio(row)}x** |")
    there, epochs = result["machine"], result["trainings"][0]["epochs"]
    where = f"{there['processor']}, {there['instruction set']}, {there['python']}, numpy {result['numpy']}"
    lines += [
        "",
        f"The network of `instep demo`, 38 410 weights, {epochs} epochs with RMSprop in float32. A time is {epochs} "
        f"times the median epoch; in brackets the quartiles, likewise. *No optimizer* makes the gradients and throws "
        f"them away. {where}, instep {there['instep']}, one thread; {result['date'][:10]}. "
        "[bench/training.py](bench/training.py) measures it: the three take turns, an epoch each.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("result", type=Path, help="where to write it, as .json")
    arguments = parser.parse_args()
    result = run()
    arguments.result.write_text(json.dumps(result, indent=1) + "\n")
    print(markdown(result))


if __name__ == "__main__":
    main()
