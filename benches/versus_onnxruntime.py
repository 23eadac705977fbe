#!/usr/bin/env python3
"""Compares the engine with ONNX Runtime, network by network, and writes the section "Engine" of docs/performance.md.

    pip install onnxruntime onnx numpy
    benches/versus_onnxruntime.py                  # all networks that are found; writes the section "Engine"
    benches/versus_onnxruntime.py --only iresnet --threads 1 --rounds 5 --no-write

Both programs load the network and then alternate: a few runs of one, a few runs of the other. The result of a turn is
its fastest run, because other processes may use the machine. The ratio is the median over the turns of ONNX Runtime's
time divided by the time of ifr. ONNX Runtime runs with all graph optimizations and with denormals flushed. Loading is
measured twice: in a new process, and again in the same process.

Models: models/onnx of this repository, onnx/NAME/NAME.onnx in --models (default ../shared/models), and networks with
random weights from --architectures (default ../shared/tools/make_arch.py), which are written once to the temporary
directory.
"""
import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import page
from page import ROOT, table

# Name, shape, minimum ratio on one thread, target ratio.
NETWORKS = [
    ("scrfd_10g_gn", "1x3x640x640", 1.8, 2.5),
    ("scrfd_10g_bn", "1x3x640x640", 1.8, 2.5),
    ("scrfd_2.5g_gnkps", "1x3x640x640", 1.6, 2.3),
    ("scrfd_500m_bnkps", "1x3x640x640", 1.6, 2.3),
    ("centerface", "1x3x640x640", 1.6, 2.3),
    ("iresnet50", "1x3x112x112", 1.7, 2.1),
    ("iresnet100", "1x3x112x112", 1.7, 2.1),
    ("mobilefacenet", "1x3x112x112", 1.8, 2.5),
    ("genderage_v1", "1x3x112x112", 1.2, 2.0),
    ("retinaface_mnet025_v1", "1x3x640x640", 1.2, 2.0),
    ("mnet_cov2", "1x3x640x640", 1.2, 2.0),
    ("yolov5n-0.5", "1x3x640x640", 1.2, 2.0),
    ("iresnet50", "8x3x112x112", 1.5, None),
    ("iresnet100", "8x3x112x112", 1.5, None),
]
GENERATED = ("scrfd_10g_gn", "scrfd_10g_bn", "iresnet50", "iresnet100")


def find(name, args):
    """The model file, or None."""
    for path in (ROOT / "models/onnx" / name / f"{name}.onnx", args.models / "onnx" / name / f"{name}.onnx"):
        if path.is_file():
            return path
    if name in GENERATED and args.architectures.is_file():
        path = Path(tempfile.gettempdir()) / f"{name}.onnx"
        if not path.is_file():
            subprocess.run([sys.executable, args.architectures, name, path], check=True)
        return path
    return None


def with_shape(path, shape):
    """Path of the model with `shape` as its input shape, which ONNX Runtime needs for graphs of fixed shape."""
    model = onnx.load(path)
    constants = {i.name for i in model.graph.initializer}
    image = next(i for i in model.graph.input if i.name not in constants)
    old = [d.dim_value for d in image.type.tensor_type.shape.dim]
    for dim, size in zip(image.type.tensor_type.shape.dim, shape):
        dim.Clear()
        dim.dim_value = size
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    if old == list(shape):
        return str(path)
    changed = Path(tempfile.mkdtemp()) / path.name
    onnx.save(model, changed)
    return str(changed)


def create_session(file, threads):
    """Creates a session. Returns the session and the time in milliseconds."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    options.log_severity_level = 3
    start = time.perf_counter()
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return session, (time.perf_counter() - start) * 1e3


def first_session(file, threads):
    """Milliseconds to create the first session of a process."""
    return create_session(file, threads)[1]


class OnnxRuntime:
    def __init__(self, path, shape, threads):
        self.file, self.threads = with_shape(path, shape), threads
        self.session, _ = create_session(self.file, threads)
        self.name = self.session.get_inputs()[0].name
        self.input = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
        self.session.run(None, {self.name: self.input})

    def load(self):
        return create_session(self.file, self.threads)[1]

    def run(self, count):
        times = []
        for _ in range(count):
            start = time.perf_counter()
            self.session.run(None, {self.name: self.input})
            times.append((time.perf_counter() - start) * 1e3)
        return times


class Engine:
    def __init__(self, path, shape, threads, isa=None):
        environment = dict(os.environ, **({"IFR_ISA": isa} if isa else {}))
        program = ROOT / "target/release/examples/engine_bench"
        command = [program, path, "x".join(map(str, shape)), str(threads)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        self.ready = json.loads(self.process.stdout.readline())

    def ask(self, line):
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, count):
        return self.ask(count)["ms"]

    def load(self):
        return self.ask("load")["ms"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(path, shape, threads, args, isa=None):
    theirs, ours = OnnxRuntime(path, shape, threads), Engine(path, shape, threads, isa)
    once = min(theirs.run(3))
    count = max(3, min(50, round(args.turn * 1e3 / once)))
    turns = []
    for _ in range(args.rounds):
        turns.append((min(theirs.run(count)), min(ours.run(count))))
    result = {
        "ratio": statistics.median(t / o for t, o in turns),
        "theirs": min(t for t, _ in turns),
        "ours": min(o for _, o in turns),
        "peak_mb": (ours.ready["peak_kb"] or 0) / 1024,
        "explain": ours.ask("explain"),
    }
    ours.close()
    return result


def measure_loading(path, shape, args):
    """Milliseconds to load the network on one thread with ONNX Runtime and ifr: in a new process, and again in it."""
    theirs, ours = OnnxRuntime(path, shape, 1), Engine(path, shape, 1)
    first, again = [], []
    for _ in range(args.rounds):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            first_of_theirs = fresh.submit(first_session, theirs.file, 1).result()
        once = Engine(path, shape, 1)
        once.close()
        first.append((first_of_theirs, once.ready["prepare_ms"]))
        again.append((theirs.load(), ours.load()))
    ours.close()
    return [[statistics.median(times) for times in zip(*pairs)] for pairs in (first, again)]


def write_layers(directory, name, shape, explain):
    """Writes the table of a network's layers to a file of its own."""
    rows = [
        (
            l["op"], l["algorithm"], l["runs_on"], "x".join(map(str, l["output"])), f"{l['milliseconds']:.3f}",
            f"{l['gflops']:.0f}" if l["gflops"] else "", f"{l['share_of_peak']:.0%}" if l["gflops"] else "",
        )
        for l in explain["layers"]
    ]
    head = ("layer", "algorithm", "runs on", "output", "ms", "GFLOP/s", "of peak")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}-{shape}.md").write_text(f"""# {name} {shape}: {explain['total_milliseconds']:.2f} ms in {len(rows)} steps

One thread. GFLOP/s count the multiplications and additions of a direct convolution, so Winograd's algorithm may exceed
the peak.

{table(head, rows)}""")


# Multiplications of a direct convolution divided by those of Winograd's algorithm.
SAVED = {"winograd f2x2": 36 / 16, "winograd f3x3": 81 / 25, "winograd f4x4": 144 / 36}


def at_peak(explain):
    """Milliseconds of all multiplications of the network at peak speed."""
    total = 0
    for layer in explain["layers"]:
        saved = next((s for name, s in SAVED.items() if layer["algorithm"].startswith(name)), 1)
        total += layer["gflops"] * layer["milliseconds"] / saved
    return total / explain["peak_gflops"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=ROOT.parent / "shared/models")
    parser.add_argument("--architectures", type=Path, default=ROOT.parent / "shared/tools/make_arch.py")
    parser.add_argument("--only", default="", help="measure only networks whose name contains this")
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=11, help="number of turns of each program")
    parser.add_argument("--turn", type=float, default=0.25, help="seconds of a turn")
    parser.add_argument("--layers", type=Path, metavar="DIR", help="write a table of each network's layers to DIR")
    parser.add_argument("--no-avx2", action="store_true", help="skip the comparison on AVX2")
    parser.add_argument("--no-build", action="store_true", help="do not build engine_bench")
    parser.add_argument("--no-write", action="store_true", help="do not change docs/performance.md")
    args = parser.parse_args()
    if not args.no_build:
        subprocess.run(["cargo", "build", "--release", "-p", "ifr-engine", "--example", "engine_bench"], cwd=ROOT, check=True)

    main_rows, load_rows, avx2_rows, scaling = [], [], [], {}
    for name, text, floor, aim in NETWORKS:
        path = find(name, args)
        if args.only not in name:
            continue
        if path is None:
            print(f"{name}: file not found, skipped", flush=True)
            continue
        shape = [int(s) for s in text.split("x")]
        for threads in args.threads:
            result = measure(path, shape, threads, args)
            least = floor if threads == 1 or shape[0] > 1 else 1.3
            verdict = "" if result["ratio"] >= least else " (below)"
            scaling[(name, text, threads)] = result["ours"]
            faster = scaling.get((name, text, 1), 0) / result["ours"] if threads > 1 else None
            main_rows.append((
                name, text, threads, f"{result['theirs']:.2f}", f"{result['ours']:.2f}", f"**{result['ratio']:.2f}**{verdict}",
                least, f"{faster:.2f}" if faster else "",
            ))
            print(f"{name:24} {text:12} {threads} thread(s): ORT {result['theirs']:8.2f} ms, ours {result['ours']:8.2f} ms, "
                  f"ratio {result['ratio']:.2f} (at least {least}){verdict}", flush=True)
            if threads == 1:
                if args.layers:
                    write_layers(args.layers, name, text, result["explain"])
                if shape[0] == 1:
                    size = path.stat().st_size / 2**20
                    first, again = measure_loading(path, shape, args)
                    load_rows.append((
                        name, f"{size:.1f}", *(f"{ms:.1f}" for ms in first + again),
                        f"{result['peak_mb']:.0f}", f"{result['peak_mb'] / size:.2f}",
                    ))
                    print(f"{'':24} loading: ORT {first[0]:.1f} ms, ours {first[1]:.1f} ms; again {again[0]:.1f} ms, {again[1]:.1f} ms; "
                          f"peak {result['peak_mb']:.0f} MB for a file of {size:.0f} MB", flush=True)
        if not args.no_avx2 and shape[0] == 1 and 1 in args.threads:
            result = measure(path, shape, 1, args, "avx2")
            floor = at_peak(result["explain"])
            verdict = "" if result["ratio"] >= 1 else " (below)" if floor < result["theirs"] else " (out of reach)"
            avx2_rows.append((
                name, text, f"{result['theirs']:.2f}", f"{result['ours']:.2f}", f"**{result['ratio']:.2f}**{verdict}", f"{floor:.2f}",
            ))
            print(f"{'':24} IFR_ISA=avx2: ours {result['ours']:.2f} ms, ratio {result['ratio']:.2f} (at least 1.0)", flush=True)

    if args.no_write or args.only:
        return
    versions = subprocess.run(["rustc", "--version"], capture_output=True, text=True).stdout.strip()
    page.write("engine", f"""## Engine

{page.origin("engine")} ONNX Runtime {ort.__version__}, {versions}.
Both programs take turns. Times are the fastest run in milliseconds. The ratio is the median of ONNX Runtime's time
divided by the time of ifr over {args.rounds} turns: above 1, ifr is faster. Networks named iresnet and scrfd_10g have
the published architecture and random weights.

{table(("network", "input", "threads", "ONNX Runtime", "ifr", "ratio", "at least", "speed-up over 1 thread"), main_rows)}
### On AVX2 only

`IFR_ISA=avx2` compared with the default choice of ONNX Runtime, one thread. The last column is the minimum time of the
multiplications on AVX2 units. If ONNX Runtime with AVX-512 is faster than that, a ratio of 1 is out of reach.

{table(("network", "input", "ONNX Runtime", "ifr", "ratio", "multiplications at peak"), avx2_rows)}
### Loading

Time from the file to a runnable network (ONNX Runtime: creation of a session) in milliseconds on one thread, median of
{args.rounds} loads. "again" is a second load in the same process, whose memory is allocated already. The peak is the
memory of the whole process.

{table(("network", "file, MB", "ONNX Runtime", "ifr", "again: ONNX Runtime", "again: ifr", "peak, MB", "peak / file"), load_rows)}
### Layers

`benches/versus_onnxruntime.py --layers DIR` writes a table of the layers of each network to `DIR`: algorithm,
instruction set, time and share of the peak. `ifr bench --explain --model NAME` prints the same for one network.
""")


if __name__ == "__main__":
    main()
