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

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;

use crate::draws::Draws;
use crate::options::Options;
use crate::output::Output;
use crate::process::{self, Usage};
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

const SECOND: u64 = 1_000_000_000;
const NEVER: u64 = u64::MAX;

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
}

struct Connection {
    socket: Socket,
    replies: Replies,
    output: Output,
    /// The last request sent.
    last: Option<(Operation, u32)>,
    /// When its requests were sent, in closed loop.
    sent_nanos: u64,
    is_ready: bool,
    watches_output: bool,
}

/// Work of one kind, and what came of it.
pub struct Phase {
    name: &'static str,
    pub source: Source,
    /// How many more requests are to be sent.
    left: u64,
    /// Requests under way on a connection at most.
    depth: usize,
    /// In open loop, when each is due.
    pace: Option<Pace>,
    end_nanos: u64,
    pub tally: Tally,
}

/// Where requests come from.
pub enum Source {
    /// All keys are set, one after the other, from this one on.
    Keys(u32),
    /// Drawn as the options say.
    Draws,
    Trace(Trace),
}

struct Pace {
    start_nanos: u64,
    rate: f64,
    issued: u64,
}

/// What was counted in a phase.
pub struct Tally {
    pub replies: u64,
    /// How long each reply took, in nanoseconds.
    pub latency: Histogram<u64>,
    pub misses: u64,
    /// Hits among GETs.
    pub hits: u64,
    pub refused: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// One measurement's result.
pub struct Row {
    pub depth: usize,
    pub tally: Tally,
    pub seconds: f64,
    /// What the server used.
    pub server: Option<Usage>,
    /// What we used.
    pub client: Option<Usage>,
    /// Requests that were due and have no reply.
    pub unanswered: u64,
    pub interrupted: bool,
}

impl Pace {
    fn due_nanos(&self) -> u64 {
        self.start_nanos + (self.issued as f64 * SECOND as f64 / self.rate) as u64
    }

    /// How many are due and not issued.
    fn backlog(&self, now: u64) -> u64 {
        let due = now.saturating_sub(self.start_nanos) as f64 * self.rate / SECOND as f64;
        (due as u64 + 1).saturating_sub(self.issued)
    }
}

impl Phase {
    /// As many requests as are to be had, for as long as they take.
    pub fn new(name: &'static str, source: Source, depth: usize) -> Self {
        // Three digits from 100 ns to an hour; the bounds are right, so this cannot fail.
        let latency = Histogram::new_with_bounds(100, 3_600 * SECOND, 3).expect("bounds of a histogram");
        let tally = Tally { replies: 0, latency, misses: 0, hits: 0, refused: 0, sent_bytes: 0, received_bytes: 0 };
        Phase { name, source, left: u64::MAX, depth, pace: None, end_nanos: NEVER, tally }
    }
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
            model: options.verify.then(|| Model::new(options)),
            poll,
            connections,
            ready: VecDeque::with_capacity(count),
            under_way: 0,
            buffer: vec![0; READ_BYTES],
            origin: Instant::now(),
            interrupted,
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
        let mut phase = Phase { left: keys.into(), ..Phase::new("preload", Source::Keys(0), depth) };
        self.drive(count, &mut phase)?;
        match phase.tally.refused {
            0 => Ok(()),
            refused => Err(format!("preload: expected the server to take {keys} keys, but it refused {refused}")),
        }
    }

    /// Replays a trace, of which nobody knows what the server has kept.
    pub fn replay(&mut self, trace: Trace) -> Result<(Phase, f64), String> {
        self.model = None;
        let start = self.now();
        let mut phase = Phase::new("replay", Source::Trace(trace), self.options.depths[0]);
        self.drive(1, &mut phase)?;
        Ok((phase, (self.now() - start) as f64 / SECOND as f64))
    }

    /// Warms up, measures, and waits for what is under way.
    pub fn run(&mut self, depth: usize, server: Option<u32>) -> Result<Row, String> {
        let options = self.options;
        let pace = |now| options.rate.map(|rate| Pace { start_nanos: now, rate, issued: 0 });
        let now = self.now();
        let mut warm_up = Phase::new("warm-up", Source::Draws, depth);
        (warm_up.pace, warm_up.end_nanos) = (pace(now), now + nanos(options.warmup));
        self.drive(options.clients, &mut warm_up)?;
        self.drain()?;

        let now = self.now();
        let mut phase = Phase { pace: pace(now), ..Phase::new("measuring", Source::Draws, depth) };
        // In open loop a measurement is over when all that was due in it is answered, lest the last stall go unseen.
        let due = options.rate.map(|rate| (rate * options.duration.as_secs_f64()) as u64);
        phase.left = options.requests.or(due).map_or(u64::MAX, |count| count.max(1));
        phase.end_nanos = match (options.requests, options.rate) {
            (Some(_), _) => NEVER,
            (None, Some(_)) => now + 2 * nanos(options.duration) + 10 * SECOND,
            (None, None) => now + nanos(options.duration),
        };
        let usage = || [server, Some(std::process::id())].map(|process| process.and_then(process::usage));
        let before = usage();
        self.drive(options.clients, &mut phase)?;
        let (end, after) = (self.now(), usage());
        let [server, client] = [0, 1].map(|place| Some(after[place]?.since(before[place]?)));
        let late = phase.pace.as_ref().map_or(0, |pace| self.under_way + pace.backlog(end).min(phase.left));
        self.drain()?;
        Ok(Row {
            depth,
            tally: phase.tally,
            seconds: (end - now).max(1) as f64 / SECOND as f64,
            server,
            client,
            unanswered: late,
            interrupted: self.is_interrupted(),
        })
    }

    /// Waits for what is under way.
    fn drain(&mut self) -> Result<(), String> {
        let end_nanos = self.now() + DRAIN_NANOS;
        self.drive(0, &mut Phase { left: 0, end_nanos, ..Phase::new("", Source::Draws, 0) })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Has the first `clients` do the work of a phase, until all of it is done or its time is over.
    fn drive(&mut self, clients: usize, phase: &mut Phase) -> Result<(), String> {
        self.ready = (0..clients).collect();
        for (slot, connection) in self.connections.iter_mut().enumerate() {
            connection.is_ready = slot < clients;
            // What it set in an earlier phase is not its own to delete.
            connection.last = None;
        }
        let mut progress = Progress::new();
        let mut events = Events::with_capacity(1024);
        let mut now = self.now();
        let (start, mut last_reply) = (now, now);
        while now < phase.end_nanos && !self.is_interrupted() {
            self.issue(phase, now)?;
            if phase.left == 0 && self.under_way == 0 {
                break;
            }
            match self.poll.poll(&mut events, Some(self.timeout(phase, now))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other.map_err(|error| format!("poll: {error}"))?,
            }
            // All that is ready is read before anything is sent: it costs less, and the server sees its clients at once.
            let replies = phase.tally.replies;
            for event in &events {
                let slot = event.token().0;
                if event.is_writable() {
                    self.flush(slot, phase)?;
                }
                if event.is_readable() {
                    self.receive(slot, event.is_read_closed(), phase)?;
                }
            }
            now = self.now();
            if phase.tally.replies > replies || self.under_way == 0 {
                last_reply = now;
            } else if phase.end_nanos == NEVER && now - last_reply > SILENCE_NANOS {
                let (more, seconds) = (self.under_way, SILENCE_NANOS / SECOND);
                return Err(format!("expected {more} more replies, got none for {seconds} s"));
            }
            progress.show(phase.name, now - start, phase.tally.replies);
        }
        Ok(())
    }

    /// Gives requests to the connections that may have some.
    fn issue(&mut self, phase: &mut Phase, now: u64) -> Result<(), String> {
        while phase.left > 0
            && let Some(&slot) = self.ready.front()
        {
            let mut count = phase.depth.saturating_sub(self.connections[slot].replies.under_way());
            if let Some(pace) = &phase.pace {
                let backlog = pace.backlog(now) as usize;
                if backlog == 0 {
                    break;
                }
                count = count.min(backlog.div_ceil(self.ready.len()));
            }
            self.ready.pop_front();
            self.connections[slot].is_ready = false;
            self.send(slot, phase.left.min(count as u64), phase);
            self.flush(slot, phase)?;
            if phase.pace.is_some() {
                self.make_ready_if_free(slot, phase);
            }
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, count: u64, phase: &mut Phase) {
        let now = self.now();
        let connection = &mut self.connections[slot];
        let workload = &self.workload;
        connection.sent_nanos = now;
        let before = connection.replies.under_way();
        for _ in 0..count {
            let (operation, id, value_bytes) = match &mut phase.source {
                Source::Draws => {
                    let (operation, id) = self.draws.next(slot, connection.last);
                    (operation, id, workload.value_bytes(id))
                }
                Source::Keys(next) => {
                    let id = *next;
                    *next += 1;
                    (Operation::Set, id, workload.value_bytes(id))
                }
                Source::Trace(trace) => {
                    let begins_window = connection.replies.under_way() == 0;
                    let Some(next) = trace.next(begins_window) else {
                        // A trace that has nothing to begin with is over.
                        phase.left = if begins_window { 0 } else { phase.left };
                        break;
                    };
                    next
                }
            };
            let mut due_nanos = now;
            if let Some(pace) = &mut phase.pace {
                due_nanos = pace.due_nanos();
                pace.issued += 1;
            }
            let reply_bytes = workload.write(operation, id, value_bytes, &mut connection.output);
            connection.last = Some((operation, id));
            let known = self.model.as_mut().map_or(0, |model| model.send(operation, id));
            connection.replies.expect(Request { operation, id, value_bytes, known, due_nanos }, reply_bytes);
        }
        let sent = (connection.replies.under_way() - before) as u64;
        self.under_way += sent;
        phase.left -= sent;
    }

    fn flush(&mut self, slot: usize, phase: &mut Phase) -> Result<(), String> {
        let connection = &mut self.connections[slot];
        let flushed = connection.output.flush(&mut connection.socket, &self.workload.shared).and_then(|count| {
            phase.tally.sent_bytes += count as u64;
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
        loop {
            let connection = &mut self.connections[slot];
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => return Err(self.broken(slot, "the server closed it")),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(self.broken(slot, &error.to_string())),
            };
            let (workload, model) = (&self.workload, &mut self.model);
            let Phase { tally, source, pace, .. } = phase;
            let is_open = pace.is_some();
            let mut trace = if let Source::Trace(trace) = source { Some(trace) } else { None };
            tally.received_bytes += count as u64;
            let before = connection.replies.under_way();
            let done = |request: &Request, outcome| {
                if is_open {
                    tally.latency.saturating_record(now.saturating_sub(request.due_nanos));
                }
                match outcome {
                    Outcome::Done if request.operation == Operation::Get => tally.hits += 1,
                    Outcome::Done | Outcome::Number(_) => {}
                    Outcome::Miss => tally.misses += 1,
                    Outcome::Refused => tally.refused += 1,
                }
                if let Some(trace) = &mut trace {
                    trace.note(request, outcome);
                }
                if let Some(model) = model {
                    model.check(request, outcome, workload);
                }
            };
            let fed = connection.replies.feed(&self.buffer[..count], workload, self.options.verify, done);
            self.model.as_mut().and_then(|model| model.wrong.take()).map_or(fed, Err)?;
            let completed = (before - connection.replies.under_way()) as u64;
            tally.replies += completed;
            self.under_way -= completed;
            if !is_open && completed > 0 {
                tally.latency.saturating_record_n(now - connection.sent_nanos, completed);
            }
            // A short read means that no more was there, unless the end of it came in the same event.
            if count < self.buffer.len() && !is_closed {
                break;
            }
        }
        self.make_ready_if_free(slot, phase);
        Ok(())
    }

    /// In closed loop a connection sends again when all it sent is answered, as pipelines of real clients do.
    fn make_ready_if_free(&mut self, slot: usize, phase: &Phase) {
        let connection = &mut self.connections[slot];
        let limit = if phase.pace.is_some() { phase.depth } else { 1 };
        if !connection.is_ready && connection.replies.under_way() < limit {
            connection.is_ready = true;
            self.ready.push_back(slot);
        }
    }

    fn timeout(&self, phase: &Phase, now: u64) -> Duration {
        let mut left = phase.end_nanos - now;
        if let Some(pace) = &phase.pace
            && phase.left > 0
            && !self.ready.is_empty()
        {
            left = left.min(pace.due_nanos().saturating_sub(now).saturating_sub(SPIN_NANOS));
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
            is_ready: false,
            watches_output: false,
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}
