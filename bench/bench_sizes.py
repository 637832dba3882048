"""One array, from a thousand to ten million elements: NumPy and instep."""

from __future__ import annotations

import numpy as np
import pytest

from instep import num_threads
from instep.benchmark.peers import OURS, peers_of
from instep.benchmark.work import make_work
from instep.dialects import family

CONTENDERS = [
    pytest.param(rule, peer, id=f"{rule}-{peer.name}")
    for rule in family()
    for peer in (OURS[0], *peers_of(rule))
    if peer is OURS[0] or (peer.swept and not peer.needs)
]


@pytest.mark.parametrize(("rule", "peer"), CONTENDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1_000, 10_000, 100_000, 1_000_000, 10_000_000])
def bench_size(benchmark, time_step, size, dtype, rule, peer):
    if size > peer.most_elements:
        pytest.skip("takes too long")
    benchmark.group = f"{rule}: {size:>10,} {dtype}".replace(",", " ")
    with num_threads(1):
        time_step(peer.start(make_work(rule, [(size,)], np.dtype(dtype).type), 1).step)
