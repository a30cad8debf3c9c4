"""What a request costs through the proxy, and without it: CPU time of everybody but the load generator, and latency."""

import json
import subprocess

from witness import check

# Few enough a second that nobody is busy, whatever the machine.
RATE = 5000


def bench(pool, port, core, *options):
    """The figures of one run of the load generator."""
    load = pool.bench(port, "--json", *options, core=core, stdout=subprocess.PIPE, text=True)
    line = load.child.communicate()[0]
    check(load.child.returncode == 0, "the load generator failed")
    return json.loads(line)


def table(pool, seconds):
    """Prints it. Without the proxy one server has all keys, and the load generator the proxy's core."""
    print(f"  {'':20} {'depth':>5} {'proxy ns':>9} {'servers ns':>11} {'requests/s':>11}")
    latencies = []
    for way, port, servers, core in (
        ("without the proxy", pool.servers[0].port, pool.servers[:1], pool.proxy_core),
        ("through the proxy", pool.port, pool.servers, pool.load_core),
    ):
        bench(pool, port, core, "--duration", 0.2)
        for depth in (1, 16, 64):
            before = [process.cpu_ns() for process in (pool.proxy, *servers)]
            run = bench(pool, port, core, "--no-preload", "--warmup", 0, "--duration", seconds, "--pipeline", depth)
            used = [process.cpu_ns() - ns for process, ns in zip((pool.proxy, *servers), before)]
            proxy, together = used[0] / run["requests"], sum(used[1:]) / run["requests"]
            print(f"  {way:20} {depth:5} {proxy:9,.0f} {together:11,.0f} {run['requests_per_second']:11,.0f}")
        run = bench(pool, port, core, "--no-preload", "--duration", seconds, "--rate", RATE)
        latencies.append(f"{way} p50 {run['latency_p50_ns'] / 1000:.0f} us, p99 {run['latency_p99_ns'] / 1000:.0f} us")
    print(f"  at {RATE:,} requests a second: {'; '.join(latencies)}")
