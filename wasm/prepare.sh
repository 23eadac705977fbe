#!/usr/bin/env bash
# Installs what building and testing the browser side needs beside Rust, Node and npm, where it is missing: a compiler for
# wasm32-unknown-unknown and a Chromium. Does nothing on a machine that has both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

install() {
    local as_root=()
    [[ $EUID == 0 ]] || as_root=(sudo)
    command -v apt-get >/dev/null || { echo "install by hand: $*" >&2; return 1; }
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# rustup's target where it can be fetched, else Debian's compiler.
if ! (source ./toolchain.sh) >/dev/null 2>&1; then
    rustup target add wasm32-unknown-unknown || install rustc-web rust-web-src
fi
# The build with threads compiles std; without its source build.sh makes the others.
(source ./toolchain.sh && [[ -z $threads_missing ]]) || rustup component add rust-src || true

browser=${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1 || true)}
[[ -n $browser ]] || install chromium
