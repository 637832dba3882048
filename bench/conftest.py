"""What the benchmarks share: contenders on arrays, timed in a way that suits steps of nanoseconds and of seconds."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

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
