#!/usr/bin/env bash
# Builds the browser side of ifr: the npm package in wasm/pkg and the page that `ifr serve` has at /demo, in wasm/dist.
#
#   wasm/build.sh            everything (a quarter of an hour the first time, three to five when only ifr changed)
#   wasm/build.sh page       the page alone, from the package that is there
#   wasm/build.sh check      whether wasm/dist was made from the sources as they are; builds nothing, fails when it was not
#
# Needs Node, npm, and a Rust compiler for wasm32-unknown-unknown (toolchain.sh finds it or says what to install).
# wasm-bindgen's command line is installed into target/wasm/tools when the right version is not there.
# CARGO names another cargo. Where the source of std is missing, or with IFR_WASM_NO_THREADS=1, there is no build with threads: the
# package goes without, dist/ keeps the one it has, and `check` goes on to call it out of date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
what=${1:-all}
cargo=${CARGO:-cargo}

# Everything that decides what the browser runs. The service and the command line do not.
sources() {
    (cd .. && find crates/engine/{Cargo.toml,src} crates/faces/{Cargo.toml,src} wasm/src wasm/js wasm/page wasm/Cargo.toml \
        wasm/build.sh wasm/page.mjs models/models.json -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
}

if [[ $what == check ]]; then
    if [[ "$(sources)" == "$(cat dist/SOURCES 2>/dev/null)" ]]; then
        echo "wasm/dist is up to date"
        exit 0
    fi
    echo "wasm/dist was made from other sources: run wasm/build.sh and commit wasm/dist" >&2
    exit 1
fi

[[ -d node_modules ]] || npm ci

if [[ $what == all ]]; then
    wanted=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' ../Cargo.lock)
    bindgen=$(command -v wasm-bindgen || true)
    if [[ -z $bindgen || "$("$bindgen" --version)" != "wasm-bindgen $wanted" ]]; then
        bindgen=../target/wasm/tools/bin/wasm-bindgen
        if [[ ! -x $bindgen || "$($bindgen --version)" != "wasm-bindgen $wanted" ]]; then
            # For this machine, whatever compiles the module.
            # Its lock file may name a release that a registry does not have, or no more.
            $cargo install wasm-bindgen-cli --version "$wanted" --locked --root ../target/wasm/tools ||
                $cargo install wasm-bindgen-cli --version "$wanted" --root ../target/wasm/tools
        fi
    fi

    source ./toolchain.sh
    echo "compiling with $toolchain"
    rm -rf pkg && mkdir -p pkg
    builds=(simd relaxed)
    [[ -z ${IFR_WASM_NO_THREADS:-} ]] || threads_missing="IFR_WASM_NO_THREADS is set"
    [[ -n $threads_missing ]] || builds+=(threads)
    for build in "${builds[@]}"; do
        flags="-C target-feature=+simd128"
        [[ $build == simd ]] || flags+=",+relaxed-simd"
        extra=(${cargo_flags[@]+"${cargo_flags[@]}"})
        stable=()
        if [[ $build == threads ]]; then
            # One memory for all workers, of at most 2 GB; wasm-bindgen makes each its own stack and thread-local variables.
            flags+=",+atomics,+bulk-memory,+mutable-globals -C link-arg=--shared-memory -C link-arg=--import-memory"
            flags+=" -C link-arg=--max-memory=2147483648"
            for symbol in __wasm_init_tls __tls_size __tls_align __tls_base __heap_base; do flags+=" -C link-arg=--export=$symbol"; done
            extra=("${threads_flags[@]}" --features threads)
            # Lets a stable compiler take -Z build-std.
            stable=(RUSTC_BOOTSTRAP=1)
        fi
        # A directory each: flags of one build would throw the other's away.
        out=../target/wasm/$build
        env ${stable[@]+"${stable[@]}"} CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$flags" $cargo build --profile wasm \
            --package ifr-wasm --lib --target $target --target-dir "$out" ${extra[@]+"${extra[@]}"}
        # Bundlers would look for the file that the glue names by default; index.ts always says which it is.
        "$bindgen" --target web --omit-default-module-path --out-dir "$out/glue" --out-name ifr_wasm "$out/$target/wasm/ifr_wasm.wasm"
        # Panic messages hold the paths of sources; where they lie on this machine is nobody's business.
        node plain-paths.mjs "$out/glue/ifr_wasm_bg.wasm" "pkg/ifr_$build.wasm" \
            "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/ "$(cd .. && pwd)/" "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/"
    done
    # One glue script serves the builds for one thread, as long as they import and export the same.
    cmp ../target/wasm/{simd,relaxed}/glue/ifr_wasm.js
    cp ../target/wasm/simd/glue/ifr_wasm.js pkg/
    if [[ -z $threads_missing ]]; then
        cp ../target/wasm/threads/glue/ifr_wasm.js pkg/ifr_threads.js
    else
        # A stand-in, with which `load` does not get far: it goes on with one thread.
        cp pkg/ifr_wasm.js pkg/ifr_threads.js
        for name in buildThreads runThread threadCount threadMemory; do
            echo "export function $name() { throw new Error('This package was built without threads.'); }" >>pkg/ifr_threads.js
        done
    fi
    # The classes have Symbol.dispose, which TypeScript knows from a library of its own; users need not name it.
    { echo '/// <reference lib="esnext.disposable" />'; cat ../target/wasm/simd/glue/ifr_wasm.d.ts; } > pkg/ifr_wasm.d.ts
fi

cp js/index.ts js/errors.ts js/thread.ts js/ifr_threads.d.ts js/package.json js/README.md ../LICENSE pkg/
node_modules/.bin/tsc -p js/tsconfig.json
rm pkg/index.ts pkg/errors.ts pkg/thread.ts
node_modules/.bin/tsc -p tsconfig.json
node page.mjs
if [[ -f pkg/ifr_threads.wasm ]]; then
    sources > dist/SOURCES
else
    echo without-threads > dist/SOURCES
    echo "dist/ifr_threads.wasm.br is as it was, not made from these sources. ${threads_missing:-There is none in pkg/: run wasm/build.sh}" >&2
fi
