#!/bin/sh
# Compares the server with a bare echo, with multithreaded variants of itself, and with every other server at hand. Prints
# tables, and writes a page and the raw figures into results/. Arguments go to gostash-compare; --help lists them:
#
#     scripts/compare.sh --quick
#     scripts/compare.sh --server 'valkey 9:resp=/opt/valkey/valkey-server --port {port}'
set -eu
cd "$(dirname "$0")/.."

# Cargo's configuration may name another folder than target/.
CARGO_TARGET_DIR=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR
cargo build --release --locked --quiet --features compare --bins
exec "$CARGO_TARGET_DIR/release/gostash-compare" "$@"
