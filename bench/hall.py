#!/usr/bin/env python3
"""How many jobs a second a running hall accepts durably, how soon it answers, and how long a page of jobs takes.

    datahall --data DIR up hall.toml --detach      # a hall with `executor = "sim"`
    bench/hall.py DIR [--jobs 20000] [--clients 32] [--hold 0]

--hold keeps the slots taken by one gang, so that what is submitted queues up. Prints one line per figure.
"""
import argparse, http.client, json, pathlib, threading, time, urllib.parse


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("data", type=pathlib.Path)
    arguments.add_argument("--jobs", type=int, default=20_000)
    arguments.add_argument("--clients", type=int, default=32)
    arguments.add_argument("--hold", type=int, default=0, metavar="RANKS")
    given = arguments.parse_args()
    api = json.loads((given.data / "endpoint.json").read_text())["listeners"]["api"]
    keys = json.loads((given.data / "keys.json").read_text())
    secret = next(key["secret"] for key in keys["keys"] if key["name"] == "admin")
    address = urllib.parse.urlparse(api)

    def connection():
        return http.client.HTTPConnection(address.hostname, address.port)

    def ask(link, method, path, body=None):
        headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
        link.request(method, path, None if body is None else json.dumps(body), headers)
        answer = link.getresponse()
        text = answer.read()
        assert answer.status == 200, (answer.status, text)
        return text

    if given.hold:
        ask(connection(), "POST", "/v1/jobs", {"command": ["sleep", "100000"], "ranks": given.hold})
    times, lock, left = [], threading.Lock(), [given.jobs]

    def client():
        link, own = connection(), []
        while True:
            with lock:
                if left[0] == 0:
                    times.extend(own)
                    return
                left[0] -= 1
            begin = time.monotonic()
            ask(link, "POST", "/v1/jobs", {"command": ["sleep", "0.01"]})
            own.append(time.monotonic() - begin)

    threads = [threading.Thread(target=client) for _ in range(given.clients)]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - begin
    times.sort()
    print(f"submits_per_second {given.jobs / took:.0f}")
    print(f"submit_p50_ms {times[len(times) // 2] * 1e3:.2f}")
    print(f"submit_p99_ms {times[len(times) * 99 // 100] * 1e3:.2f}")
    link = connection()
    for what, path in [("page", "/v1/jobs?before=0&limit=100&open=true"), ("status", "/v1/status")]:
        pages = []
        for _ in range(20):
            begin = time.monotonic()
            ask(link, "GET", path)
            pages.append(time.monotonic() - begin)
        print(f"{what}_p50_ms {sorted(pages)[10] * 1e3:.2f}")


main()
