#!/usr/bin/env python3
"""Writes two columns of the tables in README.md and docs/models.md: sizes, and milliseconds on one thread from `ifr
bench`.

    benches/model_table.py [--sizes] target/release/ifr MODELS_DIR [ARCHITECTURES]

ARCHITECTURES is a directory of ONNX files with the layers of published networks and random weights, named like the
networks (make_arch.py of the test data writes them: iresnet100 for glintr100, scrfd_10g_gn for scrfd_10g_gnkps, ...).
Their times, and without a better source their sizes, are used for these networks. A size is that of the manifest,
otherwise of the file. Cells without data stay unchanged. With --sizes nothing is measured. Needs only Python.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "models.md"]


def milliseconds(ifr, environment, model):
    command = [ifr, "bench", "--json", "--threads", "1", "--seconds", "2", "--model", model]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output)["min_ms"]


def listed(ifr, environment):
    output = subprocess.run([ifr, "models", "list", "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return {model["name"]: model for model in map(json.loads, output.splitlines())}


def main():
    only_sizes = "--sizes" in sys.argv
    ifr, models, *rest = [a for a in sys.argv[1:] if a != "--sizes"]
    environment = dict(os.environ, MODELS_DIR=models)
    with tempfile.TemporaryDirectory() as nothing:
        published = listed(ifr, dict(os.environ, MODELS_DIR=nothing))
    known = listed(ifr, environment)
    here = {name for name, model in known.items() if model["state"] in ("installed", "embedded")}
    times, sizes = {}, {}
    for document in DOCUMENTS:
        lines = []
        for line in document.read_text().splitlines():
            row = re.match(r"\| `([^`]+)` \|.*\|$", line)
            name = row and row.group(1)
            if name and name not in sizes:
                architecture = next((p for d in rest for p in [pathlib.Path(d) / f"{name}.onnx"] if p.is_file()), None)
                model = name if name in here else architecture
                sizes[name] = published.get(name, {}).get("size") or known.get(name, {}).get("size") or (
                    architecture and architecture.stat().st_size)
                if model and not only_sizes:
                    measured = milliseconds(ifr, environment, str(model))
                    times[name] = f"{measured:.2g}" if measured < 10 else f"{measured:.0f}"
                    print(f"{name}: {times[name]} ms", flush=True)
            if sizes.get(name):
                cells = line.split("|")
                cells[4] = f" {sizes[name] / 1e6:.1f} MB "
                line = "|".join(cells)
            if name in times:
                line = re.sub(r"[^|]*\|$", f" {times[name]} |", line)
            lines.append(line)
        document.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
