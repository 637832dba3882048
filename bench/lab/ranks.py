"""When do several ranks pay?  The cost model of docs/how-to/mpi.md, beside what is measured.

    mpiexec -n 2 python -m mpi4py bench/lab/ranks.py

A step sends (R - 1) / R of the gradients and as much of the parameters from each of R ranks.  So it takes so many
bytes over the bandwidth that a rank has while it sends and receives at once, which is measured first.  Then a dense
network is trained on batches of several sizes, by all ranks and by one alone, and the size from which on it pays stands
beside the one that bandwidth and arithmetic predict.  Give each rank the processors that it would have on its own, with
OPENBLAS_NUM_THREADS and INSTEP_NUM_THREADS.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from mpi4py import MPI

import instep
from instep.mpi import Sharded

COMM = MPI.COMM_WORLD
SIZES = [10_000, 1_000_000, 11_000_000]
WIDTH, LAYERS = 1024, 4
BATCHES = [1 << k for k in range(6, 13)]


def milliseconds(call: Callable[[], object], rounds: int = 7, comm: MPI.Intracomm = COMM) -> float:
    """The median, of the rank that takes longest."""
    taken = []
    for _ in range(rounds + 1):
        comm.Barrier()
        start = time.perf_counter()
        call()
        taken.append(comm.allreduce(time.perf_counter() - start, MPI.MAX) * 1e3)
    return statistics.median(taken[1:])


def bandwidth(size: int = 1 << 24) -> float:
    """Bytes a millisecond that a rank sends to its neighbour while it receives as many."""
    there, back = np.ones(size, np.uint8), np.ones(size, np.uint8)
    after, before = (COMM.rank + 1) % COMM.size, (COMM.rank - 1) % COMM.size
    return size / milliseconds(lambda: COMM.Sendrecv(there, after, 0, back, before, 0))


class Network:
    """Dense layers of one width with ReLU between them, and half the mean squared distance to a target."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        weights = random.standard_normal((LAYERS, WIDTH, WIDTH), np.float32) * np.float32((2 / WIDTH) ** 0.5)
        self.params = {f"w{k}": layer for k, layer in enumerate(weights)}
        self.inputs = random.standard_normal((BATCHES[-1], WIDTH), np.float32)

    def backward(self, params: dict[str, Any], grads: dict[str, Any], inputs: Any) -> dict[str, Any]:
        """Write the gradients."""
        seen = [inputs]
        for w in params.values():
            seen.append(np.maximum(seen[-1] @ w, 0))
        upstream = (seen[-1] - 1) / np.float32(BATCHES[-1])
        for k in reversed(range(LAYERS)):
            upstream *= seen[k + 1] > 0
            np.matmul(seen[k].T, upstream, out=grads[f"w{k}"])
            if k:
                upstream = upstream @ params[f"w{k}"].T
        return grads


def train(network: Network, comm: MPI.Intracomm, batch: int) -> float:
    """Milliseconds of a whole step, gradients included, of a batch that these ranks share."""
    opt = Sharded(instep.Adam, network.params, comm=comm)
    share = batch // comm.size
    mine = network.inputs[comm.rank * share : (comm.rank + 1) * share]

    def gradients() -> Iterator[dict[str, Any]]:
        yield network.backward(opt.params, opt.grads, mine)

    return milliseconds(lambda: opt.step(gradients()), comm=comm)


def main() -> None:
    """Print both tables on rank 0."""
    say = print if COMM.rank == 0 else lambda *_: None
    speed = bandwidth()
    say(f"{COMM.size} ranks; {speed / 1e6:.2f} GB/s each way at once\n\nparameters  predicted  measured   ms")
    for size in SIZES:
        opt = Sharded(instep.Adam, [np.ones(size, np.float32)])
        opt.grads[0][...] = np.random.default_rng(COMM.rank).standard_normal(size, np.float32)
        measured = milliseconds(lambda: opt.step([opt.grads]))  # noqa: B023
        alone = milliseconds(lambda: opt.shard.step(opt._flat.nest.build(opt._grad_pieces)))  # noqa: B023
        predicted = 2 * (COMM.size - 1) / COMM.size * 4 * size / speed + alone
        say(f"{size:10}  {predicted:9.2f}  {measured:8.2f}   of which the rank's own step {alone:.2f}")

    network = Network()
    size = LAYERS * WIDTH * WIDTH
    rows = []
    for batch in BATCHES:
        together = train(network, COMM, batch)
        alone = train(network, MPI.COMM_SELF, batch)
        rows.append((batch, alone, together))
    batch, alone, _ = rows[-1]
    flops = 6 * size * batch / alone
    say(f"\n{size} parameters, {flops / 1e6:.1f} GFLOP/s: pays from a batch of {4 / 3 * flops / speed:.0f} on")
    say("batch   one rank  all ranks   ms")
    for batch, alone, together in rows:
        say(f"{batch:5}   {alone:8.1f}  {together:9.1f}   x {alone / together:.2f}")


if __name__ == "__main__":
    main()
