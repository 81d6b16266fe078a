#!/bin/sh
# A reader's process in state D, which not even SIGKILL ends, as a driver that is stuck makes it.
#
# The scenario of the fake driver lies on a loop-mounted file system that is then frozen: whoever opens it for
# writing hangs in the kernel. Here that is the log of calls, so the next call of the driver hangs. The agent
# must go on answering /health, say what is wrong, start no more than three children, end within 5 s of
# SIGTERM; and once the file system thaws, report again.
#
#     sudo tests/long/state_d.sh [PYTHON]        needs root, loop devices, mkfs.ext4, fsfreeze, curl
set -eu

python=${1:-python3}
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
mount=$folder/disk
port=18099
agent=

end() {
    fsfreeze --unfreeze "$mount" 2>/dev/null || true
    [ -z "$agent" ] || kill -KILL "$agent" 2>/dev/null || true
    sleep 1
    umount "$mount" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }
status() { curl --silent --max-time 2 "http://127.0.0.1:$port/gpu-info" | "$python" -c 'import json, sys; print(json.load(sys.stdin)["status"])'; }
until_status() { # a status, and for how many seconds it may take
    tries=0
    until [ "$(status 2>/dev/null)" = "$1" ]; do
        tries=$((tries + 1))
        [ "$tries" -le "$2" ] || fail "not $1 within $2 s, but $(status)"
        sleep 1
    done
    say "ok: the agent says $1"
}

dd if=/dev/zero of="$folder/image" bs=1M count=16 status=none
mkfs.ext4 -q "$folder/image"
mkdir "$mount"
mount -o loop "$folder/image" "$mount"

"$python" - "$folder" <<'PY' >"$folder/environment"
import sys
from pathlib import Path
from tests import fakenvml

folder = Path(sys.argv[1])
fakenvml.datacentre(2).write(folder / "scenario")
for name, value in fakenvml.environment(folder / "scenario", log=folder / "disk" / "calls").items():
    print(f"export {name}='{value}'")
PY
. "$folder/environment"

GPUMON_STATE_DIR=$folder "$python" -m gpumon agent --host 127.0.0.1 --port $port &
agent=$!
until_status ok 20

fsfreeze --freeze "$mount"
until_status error 20
ps -o pid,stat,wchan:30,args --ppid "$agent"
sleep 45 # long enough for every child that will ever be started
stuck=$(ps -o stat= --ppid "$agent" | grep -c '^D' || true)
[ "$stuck" -ge 1 ] || fail "no child is in state D"
[ "$stuck" -le 3 ] || fail "$stuck children are stuck"
say "ok: $stuck children in state D"
curl --silent --max-time 1 --output /dev/null "http://127.0.0.1:$port/health" || fail "/health does not answer"
say "ok: /health answers"

fsfreeze --unfreeze "$mount"
until_status ok 130
fsfreeze --freeze "$mount"
sleep 15
began=$(date +%s)
kill -TERM "$agent"
while kill -0 "$agent" 2>/dev/null; do
    [ $(($(date +%s) - began)) -le 5 ] || fail "the agent does not end"
    sleep 0.2
done
agent=
say "ok: the agent ends while its child is stuck"
