"""N servers and the proxy in front of them, as processes: which core each has, how the proxy is configured and why. It
knows nothing of what they are asked."""

import os
import signal
import socket
import subprocess
import time

# The children are killed when this process ends, whatever ends it, SIGKILL included.
TIED = ["setpriv", "--pdeathsig", "KILL"]

BINARIES = os.environ["CARGO_TARGET_DIR"] + "/release"

# Settings of the proxy that the trial's checks need; the configuration says why they are what they are.
FAILURES = 2
TIMEOUT_MS = 400
RETRY_MS = 800
POINTS_PER_SERVER = 160

CONFIGURATION = """\
# nutcracker -c THIS -m 1024 -a 127.0.0.1
# -m: every request under way holds a buffer of so many bytes. Small requests do not fill the usual 16,384, which cost
#     ten times the memory and, in pipelines of 64, twice the CPU time. A key has to fit into one.
# -a: the statistics on port 22222 are for everybody on the network otherwise.
gostash:
  listen: 127.0.0.1:{port}
  redis: true
  # Consistent hashing: {points} points for each server on a ring, so that a lost one's keys go to all others.
  distribution: ketama
  # The default, fnv1a_64, is cut to 32 bits here, and keys that differ in their last digits alone stay together.
  hash: murmur
  # So many failures in a row, and a server is left out. A single one may be a connection that somebody closed.
  auto_eject_hosts: true
  server_failure_limit: {failures}
  # No reply for so many ms is a failure. The kernel resends a lost packet after 200 at the earliest.
  timeout: {timeout}
  # So many ms later clients' requests try it again. Short for this trial: a machine that is down and refuses nothing
  # holds them up for {failures} timeouts each time, so 30000, the default, is a better choice.
  server_retry_timeout: {retry}
  # Connections before the first request. One to each server, so that a client's own requests stay in order.
  preconnect: true
  server_connections: 1
  # What is hashed is the name, so a server may move to another address and keep its keys. The 1 is not used then.
  servers:
"""


def free_port():
    """A port that is free now; somebody else may take it before we do."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """A child on one core."""

    started = []

    def __init__(self, core, command, **options):
        command = [*TIED, "taskset", "-c", str(core), *map(str, command)]
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
        self.started.append(self)

    def cpu_ns(self):
        """The CPU time of all its threads so far."""
        tasks = f"/proc/{self.child.pid}/task"
        return sum(int(open(f"{tasks}/{task}/schedstat").read().split()[0]) for task in os.listdir(tasks))

    def stop(self, how=signal.SIGKILL):
        """Ends it, and waits until it has."""
        self.child.send_signal(how)
        self.child.wait()


class Server(Process):
    """A gostash; its port is free if none is named."""

    def __init__(self, core, memory_mb, directory, port=0):
        self.core, self.memory_mb, self.directory = core, memory_mb, directory
        with open(f"{directory}/servers.log", "a") as log:
            command = [f"{BINARIES}/gostash", "--host", "127.0.0.1", "--port", port, "--max-memory", f"{memory_mb}mb"]
            super().__init__(core, command, stdout=subprocess.PIPE, stderr=log, text=True)
        line = self.child.stdout.readline()
        if not line.startswith("listening on "):
            raise ChildProcessError("a server did not start:\n" + open(f"{directory}/servers.log").read())
        self.port = int(line.rsplit(":", 1)[1])

    def again(self):
        """A new one at the same place."""
        return Server(self.core, self.memory_mb, self.directory, self.port)


class Pool:
    """The servers, the proxy's port, and the cores."""

    def __init__(self, count, memory_mb, directory):
        self.directory, self.memory_mb = directory, memory_mb // count
        self.servers, self.proxy = [], None
        cores = sorted(os.sched_getaffinity(0))
        # The proxy is the busiest: it gets a core first, then the load generator, then the servers share the rest.
        self.proxy_core = cores[-1]
        self.load_core = cores[-2:][0]
        rest = cores[:-2] or cores[:1]
        self.server_cores = [rest[server % len(rest)] for server in range(count)]
        self.are_cores_shared = len(cores) < count + 2

    def start(self):
        """Starts the servers and the proxy."""
        for core in self.server_cores:
            self.servers.append(Server(core, self.memory_mb, self.directory))
        for _ in range(5):
            self.port = free_port()
            if self.start_proxy():
                return
        raise ChildProcessError("the proxy did not start:\n" + open(f"{self.directory}/proxy.log").read())

    def start_proxy(self):
        """False if it ended, as it does if somebody else has taken its ports."""
        settings = dict(port=self.port, points=POINTS_PER_SERVER, failures=FAILURES, timeout=TIMEOUT_MS, retry=RETRY_MS)
        lines = [f"    - 127.0.0.1:{server.port}:1 server{at + 1}\n" for at, server in enumerate(self.servers)]
        self.configuration = CONFIGURATION.format(**settings) + "".join(lines)
        path = f"{self.directory}/nutcracker.yml"
        with open(path, "w") as file:
            file.write(self.configuration)
        command = ["nutcracker", "-c", path, "-m", 1024, "-a", "127.0.0.1", "-s", free_port()]
        command += ["-o", f"{self.directory}/proxy.log", "-p", f"{self.directory}/proxy.pid"]
        self.proxy = Process(self.proxy_core, command, stderr=subprocess.DEVNULL)
        while self.proxy.child.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                # Another process may have answered, if the proxy is about to find its port taken.
                time.sleep(0.1)
                return self.proxy.child.poll() is None
            except ConnectionRefusedError:
                time.sleep(0.02)
        return False

    def describe(self):
        """The configuration of the proxy, and the cores of all processes."""
        cores = ", ".join(map(str, self.server_cores))
        text = f"{self.configuration}\n{len(self.servers)} servers of {self.memory_mb} mb each on cores {cores}; "
        text += f"the proxy on core {self.proxy_core}, the load generator on core {self.load_core}."
        if self.are_cores_shared:
            text += "\nToo few cores for everybody to have one: those who share take turns, so rates and latencies say little."
        return text

    def bench(self, port, *options, core=None, **streams):
        """Starts the load generator."""
        target = [f"{BINARIES}/gostash-bench", "--protocol", "resp", "--host", "127.0.0.1", "--port", port]
        return Process(self.load_core if core is None else core, [*target, *options], **streams)


def stop_all():
    """Kills all processes that still run."""
    for process in reversed(Process.started):
        if process.child.poll() is None:
            process.stop()
