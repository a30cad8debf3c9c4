//! A client's session driven by bytes alone, as the event loop drives it, with neither socket nor clock.

use std::io::IoSlice;

use gostash::batch::{Visit, process};
use gostash::execute::Executor;
use gostash::limits::{CARRY_BYTES_MAX, READ_LARGE_BYTES};
use gostash::session::Session;
use gostash::store::{Eviction, Settings, Store};

use crate::rows::{Ending, Row, VALUE_BYTES_MAX};

/// When the client takes what it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Always, so that input is never held up.
    Eager,
    /// Only when the session would otherwise do nothing more.
    Lazy,
}

/// One session, and a store of its own.
struct Driver {
    sessions: [Box<Session>; 1],
    executor: Executor,
    buffer: Vec<u8>,
    received: Vec<u8>,
    reader: Reader,
}

/// Runs a row in pieces that end at `ends`, from an empty store.
#[track_caller]
pub(crate) fn run(row: &Row, ends: &[usize], reader: Reader) {
    let mut driver = Driver::new(reader);
    let mut from = 0;
    for &to in ends {
        driver.feed(&row.send[from..to]);
        from = to;
    }
    driver.receive();
    let name = &row.name;
    let same = driver.received == row.expect;
    let (got, due) = (shown(&driver.received), shown(&row.expect));
    assert!(same, "{name}: expected {due}, got {got}");

    let session = &mut driver.sessions[0];
    let closes = matches!(row.ending, Ending::Broken | Ending::Closed);
    assert_eq!(session.is_finished(), closes, "{name}: {:?}", row.ending);
    session.input_ended = true;
    driver.run_backlog();
    driver.receive();
    assert!(driver.sessions[0].is_finished(), "{name}: the end of input ends it");
    let nothing_more = driver.received.len() == row.expect.len();
    assert!(nothing_more, "{name}: an answer to the end of input");
}

impl Driver {
    fn new(reader: Reader) -> Driver {
        let store = Store::new(Settings { memory_bytes: 1 << 30, eviction: Eviction::S3Fifo, default_ttl_millis: 0 });
        Driver {
            sessions: [Box::new(Session::new(0, 0))],
            executor: Executor::new(store, VALUE_BYTES_MAX),
            buffer: vec![0; CARRY_BYTES_MAX + READ_LARGE_BYTES],
            received: Vec::new(),
            reader,
        }
    }

    /// Lets `input` arrive: as much at once as the session would read, no more than it wants.
    fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !self.sessions[0].is_broken() {
            if !self.sessions[0].wants_input() {
                self.receive();
                self.run_backlog();
                assert!(self.sessions[0].wants_input(), "it neither runs nor reads");
            }
            let count = input.len().min(READ_LARGE_BYTES);
            let (piece, later) = input.split_at(count);
            self.turn(piece);
            self.run_backlog();
            input = later;
        }
    }

    /// Runs what waits in the session, for as long as that is allowed.
    fn run_backlog(&mut self) {
        while self.sessions[0].can_run() {
            self.turn(b"");
        }
    }

    fn turn(&mut self, piece: &[u8]) {
        self.executor.begin_turn(0, 0);
        let carried = self.sessions[0].carry(&mut self.buffer);
        let end = carried + piece.len();
        self.buffer[carried..end].copy_from_slice(piece);
        let visits = &mut [Visit::new(0, 0..end)];
        process(visits, &self.buffer, &mut self.sessions, &mut self.executor);
        if self.reader == Reader::Eager {
            self.receive();
        }
    }

    /// Takes all output, in writes of a size that cuts replies anywhere; what that allows to run is run.
    fn receive(&mut self) {
        const WRITE_BYTES: usize = 9_973;
        loop {
            let output = &mut self.sessions[0].output;
            while !output.is_empty() {
                let mut slices = [IoSlice::new(b""); 4];
                let filled = output.slices(&mut slices, WRITE_BYTES);
                let mut count = 0;
                for slice in &slices[..filled] {
                    let part = &slice[..slice.len().min(WRITE_BYTES - count)];
                    self.received.extend_from_slice(part);
                    count += part.len();
                }
                output.consume(count);
            }
            if !self.sessions[0].can_run() {
                return;
            }
            self.turn(b"");
        }
    }
}

fn shown(bytes: &[u8]) -> String {
    let tail = &bytes[bytes.len().saturating_sub(100)..];
    format!("{} bytes that end in \"{}\"", bytes.len(), tail.escape_ascii())
}
