"""A read-through client that remembers what it wrote, and so can say of each reply whether it is right, missing, old or an
error. It knows no process."""

import random
import time

from resp import Client, Refusal

DEPTH = 32


class Broken(Exception):
    """What was claimed does not hold."""


def check(holds, claim):
    if not holds:
        raise Broken(claim)


class Seen:
    """What one stretch of time had of each; times in seconds from its beginning."""

    def __init__(self):
        self.missed, self.old, self.refused_keys = set(), set(), set()
        self.refused, self.changes, self.longest_s = [], [], 0.0

    def bursts(self, gap_s):
        """(first, last, number) of the errors, cut where none was for so long."""
        found = []
        for at in self.refused:
            if not found or at - found[-1][1] > gap_s:
                found.append([at, at, 0])
            found[-1][1:] = at, found[-1][2] + 1
        return found


class Witness:
    """Keys of its own, written once; then it reads them round and round, and writes again what it misses."""

    def __init__(self, port, prefix, count=10_000):
        self.client = Client(port)
        self.keys = [f"{prefix}:{number}" for number in range(count)]
        random.shuffle(self.keys)
        self.written, self.version = {}, 0
        for start in range(0, count, DEPTH):
            check(not self.write(self.keys[start:start + DEPTH]), "expected no error for a first write")

    def value(self, key, version):
        return f"{key}, version {version}".encode().ljust(100, b".")

    def write(self, keys):
        """Returns those that were refused."""
        replies = self.client.pipeline([("SET", key, self.value(key, self.version)) for key in keys])
        self.written.update((key, self.version) for key, reply in zip(keys, replies) if reply == b"OK")
        return [key for key, reply in zip(keys, replies) if reply != b"OK"]

    def on(self, port):
        """Those of its keys that a server has, by its own word."""
        replies = Client(port).pipeline([("EXISTS", key) for key in self.keys])
        return {key for key, reply in zip(self.keys, replies) if reply == 1}

    def watch(self, seconds):
        """Reads for so long, and then on until every key has been read once more and answered."""
        self.version += 1
        seen, began = Seen(), time.monotonic()
        while time.monotonic() < began + seconds:
            left = list(self.keys)
            while left and time.monotonic() < began + seconds:
                batch, left = left[:DEPTH], left[DEPTH:]
                self.read(batch, seen, began)
        left = list(self.keys)
        while left:
            check(time.monotonic() < began + seconds + 30, "expected an end to the errors")
            batch, left = left[:DEPTH], left[DEPTH:]
            left += self.read(batch, seen, began)
        return seen

    def read(self, keys, seen, began):
        """Returns those that were refused."""
        asked = time.monotonic()
        replies = self.client.pipeline([("GET", key) for key in keys])
        now = time.monotonic()
        seen.longest_s = max(seen.longest_s, now - asked)
        missed, refused = [], []
        for key, reply in zip(keys, replies):
            version = self.written[key]
            if isinstance(reply, Refusal):
                refused.append(key)
            elif reply is None:
                missed.append(key)
            elif reply != self.value(key, version):
                older = [old for old in range(version) if reply == self.value(key, old)]
                check(older, f"a wrong value for {key}: {reply}")
                self.written[key] = older[0]
                seen.old.add(key)
                seen.changes.append(now - began)
        if missed:
            seen.missed.update(missed)
            seen.changes.append(now - began)
            refused += self.write(missed)
        seen.refused_keys.update(refused)
        seen.refused += [now - began] * len(refused)
        return refused
