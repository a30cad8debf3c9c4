//! The Redis side of a session: the state of a client that speaks RESP, its transaction, and how it is answered.
//!
//! [`Resp::next`] parses commands on keys for the batch. All else goes through [`RespClient::serve`], step by step: long
//! values, commands that are wrong, those in [`unkeyed`](super::unkeyed), which are not about a key, and transactions,
//! of which EXEC executes only the plain commands together ([`RespClient::run_plain`]).

use super::{Long, Phase, Place, chunk_bytes};
use crate::chunk::Chunked;
use crate::command::{Clock, Command, Refusal, Reply, Value};
use crate::execute::Executor;
use crate::limits::*;
use crate::output::Output;
use crate::protocol::Stop;
use crate::protocol::resp::{self, ARGUMENTS_MAX, Arguments, Cursor, Step};
use crate::protocol::verbs::{self, Complaint, Form, OUT_OF_MEMORY, SYNTAX, VERBS, Verb};

/// The state of a client that speaks RESP.
#[derive(Debug, Default)]
pub struct Resp {
    pub(crate) is_resp3: bool, // what it is sent is in version 3 of the protocol, with maps and a null of its own
    names: Box<str>,           // the `names` in one allocation, separated by spaces
    pub(crate) last_verb: Option<u8>, // that it has executed: an index into the table
    pub(crate) authenticated: bool,
    cursor: Cursor,
    /// For the command that is being executed in parts: how many were successful, and why one of them was refused.
    counted: i64,
    refusal: Option<Refusal>,
    pub(super) queue: Option<Box<Queue>>, // the commands since MULTI, or those that EXEC has left to do
    /// What input and queue have to wait for, since the caller has not answered it yet.
    pub question: Option<Box<Question>>,
}

/// A command that a session cannot answer by itself, because it is about the whole server or about other clients. To
/// look at all of these may take several turns, and the loop does not sleep between them.
#[derive(Debug, Default)]
pub struct Question {
    pub(crate) verb: &'static str,    // the command's name in the table
    pub(crate) words: Vec<Box<[u8]>>, // in lower case
    pub(crate) at: usize,             // how many slots of connections have been looked at
    pub(crate) found: i64,            // how many connections matched
    pub(crate) text: Chunked,         // the answer so far
}

/// A command that may be executed in a batch, how to answer it, and how many bytes it took. The error is how long the
/// input must be before there is one, or `None` if something else stands at its start: everything before that has to be
/// answered, and then `Session::execute_first` deals with it.
pub(crate) type Next<'a> = Result<(Command<'a>, Part, usize), Option<usize>>;

/// The commands of a transaction.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) frames: Chunked,
    pub(super) longs: Vec<Long>,
    commands: usize,
    bytes: usize,                    // that were queued, long values by their chunks
    pub(super) place: Option<Place>, // if it stands in line
    pub(super) runs: bool,           // EXEC has begun: the last of the chunks comes first now
    pub(super) head: Vec<u8>,        // what comes before the chunks: a step may go on from one into the next
    done: usize,                     // how many of its bytes have been executed
    broken: bool, // a command was answered with an error, or not all of it could be queued: EXEC executes nothing
}

/// The parts of a session that speaks RESP, and what its commands act upon.
pub(super) struct RespClient<'a> {
    pub(super) id: u64,
    pub(super) last_command_millis: &'a mut u64,
    pub(super) resp: &'a mut Resp,
    pub(super) phase: &'a mut Phase,
    pub(super) output: &'a mut Output,
    pub(super) executor: &'a mut Executor,
}

/// A command, or one part of a command on many keys: how it is answered, and where parsing stood before it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Part {
    pub(crate) verb: u8,
    form: Form,
    is_first: bool,
    pub(crate) is_last: bool,
    left: u32, // of the command's arguments, with those of this part
}

pub(super) const NOT_AUTHENTICATED: Complaint = Complaint::Borrowed("NOAUTH Authentication required.");

/// A command's outcome: it has been answered, or is to be answered with this error.
pub(super) type Outcome = Result<(), Complaint>;

impl Part {
    fn new(verb: &Verb, step: &Step) -> Self {
        let Step { is_first, left, next, .. } = *step;
        Part { verb: verb.index, form: verb.form, is_first, is_last: next.left == 0, left: left as u32 }
    }
}

impl Queue {
    /// How many bytes more it may take: as many as one command in all, since it cannot be evicted.
    pub(super) fn left(&self, value_bytes_max: usize) -> usize {
        (value_bytes_max + FRAME_EXTRA_BYTES).saturating_sub(self.bytes)
    }

    /// Counts a long value before it comes in, if it does not fit: then it need not be kept.
    pub(super) fn refuses(&mut self, bytes: usize, executor: &Executor) -> bool {
        let bytes = bytes.next_multiple_of(CHUNK_BYTES);
        let is_full = bytes > self.left(executor.value_bytes_max);
        self.bytes += if is_full { bytes } else { 0 };
        is_full
    }
}

impl Resp {
    /// Memory held for its transaction and its question in bytes, chunks excluded.
    pub(super) fn held_bytes(&self) -> usize {
        let queued = |queue: &Queue| size_of::<Queue>() + queue.head.capacity() + queue.frames.rest.capacity();
        let asked = |question: &Question| question.text.rest.capacity() + question.words.iter().flatten().count();
        self.queue.as_deref().map_or(0, queued) + self.question.as_deref().map_or(0, asked)
    }

    /// Memory in chunks held for the same, in bytes.
    pub(super) fn chunk_bytes(&self) -> usize {
        let queued = self.queue.as_ref().map_or(0, |it| it.frames.chunks.len() * CHUNK_BYTES + chunk_bytes(&it.longs));
        queued + self.question.as_ref().map_or(0, |it| it.text.chunks.len() * CHUNK_BYTES)
    }

    /// The client's name, and its library's name and version. What the client has not said is empty.
    pub(crate) fn names(&self) -> [&str; 3] {
        let mut names = self.names.split(' ');
        [(); 3].map(|()| names.next().unwrap_or_default())
    }

    /// Sets one of the names, which has no space in it.
    pub(super) fn set_name(&mut self, at: usize, name: &str) {
        let mut names = self.names();
        names[at] = name;
        self.names = names.join(" ").into();
    }

    #[inline]
    pub(crate) fn next<'a>(&mut self, input: &'a [u8], arguments: &mut Arguments<'a>, executor: &Executor) -> Next<'a> {
        if !self.authenticated || self.queue.is_some() {
            return Err(None);
        }
        let value_bytes_max = executor.value_bytes_max;
        if let Some(plain) = self.next_plain(input, value_bytes_max, executor.clock) {
            return Ok(plain);
        }
        let step = resp::parse(input, self.cursor, value_bytes_max, true, &[], arguments).map_err(Stop::needed)?;
        if let Ok(Some(verb)) = self.verb(&step, arguments)
            && let Some(plan) = verb.plan
            && let Ok(action) = plan(arguments, executor.clock)
        {
            self.cursor = step.next;
            let command = Command { key: verb.key(arguments), action };
            return Ok((command, Part::new(verb, &step), step.consumed));
        }
        Err(None)
    }

    /// A plain command, for which the table need not be searched.
    #[inline(always)]
    fn next_plain<'a>(&self, input: &'a [u8], bytes_max: usize, clock: Clock) -> Option<(Command<'a>, Part, usize)> {
        let (command, verb, length) = (self.cursor.left == 0).then(|| resp::parse_plain(input, bytes_max, clock))??;
        Some((command, Part { verb, form: Form::Plain, is_first: true, is_last: true, left: 0 }, length))
    }

    /// The command that a step belongs to, or `None` if it is to be skipped. Checks all but the command's options.
    fn verb(&self, step: &Step, arguments: &Arguments<'_>) -> Result<Option<&'static Verb>, Complaint> {
        if !step.is_first {
            return Ok(step.next.verb);
        }
        let verb = step.next.verb.ok_or_else(|| verbs::unknown_command(arguments))?;
        let verb = verbs::resolve(verb, arguments)?;
        match arguments.long {
            _ if !verb.takes(step.left + 1) => Err(verbs::wrong_arity(verb.name)),
            _ if step.left > ARGUMENTS_MAX && verb.part == 0 => Err(SYNTAX),
            _ if !self.authenticated && !verb.flags.contains("no_auth") => Err(NOT_AUTHENTICATED),
            Some((at, _)) if at + 1 == verb.key_at.into() => Err("ERR a key can have 65535 bytes at most".into()),
            Some(_) if verb.plan.is_none() && !matches!(verb.name, "echo" | "ping") => Err(SYNTAX),
            _ => Ok(Some(verb)),
        }
    }

    /// Moves parsing back to before a part that was not executed.
    pub(crate) fn rewind(&mut self, part: Part) {
        let verb = Some(&VERBS[usize::from(part.verb)]);
        let left = if part.is_first { 0 } else { part.left as usize };
        // How many bytes the command has left is not remembered. Its arguments are still bounded in number and length.
        self.cursor = Cursor { verb, left, bytes_left: usize::MAX };
    }

    #[inline]
    pub(crate) fn answer(&mut self, reply: Reply<'_>, part: Part, output: &mut Output) {
        self.last_verb = Some(part.verb);
        if part.form == Form::Each && part.is_first {
            output.push_header(b'*', part.left.into());
        }
        match (part.form, reply) {
            (Form::Plain | Form::Each, Reply::Value(value)) => output.push_bulk_value(value),
            (Form::Plain, Reply::Done) => output.push(b"+OK\r\n"),
            (Form::Count | Form::All, reply) => self.combine(reply, part, output),
            (_, Reply::Refused(refusal)) => output.push_line(b'-', verbs::refusal(refusal)),
            // Rounded, as in Redis.
            (Form::Seconds, Reply::Number(millis)) if millis >= 0 => output.push_header(b':', (millis / 500 + 1) / 2),
            (Form::Seconds | Form::Millis, Reply::Missing) => output.push_header(b':', -2),
            (Form::Number, Reply::Missing) => output.push_header(b':', 0),
            (Form::Type, Reply::Missing) => output.push(b"+none\r\n"),
            (Form::Type, _) => output.push(b"+string\r\n"),
            (_, Reply::Number(number)) => output.push_header(b':', number),
            _ => output.push_null(self.is_resp3),
        }
    }

    /// Adds up the replies to a command's parts, and answers with the last of them.
    fn combine(&mut self, reply: Reply<'_>, part: Part, output: &mut Output) {
        match reply {
            Reply::Refused(refusal) => self.refusal = Some(refusal),
            Reply::Missing => {}
            _ => self.counted += 1,
        }
        if part.is_last {
            let counted = std::mem::take(&mut self.counted);
            match (self.refusal.take(), part.form) {
                (Some(refusal), _) => output.push_line(b'-', verbs::refusal(refusal)),
                (None, Form::Count) => output.push_header(b':', counted),
                (None, _) => output.push(b"+OK\r\n"),
            }
        }
    }
}

impl RespClient<'_> {
    /// Executes or queues the step that `input` begins with, and that has these `longs`. Returns how long it is.
    pub(super) fn serve(&mut self, input: &[u8], longs: &mut Vec<Long>, value_bytes_max: usize) -> Result<usize, Stop> {
        let Resp { cursor, authenticated, .. } = *self.resp;
        // Counted for all that is not parsed for the batch: 16 KB can be 8,192 empty lines, at 60 ns each.
        self.executor.store.work += 1;
        // Most commands of a transaction are plain, and queued in a third of the time.
        if self.resp.queue.is_some()
            && let Some((.., consumed)) = self.resp.next_plain(input, value_bytes_max, self.executor.clock)
        {
            self.enqueue(true, &input[..consumed], Vec::new(), false);
            return Ok(consumed);
        }
        let mut arguments = Arguments::default();
        let values: Vec<Value<'_>> = longs.iter().take(ARGUMENTS_MAX).map(Long::value).collect();
        let step = resp::parse(input, cursor, value_bytes_max, authenticated, &values, &mut arguments)?;
        self.resp.cursor = step.next;
        let is_refused = longs[..step.longs].iter().any(|long| long.refused);
        let is_queued = |verb: &Verb| !matches!(verb.name, "multi" | "exec" | "discard" | "quit");
        let done = match self.resp.verb(&step, &arguments) {
            Ok(None) => Ok(()),
            Ok(Some(verb)) if self.resp.queue.is_some() && is_queued(verb) => {
                let longs = longs.drain(..step.longs).collect();
                self.enqueue(step.is_first, &input[..step.consumed], longs, is_refused);
                Ok(())
            }
            Ok(Some(verb)) => self.perform(verb, &step, &arguments, is_refused),
            Err(complaint) => Err(complaint),
        };
        done.unwrap_or_else(|complaint| self.complain(&complaint));
        longs.drain(..step.longs.min(longs.len()));
        Ok(step.consumed)
    }

    /// Executes a step of a command that is not queued.
    fn perform(&mut self, verb: &'static Verb, step: &Step, arguments: &Arguments<'_>, is_refused: bool) -> Outcome {
        self.executor.calls[usize::from(verb.index)] += u64::from(step.next.left == 0);
        self.resp.last_verb = Some(verb.index);
        let Some(plan) = verb.plan else {
            self.executor.stats.others += 1;
            return if is_refused { Err(OUT_OF_MEMORY) } else { self.execute_unkeyed(verb, arguments) };
        };
        let action = plan(arguments, self.executor.clock).inspect_err(|_| self.executor.stats.others += 1)?;
        let reply = self.executor.execute_alone(&Command { key: verb.key(arguments), action }, is_refused);
        self.resp.answer(reply, Part::new(verb, step), self.output);
        Ok(())
    }

    /// Answers with an error, and makes a transaction that is being queued fail. The rest of the frame will be skipped.
    fn complain(&mut self, complaint: &str) {
        self.executor.stats.errors += 1;
        self.executor.store.work += 4 * complaint.len() as u64 / STEPS_PER_UNIT;
        self.output.push_line(b'-', complaint);
        self.resp.cursor.verb = None;
        if let Some(queue) = &mut self.resp.queue {
            **queue = Queue { broken: true, ..Queue::default() };
        }
    }

    /// Puts a command, or a part of one, into the transaction that is being queued.
    fn enqueue(&mut self, is_first: bool, bytes: &[u8], longs: Vec<Long>, is_refused: bool) {
        let Some(queue) = &mut self.resp.queue else { return };
        queue.commands += usize::from(is_first);
        let bytes_in_all = bytes.len() + chunk_bytes(&longs);
        let is_full = bytes_in_all > queue.left(self.executor.value_bytes_max);
        queue.bytes += bytes_in_all;
        let is_refused = !is_full && (is_refused || !queue.frames.push(bytes, || self.executor.store.chunk()));
        queue.longs.extend(longs);
        if is_refused || is_full || queue.broken {
            **queue = Queue { broken: true, ..Queue::default() };
        }
        match is_first {
            true if is_refused => self.complain(&OUT_OF_MEMORY),
            true if is_full => self.complain("OOM command not allowed when MULTI has queued as much as it may."),
            true => self.output.push(b"+QUEUED\r\n"),
            false => {} // the first step has been answered
        }
    }

    pub(super) fn exec(&mut self) -> Outcome {
        let mut queue = self.resp.queue.take().ok_or("ERR EXEC without MULTI")?;
        if queue.broken {
            return Err("EXECABORT Transaction discarded because of previous errors.".into());
        }
        self.output.push_header(b'*', queue.commands as i64);
        queue.runs = true;
        queue.frames.chunks.reverse();
        self.resp.queue = (queue.commands > 0).then_some(queue);
        // What waits to be sent already, such as a QUEUED for each command, leaves its own replies no less room.
        self.run_queue(self.executor.store.work + EXEC_WORK_UNITS, self.output.len() + self.executor.output_bytes_max);
        Ok(())
    }

    /// Executes as much of the queue as this turn may: until the store's work reaches `work_max`, or output `output_max`.
    pub(super) fn run_queue(&mut self, work_max: u64, output_max: usize) {
        let mut commands = 0;
        // Without a queue, commands are executed instead of being queued again.
        while commands < EXEC_COMMANDS
            && self.may_go_on(work_max, output_max)
            && let Some(mut queue) = self.resp.queue.take()
        {
            if queue.done == queue.head.len() {
                self.fetch(&mut queue);
            }
            let count = self.run_plain(&mut queue, work_max, output_max);
            commands += count;
            if count == 0 {
                // The value limit was checked when this was queued. It may be lower by now, but this must be parsed.
                match self.serve(&queue.head[queue.done..], &mut queue.longs, VALUE_BYTES_MAX_MAX) {
                    Ok(consumed) => (queue.done, commands) = (queue.done + consumed, commands + 1),
                    Err(_) => self.fetch(&mut queue),
                }
            }
            *self.last_command_millis = self.executor.clock.now_millis;
            let is_left = queue.done < queue.head.len() || !queue.frames.rest.is_empty();
            self.resp.queue = is_left.then_some(queue);
        }
    }

    fn may_go_on(&self, work_max: u64, output_max: usize) -> bool {
        let (store, asks) = (&self.executor.store, self.resp.question.is_some());
        !asks && !store.is_short && store.work < work_max && self.output.len() < output_max
    }

    /// Executes the plain commands that come next, up to as many as are in a batch, and returns how many. What they look
    /// up is prefetched as in a batch: with 100,000 keys, that takes a third off them.
    fn run_plain(&mut self, queue: &mut Queue, work_max: u64, output_max: usize) -> usize {
        // Grown step by step, the batch would take 3 % more. No plain one is shorter than 16 bytes.
        let mut batch = Vec::with_capacity(BATCH_COMMANDS.min((queue.head.len() - queue.done) / 16));
        let mut end = queue.done;
        while batch.len() < BATCH_COMMANDS
            && let Some(next) = self.resp.next_plain(&queue.head[end..], VALUE_BYTES_MAX_MAX, self.executor.clock)
        {
            let (command, part, consumed) = next;
            let hash = self.executor.store.prefetch_index(self.executor.store.hash(command.key), &command.action);
            end += consumed;
            batch.push((command, part, hash, end));
        }
        batch.iter_mut().for_each(|(.., hash, _)| self.executor.store.prefetch_item(hash));
        for (at, (command, part, hash, end)) in batch.iter().enumerate() {
            if !self.may_go_on(work_max, output_max) {
                return at;
            }
            self.executor.store.work += 1;
            self.executor.calls[usize::from(part.verb)] += 1;
            let reply = self.executor.execute(*hash, command);
            self.resp.answer(reply, *part, self.output);
            queue.done = *end;
        }
        batch.len()
    }

    fn fetch(&mut self, queue: &mut Queue) {
        let Queue { frames: Chunked { chunks, rest }, head, done, .. } = queue;
        debug_assert!(!rest.is_empty(), "what was queued has been parsed before");
        head.drain(..std::mem::take(done));
        match chunks.pop() {
            Some(next) => head.extend_from_slice(&next),
            None => head.append(rest),
        }
        // As a rule, it is copied from here into the store, too.
        self.executor.store.work += 2 * head.len() as u64 / COPIED_BYTES_PER_UNIT;
    }
}
