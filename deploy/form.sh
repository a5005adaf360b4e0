#!/bin/sh
# Forms a cluster of three shards (primary, replica) and a witness, by the commands that an operator would type.
# Where the cluster is there already, nothing is done. The addresses are those of compose.yaml; others can be
# given in NODES: three primaries, their replicas in the same order, the witness, each as HOST or HOST:PORT.
set -eu
NODES="${NODES:-172.30.7.11 172.30.7.12 172.30.7.13 172.30.7.14 172.30.7.15 172.30.7.16 172.30.7.17}"
# shellcheck disable=SC2086
set -- $NODES
[ $# -eq 7 ] || { echo "form: NODES must name 7 nodes" >&2; exit 2; }

host() { echo "${1%:*}"; }
port() { case "$1" in *:*) echo "${1##*:}" ;; *) echo 6379 ;; esac; }
ask() { node=$1; shift; valkey-cli -h "$(host "$node")" -p "$(port "$node")" "$@"; }

# ok NODE COMMAND...: must be answered OK.
ok() { answer=$(ask "$@"); [ "$answer" = OK ] || { echo "form: $*: $answer" >&2; return 1; }; }

# until_ok COMMAND...: once a second, for up to a minute.
until_ok() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ "$n" -lt 60 ] || { echo "form: gave up waiting for: $*" >&2; exit 1; }
        sleep 1
    done
}

answers() { [ "$(ask "$1" ping 2>/dev/null)" = PONG ]; }
knows_all() { [ "$(ask "$1" cluster nodes | grep -c -v -e handshake -e noaddr -e disconnected)" -eq 7 ]; }
is_well() { ask "$1" cluster info | grep -q '^cluster_state:ok'; }

for node in "$@"; do until_ok answers "$node"; done
if [ "$(ask "$1" cluster nodes | wc -l)" -ge 7 ]; then
    until_ok is_well "$1"
    echo "form: the cluster is there"
    exit 0
fi

ok "$1" cluster set-config-epoch 1
ok "$2" cluster set-config-epoch 2
ok "$3" cluster set-config-epoch 3
until_ok ok "$1" cluster addslotsrange 0 5460
until_ok ok "$2" cluster addslotsrange 5461 10922
until_ok ok "$3" cluster addslotsrange 10923 16383
for node in "$2" "$3" "$4" "$5" "$6" "$7"; do
    ok "$1" cluster meet "$(host "$node")" "$(port "$node")"
done
for node in "$@"; do until_ok knows_all "$node"; done

one=$(ask "$1" cluster myid)
two=$(ask "$2" cluster myid)
three=$(ask "$3" cluster myid)
until_ok ok "$4" cluster replicate "$one"
until_ok ok "$5" cluster replicate "$two"
until_ok ok "$6" cluster replicate "$three"
for primary in "$one" "$two" "$three"; do
    until_ok ok "$7" cluster replicate "$primary"
done
for node in "$1" "$2" "$3" "$4" "$5" "$6"; do until_ok is_well "$node"; done
echo "form: the cluster is well"
