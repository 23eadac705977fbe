"""Files of every kind, and what libjpeg-turbo makes of them; read by tests/libjpeg_turbo.rs.

    reference.py MUTANTS SEED [FILE...]

Writes to standard output for each file: a line `GROUP NAME STATUS CHANNELS FILE_LENGTH PIXELS_LENGTH`, the file and
the pixels. STATUS is `clean`, `warned` or `failed`. Needs PyTurboJPEG (below 2) with libturbojpeg 2.1, and the
programs cjpeg, djpeg and jpegtran of the same release.
"""

import random
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import turbojpeg

SAMPLINGS = ["1x1", "2x1", "1x2", "2x2", "4x1", "1x4", "4x2", "2x4", "2x2,2x1,2x1", "2x2,1x2,1x2", "2x2,1x2,2x1",
             "1x1,2x2,2x2", "1x2,1x1,1x2", "4x1,2x1,1x1", "1x1,1x1,2x1", "3x1", "1x3", "3x2,1x1,1x1", "2x1,2x2,2x1"]
CMYK_SAMPLINGS = ["1x1", "2x2,1x1,1x1,2x2", "2x1,1x1,1x1,2x1"]


def picture(width, height, seed, channels=3):
    """A gradient, disks with hard edges, and noise in a part."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = [128 + 100 * np.sin(x / rng.uniform(5, 40) + i) * np.cos(y / rng.uniform(5, 40)) for i in range(channels)]
    image = np.stack(planes, -1)
    for _ in range(6):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(1, 1 + max(width, height) / 4)
        image[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(0, 255, channels)
    image[:, width // 2:] += rng.normal(0, 25, image[:, width // 2:].shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def cjpeg(image, *options):
    kind = b"P6" if image.ndim == 3 else b"P5"
    data = kind + b"\n%d %d\n255\n" % (image.shape[1], image.shape[0]) + image.tobytes()
    run = subprocess.run(["cjpeg", *options], input=data, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=True)
    return run.stdout


def jpegtran(file, *options):
    return subprocess.run(["jpegtran", *options], input=file, stdout=subprocess.PIPE, check=True).stdout


def segments(file):
    """Marker, offset and length of each segment up to the first scan."""
    at = 2
    while True:
        length = int.from_bytes(file[at + 2:at + 4], "big") + 2
        yield file[at + 1], at, length
        if file[at + 1] == 0xDA:
            return
        at += length


def without(file, unwanted):
    """The file without segments of one marker."""
    out, end = file[:2], 0
    for marker, at, length in segments(file):
        if marker != unwanted:
            out += file[at:at + length]
        end = at + length
    return out + file[end:]


def with_ids(file, ids):
    """The file with other component identifiers, in frame and first scan."""
    file = bytearray(file)
    for marker, at, _ in segments(bytes(file)):
        if marker in (0xC0, 0xC1, 0xC2):
            for i, name in enumerate(ids):
                file[at + 10 + 3 * i] = name
        if marker == 0xDA:
            for i, name in enumerate(ids):
                file[at + 5 + 2 * i] = name
    return bytes(file)


def adobe(transform):
    return b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform])




def with_quant(file, value, bits):
    """The file with one value in all quantization tables, of 8 or 16 bits: coefficients that no encoder writes."""
    out, end = file[:2], 0
    for marker, at, length in segments(file):
        if marker == 0xDB:
            slot = file[at + 4]
            table = bytes([slot | (bits == 16) << 4]) + value.to_bytes(bits // 8, "big") * 64
            out += b"\xff\xdb" + (len(table) + 2).to_bytes(2, "big") + table
        else:
            out += file[at:at + length]
        end = at + length
    return out + file[end:]


def scans(file):
    """Offsets of the scans' markers and of the end."""
    found, at = [], 2
    while at < len(file) - 1:
        if file[at] == 0xFF and file[at + 1] in (0xDA, 0xD9):
            found.append(at)
        at += 1
    return found


def without_last_scans(file, kept):
    """A progressive file that ends, with an end marker, after some scans."""
    ends = scans(file)
    end = ends[kept]
    # Tables before the scan that is cut stay, which does no harm.
    return file[:end] + b"\xff\xd9"


def scan_script(directory, name, text):
    path = directory / name
    path.write_text(text)
    return str(path)


def corpus(directory):
    """Names and files of every kind."""
    scripts = {
        "separate": "0;\n1;\n2;\n",
        "mixed": "0 2;\n1;\n",
        "successive": "0 1 2: 0-0, 0, 2;\n0: 1-5, 0, 2;\n2: 1-63, 0, 1;\n1: 1-63, 0, 1;\n0: 6-63, 0, 2;\n0: 1-63, 2, 1;\n"
                      "0 1 2: 0-0, 2, 1;\n0 1 2: 0-0, 1, 0;\n2: 1-63, 1, 0;\n1: 1-63, 1, 0;\n0: 1-63, 1, 0;\n",
    }
    scripts = {name: scan_script(directory, name + ".scans", text) for name, text in scripts.items()}
    for side in range(1, 36):
        other = 1 + side * 7 % 35
        for sampling in SAMPLINGS[:8] if side % 3 else SAMPLINGS:
            options = ["-quality", str(50 + side), "-sample", sampling]
            for variant in ([], ["-progressive"], ["-restart", "1B", "-optimize"])[side % 2::2] if side > 4 else ([], ["-progressive"]):
                name = f"{side}x{other}-{sampling}{''.join(variant)}"
                yield name, cjpeg(picture(side, other, side), *options, *variant)
    for width, height in [(227, 149), (128, 96), (33, 257)]:
        image = picture(width, height, width)
        size = f"{width}x{height}"
        for sampling in SAMPLINGS:
            for quality in ["20", "75", "90", "100"]:
                yield f"{size}-{sampling}-q{quality}", cjpeg(image, "-sample", sampling, "-quality", quality)
            for variant in (["-progressive"], ["-restart", "1"], ["-restart", "3B"], ["-restart", "2", "-progressive"],
                            ["-optimize"], ["-scans", scripts["separate"]], ["-scans", scripts["mixed"]],
                            ["-scans", scripts["successive"]], ["-scans", scripts["separate"], "-restart", "1"]):
                name = f"{size}-{sampling}" + "".join(v.split("/")[-1] for v in variant)
                yield name, cjpeg(image, "-sample", sampling, "-quality", "85", *variant)
        for variant in ([], ["-progressive"], ["-restart", "5B"], ["-optimize"]):
            yield f"{size}-gray{''.join(variant)}", cjpeg(image[:, :, 0], *variant)
            yield f"{size}-gray2{''.join(variant)}", cjpeg(image, "-grayscale", "-sample", "2x2", *variant)
            yield f"{size}-rgb{''.join(variant)}", cjpeg(image, "-rgb", *variant)
            yield f"{size}-rgb2{''.join(variant)}", cjpeg(image, "-rgb", "-sample", "2x2,1x1,1x1", *variant)
        plain = cjpeg(image, "-sample", "2x2")
        for value, bits in [(0, 8), (255, 8), (3, 16), (1000, 16), (9000, 16), (40_000, 16), (65_535, 16)]:
            yield f"{size}-quant{value}", with_quant(plain, value, bits)
            yield f"{size}-quant{value}-progressive", with_quant(cjpeg(image, "-progressive"), value, bits)
        yield f"{size}-no-dht", without(plain, 0xC4)
        yield f"{size}-no-jfif", without(plain, 0xE0)
        yield f"{size}-ids-rgb", with_ids(without(plain, 0xE0), b"RGB")
        yield f"{size}-ids-rgb-jfif", with_ids(plain, b"RGB")
        yield f"{size}-ids-zero", with_ids(without(plain, 0xE0), bytes(3))
        yield f"{size}-ids-other", with_ids(without(plain, 0xE0), b"abc")
        bare = without(plain, 0xE0)
        for transform in (0, 1):
            yield f"{size}-adobe{transform}", bare[:2] + adobe(transform) + bare[2:]
            yield f"{size}-adobe{transform}-jfif", plain[:2] + adobe(transform) + plain[2:]
        yield f"{size}-comment-after-sof", jpegtran(plain, "-copy", "all")
        yield f"{size}-no-eoi", plain[:-2]
        yield f"{size}-fill-bytes", plain[:2] + b"\xff\xff\xff" + plain[2:]
        yield f"{size}-trailing", plain + b"garbage\xff\xd8\xff\xda"
        yield f"{size}-transcoded", jpegtran(plain, "-progressive")
        progressive = cjpeg(image, "-progressive", "-quality", "85")
        for kept in range(1, len(scans(progressive)) - 1):
            yield f"{size}-first-{kept}-scans", without_last_scans(progressive, kept)
        successive = cjpeg(image, "-scans", scripts["successive"], "-sample", "2x2")
        for kept in range(1, len(scans(successive)) - 1):
            yield f"{size}-successive-first-{kept}-scans", without_last_scans(successive, kept)
        for colorspace in ("cmyk", "ycck"):
            for sampling in (turbojpeg.TJSAMP_444, turbojpeg.TJSAMP_420, turbojpeg.TJSAMP_422):
                yield f"{size}-{colorspace}-{sampling}", cmyk_file(image, colorspace, sampling)


def cmyk_file(image, colorspace, sampling):
    """A file of four components; libjpeg-turbo writes YCCK with subsampling and with an Adobe marker."""
    inks = np.dstack([255 - image, image.min(-1)])
    file = ENCODER.encode(inks, quality=85, pixel_format=turbojpeg.TJPF_CMYK, jpeg_subsample=sampling)
    if colorspace == "cmyk":
        # The same components without the marker that says YCCK.
        file = without(file, 0xEE)
    return file


def mutants(files, count, seed):
    """Files with some bytes changed, removed or repeated, or cut off."""
    rng = random.Random(seed)
    files = [f for f in files if 1500 < len(f[1]) < 40_000]
    for number in range(count):
        name, file = files[rng.randrange(len(files))]
        file = bytearray(file)
        kind = rng.randrange(6)
        scan_at = file.find(b"\xff\xda")
        if kind == 0:
            del file[rng.randrange(2, len(file)):]
        elif kind == 1:
            at = rng.randrange(2, len(file))
            del file[at:at + rng.randrange(1, 20)]
        elif kind == 2:
            at = rng.randrange(2, len(file))
            file[at:at] = file[at:at + rng.randrange(1, 20)]
        else:
            start = 2 if kind == 3 or rng.randrange(8) == 0 else scan_at
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(start, len(file))
                file[at] = rng.randrange(256) if rng.randrange(2) else file[at] ^ 1 << rng.randrange(8)
        yield f"mutant{number}-{kind}-{name}", bytes(file)


ENCODER = turbojpeg.TurboJPEG()


def djpeg(file):
    return subprocess.run(["djpeg", "-pnm", "-rgb"], input=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def reference(file):
    """(pixels or None, channels, clean): what libjpeg-turbo makes of a file."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for pixel_format, channels in ((turbojpeg.TJPF_RGB, 3), (turbojpeg.TJPF_CMYK, 4)):
            try:
                pixels = ENCODER.decode(file, pixel_format=pixel_format)
                if caught and djpeg(file).returncode == 1:
                    # An error after a warning, which TurboJPEG reports as a warning.
                    return None, channels, False
                return pixels.tobytes(), channels, not caught
            except OSError as error:
                if "Unsupported color conversion" not in str(error):
                    break
    # TurboJPEG names some subsamplings only and refuses others, which libjpeg decodes.
    run = djpeg(file)
    if run.returncode == 1 or run.stdout[:2] != b"P6":
        return None, 3, False
    return run.stdout.split(b"\n", 3)[3], 3, run.returncode == 0


def main():
    count, seed = int(sys.argv[1]), int(sys.argv[2])
    with tempfile.TemporaryDirectory() as directory:
        files = list(corpus(Path(directory)))
    groups = [("made", files), ("mutant", list(mutants(files, count, seed))),
              ("given", [(Path(p).name, Path(p).read_bytes()) for p in sys.argv[3:]])]
    for group, members in groups:
        for name, file in members:
            pixels, channels, clean = reference(file)
            status = "failed" if pixels is None else "clean" if clean else "warned"
            if status == "clean" and re.search(b"\xff\xff+\0", file[file.find(b"\xff\xda"):]):
                # Not allowed by T.81, and libjpeg-turbo's pixels depend on how much data follows.
                status = "warned"
            pixels = pixels or b""
            line = f"{group} {name.replace(' ', '_')} {status} {channels} {len(file)} {len(pixels)}\n"
            sys.stdout.buffer.write(line.encode() + file + pixels)


if __name__ == "__main__":
    main()
