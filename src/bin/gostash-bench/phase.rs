//! A phase of the run (preload, warm-up, measurement or replay): what is to be sent, what was counted, and the figures
//! that follow from it; and what replies have to be. It knows neither how requests are sent nor how figures are shown.

use hdrhistogram::Histogram;

use crate::options::Options;
use crate::process::Usage;
use crate::protocol::{Operation, Outcome};
use crate::replay::Trace;
use crate::workload::{FIRST_NUMBER, Request};

pub const SECOND: u64 = 1_000_000_000;

/// A phase's work and its counters.
#[derive(Default)]
pub struct Phase {
    pub name: &'static str,
    pub source: Source,
    /// With `--verify`: what is expected of the keys.
    pub model: Option<Model>,
    /// How many requests a connection has in flight at most.
    pub depth: usize,
    /// In open loop, how many requests are due each second; `None` is closed loop.
    pub rate: Option<f64>,
    pub requests_max: Option<u64>,
    /// How long requests are sent at most, in nanoseconds.
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
    /// What the processes of the server and of this program used.
    pub server: Option<Usage>,
    pub client: Option<Usage>,
    /// Requests that were due and have no reply.
    pub unanswered: u64,
    pub interrupted: bool,
}

/// Where requests come from.
#[derive(Default)]
pub enum Source {
    /// Random draws.
    #[default]
    Draws,
    /// A SET of every key, in order.
    Keys,
    Trace(Box<Trace>),
}

/// The latencies of all replies, in nanoseconds.
pub struct Latency(pub Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // Exact to three digits from 100 ns to an hour. These bounds are valid, so this cannot fail.
        Latency(Histogram::new_with_bounds(100, 3_600 * SECOND, 3).expect("bounds of a histogram"))
    }
}

impl Phase {
    /// How many requests are still to be sent.
    pub fn unsent(&self) -> u64 {
        self.requests_max.map_or(u64::MAX, |most| most - self.sent)
    }

    /// A connection with fewer requests in flight than this may send more. In closed loop it sends the next pipeline
    /// when the last one is answered completely, as real clients do.
    pub fn refill_below(&self) -> usize {
        if self.rate.is_some() { self.depth } else { 1 }
    }

    /// When the next request is due, in open loop, in nanoseconds since the phase began.
    pub fn due_nanos(&self) -> Option<u64> {
        self.rate.map(|rate| (self.sent as f64 * SECOND as f64 / rate) as u64)
    }

    /// How many requests are due and not sent. In closed loop all are due at once.
    pub fn due(&self, now: u64) -> u64 {
        let due = |rate| (now as f64 * rate / SECOND as f64) as u64 + 1;
        self.rate.map_or(u64::MAX, |rate| due(rate).saturating_sub(self.sent)).min(self.unsent())
    }

    /// Counts a reply. With `--verify`, fails for one that cannot be right.
    #[inline(always)]
    pub fn note(&mut self, request: &Request, outcome: Outcome, now: u64) -> Result<(), String> {
        self.replies += 1;
        // In closed loop the latencies of all replies of a read are recorded at once.
        if self.rate.is_some() {
            self.latency.0.saturating_record(now.saturating_sub(request.due_nanos));
        }
        match outcome {
            Outcome::Done if request.operation == Operation::Get => self.hits += 1,
            Outcome::Done | Outcome::Number(_) => {}
            Outcome::Miss => self.misses += 1,
            Outcome::Refused => self.refused += 1,
        }
        if let Source::Trace(trace) = &mut self.source
            && trace.note(request, outcome)
        {
            self.requests_max = self.requests_max.map(|most| most + 1);
        }
        self.model.as_mut().map_or(Ok(()), |model| model.check(request, outcome))
    }

    /// How many requests were sent and have no reply.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.replies
    }

    /// Finished requests. In a replay those of the trace count, and not the SETs after its misses.
    pub fn requests(&self) -> u64 {
        if let Source::Trace(trace) = &self.source { trace.requests as u64 } else { self.replies }
    }

    pub fn throughput(&self) -> f64 {
        self.requests() as f64 / self.seconds
    }

    /// A process's CPU time per request, in nanoseconds.
    pub fn cost(&self, used: Option<Usage>) -> Option<f64> {
        used.map(|used| used.cpu_nanos as f64 / self.requests().max(1) as f64)
    }

    /// A process's CPU time as a share of the phase's time; above 1 with several threads.
    pub fn busy(&self, used: Option<Usage>) -> Option<f64> {
        used.map(|used| used.cpu_nanos as f64 / self.seconds / 1e9)
    }
}

/// What `--verify` expects of the keys: how many writes of each were sent and answered, which are the preload's SET and
/// each INC or DEC after it. A key whose SET was answered must be there. With several clients a number is known only
/// within bounds: it counts at least the writes that were answered before its request was sent, and at most all that
/// were sent before its reply.
pub struct Model {
    sent: Vec<u32>,
    answered: Vec<u32>,
}

impl Model {
    pub fn new(options: &Options) -> Self {
        let keys = options.keys as usize;
        Model { sent: vec![0; keys], answered: vec![0; keys] }
    }

    /// Counts a request that is about to be sent, and returns how many writes of its key are answered by now.
    pub fn send(&mut self, request: &Request) -> u32 {
        self.sent[request.id as usize] += u32::from(request.operation != Operation::Get);
        self.answered[request.id as usize]
    }

    /// Checks a reply against the bounds.
    pub fn check(&mut self, request: &Request, outcome: Outcome) -> Result<(), String> {
        let (id, is_get) = (request.id as usize, request.operation == Operation::Get);
        self.answered[id] += u32::from(!is_get);
        // The first write is the SET of the number that the others count from.
        let sign = if request.operation == Operation::Inc { 1 } else { -1 };
        let steps = [request.writes_answered, self.sent[id].saturating_sub(1)];
        let mut bounds = steps.map(|steps| FIRST_NUMBER + sign * i64::from(steps));
        bounds.sort_unstable();
        let [low, high] = bounds;
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Miss if is_get && request.writes_answered == 0 => Ok(()),
            Outcome::Miss => {
                let expected = if is_get { "the value that was set" } else { "that it is done" };
                Err(format!("expected {expected}, got that the key is missing"))
            }
            Outcome::Refused => Err("expected that it is done, got a refusal".to_owned()),
            Outcome::Number(number) if (low..=high).contains(&number) => Ok(()),
            Outcome::Number(number) => Err(format!("expected {low} to {high}, got {number}")),
        }
    }
}

pub fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}
