#!/bin/sh
# A .local name, asked as a lab with Avahi asks it: the hub's machine and a node, each with an avahi-daemon of its own,
# on one network. The configuration names 127.0.0.1:5353, Avahi's own port, which answers there for the hub's machine
# alone: the node's name must be found by multicast DNS, at the address of the node's network, and the node asked.
#
# Both machines are network namespaces on this one, joined by a cable of their own; nothing outside is touched.
#
#     sudo tests/long/avahi.sh [PYTHON]        needs root, avahi-daemon, ip
set -eu

python=${1:-python3}
cd "$(dirname "$0")/../.."
folder=$(mktemp -d)
suffix=$$
hub=gpumon-hub-$suffix
node=gpumon-node-$suffix
started=

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*"; exit 1; }
end() {
    for pid in $started; do kill "$pid" 2>/dev/null || true; done
    ip netns delete "$hub" 2>/dev/null || true
    ip netns delete "$node" 2>/dev/null || true
    rm -rf "$folder"
}
trap end EXIT

# machine NAMESPACE HOST ADDRESS: an avahi-daemon there, with a /run/avahi-daemon of its own
machine() {
    cat >"$folder/$2.conf" <<CONF
[server]
host-name=$2
enable-dbus=no
use-ipv4=yes
use-ipv6=yes
[publish]
publish-hinfo=no
publish-workstation=no
CONF
    ip -n "$1" link set lo up
    ip -n "$1" link set cable up
    ip -n "$1" address add "$3/24" dev cable
    mkdir -p /run/avahi-daemon
    ip netns exec "$1" unshare --mount sh -c \
        "mount -t tmpfs none /run/avahi-daemon && exec avahi-daemon --file=$folder/$2.conf --no-drop-root --no-chroot --no-rlimits" \
        >"$folder/$2.log" 2>&1 &
    started="$started $!"
}

ip netns add "$hub"
ip netns add "$node"
ip link add cable netns "$hub" type veth peer name cable netns "$node"
machine "$hub" "hub-$suffix" 10.99.0.1
machine "$node" "node-$suffix" 10.99.0.2
ip netns exec "$node" "$python" -m gpumon agent --simulate 2 --port 8081 2>"$folder/agent.log" &
started="$started $!"
cat >"$folder/config.json" <<JSON
{"nodes": [{"name": "node", "host": "node-$suffix.local"}, {"name": "hub", "host": "hub-$suffix.local", "port": 9}],
 "dns": {"enabled": true, "server": "127.0.0.1:5353"}}
JSON

tries=0
until ip netns exec "$hub" "$python" -m gpumon check --json --config "$folder/config.json" >"$folder/found" 2>&1 ||
    grep -q '"address":"10.99.0.2"' "$folder/found"; do
    tries=$((tries + 1))
    [ "$tries" -le 10 ] || fail "not found: $(cat "$folder/found" "$folder"/*.log)"
    sleep 1
done
ip netns exec "$hub" "$python" - "$folder/found" <<'PY' || fail "$(cat "$folder/found")"
import json, sys

node, hub = json.load(open(sys.argv[1]))["nodes"]
assert node["is_well"] and node["address"] == "10.99.0.2", node
assert node["resolution"]["server"] == "multicast DNS", node
assert hub["fault"]["code"] == "refused" and hub["resolution"]["addresses"], hub
PY
ip netns exec "$hub" "$python" -m gpumon check --config "$folder/config.json" || true
say "ok: the node's name is found by multicast DNS, the hub's own by Avahi"
