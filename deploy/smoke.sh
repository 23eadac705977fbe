#!/usr/bin/env bash
# Starts a service and checks it: ready, healthy, one face with its embedding in a picture, exit status 0 after SIGTERM.
#
#   deploy/smoke.sh COMMAND...       a command that serves on port 18080, or PORT if it is set, until SIGTERM
#
#   sudo deploy/smoke.sh chroot empty /ifr serve
#   deploy/smoke.sh docker run --rm -p 18080:18080 ifr
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
url=http://127.0.0.1:${PORT:-18080}

"$@" &
service=$!
trap 'kill "$service" 2>/dev/null || true' EXIT
for _ in $(seq 300); do
    curl -sf -o /dev/null "$url/health/ready" && break
    kill -0 "$service" 2>/dev/null || { echo "the service has ended before it was ready" >&2; exit 1; }
    sleep 0.1
done
curl -sSf -o /dev/null "$url/health"
answer=$({ printf '{"images": {"data": ["'; base64 -w0 assets/astronaut.jpg; printf '"]}}'; } |
    curl -sSf -H 'content-type: application/json' --data-binary @- "$url/extract")
python3 -c '
import json, sys
faces = json.loads(sys.argv[1])["data"][0]["faces"]
assert len(faces) == 1 and len(faces[0]["vec"]) >= 128, faces
print("one face of", len(faces[0]["vec"]), "numbers")
' "$answer"
kill -TERM "$service"
status=0
wait "$service" || status=$?
trap - EXIT
echo "exit status $status"
exit "$status"
