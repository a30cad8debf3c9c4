//! The execution phase of a turn: the input of many sessions is parsed into a batch of commands, what they will look up
//! is prefetched, and then they are executed in order. It knows no socket; its caller keeps the sessions.
//!
//! A look-up in a large table waits for main memory two or three times. So a command's line of the index is prefetched
//! when the command is parsed, and its item when [`BATCH_COMMANDS`] have been parsed and none is executed yet. Most has
//! arrived when it is needed, whether the commands come from one client's pipeline or from many clients.

use std::ops::{IndexMut, Range};

use crate::command::{Action, Command};
use crate::execute::Executor;
use crate::limits::{BATCH_COMMANDS, SHORT_VISIT_BYTES, VISIT_COMMANDS};
use crate::protocol::{Stop, stash};
use crate::session::{Part, Session};
use crate::store::KeyHash;

/// One session's part in a turn.
#[derive(Clone, Debug)]
pub struct Visit {
    /// The session's slot among those of the caller.
    pub slot: usize,
    /// Which bytes of the turn's input are the session's and not consumed yet: neither executed nor in the batch.
    input: Range<usize>,
    needed: usize, // how many bytes the frame that begins there takes at least; 0 if it can be executed
    /// It brought so much, or has so much left to do or to send, that other sessions are served first.
    pub is_long: bool,
}

impl Visit {
    /// A visit of the session in `slot`, whose bytes are at `input`: those of [`Session::carry`], then what was read.
    pub fn new(slot: usize, input: Range<usize>) -> Self {
        Visit { slot, is_long: input.len() > SHORT_VISIT_BYTES, input, needed: 0 }
    }
}

/// A command that has been parsed and not executed yet.
struct Pending<'i> {
    visit: usize, // the index of the visit that it belongs to
    start: usize, // where its frame starts in the turn's input
    hash: KeyHash,
    command: Command<'i>,
    part: Part, // in RESP, how it is answered
}

/// Executes as much of `visits` as the turn allows that [`Executor::begin_turn`] began. Their sessions store the rest.
pub fn process<S>(visits: &mut [Visit], input: &[u8], sessions: &mut S, executor: &mut Executor)
where
    S: IndexMut<usize, Output: AsMut<Session> + Sized>,
{
    let bytes: usize = visits.iter().map(|visit| visit.input.len()).sum();
    // Few frames are shorter than 16 bytes. What is small takes the C library a tenth as long to allocate.
    let pending = Vec::with_capacity(BATCH_COMMANDS.min(bytes / 16));
    let mut batch = Batch { visits, input, sessions, executor, pending };
    (0..batch.visits.len()).for_each(|at| batch.parse(at));
    batch.run();
    let share_bytes = batch.executor.share_bytes;
    for Visit { slot, input: range, needed, .. } in visits {
        sessions[*slot].as_mut().keep(&input[range.clone()], *needed, share_bytes);
    }
}

/// The commands that have been parsed and not executed yet, and all that is needed to parse and execute them.
struct Batch<'a, 'i, S> {
    visits: &'a mut [Visit],
    input: &'i [u8],
    sessions: &'a mut S,
    executor: &'a mut Executor,
    pending: Vec<Pending<'i>>,
}

impl<'i, S: IndexMut<usize, Output: AsMut<Session> + Sized>> Batch<'_, 'i, S> {
    /// Parses the input of visit `at`. The batch is executed when it is full, and before whatever cannot be part of it.
    fn parse(&mut self, at: usize) {
        let Visit { slot, input: Range { start, end }, .. } = self.visits[at];
        let input = &self.input[..end];
        let is_open = self.sessions[slot].as_mut().is_open();
        if !is_open {
            self.run(); // what it executes may use up the turn's work, so the commands parsed so far come first
        }
        if !is_open && self.executor.store.is_short || self.executor.is_spent() {
            return; // a long frame or a transaction waits for memory, as any write does
        }
        let session = self.sessions[slot].as_mut();
        session.output.lend(&mut self.executor.spare);
        let mut done = start + session.resume(&input[start..], self.executor);
        let (mut is_open, is_stash) = (session.is_open(), session.resp.is_none());
        let (mut arguments, mut needed, mut executed) = (None, 0, 0);
        while is_open && done < end && needed == 0 {
            // Looking up the session's protocol for each frame would take a tenth of a request's instructions.
            let rest = &input[done..];
            let resp = if is_stash { None } else { self.sessions[slot].as_mut().resp.as_mut() };
            let next = if let Some(resp) = resp {
                resp.next(rest, arguments.get_or_insert_default(), self.executor)
            } else {
                let frame = stash::parse(rest, self.executor.value_bytes_max, None).map_err(Stop::needed);
                frame.map(|(command, consumed)| (command, Part::default(), consumed))
            };
            match next {
                Ok((command, part, consumed)) => {
                    let store = &self.executor.store;
                    let hash = store.prefetch_index(store.hash(command.key), &command.action);
                    self.pending.push(Pending { visit: at, start: done, hash, command, part });
                    done += consumed;
                    if self.pending.len() == BATCH_COMMANDS {
                        executed += BATCH_COMMANDS;
                        if !self.run_until(at, done) || executed >= VISIT_COMMANDS {
                            return;
                        }
                    }
                }
                Err(Some(bytes)) => needed = bytes, // the frame is incomplete
                // What stands here may change the session, so everything before it has to be answered first.
                Err(None) => {
                    executed += self.pending.len() + 1; // with what stands here, which may be the last that is allowed
                    if !self.run_until(at, done) || executed > VISIT_COMMANDS {
                        return;
                    }
                    match self.sessions[slot].as_mut().execute_first(rest, self.executor) {
                        Ok(consumed) => done += consumed,
                        Err(bytes) => needed = bytes,
                    }
                    is_open = self.sessions[slot].as_mut().is_open();
                }
            }
        }
        (self.visits[at].input.start, self.visits[at].needed) = (done, needed);
    }

    /// Executes everything before `done`, and returns whether the visit may go on in this turn. If not, it goes on in a
    /// later one: from there, or from the first command that was not executed.
    fn run_until(&mut self, at: usize, done: usize) -> bool {
        self.visits[at].input.start = done;
        self.run();
        let is_done = self.visits[at].input.start == done;
        let output = &self.sessions[self.visits[at].slot].as_mut().output;
        is_done && output.len() < self.executor.output_bytes_max && !self.executor.is_spent()
    }

    /// Executes the batch. A visit that has to wait for a later turn is moved back to its first command not executed.
    #[inline(never)]
    fn run(&mut self) {
        let Batch { visits, sessions, executor, pending: batch, .. } = self;
        batch.iter_mut().for_each(|pending| executor.store.prefetch_item(&mut pending.hash));
        for commands in batch.chunk_by(|one, next| one.visit == next.visit) {
            let visit = &mut visits[commands[0].visit];
            let session = sessions[visit.slot].as_mut();
            if !executor.is_spent() {
                session.last_command_millis = executor.clock.now_millis;
            }
            for Pending { start, hash, command, part, .. } in commands {
                let needs_room = || !matches!(command.action, Action::Get | Action::Delete | Action::Measure(_));
                let is_full = session.output.len() >= executor.output_bytes_max;
                if is_full || executor.is_spent() || executor.store.is_short && needs_room() {
                    // It goes on from here in a later turn, or in each that writes some of its output.
                    if let Some(resp) = &mut session.resp {
                        resp.rewind(*part);
                    }
                    (visit.input.start, visit.needed) = (*start, 0);
                    break;
                }
                log::trace!("{:?} {}", command.action, command.key.escape_ascii());
                executor.calls[usize::from(part.verb)] += u64::from(part.is_last);
                let reply = executor.execute(*hash, command);
                match &mut session.resp {
                    Some(resp) => resp.answer(reply, *part, &mut session.output),
                    None => stash::encode(reply, &mut session.output),
                }
            }
        }
        // Only now: some may have taken all of a turn's work, and yet each turn is to execute something.
        executor.store.count_look_ups(batch.len());
        batch.clear();
    }
}
