# shellcheck shell=bash disable=SC2034 # The variables are used by the scripts that source this one.
# Sourced by build.sh and prepare.sh: finds a compiler for wasm32-unknown-unknown. Sets `cargo_flags`, and
# `threads_flags` for the threads build; or prints what to install and exits with 1.
#
# 1. The target of rustup (`rustup target add wasm32-unknown-unknown`).
# 2. On machines that cannot fetch the target: Debian's rustc with the source of std (`apt-get install rustc-web
#   rust-web-src`).
#    The build then compiles std, and uses the linker of rustup's toolchain.
#
# The threads build needs a std with atomics, which no toolchain contains, so it always compiles std. If the source of
# std is missing, `threads_missing` names what to install; otherwise it is empty.
target=wasm32-unknown-unknown
cargo_flags=()
threads_flags=(-Z "build-std=std,panic_abort")
threads_missing=

if [[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]]; then
    toolchain="$(rustc --version)"
    if [[ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]]; then
        threads_missing="The threads build needs the source of std: rustup component add rust-src"
    fi
elif [[ -x /usr/bin/rustc && -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ]]; then
    lld=$(find "$(rustc --print sysroot)" "$(/usr/bin/rustc --print sysroot)" -name rust-lld -type f 2>/dev/null | head -n 1)
    lld=${lld:-$(command -v wasm-ld || command -v lld || true)}
    [[ -n $lld ]] || { echo "no linker: install lld, or a toolchain of rustup, which contains rust-lld" >&2; exit 1; }
    # RUSTC_BOOTSTRAP makes a stable compiler accept -Z build-std.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$lld
    cargo_flags=(-Z "build-std=std,panic_abort")
    toolchain="$(/usr/bin/rustc --version), with a std from source"
else
    cat >&2 <<'HELP'
No Rust compiler for wasm32-unknown-unknown. Install it with
    rustup target add wasm32-unknown-unknown
or, on a Debian without access to that download, with
    apt-get install rustc-web rust-web-src
HELP
    exit 1
fi
