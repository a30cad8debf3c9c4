//! The load itself: connections, who sends what when, and what came of it. Closed loop keeps a number of requests under
//! way on each connection; open loop sends when a request is due, however late the replies are, and counts latency
//! from that moment, so that a stall is seen by every request it delays. It knows no report.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

use crate::draws::Draws;
use crate::options::Options;
use crate::output::Output;
use crate::phase::{Phase, SECOND, Source};
use crate::process;
use crate::progress::Progress;
use crate::protocol::{Operation, Outcome};
use crate::replay::Trace;
use crate::replies::Replies;
use crate::verify::Model;
use crate::workload::{Request, Workload};

/// What one read takes at most, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// What a connection sends at a time in the preload, in bytes and in requests.
const PRELOAD_BYTES: usize = 64 * 1024;
const PRELOAD_DEPTH: usize = 64;

/// A request due within this time is waited for without sleeping: the poll's own timer counts milliseconds.
const SPIN_NANOS: u64 = 1_500_000;

/// The poll returns so often, to look at the clock and at Ctrl-C.
const TICK: Duration = Duration::from_millis(100);

/// A server that has sent nothing for so long while a count of replies is awaited is taken for dead.
const SILENCE_NANOS: u64 = 60 * SECOND;

/// How long the last replies are awaited after a measurement.
const DRAIN_NANOS: u64 = 5 * SECOND;

/// Connections to one server, and the work they do.
pub struct Load<'a> {
    options: &'a Options,
    workload: Workload,
    draws: Draws,
    model: Option<Model>,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections that may be given requests.
    ready: VecDeque<usize>,
    /// Requests without a reply on all connections.
    under_way: u64,
    buffer: Vec<u8>,
    origin: Instant,
    interrupted: &'a AtomicBool,
    /// The server's process.
    pub server: Option<u32>,
}

struct Connection {
    socket: Socket,
    replies: Replies,
    output: Output,
    /// The last request sent.
    last: Option<(Operation, u32)>,
    /// When its requests were sent, in closed loop.
    sent_nanos: u64,
    watches_output: bool,
}

impl<'a> Load<'a> {
    /// Connects all clients.
    pub fn new(options: &'a Options, interrupted: &'a AtomicBool) -> Result<Self, String> {
        let count = options.clients + options.idle_clients;
        // Each client needs a descriptor; where there are too few all the same, connecting will say so.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let poll = Poll::new().map_err(|error| format!("poll: {error}"))?;
        let mut connections = Vec::with_capacity(count);
        for slot in 0..count {
            let connection = Connection::new(options, &poll, Token(slot)).map_err(|error| {
                let (target, number) = (options.target(), slot + 1);
                format!("{target}: expected a server for connection {number} of {count}, got: {error}")
            });
            connections.push(connection?);
        }
        Ok(Load {
            options,
            workload: Workload::new(options),
            draws: Draws::new(options),
            // Nobody knows what the server has kept of a trace.
            model: (options.verify && options.trace.is_none()).then(|| Model::new(options)),
            poll,
            connections,
            ready: VecDeque::with_capacity(count),
            under_way: 0,
            buffer: vec![0; READ_BYTES],
            origin: Instant::now(),
            interrupted,
            // Only now, when it has been connected to, has it surely taken over its socket.
            server: process::find(options),
        })
    }

    /// Sets every key once, over all connections; the idle ones have worked then.
    pub fn preload(&mut self) -> Result<(), String> {
        let Options { keys, key_size, value_size, .. } = self.options;
        let count = self.connections.len();
        // An echo keeps nothing, but each connection should have worked.
        let keys = if self.options.protocol.is_echo() { (*keys).min(count as u32) } else { *keys };
        let each = keys.div_ceil(count as u32) as usize;
        let depth = PRELOAD_DEPTH.min(PRELOAD_BYTES / (value_size.high + key_size.high)).min(each).max(1);
        let (source, requests_max) = (Source::Keys, Some(keys.into()));
        let phase = self.drive(count, Phase { name: "preload", source, depth, requests_max, ..Phase::default() })?;
        match phase.refused {
            0 => Ok(()),
            refused => Err(format!("preload: expected the server to take {keys} keys, but it refused {refused}")),
        }
    }

    /// Replays a trace, or warms up and measures.
    pub fn run(&mut self, depth: usize, trace: Option<Trace>) -> Result<Phase, String> {
        if let Some(trace) = trace {
            let source = Source::Trace(trace.into());
            return self.measure(Phase { name: "replay", source, depth, ..Phase::default() });
        }
        let Options { rate, requests, duration, warmup, .. } = *self.options;
        let nanos = |seconds: f64| (seconds * SECOND as f64) as u64;
        let warm_up = Phase { name: "warm-up", depth, rate, nanos_max: Some(nanos(warmup)), ..Phase::default() };
        self.measure(warm_up)?;
        // In open loop a measurement is over when all that was due in it is answered, lest the last stall go unseen.
        let due = rate.map(|rate| (rate * duration) as u64);
        let requests_max = requests.or(due).map(|count| count.max(1));
        let nanos_max = match (requests, rate) {
            (Some(_), _) => None,
            (None, Some(_)) => Some(2 * nanos(duration) + 10 * SECOND),
            (None, None) => Some(nanos(duration)),
        };
        self.measure(Phase { name: "measuring", depth, rate, requests_max, nanos_max, ..Phase::default() })
    }

    /// Does the work of a phase, and waits for what is under way after it.
    fn measure(&mut self, phase: Phase) -> Result<Phase, String> {
        let processes = [self.server, Some(std::process::id())];
        let usage = || processes.map(|process| process.and_then(process::usage));
        let before = usage();
        let mut phase = self.drive(self.options.clients, phase)?;
        let (end, after) = (self.now(), usage());
        [phase.server, phase.client] = [0, 1].map(|place| Some(after[place]?.since(before[place]?)));
        phase.seconds = (end - phase.start_nanos).max(1) as f64 / SECOND as f64;
        phase.unanswered = phase.rate.map_or(0, |rate| self.under_way + phase.backlog(rate, end).min(phase.left()));
        // What is still under way belongs to nobody.
        self.drive(0, Phase { requests_max: Some(0), nanos_max: Some(DRAIN_NANOS), ..Phase::default() })?;
        phase.interrupted = self.is_interrupted();
        Ok(phase)
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Has the first `clients` do the work of a phase, until all of it is done or its time is over.
    fn drive(&mut self, clients: usize, mut phase: Phase) -> Result<Phase, String> {
        self.ready =
            (0..clients).filter(|&slot| self.connections[slot].replies.under_way() < phase.free_below()).collect();
        // What a client set in an earlier phase is not its own to delete.
        self.connections.iter_mut().for_each(|connection| connection.last = None);
        let mut progress = Progress::new();
        let mut events = Events::with_capacity(1024);
        let mut now = self.now();
        let mut last_reply = now;
        phase.start_nanos = now;
        while phase.nanos_left(now) > 0 && !self.is_interrupted() {
            self.issue(&mut phase, now)?;
            if phase.left() == 0 && self.under_way == 0 {
                break;
            }
            match self.poll.poll(&mut events, Some(self.timeout(&phase, now))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|error| format!("poll: {error}"))?,
            }
            // All that is ready is read before anything is sent: it costs less, and the server sees its clients at
            // once.
            let replies = phase.replies;
            for event in &events {
                let slot = event.token().0;
                if event.is_writable() {
                    self.flush(slot, &mut phase)?;
                }
                if event.is_readable() {
                    self.receive(slot, event.is_read_closed(), &mut phase)?;
                }
            }
            now = self.now();
            if phase.replies > replies || self.under_way == 0 {
                last_reply = now;
            } else if phase.nanos_max.is_none() && now - last_reply > SILENCE_NANOS {
                let (more, seconds) = (self.under_way, SILENCE_NANOS / SECOND);
                return Err(format!("expected {more} more replies, got none for {seconds} s"));
            }
            progress.show(phase.name, now - phase.start_nanos, phase.replies);
        }
        Ok(phase)
    }

    /// Gives requests to the connections that may have some.
    fn issue(&mut self, phase: &mut Phase, now: u64) -> Result<(), String> {
        while phase.left() > 0
            && let Some(&slot) = self.ready.front()
        {
            let mut count = phase.depth.saturating_sub(self.connections[slot].replies.under_way());
            if let Some(rate) = phase.rate {
                let backlog = phase.backlog(rate, now) as usize;
                if backlog == 0 {
                    break;
                }
                count = count.min(backlog.div_ceil(self.ready.len()));
            }
            self.ready.pop_front();
            self.send(slot, phase.left().min(count as u64), phase);
            self.flush(slot, phase)?;
            if self.connections[slot].replies.under_way() < phase.free_below() {
                self.ready.push_back(slot);
            }
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, count: u64, phase: &mut Phase) {
        let now = self.now();
        let connection = &mut self.connections[slot];
        let workload = &self.workload;
        connection.sent_nanos = now;
        let before = phase.sent;
        for _ in 0..count {
            let (operation, id, value_bytes) = match &mut phase.source {
                Source::Draws => {
                    let (operation, id) = self.draws.next(slot, connection.last);
                    (operation, id, workload.value_bytes(id))
                }
                Source::Keys => {
                    let id = phase.sent as u32;
                    (Operation::Set, id, workload.value_bytes(id))
                }
                Source::Trace(trace) => {
                    let begins_window = connection.replies.under_way() == 0;
                    let Some(next) = trace.next(begins_window) else {
                        // A trace that has nothing to begin with is over.
                        phase.requests_max = begins_window.then_some(phase.sent);
                        break;
                    };
                    next
                }
            };
            let due_nanos = phase.rate.map_or(now, |rate| phase.due_nanos(rate));
            phase.sent += 1;
            let reply_bytes = workload.write(operation, id, value_bytes, &mut connection.output);
            connection.last = Some((operation, id));
            let known = self.model.as_mut().map_or(0, |model| model.send(operation, id));
            connection.replies.expect(Request { operation, id, value_bytes, known, due_nanos }, reply_bytes);
        }
        self.under_way += phase.sent - before;
    }

    fn flush(&mut self, slot: usize, phase: &mut Phase) -> Result<(), String> {
        let connection = &mut self.connections[slot];
        let flushed = connection.output.flush(&mut connection.socket, &self.workload.shared).and_then(|count| {
            phase.sent_bytes += count as u64;
            // A Unix socket reports writability after each read of its peer, so it is asked for only while needed.
            if connection.output.is_empty() == connection.watches_output {
                connection.watches_output = !connection.watches_output;
                let both = Interest::READABLE | Interest::WRITABLE;
                let interest = if connection.watches_output { both } else { Interest::READABLE };
                let descriptor = connection.socket.as_raw_fd();
                self.poll.registry().reregister(&mut SourceFd(&descriptor), Token(slot), interest)?;
            }
            Ok(())
        });
        flushed.map_err(|error| self.broken(slot, &error.to_string()))
    }

    fn receive(&mut self, slot: usize, is_closed: bool, phase: &mut Phase) -> Result<(), String> {
        let now = self.now();
        let is_open = phase.rate.is_some();
        let before = self.connections[slot].replies.under_way();
        loop {
            let connection = &mut self.connections[slot];
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => return Err(self.broken(slot, "the server closed it")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.broken(slot, &error.to_string())),
            };
            phase.received_bytes += count as u64;
            let done = |request: &Request, outcome| {
                if is_open {
                    phase.latency.0.saturating_record(now.saturating_sub(request.due_nanos));
                }
                match outcome {
                    Outcome::Done if request.operation == Operation::Get => phase.hits += 1,
                    Outcome::Done | Outcome::Number(_) => {}
                    Outcome::Miss => phase.misses += 1,
                    Outcome::Refused => phase.refused += 1,
                }
                if let Source::Trace(trace) = &mut phase.source {
                    trace.note(request, outcome);
                }
                self.model.as_mut().map_or(Ok(()), |model| model.check(request, outcome, &self.workload))
            };
            connection.replies.feed(&self.buffer[..count], &self.workload, self.options.verify, done)?;
            // A short read means that no more was there, unless the end of it came in the same event.
            if count < self.buffer.len() && !is_closed {
                break;
            }
        }
        let connection = &self.connections[slot];
        let (after, limit) = (connection.replies.under_way(), phase.free_below());
        let completed = (before - after) as u64;
        self.under_way -= completed;
        phase.replies += completed;
        if !is_open && completed > 0 {
            phase.latency.0.saturating_record_n(now - connection.sent_nanos, completed);
        }
        if before >= limit && after < limit {
            self.ready.push_back(slot);
        }
        Ok(())
    }

    fn timeout(&self, phase: &Phase, now: u64) -> Duration {
        let mut left = phase.nanos_left(now);
        if let Some(rate) = phase.rate
            && phase.left() > 0
            && !self.ready.is_empty()
        {
            left = left.min(phase.due_nanos(rate).saturating_sub(now).saturating_sub(SPIN_NANOS));
        }
        TICK.min(Duration::from_nanos(left))
    }

    fn broken(&self, slot: usize, reason: &str) -> String {
        let waiting = self.connections[slot].replies.under_way();
        let (target, number) = (self.options.target(), slot + 1);
        format!("{target}: connection {number} broke with {waiting} requests unanswered: {reason}")
    }

    /// Nanoseconds since the connections were made.
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Connection {
    /// Connects, waiting until that is done; from then on the socket never waits.
    fn new(options: &Options, poll: &Poll, token: Token) -> io::Result<Self> {
        let socket = match &options.unix_socket {
            Some(path) => Socket::from(OwnedFd::from(UnixStream::connect(path)?)),
            None => {
                let stream = TcpStream::connect(options.addresses()?.as_slice())?;
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        socket.set_nonblocking(true)?;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Connection {
            socket,
            replies: Replies::default(),
            output: Output::default(),
            last: None,
            sent_nanos: 0,
            watches_output: false,
        })
    }
}
