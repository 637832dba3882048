"""Steps as training takes them: with something between two of them, or beside others who want the cores.

A step that finds its threads asleep has to wake them or to go alone, one that shares the cores has to wait for them.
What comes between the steps is not timed; what it leaves behind is what the row is about.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from .._core import get_num_threads
from .measure import nothing

TURNS = 4  # times as long as elsewhere: processes that share a core have turns of some milliseconds each
FACTOR = 256  # rows and columns of the matrices that are multiplied
OPERAND = 100_000  # elements of the torch tensor: enough for its threads


@dataclass(frozen=True)
class Condition:
    """What surrounds the steps: within `hold()`, what it gives is called before each of them.

    `seconds` is what a call takes about; `limit` is how many times as long as one thread all of them may take; a sample
    takes `length` times as long as elsewhere.
    """

    title: str
    seconds: float
    limit: float
    hold: Callable[[], AbstractContextManager[Callable[[], Any]]]
    length: int = 1


def compute(seconds: float) -> None:
    """Keep one core busy: a processor that sleeps would have to wake up, too."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def computing(seconds: float) -> AbstractContextManager[Callable[[], Any]]:
    """One core works; the threads that stepped have nothing to do."""
    return nullcontext(partial(compute, seconds))


@contextmanager
def busy_processes() -> Iterator[Callable[[], None]]:
    """As many as there are threads."""
    program = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    processes = [subprocess.Popen(program, stdout=subprocess.PIPE) for _ in range(get_num_threads())]
    try:
        for process in processes:
            assert process.stdout is not None
            process.stdout.readline()
        yield nothing
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def after_product() -> AbstractContextManager[Callable[[], Any]]:
    """NumPy's BLAS has threads of its own, which may still look for work."""
    a, b = (np.full((FACTOR, FACTOR), x, np.float32) for x in (1, 2))
    return nullcontext(partial(np.matmul, a, b, np.empty_like(a)))


def after_region() -> AbstractContextManager[Callable[[], Any]]:
    """Threads of OpenMP, which look for work longer than the step takes."""
    torch: Any = import_module("torch")

    tensor, threads = torch.ones(OPERAND), get_num_threads()

    def region() -> None:
        torch.set_num_threads(threads)
        torch.add(tensor, 1, out=tensor)

    return nullcontext(region)


def conditions() -> list[Condition]:
    """Those that can be had here."""
    found = [Condition("back to back", 0, 1.05, lambda: nullcontext(nothing))]
    for gap in (0.2e-3, 1e-3, 10e-3):
        found.append(Condition(f"{gap * 1e3:g} ms apart", gap, 1.05, partial(computing, gap)))
    found.append(Condition("after a matrix product of NumPy", 1e-3, 1.05, after_product))
    if find_spec("torch"):
        found.append(Condition("after an operation of torch", 1e-4, 1.1, after_region))
    found.append(Condition(f"beside {get_num_threads()} busy processes", 0, 1.1, busy_processes, TURNS))
    return found


def steps_after(between: Callable[[], Any], prepare: Callable[[], None], step: Callable[[], Any], n: int) -> float:
    """The seconds of n steps, without what comes before each of them."""
    seconds = 0.0
    for _ in range(n):
        between()
        prepare()  # for the number of threads may be that of what came between
        begin = time.perf_counter()
        step()
        seconds += time.perf_counter() - begin
    return seconds
