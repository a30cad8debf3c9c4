//! One client without its socket: the input that has not been executed, the output that has not been written, and the
//! phase the client is in. It has never heard of a socket, so tests and benchmarks drive it with bytes alone.
//!
//! Most input is never stored here: [`batch`](crate::batch) parses frames in the buffer that they were read into. A
//! session stores only what cannot be executed yet: an unfinished frame, or frames that wait for a reader or a turn.

mod incoming;
mod resp;
mod unkeyed;

use std::mem;

pub use self::resp::{Question, Resp};

pub(crate) use self::incoming::Place;
use self::incoming::{Incoming, Long, chunk_bytes};
pub(crate) use self::resp::Part;
use self::resp::{Queue, RespClient};
use crate::execute::Executor;
use crate::limits::*;
use crate::output::Output;
use crate::protocol::{Stop, stash};

/// One client without its socket.
#[derive(Debug, Default)]
pub struct Session {
    /// The client's number, as CLIENT ID tells it and CLIENT KILL takes it.
    pub id: u64,
    /// When it began, or when a command of it was last executed, or waited for memory or for others, in milliseconds.
    pub last_command_millis: u64,
    /// Replies that have not been written to the client yet.
    pub output: Output,
    /// No more input will be read, usually because the client closed its side. What has arrived is still answered.
    pub input_ended: bool,
    /// The state of a client that speaks RESP; `None` for GoStash frames, which need none.
    pub resp: Option<Box<Resp>>,
    phase: Phase,
    input: Vec<u8>, // what waits: the beginning of a short frame, or whole frames that may not be executed yet
    /// How long `input` must be before parsing it is of use; 0 if it can be executed. Stays as a guess for the next.
    needed: usize,
}

/// What the next byte of input is.
#[derive(Debug, Default)]
enum Phase {
    /// The client's first byte, which decides the protocol. Every session starts here.
    #[default]
    Silent,
    /// The beginning of a frame, or of the next part of a RESP command.
    Open,
    /// The rest of a frame that is collected apart, since it is long or has a long value.
    Receiving(Box<Incoming>),
    /// Input to be thrown away: a frame was broken, the client said QUIT, or its connection is being closed.
    Closing,
}

impl Session {
    /// The session of client number `id`, which starts at `now_millis`.
    pub fn new(id: u64, now_millis: u64) -> Self {
        Session { id, last_command_millis: now_millis, ..Session::default() }
    }

    // ---- For whoever drives it ----
    /// Whether it takes no more input, after a broken frame or QUIT, or because it is being closed.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing)
    }

    /// Whether there is something to execute without reading anything.
    pub fn can_run(&self) -> bool {
        self.has_work() && !self.is_choked()
    }

    /// Whether more input is wanted now.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.is_closing() && !self.has_work() && !self.is_choked()
    }

    /// How many bytes to read at once. In a crowd, all that begin to send something are to have room for it.
    pub(crate) fn read_bytes(&self, share_bytes: usize) -> usize {
        let most = (self.needed * BATCH_COMMANDS).clamp(READ_BYTES, READ_LONG_BYTES);
        most.min(if self.collects() { share_bytes.max(READ_BYTES) } else { share_bytes })
    }

    /// Whether it collects a frame or a transaction: to read more of that may take memory from the store.
    pub(crate) fn collects(&self) -> bool {
        matches!(self.phase, Phase::Receiving(_)) || self.queue().is_some()
    }

    /// If what it collects, a frame or a transaction, takes it beyond its share: how many bytes may come, as far as
    /// it has said by now, and its place in line.
    pub(crate) fn collected(&mut self, executor: &Executor) -> Option<(usize, &mut Option<Place>)> {
        let held_bytes = self.burden_bytes();
        // Strangers could take their time, so they stand in nobody's way.
        if self.is_stranger() || self.input_ended || self.is_busy() || self.is_choked() {
            return None;
        }
        let incoming = if let Phase::Receiving(incoming) = &mut self.phase { Some(incoming) } else { None };
        let missing_bytes = incoming.as_ref().map_or(0, |it| it.needed.saturating_sub(it.bytes.len()).max(it.left));
        if held_bytes + missing_bytes <= executor.share_bytes {
            return None;
        }
        match self.resp.as_mut().and_then(|resp| resp.queue.as_mut()) {
            Some(queue) => Some((queue.left(executor.value_bytes_max), &mut queue.place)),
            None => incoming.map(|incoming| (missing_bytes, &mut incoming.place)),
        }
    }

    /// Whether its client has yet to say the password.
    pub(crate) fn is_stranger(&self) -> bool {
        self.resp.as_ref().is_some_and(|resp| !resp.authenticated)
    }

    /// The frame that is being received over many reads, if any.
    pub(crate) fn incoming(&mut self) -> Option<&mut Incoming> {
        if let Phase::Receiving(incoming) = &mut self.phase { Some(incoming) } else { None }
    }

    /// Whether the client has been sent everything that it will ever be sent.
    pub fn is_finished(&self) -> bool {
        self.output.is_empty() && (self.is_closing() || self.input_ended && !self.has_work())
    }

    /// Moves the stored input to the start of `buffer`, where the next read continues it, and returns its length.
    pub fn carry(&mut self, buffer: &mut [u8]) -> usize {
        let input = mem::take(&mut self.input);
        buffer[..input.len()].copy_from_slice(&input);
        input.len()
    }

    /// Begins to close: no more input is taken, and the output holds the last replies.
    pub fn quit(&mut self) {
        (self.phase, self.input, self.resp) = (Phase::Closing, Vec::new(), None);
    }

    /// Ends the session without sending what is left in its output: the client is gone, or is to be disconnected.
    pub fn abandon(&mut self) {
        self.quit();
        (self.input_ended, self.output) = (true, Output::default());
    }

    /// Answers with an error and ends the session: for a broken frame, or for a client that may not be served.
    pub fn break_off(&mut self, reason: &str) {
        log::debug!("broken off: {reason}");
        match self.resp {
            Some(_) => self.output.push_line(b'-', &format!("ERR Protocol error: {reason}")),
            None => self.output.push(stash::ERROR_REPLY),
        }
        self.quit();
    }

    /// Memory that its buffers hold in bytes, chunks excluded.
    pub fn held_bytes(&self) -> usize {
        let kept = if let Phase::Receiving(it) = &self.phase { size_of::<Incoming>() + it.bytes.capacity() } else { 0 };
        self.input.capacity() + self.output.held_bytes() + kept + self.resp.as_deref().map_or(0, Resp::held_bytes)
    }

    /// How much closing it may free, in bytes: what it holds, with all chunks. Others may hold those in its output, too.
    pub fn burden_bytes(&self) -> usize {
        let incoming = if let Phase::Receiving(incoming) = &self.phase { chunk_bytes(&incoming.longs) } else { 0 };
        self.held_bytes() + self.output.chunk_bytes + incoming + self.resp.as_deref().map_or(0, Resp::chunk_bytes)
    }

    /// Whether stored frames can be executed, or a command that has been taken from the input is not done yet.
    fn has_work(&self) -> bool {
        !self.input.is_empty() && self.needed <= self.input.len() || self.is_busy()
    }

    /// Whether a question has not been answered yet, or EXEC has begun and has commands left in its queue.
    pub(crate) fn is_busy(&self) -> bool {
        self.resp.as_ref().is_some_and(|resp| resp.question.is_some()) || self.queue().is_some_and(|queue| queue.runs)
    }

    fn queue(&self) -> Option<&Queue> {
        self.resp.as_ref()?.queue.as_deref()
    }

    // ---- For the batch ----
    /// Whether frames can be parsed from its input and executed in a batch.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.is_busy()
    }

    /// Whether the output is above its high-water mark, where no more is read, and what was read waits for later turns.
    fn is_choked(&self) -> bool {
        self.output.len() >= OUTPUT_HIGH_BYTES
    }

    /// Goes on with what earlier input began, a frame or an EXEC. Returns how many bytes of `input` were consumed.
    #[inline]
    pub(crate) fn resume(&mut self, input: &[u8], executor: &mut Executor) -> usize {
        match (&self.phase, input) {
            (Phase::Receiving(_), _) => return self.receive(input, executor),
            (Phase::Open, _) if self.is_busy() => {
                let Some(mut client) = self.resp_client(executor) else { return 0 };
                client.run_queue(client.executor.work_max, client.executor.output_bytes_max);
            }
            (Phase::Silent, &[first, ..]) => self.begin(first, executor),
            _ => {}
        }
        0
    }

    /// Chooses the protocol by the client's first byte: no GoStash command begins with any of these.
    #[cold]
    fn begin(&mut self, first: u8, executor: &mut Executor) {
        self.phase = Phase::Open;
        if matches!(first, b'*' | b'P' | b'p') {
            self.resp.get_or_insert_default().authenticated = executor.password.is_none();
        } else if executor.password.is_some() {
            executor.stats.errors += 1;
            self.break_off("a password is needed, which GoStash frames cannot bring");
        }
    }

    /// Executes what stands at the start of `input`, or begins to receive it if it has a long value, and returns how
    /// many bytes were consumed. If it is incomplete, nothing is, and the error is how many bytes it takes at least.
    pub(crate) fn execute_first(&mut self, input: &[u8], executor: &mut Executor) -> Result<usize, usize> {
        self.execute_frame(input, &mut Vec::new(), executor).or_else(|stop| match stop {
            Stop::Incomplete(needed) => Err(needed),
            // In a crowd, it gets a chunk when more of it is read than its beginning, and so its turn has come.
            Stop::Long(bytes, at) if executor.share_bytes < CHUNK_BYTES && input.len() < at + bytes => Err(at + bytes),
            Stop::Long(bytes, at) => {
                let begun = Incoming { bytes: input[..at].into(), needed: at + bytes, ..Incoming::default() };
                self.phase = Phase::Receiving(Box::new(begun));
                Ok(at + self.receive(&input[at..], executor))
            }
            Stop::Broken(_) => Ok(input.len()),
        })
    }

    /// Stores input that was not executed. `needed` is what its first frame takes at least, or 0 if that is executable.
    #[inline]
    pub(crate) fn keep(&mut self, rest: &[u8], needed: usize, share_bytes: usize) {
        if rest.is_empty() || self.is_closing() {
            return;
        }
        self.needed = needed;
        if needed > share_bytes.min(CARRY_BYTES_MAX) {
            self.phase = Phase::Receiving(Box::new(Incoming { bytes: rest.into(), needed, ..Incoming::default() }));
        } else {
            debug_assert!(self.input.is_empty());
            self.input.extend_from_slice(rest);
        }
    }

    /// Adds `bytes` to the frame being received, executes it once it is complete, and returns how many were consumed.
    fn receive(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        if bytes.is_empty() {
            return 0; // its turn may not have come
        }
        let Phase::Receiving(mut incoming) = mem::replace(&mut self.phase, Phase::Open) else { return 0 };
        incoming.needed = 0; // it is parsed again: a long value may have begun that was to wait for more of it
        let mut taken = 0;
        loop {
            let Incoming { bytes: frame, longs, needed, left, .. } = &mut *incoming;
            if *left == 0 && frame.len() >= *needed {
                match self.execute_frame(frame, longs, executor) {
                    Err(Stop::Incomplete(bytes)) => *needed = bytes,
                    Err(Stop::Long(value_bytes, at)) => {
                        let queue = self.resp.as_mut().and_then(|resp| resp.queue.as_mut());
                        let refused = queue.is_some_and(|queue| queue.refuses(value_bytes, executor));
                        longs.push(Long { refused, ..Long::default() });
                        (*left, *needed) = (value_bytes, at);
                        let begun = frame.split_off(at);
                        incoming.take(&begun, executor);
                        continue;
                    }
                    done => break taken -= done.map_or(0, |end| frame.len() - end), // it ends within these bytes
                }
            }
            if taken == bytes.len() {
                self.phase = Phase::Receiving(incoming);
                return taken;
            }
            taken += incoming.take(&bytes[taken..], executor);
        }
        // Its key was hashed, and it was copied to where nothing was yet: four times what a copy costs.
        executor.store.work += 4 * incoming.bytes.len() as u64 / COPIED_BYTES_PER_UNIT;
        taken
    }

    /// Executes what stands at the start of `input`, whose long values are `longs`, and returns how many bytes of it
    /// were consumed. A broken frame has been answered by the time that it is returned as an error.
    fn execute_frame(&mut self, input: &[u8], longs: &mut Vec<Long>, executor: &mut Executor) -> Result<usize, Stop> {
        let value_bytes_max = executor.value_bytes_max;
        let executed = match self.resp_client(executor) {
            Some(mut client) => client.serve(input, longs, value_bytes_max),
            None => stash::parse(input, value_bytes_max, longs.first().map(Long::value)).map(|(command, consumed)| {
                let is_refused = longs.iter().any(|long| long.refused);
                stash::encode(executor.execute_alone(&command, is_refused), &mut self.output);
                consumed
            }),
        };
        match &executed {
            Ok(_) => self.last_command_millis = executor.clock.now_millis,
            Err(Stop::Broken(reason)) => {
                executor.stats.broken += 1;
                self.break_off(reason);
            }
            Err(_) => {}
        }
        executed
    }

    fn resp_client<'a>(&'a mut self, executor: &'a mut Executor) -> Option<RespClient<'a>> {
        let Session { id, last_command_millis, resp, phase, output, .. } = self;
        Some(RespClient { id: *id, last_command_millis, resp: resp.as_mut()?, phase, output, executor })
    }
}
