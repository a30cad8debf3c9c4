//! A phase of the run (preload, warm-up, measurement or replay): what is to be sent, what was counted, and the figures
//! that follow from it. It knows neither how requests are sent nor how figures are shown.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::process::usage;
use crate::protocol::{Operation, Outcome};
use crate::replay::Trace;
use crate::workload::Request;

pub const SECOND: u64 = 1_000_000_000;

/// The quantiles of the latency, by their names.
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999), ("p99_99", 0.9999), ("max", 1.0)];

/// Figures by their names, which end in their units. What could not be measured is left out.
pub type Figures = BTreeMap<String, f64>;

#[derive(Default)]
pub struct Phase {
    pub name: &'static str,
    /// What is replayed; otherwise a preload sets every key, in order, and other phases draw at random.
    pub trace: Option<Trace>,
    pub is_preload: bool,
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
    /// Successes of what can miss, which is all but SET.
    pub hits: u64,
    pub misses: u64,
    pub refused: u64,
    pub sent_bytes: u64,
    pub received_bytes: u64,
}

/// The latencies of all replies, in nanoseconds.
pub struct Latency(pub Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // Exact to three digits, up to an hour. These bounds are valid, so this cannot fail.
        Latency(Histogram::new_with_max(3_600 * SECOND, 3).expect("bounds of a histogram"))
    }
}

impl Phase {
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

    /// Counts a reply, and returns whether a SET of its key follows, as in a replay after a miss.
    #[inline(always)]
    pub fn note(&mut self, request: &Request, outcome: Outcome, now: u64) -> bool {
        self.replies += 1;
        // In closed loop the latencies of all replies of a read are recorded at once.
        if self.rate.is_some() {
            self.latency.0.saturating_record(now.saturating_sub(request.due_nanos));
        }
        match outcome {
            Outcome::Done => self.hits += u64::from(request.operation != Operation::Set),
            Outcome::Miss => self.misses += 1,
            Outcome::Refused => self.refused += 1,
        }
        self.trace.as_mut().filter(|_| request.operation == Operation::Get).is_some_and(|trace| trace.note(outcome))
    }

    /// The figures of a phase that took so long. A process that can be read is given with its name and the CPU time that
    /// it had used before.
    pub fn figures(&self, now: u64, processes: &[Option<(&str, u32, u64)>]) -> Figures {
        // In a replay the requests of the trace count, and not the SETs after its misses.
        let requests = self.trace.as_ref().map_or(self.replies, |trace| trace.requests as u64);
        let seconds = now as f64 / SECOND as f64;
        let per_second = |number| number as f64 / seconds;
        let ratio = |part, whole: u64| (part as f64 / whole.max(1) as f64 * 1e6).round() / 1e6;
        let mut figures = Figures::new();
        let mut add = |name: &str, figure| _ = figures.insert(name.to_owned(), figure);
        add("pipeline", self.depth as f64);
        add("seconds", seconds);
        add("requests", requests as f64);
        add("requests_per_second", per_second(requests));
        add("sent_bytes_per_second", per_second(self.sent_bytes));
        add("received_bytes_per_second", per_second(self.received_bytes));
        add("bytes_per_second", per_second(self.sent_bytes + self.received_bytes));
        for (name, share) in QUANTILES {
            add(&format!("latency_{name}_ns"), self.latency.0.value_at_quantile(share) as f64);
        }
        for &(whose, pid, before) in processes.iter().flatten() {
            let Some([cpu_nanos, resident_bytes, peak_bytes]) = usage(pid) else { continue };
            // The kernel counts in steps of some milliseconds: too few in less time. With several threads busy is above 1.
            if now >= SECOND / 10 {
                let cpu_nanos = cpu_nanos.saturating_sub(before);
                add(&format!("{whose}_cpu_ns_per_request"), ratio(cpu_nanos, requests));
                add(&format!("{whose}_busy"), cpu_nanos as f64 / now as f64);
            }
            add(&format!("{whose}_pid"), pid.into());
            add(&format!("{whose}_resident_bytes"), resident_bytes as f64);
            add(&format!("{whose}_peak_bytes"), peak_bytes as f64);
        }
        add("unanswered", (self.sent - self.replies + self.rate.map_or(0, |_| self.due(now))) as f64);
        add("refused", self.refused as f64);
        add("hits", self.hits as f64);
        add("misses", self.misses as f64);
        add("miss_ratio", ratio(self.misses, self.hits + self.misses));
        if let Some(trace) = &self.trace {
            add("cold_floor", ratio(trace.seen.len() as u64, requests));
            add("byte_hit_ratio", ratio(trace.hit_bytes, trace.asked_bytes));
        }
        figures
    }
}
