#!/bin/sh
# Runs real Redis clients against the server: each at a pinned version, in its own environment under target/.
# Needs redis-cli, redis-benchmark, python3 with venv, node and npm; the first run needs the network.
set -eu
cd "$(dirname "$0")/.."
exec </dev/null
# These are for another server: clients would need the password.
unset GOSTASH_PASSWORD RUST_LOG

REDIS_PY_NEW=8.1.0
REDIS_PY_OLD=7.4.1
DJANGO=5.2.19
IOREDIS=5.11.1
NODE_REDIS=5.12.1

# Cargo's configuration may name another folder than target/.
CARGO_TARGET_DIR=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
export CARGO_TARGET_DIR
binaries=$CARGO_TARGET_DIR/release
home=$PWD/target/interop
clients=$PWD/scripts/interop
mkdir -p "$home"

cargo build --locked --release

python() { # NAME PACKAGE...: an environment with these packages
    name=$1
    shift
    if [ ! -e "$home/$name/installed" ]; then
        python3 -m venv "$home/$name"
        "$home/$name/bin/pip" install --quiet --disable-pip-version-check "$@"
        touch "$home/$name/installed"
    fi
}
python "redis-py-$REDIS_PY_NEW" "redis==$REDIS_PY_NEW"
python "redis-py-$REDIS_PY_OLD" "redis==$REDIS_PY_OLD"
python "django-$DJANGO" "django==$DJANGO" "redis==$REDIS_PY_NEW"
node=$home/node-$IOREDIS-$NODE_REDIS
if [ ! -e "$node/installed" ]; then
    npm install --silent --no-audit --no-fund --prefix "$node" "ioredis@$IOREDIS" "redis@$NODE_REDIS"
    touch "$node/installed"
fi

# One server without a password, and one with.
servers=
serve() { # NAME OPTION...: starts a server and sets `port`
    log=$home/$1.log
    shift
    "$binaries"/gostash --host 127.0.0.1 --port 0 "$@" >"$log" 2>&1 &
    servers="$servers $!"
    until port=$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$log") && [ -n "$port" ]; do
        kill -0 $! || { cat "$log"; exit 1; }
        sleep 0.05
    done
}
trap 'kill $servers' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
serve open
open=$port
serve locked --password 'open sesame'
locked=$port

say() {
    printf '\n== %s\n' "$*"
}

say "redis-cli: $(redis-cli --version)"
cli() { redis-cli -p "$open" "$@"; }
expect() { # EXPECTED COMMAND...
    expected=$1
    shift
    got=$("$@" 2>&1)
    [ "$got" = "$expected" ] || { printf '%s\n  expected %s\n  got      %s\n' "$*" "$expected" "$got"; exit 1; }
}
expect PONG cli ping
expect OK cli set key value
expect value cli -3 get key
expect '"value"' cli --no-raw get key
printf 'set a 1\nincr a\nmulti\nget a\nexec\nget nosuch\n' >"$home/commands"
expect "$(printf 'OK\n2\nOK\nQUEUED\n2\n\n')" sh -c "redis-cli -p $open <'$home/commands'"
expect 'OK' sh -c "printf 'binary\\0\\r\\nvalue' | redis-cli -p $open -x set binary"
expect 14 cli strlen binary
# Interactive: on a terminal, redis-cli asks for COMMAND DOCS first.
printf 'get key\nquit\n' >"$home/typed"
TERM=dumb script -qec "redis-cli -p $open" /dev/null <"$home/typed" | grep -q '"value"' || { echo 'interactive redis-cli fails'; exit 1; }
expect 'NOAUTH Authentication required.' redis-cli -p "$locked" get key
expect PONG redis-cli -p "$locked" --no-auth-warning -a 'open sesame' ping
redis-cli -p "$locked" --no-auth-warning -a wrong ping 2>&1 | grep -q WRONGPASS
seq 20000 | awk '{ key = "key" $1; printf "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nv\r\n", length(key), key }' |
    redis-cli -p "$open" --pipe | grep 'errors: 0, replies: 20000' || { echo 'redis-cli --pipe fails'; exit 1; }
expect 20003 cli dbsize
[ "$(cli --scan --pattern 'key1999*' | wc -l)" = 11 ] || { echo 'redis-cli --scan fails'; exit 1; }

say "redis-benchmark: $(redis-benchmark --version)"
for depth in 1 16; do
    redis-benchmark -p "$open" -t ping,set,get,incr,mset -n 100000 -P "$depth" -q | tr '\r' '\n' | grep 'per second'
done

for version in "$REDIS_PY_NEW" "$REDIS_PY_OLD"; do
    say "redis-py $version"
    "$home/redis-py-$version/bin/python" "$clients/redis_py.py" "$open" "$locked"
done

say "Django $DJANGO"
PYTHONDONTWRITEBYTECODE=1 "$home/django-$DJANGO/bin/python" "$clients/django_cache.py" "$open" "$locked"

say "ioredis $IOREDIS"
NODE_PATH=$node/node_modules node "$clients/ioredis.cjs" "$open" "$locked"

say "node-redis $NODE_REDIS"
NODE_PATH=$node/node_modules node "$clients/node_redis.cjs" "$open" "$locked"

printf '\nall clients get along\n'
