//! The event loop: one thread, one poll, and every socket there is. It knows when to read, write, accept and close;
//! what the bytes mean is the sessions' business, and what the keys hold is the store's.
//!
//! A turn serves up to [`TURN_CONNECTIONS`] ready connections in phases: all are read from, then all their commands are
//! executed together, then all are written to. Compared with finishing one connection before the next, this keeps the
//! kernel's code and ours in the caches by turns, and lets the commands' cache misses overlap.
//!
//! Readiness is edge-triggered: an event tells once that something has changed. So a connection that is left with
//! something to do (its share of a turn is used up, or the turn's) goes on the ready queue itself, and while that queue is
//! not empty the poll does not block.

mod connection;
mod history;
mod info;
pub mod listener;
mod questions;
mod turn;

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::{Index, IndexMut, Range};
use std::time::{Duration, SystemTime};

use log::{debug, info, warn};
use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;

use crate::batch::{self, Visit};
use crate::config::Config;
use crate::execute::Executor;
use crate::limits::*;
use crate::session::Session;
use connection::{Connection, Drain, Stream};
use listener::Listeners;
use turn::{Turn, TurnClock};

/// Tokens of connections are made of a serial number of 31 bits and a place in the slab; these cannot be.
const LISTENERS: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const SERIAL_BITS: u32 = 31;
const _: () = assert!(usize::BITS == 64, "tokens need 64 bits");

/// Events taken from one poll.
const EVENTS_MAX: usize = 1024;

/// Pieces of output in one system call: half a megabyte of a large value.
const SLICES_MAX: usize = 16;

/// How old the Unix time may be that deadlines are told in, in milliseconds: as far as a set clock is off.
const UNIX_TIME_MILLIS: u64 = 1000;

/// How often connections are looked at for timeouts, in milliseconds, and into how many parts that look is cut.
const SWEEP_MILLIS: u64 = 100;
const SWEEP_PARTS: usize = 10;

/// How long buffers may be over their bound before the largest holder is closed, in milliseconds.
const PRESSURE_MILLIS: u64 = 1000;
/// How soon after that the next one is, in milliseconds.
const PRESSURE_AGAIN_MILLIS: u64 = 100;

/// The server's one thread.
pub struct EventLoop {
    poll: Poll,
    signals: Signals,
    listeners: Option<Listeners>,
    accepting: Accepting,
    connections: Connections,
    /// How many of the connections are clients; the others are being refused.
    clients: usize,
    next_serial: u32,
    /// Connections that have something to do without another event, each once.
    ready: VecDeque<Token>,
    /// Connections that are over, whose sockets are still to be closed.
    closing: VecDeque<Connection>,
    /// Connections that are not read from because buffers are over their bound.
    paused: Vec<Token>,
    executor: Executor,
    /// What this turn has read, for all its connections.
    input: Vec<u8>,
    visits: Vec<Visit>,
    /// Output buffers that no connection needs now.
    spare: Vec<Vec<u8>>,
    settings: Settings,
    clock: TurnClock,
    now_millis: u64,
    turn: Turn,
    /// Connections for which time may run out.
    timed: usize,
    draining: usize,
    /// What all connections hold, in bytes.
    held_bytes: usize,
    /// Since when that is over its bound, in milliseconds.
    pressure_since: Option<u64>,
    /// When to look at the system's clock again, in milliseconds.
    unix_time_millis: u64,
    swept_millis: u64,
    sweep_at: usize,
    /// When to give up on clients that keep a stop waiting, in milliseconds.
    stop_by: Option<u64>,
    complaints: [Complaint; 4],
}

/// The options that the loop goes by.
struct Settings {
    max_clients: usize,
    idle_millis: Option<u64>,
    stall_millis: Option<u64>,
    buffer_bytes_max: usize,
    max_memory: usize,
    max_value_size: usize,
    /// What it listens on, to be told.
    host: String,
    port: u16,
    unix_socket: String,
}

/// Whether there may be connections to accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    /// Not before an event says so.
    Waiting,
    /// Maybe now.
    Ready,
    /// Maybe, but there were no descriptors; try again then, or when a connection has closed.
    Until(u64),
}

/// What is logged at most once a second for each kind.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Refused = 0,
    NoDescriptors = 1,
    AcceptFailed = 2,
    Closed = 3,
}

#[derive(Clone, Copy, Debug, Default)]
struct Complaint {
    not_before_millis: u64,
    left_out: u64,
}

/// The slab, indexed by the places of sessions.
struct Connections(Slab<Connection>);

impl Index<usize> for Connections {
    type Output = Session;
    fn index(&self, key: usize) -> &Session {
        &self.0[key].session
    }
}

impl IndexMut<usize> for Connections {
    fn index_mut(&mut self, key: usize) -> &mut Session {
        &mut self.0[key].session
    }
}

impl EventLoop {
    /// A loop that serves `executor`'s store on `listeners`.
    ///
    /// # Errors
    /// What the system says when there can be no poll, or no signal handlers.
    pub fn new(config: &Config, mut listeners: Listeners, executor: Executor) -> io::Result<Self> {
        let poll = Poll::new()?;
        let registry = poll.registry();
        for listener in &mut listeners.tcp {
            registry.register(listener, LISTENERS, Interest::READABLE)?;
        }
        if let Some(unix) = &mut listeners.unix {
            registry.register(&mut unix.listener, LISTENERS, Interest::READABLE)?;
        }
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
        registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
        let millis = |time: Option<Duration>| time.map(|time| time.as_millis() as u64);
        Ok(EventLoop {
            poll,
            signals,
            accepting: Accepting::Ready,
            connections: Connections(Slab::new()),
            clients: 0,
            next_serial: 0,
            ready: VecDeque::new(),
            closing: VecDeque::new(),
            paused: Vec::new(),
            executor,
            input: vec![0; TURN_READ_BYTES],
            visits: Vec::with_capacity(TURN_CONNECTIONS),
            spare: Vec::with_capacity(TURN_CONNECTIONS),
            settings: Settings {
                max_clients: config.max_clients,
                idle_millis: millis(config.idle_timeout),
                stall_millis: millis(config.stall_timeout),
                buffer_bytes_max: BUFFER_BYTES_MAX.min(config.max_memory.bytes / BUFFER_SHARE),
                max_memory: config.max_memory.bytes,
                max_value_size: config.max_value_size,
                host: config.host.clone(),
                port: listeners.port(),
                unix_socket: config.unix_socket.as_ref().map_or(String::new(), |path| path.display().to_string()),
            },
            clock: TurnClock::new(),
            now_millis: 0,
            turn: Turn::default(),
            timed: 0,
            draining: 0,
            held_bytes: 0,
            pressure_since: None,
            unix_time_millis: 0,
            swept_millis: 0,
            sweep_at: 0,
            stop_by: None,
            complaints: Default::default(),
            listeners: Some(listeners),
        })
    }

    /// Serves until a signal says to stop, and then until what has arrived is answered.
    ///
    /// # Errors
    /// What the system says when polling fails, which it does not.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !self.has_stopped() {
            match self.poll.poll(&mut events, self.poll_timeout()) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.turn(&events);
        }
        info!("stopped: {}", self.report());
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        self.now_millis = self.clock.begin();
        self.tell_unix_time();
        let before = self.executor.stats.clone();
        let work = self.executor.store.work();
        self.executor.begin_turn(self.now_millis, self.own_bytes() + self.held_bytes);
        for event in events {
            self.note(event);
        }
        self.accept();
        self.fill();
        batch::process(&mut self.visits, &self.input, &mut self.connections, &mut self.executor);
        self.answer_questions();
        self.flush();
        self.sweep();
        self.relieve();
        self.bury();
        self.executor.housekeep();
        let stats = &self.executor.stats;
        self.clock.end(Turn {
            commands: stats.commands() - before.commands(),
            bytes_in: stats.bytes_in - before.bytes_in,
            bytes_out: stats.bytes_out - before.bytes_out,
            work: self.executor.store.work() - work,
            ..std::mem::take(&mut self.turn)
        });
    }

    /// Looks at the system's clock, which may be set at any time, now and then.
    fn tell_unix_time(&mut self) {
        if self.now_millis >= self.unix_time_millis {
            self.unix_time_millis = self.now_millis + UNIX_TIME_MILLIS;
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.executor.unix_offset_millis = unix.as_millis() as i64 - self.now_millis as i64;
        }
    }

    /// How long the poll may sleep.
    fn poll_timeout(&self) -> Option<Duration> {
        let housekeeping = self.executor.store.wants_housekeeping();
        let is_busy = !self.ready.is_empty() || !self.closing.is_empty() || self.accepting == Accepting::Ready;
        if is_busy || housekeeping == Some(0) {
            return Some(Duration::ZERO);
        }
        let accept = match self.accepting {
            Accepting::Until(millis) => Some(millis),
            _ => None,
        };
        let times = [
            accept,
            self.stop_by,
            self.needs_sweep().then_some(self.swept_millis + SWEEP_MILLIS),
            housekeeping.map(|wait| self.now_millis + wait),
        ];
        let next = times.into_iter().flatten().min()?;
        // One more, since the poll may wake up to a millisecond early, only to find that nothing is due.
        Some(Duration::from_millis((next + 1).saturating_sub(self.now_millis)))
    }

    // ---- Events ----

    fn note(&mut self, event: &Event) {
        match event.token() {
            LISTENERS => self.accepting = Accepting::Ready,
            SIGNALS => self.heed_signals(),
            token => {
                let Some(connection) = find(&mut self.connections, token) else {
                    return;
                };
                // After an error, reading or writing tells what it was.
                connection.read_closed |= event.is_read_closed() || event.is_error();
                connection.readable |= event.is_readable() || connection.read_closed;
                connection.writable |= event.is_writable() || event.is_error();
                self.enqueue(slab_key(token));
            }
        }
    }

    fn heed_signals(&mut self) {
        let signals: Vec<_> = self.signals.pending().collect();
        for signal in signals {
            match signal {
                SIGTERM | SIGINT => self.heed_stop(),
                SIGUSR1 => info!("{}", self.report()),
                // SIGHUP only says that a terminal has gone, which is no reason to end.
                _ => {}
            }
        }
    }

    /// Puts a connection on the ready queue if it has something to do.
    fn enqueue(&mut self, key: usize) {
        let connection = &mut self.connections.0[key];
        if !connection.queued && connection.wants_turn() {
            connection.queued = true;
            self.ready.push_back(token(key, connection.serial));
        }
    }

    // ---- Accept ----

    fn accept(&mut self) {
        match self.accepting {
            Accepting::Waiting => return,
            Accepting::Until(millis) if self.now_millis < millis => return,
            _ => {}
        }
        for _ in 0..TURN_ACCEPTS {
            let Some(listeners) = &self.listeners else {
                self.accepting = Accepting::Waiting;
                return;
            };
            match accept_one(listeners) {
                Ok(stream) => self.admit(stream),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accepting = Accepting::Waiting;
                    return;
                }
                Err(error) if is_out_of_descriptors(&error) => {
                    self.complain(Kind::NoDescriptors, || format!("accepting pauses: {error}"));
                    self.accepting = Accepting::Until(self.now_millis + ACCEPT_RETRY_MILLIS);
                    return;
                }
                // One client's trouble, such as a reset before it was accepted.
                Err(error) => self.complain(Kind::AcceptFailed, || format!("accepting: {error}")),
            }
        }
        self.accepting = Accepting::Ready;
    }

    fn admit(&mut self, mut stream: Stream) {
        self.turn.accepted += 1;
        let place = self.connections.0.vacant_entry();
        let key = place.key();
        let serial = self.next_serial;
        self.next_serial = (serial + 1) % (1 << SERIAL_BITS);
        if let Err(error) = stream.register(self.poll.registry(), token(key, serial)) {
            self.complain(Kind::AcceptFailed, || format!("registering: {error}"));
            return;
        }
        let mut connection = Connection::new(stream, serial, self.now_millis);
        if self.clients >= self.settings.max_clients {
            connection.refused = true;
            connection.session.break_off();
            self.executor.stats.refused += 1;
        } else {
            self.clients += 1;
            self.executor.stats.connections += 1;
        }
        let refused = connection.refused;
        place.insert(connection);
        debug!("connection {serial} accepted");
        if refused {
            let max_clients = self.settings.max_clients;
            self.complain(Kind::Refused, || format!("a client was refused: there are max-clients, {max_clients}"));
        }
        self.enqueue(key);
    }

    // ---- Fill ----

    /// Reads from the connections at the head of the ready queue, each once, as far as this turn's bounds go.
    fn fill(&mut self) {
        self.visits.clear();
        let mut end = 0;
        let is_scarce = self.executor.room_bytes() == 0;
        let most = if is_scarce { TURN_CONNECTIONS_SCARCE } else { TURN_CONNECTIONS };
        for _ in 0..self.ready.len().min(most) {
            let Some(next) = self.ready.pop_front() else {
                break;
            };
            let Some(connection) = find(&mut self.connections, next) else {
                continue;
            };
            let is_full = end + connection.session.carried_bytes() + READ_BYTES > self.input.len();
            if is_full || end > TURN_FRAME_BYTES {
                self.ready.push_front(next);
                break;
            }
            connection.queued = false;
            let key = slab_key(next);
            if let Some(input) = self.read(key, end) {
                end = input.end;
                self.visits.push(Visit::new(key, input));
            }
        }
    }

    /// Reads once from a connection to `at` in the input, behind what it carries over. Nothing if that closed it.
    fn read(&mut self, key: usize, at: usize) -> Option<Range<usize>> {
        let over_bound = self.buffer_bytes() > self.settings.buffer_bytes_max;
        let fair_share = self.settings.buffer_bytes_max / self.connections.0.len();
        let connection = &mut self.connections.0[key];
        let wants_read = connection.wants_read();
        // Asked before it is lent a buffer, which is none of its own.
        let is_to_blame = over_bound && connection.session.burden_bytes() > fair_share;
        connection.session.output().lend(&mut self.spare);
        let mut end = at + connection.session.carry(&mut self.input[at..]);
        if !wants_read {
            return Some(at..end);
        }
        if is_to_blame {
            connection.readable = false;
            self.paused.push(token(key, connection.serial));
            return Some(at..end);
        }
        // When there is no room left, a large value waits for the store to make some, which it does between turns, and
        // others are read in small portions: whatever they are, they take memory before they are known.
        let room = self.executor.room_bytes();
        let least = if connection.session.is_receiving() { 0 } else { READ_SCARCE_BYTES };
        let asked = connection.session.read_bytes().min(self.input.len() - end).min(room.max(least));
        if asked == 0 {
            return Some(at..end);
        }
        let result = connection.stream.read(&mut self.input[end..end + asked]);
        let goes_on = connection.after_read(asked, &result);
        let count = result.unwrap_or(0);
        if self.stop_by.is_some() && !connection.readable {
            connection.session.end_input();
        }
        self.executor.stats.bytes_in += count as u64;
        if let Some(drain) = &mut connection.draining {
            // What a client sends after it was told ERR is thrown away.
            drain.bytes_left = drain.bytes_left.saturating_sub(count);
            if !goes_on || drain.bytes_left == 0 || connection.session.input_has_ended() {
                self.close(key);
                return None;
            }
            return Some(at..at);
        }
        if !goes_on {
            self.close(key);
            return None;
        }
        end += count;
        Some(at..end)
    }

    // ---- Flush ----

    fn flush(&mut self) {
        let mut budget = TURN_WRITE_BYTES;
        self.turn.visited = self.visits.len() as u64;
        let visits = std::mem::take(&mut self.visits);
        for visit in &visits {
            if self.write(visit.session, &mut budget) {
                self.settle(visit.session);
            } else {
                self.close(visit.session);
            }
        }
        self.visits = visits;
    }

    /// Writes to a connection what it will take, and returns whether to go on with it.
    fn write(&mut self, key: usize, budget: &mut usize) -> bool {
        let connection = &mut self.connections.0[key];
        while connection.writable && connection.session.output_bytes() > 0 && *budget > 0 {
            let (asked, result) = write_once(connection, *budget);
            if !connection.after_write(asked, &result, self.now_millis) {
                return false;
            }
            let count = result.unwrap_or(0);
            self.executor.stats.bytes_out += count as u64;
            *budget = budget.saturating_sub(count);
        }
        true
    }

    /// Decides how a connection goes on, and takes it into account as it is now.
    fn settle(&mut self, key: usize) {
        let connection = &mut self.connections.0[key];
        if connection.session.is_finished() && connection.draining.is_none() {
            let unread = connection.session.is_broken() && !connection.session.input_has_ended();
            if !unread || self.draining >= DRAINING_MAX {
                return self.close(key);
            }
            connection.stream.shut_down_writing();
            connection.draining = Some(Drain {
                until_millis: self.now_millis + DRAIN_MILLIS,
                bytes_left: self.executor.value_bytes_max() + DRAIN_EXTRA_BYTES,
            });
            self.draining += 1;
        }
        let output = connection.session.output();
        output.reclaim(&mut self.spare, SPARE_BYTES_MAX);
        let held_bytes = connection.session.held_bytes();
        self.held_bytes += held_bytes;
        self.held_bytes -= std::mem::replace(&mut connection.held_bytes, held_bytes);
        let timed = connection.waits_for_client();
        if timed && !connection.timed {
            connection.output_moved_millis = self.now_millis;
        }
        self.timed += usize::from(timed);
        self.timed -= usize::from(std::mem::replace(&mut connection.timed, timed));
        self.enqueue(key);
    }

    /// Ends a connection. Its socket is closed in this turn or one soon after.
    fn close(&mut self, key: usize) {
        let connection = self.connections.0.remove(key);
        debug!("connection {} closed", connection.serial);
        self.clients -= usize::from(!connection.refused);
        self.timed -= usize::from(connection.timed);
        self.draining -= usize::from(connection.draining.is_some());
        self.held_bytes -= connection.held_bytes;
        self.closing.push_back(connection);
    }

    /// Closes sockets whose connections are over.
    fn bury(&mut self) {
        let count = self.closing.len().min(TURN_CLOSES);
        self.turn.closed = count as u64;
        self.closing.drain(..count);
        if count > 0 && matches!(self.accepting, Accepting::Until(_)) {
            self.accepting = Accepting::Ready;
        }
    }

    // ---- Time and memory ----

    fn needs_sweep(&self) -> bool {
        self.timed > 0
            || self.pressure_since.is_some()
            || !self.paused.is_empty()
            || self.settings.idle_millis.is_some() && self.clients > 0
    }

    /// Looks through a part of the connections for those whose time has run out.
    fn sweep(&mut self) {
        if !self.needs_sweep() || self.now_millis < self.swept_millis + SWEEP_MILLIS {
            return;
        }
        self.swept_millis = self.now_millis;
        let places = self.connections.0.capacity();
        for _ in 0..places.div_ceil(SWEEP_PARTS) {
            self.sweep_at = (self.sweep_at + 1) % places;
            if let Some(connection) = self.connections.0.get(self.sweep_at)
                && let Some(reason) = self.overdue(connection)
            {
                self.executor.stats.closed += 1;
                self.complain(Kind::Closed, || format!("a client was closed: {reason}"));
                self.close(self.sweep_at);
            }
        }
    }

    /// Why time has run out for a connection, if it has.
    fn overdue(&self, connection: &Connection) -> Option<&'static str> {
        let passed =
            |since: u64, limit: Option<u64>| limit.is_some_and(|limit| self.now_millis.saturating_sub(since) >= limit);
        if let Some(drain) = connection.draining {
            return (self.now_millis >= drain.until_millis).then_some("it went on after an ERR");
        }
        if connection.session.output_bytes() > 0 {
            return passed(connection.output_moved_millis, self.settings.stall_millis)
                .then_some("it did not read its replies for stall-timeout");
        }
        passed(connection.session.last_command_millis(), self.settings.idle_millis)
            .then_some("it sent no command for idle-timeout")
    }

    /// What the loop itself holds, in bytes.
    fn own_bytes(&self) -> usize {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        self.input.len()
            + spare
            + self.executor.long_frame.capacity()
            + self.connections.0.capacity() * size_of::<Connection>()
    }

    /// What all connections hold now, in bytes.
    fn buffer_bytes(&self) -> usize {
        self.held_bytes + self.executor.store.stray_chunk_bytes()
    }

    /// Closes the largest holder when buffers have been over their bound for too long, and lets paused connections go
    /// on when they no longer are.
    fn relieve(&mut self) {
        if self.buffer_bytes() <= self.settings.buffer_bytes_max {
            self.pressure_since = None;
            for _ in 0..self.paused.len().min(TURN_CONNECTIONS) {
                if let Some(next) = self.paused.pop()
                    && let Some(connection) = find(&mut self.connections, next)
                {
                    connection.readable = true;
                    self.enqueue(slab_key(next));
                }
            }
            return;
        }
        let since = *self.pressure_since.get_or_insert(self.now_millis);
        if self.now_millis < since + PRESSURE_MILLIS {
            return;
        }
        let largest = self.connections.0.iter().max_by_key(|(_, connection)| connection.session.burden_bytes());
        if let Some((key, connection)) = largest {
            let burden_bytes = connection.session.burden_bytes();
            self.pressure_since = Some(since + PRESSURE_AGAIN_MILLIS);
            self.executor.stats.closed += 1;
            self.complain(Kind::Closed, || {
                format!("a client was closed: buffers were over their bound, {burden_bytes} bytes for it alone")
            });
            self.close(key);
        }
    }

    // ---- Stop and say ----

    fn heed_stop(&mut self) {
        match self.stop_by {
            None => self.stop(),
            // Some senders signal a process and then its whole group, and mean one stop by that.
            Some(by) if self.now_millis + STOP_MILLIS < by + STOP_TWICE_MILLIS => {}
            Some(_) => self.stop_by = Some(self.now_millis),
        }
    }

    /// Stops accepting, and reads from every connection until it has nothing more.
    fn stop(&mut self) {
        info!("stopping");
        // Who has connected by now may have sent something by now.
        if let Some(listeners) = self.listeners.take() {
            for _ in 0..LISTEN_BACKLOG {
                match accept_one(&listeners) {
                    Ok(stream) => self.admit(stream),
                    Err(_) => break,
                }
            }
        }
        self.accepting = Accepting::Waiting;
        self.stop_by = Some(self.now_millis + STOP_MILLIS);
        let keys: Vec<usize> = self.connections.0.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.connections.0[key].readable = true;
            self.enqueue(key);
        }
    }

    fn has_stopped(&self) -> bool {
        self.stop_by.is_some_and(|by| self.connections.0.is_empty() && self.closing.is_empty() || self.now_millis >= by)
    }

    fn report(&self) -> String {
        let (stats, store, clock) = (&self.executor.stats, &self.executor.store, &self.clock);
        format!(
            "clients={} items={} memory={} evictions={} expired={} {stats} turns={} longest_turn={}",
            self.clients,
            store.len(),
            store.memory_bytes(),
            store.stats().evictions,
            store.stats().expired,
            clock.turns,
            clock.longest
        )
    }

    /// Logs a warning, at most one of its kind in a second.
    fn complain(&mut self, kind: Kind, message: impl FnOnce() -> String) {
        let complaint = &mut self.complaints[kind as usize];
        if self.now_millis < complaint.not_before_millis {
            complaint.left_out += 1;
            return;
        }
        complaint.not_before_millis = self.now_millis + 1000;
        match std::mem::take(&mut complaint.left_out) {
            0 => warn!("{}", message()),
            left_out => warn!("{} (and {left_out} more of the kind before)", message()),
        }
    }
}

fn token(key: usize, serial: u32) -> Token {
    Token((serial as usize) << 32 | key)
}

/// The place in the slab that a token leads to, whoever has it by now.
fn slab_key(token: Token) -> usize {
    token.0 as u32 as usize
}

/// The connection that a token was made for, if it is still there.
fn find(connections: &mut Connections, token: Token) -> Option<&mut Connection> {
    let connection = connections.0.get_mut(slab_key(token))?;
    (connection.serial as usize == token.0 >> 32).then_some(connection)
}

/// Accepts from whichever listener has somebody waiting.
fn accept_one(listeners: &Listeners) -> io::Result<Stream> {
    for listener in &listeners.tcp {
        match listener.accept() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok((stream, _)) => return Ok(Stream::Tcp(stream)),
        }
    }
    match &listeners.unix {
        Some(unix) => unix.listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        None => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// Writes what comes first in a connection's output. Returns how much was tried as well.
fn write_once(connection: &mut Connection, bytes_max: usize) -> (usize, io::Result<usize>) {
    let Connection { stream, session, .. } = connection;
    let output = session.output();
    if let Some(bytes) = output.contiguous() {
        return (bytes.len(), stream.write(bytes));
    }
    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
    let filled = output.slices(&mut slices, bytes_max);
    let asked = slices[..filled].iter().map(|slice| slice.len()).sum();
    (asked, stream.write_vectored(&slices[..filled]))
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
