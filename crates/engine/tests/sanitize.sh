#!/usr/bin/env bash
# Runs the engine's unit tests under the address sanitizer, with the kernels of every instruction set of this machine.
#
#   crates/engine/tests/sanitize.sh [FILTER]     all tests without a filter
#
# Compiles the engine again, which takes about ten minutes the first time.
#
# x86-64 Linux. The sanitizer is an unstable flag of the compiler; RUSTC_BOOTSTRAP makes a stable compiler accept it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../../.."
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
# The threads of the pool and their scratch buffers exist until the end of the process; they are not leaks.
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=0}
exec ${CARGO:-cargo} test -p ifr-engine --lib --target x86_64-unknown-linux-gnu --target-dir target/sanitize -- "${1:-}"
