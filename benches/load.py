#!/usr/bin/env python3
"""Measures throughput, latency and overload of the service on this machine, and of another service for comparison.

    cargo build --release
    benches/load.py                                    # writes the section "Load" of docs/performance.md
    benches/load.py --seconds 3 --no-write             # a short run
    benches/load.py --url http://localhost:18081 --label InsightFace-REST      # both services, with ratios
    benches/load.py --url http://localhost:18081 --no-own                      # only the other service
    benches/load.py --url http://localhost:18081 --set MODELS_DIR=/models --set DET_NAME=scrfd_2.5g_gnkps --image face.jpg

Starts `ifr serve` on a free port with the built-in models, once with one thread per inference (IFR_THREADS=1) and once
with default settings. Measures 1, 2, 8 and 32 clients with `ifr load`. Then sends ten times the capacity without
waiting for answers, while /health/live is requested every 100 ms. Needs only Python.

The request is the one of InsightFace-REST's clients, so --url may be an InsightFace-REST. With --set or --image, other
models and pictures are compared: only with default settings, without the overload, and nothing is written. Exits with 1
if a figure misses its target.
"""
import argparse
import asyncio
import base64
import collections
import http.client
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from urllib.parse import urlsplit

import page
from page import ROOT, table
from service import Service

CLIENTS = [1, 2, 8, 32]
TIMES_CAPACITY = 10
# Maximum time for an answer in seconds, above the service's own REQUEST_TIMEOUT.
TIMEOUT = 90


def ratio(a, b):
    """a / b; NaN if b is 0."""
    return a / b if b else math.nan


def clients_rows(args, url):
    """Rows of `ifr load` for 1, 2, 8 and 32 clients."""
    load = [args.ifr, "load", url, "--json"]
    for image in args.image:
        load += ["--image", image]
    # Warm-up: the first requests have cold caches.
    if subprocess.run([*load, "--duration", "1s", "-c", "2"], stdout=subprocess.DEVNULL).returncode:
        sys.exit(f"{url} does not answer the request")
    rows = {}
    load += ["--duration", f"{args.seconds}s", "-c", ",".join(map(str, CLIENTS))]
    with subprocess.Popen(load, stdout=subprocess.PIPE, text=True) as load:
        for line in load.stdout:
            row = json.loads(line)
            rows[row["concurrency"]] = row
            print(f"  {row['concurrency']:3} clients: {row['requests_per_second']:7.1f} requests/s, p50 {row['p50_ms']:7.1f} ms, p99 "
                  f"{row['p99_ms']:7.1f} ms, {row['refused']} refused, {row['failed']} failed", flush=True)
    if len(rows) != len(CLIENTS):
        sys.exit(f"{url}: the load could not be measured")
    return rows


def extract_body():
    """The request of `ifr load`."""
    picture = base64.b64encode((ROOT / "assets/astronaut.jpg").read_bytes()).decode()
    fields = {"extract_embedding": True, "return_face_data": False, "return_landmarks": False}
    return json.dumps({"images": {"data": [picture]}, **fields}).encode()


async def answer(reader):
    """Reads one answer. Returns its status, and True if the connection can be reused."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:] if ": " in line)
    await reader.readexactly(int(fields["content-length"]))
    return int(lines[0].split()[1]), fields.get("connection") != "close"


class Flood:
    """Sends requests at a constant rate without waiting for answers."""

    def __init__(self, port, body):
        self.port = port
        head = f"POST /extract HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.request = head.encode() + body
        self.idle = []
        self.statuses = collections.Counter()

    async def ask(self):
        try:
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.request)
            status, again = await asyncio.wait_for(answer(reader), TIMEOUT)
        except (OSError, EOFError, asyncio.TimeoutError, asyncio.IncompleteReadError) as error:
            self.statuses[f"no answer ({type(error).__name__})"] += 1
            return
        self.statuses[status] += 1
        if again:
            self.idle.append((reader, writer))
        else:
            writer.close()

    async def run(self, rate, seconds):
        """Returns the number of requests sent, and the seconds."""
        started, asked = time.perf_counter(), []
        while (now := time.perf_counter() - started) < seconds:
            while len(asked) < now * rate:
                asked.append(asyncio.create_task(self.ask()))
            await asyncio.sleep(0.002)
        sending = time.perf_counter() - started
        await asyncio.gather(*asked)
        for _, writer in self.idle:
            writer.close()
        return len(asked), sending


def watch(port, stop, results):
    """Requests /health/live every 100 ms until stopped. A separate process, so that the load generator does not delay
    it."""
    slowest, asked, bad = 0.0, 0, 0
    while not stop.is_set():
        started = time.perf_counter()
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            connection.request("GET", "/health/live")
            response = connection.getresponse()
            response.read()
            bad += response.status != 200
            connection.close()
        except OSError:
            bad += 1
        took = time.perf_counter() - started
        slowest, asked = max(slowest, took), asked + 1
        stop.wait(max(0.0, 0.1 - took))
    results.put((slowest * 1e3, asked, bad))


def overload(service, capacity, seconds):
    """Sends ten times the capacity."""
    stop, results = multiprocessing.Event(), multiprocessing.Queue()
    watcher = multiprocessing.Process(target=watch, args=(service.port, stop, results), daemon=True)
    watcher.start()
    flood = Flood(service.port, extract_body())
    sent, sending = asyncio.run(flood.run(capacity * TIMES_CAPACITY, seconds))
    stop.set()
    slowest, asked, bad = results.get(timeout=30)
    watcher.join()
    result = {
        "sent": sent, "times": sent / sending / capacity, "seconds": sending, "statuses": flood.statuses,
        "live_ms": slowest, "live_asked": asked, "live_bad": bad,
    }
    print(f"  overload: {sent} requests in {sending:.1f} s ({result['times']:.1f} times the capacity): {dict(flood.statuses)}; "
          f"/health/live at most {slowest:.1f} ms of {asked}, {bad} bad", flush=True)
    return result


def own(args):
    """All figures of ifr; with other models or pictures only those with default settings."""
    settings = dict(pair.split("=", 1) for pair in args.set)
    figures = {}
    for name, threads in (("alone", {"IFR_THREADS": "1"}), ("default", {})):
        if args.comparing and name == "alone":
            continue
        print(f"ifr serve, {'one thread per inference' if threads else 'default settings'}:", flush=True)
        with Service(args.ifr, **settings, **threads) as service:
            idle = service.status("VmRSS")
            rows = clients_rows(args, service.url)
            figures[name] = {"rows": rows, "memory": [idle, service.status("VmRSS")]}
            if name == "default" and not args.comparing:
                capacity = max(row["requests_per_second"] for row in rows.values())
                figures["overload"] = overload(service, capacity, args.overload_seconds)
                figures[name]["memory"].append(service.status("VmRSS"))
                # A pause, in which the service returns free memory.
                time.sleep(10)
                figures[name]["memory"].append(service.status("VmRSS"))
    return figures


def rows_table(rows):
    cells = [
        (
            f"{row['requests_per_second']:.1f}", *(f"{row[f'{p}_ms']:.1f}" for p in ("p50", "p95", "p99", "max")),
            row["answered"], row["refused"], row["failed"],
        )
        for row in rows.values()
    ]
    head = ("clients", "requests/s", "p50, ms", "p95, ms", "p99, ms", "longest, ms", "answered", "refused", "failed")
    return table(head, [(clients, *row) for clients, row in zip(rows, cells)])


def ratios_table(rows, theirs):
    """Compares both services; ratios above 1 are in favor of ifr."""
    cells = [
        (
            clients, f"{theirs[clients]['requests_per_second']:.1f}", f"{row['requests_per_second']:.1f}",
            f"**{ratio(row['requests_per_second'], theirs[clients]['requests_per_second']):.2f}**",
            *(f"{ratio(theirs[clients][f'{p}_ms'], row[f'{p}_ms']):.2f}" for p in ("p50", "p99")),
        )
        for clients, row in rows.items()
    ]
    return table(("clients", "its requests/s", "ours", "ratio", "its p50 / ours", "its p99 / ours"), cells)


def wanted(figures):
    """Figures with a target: name, measured, wanted, True if the target is met."""
    found = []
    for name, title in (("alone", "one thread per inference"), ("default", "default settings")):
        rows = figures[name]["rows"]
        scaling = ratio(rows[8]["requests_per_second"], rows[1]["requests_per_second"])
        least = 1.9 if name == "alone" and os.cpu_count() > 1 else None
        found.append((f"throughput of 8 clients / of 1, {title}", f"{scaling:.2f}", f"at least {least}" if least else "",
                      not least or scaling >= least))
        tail = ratio(rows[8]["p99_ms"], rows[1]["p50_ms"])
        found.append((f"p99 of 8 clients / p50 of 1, {title}", f"{tail:.1f}", "below 12", tail < 12))
        failed = sum(row["failed"] for row in rows.values())
        found.append((f"requests that failed, {title}", failed, "0", failed == 0))
    flood = figures["overload"]
    others = sum(count for status, count in flood["statuses"].items() if status not in (200, 429))
    memory = ", ".join(f"{mib:.0f}" for mib in figures["default"]["memory"])
    return found + [
        ("overload: requests sent", f"{flood['sent']:,} in {flood['seconds']:.0f} s", "", True),
        ("overload: requests per second / capacity", f"{flood['times']:.1f}", "", True),
        ("overload: answered with 200", f"{flood['statuses'][200]:,}", "", True),
        ("overload: answered with 429", f"{flood['statuses'][429]:,}", "", True),
        ("overload: other status, or no answer", others, "0", others == 0),
        ("overload: requests for /health/live", flood["live_asked"], "", True),
        ("overload: slowest /health/live", f"{flood['live_ms']:.1f} ms", "below 50 ms", flood["live_ms"] < 50),
        ("overload: /health/live other than 200", flood["live_bad"], "0", flood["live_bad"] == 0),
        ("resident memory when ready, after the clients, after the overload, 10 s later", f"{memory} MiB", "", True),
    ]


def beside(args, figures, theirs):
    return f"""### Compared with {args.label}

The same load, one service after the other. Ratios above 1 are in favor of ifr with default settings.

{rows_table(theirs)}
{ratios_table(figures["default"]["rows"], theirs)}"""


def section(args, figures, theirs):
    judged = [page.judged(*figure) for figure in wanted(figures)]
    text = f"""## Load

{page.origin("load")} {args.seconds} seconds per row.
Service and clients run on the same machine, over loopback, with built-in models and default settings. A request has one picture with one
face and asks for its embedding, like those of `ifr load`. Each client sends its next request when the answer has arrived. Times are those
of answered requests, measured by the client.

### One thread per inference

`IFR_THREADS=1`: more clients then gain only from the scheduler.

{rows_table(figures["alone"]["rows"])}
### Default settings

A single request uses all cores; concurrent requests share them.

{rows_table(figures["default"]["rows"])}
### Targets

The capacity is the best throughput of the table above. The overload sends {TIMES_CAPACITY} times as many requests per second
without waiting for answers, while `/health/live` is requested every 100 ms.

{table(("figure", "measured", "wanted"), judged)}"""
    return f"{text}\n{beside(args, figures, theirs)}" if theirs else text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ifr", default=ROOT / "target/release/ifr", type=os.path.abspath, help="the program; target/release/ifr")
    parser.add_argument("--url", help="another service to measure")
    parser.add_argument("--label", default="the other service", help="name of the other service in tables")
    parser.add_argument("--no-own", action="store_true", help="measure only --url")
    parser.add_argument("--seconds", type=int, default=20, help="seconds per row")
    parser.add_argument("--overload-seconds", type=int, default=20)
    parser.add_argument("--image", action="append", default=[], help="picture to send instead of the built-in one; can be repeated")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of our service")
    parser.add_argument("--no-build", action="store_true", help="do not build")
    parser.add_argument("--no-write", action="store_true", help="do not change docs/performance.md")
    args = parser.parse_args()
    args.comparing = bool(args.set or args.image)
    if args.no_own and not args.url:
        parser.error("--no-own leaves nothing to measure without --url")
    if args.url and urlsplit(args.url).scheme not in ("http", "https"):
        parser.error("--url: an address such as http://localhost:18081")
    if not args.no_build and args.ifr == str(ROOT / "target/release/ifr"):
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)

    figures = None if args.no_own else own(args)
    theirs = None
    if args.url:
        print(f"{args.label}:", flush=True)
        theirs = clients_rows(args, args.url)
    if args.comparing or not figures:
        if figures:
            print(f"\n{rows_table(figures['default']['rows'])}")
        if theirs:
            print(f"\n{beside(args, figures, theirs) if figures else rows_table(theirs)}")
        return
    text = section(args, figures, theirs)
    print(f"\n{text}")
    if not args.no_write:
        page.write("load", text)
    sys.exit(0 if all(good for *_, good in wanted(figures)) else 1)


if __name__ == "__main__":
    main()
