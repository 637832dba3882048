"""What surrounds the loop: calls on arrays so small that the loop is nothing."""

from __future__ import annotations

from functools import partial

import pytest

import instep
from instep.benchmark.peers import OURS
from instep.benchmark.suite import walk


@pytest.mark.parametrize("count", [1, 6, 100, 1000])
@pytest.mark.parametrize("way", ["the loop alone", "step(grads)", "bound step()"])
def bench_small_arrays(benchmark, arrays, count, way):
    benchmark.group = f"{count:>4} arrays of 10"
    small = arrays([(10,)] * count)
    if way == "the loop alone":  # with a call from Python around it; `instep bench` repeats it in C
        benchmark(partial(walk(*small).seconds, "bare", 1, 1))
    else:
        with instep.num_threads(1):
            benchmark(OURS[way == "bound step()"].start(*small, 1).step)


def bench_function(benchmark, arrays):
    benchmark.group = "a call of instep.rmsprop on 10 elements"
    (param,), (grad,), (square_avg,) = arrays([(10,)])
    benchmark(instep.rmsprop, param, grad, square_avg, lr=0.01)
