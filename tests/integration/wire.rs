//! Every line of the wire's tables, cut in every way: over a socket to the real server, and through a session
//! without one. The rows are in `rows`; here is how they are cut.

use std::path::PathBuf;

use gostash::limits::*;

use crate::client::{Client, del, get, inc, line, set, words};
use crate::process::at_once;
use crate::rows::{Ending, KEYS, Row, large_rows, rows};
use crate::server::{Server, socket_dir};
use crate::session::{self, Reader};

/// A server, and a second client whose round trips prove that it has seen what the first one sent.
pub(crate) struct Bench {
    server: Server,
    unix: Option<PathBuf>,
    bystander: Client,
    /// How many clients it has had, the bystander among them.
    pub(crate) clients: u64,
    /// Removes what a run leaves, so that every run starts alike; and a request that no row disturbs. With their replies.
    clean: [Vec<u8>; 2],
    round_trip: [&'static [u8]; 2],
}

#[test]
fn session_rows_cut() {
    for row in &rows() {
        let len = row.send.len();
        session::run(row, &[len], Reader::Eager);
        session::run(row, &[len], Reader::Lazy);
        session::run(row, &(1..=len).collect::<Vec<_>>(), Reader::Eager);
        for split in 1..len {
            session::run(row, &[split, len], Reader::Eager);
        }
    }
}

#[test]
fn session_large_rows_cut() {
    for row in &large_rows() {
        let len = row.send.len();
        session::run(row, &[len], Reader::Eager);
        for reader in [Reader::Lazy, Reader::Crowded] {
            session::run(row, &[len], reader);
            for split in sampled_splits(len) {
                session::run(row, &[split, len], reader);
            }
        }
        session::run(row, &both_ends_by_bytes(len), Reader::Lazy);
        if len < 40_000 {
            session::run(row, &(1..=len).collect::<Vec<_>>(), Reader::Lazy);
        }
    }
}

#[test]
fn rows_whole() {
    let mut bench = Bench::start();
    for row in rows().iter().chain(&large_rows()) {
        bench.run(row, &[row.send.len()]);
    }
}

#[test]
fn rows_byte_by_byte() {
    let mut bench = Bench::start();
    for row in rows() {
        bench.run(&row, &(1..=row.send.len()).collect::<Vec<_>>());
    }
}

#[test]
fn rows_cut_at_every_split() {
    let mut bench = Bench::start();
    for row in rows() {
        for split in 1..row.send.len() {
            bench.run(&row, &[split, row.send.len()]);
        }
    }
}

#[test]
fn large_rows_cut() {
    let mut bench = Bench::start();
    for row in large_rows() {
        for split in sampled_splits(row.send.len()) {
            bench.run(&row, &[split, row.send.len()]);
        }
        bench.run(&row, &both_ends_by_bytes(row.send.len()));
    }
}

#[test]
fn rows_over_a_unix_socket() {
    let folder = socket_dir();
    let path = folder.path().join("socket");
    let server = Server::start(&["--unix-socket", path.to_str().expect("a plain path")]);
    let mut bench = Bench::new(server, Some(path));
    for row in rows().iter().chain(&large_rows()) {
        bench.run(row, &[row.send.len()]);
        bench.run(row, &[row.send.len() / 2, row.send.len()]);
    }
}

/// A broken frame is told apart by its last byte, and by none before it.
#[test]
fn broken_rows_are_not_refused_early() {
    let mut bench = Bench::start();
    for mut row in rows().into_iter().chain(large_rows()) {
        if row.ending == Ending::Broken {
            row.send.pop();
            row.expect.truncate(row.expect.len() - b"ERR\r\n".len());
            row.ending = Ending::Unfinished;
            bench.run(&row, &[row.send.len()]);
        }
    }
}

/// A read or a turn that is filled exactly leaves nothing behind that no event would tell of, the end included.
#[test]
fn bounds_that_are_hit_exactly_lose_nothing() {
    let server = Server::start(&[]);
    for bound in [READ_BYTES, READ_LONG_BYTES, READ_LARGE_BYTES, OUTPUT_HIGH_BYTES, TURN_READ_BYTES, TURN_WRITE_BYTES] {
        for len in [bound - 1, bound, bound + 1, 2 * bound, 3 * bound] {
            // Many short frames, behind one that makes up for the rest.
            let shortest = inc(b"");
            let filler = get(&vec![b'k'; 64 + (len - get(&[b'k'; 64]).len()) % shortest.len()]);
            let frames = (len - filler.len()) / shortest.len();
            let input = [filler, shortest.repeat(frames)].concat();
            assert_eq!(input.len(), len);
            let numbers = (1..=frames).flat_map(|number| line(number.to_string().as_bytes()));
            let replies: Vec<u8> = line(b"ERR").into_iter().chain(numbers).collect();
            for ends in [false, true] {
                let mut client = Client::tcp(&server);
                client.check_beside(&input, ends, &replies);
                if !ends {
                    client.check(&get(b"no such key"), b"ERR\r\n");
                    client.half_close();
                }
                client.expect_end();
                Client::tcp(&server).check(&del(b""), b"OK\r\n");
            }
            // A value, with what follows it, and the same on the way out.
            let value: Vec<u8> = (0..len - 2).map(|at| b'a' + (at % 23) as u8).collect();
            let mut client = Client::tcp(&server);
            let misses = READ_BYTES / 4;
            let input = [set(b"value", &value), get(b"no such key").repeat(misses)].concat();
            client.check_beside(&input, false, &[&b"OK\r\n"[..], &b"ERR\r\n".repeat(misses)].concat());
            client.send(&get(b"value").repeat(3));
            client.half_close();
            client.expect(&line(&value).repeat(3));
            client.expect_end();
        }
    }
}

/// A client that has sent a frame which took several reads sends more of its kind, which are to take one.
#[test]
fn frames_like_the_last_are_read_at_once() {
    let server = Server::start(&[]);
    let mut asker = Client::tcp(&server);
    // The kernel may hand over what is sent at once in two parts, unless it is short.
    let kinds = [(1_000, 32, 280), (READ_BYTES, 1, 180), (CARRY_BYTES_MAX, 1, 280), (SMALL_VALUE_BYTES_MAX, 1, 280)];
    for (bytes, count, turns_max) in kinds {
        let mut client = Client::tcp(&server);
        let (frame, before) = (set(b"key", &vec![b'v'; bytes]), asker.info("loop_turns:"));
        (0..100).for_each(|_| client.check(&frame.repeat(count), &b"OK\r\n".repeat(count)));
        let turns = asker.info("loop_turns:") - before;
        assert!(turns < turns_max, "{turns} turns for 100 times {count} frames of {bytes} bytes and some more");
    }
    // Of each of these, one read takes all, in a turn of its own.
    let (frames, replies) = (set(b"key", &vec![b'v'; 10_000]).repeat(6), b"OK\r\n".repeat(6));
    let mut clients = Client::many(&server, 20);
    clients.iter_mut().for_each(|client| client.check(&frames, &replies));
    let before = asker.info("loop_turns:");
    at_once(&server, || clients.iter_mut().for_each(|client| client.send(&frames)));
    clients.iter_mut().for_each(|client| client.expect(&replies));
    let turns = asker.info("loop_turns:") - before;
    assert!(turns < 30, "{turns} turns for 6 long frames of each of 20 clients that are there at once");
}

/// The limit on values is an option, and an eighth of the memory is one, too.
#[test]
fn a_value_over_its_limit_is_a_broken_frame() {
    for (option, setting, limit) in [("--max-value-size", "100b", 100), ("--max-memory", "8mb", 1 << 20)] {
        let server = Server::start(&[option, setting]);
        let value = vec![b'v'; limit];
        let mut client = Client::tcp(&server);
        client.check(&set(b"key", &value), b"OK\r\n");
        client.check(&get(b"key"), &line(&value));
        client.check(format!("SET\x003\0key\0{}", limit + 1).as_bytes(), b"ERR\r\n");
        client.expect_end();
    }
}

impl Bench {
    fn start() -> Bench {
        // An eighth of this is above the longest value, whatever machine the tests run on.
        Bench::new(Server::start(&["--max-memory", "1gb"]), None)
    }

    pub(crate) fn new(server: Server, unix: Option<PathBuf>) -> Bench {
        let clean = KEYS.map(|key| [set(key, b""), del(key)].concat()).concat();
        let clean = [clean, b"OK\r\n".repeat(2 * KEYS.len())];
        let round_trip = [&b"GET\x0016\0no row uses this\r\n"[..], b"ERR\r\n"];
        Bench { bystander: Client::tcp(&server), server, unix, clients: 1, clean, round_trip }
    }

    /// For rows of the Redis protocol.
    pub(crate) fn resp(server: Server) -> Bench {
        let (clean, round_trip) = ([words("FLUSHALL"), line(b"+OK")], [&b"PING\r\n"[..], b"+PONG\r\n"]);
        Bench { clean, round_trip, ..Bench::new(server, None) }
    }

    /// Runs a row in pieces that end at `ends`; each is seen by the server before the next is sent.
    pub(crate) fn run(&mut self, row: &Row, ends: &[usize]) {
        let _told = Told(row, ends);
        // A new server has nothing to remove, and no memory to give back.
        if self.clients > 1 {
            self.bystander.check(&self.clean[0], &self.clean[1]);
        }
        self.clients += 1;
        // The server has one thread: once it has answered this, it has read whatever reached it before.
        let [ask, answer] = self.round_trip;
        let mut client = match &self.unix {
            Some(path) => Client::unix(path),
            None => Client::tcp(&self.server),
        };
        // Replies may outgrow every buffer on the way before all is sent, so they are read beside the sending.
        let mut sender = client.again();
        std::thread::scope(|scope| {
            let bystander = &mut self.bystander;
            scope.spawn(move || {
                let mut from = 0;
                for &to in ends {
                    sender.send(&row.send[from..to]);
                    if ends.len() > 1 {
                        bystander.check(ask, answer);
                    }
                    from = to;
                }
                if row.ending == Ending::Unfinished {
                    sender.half_close();
                }
            });
            client.expect(&row.expect);
        });
        match row.ending {
            Ending::Broken | Ending::Closed | Ending::Unfinished => client.expect_end(),
            Ending::Open => {
                client.check(ask, answer);
                client.half_close();
                client.expect_end();
            }
        }
    }
}

/// Says which row it was, if it failed.
struct Told<'a>(&'a Row, &'a [usize]);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (row, ends) = (&self.0, self.1.iter().take(3).collect::<Vec<_>>());
            eprintln!("--- row: {}, in {} pieces that end at {ends:?}...", row.name, self.1.len());
        }
    }
}

/// Byte by byte where a frame's outline is, and where it ends.
pub(crate) fn both_ends_by_bytes(len: usize) -> Vec<usize> {
    (1..64).chain(len - 64..=len).collect()
}

/// Cuts where something ends or a buffer may: the outline, the chunks, the end.
fn sampled_splits(len: usize) -> Vec<usize> {
    // A megabyte takes its time, so few of those.
    let step = if len > 1_000_000 { 4_000_037 } else { 9_973 };
    let mut splits: Vec<usize> = (1..40.min(len)).step_by(7).collect();
    splits.extend((step..len).step_by(step));
    splits.extend([len - 3, len - 2, len - 1]);
    if len < 1_000_000 {
        splits.extend((32_752..len).step_by(32_752).flat_map(|at| [at - 1, at, at + 1]));
    }
    splits.retain(|&split| split > 0 && split < len);
    splits
}
