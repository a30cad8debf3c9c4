//! A client's session driven by bytes and a clock of the test's own, as the event loop drives it, but without a socket.

use std::io::IoSlice;
use std::mem;

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
    /// Always, but buffers are so crowded that whatever begins has to wait until it is received.
    Crowded,
}

/// One session, and a store of its own.
pub(crate) struct Driver {
    sessions: [Box<Session>; 1],
    pub(crate) executor: Executor,
    buffer: Vec<u8>,
    /// What the client was sent and nobody has taken yet.
    received: Vec<u8>,
    reader: Reader,
    pub(crate) now_millis: u64,
    /// What others hold, in bytes.
    pub(crate) outside_bytes: usize,
    /// In how many turns the store was short of memory, and how many writes those executed.
    pub(crate) short: [u64; 2],
    /// The most work that the store did in one turn, in its units.
    pub(crate) work_max: u64,
    /// The most commands that one turn executed.
    pub(crate) commands_max: u64,
    /// The most output that waited at the end of a turn, in bytes.
    pub(crate) output_max: usize,
    /// What the session held at the end of the last turn in which it had a question, in bytes.
    pub(crate) asking_bytes: usize,
}

/// Runs a row in pieces that end at `ends`, from an empty store.
#[track_caller]
pub(crate) fn run(row: &Row, ends: &[usize], reader: Reader) {
    let mut driver = Driver::new(reader, 0, VALUE_BYTES_MAX);
    let mut from = 0;
    for &to in ends {
        driver.feed(&row.send[from..to]);
        from = to;
    }
    let (name, received) = (&row.name, driver.received());
    assert!(received == row.expect, "{name}: expected {}, got {}", shown(&row.expect), shown(&received));

    let closes = matches!(row.ending, Ending::Broken | Ending::Closed);
    assert_eq!(driver.sessions[0].is_finished(), closes, "{name}: {:?}", row.ending);
    driver.sessions[0].input_ended = true;
    driver.run_backlog();
    let nothing_more = driver.received().is_empty();
    assert!(driver.sessions[0].is_finished(), "{name}: the end of input ends it");
    assert!(nothing_more, "{name}: an answer to the end of input");
}

impl Driver {
    pub(crate) fn new(reader: Reader, default_ttl_millis: u64, value_bytes_max: usize) -> Driver {
        let store = Store::new(Settings { memory_bytes: 1 << 30, eviction: Eviction::S3Fifo, default_ttl_millis });
        Driver {
            sessions: [Box::new(Session::new(0, 0))],
            executor: Executor::new(store, value_bytes_max),
            buffer: vec![0; CARRY_BYTES_MAX + READ_LARGE_BYTES],
            received: Vec::new(),
            reader,
            now_millis: 0,
            outside_bytes: 0,
            short: [0; 2],
            work_max: 0,
            commands_max: 0,
            output_max: 0,
            asking_bytes: 0,
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.sessions[0].is_closing()
    }

    pub(crate) fn last_command_millis(&self) -> u64 {
        self.sessions[0].last_command_millis
    }

    /// All that the client was sent since this was last asked.
    pub(crate) fn received(&mut self) -> Vec<u8> {
        self.receive();
        mem::take(&mut self.received)
    }

    /// Lets `input` arrive: as much at once as the session would read, no more than it wants.
    pub(crate) fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() && !self.is_closing() {
            if !self.sessions[0].wants_input() {
                self.receive();
                self.run_backlog();
                assert!(self.sessions[0].wants_input(), "it neither runs nor reads");
            }
            let (piece, later) = input.split_at(input.len().min(READ_LARGE_BYTES));
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
        self.executor.begin_turn(self.now_millis, self.outside_bytes);
        self.executor.share_bytes = if self.reader == Reader::Crowded { 0 } else { usize::MAX };
        let (is_short, sets) = (self.executor.store.is_short, self.executor.stats.sets);
        let carried = self.sessions[0].carry(&mut self.buffer);
        let end = carried + piece.len();
        self.buffer[carried..end].copy_from_slice(piece);
        let visits = &mut [Visit::new(0, 0..end)];
        let (work, commands) = (self.executor.store.work, self.executor.stats.commands());
        process(visits, &self.buffer, &mut self.sessions, &mut self.executor);
        if is_short {
            self.short = [self.short[0] + 1, self.short[1] + self.executor.stats.sets - sets];
        }
        self.work_max = self.work_max.max(self.executor.store.work - work);
        self.commands_max = self.commands_max.max(self.executor.stats.commands() - commands);
        self.output_max = self.output_max.max(self.sessions[0].output.len());
        let held_bytes = self.sessions[0].held_bytes();
        if self.sessions[0].resp.as_mut().is_some_and(|resp| resp.question.take().is_some()) {
            self.asking_bytes = held_bytes;
            self.sessions[0].output.push(b"+asked\r\n");
        }
        if self.reader != Reader::Lazy {
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
                let (filled, _) = output.slices(&mut slices, WRITE_BYTES);
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
