//! The binary from outside: options, start-up errors, listening sockets and limits. No more of the protocol
//! than it takes to keep a server busy.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use gostash::config::{EXAMPLE, OPTIONS};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use crate::client::{Client, get, start};
use crate::process::cpu_share;
use crate::server::{FREE_PORT, Server, command, run, shell, socket_dir, wait_until};

#[test]
fn localhost_is_the_default_and_every_address_has_the_one_port() {
    let server = Server::start_by(command().args(["--port", "0"]));
    for address in server.addresses().split(' ') {
        let address: std::net::SocketAddr = address.parse().unwrap();
        assert!(address.ip().is_loopback());
        assert_eq!(address.port(), server.addr().port());
    }
}

#[test]
fn listening_beyond_this_machine_without_a_password_draws_a_warning() {
    for (args, is_warned) in [
        (&["--host", "0.0.0.0"][..], true),
        (&["--host", "127.0.0.1"], false),
        (&["--host", "0.0.0.0", "--password", "x"], false),
    ] {
        let server = Server::start(&[&["--port", "0"], args].concat());
        server.wait_for_stderr("listening on ");
        let warning = "WARN  gostash] listening beyond this machine without a password";
        assert_eq!(server.stderr().contains(warning), is_warned, "{args:?}: {}", server.stderr());
    }
}

#[test]
fn more_memory_than_the_system_has_draws_a_warning_at_start_and_later() {
    let warning = "WARN  gostash::memory] max-memory is 262144 mb, auto would be ";
    // The machine may have as much, so the shell grants fewer addresses.
    let start = |args: &[&str]| Server::start_by(shell("ulimit -v 8000000; exec \"$@\"").args(FREE_PORT).args(args));
    let server = start(&["--max-memory", "256gb"]);
    server.wait_for_stderr(warning);
    let server = start(&[]);
    server.wait_for_stderr("listening on ");
    let mut client = Client::tcp(&server);
    client.check_words("CONFIG SET maxmemory 64mb", "+OK\n");
    assert!(!server.stderr().contains("auto would be"), "{}", server.stderr());
    client.check_words("CONFIG SET maxmemory 256gb", "+OK\n");
    server.wait_for_stderr(warning);
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let dir = socket_dir();
    let socket = path_text(&dir.path().join("socket"));
    let file = write(&dir, &format!("# ours\nhost=127.0.0.1\nport=0\nunix-socket={socket}\n"));

    let by_file = Server::start_by(command().args(["--config", &file]));
    assert_eq!(by_file.addr().ip().to_string(), "127.0.0.1");
    assert!(by_file.addresses().ends_with(&format!(" unix:{socket}")), "{}", by_file.addresses());
    drop(by_file);

    for args in [["--host", "127.0.0.2", "--config", &file], ["--config", &file, "--host", "127.0.0.2"]] {
        let by_flag = Server::start_by(command().args(args));
        assert_eq!(by_flag.addr().ip().to_string(), "127.0.0.2");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for flag in ["-h", "--help"] {
        let help = run(command().args(["--port", "0", flag]));
        assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
        // That it has every option is the example file's affair.
        assert_eq!(help.stdout, EXAMPLE);
    }
    let version = run(command().arg("--version"));
    let expected = format!("gostash {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((version.code, version.stdout, version.stderr), (Some(0), expected, String::new()));
    // Whoever reads it may have seen enough, as `head` has.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = command().arg("--help").stdout(writer).output().unwrap();
    assert_eq!((unread.status.code(), unread.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_wrong_command_line_is_one_line_and_status_2() {
    let flags = OPTIONS.iter().map(|(name, _)| *name).chain(["config", "help", "version"]);
    let flags: Vec<_> = flags.map(|name| format!("--{name}")).collect();
    let one_of = format!("expected one of {}", flags.join(", "));
    for (args, line) in [
        (&["--port", "70000"][..], r#"--port: expected a port from 0 to 65535, got "70000""#.to_owned()),
        (&["--port=x"], r#"--port: expected a port from 0 to 65535, got "x""#.to_owned()),
        (&["--port"], "--port: expected a port from 0 to 65535, got nothing".to_owned()),
        (&["--port", "1\n2"], r#"--port: expected a port from 0 to 65535, got "1\n2""#.to_owned()),
        (&["--config"], "--config: expected the path of a configuration file, got nothing".to_owned()),
        (&["--prot", "1"], format!("invalid option '--prot': {one_of}")),
        (&["--a\nb", "1"], format!("invalid option '--a?b': {one_of}")),
        (&["-p", "1"], format!("invalid option '-p': {one_of}")),
        (&["19201"], format!("unexpected argument \"19201\": {one_of}")),
        (&["--", "--port"], format!("unexpected argument \"--port\": {one_of}")),
    ] {
        expect_error(command().args(args), 2, &line);
    }
}

#[test]
fn a_wrong_file_is_one_line_and_status_2() {
    let dir = TempDir::new().unwrap();
    let missing = path_text(&dir.path().join("missing"));
    let problem = "expected a text file that can be read, got";
    let not_there = format!("--config: {problem} {missing}: No such file or directory (os error 2)");
    expect_error(command().args(["--config", &missing]), 2, &not_there);
    let directory = path_text(dir.path());
    let not_a_file = format!("--config: {problem} {directory}: Is a directory (os error 21)");
    expect_error(command().args(["--config", &directory]), 2, &not_a_file);

    let file = write(&dir, "// two lines above\n\nport=http\n");
    let line = format!(r#"{file}:3: port: expected a port from 0 to 65535, got "http""#);
    expect_error(command().args(["--config", &file]), 2, &line);

    let file = write(&dir, "port\n");
    let line = format!("{file}:1: expected name=value, got a line of another form");
    expect_error(command().args(["--config", &file]), 2, &line);

    let file = write(&dir, "port=1\nprot=1\n");
    let names: Vec<_> = OPTIONS.iter().map(|(name, _)| *name).collect();
    let line = format!(r#"{file}:2: prot: expected one of {}, got "prot""#, names.join(", "));
    expect_error(command().args(["--config", &file]), 2, &line);
}

#[test]
fn an_address_that_cannot_be_had_is_one_line_and_status_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let port = address.port().to_string();
    let problem = format!("cannot listen on {address}: Address already in use (os error 98)");
    let line = format!("--port: {problem}");
    expect_error(command().args(["--host", "127.0.0.1", "--port", &port]), 1, &line);

    let dir = TempDir::new().unwrap();
    let file = write(&dir, &format!("host=127.0.0.1\nport={port}"));
    let line = format!("{file}:2: port: {problem}");
    expect_error(command().args(["--config", &file]), 1, &line);

    let line = "--host: \"192.0.2.1\" has no address of this machine";
    expect_error(command().args(["--host", "192.0.2.1", "--port", "0"]), 1, line);

    let unknown = run(command().args(FEW_CLIENTS).args(["--host", "no such host", "--port", "0"]));
    assert_eq!((unknown.code, unknown.stderr.lines().count()), (Some(1), 1), "{}", unknown.stderr);
    let start = "--host: cannot resolve \"no such host\": ";
    assert!(unknown.stderr.starts_with(start), "{}", unknown.stderr);
}

#[test]
fn too_few_descriptors_to_start_with_is_one_line_and_status_1() {
    // Three are the standard streams, and the server has one more for its log.
    for (limit, what) in [(4, "--port: cannot listen on 127.0.0.1:0"), (5, "cannot poll"), (6, "cannot poll")] {
        // Whoever runs the tests may have left some open, as a build's job server is.
        let mut command = shell(&format!("exec 3>&- 4>&- 5>&- 6>&-; ulimit -n {limit}; exec \"$@\""));
        let ended = run(command.args(FREE_PORT).args(["--max-clients", "1", "--log-level", "off"]));
        assert_eq!(ended.stderr, format!("{what}: Too many open files (os error 24)\n"));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{limit}");
    }
}

#[test]
fn a_closed_standard_output_is_no_error() {
    let dir = socket_dir();
    let socket = path_text(&dir.path().join("socket"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let unread = Stdio::from(writer);
    for (script, stdout) in [("exec \"$@\"", unread), ("exec \"$@\" >&-", Stdio::inherit())] {
        let mut server = shell(script)
            .args(FREE_PORT)
            .args(["--unix-socket", &socket])
            .stdout(stdout)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = rustix::process::Pid::from_child(&server);
        wait_until("the server to listen", || UnixStream::connect(&socket).is_ok());
        Client::unix(socket.as_ref()).check(&get(b"k"), b"ERR\r\n");
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert_eq!(server.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_unix_socket_is_for_its_user_alone_and_gone_at_exit() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    // With the widest umask, so that the mode is the server's own doing.
    let mut server = Server::start_by(shell("umask 0; exec \"$@\"").args(FREE_PORT).arg("--unix-socket").arg(&path));
    assert_eq!(server.addresses(), format!("{} unix:{}", server.addr(), path.display()));
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o700);
    UnixStream::connect(&path).unwrap();

    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(!path.exists(), "the socket's path is still there");
}

#[test]
fn a_dead_server_s_socket_is_replaced() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "dropping a listener leaves its path");
    let _server = Server::start(&["--unix-socket", &path_text(&path)]);
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_not_a_dead_server_s_socket_is_refused_and_left_alone() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let text = path_text(&path);
    let refused = |problem: &str| {
        let line = format!("--unix-socket: cannot listen on {text}: {problem}");
        expect_error(command().args(FREE_PORT).args(["--unix-socket", &text]), 1, &line);
    };

    let live = Server::start(&["--unix-socket", &text]);
    refused("another server is listening there");
    UnixStream::connect(&path).unwrap();
    drop(live);
    fs::remove_file(&path).unwrap();

    // A server that hangs: its queue is full, and connecting in the usual way would wait.
    let hung = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    hung.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    hung.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    refused("another server is listening there");
    fs::remove_file(&path).unwrap();

    fs::write(&path, "precious").unwrap();
    refused("it exists and is not a socket");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    fs::remove_file(&path).unwrap();

    std::os::unix::fs::symlink("elsewhere", &path).unwrap();
    refused("it exists and is not a socket");
    fs::remove_file(&path).unwrap();

    let below = path_text(&path.join("below"));
    let line = format!("--unix-socket: cannot listen on {below}: No such file or directory (os error 2)");
    expect_error(command().args(FREE_PORT).args(["--unix-socket", &below]), 1, &line);
}

#[test]
fn another_server_s_socket_is_not_removed_at_exit() {
    let dir = socket_dir();
    let path = dir.path().join("socket");
    let mut server = Server::start(&["--unix-socket", &path_text(&path)]);
    fs::remove_file(&path).unwrap();
    let _another = UnixListener::bind(&path).unwrap();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    UnixStream::connect(&path).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn the_process_is_one_thread_pinned_to_the_core_asked_for() {
    let usable = rustix::thread::sched_getaffinity(None).unwrap();
    let last = (0..rustix::thread::CpuSet::MAX_CPU).rfind(|cpu| usable.is_set(*cpu)).unwrap();
    let server = Server::start(&["--cpu", &last.to_string()]);
    assert_eq!(server.status_line("Cpus_allowed_list"), last.to_string());
    assert_eq!(server.status_line("Threads"), "1");

    if last < 127 {
        let refused = run(command().args(FREE_PORT).args(FEW_CLIENTS).args(["--cpu", "1023"]));
        let (start, end) =
            ("--cpu: expected a core that this process may use, [", "], got 1023: Invalid argument (os error 22)\n");
        assert!(refused.stderr.starts_with(start) && refused.stderr.ends_with(end), "{}", refused.stderr);
        assert_eq!((refused.code, refused.stderr.lines().count()), (Some(1), 1));
        assert_eq!(refused.stdout, "", "it never listened");
    }
}

/// With huge pages, the kernel would put memory back where it was given back, and take the process over its limit.
#[cfg(target_os = "linux")]
#[test]
fn the_process_gets_no_huge_pages() {
    assert_eq!(Server::start(&[]).status_line("THP_enabled"), "0");
}

/// It polls without sleeping for 20 ms after the last request, and no longer.
#[cfg(target_os = "linux")]
#[test]
fn a_server_that_spins_answers_and_goes_to_sleep() {
    let (server, mut client) = start(&["--spin", "20000"]);
    let sleeps = || server.status_line("voluntary_ctxt_switches").parse::<u64>().unwrap();
    // A busy machine may stop the client for longer than that.
    wait_until("20 requests between which it hardly sleeps", || {
        let before = sleeps();
        for _ in 0..20 {
            sleep(Duration::from_millis(2));
            client.check(&get(b"key"), b"ERR\r\n");
        }
        sleeps() - before < 10
    });
    // Ten times as long as it spins.
    sleep(Duration::from_millis(200));
    let share = cpu_share(&server);
    assert!(share < 0.02, "{share} of a core for nobody");
    client.check(&get(b"key"), b"ERR\r\n");
}

#[cfg(target_os = "linux")]
#[test]
fn the_descriptor_limit_is_raised_to_fit_max_clients() {
    let server = Server::start_by(shell("ulimit -Sn 40; exec \"$@\"").args(FREE_PORT).args(["--max-clients", "300"]));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid().as_raw_nonzero())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: usize = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!((300..400).contains(&soft), "{line}");
    assert!(!server.stderr().contains("max-clients"), "{}", server.stderr());
}

#[test]
fn the_descriptor_limit_is_raised_again_when_more_clients_are_wanted() {
    let server = Server::start_by(shell("ulimit -Sn 40; exec \"$@\"").args(FREE_PORT).args(["--max-clients", "10"]));
    Client::tcp(&server).check_words("CONFIG SET maxclients 300", "+OK\n");
    let mut clients = Client::many(&server, 250);
    clients.iter_mut().for_each(|client| client.check_words("PING", "+PONG\n"));
}

#[test]
fn where_the_descriptor_limit_cannot_be_raised_max_clients_is_lowered() {
    for (limit, clients) in [(64, 32), (20, 10)] {
        let server = Server::start_by(shell(&format!("ulimit -n {limit}; ulimit -Sn 20; exec \"$@\"")).args(FREE_PORT));
        let line = format!("max-clients is {clients}, not 10000: the descriptor limit granted is {limit}\n");
        assert!(server.stderr().contains(&line), "{}", server.stderr());
        let shown = format!("*2\n$10\nmaxclients\n$2\n{clients}\n");
        Client::tcp(&server).check_words("CONFIG GET maxclients", &shown);
    }
    let enough = Server::start_by(shell("ulimit -n 64; exec \"$@\"").args(FREE_PORT).args(["--max-clients", "10"]));
    assert!(!enough.stderr().contains("max-clients is"), "{}", enough.stderr());
    Client::tcp(&enough).check_words("CONFIG SET maxclients 32", "+OK\n");
    Client::tcp(&enough).check_words("CONFIG SET maxclients 33", "-ERR CONFIG SET failed");
}

/// So few clients that there are descriptors for them anywhere.
const FEW_CLIENTS: [&str; 2] = ["--max-clients", "10"];

/// Runs what must end with this status and this one line on standard error, and nothing on standard output.
fn expect_error(command: &mut Command, code: i32, line: &str) {
    // A good command line would lead to a warning before the error, where the system grants few descriptors.
    let ended = run(if code == 1 { command.args(FEW_CLIENTS) } else { command });
    assert_eq!(ended.stderr, format!("{line}\n"));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{line}");
}

/// A configuration file with this text.
fn write(dir: &TempDir, text: &str) -> String {
    let path: PathBuf = dir.path().join("gostash.conf");
    fs::write(&path, text).unwrap();
    path_text(&path)
}

fn path_text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
