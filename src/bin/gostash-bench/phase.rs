//! Work of one kind: what is to be done in which time, what was counted while it was done, and the figures that follow
//! from that. It knows neither how it is done nor how it is shown.

use hdrhistogram::Histogram;

use crate::process::Usage;
use crate::replay::Trace;

pub const SECOND: u64 = 1_000_000_000;

/// Work of one kind, and what came of it.
#[derive(Default)]
pub struct Phase {
    pub name: &'static str,
    pub source: Source,
    /// Requests under way on a connection at most.
    pub depth: usize,
    /// In open loop, how many requests are due each second.
    pub rate: Option<f64>,
    /// How many requests are sent at most.
    pub requests_max: Option<u64>,
    /// How long it lasts at most.
    pub nanos_max: Option<u64>,
    pub start_nanos: u64,
    /// How many requests were sent.
    pub sent: u64,
    pub replies: u64,
    pub latency: Latency,
    pub misses: u64,
    /// Hits among GETs.
    pub hits: u64,
    pub refused: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// How long it lasted.
    pub seconds: f64,
    /// What the server used.
    pub server: Option<Usage>,
    /// What we used.
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
        self.requests_max.map_or(u64::MAX, |most| most - self.sent)
    }

    /// A connection with fewer requests under way than this may be given some. In closed loop it sends again when all
    /// it sent is answered, as pipelines of real clients do.
    pub fn free_below(&self) -> usize {
        if self.rate.is_some() { self.depth } else { 1 }
    }

    /// When the next request is due at this rate.
    pub fn due_nanos(&self, rate: f64) -> u64 {
        self.start_nanos + (self.sent as f64 * SECOND as f64 / rate) as u64
    }

    /// How many are due at this rate and not sent.
    pub fn backlog(&self, rate: f64, now: u64) -> u64 {
        let due = (now - self.start_nanos) as f64 * rate / SECOND as f64;
        (due as u64 + 1).saturating_sub(self.sent)
    }

    /// How much time it has left.
    pub fn nanos_left(&self, now: u64) -> u64 {
        self.nanos_max.map_or(u64::MAX, |most| most.saturating_sub(now - self.start_nanos))
    }

    /// What shares of the replies took at most, in nanoseconds, with the names of those shares.
    pub fn latencies(&self) -> [(&'static str, u64); 6] {
        let shares = [
            ("latency_p50_ns", 0.5),
            ("latency_p90_ns", 0.9),
            ("latency_p99_ns", 0.99),
            ("latency_p99_9_ns", 0.999),
            ("latency_p99_99_ns", 0.9999),
            ("latency_max_ns", 1.0),
        ];
        shares.map(|(name, share)| (name, self.latency.0.value_at_quantile(share)))
    }

    /// Those of a trace count, and not the SETs that its misses need.
    pub fn requests(&self) -> u64 {
        if let Source::Trace(trace) = &self.source { trace.requests as u64 } else { self.replies }
    }

    /// Requests a second.
    pub fn rate(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    /// A process's CPU time per request in nanoseconds, and the share of the time that it computed.
    pub fn cost(&self, used: Option<Usage>) -> Option<(f64, f64)> {
        let nanos = used?.cpu_nanos as f64;
        Some((nanos / self.requests().max(1) as f64, nanos / self.seconds / 1e9))
    }
}

pub fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
