#!/usr/bin/env python3
"""Measures the start of the service, the size of the binary, and the effect of clients that never finish their request.

    deploy/build-static.sh
    benches/start.py dist/ifr-x86_64-unknown-linux-gnu       # writes the section "Start" of docs/performance.md
    benches/start.py target/release/ifr --no-write           # a short run

Starts `ifr serve` several times and waits for the first 200 of /health/ready. Then opens 500 connections that send
their headers byte by byte, while one client requests the faces of a picture and another one /health/live. Needs only
Python. Exits with 1 if a figure misses its target.
"""
import argparse
import http.client
import os
import selectors
import socket
import subprocess
import sys
import threading
import time

import page
from load import extract_body
from page import table
from service import Service


def starts(args):
    times, resident = [], []
    for _ in range(args.runs):
        started = time.perf_counter()
        with Service(args.binary) as service:
            times.append(time.perf_counter() - started)
            resident.append(service.status("VmRSS"))
    times.sort()
    return times, max(resident)


def is_static(binary):
    try:
        return "INTERP" not in subprocess.run(["readelf", "-lW", binary], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def ask(port, method, path, body, times, stop):
    """Sends requests until stopped. Returns the times of the answers, and the statuses other than 200."""
    bad = []
    while not stop.is_set():
        started = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request(method, path, body, {"content-type": "application/json"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                bad.append(response.status)
        except OSError as error:
            bad.append(str(error))
        finally:
            connection.close()
        times.append(time.perf_counter() - started)
        stop.wait(0.02)
    return bad


def watched(port, seconds, meanwhile):
    """Median of a request and slowest /health/live during `run`; the statuses other than 200."""
    stop, bad, times = threading.Event(), [], {"/extract": [], "/health/live": []}
    askers = [
        threading.Thread(target=lambda: bad.extend(ask(port, "POST", "/extract", extract_body(), times["/extract"], stop))),
        threading.Thread(target=lambda: bad.extend(ask(port, "GET", "/health/live", None, times["/health/live"], stop))),
    ]
    for asker in askers:
        asker.start()
    meanwhile(time.monotonic() + seconds)
    stop.set()
    for asker in askers:
        asker.join()
    requests = sorted(times["/extract"])
    return requests[len(requests) // 2] * 1e3, len(requests), max(times["/health/live"]) * 1e3, bad


class SlowHeads:
    """Connections that send their headers byte by byte and never finish them."""

    def __init__(self, port, count):
        self.port, self.count, self.closed, self.open = port, count, 0, 0

    def run(self, end):
        selector = selectors.DefaultSelector()
        for _ in range(self.count):
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=10)
            connection.sendall(b"POST /extract HTTP/1.1\r\nhost: x\r\nx-slow: ")
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        self.open = len(selector.get_map())
        while time.monotonic() < end:
            for key, _ in selector.select(timeout=0):
                try:
                    ended = not key.fileobj.recv(4096)
                except OSError:
                    ended = True
                if ended:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    self.closed += 1
            for key in list(selector.get_map().values()):
                try:
                    key.fileobj.send(b"x")
                except OSError:
                    pass
            time.sleep(0.5)
        for key in list(selector.get_map().values()):
            key.fileobj.close()
        selector.close()


def slow_heads(args):
    with Service(args.binary) as service:
        alone, _, _, _ = watched(service.port, min(args.seconds, 5), lambda end: time.sleep(end - time.monotonic()))
        before = service.status("VmRSS")
        heads = SlowHeads(service.port, args.connections)
        beside, requests, live, bad = watched(service.port, args.seconds, heads.run)
        memory = service.status("VmRSS") - before
    return heads, alone, beside, requests, live, bad, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("--runs", type=int, default=10, help="number of starts")
    parser.add_argument("--connections", type=int, default=500, help="number of slow connections")
    parser.add_argument("--seconds", type=float, default=20, help="time of the slow connections; HEADER_TIMEOUT is 10")
    parser.add_argument("--no-write", action="store_true", help="do not change docs/performance.md")
    args = parser.parse_args()

    times, resident = starts(args)
    size, static = os.path.getsize(args.binary) / 1e6, is_static(args.binary)
    heads, alone, beside, requests, live, bad, memory = slow_heads(args)
    waited = args.seconds >= 12
    rows = [
        ("size of the program, models included", f"{size:.1f} MB", "below 45 MB", size < 45),
        ("statically linked", {True: "yes", False: "no", None: "not known"}[static], "yes", static is not False),
        (f"start to ready, median of {args.runs}", f"{times[len(times) // 2] * 1e3:.0f} ms", "below 1 s", times[len(times) // 2] < 1),
        ("start to ready, slowest", f"{times[-1] * 1e3:.0f} ms", "below 1 s", times[-1] < 1),
        ("resident when ready", f"{resident:.1f} MiB", "", True),
        ("connections that never finish their headers", heads.open, args.connections, heads.open == args.connections),
        ("of these closed by the service", heads.closed, heads.open if waited else "", not waited or heads.closed == heads.open),
        ("memory of these connections", f"{memory:.1f} MiB", "", True),
        ("a request without them, median", f"{alone:.1f} ms", "", True),
        ("a request during them, median", f"{beside:.1f} ms", "at most 1.5 times that", beside <= 1.5 * alone),
        ("requests during them", f"{requests:,}", "", True),
        ("slowest /health/live during them", f"{live:.1f} ms", "below 50 ms", live < 50),
        ("answers other than 200", len(bad), "0", not bad),
    ]
    text = f"""## Start

{page.origin("start")}
`{os.path.basename(args.binary)}` with built-in models and default settings, over loopback. "start to ready" is the time from the
start of the process to the first 200 of `/health/ready`. The slow connections send a byte of a header twice a second and never finish it.

{table(("figure", "measured", "wanted"), [page.judged(*row) for row in rows])}"""
    print(text)
    if not args.no_write:
        page.write("start", text)
    sys.exit(0 if all(good for *_, good in rows) else 1)


if __name__ == "__main__":
    main()
