"""A network of which half the units die early: whose steps take longer and longer, and whose do not.

A unit that never fires has gradients of 0, so that its average of squares decays by the same factor in every step.
After some 700 steps it is below the smallest normal number, and rounding then keeps it there for ever.  Many processors
take long over such numbers.  A step of instep counts them as 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from threadpoolctl import threadpool_limits

from ..benchmark import machine, peers
from ..benchmark.work import Work
from ..rules.rmsprop import RMSprop
from ..tables import Table
from ..threads import num_threads
from .digits import BATCH, DTYPE, Images, Params, gradients, load, network
from .picture import canvas, plot_epochs, save, scale_by_powers, strokes

HIDDEN = 1024
DEATH = 2  # the epoch after which half the units never fire again
LAST = 5  # epochs that are called the last
UNDISTURBED = 0.1  # of the steps of an epoch, on a machine that has other things to do
OPTIONS = RMSprop(np.zeros(1, DTYPE))._options
TORCH = partial(peers.start_torch, foreach=False, alpha=OPTIONS.values()["rho"], eps=OPTIONS.values()["eps"])
CONTENDERS = {
    "instep": peers.Peer("instep", peers.start_instep),
    "NumPy": peers.Peer("NumPy", peers.start_tutorial),
    "numba": peers.Peer("numba", peers.start_tuned_numba, ("numba",), peers.numba_threads),
    "torch": peers.Peer("torch", TORCH, ("torch",), peers.torch_threads),
}

Array = NDArray[Any]


class Run(NamedTuple):
    """After each epoch: microseconds that a quick step took each contender, what part of the averages is too small."""

    times: dict[str, Array]
    small: Array


def run(epochs: int, output: Path) -> None:
    """Train, time every step, print and draw how long they took."""
    console = Console(highlight=False)
    rng = np.random.default_rng(0)
    images, _ = load(rng)
    params = network(rng, HIDDEN)
    found = {name: peer for name, peer in CONTENDERS.items() if not peer.missing}
    console.print(f"loading {', '.join(found)}; one thread each")
    # A bar that goes again leaves an empty line where there is no terminal to take it from.
    bar = Progress(console=console, transient=True, disable=not console.is_interactive)
    with bar as progress, threadpool_limits(1, user_api="blas"), num_threads(1):
        task = progress.add_task("train", total=epochs)
        raced = race(found, params, images, epochs, rng, lambda: progress.advance(task))

    table = Table(
        f"RMSprop, {sum(param.size for param in params.values())} weights", "", "first", "last", "last / first"
    )
    for name, times in raced.times.items():
        first, last = float(np.median(times[:DEATH])), float(np.median(times[-LAST:]))
        table.add(name, f"{first:.0f} us", f"{last:.0f} us", f"{last / first:.2f}x")
    table.show(console)
    console.print(
        f"\nlast: {raced.small[-1]:.0%} of the averages are too small for a normal number\n"
        f"{machine.processor()}; another processor has other factors"
    )
    with canvas(10, 4.2) as figure:
        draw(figure, raced)
        save(figure, output)
    console.print(f"picture: {output}", markup=False, soft_wrap=True)


def race(
    found: dict[str, peers.Peer],
    params: Params,
    images: Images,
    epochs: int,
    rng: np.random.Generator,
    on_epoch: Callable[[], Any],
) -> Run:
    """Step copies of the parameters with the same gradients, those of the first contender's network."""
    works = {name: work_on(params) for name in found}
    steps = {}
    for name, peer in found.items():
        if peer.use_threads:
            peer.use_threads(1)
        steps[name] = peer.start(works[name], 1).step
    learned = works[next(iter(found))]
    ours = dict(zip(params, learned.params, strict=True))
    averages = learned.states["square_avg"]
    were_large = [np.zeros(average.shape, bool) for average in averages]

    times = {name: np.empty(epochs) for name in found}
    small = np.empty(epochs)
    for epoch in range(epochs):
        if epoch == DEATH:
            kill(ours)
        taken: dict[str, list[int]] = {name: [] for name in found}
        order = rng.permutation(len(images.digits))
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            grads = gradients(ours, images.pixels[batch], images.digits[batch])
            for name, step in steps.items():
                for into, grad in zip(works[name].grads, grads.values(), strict=True):
                    into[...] = grad
                begin = perf_counter_ns()
                step()
                taken[name].append(perf_counter_ns() - begin)
        for name in found:
            times[name][epoch] = np.quantile(taken[name], UNDISTURBED) / 1000
        for were, average in zip(were_large, averages, strict=True):
            were |= average > 0
        gone = sum(int((were & (average == 0)).sum()) for were, average in zip(were_large, averages, strict=True))
        small[epoch] = gone / sum(average.size for average in averages)
        on_epoch()
    return Run(times, small)


def work_on(params: Params) -> Work:
    """Copies of the parameters, and gradients and averages of 0."""
    copies = [param.copy() for param in params.values()]
    grads, averages = ([np.zeros_like(param) for param in copies] for _ in range(2))
    return Work("rmsprop", OPTIONS, copies, grads, {"square_avg": averages})


def kill(params: Params) -> None:
    """Let half the units never fire again, as a step that is much too large does."""
    params["b1"][: HIDDEN // 2] = -1e3


def draw(figure: Figure, raced: Run) -> None:
    """The time of a step, and how many times as long it takes as in the beginning."""
    absolute, relative = figure.subplots(1, 2)
    epochs = len(raced.small)
    decayed = 1 + np.flatnonzero(raced.small > 0.01)
    for (name, times), stroke in zip(raced.times.items(), strokes(), strict=False):
        stroke["linewidth"] = 2.6 if name == "instep" else 1.6
        plot_epochs(absolute, times, label=name, **stroke)
        plot_epochs(relative, times / np.median(times[raced.small <= 0.01]), label=name, **stroke)
    absolute.set_title("Microseconds a step")
    scale_by_powers(absolute)
    relative.set(title="Times as long as in the first epochs", ylim=(0, 1.05 * relative.get_ylim()[1]))
    for axes in (absolute, relative):
        if epochs > DEATH:
            axes.axvline(DEATH, color="0.5", linewidth=1, linestyle=":")
        if decayed.size:
            axes.axvspan(decayed[0], epochs, color="0.94", zorder=0)
    relative.legend()
    figure.suptitle(f"{what_happens(epochs, raced.small[-1], bool(decayed.size))}\n{machine.processor()}, one thread")


def what_happens(epochs: int, small: float, decayed: bool) -> str:
    """In so many epochs, after which so large a part of the averages is too small."""
    if epochs <= DEATH:
        return f"{epochs} epoch{'s' * (epochs > 1)}: half the units die after {DEATH}, and then averages decay"
    if not decayed:
        return "Half the units die at the dotted line. Averages decay, and none is subnormal yet."
    return (
        f"Half the units die at the dotted line. Then averages decay; where it is grey, up to {small:.0%} of them are "
        "subnormal."
    )
