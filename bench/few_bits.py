"""What fewer bits cost in quality: two trainings in float32, with bfloat16 parameters and with 8-bit averages.

    python bench/few_bits.py docs/images/few-bits.png

Draws the losses of three seeds, and prints what they end at as a table.  Each seed has the same start, the same batches
and the same learning rates, which fall to 0, in every format.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from matplotlib.ticker import LogLocator, NullLocator
from rich.progress import Progress
from threadpoolctl import threadpool_limits

import instep
from instep.demo import digits
from instep.demo.picture import canvas, save, strokes
from instep.schedules import polynomial

SEEDS = (0, 1, 2)
BATCH = 32
LAST = 5  # epochs, whose mean is what a training ends at
FLOAT32 = "float32"
FORMATS: dict[str, tuple[Any, dict[str, Any]]] = {
    FLOAT32: (np.float32, {}),
    "bfloat16 parameters": (ml_dtypes.bfloat16, {}),
    "8-bit averages": (np.float32, {"state_dtype": "8bit"}),
    "both": (ml_dtypes.bfloat16, {"state_dtype": "8bit"}),
}

Params = dict[str, np.ndarray]
Batches = tuple[np.ndarray, np.ndarray]


class Digits:
    """The network of `instep demo` over scanned digits; the loss is the cross-entropy in the test."""

    title = "Digits: cross-entropy in the test"
    epochs, lr, rho = 40, 1e-3, 0.99

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        train, test = digits.load(rng)
        self.train, self.test = (train.pixels, train.digits), (test.pixels, test.digits)
        self.start = digits.network(rng)

    def gradients(self, params: Params, inputs: np.ndarray, targets: np.ndarray) -> Params:
        """Of the mean loss of a batch."""
        return digits.gradients(params, inputs, targets)

    def loss(self, params: Params) -> float:
        """In the test."""
        return digits.measure(params, digits.Images(*self.test))[0]


class Friedman:
    """A network of 64 units learns a function of five numbers out of ten (Friedman, 1991), with noise of variance 1."""

    title = "A regression: squared error in the test"
    epochs, lr, rho = 60, 1e-2, 0.99
    hidden = 64

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.train, self.test = self.points(rng, 2000), self.points(rng, 2000)
        self.start = {
            "w1": rng.normal(0, np.sqrt(2 / 10), (10, self.hidden)).astype(np.float32),
            "b1": np.zeros(self.hidden, np.float32),
            "w2": rng.normal(0, np.sqrt(2 / self.hidden), self.hidden).astype(np.float32),
            "b2": np.zeros(1, np.float32),
        }

    def points(self, rng: np.random.Generator, count: int) -> Batches:
        """So many of them."""
        x = rng.random((count, 10))
        y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
        return x.astype(np.float32), (y + rng.normal(0, 1, count)).astype(np.float32)

    def forward(self, params: Params, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What the hidden units say, and the output."""
        hidden = np.maximum(x @ params["w1"] + params["b1"], 0)
        return hidden, hidden @ params["w2"] + params["b2"]

    def gradients(self, params: Params, inputs: np.ndarray, targets: np.ndarray) -> Params:
        """Of the mean squared error of a batch."""
        hidden, output = self.forward(params, inputs)
        d_output = 2 / len(targets) * (output - targets)
        d_hidden = np.outer(d_output, params["w2"]) * (hidden > 0)
        return {
            "w1": inputs.T @ d_hidden,
            "b1": d_hidden.sum(axis=0),
            "w2": hidden.T @ d_output,
            "b2": d_output.sum(keepdims=True),
        }

    def loss(self, params: Params) -> float:
        """In the test."""
        inputs, targets = self.test
        return float(np.mean((self.forward(params, inputs)[1] - targets) ** 2))


TASKS = (Digits, Friedman)


def train(task: Any, dtype: Any, options: dict[str, Any], seed: int, on_epoch: Callable[[], Any]) -> np.ndarray:
    """The loss in the test after each epoch.  The network computes in float32, its gradients are rounded to `dtype`."""
    params = {name: param.astype(dtype) for name, param in task.start.items()}
    opt = instep.RMSprop(params, lr=task.lr, rho=task.rho, seed=seed, **options)
    rng = np.random.default_rng(seed)
    inputs, targets = task.train
    lr = polynomial(task.lr, 0.0, task.epochs * len(range(0, len(inputs), BATCH)))
    losses = []
    for _ in range(task.epochs):
        order = rng.permutation(len(inputs))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            opt.lr = lr(opt.step_count)
            grads = task.gradients(widened(params), inputs[batch], targets[batch])
            opt.step({name: grad.astype(dtype) for name, grad in grads.items()})
        losses.append(task.loss(widened(params)))
        on_epoch()
    return np.array(losses)


def widened(params: Params) -> Params:
    """In float32."""
    return {name: param.astype(np.float32, copy=False) for name, param in params.items()}


def final(losses: np.ndarray) -> float:
    """What the trainings of all seeds end at."""
    return float(losses[:, -LAST:].mean())


def table(found: dict[str, dict[str, np.ndarray]]) -> str:
    """What they end at, and beside float32, as Markdown."""
    lines = [f"| | {' | '.join(title for title in found)} |", "|---|" + "---:|" * len(found)]
    for name in FORMATS:
        cells = [
            f"{final(losses[name]):.4f}, {final(losses[name]) / final(losses[FLOAT32]) - 1:+.1%}"
            if name != FLOAT32
            else f"{final(losses[name]):.4f}"
            for losses in found.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(found: dict[str, dict[str, np.ndarray]], output: Path) -> None:
    """The loss of every seed with their mean, and below how far the mean is from that of float32."""
    with canvas(10, 5.6) as figure:
        panels = figure.subplots(2, len(found), sharex="col", height_ratios=(2, 1.2))
        for above, below, (title, losses) in zip(*panels, found.items(), strict=True):
            mean = {name: of_seeds.mean(axis=0) for name, of_seeds in losses.items()}
            epochs = np.arange(1, len(mean[FLOAT32]) + 1)
            below.axhspan(-10, 10, color="0.93", zorder=0)
            for (name, of_seeds), stroke in zip(losses.items(), islice(strokes(), len(losses)), strict=True):
                above.plot(epochs, of_seeds.T, **stroke | {"linewidth": 0.5, "alpha": 0.5})
                above.plot(epochs, mean[name], label=f"{name}: {final(of_seeds):.3f}", **stroke)
                below.plot(epochs, 100 * (mean[name] / mean[FLOAT32] - 1), **stroke)
            above.set(title=title, yscale="log")
            above.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
            above.yaxis.set_major_formatter("{x:g}")
            above.yaxis.set_minor_locator(NullLocator())
            above.legend(title=f"mean of {len(SEEDS)} seeds and {LAST} last epochs", title_fontsize=8)
            below.set(title="Per cent above float32; grey is within 10", xlabel="epoch", ylim=(-25, 25))
        figure.suptitle("RMSprop with fewer bits, stochastically rounded: thin lines are seeds, thick ones their mean")
        save(figure, output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path, help="where to write it, as .png")
    arguments = parser.parse_args()
    found: dict[str, dict[str, np.ndarray]] = {}
    with Progress() as progress, threadpool_limits(1, user_api="blas"):
        for kind in TASKS:
            bar = progress.add_task(kind.__name__, total=len(SEEDS) * len(FORMATS) * kind.epochs)
            tasks = {seed: kind(seed) for seed in SEEDS}
            found[kind.title] = {
                name: np.array(
                    [
                        train(task, *of_format, seed, lambda bar=bar: progress.advance(bar))
                        for seed, task in tasks.items()
                    ]
                )
                for name, of_format in FORMATS.items()
            }
    draw(found, arguments.picture)
    print(table(found))


if __name__ == "__main__":
    main()
