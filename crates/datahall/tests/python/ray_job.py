"""A cluster of Ray whose nodes are the ranks of one job: rank 0 is its head, and work runs on every node."""
import os
import subprocess
import sys
import time

import ray

ray_program = os.path.join(os.path.dirname(sys.executable), "ray")
rank, ranks = int(os.environ["DH_RANK"]), int(os.environ["DH_RANKS"])
# A second address of loopback: two nodes of one machine must differ.
own = ["--node-ip-address", f"127.0.0.{1 + rank}", "--num-cpus", "1", "--disable-usage-stats"]
if rank == 0:
    subprocess.run([ray_program, "start", "--head", "--port", os.environ["RAY_PORT"], "--include-dashboard=false", *own], check=True)
    address = f"127.0.0.1:{os.environ['RAY_PORT']}"
else:
    address = os.environ["RAY_ADDRESS"]
    for _ in range(120):
        if subprocess.run([ray_program, "start", "--address", address, *own]).returncode == 0:
            break
        time.sleep(0.5)
    else:
        raise SystemExit("the head did not come")
if rank == 0:
    ray.init(address=address)
    while len([node for node in ray.nodes() if node["Alive"]]) < ranks:
        time.sleep(0.2)

    @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
    def where(number):
        time.sleep(1)
        return number, ray.get_runtime_context().get_node_id()

    done = ray.get([where.remote(number) for number in range(2 * ranks)])
    assert sum(number for number, _ in done) == sum(range(2 * ranks))
    print(f"rank {rank} of {ranks}: total {len({node for _, node in done})}", flush=True)
    ray.shutdown()
    open(os.path.join(os.environ["RAY_JOB_FOLDER"], "done"), "w").close()
else:
    while not os.path.exists(os.path.join(os.environ["RAY_JOB_FOLDER"], "done")):
        time.sleep(0.2)
    print(f"rank {rank} of {ranks}: done", flush=True)
