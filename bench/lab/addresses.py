"""Where the arrays begin, by the low twelve bits of their addresses: whether a step takes longer at some of them.

    python bench/lab/addresses.py [--rules RMSprop ...] [--size 1024] [--rounds 200] [--picture PATH]

A processor that compares these bits alone takes a load that follows a store to the same place of another page for one
that depends on it.  Parameter, gradient and states are laid so many bytes beyond the beginning of a page, one of them
is moved, and bound steps of all places are interleaved.  A number is the shortest time of the rounds.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from matplotlib import pyplot as plt
from rich.console import Console
from rich.progress import track
from rich.table import Table

import instep

PAGE = 4096
PLACES = [0, 16, 32, 64, 128, 256, 512, 1024, 2048, 3072, 3584, 3840, 3968, 4032, 4064, 4080]
STEPS = 10  # that one time is of


def array_at(place: int, size: int) -> np.ndarray:
    """Ones that begin so many bytes beyond the beginning of a page."""
    room = np.zeros(2 * PAGE + 4 * size, np.uint8)
    begin = -room.ctypes.data % PAGE + place
    array = room[begin : begin + 4 * size].view(np.float32)
    array[...] = 1
    return array


def bound(rule: str, size: int, moved: str, place: int) -> instep.optimizers.Optimizer:
    """An optimizer of one array, of which this one is at the place and the others are far from it."""
    cls = getattr(instep, rule)
    param = array_at(0, size)
    names = list(cls(param).state)
    state = {name: array_at(place if name == moved else 1344 + 640 * k, size) for k, name in enumerate(names)}
    optimizer = cls(param, state=state)
    optimizer.bind(array_at(place if moved == "grad" else 2688, size))
    return optimizer


def shortest(optimizers: list[instep.optimizers.Optimizer], rounds: int) -> list[float]:
    """Nanoseconds a step of each, interleaved."""
    best = [float("inf")] * len(optimizers)
    for _ in range(rounds):
        for k, optimizer in enumerate(optimizers):
            optimizer.step()
            begin = time.perf_counter_ns()
            for _ in range(STEPS):
                optimizer.step()
            best[k] = min(best[k], (time.perf_counter_ns() - begin) / STEPS)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rules", nargs="+", default=["RMSprop", "SGD", "Adam", "Lion"], help="classes of instep")
    parser.add_argument("--size", type=int, default=1024, help="elements of an array (1024)")
    parser.add_argument("--rounds", type=int, default=200, help="of which the shortest counts (200)")
    parser.add_argument("--picture", help="where to put a picture of it")
    arguments = parser.parse_args()
    instep.set_num_threads(1)
    console = Console()
    moved = [(rule, name) for rule in arguments.rules for name in ("grad", *getattr(instep, rule)(np.ones(1)).state)]
    table = Table("moved", "shortest", "longest", "at", title=f"ns an element, {arguments.size} elements of float32")
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for rule, name in track(moved, "addresses", console=console, transient=True):
        optimizers = [bound(rule, arguments.size, name, place) for place in PLACES]
        taken = np.array(shortest(optimizers, arguments.rounds)) / arguments.size
        slowest = PLACES[int(taken.argmax())]
        table.add_row(f"{rule}, {name}", f"{taken.min():.3f}", f"{taken.max():.3f}", f"{slowest} bytes")
        axes.plot(range(len(PLACES)), taken / np.median(taken), ".-", label=f"{rule}, {name}")
    console.print(table)
    if arguments.picture:
        axes.set_xticks(range(len(PLACES)), PLACES)
        axes.set(xlabel="bytes beyond the parameter, modulo a page", ylabel="time, against the median of all places")
        axes.legend(fontsize="small", ncols=2)
        figure.savefig(arguments.picture, dpi=150)


if __name__ == "__main__":
    main()
