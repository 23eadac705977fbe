#!/usr/bin/env python3
"""Measures `ifr extract` on a large archive: rate, memory, use of the cores, and recovery from kills.

    benches/bulk.py target/release/ifr                        # 2,000 pictures; writes the section "Bulk" of docs/performance.md
    benches/bulk.py target/release/ifr --pictures 100000      # the run of the section
    benches/bulk.py target/release/ifr --pictures 200 --no-write

Makes a directory of pictures from a few (--image, or the one of this repository), every hundredth damaged, and extracts
it into a Parquet file. Then extracts a part into JSON Lines, once without interruption and once killed repeatedly with
SIGKILL and resumed; both results must agree. Needs only Python. Exits with 1 if a figure misses its target.
"""
import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import page
from page import ROOT, table

DAMAGED_EVERY = 100
A_FOLDER = 1000
# Pictures of the run that is killed and resumed.
KILLED = 2000


def archive(root, images, count):
    """Creates `count` pictures below `root`, a thousand per folder, from the bytes of `images`."""
    sources = root / "sources"
    sources.mkdir()
    for number, image in enumerate(images):
        shutil.copy(image, sources / f"{number}{Path(image).suffix}")
    damaged = sources / "damaged.jpg"
    damaged.write_bytes(Path(images[0]).read_bytes()[:300])
    originals = sorted(sources.glob("[0-9]*"))
    pictures = root / "pictures"
    for number in range(count):
        folder = pictures / f"{number // A_FOLDER:04}"
        if number % A_FOLDER == 0:
            folder.mkdir(parents=True)
        source = damaged if number % DAMAGED_EVERY == DAMAGED_EVERY - 1 else originals[number % len(originals)]
        os.symlink(source, folder / f"{number:06}{source.suffix}") if count > 60_000 else os.link(source, folder / f"{number:06}{source.suffix}")
    return pictures


def command(args, inputs, output):
    failures = Path(output).with_suffix(".failures.jsonl")
    return [args.binary, "extract", *map(str, inputs), "-o", str(output), "--failures", str(failures), "--resume", *args.flag]


def status(process):
    """Resident memory in MiB and processor seconds so far; None if the process has ended."""
    try:
        memory = Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1].split()[0]
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return int(memory) / 1024, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def size(path):
    try:
        return path.stat().st_size
    except OSError:
        return 0


def whole(args, pictures, root):
    """One run over the whole archive."""
    output = root / "faces.parquet"
    journal = Path(f"{output}.partial/records.jsonl")
    started, seen, cpu = time.perf_counter(), [], 0.0
    with subprocess.Popen(command(args, [pictures], output), stderr=subprocess.PIPE, text=True, env=environment()) as process:
        while process.poll() is None:
            found = status(process)
            if found:
                cpu = found[1]
                seen.append((size(journal), found[0]))
            time.sleep(0.1)
        said = process.stderr.read()
    seconds = time.perf_counter() - started
    if process.returncode not in (0, 1) or not output.is_file():
        sys.exit(f"the run failed:\n{said}")
    written = max(length for length, _ in seen)
    highest = lambda low, high: max((mib for length, mib in seen if low * written <= length <= high * written), default=0.0)
    failures = len(output.with_suffix(".failures.jsonl").read_text().splitlines())
    return seconds, cpu / seconds, highest(0.1, 0.3), highest(0.8, 1.0), failures, size(output), said.strip().splitlines()[-2:]


def environment():
    keep = ("PATH", "HOME", "LD_LIBRARY_PATH")
    return {name: os.environ[name] for name in keep if name in os.environ}


def records(path):
    """All records in order, without the fields that differ between runs."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        line.pop("took_ms", None)
    return lines


def killed(args, pictures, root):
    """Compares a run that is killed repeatedly with one that is not."""
    inputs = sorted(pictures.iterdir())[: -(-args.killed_pictures // A_FOLDER)]
    count = sum(len(list(folder.iterdir())) for folder in inputs)
    straight, broken = root / "straight.jsonl", root / "broken.jsonl"
    started = time.perf_counter()
    subprocess.run(command(args, inputs, straight), stderr=subprocess.DEVNULL, env=environment())
    alone = time.perf_counter() - started
    chance, kills = random.Random(7), 0
    expected = max(size(straight), 1)
    while kills < args.kills:
        goal = expected * (kills + chance.random()) / args.kills
        with subprocess.Popen(command(args, inputs, broken), stderr=subprocess.DEVNULL, env=environment()) as process:
            journal = Path(f"{broken}.partial/records.jsonl")
            while process.poll() is None and size(journal) < goal:
                time.sleep(0.005)
            if process.poll() is not None:
                break
            process.kill()
        kills += 1
    subprocess.run(command(args, inputs, broken), stderr=subprocess.DEVNULL, env=environment())
    results = {}
    for name, path in (("straight", straight), ("broken", broken)):
        found = records(path) + records(path.with_suffix(".failures.jsonl"))
        results[name] = {}
        for record in found:
            results[name].setdefault(record["path"], []).append(record)
    lost = sum(1 for path in results["straight"] if path not in results["broken"])
    repeated = sum(len(found) - 1 for found in results["broken"].values())
    different = sum(1 for path, found in results["straight"].items() if results["broken"].get(path, [None])[0] != found[0])
    return count, kills, lost, repeated, different - lost, alone


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=os.path.abspath)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--image", action="append", type=os.path.abspath, help="picture of the archive; can be repeated")
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--killed-pictures", type=int, default=KILLED, help="pictures of the run that is killed, in thousands")
    parser.add_argument("--flag", action="append", default=[], help="flag of ifr extract, such as --flag=--max-size=320,320")
    parser.add_argument("--directory", help="directory of the archive; default: the temporary directory")
    parser.add_argument("--no-write", action="store_true", help="do not change docs/performance.md")
    args = parser.parse_args()
    images = args.image or [ROOT / "assets/astronaut.jpg"]

    with tempfile.TemporaryDirectory(dir=args.directory, prefix="ifr-bulk-") as directory:
        root = Path(directory)
        pictures = archive(root, images, args.pictures)
        seconds, busy, early, late, failures, length, said = whole(args, pictures, root)
        print("\n".join(said), flush=True)
        count, kills, lost, repeated, different, alone = killed(args, pictures, root)
    cores, damaged = os.cpu_count(), args.pictures // DAMAGED_EVERY
    # A short run has too few samples of the memory.
    long = args.pictures >= 1000
    rows = [
        ("pictures", f"{args.pictures:,}", "", True),
        ("of these damaged, in the file of failures", f"{failures:,}", f"{damaged:,}", failures == damaged),
        ("time", f"{seconds:.1f} s", "", True),
        ("pictures per second", f"{args.pictures / seconds:.1f}", "", True),
        ("cores busy", f"{busy:.2f} of {cores}", f"at least {0.85 * cores:.2f}" if long else "", not long or busy >= 0.85 * cores),
        ("resident after a fifth", f"{early:.1f} MiB", "", True),
        ("resident at the end", f"{late:.1f} MiB ({late / early - 1:+.1%})" if early else "not known", "at most 5 % more" if long else "",
         not long or late <= early * 1.05),
        ("Parquet file", f"{length / 2**20:.1f} MiB", "", True),
        ("pictures of a run that was killed and resumed", f"{count:,}", "", True),
        ("kills", kills, "", True),
        ("pictures lost", lost, "0", lost == 0),
        ("duplicated pictures", repeated, "0", repeated == 0),
        ("records that differ from a run without kills", different, "0", different == 0),
    ]
    names = ", ".join(Path(image).name for image in images)
    text = f"""## Bulk

{page.origin("bulk")}
`ifr extract DIRECTORY -o faces.parquet --failures failures.jsonl --resume{''.join(' ' + flag for flag in args.flag)}` with the built-in models;
the pictures are made of {names}. Memory is the maximum between 10 % and 30 % of the run, and in the last fifth, including the creation of
the Parquet file.

{table(("figure", "measured", "wanted"), [page.judged(*row) for row in rows])}"""
    print(text)
    if not args.no_write:
        page.write("bulk", text)
    sys.exit(0 if all(good for *_, good in rows) else 1)


if __name__ == "__main__":
    main()
