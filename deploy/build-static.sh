#!/usr/bin/env bash
# Builds the release binary: static, stripped, reproducible (same source and compiler, same bytes).
#
#   deploy/build-static.sh [TARGET]      x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu; default: this machine's
#
# The result is dist/ifr-TARGET. Cross-compilation needs `rustup target add TARGET`, and a C compiler and libc for the
# target (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
target=${1:-$host}
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-target/static}")
cargo_home=$(realpath -m "${CARGO_HOME:-$HOME/.cargo}")
sysroot=$(rustc --print sysroot)

# The time of the commit, for tools that write a timestamp.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 1)}
export SOURCE_DATE_EPOCH LC_ALL=C TZ=UTC

# The explicit --target below is required: without it these flags would also apply to build scripts and macros, which
# cannot be static. The remapping removes paths of this machine. The crate getrandom looks for its function at run time,
# where a static program has none: the flag links it.
export RUSTFLAGS="-C target-feature=+crt-static --cfg getrandom_backend=\"linux_getrandom\" \
--remap-path-prefix=$PWD=/ifr --remap-path-prefix=$target_dir=/target --remap-path-prefix=$cargo_home=/cargo \
--remap-path-prefix=$sysroot=/rust ${IFR_RUSTFLAGS:-}"
# Merges identical functions and packs relocations, where the linker supports it (rustc's own linker on x86-64).
[[ $target != x86_64-* ]] || RUSTFLAGS+=" -C link-arg=-Wl,--icf=all -C link-arg=-Wl,--pack-dyn-relocs=relr"
export CFLAGS="-ffile-prefix-map=$PWD=/ifr -ffile-prefix-map=$target_dir=/target -ffile-prefix-map=$cargo_home=/cargo ${CFLAGS:-}"
if [[ $target == aarch64-unknown-linux-gnu && $host != "$target" ]]; then
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=${CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER:-aarch64-linux-gnu-gcc}
fi

# shellcheck disable=SC2086 # several flags
${CARGO:-cargo} build --locked --profile dist --bin ifr --target "$target" --target-dir "$target_dir" ${IFR_CARGO_FLAGS:-}

mkdir -p dist
cp "$target_dir/$target/dist/ifr" "dist/ifr-$target"
# Removes the symbols that the linker leaves in spite of the profile.
strip="strip"
[[ $host == "$target" ]] || strip=${target%%-*}-linux-gnu-strip
if command -v "$strip" >/dev/null; then "$strip" -s "dist/ifr-$target"; fi
size=$(stat -c %s "dist/ifr-$target")
kind=$(readelf -lW "dist/ifr-$target")
if grep -q INTERP <<<"$kind"; then
    echo "dist/ifr-$target is not static: it needs a dynamic loader" >&2
    exit 1
fi
# Limits of the size in MB. Without merging and packing (see above) the same program is larger.
max_mb=45
[[ $target == x86_64-* ]] || max_mb=60
if ((size >= max_mb * 1000 * 1000)); then
    echo "dist/ifr-$target has $size bytes; the limit is $max_mb MB" >&2
    exit 1
fi
sha256sum "dist/ifr-$target"
echo "dist/ifr-$target: static, $((size / 1024)) KiB"
