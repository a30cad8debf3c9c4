//! The execution phase of a turn: the input of many sessions becomes commands, the commands are looked up together, and
//! then each is executed in its turn. It knows no socket; the sessions are wherever its caller keeps them.
//!
//! A look-up in a large table waits for main memory two or three times. Looking at the tables of up to
//! [`BATCH_COMMANDS`] commands first, then at their items, and only then executing lets these waits overlap, whether
//! the commands come from one client's pipeline or from many clients.

use std::hint::black_box;
use std::ops::{IndexMut, Range};

use crate::command::Command;
use crate::execute::Executor;
use crate::limits::BATCH_COMMANDS;
use crate::protocol::resp::Arguments;
use crate::protocol::stash::{self, Parsed};
use crate::session::{Ask, Next, Session};
use crate::store::{KeyHash, Touched};

/// One session's part in a turn.
#[derive(Clone, Debug)]
pub struct Visit {
    /// Which session.
    pub session: usize,
    /// Where its bytes stand in the turn's input.
    pub input: Range<usize>,
    /// How far it has got: what lies before is executed, or will be with the next batch.
    done: usize,
    /// What the frame that begins there takes at least, in bytes.
    needed: usize,
    /// It may not go on in this turn: too much output waits, or the turn's work is spent.
    held_up: bool,
}

impl Visit {
    /// A visit of `session`, whose bytes stand at `input`.
    pub fn new(session: usize, input: Range<usize>) -> Self {
        Visit { session, done: input.start, needed: 0, input, held_up: false }
    }

    /// Everything before `done` is executed, unless it was held up.
    fn advance(&mut self, done: usize) {
        if !self.held_up {
            self.done = done;
        }
    }

    /// Leaves what begins at `done` for a later turn. It can run then.
    fn hold_up(&mut self, done: usize) {
        self.held_up = true;
        self.done = done;
        self.needed = 0;
    }
}

/// A command that is parsed and not executed yet.
struct Pending<'i> {
    /// Index of the visit that it belongs to.
    visit: usize,
    /// Where its frame starts in the turn's input.
    start: usize,
    hash: KeyHash,
    command: Command<'i>,
    ask: Ask,
}

/// Executes what `visits` brought, in order within each session. What has to wait is kept in its session.
pub fn process<S>(visits: &mut [Visit], input: &[u8], sessions: &mut S, executor: &mut Executor)
where
    S: IndexMut<usize, Output = Session>,
{
    let mut batch = Batch { visits, input, sessions, executor, pending: Vec::with_capacity(BATCH_COMMANDS) };
    for at in 0..batch.visits.len() {
        batch.parse(at);
    }
    batch.run();
    for visit in visits {
        sessions[visit.session].keep(&input[visit.done..visit.input.end], visit.needed, executor);
    }
}

/// The commands that have been parsed and not executed yet, and what it takes to go on.
struct Batch<'a, 'i, S> {
    visits: &'a mut [Visit],
    input: &'i [u8],
    sessions: &'a mut S,
    executor: &'a mut Executor,
    pending: Vec<Pending<'i>>,
}

impl<'i, S: IndexMut<usize, Output = Session>> Batch<'_, 'i, S> {
    /// Parses one visit's input.
    fn parse(&mut self, at: usize) {
        let Visit { session: key, input: Range { start, end }, .. } = self.visits[at].clone();
        let input = &self.input[..end];
        let session = &mut self.sessions[key];
        let mut done = start + session.absorb(&input[start..], self.executor);
        if done < end {
            session.listen(input[done], self.executor);
        }
        let mut arguments = Arguments::default();
        let (is_stash, value_bytes_max) = (session.resp().is_none(), self.executor.value_bytes_max());
        let mut goes_on = session.is_open();
        while goes_on && done < end {
            // Most frames are whole and GoStash's: asking the session as well takes 40 instructions of 700.
            if is_stash
                && let Ok(Parsed::Complete { command, consumed }) = stash::parse(&input[done..], value_bytes_max)
            {
                goes_on = self.add(at, done, command, Ask::default());
                done += consumed;
                continue;
            }
            match self.sessions[key].next(&input[done..], &mut arguments, self.executor) {
                Next::Command(command, ask, consumed) => {
                    goes_on = self.add(at, done, command, ask);
                    done += consumed;
                }
                Next::Incomplete(needed) => {
                    self.visits[at].needed = needed;
                    break;
                }
                // What follows changes the session, so everything before it has to be answered first.
                Next::Other => {
                    self.run();
                    let (session, visit) = (&mut self.sessions[key], &mut self.visits[at]);
                    if visit.held_up {
                        return;
                    }
                    if session.is_choked() || self.executor.is_spent() {
                        return visit.hold_up(done);
                    }
                    match session.take(&input[done..], self.executor) {
                        Ok(consumed) => done += consumed,
                        Err(needed) => {
                            visit.needed = needed;
                            break;
                        }
                    }
                    goes_on = session.is_open();
                }
            }
        }
        self.visits[at].advance(done);
    }

    /// Adds a command of a visit, whose frame starts at `start`, and executes the batch when it is full. Returns
    /// whether the visit may go on.
    #[inline(always)]
    fn add(&mut self, visit: usize, start: usize, command: Command<'i>, ask: Ask) -> bool {
        let hash = self.executor.store.hash(command.key());
        self.pending.push(Pending { visit, start, hash, command, ask });
        if self.pending.len() < BATCH_COMMANDS {
            return true;
        }
        self.run();
        !self.visits[visit].held_up
    }

    /// Looks the batch up, then executes it.
    #[inline(never)]
    fn run(&mut self) {
        let Batch { visits, sessions, executor, pending: batch, .. } = self;
        if batch.len() > 1 {
            let mut touched = [Touched::default(); BATCH_COMMANDS];
            for (touched, pending) in touched.iter_mut().zip(&mut *batch) {
                *touched = executor.store.touch_index(&mut pending.hash);
            }
            for touched in &touched[..batch.len()] {
                black_box(executor.store.touch_item(*touched));
            }
        }
        let now_millis = executor.now_millis();
        for pending in &*batch {
            let visit = &mut visits[pending.visit];
            if visit.held_up {
                continue;
            }
            let session = &mut sessions[visit.session];
            if session.is_choked() || executor.is_spent() {
                // It goes on from here in a later turn: what is kept then starts with a whole frame.
                visit.hold_up(pending.start);
                session.take_back(pending.ask);
                continue;
            }
            log::trace!("{}", pending.command);
            executor.count(pending.ask.verb, pending.ask.is_last);
            session.answer(executor.execute(pending.hash, &pending.command), pending.ask, now_millis);
        }
        batch.clear();
    }
}
