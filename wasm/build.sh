#!/usr/bin/env bash
# Builds the browser side of ifr: the npm package in wasm/pkg, and in wasm/dist the page /demo of `ifr serve`.
#
#   wasm/build.sh            everything: about 15 minutes the first time, 3 to 5 minutes after changes of ifr
#   wasm/build.sh page       only the page, from the existing package
#   wasm/build.sh check      exit status 0 if wasm/dist was built from the current sources, otherwise 1; builds nothing
#
# Needs Node, npm, and a Rust compiler for wasm32-unknown-unknown, which toolchain.sh finds. Installs the command line
# of wasm-bindgen into target/wasm/tools unless the right version is installed already. CARGO sets the path of cargo.
#
# Without the source of std, or with IFR_WASM_NO_THREADS=1, the threads build is skipped: the package does not contain
# it, dist/ keeps its old module, and `check` reports dist/ as out of date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
what=${1:-all}
cargo=${CARGO:-cargo}

# A hash of the sources of everything that runs in the browser.
sources() {
    (cd .. && find crates/engine/{Cargo.toml,src} crates/faces/{Cargo.toml,src} \
        crates/jpeg/{Cargo.toml,src} wasm/src wasm/js wasm/page wasm/Cargo.toml \
        wasm/build.sh wasm/page.mjs models/models.json -type f | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1)
}

if [[ $what == check ]]; then
    if [[ "$(sources)" == "$(cat dist/SOURCES 2>/dev/null)" ]]; then
        echo "wasm/dist is up to date"
        exit 0
    fi
    echo "wasm/dist was built from other sources: run wasm/build.sh and commit wasm/dist" >&2
    exit 1
fi

[[ -d node_modules ]] || npm ci

if [[ $what == all ]]; then
    wanted=$(sed -n '/^name = "wasm-bindgen"$/{n;s/version = "\(.*\)"/\1/p}' ../Cargo.lock)
    bindgen=$(command -v wasm-bindgen || true)
    if [[ -z $bindgen || "$("$bindgen" --version)" != "wasm-bindgen $wanted" ]]; then
        bindgen=../target/wasm/tools/bin/wasm-bindgen
        if [[ ! -x $bindgen || "$($bindgen --version)" != "wasm-bindgen $wanted" ]]; then
            # A mirror of the registry may lack a release of the lock file; the second command selects others.
            "$cargo" install wasm-bindgen-cli --version "$wanted" --locked --root ../target/wasm/tools ||
                "$cargo" install wasm-bindgen-cli --version "$wanted" --root ../target/wasm/tools
        fi
    fi

    # shellcheck source=wasm/toolchain.sh
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
            # One memory of at most 2 GB for all workers. wasm-bindgen creates the stack and thread-local variables of
            # each.
            flags+=",+atomics,+bulk-memory,+mutable-globals -C link-arg=--shared-memory -C link-arg=--import-memory"
            flags+=" -C link-arg=--max-memory=2147483648"
            for symbol in __wasm_init_tls __tls_size __tls_align __tls_base __heap_base; do flags+=" -C link-arg=--export=$symbol"; done
            extra=("${threads_flags[@]}" --features threads)
            # Makes a stable compiler accept -Z build-std.
            stable=(RUSTC_BOOTSTRAP=1)
        fi
        # One directory per build, because a change of the flags discards the previous build.
        out=../target/wasm/$build
        env ${stable[@]+"${stable[@]}"} CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$flags" "$cargo" build --profile wasm \
            --package ifr-wasm --lib --target "$target" --target-dir "$out" ${extra[@]+"${extra[@]}"}
        # index.ts passes the module's URL. A default path in the glue would make bundlers look for that file.
        "$bindgen" --target web --omit-default-module-path --out-dir "$out/glue" --out-name ifr_wasm "$out/$target/wasm/ifr_wasm.wasm"
        # Removes the directories of this machine from the source paths in panic messages.
        node plain-paths.mjs "$out/glue/ifr_wasm_bg.wasm" "pkg/ifr_$build.wasm" \
            "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/ "$(cd .. && pwd)/" "$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/src/rust/"
    done
    # The builds for one thread share a glue script, because their imports and exports are equal.
    cmp ../target/wasm/{simd,relaxed}/glue/ifr_wasm.js
    cp ../target/wasm/simd/glue/ifr_wasm.js pkg/
    if [[ -z $threads_missing ]]; then
        cp ../target/wasm/threads/glue/ifr_wasm.js pkg/ifr_threads.js
    else
        # A replacement that fails, so that `load` continues with one thread.
        cp pkg/ifr_wasm.js pkg/ifr_threads.js
        for name in buildThreads runThread threadCount threadMemory; do
            echo "export function $name() { throw new Error('This package was built without threads.'); }" >>pkg/ifr_threads.js
        done
    fi
    # The classes have Symbol.dispose, which TypeScript declares in a separate library.
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
    echo "dist/ifr_threads.wasm.br was not rebuilt. ${threads_missing:-pkg/ does not contain it: run wasm/build.sh}" >&2
fi
