//! Results for people and for machines. It knows numbers and nothing of how they came about.

use std::fmt::Write;

use crate::load::Row;
use crate::options::Options;
use crate::process::{Process, Usage};
use crate::replay::Summary;
use crate::workload::{Distribution, Mode, Sizes};

/// Above this share of the time a process is taken to be busy all of it: what is missing is the scheduler's.
const BUSY: f64 = 0.95;

/// So many clients always leave one side something to do.
const MANY_CLIENTS: usize = 16;

/// What limited a run, as far as it can be told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Server,
    Client,
    Rate,
    RateMissed,
    /// Many clients kept neither side busy: other work has the cores, or there is a network in between.
    Other,
    Unknown,
}

/// Turns rows into text.
pub struct Report<'a> {
    options: &'a Options,
    server: Option<Process>,
}

impl<'a> Report<'a> {
    /// A report on what these options do to that server.
    pub fn new(options: &'a Options, server: Option<Process>) -> Self {
        Report { options, server }
    }

    /// What is about to be done, and the head of the table.
    pub fn head(&self) -> String {
        let options = self.options;
        let mut text = String::new();
        let keys = match options.key_size {
            Sizes { low: 16, high: 16 } => String::new(),
            sizes => format!(" of {}", size_range(sizes)),
        };
        let what = match (options.shape, options.mode) {
            (Some((sent, taken)), _) => {
                format!("{} there, {} back", bytes(sent as u64), bytes(taken as u64))
            }
            (None, mode) => {
                let commands = match mode {
                    Mode::Mix => format!("{} % GET, {} % SET", options.get_percent, 100 - options.get_percent),
                    Mode::Get => "GET".to_string(),
                    Mode::Set => "SET".to_string(),
                    Mode::Inc => "INC".to_string(),
                    Mode::Dec => "DEC".to_string(),
                    Mode::Del => "SET, then DEL".to_string(),
                };
                let values = match mode {
                    Mode::Inc | Mode::Dec => String::new(),
                    _ => format!(", values of {}", size_range(options.value_size)),
                };
                let distribution = match options.distribution {
                    Distribution::Uniform => "uniform".to_string(),
                    Distribution::Zipf(exponent) => format!("zipf {exponent}"),
                };
                format!("{commands}; {} keys{keys}, {distribution}{values}", count(u64::from(options.keys)))
            }
        };
        let loop_kind = options.rate.map_or("closed loop".to_string(), |rate| format!("{}/s due", count(rate as u64)));
        let idle = match options.idle_clients {
            0 => String::new(),
            idle => format!(" and {} idle", count(idle as u64)),
        };
        let _ = writeln!(
            text,
            "{} in {}: {} clients{idle}, {loop_kind}\n{what}\n",
            options.target(),
            options.protocol.name(),
            count(options.clients as u64),
        );
        let names = ["depth", "requests/s", "server ns", "busy", "p50", "p90", "p99", "p99.9", "p99.99", "max", "MB/s"];
        text + &line(' ', names.map(String::from))
    }

    /// One row of the table.
    pub fn row(&self, row: &Row) -> String {
        let latency = |quantile| time(row.tally.latency.value_at_quantile(quantile));
        let (cost, busy) = match cost(row, row.server) {
            Some((cost, busy)) => (count(cost.round() as u64), format!("{:.0} %", busy * 100.0)),
            None => ("-".to_string(), "-".to_string()),
        };
        let mark = if matches!(limit(row, self.options), Limit::Client | Limit::RateMissed | Limit::Other) {
            '*'
        } else {
            ' '
        };
        let moved = (row.tally.sent_bytes + row.tally.received_bytes) as f64 / row.seconds / 1e6;
        let mut text = line(
            mark,
            [
                count(row.depth as u64),
                count((row.tally.replies as f64 / row.seconds) as u64),
                cost,
                busy,
                latency(0.5),
                latency(0.9),
                latency(0.99),
                latency(0.999),
                latency(0.9999),
                time(row.tally.latency.max()),
                format!("{moved:.1}"),
            ],
        );
        for note in self.notes(row) {
            let _ = writeln!(text, "        {note}");
        }
        text
    }

    /// What is to be said under the table.
    pub fn foot(&self, last: &Row) -> String {
        match (self.server, last.server) {
            (Some(process), Some((_, usage))) => format!(
                "\n  server: process {}, {} resident, {} at its peak\n",
                process.pid,
                bytes(usage.resident_bytes),
                bytes(usage.peak_bytes)
            ),
            _ => "\n  server: process not found or not ours to read, so no CPU time and memory (--pid N)\n".to_string(),
        }
    }

    fn notes(&self, row: &Row) -> Vec<String> {
        let mut notes = Vec::new();
        let tally = &row.tally;
        let busy = |usage| cost(row, usage).map_or("unknown".to_string(), |(_, busy)| format!("{:.0} %", busy * 100.0));
        let (client_busy, server_busy) = (busy(row.client), busy(row.server));
        match limit(row, self.options) {
            Limit::Client => notes.push(format!(
                "* the client was the bottleneck, {client_busy} busy (the server: {server_busy}): the server can do more"
            )),
            Limit::RateMissed => notes.push(format!(
                "* the rate was missed; busy: the server {server_busy}, the client {client_busy}"
            )),
            Limit::Other => notes.push(format!(
                "* something else had the cores: the server was {server_busy} busy, the client {client_busy}"
            )),
            Limit::Server | Limit::Rate | Limit::Unknown => {}
        }
        let asked = tally.hits + tally.misses;
        if tally.misses > 0 {
            notes.push(format!("{} misses, {:.2} % hits", count(tally.misses), 100.0 * ratio(tally.hits, asked)));
        }
        if tally.refused > 0 {
            notes.push(format!("{} requests refused", count(tally.refused)));
        }
        if row.unanswered > 0 {
            notes.push(format!("{} requests that were due have no reply", count(row.unanswered)));
        }
        if row.interrupted {
            notes.push(format!("interrupted after {:.1} s", row.seconds));
        }
        notes
    }

    /// One row as a line of JSON. Names end in their units.
    pub fn json(&self, row: &Row) -> String {
        let options = self.options;
        let mut object = Object::default();
        object.text("server", &options.target());
        object.text("protocol", options.protocol.name());
        object.number("clients", options.clients as f64);
        object.number("idle_clients", options.idle_clients as f64);
        object.number("pipeline", row.depth as f64);
        object.text("command", mode_name(options.mode));
        object.number("get_percent", f64::from(options.get_percent));
        object.number("keys", f64::from(options.keys));
        object.text("key_bytes", &size_range_plain(options.key_size));
        object.text("value_bytes", &size_range_plain(options.value_size));
        match options.distribution {
            Distribution::Uniform => object.text("distribution", "uniform"),
            Distribution::Zipf(exponent) => {
                object.text("distribution", &format!("zipf:{exponent}"));
            }
        }
        object.optional("rate_wanted", options.rate);
        object.optional("request_bytes", options.shape.map(|shape| shape.0 as f64));
        object.optional("reply_bytes", options.shape.map(|shape| shape.1 as f64));
        object.number("seconds", row.seconds);
        object.number("requests", row.tally.replies as f64);
        object.number("requests_per_second", row.tally.replies as f64 / row.seconds);
        object.number("sent_bytes_per_second", row.tally.sent_bytes as f64 / row.seconds);
        object.number("received_bytes_per_second", row.tally.received_bytes as f64 / row.seconds);
        object.number("hits", row.tally.hits as f64);
        object.number("misses", row.tally.misses as f64);
        object.number("refused", row.tally.refused as f64);
        object.number("unanswered", row.unanswered as f64);
        for (name, quantile) in [
            ("latency_p50_ns", 0.5),
            ("latency_p90_ns", 0.9),
            ("latency_p99_ns", 0.99),
            ("latency_p99_9_ns", 0.999),
            ("latency_p99_99_ns", 0.9999),
            ("latency_max_ns", 1.0),
        ] {
            object.number(name, row.tally.latency.value_at_quantile(quantile) as f64);
        }
        object.number("latency_mean_ns", row.tally.latency.mean());
        let (client_cost, cost) = (cost(row, row.client), cost(row, row.server));
        object.optional("client_cpu_ns_per_request", client_cost.map(|cost| cost.0));
        object.optional("client_busy", client_cost.map(|cost| cost.1));
        object.optional("server_pid", self.server.map(|process| f64::from(process.pid)));
        object.optional("server_cpu_ns_per_request", cost.map(|cost| cost.0));
        object.optional("server_busy", cost.map(|cost| cost.1));
        object.optional("server_resident_bytes", row.server.map(|usage| usage.1.resident_bytes as f64));
        object.optional("server_peak_bytes", row.server.map(|usage| usage.1.peak_bytes as f64));
        let limit = match limit(row, options) {
            Limit::Server => "server",
            Limit::Client => "client",
            Limit::Rate => "rate",
            Limit::RateMissed => "rate missed",
            Limit::Other => "other",
            Limit::Unknown => "unknown",
        };
        object.text("limited_by", limit);
        object.flag("verified", options.verify);
        object.flag("interrupted", row.interrupted);
        object.finish()
    }
}

/// A line of the table.
fn line(mark: char, fields: [String; 11]) -> String {
    let [depth, rate, cost, busy, latency @ .., moved] = fields;
    let mut text = format!("{depth:>7} {mark}{rate:>11} {cost:>10} {busy:>6}");
    for latency in latency {
        let _ = write!(text, " {latency:>8}");
    }
    let _ = writeln!(text, " {moved:>7}");
    text
}

/// What became of a trace, for people.
pub fn replay(summary: &Summary, options: &Options) -> String {
    let Summary { requests, hits, first_sights, asked_bytes, hit_bytes, seconds, .. } = *summary;
    let misses = requests - hits;
    let mut lines = vec![
        ("requests", format!("{}, {}/s", count(requests), count((requests as f64 / seconds) as u64))),
        ("hit ratio", format!("{:.4}", ratio(hits, requests))),
        ("miss ratio", format!("{:.4}", ratio(misses, requests))),
        (
            "cold floor",
            format!("{:.4}  ({} keys seen for the first time)", ratio(first_sights, requests), count(first_sights)),
        ),
        ("byte hit ratio", format!("{:.4}  (of {})", ratio(hit_bytes, asked_bytes), bytes(asked_bytes))),
    ];
    if summary.refused > 0 {
        lines.push(("refused", format!("{} SETs", count(summary.refused))));
    }
    if summary.interrupted {
        lines.push(("interrupted", format!("after {seconds:.1} s")));
    }
    lines.push((
        "server",
        match summary.server {
            Some((process, usage)) => format!(
                "process {}, {} resident, {} at its peak",
                process.pid,
                bytes(usage.resident_bytes),
                bytes(usage.peak_bytes)
            ),
            None => "process not found or not ours to read (--pid N)".to_string(),
        },
    ));
    let mut text = format!("{} in {}\n\n", options.target(), options.protocol.name());
    for (name, value) in lines {
        let _ = writeln!(text, "  {name:<16}{value}");
    }
    text
}

/// The same for machines.
pub fn replay_json(summary: &Summary, options: &Options) -> String {
    let mut object = Object::default();
    object.text("server", &options.target());
    object.text("protocol", options.protocol.name());
    object.number("pipeline", options.depths[0] as f64);
    object.number("seconds", summary.seconds);
    object.number("requests", summary.requests as f64);
    object.number("requests_per_second", summary.requests as f64 / summary.seconds);
    object.number("hits", summary.hits as f64);
    object.number("first_sights", summary.first_sights as f64);
    object.number("refused", summary.refused as f64);
    object.number("hit_ratio", ratio(summary.hits, summary.requests));
    object.number("miss_ratio", ratio(summary.requests - summary.hits, summary.requests));
    object.number("cold_floor", ratio(summary.first_sights, summary.requests));
    object.number("byte_hit_ratio", ratio(summary.hit_bytes, summary.asked_bytes));
    object.optional("server_pid", summary.server.map(|(process, _)| f64::from(process.pid)));
    object.optional("server_resident_bytes", summary.server.map(|(_, usage)| usage.resident_bytes as f64));
    object.optional("server_peak_bytes", summary.server.map(|(_, usage)| usage.peak_bytes as f64));
    object.flag("verified", options.verify);
    object.flag("interrupted", summary.interrupted);
    object.finish()
}

/// A process's CPU time per request in nanoseconds, and the share of the time that it computed.
fn cost(row: &Row, usage: Option<(Usage, Usage)>) -> Option<(f64, f64)> {
    let (before, after) = usage?;
    let nanos = after.cpu_nanos.saturating_sub(before.cpu_nanos) as f64;
    Some((nanos / row.tally.replies.max(1) as f64, nanos / row.seconds / 1e9))
}

/// In open loop the client looks at the clock all the time, so it is busy whatever it does.
fn limit(row: &Row, options: &Options) -> Limit {
    let server_busy = cost(row, row.server).map(|(_, busy)| busy);
    let client_busy = cost(row, row.client).map(|(_, busy)| busy);
    match (options.rate, server_busy) {
        (Some(rate), _) if row.unanswered > 0 || (row.tally.replies as f64) < 0.99 * rate * row.seconds => {
            Limit::RateMissed
        }
        (Some(_), _) => Limit::Rate,
        (None, Some(busy)) if busy >= BUSY => Limit::Server,
        (None, _) if client_busy >= Some(BUSY) => Limit::Client,
        (None, Some(_)) if options.clients >= MANY_CLIENTS => Limit::Other,
        (None, _) => Limit::Unknown,
    }
}

fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Mix => "mix",
        Mode::Get => "get",
        Mode::Set => "set",
        Mode::Inc => "inc",
        Mode::Dec => "dec",
        Mode::Del => "del",
    }
}

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A length in the unit that suits it.
pub fn bytes(number: u64) -> String {
    let number = number as f64;
    match number {
        1e4..1e6 => format!("{:.1} kb", number / 1024.0),
        1e6..1e9 => format!("{:.1} mb", number / 1024.0 / 1024.0),
        1e9.. => format!("{:.2} gb", number / 1024.0 / 1024.0 / 1024.0),
        _ => format!("{number} b"),
    }
}

fn size_range(sizes: Sizes) -> String {
    if sizes.low == sizes.high {
        return bytes(sizes.low as u64);
    }
    format!("{} to {}", bytes(sizes.low as u64), bytes(sizes.high as u64))
}

fn size_range_plain(sizes: Sizes) -> String {
    if sizes.low == sizes.high { sizes.low.to_string() } else { format!("{}-{}", sizes.low, sizes.high) }
}

/// A time of so many nanoseconds, in three digits.
fn time(nanos: u64) -> String {
    let (number, unit) = match nanos as f64 {
        nanos @ 0.0..1e3 => (nanos, "ns"),
        nanos @ 1e3..1e6 => (nanos / 1e3, "us"),
        nanos @ 1e6..1e9 => (nanos / 1e6, "ms"),
        nanos => (nanos / 1e9, "s"),
    };
    let decimals = if number < 9.995 { 2 } else { usize::from(number < 99.95) };
    format!("{number:.decimals$} {unit}")
}

/// A flat object of JSON.
#[derive(Default)]
pub struct Object(String);

impl Object {
    /// A string.
    pub fn text(&mut self, name: &str, text: &str) {
        let mut quoted = String::from('"');
        for character in text.chars() {
            match character {
                '"' | '\\' => quoted.extend(['\\', character]),
                '\0'..=' ' => {
                    let _ = write!(quoted, "\\u{:04x}", character as u32);
                }
                _ => quoted.push(character),
            }
        }
        quoted.push('"');
        self.field(name, &quoted);
    }

    /// A number, whole where it is.
    pub fn number(&mut self, name: &str, number: f64) {
        let text = if number.fract() == 0.0 { format!("{number}") } else { format!("{number:.6}") };
        self.field(name, &text);
    }

    /// A number or null.
    pub fn optional(&mut self, name: &str, number: Option<f64>) {
        match number {
            Some(number) => self.number(name, number),
            None => self.field(name, "null"),
        }
    }

    /// True or false.
    pub fn flag(&mut self, name: &str, flag: bool) {
        self.field(name, if flag { "true" } else { "false" });
    }

    fn field(&mut self, name: &str, value: &str) {
        let comma = if self.0.is_empty() { "" } else { "," };
        let _ = write!(self.0, "{comma}\"{name}\":{value}");
    }

    /// The object, and an end of line.
    pub fn finish(self) -> String {
        format!("{{{}}}\n", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let times = [512, 1000, 9_994, 9_996, 99_960, 1_234_567, 999_999_999, 61_000_000_000];
        assert_eq!(
            times.map(time),
            ["512 ns", "1.00 us", "9.99 us", "10.0 us", "100 us", "1.23 ms", "1000 ms", "61.0 s"]
        );
        assert_eq!([100, 102_400, 16 << 20].map(bytes), ["100 b", "100.0 kb", "16.0 mb"]);
    }

    #[test]
    fn json_is_quoted() {
        let mut object = Object::default();
        object.text("a", "b\"\\\n");
        object.number("n", 1.5);
        object.optional("o", None);
        assert_eq!(object.finish(), "{\"a\":\"b\\\"\\\\\\u000a\",\"n\":1.500000,\"o\":null}\n");
    }
}
