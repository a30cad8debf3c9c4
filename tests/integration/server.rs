//! A real server for a test: the built binary on a free port, ended and reaped when the test is done with it.
//! It knows how the binary starts and stops, and no protocol.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::TempDir;

/// Longer than anything here takes, so that a test which would hang fails instead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A free port of 127.0.0.1.
pub(crate) const FREE_PORT: [&str; 4] = ["--host", "127.0.0.1", "--port", "0"];

/// A running server. Dropping it kills and reaps the process.
pub(crate) struct Server {
    child: Child,
    addresses: String,
    stderr: File,
    // Held open: a server may print to it at any time.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the server on a free port of 127.0.0.1, with `args` after (and so above) that.
    pub(crate) fn start(args: &[&str]) -> Server {
        Server::start_by(command().args(FREE_PORT).args(args))
    }

    /// Starts the server by a command of the caller's own, for other environments and wrappers.
    pub(crate) fn start_by(command: &mut Command) -> Server {
        allow_descriptors();
        let stderr = tempfile::tempfile().expect("a file for standard error");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(stderr.try_clone().expect("a second handle on it"))
            .spawn()
            .expect("the server's binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("standard output is piped"));
        let mut line = String::new();
        let read = stdout.read_line(&mut line);
        let mut server = Server { child, addresses: String::new(), stderr, _stdout: stdout };
        match line.strip_prefix("listening on ") {
            Some(addresses) => server.addresses = addresses.trim_end().to_owned(),
            None => panic!("no `listening on` line: {line:?} ({read:?}); {}", server.stderr()),
        }
        server
    }

    /// Every address, as the `listening on` line has them.
    pub(crate) fn addresses(&self) -> &str {
        &self.addresses
    }

    /// The first TCP address.
    pub(crate) fn addr(&self) -> SocketAddr {
        let first = self.addresses.split(' ').next().unwrap_or_default();
        first.parse().expect("the first address is a TCP one")
    }

    /// A new connection to [`addr`](Self::addr), whose reads and writes fail rather than wait for ever.
    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr()).expect("the server accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        stream
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server's process is there");
    }

    /// What it wrote to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        let mut text = vec![0; self.stderr.metadata().map_or(0, |file| file.len()) as usize];
        self.stderr.read_exact_at(&mut text, 0).expect("the file can be read");
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until standard error holds `text`.
    pub(crate) fn wait_for_stderr(&self, text: &str) {
        wait_until(&format!("{text:?} on standard error"), || self.stderr().contains(text));
    }

    /// A line of `/proc/PID/status`, without its name.
    pub(crate) fn status_line(&self, name: &str) -> String {
        let path = format!("/proc/{}/status", self.child.id());
        let text = std::fs::read_to_string(path).expect("the server's process is there");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.expect("the kernel has that line").trim().to_owned()
    }

    /// Waits for the server to end by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server to end", || {
            status = self.child.try_wait().expect("the child is ours");
            status.is_some()
        });
        status.expect("just seen")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; either way nothing is left behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server's standard error:\n{}", self.stderr());
        }
    }
}

/// The binary, undisturbed by what the tester has in the environment.
pub(crate) fn command() -> Command {
    undisturbed(Command::new(env!("CARGO_BIN_EXE_gostash")))
}

/// A command that starts a server, without what the server would read from the tester's environment.
pub(crate) fn undisturbed(mut command: Command) -> Command {
    command.env_remove("RUST_LOG").env_remove("GOSTASH_PASSWORD").stdin(Stdio::null());
    command
}

/// A shell that runs the script with the server's binary, and what arguments are added, as `"$@"`.
pub(crate) fn shell(script: &str) -> Command {
    let mut shell = undisturbed(Command::new("sh"));
    shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_gostash")]);
    shell
}

/// A directory in which a Unix socket's path is short enough, wherever the tester has temporary files.
pub(crate) fn socket_dir() -> TempDir {
    tempfile::tempdir_in("/tmp").expect("a directory")
}

/// Raises the soft limit on descriptors as far as it goes: it is often 1,024, and some tests have thousands of clients.
pub(crate) fn allow_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit can be raised");
    assert!(maximum.is_none_or(|maximum| maximum >= 4096), "the tests need 4,096 descriptors, see ulimit -Hn");
}

/// What a start that ends by itself did.
pub(crate) struct Ended {
    /// The exit status; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    /// All of standard output.
    pub(crate) stdout: String,
    /// All of standard error.
    pub(crate) stderr: String,
}

/// Runs a command that is expected to end by itself, and ends it if it does not.
pub(crate) fn run(command: &mut Command) -> Ended {
    let mut stdout = tempfile::tempfile().expect("a file for standard output");
    let mut stderr = tempfile::tempfile().expect("a file for standard error");
    let mut child = command
        .stdout(stdout.try_clone().expect("a second handle on it"))
        .stderr(stderr.try_clone().expect("a second handle on it"))
        .spawn()
        .expect("the server's binary starts");
    let since = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if since.elapsed() > PATIENCE {
            let _ = child.kill();
        }
        sleep(Duration::from_millis(2));
    };
    Ended { code: status.code(), stdout: text(&mut stdout), stderr: text(&mut stderr) }
}

/// Waits until `met`, or fails naming what it waited for.
pub(crate) fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

fn text(file: &mut File) -> String {
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("the file can be read");
    String::from_utf8_lossy(&text).into_owned()
}
