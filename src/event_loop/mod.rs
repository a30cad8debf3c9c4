//! The event loop: one thread, one poll, and every socket of the server. It decides when to read, write, accept and
//! close. What the bytes mean is the sessions' business, and what the keys hold is the store's.
//!
//! # One turn
//! A turn serves up to [`TURN_CONNECTIONS`] ready connections in phases: all are read from, then their commands are
//! executed together, then all are written to. Compared with finishing one connection before the next, this keeps the
//! kernel's code and ours in the caches by turns, and lets the cache misses of the commands overlap. What nobody waits
//! for comes last: relief of buffers, timeouts, sockets to be closed, and the store's housekeeping.
//!
//! # Why nobody starves
//! Readiness is edge-triggered: an event reports a change once. So a connection that could go on without another event,
//! because its share of the turn or the turn itself was used up, goes to the back of a ready queue, and the poll does not
//! block while there is any. Every step of a turn has a bound, so the queues move on. Few long frames fill a turn, so who
//! last brought much is in a queue that is read first only after a turn that passed it over. Within a turn, those who
//! brought little come before those who brought much, who find half of its work left; of each, the oldest are first.

mod connection;
mod info;
pub mod listener;
mod pressure;
mod questions;
pub mod turn;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::mem;
use std::net::Shutdown;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGXFSZ};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;
use socket2::Socket;

use crate::batch::{self, Visit};
use crate::config::Config;
use crate::execute::Executor;
use crate::limits::*;
use crate::memory;
use connection::{Connection, find};
use listener::{Listeners, tcp_addresses};
use pressure::Pressure;
use turn::TurnClock;

/// The lower half of a connection's token is its slot in the slab, which never gets as far as the lower half of these.
const LISTENERS: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const _: () = assert!(usize::BITS == 64 && CLIENTS_MAX < u32::MAX as usize / 2, "tokens need 64 bits");

/// The server's one thread.
pub struct EventLoop {
    config: Config,
    poll: Poll,
    signals: Signals,
    listeners: Listeners,
    /// While clients may wait to be accepted: when to try at the latest, since no event tells of a free descriptor.
    accept_by: Option<u64>,
    connections: Slab<Connection>,
    ready: [VecDeque<Token>; 2], // the ready queues, each client once in one of them: who last brought much in the second
    first: usize,                // which of them is read first: the second only after a turn that passed it over
    ended: VecDeque<Socket>,     // sockets of connections that are over, still to be closed
    executor: Executor,
    input: Vec<u8>, // of all connections that this turn serves, one after the other
    visits: Vec<Visit>,
    clock: TurnClock,
    now_millis: u64,
    /// A second after the loop last went on after over a second, maybe stopped: until then no client's time is over.
    spared_until: u64,
    base_bytes: usize, // of memory, that the process took before it stored anything
    draining: usize,   // connections that were sent their last reply, and no longer count as clients
    pressure: Pressure,
    /// Sweeps that are due, by their numbers: each looks at one part of the connections, and each turn does one.
    sweeps: Range<usize>,
    stop_by: Option<u64>, // after a signal to stop: when to give up on clients that are not served yet, in milliseconds
    warned: BTreeMap<&'static str, u64>, // the second in which each kind of warning was last logged
}

impl EventLoop {
    /// A loop that serves `executor`'s store on `listeners`. Fails if the system grants no poll or no signal handlers.
    pub fn new(mut config: Config, listeners: Listeners, executor: Executor) -> io::Result<Self> {
        let base_bytes = memory::resident_bytes().unwrap_or(PROCESS_BYTES) + START_BYTES;
        config.port = tcp_addresses(&listeners.sockets).next().map_or(0, |address| address.port());
        let poll = Poll::new()?;
        for socket in &listeners.sockets {
            poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), LISTENERS, Interest::READABLE)?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP, SIGXFSZ])?;
        poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
        Ok(EventLoop {
            config,
            poll,
            signals,
            listeners,
            accept_by: Some(0),
            connections: Slab::new(),
            ready: Default::default(),
            first: 0,
            ended: VecDeque::new(),
            executor,
            input: vec![0; TURN_READ_BYTES],
            visits: Vec::with_capacity(TURN_CONNECTIONS),
            clock: TurnClock::new(),
            now_millis: 0,
            spared_until: 0,
            base_bytes,
            draining: 0,
            pressure: Pressure::default(),
            sweeps: 0..0,
            stop_by: None,
            warned: BTreeMap::new(),
        })
    }

    /// Serves until a signal says to stop, and then until all that has arrived is answered. Fails only if polling does.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        let mut housekeeping = None; // in how many milliseconds the store has more to do
        while self.stop_by.is_none_or(|by| self.now_millis < by && self.connections.len() + self.ended.len() > 0) {
            match self.wait(&mut events, housekeeping) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => housekeeping = self.turn(&events),
            }
        }
        info!("stopped: {}", self.report());
        Ok(())
    }

    /// Waits for events, or until something else is due. After a turn with clients, it first polls for the time `spin`.
    fn wait(&mut self, events: &mut Events, housekeeping: Option<u64>) -> io::Result<()> {
        let is_busy = !self.sweeps.is_empty() || !self.ready.iter().all(VecDeque::is_empty) || !self.ended.is_empty();
        // One in line may pause for less than a tick, and all others wait for it.
        let tick_millis = if self.pressure.line.is_empty() { TICK_MILLIS } else { TICK_MILLIS / 10 };
        let tick = self.needs_ticks().then(|| tick_millis - self.now_millis % tick_millis);
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

    fn turn(&mut self, events: &Events) -> Option<u64> {
        let is_tick = self.begin_turn();
        events.iter().for_each(|event| self.dispatch(event));
        // As a rule, a client is there before CLIENT LIST asks for it. If it has no place, who left is closed first.
        let places = self.config.max_clients.saturating_sub(self.clients()).min(TURN_ACCEPTS);
        self.accept(places);
        self.read_ready();
        self.serve_visits();
        self.relieve_pressure(is_tick);
        self.sweep(is_tick);
        (0..TURN_CLOSES).for_each(|_| drop(self.ended.pop_front()));
        self.accept(TURN_ACCEPTS - places);
        let housekeeping = self.executor.housekeep();
        let Executor { stats: it, store, .. } = &self.executor;
        let closed = it.accepted - (self.connections.len() + self.ended.len()) as u64;
        self.clock.end([it.accepted, closed, it.visited, it.commands(), it.bytes_in, it.bytes_out, store.work]);
        housekeeping
    }

    /// Reads the clocks, tells the executor the time and how much memory it may take, and returns whether a tick is due.
    fn begin_turn(&mut self) -> bool {
        let last_millis = mem::replace(&mut self.now_millis, self.clock.begin());
        let is_tick = self.clock.turns == 0 || self.now_millis / TICK_MILLIS > last_millis / TICK_MILLIS;
        if self.now_millis > last_millis + SWEEPS_MILLIS {
            self.spared_until = self.now_millis + SWEEPS_MILLIS;
        }
        if is_tick {
            // The wall clock may be set. A difference of one comes from rounding: an expiry is to be told as it was set.
            let offset_millis = self.clock.unix_offset_millis();
            let known_millis = &mut self.executor.clock.unix_offset_millis;
            if offset_millis.abs_diff(*known_millis) > 1 {
                *known_millis = offset_millis;
            }
        }
        let outside_bytes = self.outside_bytes(is_tick);
        if !self.executor.store.evicts() {
            self.limit_store();
        }
        self.executor.begin_turn(self.now_millis, outside_bytes);
        is_tick
    }

    /// Whether the mere passing of time may give the loop work. Who does not read, or holds up others, holds buffers.
    fn needs_ticks(&self) -> bool {
        self.draining > 0 || self.config.idle_timeout > 0 && self.clients() > 0 || self.pressure.held_bytes > 0
    }

    fn dispatch(&mut self, event: &Event) {
        match event.token() {
            LISTENERS => self.accept_by = Some(self.now_millis),
            SIGNALS => self.signals.pending().collect::<Vec<_>>().into_iter().for_each(|signal| match signal {
                SIGTERM | SIGINT => self.stop(),
                SIGUSR1 => info!("{}", self.report()),
                // A terminal has gone, or the log is as long as a file may be: no reasons to end.
                _ => {}
            }),
            token => {
                let Some((slot, connection)) = find(&mut self.connections, token) else { return };
                // An error itself is reported by the next read or write.
                connection.read_closed |= event.is_read_closed() || event.is_error();
                connection.readable |= event.is_readable() || connection.read_closed;
                connection.writable |= event.is_writable() || event.is_error();
                connection.enqueue(slot, &mut self.ready);
            }
        }
    }

    fn accept(&mut self, most: usize) {
        // A turn serves one client while buffers are over their bound. Meanwhile nobody else is to join long queues.
        let ready = self.ready[0].len() + self.ready[1].len();
        if self.accept_by.is_none() || self.pressure.eighths >= OVER_EIGHTHS && ready >= TURN_CONNECTIONS {
            return;
        }
        // A socket on its way out still has its descriptor, and closing is slower than accepting.
        let left = (self.config.max_clients + DRAINING_MAX).saturating_sub(self.connections.len() + self.ended.len());
        let most = if self.ended.is_empty() { most } else { most.min(left) };
        for _ in 0..most {
            match self.listeners.accept() {
                None => return self.accept_by = None,
                Some(Ok(socket)) => self.admit(socket),
                Some(Err(error)) => {
                    self.accept_by = Some(self.now_millis + TICK_MILLIS);
                    return self.warn_limited("accepting pauses", |_| error.to_string());
                }
            }
        }
    }

    fn admit(&mut self, socket: Socket) {
        self.executor.stats.accepted += 1;
        let mut connection = Connection::new(socket, self.executor.stats.accepted, self.now_millis);
        if self.connections.len() == self.connections.capacity() {
            // By itself it would double, and free places count as memory.
            self.connections.reserve_exact(self.connections.len() / 8 + TURN_CONNECTIONS);
        }
        let slot = self.connections.vacant_key();
        let source = &mut SourceFd(&connection.socket.as_raw_fd());
        if let Err(error) = self.poll.registry().register(source, connection.token(slot), Interest::READABLE) {
            return self.warn_limited("accepting", |_| error.to_string());
        }
        debug!("connection {} accepted from {}", connection.session.id, connection.addresses()[0]);
        if self.clients() >= self.config.max_clients {
            self.executor.stats.refused += 1;
            self.warn_limited("a client was refused", |it| format!("max-clients is {}", it.config.max_clients));
            connection.session.break_off("max-clients");
        }
        self.connections.insert(connection);
        // This queues a client that is served. One that is refused is told so at once, so they never pile up.
        self.finish_visit(slot, &mut { TURN_WRITE_BYTES });
    }

    fn clients(&self) -> usize {
        self.connections.len() - self.draining
    }

    /// Reads from the connections at the heads of the ready queues, once from each, until a bound of the turn is reached.
    /// All but large values goes into one buffer; what a connection carries over from before precedes what is read now.
    fn read_ready(&mut self) {
        let most = self.share_room();
        let (mut end, mut large_bytes, first, second_length) = (0, 0, self.first, self.ready[1].len());
        self.visits.clear();
        while self.visits.len() < most
            && end < TURN_FRAME_BYTES
            && large_bytes < READ_LARGE_BYTES
            && let Some(next) = self.ready[first].pop_front().or_else(|| self.ready[1 - first].pop_front())
        {
            let Some((slot, connection)) = find(&mut self.connections, next) else { continue };
            connection.queued = false;
            let wants_read = self.wants_read(slot);
            let connection = &mut self.connections[slot];
            let (start, store) = (end, &self.executor.store);
            end += connection.session.carry(&mut self.input[end..]);
            // What is collected is read only while there is room for it; housekeeping makes more between turns.
            let needs_room = store.evicts() && !store.is_empty() && connection.session.collects();
            let room_bytes = if needs_room { store.chunk_room_bytes() } else { usize::MAX };
            if wants_read && room_bytes > 0 {
                let bytes_max = connection.session.read_bytes(self.executor.share_bytes);
                let buffer = &mut self.input[end..end + bytes_max];
                let (large, count) = connection.read(room_bytes.min(READ_LARGE_BYTES), buffer, &mut self.executor);
                // What those held who are gone is freed in this turn, a megabyte in 70 us.
                large_bytes += large + if connection.session.input_ended { connection.held_bytes } else { 0 };
                self.executor.stats.bytes_in += (large + count) as u64;
                match &mut connection.drain_bytes_left {
                    // What a client sends after its last reply is thrown away: what is read next is written over it.
                    Some(left) => (*left, large_bytes) = (left.saturating_sub(count), large_bytes + count),
                    None => end += count,
                }
                connection.session.input_ended |= self.stop_by.is_some() && !connection.readable;
            }
            let (mut visit, session) = (Visit::new(slot, start..end), &mut connection.session);
            visit.is_long |= session.incoming().is_some() || session.is_busy() || !session.output.is_empty();
            connection.is_long = visit.is_long || connection.is_long && start == end;
            self.visits.push(visit);
            self.first = usize::from(second_length > 0 && self.ready[1].len() == second_length);
        }
    }

    /// Executes what was read and writes the replies, first for the clients that brought little.
    fn serve_visits(&mut self) {
        let mut visits = mem::take(&mut self.visits);
        // Not by the ready queue's order: with one client more than a turn visits, two would be first by turns.
        visits.sort_by_key(|it| (it.is_long, self.connections[it.slot].session.last_command_millis));
        let is_mixed = visits.first().map(|visit| visit.is_long) != visits.last().map(|visit| visit.is_long);
        for group in visits.chunk_by_mut(|one, next| one.is_long == next.is_long) {
            // Those who brought much find half of a turn's work left. The others have what making room leaves of the rest.
            let reserved = if is_mixed && !group[0].is_long { TURN_WORK_UNITS / 2 } else { 0 };
            self.executor.work_max -= reserved;
            batch::process(group, &self.input, &mut self.connections, &mut self.executor);
            self.executor.work_max = self.executor.work_max.max(self.executor.store.work) + reserved;
            self.answer_questions(group, reserved > 0);
            // A long output may take all that is left, so of these the first took none for longest, each by turns.
            group.rotate_left(1);
            let has_much = |it: &Visit| self.connections[it.slot].session.output.len() > SHORT_OUTPUT_BYTES;
            group.sort_by_key(|it| (has_much(it), self.connections[it.slot].waits_since_millis));
            let mut budget = if is_mixed { TURN_WRITE_BYTES / 2 } else { TURN_WRITE_BYTES };
            group.iter().for_each(|visit| self.finish_visit(visit.slot, &mut budget));
        }
        self.executor.stats.visited += visits.len() as u64;
        self.visits = visits;
    }

    /// Writes what the socket and `budget` take. Then closes the connection if it is finished, or else requeues it.
    fn finish_visit(&mut self, slot: usize, budget: &mut usize) {
        let connection = &mut self.connections[slot];
        while connection.writable && !connection.session.output.is_empty() && *budget > 0 {
            let count = connection.write(WRITE_BYTES, self.now_millis);
            self.executor.stats.bytes_out += count as u64;
            *budget = budget.saturating_sub(count);
        }
        if connection.watches_output == connection.writable {
            // Only while output waits: a Unix socket reports that it is writable whenever its client has read.
            connection.watches_output = !connection.writable;
            let both = Interest::READABLE | Interest::WRITABLE;
            let interest = if connection.writable { Interest::READABLE } else { both };
            let source = &mut SourceFd(&connection.socket.as_raw_fd());
            if self.poll.registry().reregister(source, connection.token(slot), interest).is_err() {
                connection.session.abandon();
            }
        }
        let session = &mut connection.session;
        if session.is_finished() {
            *budget = budget.saturating_sub(connection.held_bytes); // which is freed in this turn
            let is_there = session.is_closing() && !session.input_ended;
            match connection.drain_bytes_left {
                Some(1..) if is_there => {}
                None if is_there && self.draining < DRAINING_MAX => {
                    // This fails if the client has gone, which the next read will tell.
                    let _ = connection.socket.shutdown(Shutdown::Write);
                    connection.drain_bytes_left = Some(self.executor.value_bytes_max + FRAME_EXTRA_BYTES);
                    self.draining += 1;
                }
                _ => return self.close(slot),
            }
        }
        session.output.take_back(&mut self.executor.spare, self.pressure.eighths >= SCARCE_EIGHTHS);
        self.pressure.held_bytes -= mem::replace(&mut connection.held_bytes, session.held_bytes());
        self.pressure.held_bytes += connection.held_bytes;
        self.requeue(slot);
    }

    /// Puts a connection on a ready queue if it has something to do. If not, an event or a sweep will bring it back.
    #[inline(always)]
    fn requeue(&mut self, slot: usize) {
        let wants_read = self.wants_read(slot);
        let connection = &mut self.connections[slot];
        if wants_read || connection.session.can_run() || connection.writable && !connection.session.output.is_empty() {
            connection.enqueue(slot, &mut self.ready);
        }
    }

    /// Ends a connection. Its socket is closed in this turn or a later one.
    fn close(&mut self, slot: usize) {
        let connection = self.connections.remove(slot);
        debug!("connection {} closed", connection.session.id);
        self.draining -= usize::from(connection.drain_bytes_left.is_some());
        self.pressure.held_bytes -= connection.held_bytes;
        self.ended.push_back(connection.socket);
    }

    /// Ends a connection for a reason of the server's own, which is logged.
    fn disconnect(&mut self, slot: usize, reason: &str) {
        self.executor.stats.closed += 1;
        self.warn_limited("a client was closed", |it| format!("{}: {reason}", it.connections[slot].addresses()[0]));
        self.close(slot);
    }

    /// Looks at one part of the connections, and requeues them: they may have been held back to keep buffers in bounds.
    /// Closes those whose time has run out: as many as one turn can free, and then the next looks at this part again.
    fn sweep(&mut self, is_tick: bool) {
        self.sweeps.end += usize::from(self.sweeps.is_empty() && is_tick && self.needs_ticks());
        let Some(part) = self.sweeps.next() else { return };
        let mut freed_bytes = 0;
        for slot in (part % SWEEP_PARTS..self.connections.capacity()).step_by(SWEEP_PARTS) {
            let Some(connection) = self.connections.get_mut(slot) else { continue };
            // The poll reports room when there is much. A client that reads slowly makes some, which writing finds.
            connection.writable |= connection.watches_output;
            // Who has sent something that is not read yet for the sake of others is not idle.
            if connection.readable && !connection.queued {
                connection.session.last_command_millis = self.now_millis;
            }
            match self.overdue(&self.connections[slot]) {
                Some(_) if freed_bytes > READ_LARGE_BYTES => return self.sweeps.start = part,
                Some(reason) => {
                    freed_bytes += self.connections[slot].held_bytes.max(READ_LARGE_BYTES / TURN_CONNECTIONS);
                    self.disconnect(slot, reason);
                }
                None => self.requeue(slot),
            }
        }
    }

    /// Why a connection's time has run out, if it has.
    fn overdue(&self, connection: &Connection) -> Option<&'static str> {
        let Connection { session, waits_since_millis: since, .. } = connection;
        let (since, limit_millis, reason) = if connection.drain_bytes_left.is_some() {
            (*since, DRAIN_MILLIS, "it stayed after its last reply")
        } else if connection.watches_output {
            (since + SWEEPS_MILLIS, self.config.stall_timeout * 1000, "it did not read its replies for stall-timeout")
        } else {
            let since = session.last_command_millis.max(*since);
            (since, self.config.idle_timeout * 1000, "it sent no command for idle-timeout")
        };
        let due = (since + limit_millis).max(self.spared_until);
        (limit_millis > 0 && self.now_millis >= due).then_some(reason)
    }

    /// Stops listening, and has every connection end once its input has run dry. A second call gives up on all of them.
    fn stop(&mut self) {
        if let Some(by) = self.stop_by {
            // Some senders signal first the process and then its whole group, and mean one stop.
            let is_same = self.now_millis + STOP_MILLIS < by + STOP_TWICE_MILLIS;
            return self.stop_by = Some(if is_same { by } else { self.now_millis });
        }
        info!("stopping");
        // Clients that are connected but not accepted may have sent something already.
        let mut listeners = mem::take(&mut self.listeners);
        // For each socket, the kernel holds one connection more than the backlog says.
        let most = listeners.sockets.len() * (LISTEN_BACKLOG as usize + 1);
        (0..most).map_while(|_| listeners.accept()).flatten().for_each(|socket| self.admit(socket));
        self.stop_by = Some(self.now_millis + STOP_MILLIS);
        for (slot, connection) in &mut self.connections {
            connection.readable = true;
            connection.enqueue(slot, &mut self.ready);
        }
    }

    /// Logs a warning, at most one of its kind a second. Only then does it ask `what` has happened.
    fn warn_limited(&mut self, kind: &'static str, what: impl FnOnce(&Self) -> String) {
        let second = self.now_millis / 1000;
        if self.warned.insert(kind, second) != Some(second) {
            warn!("{kind}: {}", what(self));
        }
    }
}
