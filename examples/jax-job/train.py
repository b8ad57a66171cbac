"""A JAX job of several processes: reads its data from the hall's store, averages gradients, writes a checkpoint there.

    datahall submit --ranks 2 --follow --env DH_DATA="ro:s3://datasets/line s3://checkpoints/line" \
        -- "$(command -v python)" "$PWD/examples/jax-job/train.py"

Nothing here is Datahall's own: `datahall submit` sets the variables by which JAX's processes find each other, and the
`AWS_*` variables by which boto3 finds the store, with a key that opens what `DH_DATA` names and dies with the job.
"""
import io

import boto3
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.distributed.initialize()
rank, ranks = jax.process_index(), jax.process_count()
store = boto3.client("s3")

# Each process takes its share of the points; together they are one array that lies on all devices.
data = np.load(io.BytesIO(store.get_object(Bucket="datasets", Key="line/points.npz")["Body"].read()))
rows = len(data["x"]) // jax.device_count() * jax.device_count()
mine = slice(rows * rank // ranks, rows * (rank + 1) // ranks)
split = NamedSharding(Mesh(jax.devices(), ("data",)), PartitionSpec("data"))
x, y = (jax.make_array_from_process_local_data(split, data[name][mine]) for name in ("x", "y"))


def loss(weights, x, y):
    return jnp.mean((x @ weights[:-1] + weights[-1] - y) ** 2)


@jax.jit
def step(weights, x, y):
    # The mean runs over the points of all processes, so its gradient is an all-reduce between them.
    value, gradient = jax.value_and_grad(loss)(weights, x, y)
    return weights - 0.1 * gradient, value


weights = jnp.zeros(x.shape[1] + 1)
for number in range(1, 201):
    weights, value = step(weights, x, y)
    if number % 50 == 0:
        print(f"rank {rank} of {ranks}: step {number}, loss {float(value):.6f}", flush=True)

if rank == 0:
    out = io.BytesIO()
    np.savez(out, weights=np.asarray(weights), ranks=ranks, steps=number, points=len(x))
    store.put_object(Bucket="checkpoints", Key="line/final.npz", Body=out.getvalue())
    print("checkpoint in s3://checkpoints/line/final.npz", flush=True)
