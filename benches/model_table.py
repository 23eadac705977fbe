#!/usr/bin/env python3
"""Write the last column of the tables in README.md and docs/models.md: milliseconds on one thread, measured by `ifr bench`.

    benches/model_table.py target/release/ifr MODELS_DIR [ARCHITECTURES]

ARCHITECTURES is a directory of ONNX files with a published network's layers and made-up weights, named as the network is; their times
are those of the network. Rows of networks that are in neither place are left as they are. Needs nothing but Python.
"""
import json
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "docs" / "models.md"]


def milliseconds(ifr, environment, model):
    command = [ifr, "bench", "--json", "--threads", "1", "--seconds", "2", "--model", model]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output)["min_ms"]


def main():
    ifr, models, *rest = sys.argv[1:]
    environment = dict(os.environ, MODELS_DIR=models)
    listed = subprocess.run([ifr, "models", "list", "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    here = {m["name"] for m in map(json.loads, listed.stdout.splitlines()) if m["state"] in ("installed", "embedded")}
    times = {}
    for document in DOCUMENTS:
        lines = []
        for line in document.read_text().splitlines():
            row = re.match(r"\| `([^`]+)` \|.*\|$", line)
            name = row and row.group(1)
            if name and name not in times:
                architecture = next((p for d in rest for p in [pathlib.Path(d) / f"{name}.onnx"] if p.is_file()), None)
                model = name if name in here else architecture
                if model:
                    measured = milliseconds(ifr, environment, str(model))
                    times[name] = f"{measured:.2g}" if measured < 10 else f"{measured:.0f}"
                    print(f"{name}: {times[name]} ms", flush=True)
            if name in times:
                line = re.sub(r"[^|]*\|$", f" {times[name]} |", line)
            lines.append(line)
        document.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
