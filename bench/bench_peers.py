"""The workloads of a trainer, beside every peer that is installed, with as many threads as instep may use."""

from __future__ import annotations

import pytest

from instep import get_num_threads
from instep.benchmark.peers import OURS, PEERS, cross_check
from instep.benchmark.suite import CLASSIFIER, MOST_ARRAYS_COMPILED, MOST_ELEMENTS, POLICY, elements

WORKLOADS = {
    "RL policy, 6 arrays": POLICY,
    "MLP, 6 arrays": CLASSIFIER,
    "1000 arrays of 1000": [(1000,)] * 1000,
    "one array of 16 million": [(16_000_000,)],
}


@pytest.mark.parametrize("peer", [*OURS, *PEERS], ids=lambda peer: peer.name)
@pytest.mark.parametrize("workload", WORKLOADS)
def bench_peer(benchmark, time_step, arrays, workload, peer):
    shapes, threads = WORKLOADS[workload], 1 if peer.serial else get_num_threads()
    if peer.missing:
        pytest.skip(f"{' and '.join(peer.missing)} not installed")
    if elements(shapes) > MOST_ELEMENTS.get(peer.name, elements(shapes)):
        pytest.skip("takes too long")
    if peer.compiles and len(shapes) > MOST_ARRAYS_COMPILED:
        pytest.skip("compiling it takes minutes")
    benchmark.group = workload
    if not peer.another_rule:
        cross_check(peer, POLICY, threads)
    if peer.use_threads:
        peer.use_threads(threads)
    time_step(peer.start(*arrays(shapes), threads).step)
