#!/usr/bin/env bash
# The engine's tests under the address sanitiser: kernels of every instruction set this machine has, and all the indexing around them.
#
#   tests/sanitize.sh [FILTER]     "engine::" when no filter is given; builds the library anew, some ten minutes the first time
#
# x86-64 Linux. The sanitiser is an unstable flag of the compiler, which RUSTC_BOOTSTRAP lets a stable one take.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
# Threads of a pool live to the end of the process and so do their scratch buffers: no leaks.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
exec ${CARGO:-cargo} test --lib --no-default-features --target x86_64-unknown-linux-gnu --target-dir target/sanitize -- "${1:-engine::}"
