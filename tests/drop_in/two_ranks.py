"""What one of two processes does: every program by torch's class and by ours, the results into a file.

python two_ranks.py RANK FOLDER
"""

import datetime
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

import instep.torch

# What a program calls, and the torch that has it.  fully_shard of 2.4 and 2.6 asks for a GPU.
SINCE = {"sharded": "2.9", "distribute_tensor": "2.5"}
PROGRAMS = {}
STEPS = 6


def program(function):
    if all(torch.__version__ >= SINCE.get(name, "2") for name in function.__code__.co_names):
        PROGRAMS[function.__name__] = function
    return function


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 3)).double()


def train(model, optimizer, rank, steps=range(STEPS)):
    for k in steps:
        batch = torch.randn(6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(100 * k + rank))
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()


def result(model, optimizer):
    """The parameters of this rank, and what torch had to step."""
    params = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
    own = getattr(optimizer, "optim", optimizer)
    fallbacks = own.fallbacks() if hasattr(own, "fallbacks") else []
    return [p.detach().clone() for p in params], [fallback.reason for fallback in fallbacks]


def sharded():
    from torch.distributed.fsdp import fully_shard

    made = model()
    for layer in made:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    return fully_shard(made)


@program
def data_parallel(cls, rank, folder):
    wrapped = DistributedDataParallel(model())
    optimizer = cls(wrapped.parameters(), lr=1e-2)
    train(wrapped, optimizer, rank)
    return result(wrapped, optimizer)


@program
def data_parallel_with_gradients_in_buckets(cls, rank, folder):
    wrapped = DistributedDataParallel(model(), gradient_as_bucket_view=True)
    optimizer = cls(wrapped.parameters(), lr=1e-2, momentum=0.9)
    train(wrapped, optimizer, rank)
    return result(wrapped, optimizer)


@program
def sharded_state(cls, rank, folder):
    wrapped = DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(wrapped.parameters(), optimizer_class=cls, lr=1e-2, momentum=0.9)
    train(wrapped, optimizer, rank)
    assert 0 < len(optimizer.optim.state) < 4  # of the parameters of this rank
    return result(wrapped, optimizer)


@program
def sharded_state_with_parameters_in_buckets(cls, rank, folder):
    wrapped = DistributedDataParallel(model(), gradient_as_bucket_view=True)
    optimizer = ZeroRedundancyOptimizer(
        wrapped.parameters(), optimizer_class=cls, parameters_as_bucket_view=True, lr=1e-2
    )
    train(wrapped, optimizer, rank)
    return result(wrapped, optimizer)


@program
def sharded_state_saved_and_loaded(cls, rank, folder):
    """Saved by this class, loaded into torch's."""
    wrapped = DistributedDataParallel(model())
    optimizer = ZeroRedundancyOptimizer(wrapped.parameters(), optimizer_class=cls, lr=1e-2)
    train(wrapped, optimizer, rank, range(3))
    optimizer.consolidate_state_dict(to=0)
    state = [optimizer.state_dict() if rank == 0 else None]
    dist.broadcast_object_list(state)
    other = ZeroRedundancyOptimizer(wrapped.parameters(), optimizer_class=torch.optim.RMSprop, lr=1.0)
    other.load_state_dict(state[0])
    train(wrapped, other, rank, range(3, STEPS))
    return result(wrapped, other)


@program
def sharded_state_of_an_overlapping_step(cls, rank, folder):
    """torch knows how to for its own classes alone, and says so."""
    wrapped = DistributedDataParallel(model())
    try:
        ZeroRedundancyOptimizer(wrapped.parameters(), optimizer_class=cls, overlap_with_ddp=True, lr=1e-2)
    except ValueError as error:
        return [], [str(error)]
    return [], []


@program
def flat_shards(cls, rank, folder):
    wrapped = FullyShardedDataParallel(model(), use_orig_params=True, device_id=torch.device("cpu"))
    optimizer = cls(wrapped.parameters(), lr=1e-2)
    train(wrapped, optimizer, rank)
    return result(wrapped, optimizer)


@program
def shards_of_each_parameter(cls, rank, folder):
    """Of seven columns and three rows: uneven ones among them."""
    wrapped = sharded()
    optimizer = cls(wrapped.parameters(), lr=1e-2, momentum=0.9)
    train(wrapped, optimizer, rank)
    return result(wrapped, optimizer)


@program
def shards_in_a_checkpoint(cls, rank, folder):
    """Written by this class, read into new shards, and gone on with."""
    wrapped = sharded()
    optimizer = cls(wrapped.parameters(), lr=1e-2)
    train(wrapped, optimizer, rank, range(3))
    weights, state = get_state_dict(wrapped, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=folder / f"checkpoint-{cls.__module__}")

    wrapped = sharded()
    optimizer = cls(wrapped.parameters(), lr=1.0)
    weights, state = get_state_dict(wrapped, optimizer)
    dcp.load({"model": weights, "optimizer": state}, checkpoint_id=folder / f"checkpoint-{cls.__module__}")
    set_state_dict(wrapped, optimizer, model_state_dict=weights, optim_state_dict=state)
    train(wrapped, optimizer, rank, range(3, STEPS))
    return result(wrapped, optimizer)


@program
def a_gradient_distributed_otherwise(cls, rank, folder):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (2,))
    weight = nn.Parameter(distribute_tensor(torch.arange(8.0, dtype=torch.float64), mesh, [Shard(0)]))
    optimizer = cls([weight], lr=1e-2)
    weight.grad = distribute_tensor(torch.ones(8, dtype=torch.float64), mesh, [Replicate()])
    optimizer.step()
    return result(nn.ParameterList([weight]), optimizer)


def main(rank, folder):
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    limit = datetime.timedelta(seconds=120)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2, timeout=limit)
    found = {
        name: [run(cls, rank, folder) for cls in (instep.torch.RMSprop, torch.optim.RMSprop)]
        for name, run in PROGRAMS.items()
    }
    torch.save(found, folder / f"rank-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
