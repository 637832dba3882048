"""What the benchmarks share: contenders on arrays, timed in a way that suits steps of nanoseconds and of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from instep.benchmark.suite import make_arrays

SLOW = 0.05  # seconds from which a step is measured one at a time


@pytest.fixture
def time_step(benchmark) -> Callable:
    """Time a function that changes its arguments: calibrated when it is fast, three calls when it is slow."""

    def run(step: Callable[[], object]) -> None:
        begin = time.perf_counter()
        step()
        if time.perf_counter() - begin < SLOW:
            benchmark(step)
        else:
            benchmark.pedantic(step, rounds=3)

    return run


@pytest.fixture
def arrays() -> Callable:
    """Params, grads and square_avgs whose values stay normal, in any dtype."""

    def make(shapes, dtype="float32"):
        return tuple([array.astype(dtype) for array in group] for group in make_arrays(shapes))

    return make
