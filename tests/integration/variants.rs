//! The multithreaded variants answer what the server answers, so that a comparison compares threading and nothing else.

use std::process::{Command, Stdio};
use std::thread;

use crate::client::{Client, del, get, inc, line, set};
use crate::rows::{large_rows, rows};
use crate::server::Server;
use crate::wire::{Bench, both_ends_by_bytes};

/// With so much memory, a sixteenth of it takes the longest value.
const MEMORY: &str = "2147483648";

fn start(binary: &str, args: &[&str]) -> Server {
    Server::start_by(Command::new(binary).args(args).args(["--max-memory", MEMORY]).stdin(Stdio::null()))
}

fn threads() -> Server {
    start(env!("CARGO_BIN_EXE_gostash-threads"), &[])
}

fn loops(count: &str) -> Server {
    start(env!("CARGO_BIN_EXE_gostash-loops"), &["--threads", count])
}

#[test]
fn a_thread_for_each_connection_passes_the_rows() {
    pass_the_rows(threads());
}

#[test]
fn one_event_loop_over_locks_passes_the_rows() {
    pass_the_rows(loops("1"));
}

#[test]
fn two_event_loops_pass_the_rows() {
    pass_the_rows(loops("2"));
}

fn pass_the_rows(server: Server) {
    let mut bench = Bench::new(server, None);
    for row in rows().iter().chain(&large_rows()) {
        bench.run(row, &[row.send.len()]);
        bench.run(row, &[row.send.len() / 2, row.send.len()]);
        if row.send.len() > 10_000 {
            bench.run(row, &both_ends_by_bytes(row.send.len()));
        } else {
            bench.run(row, &(1..=row.send.len()).collect::<Vec<_>>());
        }
    }
}

/// Two threads that add to one number at the same moment would lose a step without the locks.
#[test]
fn no_step_is_lost_between_threads() {
    const CLIENTS: usize = 8;
    const STEPS: usize = 20_000;
    for server in [threads(), loops("2")] {
        let steps = [inc(b"one"), inc(b"another")].concat().repeat(STEPS);
        thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = Client::tcp(&server);
                    let mut reader = client.again();
                    scope.spawn(move || while !reader.read_line().is_empty() {});
                    client.send(&steps);
                    client.half_close();
                });
            }
        });
        let expected = line((CLIENTS * STEPS).to_string().as_bytes()).repeat(2);
        Client::tcp(&server).check(&[get(b"one"), get(b"another")].concat(), &expected);
    }
}

/// A client that reads nothing holds up itself and nobody else, and gets everything when it reads.
#[test]
fn a_client_that_reads_late_gets_every_reply() {
    for server in [threads(), loops("1")] {
        let value = vec![b'v'; 100_000];
        let mut late = Client::tcp(&server);
        late.check(&set(b"key", &value), b"OK\r\n");
        let asked = get(b"key").repeat(300);
        late.send(&asked);
        let mut other = Client::tcp(&server);
        other.check(&[set(b"key", b"short"), get(b"key"), del(b"key")].concat(), b"OK\r\nshort\r\nOK\r\n");
        late.half_close();
        let mut replies = 0;
        while !late.read_line().is_empty() {
            replies += 1;
        }
        assert_eq!(replies, 300);
    }
}
