"""Two nodes of Ray, one a rank, in a network namespace of their own: outside of one, Ray takes the machine's address for 127.0.0.1,
and the second node does not find the first. Where the head is follows from `RAY_PORT` and `RAY_ADDRESS` of the launch."""
import os
import subprocess
import sys
import time

rank = int(os.environ["RANK"])
ray_program = os.path.join(os.path.dirname(sys.executable), "ray")
port = os.environ["RAY_PORT"]
# The second node ends when the head is gone, and not a minute later.
os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"
common = ["--block", "--disable-usage-stats", "--num-cpus=1", "--object-store-memory=100000000"]
if rank == 0:
    start = ["--head", "--node-ip-address=127.0.0.1", f"--port={port}", "--include-dashboard=false"]
else:
    time.sleep(5)
    start = [f"--address={os.environ.pop('RAY_ADDRESS')}", "--node-ip-address=127.0.0.2"]
node = subprocess.Popen([ray_program, "start", *start, *common])
if rank == 0:
    import ray

    for _ in range(60):
        try:
            ray.init(address=f"127.0.0.1:{port}", log_to_driver=False)
            break
        except ConnectionError:
            time.sleep(1)
    while sum(one["Alive"] for one in ray.nodes()) < 2:
        time.sleep(0.2)

    @ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
    def where(number):
        time.sleep(1)
        return number * number, ray.util.get_node_ip_address()

    answers = ray.get([where.remote(number) for number in range(6)])
    places = sorted({place for _, place in answers})
    assert [square for square, _ in answers] == [0, 1, 4, 9, 16, 25], answers
    print("nodes", places, flush=True)
    assert places == ["127.0.0.1", "127.0.0.2"], places
    ray.shutdown()
    node.terminate()
node.wait()
print(f"rank {rank} is done", flush=True)
