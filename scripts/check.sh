#!/bin/sh
# All checks that a change must pass. Needs Rust with rustfmt and clippy, and Valgrind for one check, which is skipped
# without it.
set -eu
cd "$(dirname "$0")/.."

say() {
    printf '\n== %s\n' "$*"
    "$@"
}

say cargo fmt --all --check
say cargo clippy --locked --all-targets --all-features -- -D warnings
say cargo test --locked --all-features
if command -v valgrind >/dev/null && [ "$(uname -m)" = x86_64 ]; then
    # The tests of the unsafe code, under a memory checker.
    runner="valgrind --quiet --error-exitcode=1"
    say env CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$runner" cargo test --locked --all-features --test integration memory_is_
fi
say env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --all-features
say cargo bench --locked --no-run
printf '\nall good\n'
