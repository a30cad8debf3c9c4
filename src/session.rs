//! One client without its socket: what it sent and was not answered yet, what it is still to be sent, and the phase it
//! is in. It has never heard of a socket, so tests and benchmarks drive it with bytes alone.
//!
//! Most input never stops here: [`batch`](crate::batch) parses it where it was read and leaves to the session what is
//! unfinished, or what it may not run yet because the client does not read its replies.

mod connection;
mod resp;

use bytes::Bytes;

pub use self::resp::Resp;

pub(crate) use self::resp::Ask;
use crate::admin::Question;
use crate::chunk::Chunk;
use crate::command::{Command, Refusal, Reply, Value};
use crate::execute::Executor;
use crate::limits::{CARRY_BYTES_MAX, CHUNK_BYTES, OUTPUT_HIGH_BYTES, READ_BYTES, READ_LARGE_BYTES};
use crate::output::Output;
use crate::protocol::resp::{Arguments, ParseError as RespError, Parsed as RespParsed, Version, is_first_byte};
use crate::protocol::stash::{self, LINE_END, ParseError, Parsed};

/// One client without its socket.
#[derive(Debug, Default)]
pub struct Session {
    phase: Phase,
    language: Language,
    /// Input that waits: an unfinished frame, or frames that may not run yet.
    input: Vec<u8>,
    /// How long `input` must be before parsing it can get anywhere; 0 if frames wait in it.
    needed: usize,
    /// The client has closed its side: nothing follows `input`.
    input_ended: bool,
    output: Output,
    last_command_millis: u64,
    id: u64,
}

/// What the client speaks.
#[derive(Debug, Default)]
enum Language {
    /// It has not sent anything yet.
    #[default]
    Unknown,
    /// GoStash frames.
    Stash,
    /// RESP, as its first byte told.
    Resp(Box<Resp>),
}

/// What the bytes that come next are.
#[derive(Debug, Default)]
enum Phase {
    /// Frames. Every session starts here.
    #[default]
    Open,
    /// The value of a SET, too large to wait for, and then the end of its frame.
    Receiving(Box<Incoming>),
    /// Nothing yet: EXEC has not done all of its queue.
    Executing,
    /// Nothing yet: a command waits for an answer from whoever drives the session.
    Asking(Box<Question>),
    /// Of no interest: a frame was broken, and ERR is the last reply; or the client said QUIT.
    Broken,
}

/// A large value on its way in.
#[derive(Debug)]
struct Incoming {
    /// The frame without the value: the key, or in RESP all bytes up to the value and, later, from there on.
    frame: Vec<u8>,
    long: Long,
    /// There was no room for it, so that it is thrown away as it comes.
    refused: bool,
    /// Bytes of the value that are still to come.
    value_left: usize,
    /// How much of the frame's end has been seen, or in RESP how long `frame` must be for parsing to get anywhere.
    end: usize,
}

/// A long value.
#[derive(Debug, Default)]
struct Long {
    chunks: Vec<Bytes>,
    filling: Option<Chunk>,
}

impl Session {
    /// A session that starts at `now_millis`.
    pub fn new(now_millis: u64) -> Self {
        Session { last_command_millis: now_millis, ..Session::default() }
    }

    /// The same session, with the number by which clients know each other.
    pub fn with_id(self, id: u64) -> Self {
        Session { id, ..self }
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
        (self.has_backlog() || self.is_busy()) && !self.is_choked()
    }

    /// Whether more input would be of use now.
    #[inline]
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.is_broken() && !self.is_busy() && !self.has_backlog() && !self.is_choked()
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

    /// Whether a command that has been taken from the input is not done yet.
    #[inline]
    fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Executing | Phase::Asking(_))
    }

    /// Whether everything that it will ever be sent has been taken from its output.
    #[inline]
    pub fn is_finished(&self) -> bool {
        self.output.is_empty() && (self.is_broken() || self.input_ended && !self.has_backlog() && !self.is_busy())
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
        let resp = self.resp().map_or(0, Resp::held_bytes);
        self.input.capacity() + self.output.held_bytes() + resp
    }

    /// What it holds or keeps others from giving back, in bytes: the measure of how much it is to blame when memory is
    /// short.
    pub fn burden_bytes(&self) -> usize {
        let incoming = match &self.phase {
            Phase::Receiving(incoming) => {
                (incoming.long.chunks.len() + usize::from(incoming.long.filling.is_some())) * CHUNK_BYTES
            }
            _ => 0,
        };
        let queued = self.resp().map_or(0, Resp::long_bytes);
        self.held_bytes() + incoming + queued + self.output.chunk_bytes()
    }

    /// Answers ERR and takes no more input: for a broken frame, or a client that is one too many.
    pub fn break_off(&mut self) {
        self.quit();
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
    pub(crate) fn answer(&mut self, reply: Reply<'_>, ask: Ask, now_millis: u64) {
        match &mut self.language {
            Language::Resp(resp) => resp.answer(reply, ask, &mut self.output),
            _ => stash::encode(reply, &mut self.output),
        }
        self.last_command_millis = now_millis;
    }

    /// Learns from the first byte what the client speaks. GoStash frames cannot bring a password.
    #[inline]
    pub(crate) fn listen(&mut self, first: u8, executor: &mut Executor) {
        if matches!(self.language, Language::Unknown) {
            if is_first_byte(first) {
                self.language = Language::Resp(Box::new(Resp::new(self.id, executor)));
            } else {
                self.language = Language::Stash;
                if executor.password.is_some() {
                    executor.stats.errors += 1;
                    self.break_off();
                }
            }
        }
    }

    /// What was agreed with a client that speaks RESP.
    #[inline]
    pub fn resp(&self) -> Option<&Resp> {
        match &self.language {
            Language::Resp(resp) => Some(resp),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn resp_mut(&mut self) -> Option<&mut Resp> {
        match &mut self.language {
            Language::Resp(resp) => Some(resp),
            _ => None,
        }
    }

    /// The version of RESP that it is answered in.
    pub fn version(&self) -> Version {
        self.resp().map_or(Version::Two, |resp| resp.version)
    }

    /// What it waits to be told by whoever drives it, who answers in its output. It goes on after that.
    #[inline]
    pub fn take_question(&mut self) -> Option<Box<Question>> {
        match std::mem::take(&mut self.phase) {
            Phase::Asking(question) => {
                self.phase = self.phase_after_question();
                Some(question)
            }
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// Its question could not be answered in one go.
    pub fn ask_again(&mut self, question: Question) {
        self.phase = Phase::Asking(Box::new(question));
    }

    /// Takes no more input: what is in its output is the last.
    pub fn quit(&mut self) {
        self.phase = Phase::Broken;
        self.input = Vec::new();
    }

    /// The input cannot be RESP.
    pub(crate) fn reject_resp(&mut self, error: RespError, executor: &mut Executor) {
        log::debug!("broken frame: {error}");
        executor.stats.broken += 1;
        self.output.push_error(&format!("ERR Protocol error: {error}"));
        self.quit();
    }

    /// The frame at the start of the input is broken.
    pub(crate) fn reject(&mut self, error: ParseError, executor: &mut Executor) {
        log::debug!("broken frame: {error}");
        executor.stats.broken += 1;
        self.break_off();
    }

    /// A large value follows. `frame` is its key, or in RESP all of its frame so far.
    pub(crate) fn begin_value(&mut self, frame: &[u8], value_bytes: usize) {
        self.phase = Phase::Receiving(Box::new(Incoming {
            frame: frame.into(),
            long: Long::default(),
            refused: false,
            value_left: value_bytes,
            end: 0,
        }));
    }

    /// Takes from `bytes` what belongs to a frame that has long begun, runs it when it is complete, and returns how
    /// many bytes that took.
    #[inline]
    pub(crate) fn absorb(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        match self.phase {
            Phase::Receiving(_) => self.receive(bytes, executor),
            Phase::Executing => {
                self.run_queue(executor);
                0
            }
            Phase::Open if !self.input.is_empty() => self.complete(bytes, executor),
            _ => 0,
        }
    }

    /// Completes the unfinished frame in `input`, which is longer than what is carried.
    fn complete(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        if executor.long_frame.capacity() > self.input.capacity() {
            let input = std::mem::replace(&mut self.input, std::mem::take(&mut executor.long_frame));
            self.input.extend_from_slice(&input);
        }
        let mut taken = 0;
        while taken < bytes.len() {
            let count = (self.needed - self.input.len()).min(bytes.len() - taken);
            self.input.extend_from_slice(&bytes[taken..taken + count]);
            taken += count;
            if self.input.len() < self.needed {
                break;
            }
            let mut input = std::mem::take(&mut self.input);
            let needed = match self.language {
                Language::Resp(_) => self.complete_resp(&input, executor),
                _ => self.complete_stash(&input, executor),
            };
            match needed {
                Some(needed) => (self.input, self.needed) = (input, needed),
                None => {
                    input.clear();
                    executor.long_frame = input;
                    break;
                }
            }
        }
        taken
    }

    /// Runs the frame that `input` is, unless it is longer than that: then it returns how long at least.
    fn complete_stash(&mut self, input: &[u8], executor: &mut Executor) -> Option<usize> {
        match stash::parse(input, executor.value_bytes_max()) {
            Ok(Parsed::Incomplete { needed }) => return Some(needed),
            Ok(Parsed::Complete { command, .. }) => self.run(&command, executor),
            Ok(Parsed::LargeSet { key, value_bytes, .. }) => self.begin_value(key, value_bytes),
            Err(error) => self.reject(error, executor),
        }
        None
    }

    /// The same for RESP.
    fn complete_resp(&mut self, input: &[u8], executor: &mut Executor) -> Option<usize> {
        let mut arguments = Arguments::default();
        match self.parse_resp(input, None, &mut arguments, executor) {
            Ok(RespParsed::Incomplete(needed)) => return Some(needed),
            Ok(RespParsed::Long(bytes, _)) => self.begin_value(input, bytes),
            Ok(parsed) => {
                self.perform(parsed, input, &arguments, executor);
            }
            Err(error) => self.reject_resp(error, executor),
        }
        None
    }

    /// Takes bytes of a large value, and of the end of its frame.
    fn receive(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        let Phase::Receiving(incoming) = &mut self.phase else {
            return 0;
        };
        let mut at = 0;
        while incoming.value_left > 0 && at < bytes.len() {
            let end = bytes.len().min(at + incoming.value_left);
            let count = incoming.take(&bytes[at..end], executor);
            incoming.value_left -= count;
            at += count;
        }
        if incoming.value_left > 0 {
            return at;
        }
        at + match self.language {
            Language::Resp(_) => self.receive_resp_end(&bytes[at..], executor),
            _ => self.receive_stash_end(&bytes[at..], executor),
        }
    }

    /// Takes bytes of the end of a frame whose large value has come in, and runs it when it is whole.
    fn receive_stash_end(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        let Phase::Receiving(incoming) = &mut self.phase else {
            return 0;
        };
        let mut taken = 0;
        while incoming.end < LINE_END.len() {
            match bytes.get(taken) {
                None => return taken,
                Some(byte) if *byte == LINE_END[incoming.end] => {
                    incoming.end += 1;
                    taken += 1;
                }
                Some(_) => {
                    self.reject(ParseError::MissingLineEnd, executor);
                    return bytes.len();
                }
            }
        }
        if let Phase::Receiving(incoming) = std::mem::take(&mut self.phase) {
            if incoming.refused {
                executor.stats.sets += 1;
                executor.stats.errors += 1;
                self.answer(Reply::Refused(Refusal::OutOfMemory), Ask::default(), executor.now_millis());
                return taken;
            }
            self.run(&Command::Set { key: &incoming.frame, value: incoming.long.value() }, executor);
        }
        taken
    }

    /// The same for RESP, where other arguments may follow the value.
    fn receive_resp_end(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        let Phase::Receiving(mut incoming) = std::mem::take(&mut self.phase) else {
            return 0;
        };
        let mut taken = 0;
        loop {
            let missing = incoming.end.saturating_sub(incoming.frame.len());
            let more = &bytes[taken..bytes.len().min(taken + missing)];
            incoming.frame.extend_from_slice(more);
            taken += more.len();
            if more.len() < missing {
                self.phase = Phase::Receiving(incoming);
                return taken;
            }
            let Incoming { frame, long, refused, end, .. } = &mut *incoming;
            let mut arguments = Arguments::default();
            match self.parse_resp(frame, Some(long.value()), &mut arguments, executor) {
                Ok(RespParsed::Incomplete(needed)) => {
                    *end = needed;
                    continue;
                }
                Ok(parsed) if *refused => self.refuse(parsed, executor),
                Ok(parsed) => {
                    if self.perform(parsed, frame, &arguments, executor) {
                        self.enqueue_long(incoming.long, executor);
                    }
                }
                Err(error) => self.reject_resp(error, executor),
            }
            return taken;
        }
    }

    fn run(&mut self, command: &Command<'_>, executor: &mut Executor) {
        log::trace!("{command}");
        let now_millis = executor.now_millis();
        let hash = executor.store.hash(command.key());
        self.answer(executor.execute(hash, command), Ask::default(), now_millis);
    }
}

impl Incoming {
    /// Takes bytes of the value, as many as fit into the chunk that is being filled, and returns how many.
    fn take(&mut self, bytes: &[u8], executor: &Executor) -> usize {
        let Long { chunks, filling } = &mut self.long;
        if filling.is_none() && !self.refused {
            *filling = executor.chunk();
            self.refused = filling.is_none();
        }
        let Some(chunk) = filling else {
            *chunks = Vec::new();
            return bytes.len();
        };
        let count = chunk.fill(bytes);
        if chunk.is_full() {
            chunks.extend(filling.take().map(Chunk::freeze));
        }
        count
    }
}

impl Long {
    fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: self.filling.as_ref().map_or(&[], Chunk::as_ref) }
    }
}
