#!/usr/bin/env python3
"""Writes the section "Stages" of docs/performance.md from `cargo bench --bench stages`: the time and share of each
stage.

    benches/stages.py [FILE]

FILE is the output of an earlier run of the bench; without it the bench is run. Needs only Python and Rust, and an idle
machine.
"""
import re
import subprocess
import sys

import page


def section(printed):
    """The section, from the output of the bench."""
    whole = re.search(r"^share of each stage, of ([\d.]+) ms", printed, re.M)
    rows = re.findall(r"^\| (.+?) \| ([\d.]+) \| ([\d.]+%) \|$", printed, re.M)
    # Criterion breaks the line after a long name.
    crowd = re.findall(r"^((?:proposals over|NMS of) [^\n]*?)\s+time:\s+\[\S+ \S+ (\S+ \S+) ", printed, re.M)
    if not whole or not rows or not crowd:
        raise SystemExit("the bench printed no shares: was it run whole?")
    return "\n".join([
        "## Stages",
        "",
        page.origin("stages"),
        f"A JPEG of 12 megapixels with one face, default models, one thread, {whole[1]} ms in total. A larger picture costs only more decoding.",
        "",
        page.table(["stage", "ms", "share"], rows),
        "Postprocessing of a crowd (lumia.jpg with `scrfd_2.5g_gnkps`), at the usual threshold and at a very low one:",
        "",
        page.table(["step (proposals)", "time"], crowd),
    ])


def main():
    if len(sys.argv) > 1:
        printed = open(sys.argv[1]).read()
    else:
        command = ["cargo", "bench", "--bench", "stages", "--", "--noplot"]
        printed = subprocess.run(command, cwd=page.ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    page.write("stages", section(printed))


if __name__ == "__main__":
    main()
