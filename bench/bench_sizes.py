"""One array, from a thousand to ten million elements: Python, NumPy, NumPy with scratch, instep."""

from __future__ import annotations

import pytest

from instep import num_threads
from instep.benchmark.peers import OURS, PEERS

CONTENDERS = {peer.name: peer for peer in (*PEERS[:3], OURS[0])}


@pytest.mark.parametrize("name", CONTENDERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1_000, 10_000, 100_000, 1_000_000, 10_000_000])
def bench_size(benchmark, time_step, arrays, size, dtype, name):
    benchmark.group = f"{size:>10,} {dtype}".replace(",", " ")
    with num_threads(1):
        time_step(CONTENDERS[name].start(*arrays([(size,)], dtype), 1).step)
