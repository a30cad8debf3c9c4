#!/bin/sh
# Load-tests the server in one go: builds it, starts it on a core and a free port of its own, loads it from another core
# at several pipeline depths, prints one table, and leaves nothing running. Arguments go to gostash-bench:
#
#     scripts/loadtest.sh --duration 1 --value-size 1kb --distribution zipf
set -eu
cd "$(dirname "$0")/.."
# These are for another server: the load generator would need the password.
unset GOSTASH_PASSWORD RUST_LOG

directory=$(mktemp -d)
server=
bench=

leave() {
    trap '' INT TERM HUP
    for process in $bench $server; do
        kill "$process" 2>/dev/null || true
    done
    wait
    rm -rf "$directory"
}

# Ctrl-C reaches the load generator, too. It gets three seconds to print what it has measured. The server is in a session
# of its own where that is possible, so that it is still there to be asked for its figures.
interrupted() {
    patience=30
    while [ -n "$bench" ] && kill -0 "$bench" 2>/dev/null && [ $patience -gt 0 ]; do
        sleep 0.1
        patience=$((patience - 1))
    done
    exit 130
}

trap leave EXIT
trap interrupted INT
trap 'exit 143' TERM HUP

# Cargo's configuration may name another folder than target/.
CARGO_TARGET_DIR=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR
cargo build --release --locked --quiet --bin gostash --bin gostash-bench
binaries=$CARGO_TARGET_DIR/release

# The first and the last core that this process may use. Without taskset nothing is pinned.
first=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status 2>/dev/null || true)
last=$(sed -n 's/^Cpus_allowed_list:.*[^0-9]\([0-9]*\)$/\1/p' /proc/self/status 2>/dev/null || true)
pin=
server_pin=
if [ -z "$first" ] || ! command -v taskset >/dev/null; then
    echo "Nothing is pinned: there is no taskset here, so the system moves both sides about as it likes."
elif [ "$first" = "$last" ]; then
    echo "One core for both: they take turns, so the rates are those of server and client together,"
    echo "latencies hold waits for the other side, and only the server's CPU time per request means what it says."
    server_pin="--cpu $first"
else
    echo "The server has core $first, the load generator core $last."
    server_pin="--cpu $first"
    pin="taskset -c $last"
fi

session=$(command -v setsid || true)
: >"$directory/out"
# Unquoted on purpose: a pin is two words or none.
# shellcheck disable=SC2086
$session "$binaries"/gostash --host 127.0.0.1 --port 0 $server_pin >"$directory/out" 2>"$directory/err" &
server=$!

patience=100
until grep -q '^listening on ' "$directory/out"; do
    patience=$((patience - 1))
    if [ $patience -eq 0 ] || ! kill -0 "$server" 2>/dev/null; then
        echo "The server did not start:" >&2
        cat "$directory/err" >&2
        exit 1
    fi
    sleep 0.05
done
port=$(sed -n 's/^listening on [^ ]*:\([0-9]*\).*/\1/p' "$directory/out")

echo
# In the background, so that a signal ends this script at once, and not when the load is done.
# shellcheck disable=SC2086
$pin "$binaries"/gostash-bench --pipeline 1,4,16,64 "$@" --host 127.0.0.1 --port "$port" --pid "$server" &
bench=$!
status=0
wait "$bench" || status=$?
bench=
exit "$status"
