# Sourced by build.sh: finds a compiler for wasm32-unknown-unknown and sets `cargo_flags`, and `threads_flags` for the build
# with threads, or explains what to install.
#
# 1. rustup has the target (`rustup target add wasm32-unknown-unknown`): nothing else is needed.
# 2. Debian's rustc with its std source (`apt-get install rustc-web rust-web-src`): std is compiled along, and rustup's
#    toolchain lends its linker. For machines that cannot fetch the target.
#
# Threads need a std with atomics, which nobody ships: it is compiled along in either case. `threads_missing` says what to install
# where there is no source of std; it is empty otherwise.
target=wasm32-unknown-unknown
cargo_flags=()
threads_flags=(-Z build-std=std,panic_abort)
threads_missing=

if [[ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ]]; then
    toolchain="$(rustc --version)"
    if [[ ! -d "$(rustc --print sysroot)/lib/rustlib/src/rust/library" ]]; then
        threads_missing="The build with threads compiles std, whose source is not here: rustup component add rust-src"
    fi
elif [[ -x /usr/bin/rustc && -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library" ]]; then
    lld=$(find "$(rustc --print sysroot)" "$(/usr/bin/rustc --print sysroot)" -name rust-lld -type f 2>/dev/null | head -n 1)
    lld=${lld:-$(command -v wasm-ld || command -v lld || true)}
    [[ -n $lld ]] || { echo "no linker: install lld, or a rustup toolchain (it brings rust-lld)" >&2; exit 1; }
    # RUSTC_BOOTSTRAP lets a stable compiler take -Z build-std.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=$lld
    cargo_flags=(-Z build-std=std,panic_abort)
    toolchain="$(/usr/bin/rustc --version), std compiled along"
else
    cat >&2 <<'HELP'
No Rust compiler for wasm32-unknown-unknown. Either
    rustup target add wasm32-unknown-unknown
or, on Debian where that download is not to be had,
    apt-get install rustc-web rust-web-src
HELP
    exit 1
fi
