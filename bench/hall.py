#!/usr/bin/env python3
"""What a live hall does: submissions accepted durably, a long queue, pages, starts of local tasks, and what it costs when idle.

    bench/hall.py --datahall target/release/datahall [--jobs 100000] [--starts 3000]

Starts two halls of its own in a temporary folder, one with simulated tasks and one with processes of this machine, measures, and
stops them. One line per figure, with what is asked where something is. A quiet machine, please: clients and server share it.
"""
import argparse, json, multiprocessing, os, pathlib, shutil, socket, subprocess, sys, tempfile, threading, time, urllib.parse

SIM = """
schema = 1
name = "bench"
[pool.train]
nodes = 64
slots = 8
[queue.default]
[target]
api_port = 0
gateway_port = 0
store_port = 0
executor = "sim"
"""

LOCAL = """
schema = 1
name = "bench"
[pool.train]
nodes = 8
slots = 8
[queue.default]
[target]
api_port = 0
gateway_port = 0
store_port = 0
"""


class Link:
    """One connection. A client in Python costs more than the server's answer, so this one does no more than it must."""

    def __init__(self, hall):
        self.hall = hall
        self.socket = socket.create_connection(hall.address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.rest = b""

    def ask(self, method, path, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        head = (f"{method} {path} HTTP/1.1\r\nhost: hall\r\nauthorization: Bearer {self.hall.secret}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n")
        self.socket.sendall(head.encode() + text)
        while b"\r\n\r\n" not in self.rest:
            self.more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
        parts, have = [self.rest], len(self.rest)
        while have < length:
            piece = self.socket.recv(1 << 18)
            assert piece, "the hall closed the connection"
            parts.append(piece)
            have += len(piece)
        whole = b"".join(parts)
        body, self.rest = whole[:length], whole[length:]
        assert head.startswith(b"HTTP/1.1 200"), (head, body)
        return body

    def more(self):
        piece = self.socket.recv(1 << 16)
        assert piece, "the hall closed the connection"
        self.rest += piece

    def get(self, path):
        return json.loads(self.ask("GET", path))


class Hall:
    def __init__(self, datahall, folder, blueprint):
        self.datahall, self.data = datahall, folder / "data"
        folder.mkdir()
        plan = folder / "hall.toml"
        plan.write_text(blueprint)
        subprocess.run([datahall, "--data", self.data, "up", plan, "--detach"], check=True, stdout=subprocess.DEVNULL)
        self.endpoint = json.loads((self.data / "endpoint.json").read_text())
        keys = json.loads((self.data / "keys.json").read_text())
        self.secret = next(key["secret"] for key in keys["keys"] if key["name"] == "admin")
        url = urllib.parse.urlparse(self.endpoint["listeners"]["api"])
        self.address = (url.hostname, url.port)
        self.pid = self.endpoint["pid"]

    def resident(self):
        return int(pathlib.Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu(self):
        fields = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        subprocess.run([self.datahall, "--data", self.data, "down"], stdout=subprocess.DEVNULL)


def client(hall, connections, jobs, command, out):
    """One process of clients: so many connections, each with its share of the jobs."""
    times, lock = [], threading.Lock()

    def one():
        link, own = Link(hall), []
        for _ in range(jobs // connections):
            begin = time.monotonic()
            link.ask("POST", "/v1/jobs", {"command": command})
            own.append(time.monotonic() - begin)
        with lock:
            times.extend(own)

    threads = [threading.Thread(target=one) for _ in range(connections)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    out.put(times)


def submit(hall, jobs, command, processes=4, connections=16, beside=None):
    """Submits from several processes; seconds that it took, and those of each answer. Meanwhile `beside` is called again and again."""
    out = multiprocessing.Queue()
    share = jobs // processes // connections * connections
    workers = [multiprocessing.Process(target=client, args=(hall, connections, share, command, out)) for _ in range(processes)]
    begin = time.monotonic()
    [worker.start() for worker in workers]
    times, done = [], 0
    while done < processes:
        if beside:
            beside()
        try:
            times += out.get(timeout=0.001 if beside else None)
            done += 1
        except Exception as error:
            if type(error).__name__ != "Empty":
                raise
            if any(worker.exitcode not in (None, 0) for worker in workers):
                sys.exit("a client failed")
    took = time.monotonic() - begin
    [worker.join() for worker in workers]
    return took, sorted(times)


def at(times, share):
    return times[min(len(times) - 1, int(len(times) * share))] * 1e3


def say(name, value, asked=""):
    print(f"{name:34} {value:>12}   {asked}", flush=True)


def timed(times, link, path):
    begin = time.monotonic()
    link.ask("GET", path)
    times.append(time.monotonic() - begin)


def idle(hall, seconds):
    before = hall.cpu()
    time.sleep(seconds)
    say("idle_cpu_percent", f"{(hall.cpu() - before) / seconds * 100:.2f}", "<= 1")
    say("idle_resident_mb", f"{hall.resident() / 1e6:.1f}", "<= 80")


def queue(hall, given):
    link = Link(hall)
    link.ask("POST", "/v1/jobs", {"command": ["sleep", "1000000"], "ranks": 512})
    looks, pages = [], []

    def beside():
        timed(looks, link, "/v1/jobs/1")
        timed(pages, link, "/v1/jobs?before=0&limit=100&open=true")

    took, times = submit(hall, given.jobs, ["sleep", "0.01"], given.processes, given.connections, beside)
    say("submits_per_second", f"{len(times) / took:.0f}", ">= 2000")
    say("submit_p50_ms", f"{at(times, .5):.2f}")
    say("submit_p99_ms", f"{at(times, .99):.2f}", "<= 20 with 16 clients or fewer")
    for name, asked in [("one job while submitting", looks), ("page while submitting", pages)]:
        asked.sort()
        say(f"{name.replace(' ', '_')}_p99_ms", f"{at(asked, .99):.2f}", "<= 20")
    say("waiting_jobs", link.get("/v1/status")["jobs"].get("waiting", 0))
    for name, path in [("page", "/v1/jobs?before=0&limit=100"), ("page_of_1000", "/v1/jobs?before=0&limit=1000"),
                       ("rare_state", "/v1/jobs?before=0&limit=100&state=failed"), ("status", "/v1/status"),
                       ("why_last", f"/v1/jobs/{given.jobs // 2}/why")]:
        times = []
        for _ in range(50):
            timed(times, link, path)
        times.sort()
        say(f"{name}_p50_ms", f"{at(times, .5):.2f}", "<= 50" if name.startswith("page") else "")
        say(f"{name}_p99_ms", f"{at(times, .99):.2f}")
    before = hall.cpu()
    time.sleep(10)
    say("cpu_percent_with_a_queue", f"{(hall.cpu() - before) * 10:.2f}")
    say("resident_mb_with_a_queue", f"{hall.resident() / 1e6:.1f}")


def starts(hall, given):
    link = Link(hall)
    waits = []
    for _ in range(10):
        job = json.loads(link.ask("POST", "/v1/jobs", {"command": ["true"]}))["jobs"][0]
        begin = time.monotonic()
        while link.get(f"/v1/jobs/{job}")["state"] == "waiting" or link.get(f"/v1/jobs/{job}")["state"] == "starting":
            time.sleep(0.001)
        waits.append(time.monotonic() - begin)
        time.sleep(0.2)
    say("submit_to_start_p50_ms", f"{at(sorted(waits), .5):.1f}", "<= 100")
    say("submit_to_start_worst_ms", f"{max(waits) * 1e3:.1f}", "<= 100")
    done = link.get("/v1/status")["jobs"].get("succeeded", 0)
    begin = time.monotonic()
    _, times = submit(hall, given.starts, ["true"], 2, 8)
    while link.get("/v1/status")["jobs"].get("succeeded", 0) < done + len(times):
        time.sleep(0.02)
    say("local_starts_per_second", f"{len(times) / (time.monotonic() - begin):.0f}", ">= 300")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--datahall", default="target/release/datahall")
    arguments.add_argument("--jobs", type=int, default=100_000)
    arguments.add_argument("--starts", type=int, default=3_000)
    arguments.add_argument("--processes", type=int, default=4)
    arguments.add_argument("--connections", type=int, default=8, help="of each process")
    arguments.add_argument("--only", choices=["queue", "starts"])
    arguments.add_argument("--keep", action="store_true", help="leave the folder: ext4 makes files slowly for minutes after many were deleted")
    given = arguments.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="datahall-bench-"))
    say("load_average", f"{os.getloadavg()[0]:.2f}", "well below the number of cores, or the rest says little")
    try:
        for name, blueprint, measure in [("queue", SIM, queue), ("starts", LOCAL, starts)]:
            if given.only in (None, name):
                hall = Hall(given.datahall, folder / name, blueprint)
                try:
                    idle(hall, 5)
                    measure(hall, given)
                finally:
                    hall.stop()
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


main()
