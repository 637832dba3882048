"""The workloads of a trainer, beside every peer that is installed, with as many threads as instep may use."""

from __future__ import annotations

import pytest

from instep import get_num_threads
from instep.benchmark.peers import OURS, cross_check, peers_of
from instep.benchmark.suite import MOST_ARRAYS_COMPILED, POLICY, WORKLOADS
from instep.benchmark.work import dialect, elements, make_work
from instep.dialects import family

SHAPES = WORKLOADS | {"one array of 16 million": [(16_000_000,)]}
EVERYONE = [
    pytest.param(rule, peer, id=f"{rule}-{peer.name}") for rule in family() for peer in (*OURS, *peers_of(rule))
]


@pytest.mark.parametrize(("rule", "peer"), EVERYONE)
@pytest.mark.parametrize("workload", SHAPES)
def bench_peer(benchmark, time_step, workload, rule, peer):
    shapes, threads = SHAPES[workload], 1 if peer.serial else get_num_threads()
    if peer.missing:
        pytest.skip(f"{' and '.join(peer.missing)} not installed")
    if elements(shapes) > peer.most_elements:
        pytest.skip("takes too long")
    if peer.compiles and len(shapes) > MOST_ARRAYS_COMPILED:
        pytest.skip("compiling it takes minutes")
    benchmark.group = f"{rule}: {workload}"
    cross_check(peer, rule, POLICY, threads)
    if peer.use_threads:
        peer.use_threads(threads)
    time_step(peer.start(make_work(rule, shapes).under(dialect(rule, peer.framework)), threads).step)
