"""Ranks of PyTorch that know nothing but their environment: an all-reduce over Gloo, a few steps of DDP, and a checkpoint in the
job's own place of the store, put there and read back by the program that every rank has in its PATH."""
import os
import subprocess

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, ranks = dist.get_rank(), dist.get_world_size()
total = torch.tensor([10.0 + rank])
dist.all_reduce(total)
assert float(total) == sum(10.0 + other for other in range(ranks)), total

torch.manual_seed(rank)
model = DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), 0.1)
for _ in range(5):
    optimizer.zero_grad()
    ((model(torch.randn(8, 4)) - 1) ** 2).mean().backward()
    optimizer.step()

place = os.environ["DH_STORE"] + "/model.pt"
file = f"model-{rank}.pt"
if rank == 0:
    torch.save(model.module.state_dict(), file)
    subprocess.run(["datahall", "store", "cp", file, place], check=True)
dist.barrier()
subprocess.run(["datahall", "store", "cp", place, f"read-{file}"], check=True)
# All ranks have the same weights, for their gradients were averaged.
for name, weight in torch.load(f"read-{file}").items():
    assert torch.equal(weight, model.module.state_dict()[name]), name
print(f"rank {rank} of {ranks}: total {float(total)}", flush=True)
