"""redis-py against a server of its own, and one that wants a password: python redis_py.py PORT PORT."""

import sys
import time

import redis

open_port, locked_port = map(int, sys.argv[1:])
BINARY = bytes(range(256)) + b"\r\n\0" + b"$5\r\n*1\r\n"


def strings(r):
    assert r.set("s", "value") is True
    assert r.get("s") == b"value"
    assert r.get("none") is None
    assert r.set("s", "other", nx=True) is None
    assert r.set("s", "other", xx=True, get=True) == b"value"
    assert r.getset("s", "third") == b"other"
    assert r.append("s", "!") == 6 and r.strlen("s") == 6
    assert r.setnx("s", "x") is False
    assert r.getdel("s") == b"third!" and r.exists("s") == 0
    assert r.incr("n") == 1 and r.incrby("n", 41) == 42 and r.decr("n", 2) == 40
    assert r.mset({"a": "1", "b": "2"}) is True
    assert r.mget("a", "none", "b") == [b"1", None, b"2"]
    assert r.delete("a", "b", "none") == 2
    assert r.type("n") == (b"string")
    assert r.touch("n", "none") == 1 and r.unlink("n") == 1
    try:
        r.set("s", "x")
        r.incr("s")
    except redis.ResponseError as error:
        assert "not an integer" in str(error)
    else:
        raise AssertionError("a word has no successor")
    try:
        r.lpush("list", "x")
    except redis.ResponseError as error:
        assert "unknown command" in str(error)
    else:
        raise AssertionError("there are no lists")


def binary_and_large(r):
    assert r.set(BINARY, BINARY) and r.get(BINARY) == BINARY
    for size in (0, 1, 32_751, 32_752, 32_753, 1_000_000, 10_000_000):
        value = (BINARY * (size // len(BINARY) + 1))[:size]
        assert r.set("large", value) and r.get("large") == value, size
        assert r.strlen("large") == size
    assert r.mset({"large": value, "small": "x"}) and r.mget("small", "large") == [b"x", value]
    assert r.set("large", value, ex=100) and 90 < r.ttl("large") <= 100


def pipelines(r):
    for transaction in (True, False):
        with r.pipeline(transaction=transaction) as pipe:
            for number in range(5000):
                pipe.set(f"p{number}", number).get(f"p{number}")
            replies = pipe.execute()
        assert replies[1::2] == [str(number).encode() for number in range(5000)]
        with r.pipeline(transaction=transaction) as pipe:
            pipe.set("s", "x").incr("s").mget("s", "none").set("large", b"x" * 500_000).strlen("large")
            ok, error, both, _, length = pipe.execute(raise_on_error=False)
        assert ok and isinstance(error, redis.ResponseError) and both == [b"x", None] and length == 500_000
    assert sum(1 for _ in r.scan_iter("p*", count=500)) == 5000


def expiry(r):
    assert r.set("e", "x", px=60) and 0 < r.pttl("e") <= 60
    time.sleep(0.08)
    assert r.get("e") is None
    assert r.set("e", "x", ex=100) and r.ttl("e") == 100
    assert r.persist("e") is True and r.ttl("e") == -1 and r.ttl("none") == -2
    assert r.expire("e", 10) and r.expire("e", 5, gt=True) is False
    at = int(time.time()) + 1000
    assert r.expireat("e", at) and abs(r.expiretime("e") - at) <= 1
    assert r.getex("e", persist=True) == b"x" and r.ttl("e") == -1


def server(r):
    info = r.info()
    assert info["redis_mode"] == "standalone" and info["loading"] == 0 and info["db0"]["keys"] > 0
    assert r.info("commandstats")["cmdstat_set"]["calls"] > 0
    assert r.config_get("maxmemory")["maxmemory"].isdigit()
    assert r.client_setname("me") and r.client_getname() in ("me", b"me")
    assert any(client["name"] == "me" for client in r.client_list())
    assert r.command_count() > 40 and "get" in r.command()
    assert abs(r.time()[0] - time.time()) < 3 and r.dbsize() > 0
    assert r.echo("hello") == b"hello" and r.ping() is True
    assert r.memory_usage("s") > 0


def reconnects(r):
    killer = redis.Redis(port=open_port)
    killer.ping()
    r.ping()
    killer.client_kill_filter(_type="normal", skipme=True)
    time.sleep(0.05)
    r.retry = None
    for attempt in range(3):
        try:
            assert r.ping() is True
            return
        except redis.ConnectionError:
            pass
    raise AssertionError("no new connection")


for protocol in (2, 3):
    r = redis.Redis(port=open_port, protocol=protocol, client_name="interop")
    r.flushall()
    strings(r)
    binary_and_large(r)
    pipelines(r)
    expiry(r)
    server(r)
    reconnects(redis.Redis(port=open_port, protocol=protocol))
    locked = redis.Redis(port=locked_port, password="open sesame", protocol=protocol)
    assert locked.set("a", "b") and locked.get("a") == b"b"
    locked = redis.Redis(port=locked_port, username="default", password="open sesame", protocol=protocol)
    assert locked.get("a") == b"b"
    for wrong in ("wrong", None):
        try:
            redis.Redis(port=locked_port, password=wrong, protocol=protocol).get("a")
        except redis.AuthenticationError:
            pass
        else:
            raise AssertionError(f"{wrong} is not the password")
    print(f"RESP{protocol}: fine")
