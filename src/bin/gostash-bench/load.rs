//! The load itself: connections, who sends what when, and what came of it. Closed loop keeps a number of requests under
//! way on each connection; open loop sends when a request is due, however late the replies are, and counts latency
//! from that moment, so that a stall is seen by every request it delays. It knows no report.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::{Events, Interest, Poll, Token};

use crate::options::Options;
use crate::output::Output;
use crate::process::{Process, Usage};
use crate::progress::Progress;
use crate::protocol::{FIRST_NUMBER, Operation, Outcome, Protocol};
use crate::replies::{Replies, Wrong, name};
use crate::socket::Socket;
use crate::workload::{Expected, Mode, Request, Workload};

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

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
    /// The system or the server ended it.
    Io(String),
    /// A reply is not what it must be.
    Wrong(Wrong),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Io(text) | Failure::Wrong(text) => f.write_str(text),
        }
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Failure::Wrong(wrong)
    }
}

/// What was counted in one run.
pub struct Tally {
    /// Replies that came.
    pub replies: u64,
    /// How long each took, in nanoseconds.
    pub latency: Histogram<u64>,
    /// Keys asked for and not there.
    pub misses: u64,
    /// Hits among GETs.
    pub hits: u64,
    /// What the server would not do.
    pub refused: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

impl Tally {
    fn new() -> Self {
        // Three digits from 100 ns to an hour; the bounds are right, so this cannot fail.
        let latency = Histogram::new_with_bounds(100, 3_600 * SECOND, 3).expect("bounds of a histogram");
        Tally { replies: 0, latency, misses: 0, hits: 0, refused: 0, sent_bytes: 0, received_bytes: 0 }
    }
}

/// One run's result.
pub struct Row {
    /// Requests under way on each connection.
    pub depth: usize,
    /// What was counted.
    pub tally: Tally,
    /// How long it was counted, in seconds.
    pub seconds: f64,
    /// The server's figures before and after.
    pub server: Option<(Usage, Usage)>,
    /// Our own.
    pub client: Option<(Usage, Usage)>,
    /// Requests that were due and have no reply.
    pub unanswered: u64,
    /// Whether Ctrl-C ended it.
    pub interrupted: bool,
}

/// Connections to one server, and the work they do.
pub struct Load<'a> {
    options: &'a Options,
    workload: Workload,
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
    progress: Progress,
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

/// What is to be sent.
struct Work {
    /// Keys to be set one after the other, from this one on; or else requests as the options say.
    preload: Option<u32>,
    /// How many more requests.
    left: u64,
    /// Requests under way on a connection at most.
    depth: usize,
    /// In open loop, when each is due.
    pace: Option<Pace>,
}

struct Pace {
    start_nanos: u64,
    rate: f64,
    issued: u64,
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

/// When to stop.
struct Until {
    /// At this time.
    nanos: u64,
    /// At so many replies.
    replies: u64,
}

impl<'a> Load<'a> {
    /// Connects all clients.
    ///
    /// # Errors
    /// When one of them cannot connect.
    pub fn new(options: &'a Options, interrupted: &'a AtomicBool) -> Result<Self, Failure> {
        let workload = Workload::new(options);
        let count = options.clients + options.idle_clients;
        raise_descriptor_limit(count);
        let poll = Poll::new().map_err(|error| Failure::Io(format!("poll: {error}")))?;
        let mut connections = Vec::with_capacity(count);
        for slot in 0..count {
            let connected = Socket::connect(options).and_then(|mut socket| {
                poll.registry().register(socket.source(), Token(slot), Interest::READABLE)?;
                Ok(socket)
            });
            let socket = connected.map_err(|error| {
                Failure::Io(format!(
                    "{}: expected a server for connection {} of {count}, got: {error}",
                    options.target(),
                    slot + 1
                ))
            })?;
            connections.push(Connection::new(socket));
        }
        let load = Load {
            options,
            model: options.verify.then(|| Model::new(options)),
            workload,
            poll,
            connections,
            ready: VecDeque::with_capacity(count),
            under_way: 0,
            buffer: vec![0; READ_BYTES],
            origin: Instant::now(),
            interrupted,
            progress: Progress::new(),
        };
        Ok(load)
    }

    /// Sets every key once, over all connections; the idle ones have worked then.
    pub fn preload(&mut self) -> Result<(), Failure> {
        let count = self.connections.len();
        let keys = match self.options.protocol {
            // Nothing is kept, but each connection should have worked.
            Protocol::Echo => self.options.keys.min(count as u32),
            _ => self.options.keys,
        };
        let keys = u64::from(keys);
        let request_bytes = self.options.value_size.high + self.options.key_size.high;
        let each = keys.div_ceil(count as u64) as usize;
        let depth = PRELOAD_DEPTH.min(PRELOAD_BYTES / request_bytes.max(1)).min(each).max(1);
        let mut work = Work { preload: Some(0), left: keys, depth, pace: None };
        let mut tally = Tally::new();
        self.make_ready(count);
        self.drive("preload", &mut work, &Until { nanos: NEVER, replies: keys }, &mut tally)?;
        if tally.refused > 0 {
            return Err(Failure::Io(format!(
                "preload: expected the server to take {keys} keys, but it refused {}",
                tally.refused
            )));
        }
        Ok(())
    }

    /// Warms up, measures, and waits for what is under way.
    pub fn run(&mut self, depth: usize, server: Option<Process>) -> Result<Row, Failure> {
        let options = self.options;
        let pace = |now| options.rate.map(|rate| Pace { start_nanos: now, rate, issued: 0 });
        self.make_ready(options.clients);
        for connection in &mut self.connections {
            // What it set last in the preload is not its own to delete.
            connection.last = None;
        }
        let now = self.now();
        let mut work = Work { preload: None, left: u64::MAX, depth, pace: pace(now) };
        let warm = Until { nanos: now + nanos(options.warmup), replies: u64::MAX };
        self.drive("warm-up", &mut work, &warm, &mut Tally::new())?;

        let mut tally = Tally::new();
        let under_way = self.under_way;
        let now = self.now();
        work.pace = pace(now);
        // In open loop a measurement is over when all that was due in it is answered, lest the last stall go unseen.
        let wanted = options.requests.or(options.rate.map(|rate| (rate * options.duration.as_secs_f64()) as u64));
        work.left = wanted.map_or(u64::MAX, |count| count.saturating_sub(under_way));
        let until = Until {
            nanos: match (options.requests, options.rate) {
                (Some(_), _) => NEVER,
                (None, Some(_)) => now + 2 * nanos(options.duration) + 10 * SECOND,
                (None, None) => now + nanos(options.duration),
            },
            replies: wanted.map_or(u64::MAX, |count| count.max(1)),
        };
        let used = || (Process::own().usage(), server.and_then(Process::usage));
        let before = used();
        self.drive("measuring", &mut work, &until, &mut tally)?;
        let (end, after) = (self.now(), used());
        let elapsed = (end - now).max(1) as f64;
        let late = work.pace.as_ref().map_or(0, |pace| pace.backlog(end).min(work.left));
        let unanswered = if options.rate.is_some() { self.under_way + late } else { 0 };

        work.left = 0;
        let drained = Until { nanos: end + DRAIN_NANOS, replies: self.under_way };
        self.drive("", &mut work, &drained, &mut Tally::new())?;
        Ok(Row {
            depth,
            tally,
            seconds: elapsed / SECOND as f64,
            server: before.1.zip(after.1),
            client: before.0.zip(after.0),
            unanswered,
            interrupted: self.is_interrupted(),
        })
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn drive(&mut self, what: &str, work: &mut Work, until: &Until, tally: &mut Tally) -> Result<(), Failure> {
        let mut events = Events::with_capacity(1024);
        let mut now = self.now();
        let (start, mut last_reply) = (now, now);
        while tally.replies < until.replies && now < until.nanos && !self.is_interrupted() {
            self.issue(work, now, tally)?;
            let timeout = self.timeout(work, until, now);
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(|error| Failure::Io(format!("poll: {error}")))?,
            }
            // All that is ready is read before anything is sent: it costs less, and the server sees its clients at once.
            let replies = tally.replies;
            for event in &events {
                let slot = event.token().0;
                if event.is_writable() {
                    self.flush(slot, tally)?;
                }
                if event.is_readable() {
                    self.receive(slot, event.is_read_closed(), work, tally)?;
                }
            }
            now = self.now();
            if tally.replies > replies || self.under_way == 0 {
                last_reply = now;
            } else if until.nanos == NEVER && now - last_reply > SILENCE_NANOS {
                return Err(Failure::Io(format!(
                    "expected {} more replies, got none for {} s",
                    self.under_way,
                    SILENCE_NANOS / SECOND
                )));
            }
            self.progress.show(what, now - start, tally.replies);
        }
        self.progress.clear();
        Ok(())
    }

    /// Gives requests to the connections that may have some.
    fn issue(&mut self, work: &mut Work, now: u64, tally: &mut Tally) -> Result<(), Failure> {
        while work.left > 0
            && let Some(&slot) = self.ready.front()
        {
            let mut count = work.depth - self.connections[slot].replies.under_way();
            if let Some(pace) = &work.pace {
                let backlog = pace.backlog(now) as usize;
                if backlog == 0 {
                    break;
                }
                count = count.min(backlog.div_ceil(self.ready.len()));
            }
            let count = work.left.min(count as u64);
            work.left -= count;
            self.ready.pop_front();
            self.connections[slot].is_ready = false;
            self.send(slot, count, work);
            self.flush(slot, tally)?;
            if work.pace.is_some() {
                self.make_ready_if_free(slot, work);
            }
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, count: u64, work: &mut Work) {
        let now = self.now();
        let connection = &mut self.connections[slot];
        connection.sent_nanos = now;
        self.under_way += count;
        for _ in 0..count {
            let (operation, id) = match &mut work.preload {
                Some(id) => {
                    *id += 1;
                    (self.workload.first(), *id - 1)
                }
                None => self.workload.next(slot, connection.last),
            };
            let mut due_nanos = now;
            if let Some(pace) = &mut work.pace {
                due_nanos = pace.due_nanos();
                pace.issued += 1;
            }
            let Expected { body_bytes, reply_bytes } = self.workload.write(operation, id, &mut connection.output);
            connection.last = Some((operation, id));
            let known = self.model.as_mut().map_or(0, |model| model.send(operation, id));
            connection.replies.expect(Request { operation, id, body_bytes, known, due_nanos }, reply_bytes);
        }
    }

    fn flush(&mut self, slot: usize, tally: &mut Tally) -> Result<(), Failure> {
        let connection = &mut self.connections[slot];
        let flushed = connection.output.flush(&mut connection.socket, self.workload.shared()).and_then(|count| {
            tally.sent_bytes += count as u64;
            // A Unix socket reports writability after each read of its peer, so it is asked for only while needed.
            if connection.output.is_empty() == connection.watches_output {
                connection.watches_output = !connection.watches_output;
                let both = Interest::READABLE | Interest::WRITABLE;
                let interest = if connection.watches_output { both } else { Interest::READABLE };
                self.poll.registry().reregister(connection.socket.source(), Token(slot), interest)?;
            }
            Ok(())
        });
        flushed.map_err(|error| self.broken(slot, &error.to_string()))
    }

    fn receive(&mut self, slot: usize, is_closed: bool, work: &Work, tally: &mut Tally) -> Result<(), Failure> {
        let now = self.now();
        loop {
            let connection = &mut self.connections[slot];
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(None) => break,
                Ok(Some(0)) => return Err(self.broken(slot, "the server closed it")),
                Ok(Some(count)) => count,
                Err(error) => return Err(self.broken(slot, &error.to_string())),
            };
            tally.received_bytes += count as u64;
            let before = connection.replies.under_way();
            let (workload, model) = (&self.workload, &mut self.model);
            let is_open = work.pace.is_some();
            connection.replies.feed(
                &self.buffer[..count],
                workload,
                self.options.verify,
                |request: &Request, outcome| {
                    if is_open {
                        tally.latency.saturating_record(now.saturating_sub(request.due_nanos));
                    }
                    match outcome {
                        Outcome::Done if request.operation == Operation::Get => tally.hits += 1,
                        Outcome::Done | Outcome::Number(_) => {}
                        Outcome::Miss => tally.misses += 1,
                        Outcome::Refused => tally.refused += 1,
                    }
                    model.as_mut().map_or(Ok(()), |model| model.check(request, outcome, workload))
                },
            )?;
            let completed = (before - connection.replies.under_way()) as u64;
            tally.replies += completed;
            self.under_way -= completed;
            if !is_open {
                tally.latency.saturating_record_n(now - connection.sent_nanos, completed);
            }
            // A short read means that no more was there, unless the end of it came in the same event.
            if count < self.buffer.len() && !is_closed {
                break;
            }
        }
        self.make_ready_if_free(slot, work);
        Ok(())
    }

    fn make_ready(&mut self, count: usize) {
        self.ready.clear();
        self.ready.extend(0..count);
        for (slot, connection) in self.connections.iter_mut().enumerate() {
            connection.is_ready = slot < count;
        }
    }

    /// In closed loop a connection sends again when all it sent is answered, as pipelines of real clients do.
    fn make_ready_if_free(&mut self, slot: usize, work: &Work) {
        let connection = &mut self.connections[slot];
        let limit = if work.pace.is_some() { work.depth } else { 1 };
        if !connection.is_ready && connection.replies.under_way() < limit {
            connection.is_ready = true;
            self.ready.push_back(slot);
        }
    }

    fn timeout(&self, work: &Work, until: &Until, now: u64) -> Duration {
        let mut left = until.nanos - now;
        if let Some(pace) = &work.pace
            && work.left > 0
            && !self.ready.is_empty()
        {
            let wait = pace.due_nanos().saturating_sub(now);
            left = left.min(wait.saturating_sub(SPIN_NANOS));
        }
        TICK.min(Duration::from_nanos(left))
    }

    fn broken(&self, slot: usize, reason: &str) -> Failure {
        let waiting = self.connections[slot].replies.under_way();
        Failure::Io(format!(
            "{}: connection {} broke with {waiting} requests unanswered: {reason}",
            self.options.target(),
            slot + 1
        ))
    }

    /// Nanoseconds since the connections were made.
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }
}

impl Connection {
    fn new(socket: Socket) -> Self {
        Connection {
            socket,
            replies: Replies::default(),
            output: Output::default(),
            last: None,
            sent_nanos: 0,
            is_ready: false,
            watches_output: false,
        }
    }
}

/// What the server must know, as far as several clients at once can tell: a key whose SET was answered is there, and a
/// number lies between what was answered before it was asked for and what was ever sent.
struct Model {
    present: Vec<bool>,
    sent: Vec<u32>,
    answered: Vec<u32>,
}

impl Model {
    fn new(options: &Options) -> Self {
        let keys = options.keys as usize;
        let numbers = if matches!(options.mode, Mode::Inc | Mode::Dec) { keys } else { 0 };
        Model { present: vec![false; keys], sent: vec![0; numbers], answered: vec![0; numbers] }
    }

    /// What is known when a request is sent.
    fn send(&mut self, operation: Operation, id: u32) -> u32 {
        let id = id as usize;
        match operation {
            Operation::Get => u32::from(self.present[id]),
            Operation::Inc | Operation::Dec => {
                self.sent[id] += 1;
                self.answered[id]
            }
            Operation::Set | Operation::SetNumber | Operation::Del => 0,
        }
    }

    fn check(&mut self, request: &Request, outcome: Outcome, workload: &Workload) -> Result<(), Wrong> {
        let id = request.id as usize;
        let expected = match (request.operation, outcome) {
            (Operation::Get, Outcome::Miss) if request.known == 0 => return Ok(()),
            (Operation::Get, Outcome::Miss) => "the value that was set".to_string(),
            (Operation::Set | Operation::SetNumber, Outcome::Done) => {
                self.present[id] = true;
                return Ok(());
            }
            (Operation::Inc | Operation::Dec, Outcome::Number(number)) => {
                self.answered[id] += 1;
                let sign = if request.operation == Operation::Inc { 1 } else { -1 };
                let steps = (number - FIRST_NUMBER) * sign;
                let (least, most) = (i64::from(request.known) + 1, i64::from(self.sent[id]));
                if (least..=most).contains(&steps) {
                    return Ok(());
                }
                format!("{} to {}", FIRST_NUMBER + sign * least, FIRST_NUMBER + sign * most)
            }
            (_, Outcome::Done) => return Ok(()),
            _ => "that it is done".to_string(),
        };
        let got = match outcome {
            Outcome::Done => "that it is done".to_string(),
            Outcome::Miss => "that the key is missing".to_string(),
            Outcome::Refused => "a refusal".to_string(),
            Outcome::Number(number) => number.to_string(),
        };
        Err(format!("wrong reply to {}: expected {expected}, got {got}", name(request, workload)))
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// Each client needs a descriptor; where the limit cannot be raised that far, connecting will say so.
fn raise_descriptor_limit(count: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = count as u64 + 64;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum });
    }
}
