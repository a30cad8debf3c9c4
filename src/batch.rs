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
    let mut batch = Vec::with_capacity(BATCH_COMMANDS);
    for at in 0..visits.len() {
        parse(at, visits, input, sessions, executor, &mut batch);
    }
    run(&mut batch, visits, sessions, executor);
    for visit in visits {
        sessions[visit.session].keep(&input[visit.done..visit.input.end], visit.needed, executor);
    }
}

/// Parses one visit's input into the batch, which is run whenever it is full.
fn parse<'i, S>(
    at: usize,
    visits: &mut [Visit],
    input: &'i [u8],
    sessions: &mut S,
    executor: &mut Executor,
    batch: &mut Vec<Pending<'i>>,
) where
    S: IndexMut<usize, Output = Session>,
{
    let Visit { session: key, input: Range { start, end }, .. } = visits[at].clone();
    let mut done = start + sessions[key].absorb(&input[start..end], executor);
    if done < end {
        sessions[key].listen(input[done], executor);
    }
    let mut arguments = Arguments::default();
    while done < end && sessions[key].is_open() {
        let rest = &input[done..end];
        match sessions[key].next(rest, &mut arguments, executor) {
            Next::Command(command, ask, consumed) => {
                let hash = executor.store.hash(command.key());
                let pending = Pending { visit: at, start: done, hash, command, ask };
                done += consumed;
                add(pending, batch, visits, sessions, executor);
            }
            Next::Incomplete(needed) => {
                visits[at].needed = needed;
                break;
            }
            // What follows changes the session, so everything before it has to be answered first.
            Next::Other => {
                run(batch, visits, sessions, executor);
                let session = &mut sessions[key];
                if !visits[at].held_up && (session.is_choked() || executor.is_spent()) {
                    visits[at].hold_up(done);
                }
                if !visits[at].held_up {
                    match session.take(rest, executor) {
                        Ok(consumed) => done += consumed,
                        Err(needed) => {
                            visits[at].needed = needed;
                            break;
                        }
                    }
                }
            }
        }
        if visits[at].held_up {
            return;
        }
    }
    visits[at].done = done;
}

/// Adds a command to the batch, and runs that when it is full.
#[inline]
fn add<'i, S>(
    pending: Pending<'i>,
    batch: &mut Vec<Pending<'i>>,
    visits: &mut [Visit],
    sessions: &mut S,
    executor: &mut Executor,
) where
    S: IndexMut<usize, Output = Session>,
{
    batch.push(pending);
    if batch.len() == BATCH_COMMANDS {
        run(batch, visits, sessions, executor);
    }
}

/// Looks the batch up, then executes it.
fn run<S>(batch: &mut Vec<Pending<'_>>, visits: &mut [Visit], sessions: &mut S, executor: &mut Executor)
where
    S: IndexMut<usize, Output = Session>,
{
    if batch.len() > 1 {
        let mut touched = [Touched::default(); BATCH_COMMANDS];
        for (touched, pending) in touched.iter_mut().zip(&*batch) {
            *touched = executor.store.touch_index(pending.hash);
        }
        for touched in &touched[..batch.len()] {
            black_box(executor.store.touch_item(*touched));
        }
    }
    let now_millis = executor.now_millis();
    for pending in batch.drain(..) {
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
}
