//! Work of one kind: what is to be done in which time, what was counted while it was done, and the figures that follow
//! from that. It knows neither how it is done nor how it is shown.

use hdrhistogram::Histogram;

use crate::model::Model;
use crate::process::Usage;
use crate::protocol::{Operation, Outcome};
use crate::replay::Trace;
use crate::workload::Request;

pub const SECOND: u64 = 1_000_000_000;

/// Work of one kind, and what came of it.
#[derive(Default)]
pub struct Phase {
    pub name: &'static str,
    pub source: Source,
    /// With `--verify`: what is known of the keys.
    pub model: Option<Model>,
    /// How many requests a connection has under way at most.
    pub depth: usize,
    /// In open loop, how many requests are due each second.
    pub rate: Option<f64>,
    /// How many requests are sent at most.
    pub requests_max: Option<u64>,
    /// How long it sends at most.
    pub nanos_max: Option<u64>,
    pub sent: u64,
    pub replies: u64,
    pub latency: Latency,
    pub misses: u64,
    /// Hits among GETs.
    pub hits: u64,
    pub refused: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    pub seconds: f64,
    /// What the server used, and what we did.
    pub server: Option<Usage>,
    pub client: Option<Usage>,
    /// Requests that were due and have no reply.
    pub unanswered: u64,
    pub interrupted: bool,
}

/// Where requests come from.
#[derive(Default)]
pub enum Source {
    /// Drawn as the options say.
    #[default]
    Draws,
    /// All keys are set, one after the other.
    Keys,
    Trace(Box<Trace>),
}

/// How long each reply took, in nanoseconds.
pub struct Latency(pub Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // Three digits from 100 ns to an hour; the bounds are right, so this cannot fail.
        Latency(Histogram::new_with_bounds(100, 3_600 * SECOND, 3).expect("bounds of a histogram"))
    }
}

impl Phase {
    /// How many more are to be sent.
    pub fn left(&self) -> u64 {
        match &self.source {
            Source::Trace(trace) => trace.left(),
            _ => self.requests_max.map_or(u64::MAX, |most| most - self.sent),
        }
    }

    /// A connection with fewer requests under way than this may be given some. In closed loop it sends again when all
    /// it sent is answered, as pipelines of real clients do.
    pub fn free_below(&self) -> usize {
        if self.rate.is_some() { self.depth } else { 1 }
    }

    /// When the next request is due, in open loop.
    pub fn due_nanos(&self) -> Option<u64> {
        self.rate.map(|rate| (self.sent as f64 * SECOND as f64 / rate) as u64)
    }

    /// How many are due and not sent: all in closed loop.
    pub fn due(&self, now: u64) -> u64 {
        let due = |rate| (now as f64 * rate / SECOND as f64) as u64 + 1;
        self.rate.map_or(u64::MAX, |rate| due(rate).saturating_sub(self.sent)).min(self.left())
    }

    /// Counts a reply.
    ///
    /// # Errors
    /// With `--verify`, what it cannot have said.
    #[inline(always)]
    pub fn note(&mut self, request: &Request, outcome: Outcome, now: u64) -> Result<(), String> {
        self.replies += 1;
        // In closed loop all of a connection's are timed at once.
        if self.rate.is_some() {
            self.latency.0.saturating_record(now.saturating_sub(request.due_nanos));
        }
        match outcome {
            Outcome::Done if request.operation == Operation::Get => self.hits += 1,
            Outcome::Done | Outcome::Number(_) => {}
            Outcome::Miss => self.misses += 1,
            Outcome::Refused => self.refused += 1,
        }
        if let Source::Trace(trace) = &mut self.source {
            trace.note(request, outcome);
        }
        self.model.as_mut().map_or(Ok(()), |model| model.check(request, outcome))
    }

    /// How many are without a reply.
    pub fn under_way(&self) -> u64 {
        self.sent - self.replies
    }

    /// What this share of the replies took at most, in nanoseconds.
    pub fn latency(&self, share: f64) -> u64 {
        self.latency.0.value_at_quantile(share)
    }

    /// Those of a trace count, and not the SETs that its misses need.
    pub fn requests(&self) -> u64 {
        if let Source::Trace(trace) = &self.source { trace.requests as u64 } else { self.replies }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    /// A process's CPU time per request, in nanoseconds.
    pub fn cost(&self, used: Option<Usage>) -> Option<f64> {
        used.map(|used| used.cpu_nanos as f64 / self.requests().max(1) as f64)
    }

    /// The share of the time that a process computed.
    pub fn busy(&self, used: Option<Usage>) -> Option<f64> {
        used.map(|used| used.cpu_nanos as f64 / self.seconds / 1e9)
    }
}

pub fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
