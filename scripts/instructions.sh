#!/bin/sh
# Counts the instructions that a request takes in process, bytes in to reply out, in the rows of benches/handler.rs: a
# figure without the noise of a machine, to set beside one of the same compiler. Needs Valgrind.
set -eu
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo "valgrind is needed to count instructions, and was not found" >&2; exit 1; }
target=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export "CARGO_TARGET_${target}_RUNNER=valgrind --tool=callgrind --callgrind-out-file=/dev/null --log-file=$log"

# count GROUP ROW ROUNDS
count() {
    cargo bench --locked --quiet --bench handler -- --rounds-of "$@"
    sed -n 's/.*Collected : //p' "$log"
}

# The difference of two runs leaves out what it takes to begin. A round has 64 requests.
row() {
    printf '%-15s %-19s %5d\n' "$1" "$3" $((($(count "$1" "$2" 1100) - $(count "$1" "$2" 100)) / 64000))
}

cargo bench --locked --quiet --no-run --bench handler
for name in get set miss 'get, RESP' 'set, RESP' 'get, RESP, expiring' 'set, RESP, expiring' 'get, RESP, MULTI'; do
    row 'one key' "$name" "$name"
done
# A round of these two is taken back after it, which counts, too.
row 'one key' incr 'incr and decr'
row 'one key' del 'set and del'
row 'one at a time' get get
