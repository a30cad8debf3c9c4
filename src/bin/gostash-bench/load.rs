//! The load itself: the connections, and when each of them sends. In closed loop a connection sends its next pipeline
//! when all replies to the last one are there. In open loop requests are due at a fixed rate, however late the replies
//! are, and latency counts from when a request was due: a stall shows in all that it delays (no coordinated omission).

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::SIGINT;

use crate::connection::Connection;
use crate::options::Options;
use crate::phase::{Figures, Phase, SECOND};
use crate::protocol::Operation;
use crate::replay::Trace;
use crate::workload::{Request, Workload};
use crate::{process, report};

/// How many bytes are read at once at most.
const READ_BYTES: usize = 256 * 1024;

/// How many requests of the preload a connection has in flight at most.
const PRELOAD_DEPTH: usize = 64;

/// A request that is due within this time is waited for without sleeping: the poll's timeout counts in milliseconds.
const SPIN_NANOS: u64 = 1_500_000;

/// The poll returns at least this often, to look at the clock and for Ctrl-C, and the progress line changes as often.
const TICK: Duration = Duration::from_millis(200);

/// A server that owes replies, and neither took nor sent a byte for so long, is taken for dead, and the phase ends.
const SILENCE_NANOS: u64 = 60 * SECOND;

/// When a phase's time is over, it waits for its last replies until no byte has moved for so long, a minute at most.
const DRAIN_NANOS: u64 = 5 * SECOND;

/// The connections to the server, and what they need to send and receive.
pub struct Load<'a, D> {
    options: &'a Options,
    workload: Workload<'a>,
    draw: D,
    /// With `--verify`, for INC and DEC: how often each key was written.
    writes: Vec<i64>,
    poll: Poll,
    connections: Vec<Connection>,
    /// Connections that may send more requests, each once.
    ready: VecDeque<usize>,
    buffer: Vec<u8>,
    /// When the phase began.
    start: Instant,
    /// Whether Ctrl-C was pressed.
    interrupted: Arc<AtomicBool>,
    /// The server's process id.
    server: Option<u32>,
}

impl<'a, D: FnMut(usize, &mut VecDeque<(Operation, u32)>) -> (Operation, u32)> Load<'a, D> {
    /// Connects all clients.
    pub fn new(options: &'a Options, draw: D) -> Result<Self, Box<dyn Error>> {
        let count = options.clients + options.idle_clients;
        // Each client needs a file descriptor. If there are too few all the same, connecting fails and says so.
        let limit = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        // While it connects Ctrl-C ends it, even where a shell has a background job ignore it; then a second one does.
        let interrupted = Arc::new(AtomicBool::new(true));
        let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&interrupted));
        let _ = signal_hook::flag::register(SIGINT, Arc::clone(&interrupted));
        let poll = Poll::new()?;
        let connections = (0..count).map(|slot| {
            Connection::new(options, poll.registry(), Token(slot)).map_err(|error| {
                format!("{}: expected a server for connection {} of {count}, got: {error}", options.target(), slot + 1)
            })
        });
        let connections = connections.collect::<Result<_, String>>()?;
        interrupted.store(false, Ordering::Relaxed);
        Ok(Load {
            options,
            workload: Workload::new(options),
            draw,
            writes: vec![0; if options.verify && options.counts() { options.keys as usize } else { 0 }],
            poll,
            connections,
            ready: VecDeque::new(),
            buffer: vec![0; READ_BYTES],
            start: Instant::now(),
            interrupted,
            // After connecting: a socket that is handed on at the first connection has its final owner only now.
            server: options.pid.or_else(|| process::find(options)),
        })
    }

    /// Sets every key once, over all connections, the idle ones included.
    pub fn preload(&mut self) -> Result<(), Box<dyn Error>> {
        let Options { keys, protocol, .. } = *self.options;
        let count = self.connections.len();
        // An echo keeps nothing, so it is enough that each connection has worked once.
        let requests_max = Some(u64::from(if protocol.name == "echo" { keys.min(count as u32) } else { keys }));
        let phase = Phase { name: "preload", is_preload: true, depth: PRELOAD_DEPTH, requests_max, ..Phase::default() };
        self.work(count, phase).map(|_| ())
    }

    /// Warms up and measures, perhaps by replaying a trace; `None` if it was interrupted before it measured anything.
    pub fn run(&mut self, depth: usize, trace: Option<Trace>) -> Result<Option<Figures>, Box<dyn Error>> {
        let Options { clients, rate, requests, duration, warmup, .. } = *self.options;
        let nanos = |seconds: f64| (seconds * SECOND as f64) as u64;
        let warm_up = Phase { name: "warm-up", depth, rate, nanos_max: Some(nanos(warmup)), ..Phase::default() };
        self.work(clients, warm_up)?;
        if self.is_interrupted() {
            return Ok(None);
        }
        // What is due in the duration is sent until patience ends, or a stall at the end of an open loop would not show.
        let requests_max = requests.or(rate.map(|rate| (rate * duration).ceil() as u64));
        let patience = rate.map_or(0.0, |_| duration + 10.0);
        let nanos_max = (requests.is_none() && trace.is_none()).then(|| nanos(duration + patience));
        let phase = Phase { name: "measuring", trace, depth, rate, requests_max, nanos_max, ..Phase::default() };
        self.work(clients, phase).map(Some)
    }

    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// Fails if the last phase has left requests without a reply, but not because it was interrupted.
    pub fn all_answered(&self) -> Result<(), String> {
        let waiting: usize = self.connections.iter().map(|connection| connection.waiting.len()).sum();
        let problem = format!("expected {waiting} more replies, got none in time");
        if waiting == 0 || self.is_interrupted() { Ok(()) } else { Err(problem) }
    }

    /// Runs a phase on the first `clients` connections: sends until all is sent or the time is over, then waits for the
    /// replies. What the server does not answer by then, or when it has fallen silent, stays unanswered.
    fn work(&mut self, clients: usize, mut phase: Phase) -> Result<Figures, Box<dyn Error>> {
        self.all_answered()?;
        self.ready = (0..clients).collect();
        let used = |(whose, pid): (_, Option<u32>)| Some((whose, pid?, process::usage(pid?)?[0]));
        let processes = [("server", self.server), ("client", Some(std::process::id()))].map(used);
        let mut events = Events::with_capacity(1024);
        self.start = Instant::now();
        let (mut now, mut last_moved, mut last_shown) = (0_u64, 0, 0);
        while !self.is_interrupted() && phase.nanos_max.is_none_or(|most| now.saturating_sub(most) < SILENCE_NANOS) {
            let is_over = phase.nanos_max.is_some_and(|most| now >= most);
            if !is_over {
                self.issue(&mut phase, now);
            }
            // In open loop the next request may only not be due yet.
            if phase.replies == phase.sent && (is_over || phase.unsent() == 0 || phase.rate.is_none()) {
                break;
            }
            let is_due = !is_over && phase.unsent() > 0 && !self.ready.is_empty();
            let due_nanos = phase.due_nanos().filter(|_| is_due).unwrap_or(u64::MAX);
            let timeout = TICK.min(Duration::from_nanos(due_nanos.saturating_sub(now + SPIN_NANOS)));
            // It fails only if a signal has interrupted it, and then there are no events.
            let _ = self.poll.poll(&mut events, Some(timeout));
            // All ready connections are read before anything is sent. That costs less, and the server finds more of its
            // clients ready at once.
            let moved = phase.sent_bytes + phase.received_bytes;
            for event in &events {
                if event.is_writable() {
                    let connection = &mut self.connections[event.token().0];
                    connection.flush(self.poll.registry(), event.token(), &mut phase);
                }
                if event.is_readable() {
                    self.receive(event.token().0, event.is_read_closed(), &mut phase)?;
                }
            }
            now = self.now();
            if phase.sent_bytes + phase.received_bytes > moved {
                last_moved = now;
            } else if now - last_moved > if is_over { DRAIN_NANOS } else { SILENCE_NANOS } {
                break;
            }
            if now - last_shown > TICK.as_nanos() as u64 {
                last_shown = now;
                let (name, seconds, replies) = (phase.name, now as f64 / SECOND as f64, phase.replies as f64);
                let (replies, rate) = (report::count(replies), report::count(replies / seconds));
                report::progress(&format!("  {name}: {seconds:.1} s, {replies} replies, {rate}/s"));
            }
        }
        report::progress("");
        let mut figures = phase.figures(now.max(1), &processes);
        figures.insert("interrupted".into(), f64::from(u8::from(self.is_interrupted())));
        Ok(figures)
    }

    /// Sends what is due on the connections that may send, each of which gets an equal share.
    fn issue(&mut self, phase: &mut Phase, now: u64) {
        while let due @ 1.. = phase.due(now)
            && let Some(slot) = self.ready.pop_front()
        {
            let share = due.div_ceil(1 + self.ready.len() as u64);
            let now = self.now();
            let connection = &mut self.connections[slot];
            for _ in 0..share.min((phase.depth - connection.waiting.len()) as u64) {
                let next = connection.follow_ups.pop_front().or_else(|| match &mut phase.trace {
                    Some(trace) => trace.next(),
                    None if phase.is_preload => Some((Operation::Set, phase.sent as u32)),
                    None => Some((self.draw)(slot, &mut connection.follow_ups)),
                });
                let Some((operation, id)) = next else { break };
                let value_bytes = match &phase.trace {
                    Some(trace) => trace.seen[&id],
                    // The length of the value does not follow from that of the key.
                    None => self.options.value_size.pick(!id),
                };
                let writes = self.writes.get_mut(id as usize).map_or(0, |count| std::mem::replace(count, *count + 1));
                let due_nanos = phase.due_nanos().unwrap_or(now);
                connection.push(Request { operation, id, value_bytes, writes, due_nanos }, &mut self.workload);
                phase.sent += 1;
            }
            connection.flush(self.poll.registry(), Token(slot), phase);
            if (1..phase.refill_below()).contains(&connection.waiting.len()) {
                self.ready.push_back(slot);
            }
        }
    }

    fn receive(&mut self, slot: usize, is_closed: bool, phase: &mut Phase) -> Result<(), String> {
        let connection = &mut self.connections[slot];
        let before = connection.waiting.len();
        loop {
            let read = match connection.socket.read(&mut self.buffer) {
                Ok(0) => Err(io::Error::other("the server closed it")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                other => other,
            };
            let count = read.map_err(|reason| {
                let (target, number, waiting) = (self.options.target(), slot + 1, connection.waiting.len());
                format!("{target}: connection {number} broke with {waiting} requests unanswered: {reason}")
            })?;
            phase.received_bytes += count as u64;
            // A long reply takes many reads. In closed loop all requests of a connection were sent at the same time, and
            // those that a read answers are recorded at once: one by one, it would take a fifth of the instructions.
            let (now, replies) = (self.start.elapsed().as_nanos() as u64, phase.replies);
            let sent = connection.waiting.front().map_or(now, |request| request.due_nanos);
            connection.feed(&self.buffer[..count], &mut self.workload, phase, now)?;
            if phase.rate.is_none() && phase.replies > replies {
                phase.latency.0.saturating_record_n(now - sent, phase.replies - replies);
            }
            // After a short read the socket is empty, unless the same event reported its end.
            if count < self.buffer.len() && !is_closed {
                break;
            }
        }
        let limit = phase.refill_below();
        if before >= limit && connection.waiting.len() < limit {
            self.ready.push_back(slot);
        }
        Ok(())
    }

    /// Nanoseconds since the phase began.
    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}
