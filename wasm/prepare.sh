#!/usr/bin/env bash
# Installs the tools for building and testing the browser side, except Rust, Node and npm: a compiler for
# wasm32-unknown-unknown, and Chromium. Tools that are installed already are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

install() {
    local as_root=()
    [[ $EUID == 0 ]] || as_root=(sudo)
    command -v apt-get >/dev/null || { echo "install by hand: $*" >&2; return 1; }
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# The target of rustup. If rustup cannot install it: the compiler of Debian.
# shellcheck source=wasm/toolchain.sh
if ! (source ./toolchain.sh) >/dev/null 2>&1; then
    rustup target add wasm32-unknown-unknown || install rustc-web rust-web-src
fi
# The threads build compiles std. Without its source, build.sh skips that build.
# shellcheck source=wasm/toolchain.sh
(source ./toolchain.sh && [[ -z $threads_missing ]]) || rustup component add rust-src || true

browser=${CHROMIUM:-$(command -v chromium chromium-browser google-chrome | head -n 1 || true)}
if [[ -z $browser ]] && ! install chromium; then
    # Ubuntu has no such package.
    [[ -d node_modules ]] || npm ci
    node_modules/.bin/playwright-core install --with-deps chromium
fi
