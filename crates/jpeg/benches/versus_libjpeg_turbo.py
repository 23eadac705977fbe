"""Times of decoding to RGB, beside libjpeg-turbo's: versus_libjpeg_turbo.py DECODE_TIME FILE...

DECODE_TIME is the crate's example of this name, built with `cargo build --release -p ifr-jpeg --examples`. Both run
on one thread, in turns; the least time of all turns counts. Needs PyTurboJPEG (below 2) with libturbojpeg 2.1.
"""

import os
import subprocess
import sys
import time

import turbojpeg

TURNS, RUNS = 8, 5


def libjpeg_turbo(jpeg, file, pixels):
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        jpeg.decode(file, pixel_format=turbojpeg.TJPF_RGB, dst=pixels)
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def main():
    program, *paths = sys.argv[1:]
    jpeg = turbojpeg.TurboJPEG()
    print("file, libjpeg-turbo ms, then ms and ratio of each form")
    for path in paths:
        with open(path, "rb") as opened:
            file = opened.read()
        pixels = jpeg.decode(file, pixel_format=turbojpeg.TJPF_RGB)
        theirs, ours = float("inf"), {}
        for _ in range(TURNS):
            theirs = min(theirs, libjpeg_turbo(jpeg, file, pixels))
            run = subprocess.run([program, path, str(RUNS)], stdout=subprocess.PIPE, check=True, text=True,
                                 env={**os.environ, "RAYON_NUM_THREADS": "1"})
            for line in run.stdout.splitlines():
                form, ms = line.split()
                ours[form] = min(ours.get(form, float("inf")), float(ms))
        forms = (f"{form} {ms:.1f} ({ms / theirs:.2f})" for form, ms in ours.items())
        print(path, f"{theirs:.1f}", *forms, sep="  ", flush=True)


if __name__ == "__main__":
    main()
