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
mod info;
pub mod listener;
mod questions;
pub mod turn;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::ops::{Index, IndexMut, Range};
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use log::{debug, info, warn};
use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook_mio::v1_0::Signals;
use slab::Slab;
use socket2::Socket;

use crate::batch::{self, Visit};
use crate::config::Config;
use crate::execute::Executor;
use crate::limits::*;
use crate::session::Session;
use connection::Connection;
use listener::Listeners;
use turn::{Turn, TurnClock};

/// Tokens of connections are made of a serial number of 31 bits and a place in the slab; these cannot be.
const LISTENERS: Token = Token(usize::MAX);
const SIGNALS: Token = Token(usize::MAX - 1);
const SERIAL_BITS: u32 = 31;
const _: () = assert!(usize::BITS == 64, "tokens need 64 bits");

/// The server's one thread.
pub struct EventLoop {
    config: Config,
    poll: Poll,
    signals: Signals,
    listeners: Option<Listeners>,
    /// When to accept again, in milliseconds; with nothing, not before an event says so. Where there are no descriptors
    /// left, that is some time off, or when a connection has closed.
    accept_at: Option<u64>,
    connections: Connections,
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
    clock: TurnClock,
    now_millis: u64,
    turn: Turn,
    /// Connections for which time may run out.
    timed: usize,
    /// Connections that were told ERR, and are no clients any more.
    draining: usize,
    /// What all connections hold, in bytes.
    held_bytes: usize,
    /// Since when buffers are over their bound, in milliseconds.
    pressure_since: Option<u64>,
    /// When to look at the system's clock again, in milliseconds.
    unix_time_millis: u64,
    swept_millis: u64,
    sweep_at: usize,
    /// When to give up on clients that keep a stop waiting, in milliseconds.
    stop_by: Option<u64>,
    complaints: [(u64, u64); 4],
}

/// What is logged at most once a second for each kind: until when it is left out, in milliseconds, and how many were.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Refused = 0,
    NoDescriptors = 1,
    AcceptFailed = 2,
    Closed = 3,
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

impl Connections {
    /// The connection that a token was made for, if it is still there.
    fn find(&mut self, token: Token) -> Option<&mut Connection> {
        let connection = self.0.get_mut(slab_key(token))?;
        (connection.serial as usize == token.0 >> 32).then_some(connection)
    }
}

fn token(key: usize, serial: u32) -> Token {
    Token((serial as usize) << 32 | key)
}

/// The place in the slab that a token leads to, whoever has it by now.
fn slab_key(token: Token) -> usize {
    token.0 as u32 as usize
}

impl EventLoop {
    /// A loop that serves `executor`'s store on `listeners`.
    ///
    /// # Errors
    /// What the system says when there can be no poll, or no signal handlers.
    pub fn new(mut config: Config, listeners: Listeners, executor: Executor) -> io::Result<Self> {
        config.port = listeners.port();
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
            listeners: Some(listeners),
            accept_at: Some(0),
            connections: Connections(Slab::new()),
            next_serial: 0,
            ready: VecDeque::new(),
            closing: VecDeque::new(),
            paused: Vec::new(),
            executor,
            input: vec![0; TURN_READ_BYTES],
            visits: Vec::with_capacity(TURN_CONNECTIONS),
            spare: Vec::with_capacity(TURN_CONNECTIONS),
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
            complaints: [(0, 0); 4],
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
                _ => self.turn(&events),
            }
        }
        info!("stopped: {}", self.report());
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        self.now_millis = self.clock.begin();
        self.tell_unix_time();
        let before = self.executor.stats.clone();
        let work = self.executor.store.work();
        // Chunks that are not the store's count twice: each may keep a hole of its size beside it from being of use.
        self.executor.begin_turn(self.now_millis, self.own_bytes() + self.buffer_bytes());
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
            ..mem::take(&mut self.turn)
        });
    }

    /// Looks at the system's clock, which may be set at any time, now and then.
    fn tell_unix_time(&mut self) {
        if self.now_millis >= self.unix_time_millis {
            self.unix_time_millis = self.now_millis + UNIX_TIME_MILLIS;
            let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            self.executor.clock.unix_offset_millis = unix.as_millis() as i64 - self.now_millis as i64;
        }
    }

    /// How long the poll may sleep.
    fn poll_timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() || !self.closing.is_empty() {
            return Some(Duration::ZERO);
        }
        let times = [
            self.accept_at,
            self.stop_by,
            self.needs_sweep().then_some(self.swept_millis + SWEEP_MILLIS),
            self.executor.store.wants_housekeeping().map(|wait| self.now_millis + wait),
        ];
        match times.into_iter().flatten().min()?.saturating_sub(self.now_millis) {
            0 => Some(Duration::ZERO),
            // One more, since the poll may wake up to a millisecond early, only to find that nothing is due.
            wait => Some(Duration::from_millis(wait + 1)),
        }
    }

    // ---- Events ----

    fn note(&mut self, event: &Event) {
        match event.token() {
            LISTENERS => self.accept_at = Some(self.now_millis),
            SIGNALS => self.heed_signals(),
            token => {
                let Some(connection) = self.connections.find(token) else { return };
                // After an error, reading or writing tells what it was.
                connection.read_closed |= event.is_read_closed() || event.is_error();
                connection.readable |= event.is_readable() || connection.read_closed;
                connection.writable |= event.is_writable() || event.is_error();
                self.enqueue(slab_key(token));
            }
        }
    }

    fn heed_signals(&mut self) {
        for signal in self.signals.pending().collect::<Vec<_>>() {
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
        if self.accept_at.is_none_or(|millis| self.now_millis < millis) {
            return;
        }
        for _ in 0..TURN_ACCEPTS {
            let accepted = self.listeners.as_ref().map_or(Err(io::ErrorKind::WouldBlock.into()), Listeners::accept);
            match accepted {
                Ok(socket) => self.admit(socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_at = None;
                    return;
                }
                Err(error) if is_out_of_descriptors(&error) => {
                    self.complain(Kind::NoDescriptors, || format!("accepting pauses: {error}"));
                    self.accept_at = Some(self.now_millis + ACCEPT_RETRY_MILLIS);
                    return;
                }
                // One client's trouble, such as a reset before it was accepted.
                Err(error) => self.complain(Kind::AcceptFailed, || format!("accepting: {error}")),
            }
        }
    }

    fn admit(&mut self, socket: Socket) {
        self.turn.accepted += 1;
        let is_refused = self.clients() >= self.config.max_clients;
        let serial = self.next_serial;
        self.next_serial = (serial + 1) % (1 << SERIAL_BITS);
        let mut connection = Connection::new(socket, serial, self.now_millis);
        let place = self.connections.0.vacant_entry();
        let key = place.key();
        if let Err(error) = connection.register(self.poll.registry(), token(key, serial)) {
            return self.complain(Kind::AcceptFailed, || format!("registering: {error}"));
        }
        if is_refused {
            connection.session.break_off();
        }
        place.insert(connection);
        debug!("connection {serial} accepted");
        self.executor.stats.connections += u64::from(!is_refused);
        if is_refused {
            self.executor.stats.refused += 1;
            let max_clients = self.config.max_clients;
            self.complain(Kind::Refused, || format!("a client was refused: there are max-clients, {max_clients}"));
        }
        self.enqueue(key);
    }

    /// How many of the connections are clients.
    fn clients(&self) -> usize {
        self.connections.0.len() - self.draining
    }

    // ---- Fill ----

    /// Reads from the connections at the head of the ready queue, each once, as far as this turn's bounds go.
    fn fill(&mut self) {
        self.visits.clear();
        let mut end = 0;
        // What a connection may hold and still be read from.
        let fair_bytes = if self.is_over_bound() { self.fair_bytes() } else { usize::MAX };
        let room_bytes = self.executor.room_bytes();
        let most = if room_bytes == 0 { TURN_CONNECTIONS_SCARCE } else { TURN_CONNECTIONS };
        for _ in 0..self.ready.len().min(most) {
            let Some(next) = self.ready.pop_front() else { break };
            let Some(connection) = self.connections.find(next) else { continue };
            let is_full = end + connection.session.carried_bytes() + READ_BYTES > self.input.len();
            if is_full || end > TURN_FRAME_BYTES {
                self.ready.push_front(next);
                break;
            }
            connection.queued = false;
            match self.read(next, end, fair_bytes, room_bytes) {
                Some(input) => {
                    end = input.end;
                    self.visits.push(Visit::new(slab_key(next), input));
                }
                None => self.close(slab_key(next)),
            }
        }
    }

    /// Reads once from a connection to `at` in the input, behind what it carries over, and returns where its bytes
    /// stand. Nothing if it is over.
    fn read(&mut self, token: Token, at: usize, fair_bytes: usize, room_bytes: usize) -> Option<Range<usize>> {
        let connection = &mut self.connections.0[slab_key(token)];
        let wants_read = connection.wants_read();
        // Asked before it is lent a buffer, which is none of its own.
        let is_to_blame = fair_bytes < usize::MAX && connection.session.burden_bytes() > fair_bytes;
        connection.session.output.lend(&mut self.spare);
        let end = at + connection.session.carry(&mut self.input[at..]);
        if !wants_read {
            return Some(at..end);
        }
        // When there is no room left, a large value waits for the store to make some, which it does between turns, and
        // others are read in small portions: whatever they are, they take memory before they are known.
        let least = if connection.session.is_receiving() { 0 } else { READ_SCARCE_BYTES };
        let asked = connection.session.read_bytes().min(self.input.len() - end).min(room_bytes.max(least));
        if is_to_blame || asked == 0 {
            connection.readable = false;
            self.paused.push(token);
            return Some(at..end);
        }
        let count = connection.read(&mut self.input[end..end + asked])?;
        if self.stop_by.is_some() && !connection.readable {
            connection.session.end_input();
        }
        self.executor.stats.bytes_in += count as u64;
        if let Some((_, bytes_left)) = &mut connection.draining {
            // What a client sends after it was told ERR is thrown away.
            *bytes_left = bytes_left.saturating_sub(count);
            return (*bytes_left > 0 && !connection.session.input_ended).then_some(at..at);
        }
        Some(at..end + count)
    }

    // ---- Flush ----

    fn flush(&mut self) {
        let mut budget = TURN_WRITE_BYTES;
        let visits = mem::take(&mut self.visits);
        self.turn.visited = visits.len() as u64;
        for Visit { session: key, .. } in &visits {
            if self.write(*key, &mut budget).and_then(|()| self.settle(*key)).is_none() {
                self.close(*key);
            }
        }
        self.visits = visits;
    }

    /// Writes to a connection what it will take. Nothing if it is over.
    fn write(&mut self, key: usize, budget: &mut usize) -> Option<()> {
        let connection = &mut self.connections.0[key];
        while connection.writable && !connection.session.output.is_empty() && *budget > 0 {
            let count = connection.write(*budget, self.now_millis)?;
            self.executor.stats.bytes_out += count as u64;
            *budget = budget.saturating_sub(count);
        }
        connection.watch_output(self.poll.registry(), token(key, connection.serial)).ok()
    }

    /// Decides how a connection goes on, and takes it into account as it is now. Nothing if it is over.
    fn settle(&mut self, key: usize) -> Option<()> {
        let connection = &mut self.connections.0[key];
        let session = &mut connection.session;
        if session.is_finished() && connection.draining.is_none() {
            if !session.is_broken() || session.input_ended || self.draining >= DRAINING_MAX {
                return None;
            }
            // A client that is gone already needs no telling.
            let _ = connection.socket.shutdown(std::net::Shutdown::Write);
            let bytes = self.executor.value_bytes_max + DRAIN_EXTRA_BYTES;
            connection.draining = Some((self.now_millis + DRAIN_MILLIS, bytes));
            self.draining += 1;
        }
        session.output.reclaim(&mut self.spare, SPARE_BYTES_MAX);
        let held_bytes = session.held_bytes();
        self.held_bytes += held_bytes;
        self.held_bytes -= mem::replace(&mut connection.held_bytes, held_bytes);
        let timed = connection.draining.is_some() || !session.output.is_empty();
        if timed && !connection.timed {
            connection.output_moved_millis = self.now_millis;
        }
        self.timed += usize::from(timed);
        self.timed -= usize::from(mem::replace(&mut connection.timed, timed));
        let is_receiving = session.is_receiving();
        let is_far_over = self.buffer_bytes() > self.buffer_bytes_max() / 4 * 5;
        if is_far_over && (is_receiving || held_bytes > self.fair_bytes()) {
            // Pausing was not enough: each of many new ones took a little more.
            self.cut_off(key, "buffers were far over their bound");
        } else {
            self.enqueue(key);
        }
        Some(())
    }

    /// Ends a connection. Its socket is closed in this turn or one soon after.
    fn close(&mut self, key: usize) {
        let connection = self.connections.0.remove(key);
        debug!("connection {} closed", connection.serial);
        self.timed -= usize::from(connection.timed);
        self.draining -= usize::from(connection.draining.is_some());
        self.held_bytes -= connection.held_bytes;
        self.closing.push_back(connection);
    }

    /// The same, for a reason of ours.
    fn cut_off(&mut self, key: usize, reason: &str) {
        self.executor.stats.closed += 1;
        self.complain(Kind::Closed, || format!("a client was closed: {reason}"));
        self.close(key);
    }

    /// Closes sockets whose connections are over.
    fn bury(&mut self) {
        let count = self.closing.len().min(TURN_CLOSES);
        self.turn.closed = count as u64;
        self.closing.drain(..count);
        if count > 0 && self.accept_at.is_some() {
            self.accept_at = Some(self.now_millis);
        }
    }

    // ---- Time and memory ----

    fn needs_sweep(&self) -> bool {
        self.timed > 0
            || self.pressure_since.is_some()
            || !self.paused.is_empty()
            || self.config.idle_timeout.is_some() && self.clients() > 0
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
            if let Some(reason) = self.connections.0.get(self.sweep_at).and_then(|connection| self.overdue(connection))
            {
                self.cut_off(self.sweep_at, reason);
            }
        }
    }

    /// Why time has run out for a connection, if it has.
    fn overdue(&self, connection: &Connection) -> Option<&'static str> {
        let session = &connection.session;
        let (since, limit, reason) = if let Some((until_millis, _)) = connection.draining {
            (until_millis, Some(Duration::ZERO), "it went on after an ERR")
        } else if !session.output.is_empty() {
            let reason = "it did not read its replies for stall-timeout";
            (connection.output_moved_millis, self.config.stall_timeout, reason)
        } else {
            (session.last_command_millis, self.config.idle_timeout, "it sent no command for idle-timeout")
        };
        (self.now_millis >= since + limit?.as_millis() as u64).then_some(reason)
    }

    /// What the loop itself holds, in bytes.
    fn own_bytes(&self) -> usize {
        let spare: usize = self.spare.iter().map(Vec::capacity).sum();
        let connections = self.connections.0.capacity() * size_of::<Connection>();
        self.input.len() + spare + self.executor.long_frame.capacity() + connections
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

    fn is_over_bound(&self) -> bool {
        self.buffer_bytes() > self.buffer_bytes_max()
    }

    /// An equal share of that.
    fn fair_bytes(&self) -> usize {
        self.buffer_bytes_max() / self.connections.0.len().max(1)
    }

    /// Closes the largest holder when buffers have been over their bound for too long, and lets paused connections go
    /// on when they no longer are.
    fn relieve(&mut self) {
        if !self.is_over_bound() {
            self.pressure_since = None;
            for _ in 0..self.paused.len().min(TURN_CONNECTIONS) {
                if let Some(next) = self.paused.pop()
                    && let Some(connection) = self.connections.find(next)
                {
                    connection.readable = true;
                    self.enqueue(slab_key(next));
                }
            }
            return;
        }
        let since = *self.pressure_since.get_or_insert(self.now_millis);
        if self.now_millis >= since + PRESSURE_MILLIS
            && let Some((key, connection)) =
                self.connections.0.iter().max_by_key(|(_, connection)| connection.session.burden_bytes())
        {
            let bytes = connection.session.burden_bytes();
            self.pressure_since = Some(since + PRESSURE_AGAIN_MILLIS);
            self.cut_off(key, &format!("buffers were over their bound, {bytes} bytes for it alone"));
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
            for socket in (0..LISTEN_BACKLOG).map_while(|_| listeners.accept().ok()) {
                self.admit(socket);
            }
        }
        self.accept_at = None;
        self.stop_by = Some(self.now_millis + STOP_MILLIS);
        for key in self.connections.0.iter().map(|(key, _)| key).collect::<Vec<_>>() {
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
            "clients={} items={} memory={} evictions={} expired={} {stats} turns={} over_200us={} longest_turn={}",
            self.clients(),
            store.len(),
            store.memory_bytes(),
            store.stats().evictions,
            store.stats().expired,
            clock.turns,
            clock.long,
            clock.longest
        )
    }

    /// Logs a warning, at most one of its kind in a second.
    fn complain(&mut self, kind: Kind, message: impl FnOnce() -> String) {
        let (not_before_millis, left_out) = &mut self.complaints[kind as usize];
        if self.now_millis < *not_before_millis {
            *left_out += 1;
            return;
        }
        *not_before_millis = self.now_millis + 1000;
        match mem::take(left_out) {
            0 => warn!("{}", message()),
            left_out => warn!("{} (and {left_out} more of the kind before)", message()),
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
