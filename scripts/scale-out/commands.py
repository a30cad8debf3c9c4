"""Every command that the servers know, asked of one of them and through the proxy: which does the proxy pass on?"""

from resp import Client

# Beside each command with as many words as it must have: forms that a proxy has to understand to pass them on.
FORMS = """mget 1 2 3|mset 1 1 2 2 3 3|del 1 2 3|unlink 1 2 3|exists 1 2 3|touch 1 2 3|set 1 1 ex 9 nx|set 1 1 get|set 1 1 keepttl
getex 1 ex 9|expire 1 9 nx|hello 3|client setinfo lib-name x|client id|config get maxmemory|memory usage 1|ping 1|scan 0|select 0
info server|command count|quit"""


def answer(ports, port, words):
    """What comes back for it if every server's keys 1 to 3 are set, through whatever is on `port`."""
    for server in ports:
        Client(server).call("FLUSHALL")
    Client(port).pipeline([("SET", key, "1") for key in (1, 2, 3)])
    try:
        reply = Client(port, timeout_s=2).call(*words)
    except TimeoutError:
        return "no reply"
    except ConnectionError:
        return "closed"
    return f"-{reply}" if isinstance(reply, Exception) else reply


def trial(pool):
    ports = [server.port for server in pool.servers]
    table = Client(ports[0]).call("COMMAND")
    forms = [[name.decode(), *["1"] * (abs(arity) - 1)] for name, arity, *_ in table]
    forms += [form.split() for form in FORMS.replace("\n", "|").split("|")]
    outcomes = {}
    for words in forms:
        direct, proxied = answer(ports, ports[0], words), answer(ports, pool.port, words)
        outcome = "answered alike" if proxied == direct else str(proxied)[:100]
        outcomes.setdefault(outcome, []).append(" ".join(words).upper())
    for outcome, commands in outcomes.items():
        print(f"  {outcome}: {', '.join(commands)}")
