"""What scale-out.sh shows, step by step; a step raises Broken when what it claims does not hold."""

import argparse
import json
import math
import random
import signal
import subprocess
import sys
import tempfile

import commands
import cost
from pool import FAILURES, POINTS_PER_SERVER, RETRY_MS, TIMEOUT_MS, Pool, stop_all
from resp import Client
from witness import Broken, Witness, check

LOAD_KEYS = 100_000

# What a busy machine may add to the times that the proxy's settings promise.
SLACK_S = 0.5


def load(pool, seconds):
    """Every reply through the proxy is what was set, at every depth."""
    options = ["--keys", LOAD_KEYS, "--verify", "--pipeline", "1,16,64", "--warmup", 0.2, "--duration", seconds]
    check(pool.bench(pool.port, *options).child.wait() == 0, "a reply through the proxy was wrong")


def spread(pool):
    """Where the keys of that load are."""
    clients = [Client(server.port) for server in pool.servers]
    keys = [client.call("DBSIZE") for client in clients]
    check(sum(keys) == LOAD_KEYS, f"expected each of {LOAD_KEYS} keys on one server, got {keys}")
    count, mean = len(keys), sum(keys) / len(keys)
    for at, client in enumerate(clients):
        memory = client.call("INFO", "memory").decode()
        resident = int(memory.split("used_memory_rss:")[1].split()[0]) / 2**20
        print(f"  server{at + 1}: {keys[at]:,} keys, {keys[at] / mean:.3f} of the mean, {resident:.1f} mb resident")
    # Points fall on the ring at random, so all servers' shares together are a draw from a Dirichlet distribution whose
    # parameters are the numbers of points.
    deviation = math.sqrt((count - 1) / (count * POINTS_PER_SERVER + 1))
    rng = random.Random(1)
    draws = ([rng.gammavariate(POINTS_PER_SERVER, 1) for _ in range(count)] for _ in range(5000))
    fullest = sorted(max(draw) * count / sum(draw) for draw in draws)
    print(f"  the fullest has {max(keys) / mean:.3f} of the mean")
    print(f"  in theory a share deviates by sqrt((N - 1) / ({POINTS_PER_SERVER} N + 1)) = {deviation:.1%}, and the", end=" ")
    print(f"fullest has {sum(fullest) / 5000:.3f} of the mean,\n  {fullest[4950]:.3f} in one pool of a hundred")
    check(max(keys) / mean <= fullest[-5], "the keys are spread worse than in one pool of a thousand")


def loss(pool, is_killed):
    """A server is lost in mid-load and comes back: empty if it was killed, as it was if it only hung."""
    victim = random.randrange(len(pool.servers))
    server = pool.servers[victim]
    witness = Witness(pool.port, "killed" if is_killed else "hung")
    share = witness.on(server.port)
    print(f"  server{victim + 1} {'is killed' if is_killed else 'hangs'}; it has {len(share):,} of", end=" ")
    print(f"{len(witness.keys):,} keys that a read-through client asks for, round and round")
    outage_s, failing_s = 2.5 * RETRY_MS / 1000, FAILURES * TIMEOUT_MS / 1000 + SLACK_S
    options = ["--json", "--no-preload", "--warmup", 0, "--clients", 10, "--rate", 2000, "--duration", 2.5 * outage_s]
    others = pool.bench(pool.port, *options, stdout=subprocess.PIPE, text=True)
    calm = witness.watch(0.3)
    check(not calm.changes and not calm.refused, "expected nothing but hits before the loss")

    if is_killed:
        server.stop()
    else:
        server.child.send_signal(signal.SIGSTOP)
    outage = witness.watch(outage_s)
    check(outage.missed == share, f"expected to miss its share, got {len(outage.missed ^ share)} keys that differ")
    print(f"  missed: its share, {len(share) / len(witness.keys):.1%} of the keys, and no other key")
    # Of the few errors when a server is dead the load beside may get all.
    check(outage.refused_keys <= share, "expected errors for its share alone")
    gap_s = 1.5 * TIMEOUT_MS / 1000
    for first, last, number in outage.bursts(gap_s):
        occasion = "after the loss" if first < gap_s else "when the proxy tried it again"
        print(f"  errors: {number}, from {first * 1000:.1f} to {last * 1000:.1f} ms, {occasion}")
        check(last - first < failing_s, f"expected an end to the errors after {failing_s} s")
    print(f"  longest wait for a reply: {outage.longest_s * 1000:.1f} ms")
    check(outage.longest_s < TIMEOUT_MS / 1000 + SLACK_S, f"expected no reply to take longer than {TIMEOUT_MS} ms")

    if is_killed:
        pool.servers[victim] = server.again()
    else:
        server.child.send_signal(signal.SIGCONT)
    back = witness.watch(RETRY_MS / 1000 + SLACK_S)
    check(back.changes and back.changes[0] < RETRY_MS / 1000 + SLACK_S, "expected it to be taken back")
    print(f"  taken back {back.changes[0] * 1000:.0f} ms after its return")
    if is_killed:
        check(back.missed == share and not back.old, "expected its share to be missed once more, and nothing old")
        print("  missed: its share once more, as it came back empty")
    else:
        check(back.old and back.old <= share and not back.missed, "expected old values, of its share, and no misses")
        print(f"  old: {len(back.old):,} values that were written anew while it was away")
    check(witness.on(server.port) >= share, "expected its share to be there again")
    figures = json.loads(others.child.communicate()[0])
    print(f"  the load beside: {figures['requests']:,} requests, {figures['refused']} errors")


def main():
    parser = argparse.ArgumentParser(prog="scale-out.sh", description="N servers behind twemproxy, tried out.")
    parser.add_argument("servers", type=int, metavar="N", help="how many servers, from 2 to 64")
    parser.add_argument("--max-memory", type=int, default=256, metavar="MB", help="of all servers together (256)")
    parser.add_argument("--duration", type=float, default=2, metavar="SECONDS", help="of each measurement (2)")
    parser.add_argument("--cost", action="store_true", help="instead: what a request costs, with the proxy and without")
    parser.add_argument("--commands", action="store_true", help="instead: which commands the proxy passes on")
    options = parser.parse_args()
    if not 2 <= options.servers <= 64 or options.max_memory < 8 * options.servers:
        parser.error("expected 2 to 64 servers, and 8 MB or more for each of them")
    with tempfile.TemporaryDirectory() as directory:
        try:
            pool = Pool(options.servers, options.max_memory, directory)
            pool.start()
            print(pool.describe())
            if options.cost:
                steps = [("cost of a request", lambda: cost.table(pool, options.duration))]
            elif options.commands:
                steps = [("commands through the proxy", lambda: commands.trial(pool))]
            else:
                steps = [
                    ("load, every byte of every reply checked (`server` is the proxy)", lambda: load(pool, options.duration)),
                    ("keys and memory", lambda: spread(pool)),
                    ("a server dies", lambda: loss(pool, is_killed=True)),
                    ("a server hangs", lambda: loss(pool, is_killed=False)),
                ]
            for title, step in steps:
                print(f"\n== {title}")
                step()
        except (Broken, OSError) as problem:
            sys.exit(f"scale-out.sh: {problem}")
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_IGN)
            stop_all()


def leave(number, _frame):
    sys.exit(128 + number)


SIGNALS = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
for number in SIGNALS:
    signal.signal(number, leave)
sys.stdout.reconfigure(line_buffering=True)
main()
