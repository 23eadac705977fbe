"""docs/performance.md: a page of sections. Each section is written by one script, which leaves the other sections
unchanged."""
import os
import platform
import re
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/performance.md"
# The sections in the order of a new page, and the script of each.
SECTIONS = {
    "engine": "benches/versus_onnxruntime.py",
    "stages": "benches/stages.py",
    "start": "benches/start.py",
    "load": "benches/load.py",
    "memory": "benches/soak.py",
    "bulk": "benches/bulk.py",
}
HEADING = "# Performance\n\nScripts in `benches/` measure and write every figure of this page.\n"


def markers(section):
    """The comments before and after a section."""
    return f"<!-- {section}: written by {SECTIONS[section]} -->", f"<!-- end of {section} -->"


def replace(page, section, text):
    """Returns `page` with `text` as its section, appended if the section is missing."""
    begin, end = markers(section)
    if page.count(begin) != page.count(end) or page.count(begin) > 1 or page.find(end) < page.find(begin):
        raise SystemExit(f"{PAGE.name}: '{begin}' and '{end}' must occur once each, in this order")
    if begin not in page:
        page = f"{page.rstrip()}\n\n{begin}\n{end}\n"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{rest.split(end)[1]}"


def write(section, text):
    """Writes one section. Creates the page if it is missing."""
    if PAGE.is_file():
        page = PAGE.read_text()
    else:
        page = "\n".join([HEADING] + ["\n".join(markers(name)) + "\n" for name in SECTIONS])
    PAGE.write_text(replace(page, section, text))
    print(f"wrote the section '{section}' of {PAGE.relative_to(ROOT)}")


def table(header, rows):
    """A Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(str(c) for c in row) + " |" for row in rows]) + "\n"


def judged(name, measured, wanted, good):
    """A row of a table of figures, marked if the target is missed."""
    return name, measured, f"{wanted}{'' if good else ' (missed)'}"


def machine():
    """Processor, cores and instruction sets of this machine."""
    model = platform.processor()
    flags = ""
    try:
        text = Path("/proc/cpuinfo").read_text()
        model = re.search(r"model name\s*: (.*)", text).group(1)
        flags = re.search(r"flags\s*: (.*)", text).group(1)
    except (OSError, AttributeError):
        pass
    sets = [s for s in ("avx2", "fma", "avx512f", "avx512bw") if s in flags.split()]
    return f"{model}, {os.cpu_count()} cores, {' '.join(sets)}"


def origin(section):
    """The sentence that names the script, the date and the machine of a section."""
    return f"Written by `{SECTIONS[section]}` on {time.strftime('%Y-%m-%d')}. Machine: {machine()}."
