//! One client without its socket: what it sent and was not answered yet, what it is still to be sent, and the phase it
//! is in. It has never heard of a socket, so tests and benchmarks drive it with bytes alone.
//!
//! Most input never stops here: [`batch`](crate::batch) parses it where it was read and leaves to the session what is
//! unfinished, or what it may not run yet because the client does not read its replies.

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::command::{Command, Refusal, Reply, Value};
use crate::execute::Executor;
use crate::limits::{CARRY_BYTES_MAX, CHUNK_BYTES, OUTPUT_HIGH_BYTES, READ_BYTES, READ_LARGE_BYTES};
use crate::output::Output;
use crate::protocol::stash::{self, LINE_END, ParseError, Parsed};

/// One client without its socket.
#[derive(Debug, Default)]
pub struct Session {
    phase: Phase,
    /// Input that waits: an unfinished frame, or frames that may not run yet.
    input: Vec<u8>,
    /// How long `input` must be before parsing it can get anywhere; 0 if frames wait in it.
    needed: usize,
    /// The client has closed its side: nothing follows `input`.
    input_ended: bool,
    output: Output,
    last_command_millis: u64,
}

/// What the bytes that come next are.
#[derive(Debug, Default)]
enum Phase {
    /// Frames. Every session starts here.
    #[default]
    Open,
    /// The value of a SET, too large to wait for, and then the end of its frame.
    Receiving(Box<Incoming>),
    /// Of no interest: a frame was broken, and ERR is the last reply.
    Broken,
}

/// A large value on its way in.
#[derive(Debug)]
struct Incoming {
    key: Box<[u8]>,
    chunks: Vec<Bytes>,
    filling: Option<Chunk>,
    /// There was no room for it, so that it is thrown away as it comes.
    refused: bool,
    /// Bytes of the value that are still to come.
    value_left: usize,
    /// How much of the frame's end has been seen.
    line_end_seen: usize,
}

impl Session {
    /// A session that starts at `now_millis`.
    pub fn new(now_millis: u64) -> Self {
        Session { last_command_millis: now_millis, ..Session::default() }
    }

    /// When its last complete command was executed, in milliseconds, or when it started.
    pub fn last_command_millis(&self) -> u64 {
        self.last_command_millis
    }

    /// Whether its input is still read as frames.
    #[inline]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether a broken frame has ended it.
    #[inline]
    pub fn is_broken(&self) -> bool {
        matches!(self.phase, Phase::Broken)
    }

    /// Whether there are frames to run without reading anything.
    #[inline]
    pub fn can_run(&self) -> bool {
        self.has_backlog() && !self.is_choked()
    }

    /// Whether more input would be of use now.
    #[inline]
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.is_broken() && !self.has_backlog() && !self.is_choked()
    }

    /// How much to read at once, in bytes.
    pub fn read_bytes(&self) -> usize {
        match &self.phase {
            Phase::Receiving(incoming) => (incoming.value_left + LINE_END.len()).clamp(READ_BYTES, READ_LARGE_BYTES),
            _ => READ_BYTES,
        }
    }

    /// Whether a large value is coming in, so that reading takes memory from the store.
    pub fn is_receiving(&self) -> bool {
        matches!(self.phase, Phase::Receiving(_))
    }

    /// Whether everything that it will ever be sent has been taken from its output.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.output.is_empty() && (self.is_broken() || self.input_ended && !self.has_backlog())
    }

    /// The client has closed its side, or will not be listened to any longer. Frames that have arrived are still
    /// answered.
    pub fn end_input(&mut self) {
        self.input_ended = true;
        if self.is_receiving() {
            self.phase = Phase::Open;
        }
    }

    /// Whether the client has closed its side.
    pub fn input_has_ended(&self) -> bool {
        self.input_ended
    }

    /// What it is still to be sent.
    #[inline]
    pub fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// How much waits in its output, in bytes.
    pub fn output_bytes(&self) -> usize {
        self.output.len()
    }

    /// Memory that it holds, in bytes, without chunks.
    #[inline]
    pub fn held_bytes(&self) -> usize {
        self.input.capacity() + self.output.held_bytes()
    }

    /// What it holds or keeps others from giving back, in bytes: the measure of how much it is to blame when memory is
    /// short.
    pub fn burden_bytes(&self) -> usize {
        let incoming = match &self.phase {
            Phase::Receiving(incoming) => incoming.chunks.len() * CHUNK_BYTES,
            _ => 0,
        };
        self.held_bytes() + incoming + self.output.chunk_bytes()
    }

    /// Answers ERR and takes no more input: for a broken frame, or a client that is one too many.
    pub fn break_off(&mut self) {
        self.phase = Phase::Broken;
        self.input = Vec::new();
        self.output.push(stash::ERROR_REPLY);
    }

    #[inline]
    fn has_backlog(&self) -> bool {
        !self.input.is_empty() && self.needed <= self.input.len()
    }

    /// Whether so much output waits that nothing more is run or read. One reply may go beyond the mark.
    #[inline]
    pub(crate) fn is_choked(&self) -> bool {
        self.output.len() >= OUTPUT_HIGH_BYTES
    }

    /// How much [`carry`](Self::carry) will move, in bytes.
    #[inline]
    pub fn carried_bytes(&self) -> usize {
        if self.needed > CARRY_BYTES_MAX { 0 } else { self.input.len() }
    }

    /// Moves waiting input to the start of `buffer`, in front of what is read next, and returns its length. A long
    /// unfinished frame stays: `absorb` collects it.
    #[inline]
    pub fn carry(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.carried_bytes();
        if length > 0 {
            buffer[..length].copy_from_slice(&self.input);
            self.input = Vec::new();
        }
        length
    }

    /// Keeps input that was not executed. `needed` is what the frame at its start takes at least, 0 if it could run.
    #[inline]
    pub(crate) fn keep(&mut self, rest: &[u8], needed: usize) {
        if !rest.is_empty() && !self.is_broken() {
            debug_assert!(self.input.is_empty());
            self.input.extend_from_slice(rest);
            self.needed = needed;
        }
    }

    /// Encodes `reply` and notes the time.
    #[inline]
    pub(crate) fn answer(&mut self, reply: Reply<'_>, now_millis: u64) {
        stash::encode(reply, &mut self.output);
        self.last_command_millis = now_millis;
    }

    /// The frame at the start of the input is broken.
    pub(crate) fn reject(&mut self, error: ParseError, executor: &mut Executor) {
        log::debug!("broken frame: {error}");
        executor.stats.broken += 1;
        self.break_off();
    }

    /// A large value follows.
    pub(crate) fn begin_value(&mut self, key: &[u8], value_bytes: usize) {
        self.phase = Phase::Receiving(Box::new(Incoming {
            key: key.into(),
            chunks: Vec::new(),
            filling: None,
            refused: false,
            value_left: value_bytes,
            line_end_seen: 0,
        }));
    }

    /// Takes from `bytes` what belongs to a frame that has long begun, runs it when it is complete, and returns how
    /// many bytes that took.
    #[inline]
    pub(crate) fn absorb(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        match self.phase {
            Phase::Receiving(_) => self.receive(bytes, executor),
            Phase::Open if !self.input.is_empty() => self.complete(bytes, executor),
            _ => 0,
        }
    }

    /// Completes the unfinished frame in `input`, which is longer than what is carried.
    fn complete(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        let mut taken = 0;
        while taken < bytes.len() {
            let count = (self.needed - self.input.len()).min(bytes.len() - taken);
            self.input.extend_from_slice(&bytes[taken..taken + count]);
            taken += count;
            if self.input.len() < self.needed {
                break;
            }
            let input = std::mem::take(&mut self.input);
            match stash::parse(&input, executor.value_bytes_max()) {
                Ok(Parsed::Incomplete { needed }) => {
                    self.needed = needed;
                    self.input = input;
                    continue;
                }
                Ok(Parsed::Complete { command, .. }) => self.run(&command, executor),
                Ok(Parsed::LargeSet { key, value_bytes, .. }) => self.begin_value(key, value_bytes),
                Err(error) => self.reject(error, executor),
            }
            break;
        }
        taken
    }

    /// Takes bytes of a large value, and of the end of its frame.
    fn receive(&mut self, mut bytes: &[u8], executor: &mut Executor) -> usize {
        let Phase::Receiving(incoming) = &mut self.phase else {
            return 0;
        };
        let available = bytes.len();
        while incoming.value_left > 0 && !bytes.is_empty() {
            let count = incoming.take(&bytes[..bytes.len().min(incoming.value_left)], executor);
            incoming.value_left -= count;
            bytes = &bytes[count..];
        }
        while incoming.value_left == 0 && incoming.line_end_seen < LINE_END.len() {
            let Some((byte, rest)) = bytes.split_first() else {
                break;
            };
            if *byte != LINE_END[incoming.line_end_seen] {
                self.reject(ParseError::MissingLineEnd, executor);
                return available;
            }
            incoming.line_end_seen += 1;
            bytes = rest;
        }
        if incoming.line_end_seen == LINE_END.len()
            && let Phase::Receiving(incoming) = std::mem::take(&mut self.phase)
        {
            if incoming.refused {
                executor.stats.sets += 1;
                executor.stats.errors += 1;
                self.answer(Reply::Refused(Refusal::OutOfMemory), executor.now_millis());
                return available - bytes.len();
            }
            let rest = incoming.filling.as_ref().map_or([].as_slice(), Chunk::as_ref);
            let value = Value { chunks: &incoming.chunks, rest };
            self.run(&Command::Set { key: &incoming.key, value }, executor);
        }
        available - bytes.len()
    }

    fn run(&mut self, command: &Command<'_>, executor: &mut Executor) {
        log::trace!("{command}");
        let now_millis = executor.now_millis();
        let hash = executor.store.hash(command.key());
        self.answer(executor.execute(hash, command), now_millis);
    }
}

impl Incoming {
    /// Takes bytes of the value, as many as fit into the chunk that is being filled, and returns how many.
    fn take(&mut self, bytes: &[u8], executor: &Executor) -> usize {
        if self.filling.is_none() && !self.refused {
            self.filling = executor.chunk();
            self.refused = self.filling.is_none();
        }
        let Some(chunk) = &mut self.filling else {
            self.chunks = Vec::new();
            return bytes.len();
        };
        let count = chunk.fill(bytes);
        if chunk.is_full() {
            self.chunks.extend(self.filling.take().map(Chunk::freeze));
        }
        count
    }
}
