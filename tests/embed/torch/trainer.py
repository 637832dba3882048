"""Train one model on several processes: torchrun --standalone --nproc-per-node 2 trainer.py."""

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

from instep.torch import Adam  # was: from torch.optim import Adam

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.manual_seed(0)
inputs = torch.randn(512, 20)
targets = inputs.sum(1, keepdim=True).sin()

model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.Tanh(), torch.nn.Linear(64, 1))
model = DistributedDataParallel(model)
optimizer = ZeroRedundancyOptimizer(model.parameters(), optimizer_class=Adam, lr=1e-2)

for _ in range(100):
    optimizer.zero_grad()
    loss = (model(inputs[rank::ranks]) - targets[rank::ranks]).square().mean()
    loss.backward()  # averages the gradients over the ranks
    optimizer.step()  # each rank steps its part of the parameters and sends it to the others

with torch.no_grad():
    loss = (model(inputs) - targets).square().mean()
if rank == 0:
    print(f"loss {loss:.6f}")
dist.destroy_process_group()
