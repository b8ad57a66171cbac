"""Two processes of JAX that know nothing but their environment: an all-reduce, and a checkpoint in the job's own place of the store."""
import io
import os

import boto3
import botocore.exceptions
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

jax.distributed.initialize()
rank, ranks = jax.process_index(), jax.process_count()
assert ranks == int(os.environ["DH_RANKS"]) and rank == int(os.environ["DH_RANK"])

# One number of each process; their sum is there on all.
split = NamedSharding(Mesh(jax.devices(), ("all",)), PartitionSpec("all"))
mine = jax.make_array_from_process_local_data(split, np.full(jax.local_device_count(), 10.0 + rank, np.float32))
total = float(jax.jit(jnp.sum, out_shardings=NamedSharding(split.mesh, PartitionSpec()))(mine))
assert total == sum(10.0 + other for other in range(ranks)) * jax.local_device_count(), total

store = boto3.client("s3")
bucket, prefix = os.environ["DH_STORE"].removeprefix("s3://").split("/", 1)
key = f"{prefix}/step-1.npz"
if rank == 0:
    out = io.BytesIO()
    np.savez(out, total=total)
    store.put_object(Bucket=bucket, Key=key, Body=out.getvalue())
multihost_utils.sync_global_devices("saved")
read = np.load(io.BytesIO(store.get_object(Bucket=bucket, Key=key)["Body"].read()))
assert float(read["total"]) == total
assert [one["Key"] for one in store.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/")["Contents"]] == [key]

# Another's data is not this job's to read.
try:
    store.get_object(Bucket="datasets", Key="secret")
    raise SystemExit("the job read what is not its own")
except botocore.exceptions.ClientError as error:
    assert error.response["Error"]["Code"] == "AccessDenied", error
print(f"rank {rank} of {ranks}: total {total}", flush=True)
