"""A two-layer network that learns to read: NumPy makes the gradients, an optimizer takes the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from .. import reference
from ..optimizers import Optimizer
from ..schedules import polynomial
from .picture import canvas, plot_epochs, save, scale_by_powers

DTYPE = np.float32
HIDDEN = 512
BATCH = 32
TIMED_STEPS = 1000
ROWS, COLUMNS, MISTAKES = 4, 6, 6

Array = NDArray[Any]
Params = dict[str, Array]


class Images(NamedTuple):
    """Images of 8 by 8 pixels, a row each, and the digit that each shows."""

    pixels: Array
    digits: Array


class Epoch(NamedTuple):
    """Mean loss and accuracy, after an epoch."""

    train_loss: float
    train_accuracy: float
    test_loss: float
    test_accuracy: float


def run(make: Callable[[Any], Optimizer], epochs: int, seed: int, output: Path) -> None:
    """Train, print the accuracy and the time of a step, draw the picture."""
    rng = np.random.default_rng(seed)
    train, test = load(rng)
    params = network(rng)
    console = Console(highlight=False)
    console.print(
        f"64-{HIDDEN}-10 network, {sum(param.size for param in params.values())} weights; "
        f"{len(train.digits)} images to learn from, {len(test.digits)} to be tested on"
    )

    history = []
    columns = "epoch", MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}")
    # Products this small gain nothing from a second thread of the BLAS, and wait for it where the processors are busy.
    blas, overflow = threadpool_limits(1, user_api="blas"), np.errstate(over="ignore", invalid="ignore")
    with blas, overflow, Progress(*columns, console=console) as progress:
        task = progress.add_task("train", total=epochs, loss="")
        for epoch in learn(make, params, train, test, epochs, rng):
            if not np.isfinite(epoch.train_loss):
                raise ArithmeticError("the loss overflows with these options: no picture; --lr may be too large")
            history.append(epoch)
            progress.update(task, advance=1, loss=f"loss {epoch.train_loss:.4f}")

    accuracy = history[-1].test_accuracy
    grads = gradients(params, train.pixels[:BATCH], train.digits[:BATCH])
    opt, ours, numpys, same = time_steps(make, params, grads)
    table = Table.grid(padding=(0, 2))
    table.add_row(
        "test accuracy",
        f"[bold]{accuracy:.4f}[/]",
        f"{round(accuracy * len(test.digits))} of {len(test.digits)} images",
    )
    table.add_row("a step of instep", f"[bold]{ours:.1f} us[/]", f"{type(opt).__name__}, median of {TIMED_STEPS}")
    table.add_row(
        "a step of NumPy", f"{numpys:.1f} us", f"instep.reference.{opt.rule}: {numpys / ours:.1f} times as long"
    )
    table.add_row("after all of them", "the same bits" if same else "[red]other bits[/]")
    console.print(table)
    with canvas(10, 4.4) as figure:
        draw(figure, history, params, test)
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def load(rng: np.random.Generator) -> tuple[Images, Images]:
    """The scanned digits, four fifths to learn from and one fifth to be tested on."""
    pixels, digits = load_digits(return_X_y=True)
    pixels = (pixels / 16).astype(DTYPE)
    train_pixels, test_pixels, train_digits, test_digits = train_test_split(
        pixels, digits, test_size=0.2, stratify=digits, random_state=int(rng.integers(2**32))
    )
    return Images(train_pixels, train_digits), Images(test_pixels, test_digits)


def network(rng: np.random.Generator, hidden: int = HIDDEN) -> Params:
    """Weights before training (He et al., arXiv:1502.01852)."""

    def normal(inputs: int, outputs: int) -> Array:
        return rng.normal(0, np.sqrt(2 / inputs), (inputs, outputs)).astype(DTYPE)

    return {
        "w1": normal(64, hidden),
        "b1": np.zeros(hidden, DTYPE),
        "w2": normal(hidden, 10),
        "b2": np.zeros(10, DTYPE),
    }


def forward(params: Params, pixels: Array) -> tuple[Array, Array]:
    """What the hidden layer says, and the logarithm of each digit's probability."""
    hidden = np.maximum(pixels @ params["w1"] + params["b1"], 0)
    scores = hidden @ params["w2"] + params["b2"]
    scores -= scores.max(axis=1, keepdims=True)
    return hidden, scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def gradients(params: Params, pixels: Array, digits: Array) -> Params:
    """The gradient of the mean cross-entropy."""
    hidden, log_probability = forward(params, pixels)
    d_scores = np.exp(log_probability)
    d_scores[np.arange(len(digits)), digits] -= 1
    d_scores /= len(digits)
    d_hidden = d_scores @ params["w2"].T * (hidden > 0)
    return {
        "w1": pixels.T @ d_hidden,
        "b1": d_hidden.sum(axis=0),
        "w2": hidden.T @ d_scores,
        "b2": d_scores.sum(axis=0),
    }


def measure(params: Params, images: Images) -> tuple[float, float]:
    """Mean cross-entropy and accuracy."""
    _, log_probability = forward(params, images.pixels)
    loss = -log_probability[np.arange(len(images.digits)), images.digits].mean()
    return float(loss), float((log_probability.argmax(axis=1) == images.digits).mean())


def learn(
    make: Callable[[Any], Optimizer], params: Params, train: Images, test: Images, epochs: int, rng: np.random.Generator
) -> Iterator[Epoch]:
    """Train in place, an epoch at a time, with an lr that falls linearly to 0."""
    opt = make(params)
    size = len(train.digits)
    lr = polynomial(opt.lr, 0.0, epochs * len(range(0, size, BATCH)))
    for _ in range(epochs):
        order = rng.permutation(size)
        for start in range(0, size, BATCH):
            batch = order[start : start + BATCH]
            opt.lr = lr(opt.step_count)
            opt.step(gradients(params, train.pixels[batch], train.digits[batch]))
        yield Epoch(*measure(params, train), *measure(params, test))


def time_steps(make: Callable[[Any], Optimizer], params: Params, grads: Params) -> tuple[Optimizer, float, float, bool]:
    """Microseconds of a step by instep and by its NumPy reference, and whether both left the same bits."""
    ours, numpys = ({name: param.copy() for name, param in params.items()} for _ in range(2))
    opt, fresh = make(ours), make(numpys)
    twin = getattr(reference, opt.rule)
    states = {name: {state: arrays[name] for state, arrays in fresh.state.items()} for name in params}
    times = np.empty((TIMED_STEPS, 2))
    for step in range(TIMED_STEPS):
        start = perf_counter_ns()
        opt.step(grads)
        between = perf_counter_ns()
        for name, param in numpys.items():
            twin(param, grads[name], **states[name], step_count=step + 1, **opt._options.formula())
        times[step] = between - start, perf_counter_ns() - between
    our_time, numpy_time = np.median(times, axis=0) / 1000
    return opt, our_time, numpy_time, all(ours[name].tobytes() == numpys[name].tobytes() for name in params)


def draw(figure: Figure, history: list[Epoch], params: Params, test: Images) -> None:
    """Loss and accuracy over the epochs on the left, test images with what the network reads on the right."""
    read = forward(params, test.pixels)[1].argmax(axis=1)
    wrong = np.flatnonzero(read != test.digits)
    right = np.flatnonzero(read == test.digits)
    shown = np.concatenate([wrong[:MISTAKES], right, wrong[MISTAKES:]])[: ROWS * COLUMNS]

    ((curves, images),) = figure.subfigures(1, 2, squeeze=False, width_ratios=(1, 1.2), wspace=0.04)

    loss, accuracy = curves.subplots(2, 1, sharex=True)
    train_loss, train_accuracy, test_loss, test_accuracy = zip(*history, strict=True)
    for axes, on_train, on_test in ((loss, train_loss, test_loss), (accuracy, train_accuracy, test_accuracy)):
        plot_epochs(axes, on_train, label="train")
        plot_epochs(axes, on_test, label="test")
    loss.set(title="Loss", xlabel="")
    scale_by_powers(loss)
    loss.legend()
    accuracy.set(title=f"Accuracy: {test_accuracy[-1]:.4f} in the test")

    for axes, k in zip(images.subplots(ROWS, COLUMNS).flat, shown, strict=True):
        axes.set_axis_off()
        axes.imshow(test.pixels[k].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        if read[k] == test.digits[k]:
            axes.set_title(f"{read[k]}", loc="center", color="C0")
        else:
            axes.set_title(f"read {read[k]}, is {test.digits[k]}", loc="center", color="C1", fontsize=8)
    images.suptitle("What it reads in some of them, mistakes in orange")
    figure.suptitle(
        f"A network learns to read handwritten digits: it misreads {len(wrong)} of {len(read)} that are new to it"
    )
