#!/bin/sh
# One server per core, behind an existing proxy: starts N servers and twemproxy (Debian's nutcracker) on free ports, loads
# them through it, kills one in mid-load, and reports from real replies what was lost. Leaves nothing running.
#
#     scripts/scale-out.sh N [--max-memory MB] [--duration SECONDS]
#     scripts/scale-out.sh N --cost        # instead: what a request costs through the proxy and without it
#     scripts/scale-out.sh N --commands    # instead: every command tried through the proxy
set -eu
cd "$(dirname "$0")/.."
# These are for another server: clients would need the password.
unset GOSTASH_PASSWORD RUST_LOG
# Debian puts nutcracker there, which is on root's PATH only.
PATH=$PATH:/usr/sbin

for tool in nutcracker python3 setpriv taskset; do
    command -v "$tool" >/dev/null || { echo "scale-out.sh: expected $tool on this machine" >&2; exit 1; }
done
# Cargo's configuration may name another folder than target/.
CARGO_TARGET_DIR=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR
cargo build --release --locked --quiet --bin gostash --bin gostash-bench
exec python3 -B scripts/scale-out/run.py "$@"
