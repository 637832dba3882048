"""What surrounds the loop: calls on arrays so small that the loop is nothing."""

from __future__ import annotations

from functools import partial

import pytest

import instep
from instep.benchmark.peers import OURS
from instep.benchmark.walls import walk
from instep.benchmark.work import family, make_work


@pytest.mark.parametrize("count", [1, 6, 100, 1000])
@pytest.mark.parametrize("way", ["the loop alone", "step(grads)", "bound step()"])
@pytest.mark.parametrize("rule", family())
def bench_small_arrays(benchmark, rule, count, way):
    benchmark.group = f"{rule}: {count:>4} arrays of 10"
    small = make_work(rule, [(10,)] * count)
    if way == "the loop alone":  # with a call from Python around it; `instep bench` repeats it in C
        benchmark(partial(walk(small).seconds, "bare", 1, 1))
    else:
        with instep.num_threads(1):
            benchmark(OURS[way == "bound step()"].start(small, 1).step)


@pytest.mark.parametrize("rule", family())
def bench_function(benchmark, rule):
    benchmark.group = "a call of the function on 10 elements"
    work = make_work(rule, [(10,)])
    benchmark(getattr(instep, rule), *work.of_each[0], lr=0.01)
