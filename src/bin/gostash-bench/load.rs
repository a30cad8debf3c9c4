//! The load itself: connections, who sends what when, and what came of it. Closed loop keeps a number of requests under
//! way on each connection; open loop sends when a request is due, however late the replies are, and counts latency
//! from that moment, so that a stall is seen by every request it delays. It knows no report.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGINT;
use socket2::Socket;

use crate::draws::Draws;
use crate::options::Options;
use crate::output::Output;
use crate::phase::{Phase, SECOND, Source};
use crate::process;
use crate::protocol::{Operation, Outcome};
use crate::replay::Trace;
use crate::replies::{Model, Replies};
use crate::report::Progress;
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

/// A server that has sent nothing for so long while replies are awaited is taken for dead.
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
    buffer: Vec<u8>,
    origin: Instant,
    /// Whether Ctrl-C was pressed.
    interrupted: Arc<AtomicBool>,
    /// The server's process.
    server: Option<u32>,
}

struct Connection {
    socket: Socket,
    replies: Replies,
    output: Output,
    watches_output: bool,
}

impl<'a> Load<'a> {
    /// Connects all clients.
    pub fn new(options: &'a Options) -> Result<Self, String> {
        // The second Ctrl-C ends the program, as does the first if the handlers cannot be set.
        let interrupted = Arc::new(AtomicBool::new(false));
        let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(SIGINT, Arc::clone(&interrupted));
        let count = options.clients + options.idle_clients;
        // Each client needs a descriptor; where there are too few all the same, connecting will say so.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        let poll = Poll::new().map_err(|error| format!("poll: {error}"))?;
        let connections = (0..count).map(|slot| {
            Connection::new(options, &poll, Token(slot)).map_err(|error| {
                let (target, number) = (options.target(), slot + 1);
                format!("{target}: expected a server for connection {number} of {count}, got: {error}")
            })
        });
        let connections = connections.collect::<Result<_, _>>()?;
        Ok(Load {
            options,
            workload: Workload::new(options),
            draws: Draws::new(options),
            // Nobody knows what the server has kept of a trace.
            model: (options.verify && options.trace.is_none()).then(|| Model::new(options)),
            poll,
            connections,
            ready: VecDeque::with_capacity(count),
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
        let keys = if self.options.protocol.name == "echo" { (*keys).min(count as u32) } else { *keys };
        let each = keys.div_ceil(count as u32) as usize;
        let depth = PRELOAD_DEPTH.min(PRELOAD_BYTES / (value_size.high + key_size.high)).min(each).max(1);
        let (source, requests_max) = (Source::Keys, Some(keys.into()));
        let phase = self.work(count, Phase { name: "preload", source, depth, requests_max, ..Phase::default() })?;
        match phase.refused {
            0 => Ok(()),
            refused => Err(format!("preload: expected the server to take {keys} keys, but it refused {refused}")),
        }
    }

    /// Replays a trace, or warms up and measures.
    pub fn run(&mut self, depth: usize, trace: Option<Trace>) -> Result<Phase, String> {
        let Options { clients, rate, requests, duration, warmup, .. } = *self.options;
        if let Some(trace) = trace {
            let source = Source::Trace(trace.into());
            return self.work(clients, Phase { name: "replay", source, depth, ..Phase::default() });
        }
        let nanos = |seconds: f64| (seconds * SECOND as f64) as u64;
        let warm_up = Phase { name: "warm-up", depth, rate, nanos_max: Some(nanos(warmup)), ..Phase::default() };
        self.work(clients, warm_up)?;
        // In open loop all that is due in the time is sent, however late, lest the last stall go unseen.
        let due = rate.map(|rate| (rate * duration) as u64);
        let requests_max = requests.or(due).map(|count| count.max(1));
        let patience = rate.map_or(0, |_| nanos(duration) + 10 * SECOND);
        let nanos_max = requests.is_none().then(|| nanos(duration) + patience);
        self.work(clients, Phase { name: "measuring", depth, rate, requests_max, nanos_max, ..Phase::default() })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Has the first `clients` do the work of a phase, until all of it is sent, or its time is over, and all that was sent
    /// is answered. What is still without a reply long after the end of its time is left so, and no other phase begins.
    fn work(&mut self, clients: usize, mut phase: Phase) -> Result<Phase, String> {
        let waiting = self.connections.iter().map(|connection| connection.replies.waiting.len() as u64).sum();
        if waiting > 0 && !self.is_interrupted() {
            return Err(silence(waiting, DRAIN_NANOS));
        }
        self.ready = (0..clients).collect();
        let processes = [self.server, Some(std::process::id())];
        let usage = || processes.map(|process| process.and_then(process::usage));
        let before = usage();
        let mut progress = Progress::new();
        let mut events = Events::with_capacity(1024);
        phase.start_nanos = self.now();
        let (mut now, mut last_reply) = (phase.start_nanos, phase.start_nanos);
        while !self.is_interrupted() {
            let is_over = phase.is_over(now);
            if !is_over {
                self.issue(&mut phase, now)?;
            }
            if phase.under_way() == 0 && (is_over || phase.left() == 0) {
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
            if phase.replies > replies || phase.under_way() == 0 {
                last_reply = now;
            } else if now - last_reply > SILENCE_NANOS {
                return Err(silence(phase.under_way(), SILENCE_NANOS));
            } else if is_over && now - last_reply > DRAIN_NANOS {
                break;
            }
            progress.show(phase.name, now - phase.start_nanos, phase.replies);
        }
        let after = usage();
        [phase.server, phase.client] = [0, 1].map(|place| Some(after[place]?.since(before[place]?)));
        phase.seconds = (now - phase.start_nanos).max(1) as f64 / SECOND as f64;
        phase.unanswered = phase.under_way() + phase.rate.map_or(0, |_| phase.due(now));
        phase.interrupted = self.is_interrupted();
        Ok(phase)
    }

    /// Gives what is due to the connections that may have some: in open loop to each its share.
    fn issue(&mut self, phase: &mut Phase, now: u64) -> Result<(), String> {
        while let due @ 1.. = phase.due(now)
            && let Some(slot) = self.ready.pop_front()
        {
            let others = self.ready.len() as u64;
            self.send(slot, phase.rate.map_or(due, |_| due.div_ceil(1 + others)), phase);
            self.flush(slot, phase)?;
            if self.connections[slot].replies.waiting.len() < phase.free_below() {
                self.ready.push_back(slot);
            }
        }
        Ok(())
    }

    /// Sends as many of `due` requests as the connection may have.
    fn send(&mut self, slot: usize, due: u64, phase: &mut Phase) {
        let now = self.now();
        let Connection { replies, output, .. } = &mut self.connections[slot];
        let before = replies.waiting.len();
        let free = (phase.depth - before) as u64;
        for _ in 0..due.min(free) {
            let (operation, id, value_bytes) = match &mut phase.source {
                Source::Draws => {
                    let (operation, id) = self.draws.next(slot);
                    (operation, id, self.workload.value_bytes(id))
                }
                Source::Keys => {
                    let id = phase.sent as u32;
                    (Operation::Set, id, self.workload.value_bytes(id))
                }
                Source::Trace(trace) => {
                    let Some(next) = trace.next() else { break };
                    next
                }
            };
            let due_nanos = phase.due_nanos().unwrap_or(now);
            phase.sent += 1;
            let reply_bytes = self.workload.write(operation, id, value_bytes, output);
            let known = self.model.as_mut().map_or(0, |model| model.send(operation, id));
            replies.expect(Request { operation, id, value_bytes, known, due_nanos }, reply_bytes);
        }
    }

    fn flush(&mut self, slot: usize, phase: &mut Phase) -> Result<(), String> {
        let connection = &mut self.connections[slot];
        let flushed = connection.output.flush(&mut connection.socket, &self.workload.shared).and_then(|count| {
            phase.sent_bytes += count as u64;
            // A Unix socket reports writability after each read of its peer, so it is asked for only while needed.
            if connection.output.bytes.is_empty() == connection.watches_output {
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
        let (now, is_open) = (self.now(), phase.rate.is_some());
        let waiting = &self.connections[slot].replies.waiting;
        let before = waiting.len();
        // In closed loop they were all sent at the same time.
        let sent_nanos = waiting.front().map_or(now, |request| request.due_nanos);
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
            connection.replies.feed(&self.buffer[..count], &self.workload, done)?;
            // A short read means that no more was there, unless the end of it came in the same event.
            if count < self.buffer.len() && !is_closed {
                break;
            }
        }
        let (after, limit) = (self.connections[slot].replies.waiting.len(), phase.free_below());
        let completed = (before - after) as u64;
        phase.replies += completed;
        if !is_open && completed > 0 {
            phase.latency.0.saturating_record_n(now - sent_nanos, completed);
        }
        if before >= limit && after < limit {
            self.ready.push_back(slot);
        }
        Ok(())
    }

    fn timeout(&self, phase: &Phase, now: u64) -> Duration {
        let due_nanos = phase.due_nanos().filter(|_| !phase.is_over(now) && phase.left() > 0 && !self.ready.is_empty());
        due_nanos.map_or(TICK, |due| TICK.min(Duration::from_nanos(due.saturating_sub(now + SPIN_NANOS))))
    }

    fn broken(&self, slot: usize, reason: &str) -> String {
        let waiting = self.connections[slot].replies.waiting.len();
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
                let stream = TcpStream::connect((options.host.as_str(), options.port))?;
                stream.set_nodelay(true)?;
                stream.into()
            }
        };
        socket.set_nonblocking(true)?;
        poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Connection { socket, replies: Replies::default(), output: Output::default(), watches_output: false })
    }
}

/// What to say of replies that have not come in this time.
fn silence(more: u64, nanos: u64) -> String {
    format!("expected {more} more replies, got none for {} s", nanos / SECOND)
}
