//! One client without its socket: what it sent and was not answered yet, what it is still to be sent, and the phase it
//! is in. It has never heard of a socket, so tests and benchmarks drive it with bytes alone.
//!
//! Most input never stops here: [`batch`](crate::batch) has it parsed where it was read and leaves to the session what
//! is unfinished, or what it may not run yet because the client does not read its replies.

mod incoming;
mod resp;
mod unkeyed;

use std::mem;

pub use self::resp::Resp;

use self::incoming::{Frames, Incoming, Long};
pub(crate) use self::resp::Part;
use self::resp::{Client, Queue};
use crate::command::{Command, Reply};
use crate::execute::Executor;
use crate::limits::{CARRY_BYTES_MAX, OUTPUT_HIGH_BYTES};
use crate::output::Output;
use crate::protocol::Stop;
use crate::protocol::resp::{Arguments, is_first_byte};
use crate::protocol::stash;

/// One client without its socket.
#[derive(Debug, Default)]
pub struct Session {
    /// The number by which clients know each other.
    pub id: u64,
    /// When its last complete command was executed, in milliseconds, or when it started.
    pub last_command_millis: u64,
    /// What it is still to be sent.
    pub output: Output,
    /// The client has closed its side, or is not listened to any longer. What has arrived is still answered.
    pub input_ended: bool,
    /// What was agreed with a client that speaks RESP; GoStash frames need no agreement.
    pub resp: Option<Box<Resp>>,
    phase: Phase,
    /// Input that waits: the beginning of a short frame, or frames that may not run yet.
    input: Vec<u8>,
    /// How long `input` must be before parsing it can get anywhere; 0 if frames wait in it.
    needed: usize,
}

/// What the bytes that come next are.
#[derive(Debug, Default)]
enum Phase {
    /// The first of all, by which the client tells what it speaks. Every session starts here.
    #[default]
    Silent,
    /// Frames.
    Open,
    /// The rest of a frame that is longer than what is carried, or has a long value.
    Receiving(Box<Incoming>),
    /// Nothing yet: a command waits for an answer from whoever drives the session.
    Asking(Box<Question>),
    /// Of no interest: a frame was broken, and ERR is the last reply; or the client said QUIT.
    Broken,
}

/// A command that a session cannot answer by itself, since it is about the whole server or about other clients.
#[derive(Debug)]
pub struct Question {
    /// The command's name in the table.
    pub verb: &'static str,
    /// Its arguments.
    pub words: Vec<Box<[u8]>>,
    /// How many connections have been looked at, for what is about all of them and may take more than one turn.
    pub at: usize,
    /// How many of them were what was asked for.
    pub found: i64,
    /// What has been found out so far.
    pub text: String,
}

/// A command that may be executed together with others, how to answer it, and how many bytes it took; or how long the
/// input must be before there is one. Anything else the session has to [`execute_first`](Session::execute_first) when all before is answered.
pub(crate) type Next<'a> = Result<(Command<'a>, Part, usize), Option<usize>>;

impl Session {
    /// The session of client number `id`, which starts at `now_millis`.
    pub fn new(id: u64, now_millis: u64) -> Self {
        Session { id, last_command_millis: now_millis, ..Session::default() }
    }

    // ---- For whoever drives it ----

    /// Whether a broken frame has ended it, or the client.
    pub fn is_broken(&self) -> bool {
        matches!(self.phase, Phase::Broken)
    }

    /// Whether there are frames to run without reading anything.
    pub fn can_run(&self) -> bool {
        self.has_work() && !self.is_choked()
    }

    /// Whether more input would be of use now.
    pub fn wants_input(&self) -> bool {
        !self.input_ended && !self.is_broken() && !self.has_work() && !self.is_choked()
    }

    /// The frame that is coming in over many reads, if one is: reading it may take memory from the store.
    pub(crate) fn incoming(&mut self) -> Option<&mut Incoming> {
        if let Phase::Receiving(incoming) = &mut self.phase { Some(incoming) } else { None }
    }

    /// Whether everything that it will ever be sent has been taken from its output.
    pub fn is_finished(&self) -> bool {
        self.output.is_empty() && (self.is_broken() || self.input_ended && !self.has_work())
    }

    /// Moves waiting input to the start of `buffer`, in front of what is read next, and returns its length.
    pub fn carry(&mut self, buffer: &mut [u8]) -> usize {
        let length = self.input.len();
        if length > 0 {
            buffer[..length].copy_from_slice(&self.input);
            self.input = Vec::new();
        }
        length
    }

    /// Takes no more input: what is in its output is the last.
    pub fn quit(&mut self) {
        self.phase = Phase::Broken;
        self.input = Vec::new();
    }

    /// Its client is gone, or is to go: it has nothing more to say or to hear.
    pub fn abandon(&mut self) {
        self.quit();
        self.input_ended = true;
        self.output = Output::default();
    }

    /// Answers ERR and takes no more input: for a broken frame, or a client that may not be served.
    pub fn break_off(&mut self, reason: &str) {
        log::debug!("broken off: {reason}");
        self.quit();
        match self.resp {
            Some(_) => self.output.push_line(b'-', &format!("ERR Protocol error: {reason}")),
            None => self.output.push(stash::ERROR_REPLY),
        }
    }

    /// Memory that it holds, in bytes, without chunks.
    pub fn held_bytes(&self) -> usize {
        let apart = self.frames().map(|frames| size_of::<Queue>() + frames.bytes.capacity()).sum::<usize>();
        let found = if let Phase::Asking(question) = &self.phase { question.text.capacity() } else { 0 };
        self.input.capacity() + self.output.held_bytes() + apart + found
    }

    /// What it holds or keeps from being given back, in bytes: how much it is to blame when memory is short.
    pub fn burden_bytes(&self) -> usize {
        let apart: usize = self.frames().map(Frames::chunk_bytes).sum();
        self.held_bytes() + self.output.chunk_bytes + apart
    }

    /// What it keeps of frames: of the one that comes in, and of those that MULTI has queued.
    fn frames(&self) -> impl Iterator<Item = &Frames> {
        let incoming = if let Phase::Receiving(incoming) = &self.phase { Some(&incoming.frames) } else { None };
        incoming.into_iter().chain(self.queue().map(|queue| &queue.frames))
    }

    /// What it waits to be told by whoever drives it, who answers in its output. It goes on after that.
    pub fn take_question(&mut self) -> Option<Box<Question>> {
        match mem::replace(&mut self.phase, Phase::Open) {
            Phase::Asking(question) => Some(question),
            phase => {
                self.phase = phase;
                None
            }
        }
    }

    /// Its question could not be answered in one go.
    pub fn ask_again(&mut self, question: Box<Question>) {
        self.phase = Phase::Asking(question);
    }

    /// Whether frames wait that may be run, or a command that has been taken from the input is not done yet.
    fn has_work(&self) -> bool {
        let has_backlog = !self.input.is_empty() && self.needed <= self.input.len();
        has_backlog || matches!(self.phase, Phase::Asking(_)) || self.is_executing()
    }

    /// Whether EXEC has not done all of its queue.
    pub(crate) fn is_executing(&self) -> bool {
        self.queue().is_some_and(|queue| queue.runs)
    }

    fn queue(&self) -> Option<&Queue> {
        self.resp.as_ref()?.queue.as_deref()
    }

    // ---- For the batch ----

    /// Whether its input is still read as frames.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open) && !self.is_executing()
    }

    /// Whether so much output waits that nothing more is run or read. One reply may go beyond the mark.
    #[inline]
    pub(crate) fn is_choked(&self) -> bool {
        self.output.len() >= OUTPUT_HIGH_BYTES
    }

    /// Takes from the start of `input` what belongs to a command that has begun before, and returns how many bytes that
    /// took. The first byte of all tells what the client speaks.
    #[inline]
    pub(crate) fn resume(&mut self, input: &[u8], executor: &mut Executor) -> usize {
        match (&self.phase, input) {
            (Phase::Receiving(_), _) => return self.receive(input, executor),
            (Phase::Open, _) if self.is_executing() => self.client(executor).iter_mut().for_each(Client::run),
            (Phase::Silent, &[first, ..]) => {
                self.phase = Phase::Open;
                self.resp = is_first_byte(first).then(|| Box::new(Resp::new(executor)));
                // GoStash frames cannot bring a password.
                if executor.password.is_some() && self.resp.is_none() {
                    executor.stats.errors += 1;
                    self.break_off("a password is needed");
                }
            }
            _ => {}
        }
        0
    }

    /// Looks at the start of `input` where that is RESP.
    #[inline]
    pub(crate) fn next<'a>(&mut self, input: &'a [u8], arguments: &mut Arguments<'a>, executor: &Executor) -> Next<'a> {
        self.resp.as_mut().ok_or(None)?.next(input, arguments, executor)
    }

    /// Encodes `reply`.
    #[inline(always)]
    pub(crate) fn answer(&mut self, reply: Reply<'_>, part: Part) {
        match &mut self.resp {
            Some(resp) => resp.answer(reply, part, &mut self.output),
            None => stash::encode(reply, &mut self.output),
        }
    }

    /// Does what stands at the start of `input`, whatever it is, and returns how many bytes that took. If it is not whole,
    /// nothing is done, and how many bytes it takes at least is the error.
    pub(crate) fn execute_first(&mut self, input: &[u8], executor: &mut Executor) -> Result<usize, usize> {
        match self.step(input, &mut Vec::new(), executor) {
            Ok(consumed) => Ok(consumed),
            Err(Stop::Incomplete(needed)) => Err(needed),
            Err(Stop::Long(_, at)) => {
                let (frame, rest) = input.split_at(at);
                self.phase = Phase::Receiving(Box::new(Incoming::new(frame.into(), 0)));
                Ok(at + self.receive(rest, executor))
            }
            Err(Stop::Broken(_)) => Ok(input.len()),
        }
    }

    /// Keeps input that was not executed. `needed` is what the frame at its start takes at least, 0 if it could run. A
    /// long frame is collected apart, as to carry it again and again would take time with the square of its length.
    #[inline]
    pub(crate) fn keep(&mut self, rest: &[u8], needed: usize) {
        if rest.is_empty() || self.is_broken() {
            return;
        }
        if needed > CARRY_BYTES_MAX {
            self.phase = Phase::Receiving(Box::new(Incoming::new(rest.into(), needed)));
        } else {
            debug_assert!(self.input.is_empty());
            self.input.extend_from_slice(rest);
            self.needed = needed;
        }
    }

    /// Takes bytes of an incoming frame, and runs it when it is whole.
    fn receive(&mut self, bytes: &[u8], executor: &mut Executor) -> usize {
        let Phase::Receiving(mut incoming) = mem::replace(&mut self.phase, Phase::Open) else { return 0 };
        let mut taken = 0;
        loop {
            taken += incoming.take(&bytes[taken..], executor);
            let Incoming { frames, needed, left } = &mut *incoming;
            if *left > 0 || frames.bytes.len() < *needed {
                self.phase = Phase::Receiving(incoming);
                return taken;
            }
            match self.step(&frames.bytes, &mut frames.longs, executor) {
                Err(Stop::Incomplete(bytes)) => *needed = bytes,
                Err(Stop::Long(bytes, _)) => {
                    frames.longs.push(Long::default());
                    *left = bytes;
                }
                Ok(_) | Err(Stop::Broken(_)) => return taken,
            }
        }
    }

    /// Does what stands at the start of `input`, whose long values are `longs`, and returns how many bytes of it that
    /// took. A broken frame has been answered when it is returned.
    fn step(&mut self, input: &[u8], longs: &mut Vec<Long>, executor: &mut Executor) -> Result<usize, Stop> {
        let value_bytes_max = executor.value_bytes_max;
        let stepped = match self.client(executor) {
            Some(mut client) => client.step(input, longs, value_bytes_max),
            None => stash::parse(input, value_bytes_max, longs.first().map(Long::value)).map(|(command, consumed)| {
                let is_refused = longs.iter().any(|long| long.refused);
                stash::encode(executor.execute_whole(&command, is_refused), &mut self.output);
                consumed
            }),
        };
        match &stepped {
            Ok(_) => self.last_command_millis = executor.clock.now_millis,
            Err(Stop::Broken(reason)) => {
                executor.stats.broken += 1;
                self.break_off(reason);
            }
            Err(_) => {}
        }
        stepped
    }

    /// The client, if it speaks RESP, with what its commands act upon.
    fn client<'a>(&'a mut self, executor: &'a mut Executor) -> Option<Client<'a>> {
        let Session { id, resp, phase, output, .. } = self;
        Some(Client { id: *id, resp: resp.as_mut()?, phase, output, executor })
    }
}

/// What stands at the start of `input` where that is GoStash frames.
#[inline(always)]
pub(crate) fn next_frame<'a>(input: &'a [u8], executor: &Executor) -> Next<'a> {
    let (command, consumed) = stash::parse(input, executor.value_bytes_max, None).map_err(Stop::needed)?;
    Ok((command, Part::default(), consumed))
}
