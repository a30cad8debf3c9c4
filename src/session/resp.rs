//! The Redis side of a session: what was agreed with the client, what MULTI has queued, and the commands that are about
//! the connection itself. What is about keys goes to the executor; what is about the whole server or about other
//! clients becomes a [`Question`], which whoever drives the session answers.

use std::collections::VecDeque;

use super::connection::{self, Scan};
use super::{Language, Long, Phase, Session};
use crate::admin::Question;
use crate::command::{Command, Refusal, Reply, Value};
use crate::execute::Executor;
use crate::limits::{EXEC_COMMANDS, EXEC_OUTPUT_BYTES, QUEUE_BYTES_MAX, VALUE_BYTES_MAX_MAX};
use crate::output::Output;
use crate::protocol::request::{self, Complaint, Form, SYNTAX};
use crate::protocol::resp::{self, Arguments, Cursor, Limits, ParseError, Parsed, Version};
use crate::protocol::verbs::{Kind, VERBS, Verb};

/// What was agreed with a client that speaks RESP.
#[derive(Debug, Default)]
pub struct Resp {
    /// The version of the protocol that it reads.
    pub version: Version,
    /// Its number.
    pub id: u64,
    /// What it calls itself.
    pub name: Box<str>,
    /// The name and the version of its library.
    pub library: [Box<str>; 2],
    /// The command that it sent last, by its number in the table.
    pub last_verb: usize,
    pub(super) cursor: Cursor,
    pub(super) authenticated: bool,
    /// How many of a command's parts there were so far, and why one of them was refused.
    counted: i64,
    refusal: Option<Refusal>,
    queue: Option<Box<Queue>>,
    /// The queue that EXEC runs, how many bytes of it are done, and how many of its long values.
    running: Option<Box<(Queue, usize, usize)>>,
}

/// What MULTI has queued: frames as they came, the long values apart.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    longs: VecDeque<Long>,
    long_bytes: usize,
    commands: usize,
    /// A command was wrong, so that EXEC may not run the others.
    broken: bool,
}

/// How a reply is to be written, and where parsing stood before its command.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ask {
    pub(crate) verb: u8,
    form: Form,
    /// No other part of the same command follows.
    pub(crate) last: bool,
    /// How many arguments of the command were still to come, if it comes in parts.
    left: u32,
}

const OUT_OF_MEMORY: Complaint = Complaint::Text(request::refusal(Refusal::OutOfMemory));

impl Queue {
    /// Forgets everything: it will not be executed.
    fn give_up(&mut self) {
        *self = Queue { broken: true, ..Queue::default() };
    }
}

impl Resp {
    pub(super) fn new(id: u64, executor: &Executor) -> Self {
        Resp { id, authenticated: executor.password.is_none(), ..Resp::default() }
    }

    /// Whether commands are executed as they come.
    #[inline]
    fn executes(&self) -> bool {
        self.authenticated && self.queue.is_none()
    }

    /// Memory that it holds, in bytes, without chunks.
    pub(super) fn held_bytes(&self) -> usize {
        let queues = self.queue.iter().map(|queue| queue.bytes.capacity());
        let running = self.running.iter().map(|running| running.0.bytes.capacity());
        size_of::<Self>() + queues.chain(running).sum::<usize>()
    }

    /// Bytes of chunks that it holds.
    pub(super) fn long_bytes(&self) -> usize {
        let queues = self.queue.iter().map(|queue| queue.long_bytes);
        queues.chain(self.running.iter().map(|running| running.0.long_bytes)).sum()
    }

    /// Encodes `reply`.
    #[inline]
    pub(super) fn answer(&mut self, reply: Reply<'_>, ask: Ask, output: &mut Output) {
        self.last_verb = ask.verb.into();
        match (ask.form, reply) {
            (Form::Plain, Reply::Value(value)) => output.push_bulk_value(value),
            (Form::Plain, Reply::Done) => output.push(b"+OK\r\n"),
            (Form::Plain, Reply::Missing) => output.push_null(self.version),
            (Form::Count | Form::All, reply) => self.join(reply, ask, output),
            (_, Reply::Refused(refusal)) => output.push_error(request::refusal(refusal)),
            (Form::Seconds, Reply::Number(millis)) if millis >= 0 => {
                output.push_integer(millis / 1000 + (millis % 1000) / 500);
            }
            (Form::Seconds | Form::Millis, Reply::Missing) => output.push_integer(-2),
            (Form::Number, Reply::Missing) => output.push_integer(0),
            (Form::Type, Reply::Missing) => output.push_status("none"),
            (Form::Type, _) => output.push_status("string"),
            (_, Reply::Number(number)) => output.push_integer(number),
            (_, Reply::Value(_) | Reply::Done) => output.push_null(self.version),
        }
    }

    /// Adds the reply to one part of a command to those of the others, and answers when it is the last.
    fn join(&mut self, reply: Reply<'_>, ask: Ask, output: &mut Output) {
        match reply {
            Reply::Refused(refusal) => self.refusal = Some(refusal),
            Reply::Missing => {}
            _ => self.counted += 1,
        }
        if !ask.last {
            return;
        }
        let counted = std::mem::take(&mut self.counted);
        match (self.refusal.take(), ask.form) {
            (Some(refusal), _) => output.push_error(request::refusal(refusal)),
            (None, Form::Count) => output.push_integer(counted),
            (None, _) => output.push(b"+OK\r\n"),
        }
    }
}

impl Session {
    /// Parses what stands at the start of `input`, within the frame that it may be in. `aside` is the long value of it
    /// that has come in already.
    pub(crate) fn parse_resp<'a>(
        &mut self,
        input: &'a [u8],
        aside: Option<Value<'a>>,
        arguments: &mut Arguments<'a>,
        executor: &Executor,
    ) -> Result<Parsed, ParseError> {
        let Some(resp) = self.resp_mut() else {
            return Ok(Parsed::Incomplete(usize::MAX));
        };
        let limits = Limits { value_bytes_max: executor.value_bytes_max(), authenticated: resp.authenticated };
        resp::parse(input, &mut resp.cursor, &limits, aside, arguments)
    }

    /// What stands at the start of `input`, if it is a GET or SET of the plainest kind that may be executed now: what to
    /// execute, how to answer it, and its length.
    #[inline]
    pub(crate) fn parse_plain<'a>(
        &mut self,
        input: &'a [u8],
        executor: &Executor,
    ) -> Option<(Command<'a>, Ask, usize)> {
        let resp = self.resp()?;
        if !matches!(resp.cursor, Cursor::Between) || !resp.executes() {
            return None;
        }
        let (command, verb, consumed) = resp::parse_plain(input, executor.value_bytes_max())?;
        Some((command, Ask { verb: verb.index as u8, form: Form::Plain, last: true, left: 0 }, consumed))
    }

    /// What `parsed` asks of the store, if it may do so now; `None` if it has to be [performed](Session::perform), for
    /// one reason or another.
    #[inline]
    pub(crate) fn plan<'a>(
        &self,
        parsed: Parsed,
        arguments: &Arguments<'a>,
        executor: &Executor,
    ) -> Option<(Command<'a>, Ask)> {
        let resp = self.resp()?;
        let (verb, last) = match parsed {
            Parsed::Frame(Some(verb), _) if verb.takes(arguments.all().len() + 1) => (verb, true),
            Parsed::Part(verb, last, _) => (verb, last),
            _ => return None,
        };
        if !resp.executes() {
            return None;
        }
        let (command, form) = request::command(verb, arguments, executor.clock()).ok()??;
        let left = match (parsed, resp.cursor) {
            (Parsed::Part(..), Cursor::Parts { left, .. }) => left + verb.part(),
            (Parsed::Part(..), _) => verb.part(),
            _ => 0,
        };
        Some((command, Ask { verb: verb.index as u8, form, last, left: left as u32 }))
    }

    /// Where parsing stands within a frame.
    #[inline]
    pub(crate) fn cursor(&self) -> Cursor {
        self.resp().map_or(Cursor::Between, |resp| resp.cursor)
    }

    /// Sets parsing back to where it stood.
    pub(crate) fn rewind(&mut self, cursor: Cursor) {
        if let Some(resp) = self.resp_mut() {
            resp.cursor = cursor;
        }
    }

    /// Sets parsing back to where it stood before a command that was not executed after all.
    pub(crate) fn rewind_before(&mut self, ask: Ask) {
        self.rewind(match ask.left {
            0 => Cursor::Between,
            left => Cursor::Parts {
                verb: &VERBS[usize::from(ask.verb)],
                left: left as usize,
                // How much of it had been used up is forgotten: it is a bound against frames without end, and that it
                // remains.
                bytes_left: VALUE_BYTES_MAX_MAX,
            },
        });
    }

    /// Does what `parsed`, whose bytes are `raw`, asks for: at once, or by queueing it. Returns whether it was queued,
    /// in which case a long value among its arguments belongs into the queue as well.
    pub(crate) fn perform(
        &mut self,
        parsed: Parsed,
        raw: &[u8],
        arguments: &Arguments<'_>,
        executor: &mut Executor,
    ) -> bool {
        let now_millis = executor.now_millis();
        let Some(resp) = self.resp_mut() else {
            return false;
        };
        let (verb, count) = match parsed {
            Parsed::Nothing(_) | Parsed::Long(..) | Parsed::Incomplete(_) => return false,
            Parsed::Excess(verb, count, _) => (verb, count),
            Parsed::Head(verb, parts, _) => (Some(verb), 1 + parts * verb.part()),
            Parsed::Frame(verb, _) => (verb, arguments.all().len() + 1),
            Parsed::Part(verb, ..) => (Some(verb), 0),
        };
        let is_part = matches!(parsed, Parsed::Part(..));
        let verb = match verb {
            Some(verb) if is_part || verb.takes(count) => verb,
            _ => return self.complain(&Complaint::about(verb, arguments), executor),
        };
        if let Parsed::Excess(..) = parsed {
            return self.complain(&SYNTAX, executor);
        }
        if !resp.authenticated && !matches!(verb.kind, Kind::Auth | Kind::Hello | Kind::Quit) {
            // The parts of a command of many will not be looked at.
            if let Cursor::Parts { left, .. } = resp.cursor {
                resp.cursor = Cursor::Skipping { left, bytes: 0 };
            }
            return self.complain(&Complaint::Text("NOAUTH Authentication required."), executor);
        }
        let at_once = matches!(verb.kind, Kind::Exec | Kind::Discard | Kind::Multi | Kind::Quit);
        if !at_once && resp.queue.is_some() {
            return self.enqueue(parsed, raw, executor);
        }
        if let Parsed::Head(verb, parts, _) = parsed {
            if verb.kind == Kind::MGet {
                self.output.push_array(parts);
            }
            return false;
        }
        self.last_command_millis = now_millis;
        let planned = match request::command(verb, arguments, executor.clock()) {
            Ok(planned) => planned,
            Err(complaint) => return self.complain(&complaint, executor),
        };
        if let Some((command, form)) = planned {
            let last = !matches!(parsed, Parsed::Part(_, false, _));
            let hash = executor.store.hash(command.key());
            let ask = Ask { verb: verb.index as u8, form, last, left: 0 };
            executor.count(ask.verb, last);
            self.answer(executor.execute(hash, &command), ask, now_millis);
            return false;
        }
        executor.count(verb.index as u8, true);
        executor.stats.others += 1;
        if let Err(complaint) = self.about_connection(verb, arguments, executor) {
            return self.complain(&complaint, executor);
        }
        false
    }

    /// Answers a part of a command, or all of it, whose long value there was no room for.
    pub(super) fn refuse(&mut self, parsed: Parsed, executor: &mut Executor) {
        match (parsed, self.queue()) {
            (Parsed::Part(..), Some(queue)) => queue.give_up(),
            (Parsed::Part(_, last, _), None) => {
                executor.stats.errors += 1;
                let ask = Ask { form: Form::All, last, ..Ask::default() };
                self.answer(Reply::Refused(Refusal::OutOfMemory), ask, executor.now_millis());
            }
            _ => {
                self.complain(&OUT_OF_MEMORY, executor);
            }
        }
    }

    /// Answers an error, which spoils a transaction that is being queued.
    fn complain(&mut self, complaint: &Complaint, executor: &mut Executor) -> bool {
        executor.stats.errors += 1;
        self.output.push_error(complaint.text());
        self.last_command_millis = executor.now_millis();
        if let Some(queue) = self.queue() {
            queue.give_up();
        }
        false
    }

    // ---- Transactions ----

    fn enqueue(&mut self, parsed: Parsed, raw: &[u8], executor: &mut Executor) -> bool {
        let Some(queue) = self.queue() else {
            return false;
        };
        let is_part = matches!(parsed, Parsed::Part(..));
        if queue.bytes.len() + raw.len() > QUEUE_BYTES_MAX {
            if !is_part {
                return self.complain(&OUT_OF_MEMORY, executor);
            }
            // Its command has been answered already.
            queue.give_up();
        }
        if !queue.broken {
            queue.bytes.extend_from_slice(raw);
        }
        if !is_part {
            queue.commands += 1;
            self.output.push(b"+QUEUED\r\n");
        }
        self.last_command_millis = executor.now_millis();
        true
    }

    /// Adds the long value of what was queued last.
    pub(super) fn enqueue_long(&mut self, long: Long, executor: &Executor) {
        let long_bytes_max = executor.value_bytes_max();
        let Some(queue) = self.queue().filter(|queue| !queue.broken) else {
            return;
        };
        queue.long_bytes += long.value().len();
        queue.longs.push_back(long);
        // Together they may be as long as one value: what waits here is nobody's but this client's.
        if queue.long_bytes > long_bytes_max {
            queue.give_up();
        }
    }

    fn queue(&mut self) -> Option<&mut Queue> {
        self.resp_mut()?.queue.as_deref_mut()
    }

    fn exec(&mut self, executor: &mut Executor) -> Result<(), Complaint> {
        let Some(resp) = self.resp_mut() else {
            return Ok(());
        };
        let queue = resp.queue.take().ok_or(Complaint::Text("ERR EXEC without MULTI"))?;
        if queue.broken {
            return Err(Complaint::Text("EXECABORT Transaction discarded because of previous errors."));
        }
        let commands = queue.commands;
        resp.running = Some(Box::new((*queue, 0, 0)));
        self.output.push_array(commands);
        self.phase = Phase::Executing;
        self.run_queue(executor);
        Ok(())
    }

    /// Executes what EXEC has left to do, or as much of it as may be done now.
    pub(super) fn run_queue(&mut self, executor: &mut Executor) {
        let Some(mut running) = self.resp_mut().and_then(|resp| resp.running.take()) else {
            self.phase = Phase::Open;
            return;
        };
        let (queue, done, longs_done) = &mut *running;
        let mut arguments = Arguments::default();
        for _ in 0..EXEC_COMMANDS {
            let at_end = *done == queue.bytes.len();
            if at_end || !matches!(self.phase, Phase::Executing) || self.output.len() >= EXEC_OUTPUT_BYTES {
                break;
            }
            let long = queue.longs.get(*longs_done).map(Long::value);
            let Some(resp) = self.resp_mut() else {
                break;
            };
            // Limits were kept when it was queued. They may have been lowered since, and it must be read to its end.
            let limits = Limits { value_bytes_max: VALUE_BYTES_MAX_MAX, authenticated: true };
            let parsed = resp::parse(&queue.bytes[*done..], &mut resp.cursor, &limits, long, &mut arguments);
            let Some((parsed, consumed)) = parsed.ok().map(|parsed| (parsed, parsed.consumed())) else {
                debug_assert!(false, "what was queued has been parsed before");
                break;
            };
            let raw = &queue.bytes[*done..*done + consumed];
            *done += consumed;
            *longs_done += usize::from(arguments.has_long());
            if arguments.has_long() && long.is_some_and(|long| long.len() > executor.value_bytes_max()) {
                self.refuse(parsed, executor);
            } else {
                self.perform(parsed, raw, &arguments, executor);
            }
        }
        if *done == queue.bytes.len() {
            if matches!(self.phase, Phase::Executing) {
                self.phase = Phase::Open;
            }
        } else if let Some(resp) = self.resp_mut() {
            resp.running = Some(running);
        }
    }

    /// Whether a question, or EXEC, has to come to an end before anything else.
    pub(super) fn phase_after_question(&mut self) -> Phase {
        match self.resp_mut() {
            Some(resp) if resp.running.is_some() => Phase::Executing,
            _ => Phase::Open,
        }
    }

    // ---- Commands about the connection ----

    fn about_connection(
        &mut self,
        verb: &'static Verb,
        arguments: &Arguments<'_>,
        executor: &mut Executor,
    ) -> Result<(), Complaint> {
        let words = arguments.all();
        let Session { language: Language::Resp(resp), output, phase, .. } = self else {
            return Ok(());
        };
        resp.last_verb = verb.index;
        match (verb.kind, words) {
            (Kind::Ping, []) => output.push(b"+PONG\r\n"),
            (Kind::Ping, [_]) | (Kind::Echo, _) => output.push_bulk_value(arguments.value(0)),
            (Kind::Ping, _) => return Err(Complaint::arity(verb.name)),
            (Kind::Hello, _) => return connection::hello(resp, words, executor, output),
            (Kind::Auth, _) => {
                connection::authenticate(resp, words, executor)?;
                output.push(b"+OK\r\n");
            }
            (Kind::Select, [index]) => {
                if request::integer(index)? != 0 {
                    return Err(Complaint::Text("ERR DB index is out of range"));
                }
                output.push(b"+OK\r\n");
            }
            (Kind::Quit, _) => {
                output.push(b"+OK\r\n");
                self.quit();
            }
            (Kind::Multi, _) => {
                if resp.queue.is_some() {
                    // An error that does no harm to the transaction.
                    executor.stats.errors += 1;
                    output.push_error("ERR MULTI calls can not be nested");
                    return Ok(());
                }
                resp.queue = Some(Box::default());
                output.push(b"+OK\r\n");
            }
            (Kind::Discard, _) => {
                resp.queue.take().ok_or(Complaint::Text("ERR DISCARD without MULTI"))?;
                output.push(b"+OK\r\n");
            }
            (Kind::Exec, _) => return self.exec(executor),
            (Kind::Client, [subcommand, ..]) if is_about_others(subcommand) => {
                *phase = Phase::Asking(Box::new(Question::new(verb.kind, words)));
            }
            (Kind::Client, [subcommand, rest @ ..]) => return connection::client(resp, subcommand, rest, output),
            (Kind::Command, _) => return connection::command(words, resp.version, output),
            (Kind::Time, _) => {
                let millis = executor.clock().unix_millis();
                output.push_array(2);
                output.push_bulk((millis / 1000).to_string().as_bytes());
                output.push_bulk((millis % 1000 * 1000).to_string().as_bytes());
            }
            (Kind::DbSize, _) => output.push_integer(executor.store.len() as i64),
            (Kind::Flush, _) => {
                // There is but one way to do it, at once for everybody and in the background.
                let known = |word: &[u8]| word.eq_ignore_ascii_case(b"async") || word.eq_ignore_ascii_case(b"sync");
                if words.len() > 1 || words.first().is_some_and(|word| !known(word)) {
                    return Err(SYNTAX);
                }
                executor.store.flush();
                output.push(b"+OK\r\n");
            }
            (Kind::Scan, [cursor, options @ ..]) => {
                let scan = Scan::parse(cursor, options)?;
                scan.run(executor, output);
            }
            (Kind::Keys, _) => {
                return Err(Complaint::Text("ERR KEYS is not served, as nobody may keep all others waiting: use SCAN"));
            }
            (Kind::Memory, [subcommand, ..]) => {
                return Err(match subcommand.eq_ignore_ascii_case(b"usage") {
                    true => Complaint::arity("memory|usage"),
                    false => Complaint::about_subcommand(subcommand, verb.name),
                });
            }
            _ => *phase = Phase::Asking(Box::new(Question::new(verb.kind, words))),
        }
        Ok(())
    }
}

/// Whether a subcommand of CLIENT takes looking at other clients.
fn is_about_others(subcommand: &[u8]) -> bool {
    subcommand.eq_ignore_ascii_case(b"list") || subcommand.eq_ignore_ascii_case(b"kill")
}
