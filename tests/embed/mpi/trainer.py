"""Fit a small network on several ranks: ``mpiexec -n 4 python -m mpi4py trainer.py FOLDER``."""

import sys
from pathlib import Path

import numpy as np

import instep
from instep import schedules
from instep.mpi import Sharded

folder = Path(sys.argv[1])
random = np.random.default_rng(0)  # the same on every rank
inputs = random.standard_normal((4096, 8))
targets = np.sin(inputs.sum(axis=1, keepdims=True))


def backward(params, grads, x, y):
    """Write the gradients of the mean squared error over a batch of 256, of which these rows are a part."""
    hidden = np.tanh(x @ params["w1"] + params["b1"])
    upstream = 2 * (hidden @ params["w2"] - y) / 256
    grads["w2"][...] = hidden.T @ upstream
    upstream = upstream @ params["w2"].T * (1 - hidden**2)
    grads["w1"][...] = x.T @ upstream
    grads["b1"][...] = upstream.sum(axis=0)


start = {"w1": random.standard_normal((8, 64)), "b1": np.zeros(64), "w2": random.standard_normal((64, 1)) / 8}
opt = Sharded(instep.Adam, start, micro_batches=4, lr=0.01)  # on 1, 2 or 4 ranks
schedule = schedules.cosine(0.01, 400)


def gradients(rows):
    """One micro-batch of this rank after the other."""
    for k in opt.micro_batches:
        mine = rows[64 * k : 64 * (k + 1)]
        backward(opt.params, opt.grads, inputs[mine], targets[mine])
        yield opt.grads


while opt.step_count < 400:
    opt.shard.lr = schedule(opt.step_count)
    opt.step(gradients(random.permutation(4096)[:256]))

opt.save(folder / "state")
if opt.comm.rank == 0:
    np.savez(folder / "params.npz", **opt.params)
    loss = np.mean((np.tanh(inputs @ opt.params["w1"] + opt.params["b1"]) @ opt.params["w2"] - targets) ** 2)
    print(f"loss {float(loss)!r} after {opt.step_count} steps")
