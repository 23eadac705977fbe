#!/usr/bin/env python3
"""Checks that the memory of a running service does not grow.

    pip install -r benches/requirements.txt
    benches/soak.py target/release/ifr                      # 100,000 mixed requests, then 200 x 12 megapixels
    benches/soak.py target/release/ifr --requests 20000 --minutes 10
    benches/soak.py target/release/ifr --only large

A complete run writes the section "Memory" of docs/performance.md, unless --no-write.

Starts the program on loopback with a canvas of 320x320. Sends photos of several sizes and formats, aligned crops,
MessagePack, drawings, damaged pictures and aborted requests. Prints the resident set after the first 1,000 requests and
at the end, and their ratio. Then sends one request with 200 pictures of 12 megapixels and prints the peak. Exits with 1
if the end is more than 5 % above the first 1,000, the peak is above 1.5 GB, or an answer is not the expected one.
"""
import argparse
import base64
import http.client
import io
import json
import os
import queue
import random
import sys
import threading
import time

from PIL import Image

import page
from page import ROOT
from service import Service


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def msgpack(value):
    """The part of MessagePack that requests need."""
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, bytes):
        return b"\xc6" + len(value).to_bytes(4, "big") + value
    if isinstance(value, str):
        return b"\xd9" + bytes([len(value.encode())]) + value.encode()
    if isinstance(value, list):
        return b"\xdc" + len(value).to_bytes(2, "big") + b"".join(map(msgpack, value))
    return bytes([0x80 + len(value)]) + b"".join(msgpack(k) + msgpack(v) for k, v in value.items())


def requests(photo):
    """Requests: name, path, headers, body and expected status. The first is sent most often."""
    b64 = lambda data: base64.b64encode(data).decode()
    small = photo.resize((300, 300))
    wide = Image.new("RGB", (900, 400))
    wide.paste(photo.resize((400, 400)), (0, 0))
    wide.paste(photo.resize((300, 300)), (450, 50))
    jpeg, png = encoded(photo, "JPEG", quality=90), encoded(small, "PNG")
    crop = encoded(photo.crop((170, 60, 282, 172)), "PNG")
    as_json = {"content-type": "application/json"}
    packed = {"content-type": "application/msgpack", "accept": "application/x-msgpack"}

    def extract(data, **fields):
        return json.dumps({"images": {"data": [b64(d) for d in data]}, **fields}).encode()

    return [
        ("photo", "/extract", as_json, extract([jpeg]), 200),
        ("png", "/extract", as_json, extract([png], return_landmarks=True), 200),
        ("two faces", "/extract", as_json, extract([encoded(wide, "JPEG")], return_face_data=True), 200),
        ("webp", "/extract", as_json, extract([encoded(small, "WEBP")], extract_embedding=False), 200),
        ("several", "/extract", as_json, extract([jpeg, png, jpeg[: len(jpeg) // 3], b"no picture"]), 200),
        ("crops", "/extract", as_json, extract([crop] * 5 + [jpeg], embed_only=True), 200),
        ("msgpack", "/extract", packed, msgpack({"images": {"data": [jpeg]}, "msgpack": True}), 200),
        ("drawing", "/draw_detections", as_json, extract([png]), 200),
        ("invalid", "/extract", as_json, b'{"images": 5}', 422),
        ("gone", "/extract", as_json, extract([jpeg] * 8), None),
    ]


def send(port, path, headers, body, connection=None):
    connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    return connection, answer.status, answer.read()


def mixed(args, photo):
    service = Service(args.binary, MAX_SIZE="320,320", DET_BATCH_SIZE=args.batch, REC_BATCH_SIZE=args.batch)
    kinds = requests(photo)
    numbers, lock = queue.SimpleQueue(), threading.Lock()
    for number in range(args.requests):
        numbers.put(number)
    state = {"sent": 0, "refused": 0, "wrong": [], "first": None}
    end = time.monotonic() + args.minutes * 60

    def client(seed):
        chance, connection = random.Random(seed), None
        while time.monotonic() < end and not numbers.empty():
            try:
                numbers.get_nowait()
            except queue.Empty:
                return
            name, path, headers, body, expected = kinds[0] if chance.random() < 0.4 else chance.choice(kinds)
            if expected is None:
                # Aborted before the answer.
                gone = http.client.HTTPConnection("127.0.0.1", service.port, timeout=120)
                gone.request("POST", path, body, headers)
                gone.close()
            else:
                connection, status, answer = send(service.port, path, headers, body, connection)
                with lock:
                    if status == 429:
                        state["refused"] += 1
                    elif status != expected:
                        state["wrong"].append(f"{name}: {status} {answer[:200]}")
            with lock:
                state["sent"] += 1
                if state["sent"] == 1000:
                    state["first"] = service.status("VmRSS")
                if state["sent"] in (200, 500, 1000, 2000) or state["sent"] % 5000 == 0:
                    print(f"  {state['sent']:7} requests, {service.status('VmRSS'):7.1f} MiB", flush=True)

    started = time.monotonic()
    clients = [threading.Thread(target=client, args=(seed,)) for seed in range(args.clients)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    seconds = time.monotonic() - started
    time.sleep(1)
    last, peak = service.status("VmRSS"), service.status("VmHWM")
    service.stop()
    first = state["first"] or last
    print(f"mixed: {state['sent']} requests in {seconds:.0f} s, {state['refused']} refused, {len(state['wrong'])} wrong")
    print(f"mixed: {first:.1f} MiB after 1,000 requests, {last:.1f} MiB at the end ({last / first - 1:+.1%}), peak {peak:.1f} MiB")
    for wrong in state["wrong"][:5]:
        print("  ", wrong)
    rows = [
        ("requests sent", f"{state['sent']:,}", "", True),
        ("turned away with 429", f"{state['refused']:,}", "", True),
        ("answered with another status than they should be", len(state["wrong"]), "0", not state["wrong"]),
        ("resident after the first 1,000", f"{first:.1f} MiB", "", True),
        ("resident at the end", f"{last:.1f} MiB", "", True),
        ("growth", f"{last / first - 1:+.1%}", "at most 5 %", last <= first * 1.05),
        ("peak", f"{peak:.1f} MiB", "", True),
        ("time", f"{seconds:.0f} s", "", True),
    ]
    return rows


def large(args, photo):
    service = Service(args.binary, MAX_BODY_SIZE="2G", MAX_BODIES_IN_MEMORY="4G", REQUEST_TIMEOUT="900")
    idle = service.status("VmRSS")
    # Noise gives the file the size of a phone's picture. A smooth enlargement would be small.
    picture = photo.resize((4000, 3000), Image.BICUBIC)
    noise = Image.frombytes("RGB", (500, 375), os.urandom(500 * 375 * 3)).resize((4000, 3000))
    jpeg = encoded(Image.blend(picture, noise, 0.08), "JPEG", quality=85)
    body = msgpack({"images": {"data": [jpeg] * args.pictures}, "extract_embedding": True})
    started = time.monotonic()
    _, status, answer = send(service.port, "/extract", {"content-type": "application/msgpack"}, body)
    seconds = time.monotonic() - started
    peak, after = service.status("VmHWM"), service.status("VmRSS")
    # A pause, in which the service returns free memory.
    time.sleep(10)
    rested = service.status("VmRSS")
    service.stop()
    images = json.loads(answer)["data"] if status == 200 else []
    good = sum(image["status"] == "ok" and len(image["faces"]) == 1 for image in images)
    print(
        f"large: {args.pictures} x 12 MP of {len(jpeg) / 1e6:.1f} MB in {seconds:.1f} s, status {status}, {good} with their face;"
        f" {idle:.1f} MiB idle, peak {peak:.1f} MiB ({len(body) / 2**20:.0f} MiB of it the body), {after:.1f} MiB after"
    )
    rows = [
        ("pictures of 12 megapixels in one request", args.pictures, "", True),
        ("answered with their face", good, args.pictures, good == args.pictures),
        ("length of the request", f"{len(body) / 2**20:.0f} MiB", "", True),
        ("resident before", f"{idle:.1f} MiB", "", True),
        ("peak, the request included", f"{peak:.1f} MiB", "below 1.5 GB", peak * 2**20 < 1.5e9),
        ("resident after", f"{after:.1f} MiB", "", True),
        ("resident 10 s later", f"{rested:.1f} MiB", "", True),
        ("time", f"{seconds:.1f} s", "", True),
    ]
    return rows


def write(args, mixed_rows, large_rows):
    head = ("figure", "measured", "wanted")
    page.write("memory", f"""## Memory

{page.origin("memory")}
Resident set of the process (Linux). Built-in models, a canvas of 320x320, `DET_BATCH_SIZE` and `REC_BATCH_SIZE` {args.batch}, {args.clients} concurrent
clients. They send photos of several sizes and formats, aligned crops, MessagePack, drawings, damaged pictures, and requests that are
aborted before the answer.

{page.table(head, [page.judged(*row) for row in mixed_rows])}
Then a new process gets one request of large pictures, with the default canvas.

{page.table(head, [page.judged(*row) for row in large_rows])}""")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=1e6, help="maximum time of the mixed requests")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--batch", default="1", help="DET_BATCH_SIZE and REC_BATCH_SIZE: networks keep memory for each size")
    parser.add_argument("--pictures", type=int, default=200, help="of 12 megapixels")
    parser.add_argument("--only", choices=["mixed", "large"])
    parser.add_argument("--no-write", action="store_true", help="do not change docs/performance.md")
    args = parser.parse_args()
    photo = Image.open(ROOT / "assets" / "astronaut.jpg").convert("RGB")
    parts = {"mixed": mixed, "large": large}
    results = {name: run(args, photo) for name, run in parts.items() if args.only in (None, name)}
    if not args.no_write and args.only is None:
        write(args, *results.values())
    sys.exit(0 if all(good for rows in results.values() for *_, good in rows) else 1)


if __name__ == "__main__":
    main()
