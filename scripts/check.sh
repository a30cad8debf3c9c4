#!/bin/sh
# Everything that must hold before a change is kept. Needs Rust (with rustfmt and clippy) and nothing else.
set -eu
cd "$(dirname "$0")/.."

say() {
    printf '\n== %s\n' "$*"
    "$@"
}

say cargo fmt --all --check
say cargo clippy --locked --all-targets --all-features -- -D warnings
say cargo test --locked --all-features
say env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
say cargo bench --locked --no-run
printf '\nall good\n'
