//! What is logged, and that logging does not wait: a line for which there is no room is dropped.

use std::fs;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gostash::limits::LOG_LINE_BYTES_MAX;
use gostash::logger::LossyWriter;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::client::{Client, set, start};
use crate::process::limit_descriptors;
use crate::server::{FREE_PORT, Server, command, shell, wait_until};

/// A GET of the key `k`.
const GET: &[u8] = b"GET\x001\0k\r\n";

fn pipe() -> (PipeReader, LossyWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, LossyWriter { out: OwnedFd::from(writer).into(), dropped: 0 })
}

#[test]
fn a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody() {
    let (mut reader, mut log) = pipe();
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let lines = line.clone();
    let (done, written) = mpsc::channel();
    // On a thread, so that a logger which waits fails the test instead of hanging it.
    thread::spawn(move || {
        while log.dropped < 999 {
            assert_eq!(log.write(&lines).expect("a full pipe is no error"), lines.len());
        }
        done.send(log)
    });
    let mut log = written.recv_timeout(Duration::from_secs(20)).expect("writing waits for no reader");
    let mut read = vec![0; 65_536];
    let length = reader.read(&mut read).unwrap();
    assert!(read[..length].chunks_exact(line.len()).all(|read| read == line), "whole lines");

    log.write_all(b"again\n").and_then(|()| log.write_all(b"and again\n")).expect("room again");
    drop(log);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let note = "[999 lines were dropped here: there was no room for them]\nagain\nand again\n";
    assert!(rest.ends_with(note), "{rest:?}");
}

#[test]
fn a_line_too_long_for_a_pipe_is_cut() {
    let (mut reader, mut log) = pipe();
    log.write_all(&[b'x'; 10_000]).expect("room");
    drop(log);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!((read.len(), read.ends_with("x\n")), (LOG_LINE_BYTES_MAX, true));
}

#[test]
fn what_is_done_is_traced_without_values() {
    let (server, mut client) = start(&["--log-level", "trace"]);
    client.check(&set(b"a key", b"a secret"), b"OK\r\n");
    server.wait_for_stderr("Set(8 bytes) a key");
    assert!(!server.stderr().contains("secret"), "{}", server.stderr());
}

#[test]
fn the_environment_s_log_level_wins() {
    let logged = |level: &str, environment: Option<&str>| {
        let mut command = command();
        command.args(FREE_PORT).args(["--max-memory", "16mb", "--log-level", level]);
        let mut server = Server::start_by(command.envs(environment.map(|text| ("RUST_LOG", text))));
        server.signal(Signal::TERM);
        server.wait();
        server.stderr()
    };
    let usual = logged("info", None);
    assert!(usual.contains("max-memory is 16 mb; values may have up to 2097152 bytes\n"));
    assert!(!usual.contains("dropped"), "{usual}");
    assert_eq!(logged("off", None), "");
    assert_eq!(logged("info", Some("off")), "");
    assert!(logged("off", Some("info")).contains("max-memory is 16 mb; values may have up to 2097152 bytes\n"));
}

#[test]
fn a_pipe_that_nobody_reads_as_standard_error_stops_nothing() {
    let (_dir, fifo, unread) = unread_pipe();
    serve_with_stuck_stderr(&fifo, unread);
}

/// A pipe in a directory of its own, its path, and what keeps it open without reading from it.
fn unread_pipe() -> (TempDir, PathBuf, fs::File) {
    let dir = TempDir::new().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Opened for both, so that neither end waits for the other.
    let unread = fs::File::options().read(true).write(true).open(&fifo).unwrap();
    (dir, fifo, unread)
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_hangs_as_standard_error_stops_nothing() {
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    serve_with_stuck_stderr(name.to_str().unwrap().as_ref(), terminal.into());
}

/// The question whether there is room may fail: usually since a signal comes, and here since no descriptor is allowed.
#[cfg(target_os = "linux")]
#[test]
fn a_pipe_that_is_full_and_cannot_be_polled_stops_nothing() {
    let (_dir, fifo, _unread) = unread_pipe();
    let server = start_with_stderr(&fifo, "trace");
    let mut client = Client::tcp(&server);
    client.check(&GET.repeat(2000), &b"ERR\r\n".repeat(2000));
    limit_descriptors(&server, 0);
    // Some lines fit behind the last that was written.
    client.check(&GET.repeat(2000), &b"ERR\r\n".repeat(2000));
}

fn start_with_stderr(path: &Path, level: &str) -> Server {
    let mut shell = shell("exec \"$@\" 2>\"$STDERR\"");
    Server::start_by(shell.env("STDERR", path).args(FREE_PORT).args(["--log-level", level]))
}

/// Serves more than standard error at `path` has room for in log lines, and only then reads it, from `unread`.
fn serve_with_stuck_stderr(path: &Path, mut unread: fs::File) {
    let server = start_with_stderr(path, "debug");
    // A pipe holds 64 kb, and each of these leaves two lines of the log.
    for _ in 0..1500 {
        Client::tcp(&server).check(GET, b"ERR\r\n");
    }
    rustix::io::ioctl_fionbio(&unread, true).unwrap();
    let mut log = String::new();
    wait_until("a line about the lines that are missing", || {
        let mut piece = vec![0; 65_536];
        // Without blocking: where no line comes, the test must end.
        let length = unread.read(&mut piece).unwrap_or(0);
        log += &String::from_utf8_lossy(&piece[..length]);
        Client::tcp(&server).check(GET, b"ERR\r\n");
        log.contains(" lines were dropped here")
    });
}
