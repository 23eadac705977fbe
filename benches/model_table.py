#!/usr/bin/env python3
"""Write the last column of the tables in docs/models.md: milliseconds on one thread, measured by `ifr bench`.

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

DOCUMENT = pathlib.Path(__file__).resolve().parent.parent / "docs" / "models.md"


def milliseconds(ifr, environment, model):
    command = [ifr, "bench", "--json", "--threads", "1", "--seconds", "2", "--model", model]
    output = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output)["min_ms"]


def main():
    ifr, models, *rest = sys.argv[1:]
    environment = dict(os.environ, MODELS_DIR=models)
    listed = subprocess.run([ifr, "models", "list", "--json"], env=environment, stdout=subprocess.PIPE, text=True, check=True)
    here = {m["name"] for m in map(json.loads, listed.stdout.splitlines()) if m["state"] in ("installed", "embedded")}
    lines = []
    for line in DOCUMENT.read_text().splitlines():
        row = re.match(r"\| `([^`]+)` \| `", line)
        if row:
            name = row.group(1)
            architecture = next((p for d in rest for p in [pathlib.Path(d) / f"{name}.onnx"] if p.is_file()), None)
            model = name if name in here else architecture
            if model:
                measured = milliseconds(ifr, environment, str(model))
                shown = f"{measured:.1f}" if measured < 20 else f"{measured:.0f}"
                line = re.sub(r"[^|]*\|$", f" {shown} |", line)
                print(f"{name}: {shown} ms")
        lines.append(line)
    DOCUMENT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
