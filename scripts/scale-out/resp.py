"""A Redis client of the fewest words: pipelines of commands in, replies or errors out. It knows no proxy and no key."""

import socket


class Refusal(Exception):
    """A reply that begins with a minus."""


class Client:
    """One connection, to a port of this machine."""

    def __init__(self, port, timeout_s=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")

    def pipeline(self, commands):
        """Sends them all, then returns a reply for each: bytes, int, None, a list, or a Refusal (never raised)."""
        output = bytearray()
        for words in commands:
            output += b"*%d\r\n" % len(words)
            for word in words:
                word = word if isinstance(word, bytes) else str(word).encode()
                output += b"$%d\r\n%s\r\n" % (len(word), word)
        self.socket.sendall(output)
        return [self.reply() for _ in commands]

    def call(self, *words):
        """One command's reply."""
        return self.pipeline([words])[0]

    def reply(self):
        """The next reply; a ConnectionError if the other side has closed."""
        line = self.input.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("closed by the other side")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$*" and rest == b"-1":
            return None
        if kind == b"$":
            return self.input.read(int(rest) + 2)[:-2]
        if kind in b"*%~":
            count = int(rest) * (2 if kind == b"%" else 1)
            return [self.reply() for _ in range(count)]
        if kind == b"-":
            return Refusal(rest.decode())
        return int(rest) if kind == b":" else rest
