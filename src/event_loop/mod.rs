//! The event loop: one thread, one poll, and every socket there is. It knows when to read, write, accept and close;
//! what the bytes mean is the sessions' business, and what the keys hold is the store's.
//!
//! A turn serves up to [`TURN_CONNECTIONS`] ready connections in phases: all are read from, then their commands are executed
//! together, then they are written to, those who brought little before the others. Compared with finishing one connection
//! before the next, this keeps the kernel's code and ours in the caches by turns, and lets the commands' cache misses overlap.
//!
//! Readiness is edge-triggered: an event tells once that something has changed. So a connection that is left with
//! something to do (its share of a turn is used up, or the turn's) goes on the ready queue itself, and while that queue is
//! not empty the poll does not block.

mod connection;
mod info;
pub mod listener;
mod questions;
pub mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::io::{self, ErrorKind};
use std::mem;
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant, SystemTime};

use log::{debug, info, warn};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;
use socket2::Socket;

use crate::batch::{self, Visit};
use crate::config::Config;
use crate::execute::Executor;
use crate::limits::*;
use crate::memory;
use crate::session::Resp;
use connection::{Connection, find};
use listener::{Listeners, tcp_addresses};
use turn::TurnClock;

/// Tokens of connections have a place in the slab in their lower half, which is less than these have there.
const LISTENERS: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const _: () = assert!(usize::BITS == 64 && CLIENTS_MAX < u32::MAX as usize / 2, "tokens need 64 bits");

/// The server's one thread.
pub struct EventLoop {
    config: Config,
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    /// When to try at the latest, in milliseconds, while somebody may wait to be accepted. If there was no descriptor for
    /// him, no event tells when there is one.
    accept_by: Option<u64>,
    connections: Slab<Connection>,
    /// Connections that have something to do without another event, each once.
    ready: VecDeque<Token>,
    /// Sockets of connections that are over.
    closing: VecDeque<Socket>,
    executor: Executor,
    /// What this turn has read, for all its connections.
    input: Vec<u8>,
    visits: Vec<Visit>,
    /// Output buffers that no connection needs now.
    spare: Vec<Vec<u8>>,
    clock: TurnClock,
    now_millis: u64,
    /// Connections whose clients have to read before anything more can be written to them.
    stalled: usize,
    /// Connections that were told ERR, and are no clients any more.
    draining: usize,
    /// What all connections hold, in bytes.
    held_bytes: usize,
    /// The most that was since the last tick.
    held_bytes_max: usize,
    /// What the process held at the last tick beyond what is counted, in bytes.
    uncounted_bytes: usize,
    /// When the largest holder is closed, in milliseconds, while buffers are over their bound.
    relieve_at: Option<u64>,
    /// The parts of the connections that are to be swept without waiting for a tick, one in each turn.
    sweeps: Range<usize>,
    /// When to give up on clients that keep a stop waiting, in milliseconds.
    stop_by: Option<u64>,
    /// In which second there last was a complaint of a kind.
    complaints: BTreeMap<&'static str, u64>,
}

impl EventLoop {
    /// A loop that serves `executor`'s store on `listeners`, unless there can be no poll, or no signal handlers.
    pub fn new(mut config: Config, listeners: Listeners, executor: Executor) -> io::Result<Self> {
        config.port = tcp_addresses(&listeners.sockets).next().map_or(0, |address| address.port());
        let poll = Poll::new()?;
        for socket in &listeners.sockets {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), LISTENERS, Interest::READABLE)?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(EventLoop {
            config,
            poll,
            signals,
            listeners,
            accept_by: Some(0),
            connections: Slab::new(),
            ready: VecDeque::new(),
            closing: VecDeque::new(),
            executor,
            input: vec![0; TURN_READ_BYTES],
            visits: Vec::with_capacity(TURN_CONNECTIONS),
            spare: Vec::with_capacity(TURN_CONNECTIONS),
            clock: TurnClock::new(),
            now_millis: 0,
            stalled: 0,
            draining: 0,
            held_bytes: 0,
            held_bytes_max: 0,
            uncounted_bytes: 0,
            relieve_at: None,
            sweeps: 0..0,
            stop_by: None,
            complaints: BTreeMap::new(),
        })
    }

    /// Serves until a signal says to stop, and then until what has arrived is answered. Polling does not fail.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while self.stop_by.is_none_or(|by| self.now_millis < by && self.connections.len() + self.closing.len() > 0) {
            match self.wait(&mut events) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => self.turn(&events),
            }
        }
        info!("stopped: {}", self.report());
        Ok(())
    }

    /// Polls until there are events or something else is due: after a turn that served somebody, as long as the option
    /// `spin` says without sleeping.
    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        let is_busy = !self.sweeps.is_empty() || !self.ready.is_empty() || !self.closing.is_empty();
        let tick = self.needs_ticks().then(|| TICK_MILLIS - self.now_millis % TICK_MILLIS);
        let housekeeping = self.executor.store.wants_housekeeping();
        let until = |by: u64| by.saturating_sub(self.now_millis);
        let waits = [is_busy.then_some(0), tick, housekeeping, self.accept_by.map(until), self.stop_by.map(until)];
        let timeout = waits.into_iter().flatten().min().map(Duration::from_millis);
        if !self.config.spin.is_zero() && !self.visits.is_empty() && timeout != Some(Duration::ZERO) {
            let since = Instant::now();
            while since.elapsed() < self.config.spin {
                self.poll.poll(events, Some(Duration::ZERO))?;
                if !events.is_empty() {
                    return Ok(());
                }
            }
        }
        self.poll.poll(events, timeout)
    }

    fn turn(&mut self, events: &Events) {
        let last_millis = mem::replace(&mut self.now_millis, self.clock.begin());
        let is_tick = self.clock.turns == 0 || self.now_millis / TICK_MILLIS > last_millis / TICK_MILLIS;
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let places = self.connections.capacity() * (size_of::<Connection>() + size_of::<Resp>());
        // What connections have held since the last tick counts until it is known what has become of it.
        self.held_bytes_max = if is_tick { self.held_bytes } else { self.held_bytes.max(self.held_bytes_max) };
        let outside_bytes = self.input.len() + spare + places + self.held_bytes_max;
        if is_tick {
            let Executor { store, base_bytes, clock, .. } = &mut self.executor;
            // It may be set at any time. That both clocks are cut to milliseconds makes it seem to move by one, and what was
            // set must be told back.
            let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            let offset_millis = unix.as_millis() as i64 - self.now_millis as i64;
            if offset_millis.abs_diff(clock.unix_offset_millis) > 1 {
                clock.unix_offset_millis = offset_millis;
            }
            // Such as holes in the C library's heap, where connections held something.
            let counted = *base_bytes + store.memory_bytes() - store.outside_bytes + outside_bytes;
            let uncounted_bytes = memory::resident_bytes().map_or(0, |bytes| bytes.saturating_sub(counted));
            self.uncounted_bytes = uncounted_bytes.min(self.config.max_memory.bytes / UNCOUNTED_SHARE);
        }
        self.executor.begin_turn(self.now_millis, outside_bytes + self.uncounted_bytes);
        for event in events {
            self.note(event);
        }
        self.read_ready();
        let mut visits = mem::take(&mut self.visits);
        visits.sort_by_key(|visit| visit.is_long);
        let is_mixed = visits.first().map(|visit| visit.is_long) != visits.last().map(|visit| visit.is_long);
        for part in visits.chunk_by_mut(|one, next| one.is_long == next.is_long) {
            // Half of the turn is left for who comes second.
            let reserved = if is_mixed && !part[0].is_long { TURN_WORK_UNITS / 2 } else { 0 };
            self.executor.work_max -= reserved;
            batch::process(part, &self.input, &mut self.connections, &mut self.executor);
            self.executor.work_max += reserved;
            self.answer_questions(part);
            // Who had to wait is the first to come again.
            part.sort_by_key(|visit| !visit.waits());
            let mut budget = if is_mixed { TURN_WRITE_BYTES / 2 } else { TURN_WRITE_BYTES };
            part.iter().for_each(|visit| self.finish_visit(visit.session, &mut budget));
        }
        self.executor.stats.visited += visits.len() as u64;
        self.visits = visits;
        self.relieve();
        self.sweep(is_tick);
        self.closing.drain(..self.closing.len().min(TURN_CLOSES));
        // Only now, when the places of clients that have left are free.
        if self.accept_by.is_some() {
            self.accept();
        }
        self.executor.housekeep();
        let Executor { stats, store, .. } = &self.executor;
        let (accepted, commands) = (stats.accepted(), stats.commands());
        let closed = accepted - (self.connections.len() + self.closing.len()) as u64;
        self.clock.end([accepted, closed, stats.visited, commands, stats.bytes_in, stats.bytes_out, store.work()]);
    }

    /// Whether there is anything to do when only time has passed.
    fn needs_ticks(&self) -> bool {
        self.stalled + self.draining > 0
            || self.relieve_at.is_some()
            || self.config.idle_timeout.is_some() && self.clients() > 0
    }

    fn note(&mut self, event: &Event) {
        match event.token() {
            LISTENERS => self.accept_by = Some(self.now_millis),
            SIGNALS => {
                for signal in self.signals.pending().collect::<Vec<_>>() {
                    match signal {
                        SIGTERM | SIGINT => self.stop(),
                        SIGUSR1 => info!("{}", self.report()),
                        // SIGHUP only says that a terminal has gone, which is no reason to end.
                        _ => {}
                    }
                }
            }
            token => {
                let Some((key, connection)) = find(&mut self.connections, token) else { return };
                // After an error, reading or writing tells what it was.
                connection.read_closed |= event.is_read_closed() || event.is_error();
                connection.readable |= event.is_readable() || connection.read_closed;
                connection.writable |= event.is_writable() || event.is_error();
                connection.enqueue(key, &mut self.ready);
            }
        }
    }

    /// Puts a connection on the ready queue if it has something to do. If not, an event or a sweep will come to it.
    #[inline(always)]
    fn requeue(&mut self, key: usize) {
        let fair_bytes = self.fair_bytes();
        let connection = &mut self.connections[key];
        let is_writable = connection.writable && !connection.session.output.is_empty();
        if connection.wants_read(fair_bytes) || connection.session.can_run() || is_writable {
            connection.enqueue(key, &mut self.ready);
        }
    }

    fn accept(&mut self) {
        // A socket that waits to be closed still has its descriptor, and closing takes longer than accepting.
        let taken = self.connections.len() + self.closing.len();
        let left = (self.config.max_clients + DRAINING_MAX).saturating_sub(taken);
        let most = if self.closing.is_empty() { TURN_ACCEPTS } else { TURN_ACCEPTS.min(left) };
        for _ in 0..most {
            match self.listeners.accept() {
                None => return self.accept_by = None,
                Some(Ok(socket)) => self.admit(socket),
                Some(Err(error)) => {
                    self.accept_by = Some(self.now_millis + TICK_MILLIS);
                    return self.complain("accepting pauses", error);
                }
            }
        }
        self.accept_by = Some(self.now_millis);
    }

    fn admit(&mut self, socket: Socket) {
        let id = self.executor.stats.accepted() + 1;
        let mut connection = Connection::new(socket, id, self.now_millis);
        let key = self.connections.vacant_key();
        let source = &mut SourceFd(&connection.socket.as_raw_fd());
        if let Err(error) = self.poll.registry().register(source, connection.token(key), Interest::READABLE) {
            return self.complain("accepting", error);
        }
        debug!("connection {id} accepted");
        let max_clients = self.config.max_clients;
        if self.clients() < max_clients {
            self.executor.stats.connections += 1;
        } else {
            self.executor.stats.refused += 1;
            self.complain("a client was refused", format_args!("all {max_clients} of max-clients are connected"));
            connection.session.break_off("max-clients");
        }
        connection.enqueue(key, &mut self.ready);
        self.connections.insert(connection);
    }

    fn clients(&self) -> usize {
        self.connections.len() - self.draining
    }

    /// Reads from the connections at the head of the ready queue, each once and behind what it carries over, as far as
    /// this turn's bounds go.
    fn read_ready(&mut self) {
        self.visits.clear();
        let (fair_bytes, store) = (self.fair_bytes(), &self.executor.store);
        // Replies take memory, too: everybody comes to it in turn while the store has to make room, or buffers have none.
        let left_bytes = if store.is_short { 0 } else { self.buffer_bytes_max().saturating_sub(self.buffer_bytes()) };
        let most = (left_bytes / VISIT_BYTES).clamp(1, TURN_CONNECTIONS);
        self.executor.exec_output_bytes = (left_bytes / most / 4).clamp(OUTPUT_HIGH_BYTES, VISIT_BYTES);
        let (mut end, mut large_bytes) = (0, 0);
        while self.visits.len() < most
            && end < TURN_FRAME_BYTES
            && large_bytes < READ_LARGE_BYTES
            && let Some(next) = self.ready.pop_front()
        {
            let Some((key, connection)) = find(&mut self.connections, next) else { continue };
            connection.queued = false;
            let (wants_read, is_executing) = (connection.wants_read(fair_bytes), connection.session.is_executing());
            connection.session.output.lend(&mut self.spare);
            let start = end;
            end += connection.session.carry(&mut self.input[end..]);
            // When there is no room left, a long frame waits for the store to make some, between turns.
            let waits = store.evicts() && !store.is_empty() && connection.session.incoming().is_some();
            let room_bytes = if waits { store.room_bytes() } else { usize::MAX };
            if wants_read && room_bytes > 0 {
                let (large_max, asked) = (room_bytes.min(READ_LARGE_BYTES - large_bytes), end..end + READ_BYTES);
                let (large, count) = connection.read(large_max, &mut self.input[asked], &self.executor);
                large_bytes += large;
                self.executor.stats.bytes_in += (large + count) as u64;
                match &mut connection.draining {
                    // What a client sends after it was told ERR is thrown away.
                    Some(bytes_left) => *bytes_left = bytes_left.saturating_sub(count),
                    None => end += count,
                }
                if self.stop_by.is_some() && !connection.readable {
                    connection.session.input_ended = true;
                }
            }
            let mut visit = Visit::new(key, start..end);
            visit.is_long |= is_executing;
            self.visits.push(visit);
        }
    }

    /// Writes to a connection what it will take, decides how it goes on, and counts it as it is now.
    fn finish_visit(&mut self, key: usize, budget: &mut usize) {
        let connection = &mut self.connections[key];
        while connection.writable && !connection.session.output.is_empty() && *budget > 0 {
            let count = connection.write(*budget, self.now_millis);
            self.executor.stats.bytes_out += count as u64;
            *budget = budget.saturating_sub(count);
        }
        if connection.watches_output == connection.writable {
            // Events tell of room only while output waits: a Unix socket's come whenever its client has read.
            connection.watches_output = !connection.writable;
            let interest;
            (interest, self.stalled) = match connection.watches_output {
                true => (Interest::READABLE | Interest::WRITABLE, self.stalled + 1),
                false => (Interest::READABLE, self.stalled - 1),
            };
            let source = &mut SourceFd(&connection.socket.as_raw_fd());
            if self.poll.registry().reregister(source, connection.token(key), interest).is_err() {
                connection.session.abandon();
            }
        }
        let session = &mut connection.session;
        if session.is_finished() {
            let is_there = session.is_broken() && !session.input_ended;
            match connection.draining {
                Some(1..) if is_there => {}
                None if is_there && self.draining < DRAINING_MAX => {
                    // A client that is gone already needs no telling.
                    let _ = connection.socket.shutdown(Shutdown::Write);
                    connection.draining = Some(self.executor.value_bytes_max + DRAIN_EXTRA_BYTES);
                    connection.waits_since_millis = self.now_millis;
                    self.draining += 1;
                }
                _ => return self.close(key),
            }
        }
        session.output.reclaim(&mut self.spare, OUTPUT_KEPT_BYTES_MAX);
        let held_bytes = session.held_bytes();
        self.held_bytes += held_bytes;
        self.held_bytes -= mem::replace(&mut connection.held_bytes, held_bytes);
        self.requeue(key);
    }

    /// Ends a connection. Its socket is closed in this turn or one soon after.
    fn close(&mut self, key: usize) {
        let connection = self.connections.remove(key);
        debug!("connection {} closed", connection.session.id);
        self.stalled -= usize::from(connection.watches_output);
        self.draining -= usize::from(connection.draining.is_some());
        self.held_bytes -= connection.held_bytes;
        self.closing.push_back(connection.socket);
    }

    /// The same, for a reason of ours.
    fn cut_off(&mut self, key: usize, reason: impl Display) {
        self.executor.stats.closed += 1;
        self.complain("a client was closed", reason);
        self.close(key);
    }

    /// Looks through a part of the connections for those whose time has run out, or that may be read from again.
    fn sweep(&mut self, is_tick: bool) {
        if self.sweeps.is_empty() && is_tick && self.needs_ticks() {
            self.sweeps.end += 1;
        }
        let Some(part) = self.sweeps.next() else { return };
        for key in (part % SWEEP_PARTS..self.connections.capacity()).step_by(SWEEP_PARTS) {
            let Some(connection) = self.connections.get(key) else { continue };
            match self.overdue(connection) {
                Some(reason) => self.cut_off(key, reason),
                None => self.requeue(key),
            }
        }
    }

    /// Why time has run out for a connection, if it has.
    fn overdue(&self, connection: &Connection) -> Option<&'static str> {
        let (since, limit, reason) = if connection.draining.is_some() {
            (connection.waits_since_millis, Some(Duration::from_millis(DRAIN_MILLIS)), "it went on after an ERR")
        } else if connection.watches_output {
            (connection.waits_since_millis, self.config.stall_timeout, "it did not read its replies for stall-timeout")
        } else {
            let limit = self.config.idle_timeout.filter(|_| connection.session.output.is_empty());
            (connection.session.last_command_millis, limit, "it sent no command for idle-timeout")
        };
        (self.now_millis >= since + limit?.as_millis() as u64).then_some(reason)
    }

    /// What all connections hold now, in bytes.
    fn buffer_bytes(&self) -> usize {
        self.held_bytes + self.executor.store.stray_chunk_bytes()
    }

    /// What they may, in bytes.
    fn buffer_bytes_max(&self) -> usize {
        let share = BUFFER_BYTES_MAX.min(self.config.max_memory.bytes / BUFFER_SHARE);
        share.max(self.executor.value_bytes_max) + BUFFER_EXTRA_BYTES
    }

    /// What one may hold and still be read from, in bytes: an equal share of that while buffers are over their bound.
    fn fair_bytes(&self) -> usize {
        self.relieve_at.map_or(usize::MAX, |_| self.buffer_bytes_max() / self.connections.len().max(1))
    }

    /// Keeps buffers within their bound: beyond it, who holds more than a fair share is not read from, and after a while,
    /// or far beyond it at once, the largest holder is closed.
    fn relieve(&mut self) {
        if self.buffer_bytes() <= self.buffer_bytes_max() {
            if self.relieve_at.take().is_some() {
                self.sweeps.end = self.sweeps.start + SWEEP_PARTS;
            }
            return;
        }
        let relieve_at = *self.relieve_at.get_or_insert(self.now_millis + PRESSURE_MILLIS);
        let burdens = self.connections.iter().map(|(key, connection)| (connection.session.burden_bytes(), key));
        let is_far_over = self.buffer_bytes() > self.buffer_bytes_max() / 4 * 5;
        if (self.now_millis >= relieve_at || is_far_over)
            && let Some((bytes, key)) = burdens.max()
        {
            self.relieve_at = Some(self.now_millis + TICK_MILLIS);
            self.cut_off(key, format_args!("buffers were over their bound, {bytes} bytes for it alone"));
        }
    }

    /// Stops accepting, and reads from every connection until it has nothing more. A second time, ends that at once.
    fn stop(&mut self) {
        if let Some(by) = self.stop_by {
            // Some senders signal a process and then its whole group, and mean one stop by that.
            if self.now_millis + STOP_MILLIS >= by + STOP_TWICE_MILLIS {
                self.stop_by = Some(self.now_millis);
            }
            return;
        }
        info!("stopping");
        // Who has connected by now may have sent something by now.
        let mut listeners = mem::take(&mut self.listeners);
        // The kernel holds one more than it was told to.
        let most = listeners.sockets.len() * (LISTEN_BACKLOG as usize + 1);
        for socket in (0..most).map_while(|_| listeners.accept()).flatten() {
            self.admit(socket);
        }
        self.stop_by = Some(self.now_millis + STOP_MILLIS);
        for (key, connection) in &mut self.connections {
            connection.readable = true;
            connection.enqueue(key, &mut self.ready);
        }
    }

    /// Logs a warning, at most one of its kind in a second.
    fn complain(&mut self, kind: &'static str, what: impl Display) {
        let second = self.now_millis / 1000;
        if self.complaints.insert(kind, second) != Some(second) {
            warn!("{kind}: {what}");
        }
    }
}
