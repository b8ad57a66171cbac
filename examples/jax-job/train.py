"""A two-process JAX job: reads its data from the hall's store, averages gradients over the processes, writes a checkpoint.

    datahall submit --ranks 2 --follow -- python examples/jax-job/train.py

`datahall submit` sets the coordinator's address, the process count and id, and `AWS_*` for the job's own store key.
"""
import io
import os

import boto3
import jax
import numpy as np

jax.distributed.initialize(
    coordinator_address=os.environ["JAX_COORDINATOR_ADDRESS"],
    num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
    process_id=int(os.environ["JAX_PROCESS_ID"]),
)
import jax.numpy as jnp
from jax.experimental import multihost_utils

rank, ranks = jax.process_index(), jax.process_count()
store = boto3.client("s3")
data = np.load(io.BytesIO(store.get_object(Bucket="datasets", Key="line/points.npz")["Body"].read()))
x, y = data["x"][rank::ranks], data["y"][rank::ranks]


def loss(weights):
    return jnp.mean((x @ weights[:-1] + weights[-1] - y) ** 2)


gradient = jax.jit(jax.grad(loss))
weights = np.zeros(x.shape[1] + 1, np.float32)
for step in range(200):
    everyone = multihost_utils.process_allgather(gradient(weights))
    weights = weights - 0.1 * np.asarray(everyone).reshape(ranks, -1).mean(axis=0)
print(f"rank {rank} of {ranks}: {weights.round(3)}", flush=True)

if rank == 0:
    out = io.BytesIO()
    np.savez(out, weights=weights, ranks=ranks, steps=step + 1)
    store.put_object(Bucket="checkpoints", Key="line/final.npz", Body=out.getvalue())
