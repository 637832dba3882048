"""What surrounds the loop: calls on arrays so small that the loop is nothing."""

from __future__ import annotations

from functools import partial

import pytest

import instep
from instep.benchmark.peers import DROP_IN, OURS, peers_of
from instep.benchmark.walls import walk
from instep.benchmark.work import dialect, make_work
from instep.dialects import family


@pytest.mark.parametrize("count", [1, 6, 100, 1000])
@pytest.mark.parametrize("way", ["the loop alone", "step(grads)", "bound step()", "instep.torch"])
@pytest.mark.parametrize("rule", family())
def bench_small_arrays(benchmark, rule, count, way):
    benchmark.group = f"{rule}: {count:>4} arrays of 10"
    small = make_work(rule, [(10,)] * count)
    if way == DROP_IN:
        found = [peer for peer in peers_of(rule) if peer.name == DROP_IN and not peer.missing]
        if not found:
            pytest.skip("no such class, or torch is not installed")
        found[0].use_threads(1)
        benchmark(found[0].start(small.under(dialect(rule, "torch")), 1).step)
    elif way == "the loop alone":  # with a call from Python around it; `instep bench` repeats it in C
        benchmark(partial(walk(small).seconds, "bare", 1, 1))
    else:
        with instep.num_threads(1):
            benchmark(OURS[way == "bound step()"].start(small, 1).step)


@pytest.mark.parametrize("rule", family())
def bench_function(benchmark, rule):
    benchmark.group = "a call of the function on 10 elements"
    work = make_work(rule, [(10,)])
    benchmark(getattr(instep, rule), *work.of_each[0], lr=0.01)
