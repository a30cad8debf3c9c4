//! Results for people and for machines. It knows numbers and nothing of how they came about.

use crate::load::{Phase, Row, Source};
use crate::options::Options;
use crate::process::{self, Usage};
use crate::protocol::Operation;
use crate::workload::Sizes;

/// Above this share of the time a process is taken to be busy all of it: what is missing is the scheduler's.
const BUSY: f64 = 0.95;

/// So many clients always leave one side something to do.
const MANY_CLIENTS: usize = 16;

/// The table's columns and their widths; that of the requests begins with room for a mark.
const COLUMNS: [(&str, usize); 11] = [
    ("depth", 7),
    ("requests/s", 12),
    ("server ns", 10),
    ("busy", 6),
    ("p50", 8),
    ("p90", 8),
    ("p99", 8),
    ("p99.9", 8),
    ("p99.99", 8),
    ("max", 8),
    ("MB/s", 7),
];

const LATENCIES: [(&str, f64); 6] = [
    ("latency_p50_ns", 0.5),
    ("latency_p90_ns", 0.9),
    ("latency_p99_ns", 0.99),
    ("latency_p99_9_ns", 0.999),
    ("latency_p99_99_ns", 0.9999),
    ("latency_max_ns", 1.0),
];

/// What is known of all rows.
pub struct Report<'a> {
    pub options: &'a Options,
    /// The server's process.
    pub server: Option<u32>,
}

impl Report<'_> {
    /// What is about to be done, and the head of the table.
    pub fn head(&self) -> String {
        let options = self.options;
        if options.json {
            return String::new();
        }
        let sizes = |Sizes { low, high }| match low == high {
            true => bytes(low as u64),
            false => format!("{} to {}", bytes(low as u64), bytes(high as u64)),
        };
        let commands = match options.command {
            None => format!("{} % GET, {} % SET", options.get_percent, 100 - options.get_percent),
            Some(Operation::Del) => "SET, then DEL".to_owned(),
            Some(command) => command.name().to_owned(),
        };
        let values = match options.counts() {
            true => String::new(),
            false => format!(", values of {}", sizes(options.value_size)),
        };
        let key_size = match options.key_size {
            Sizes { low: 16, high: 16 } => String::new(),
            other => format!(" of {}", sizes(other)),
        };
        let what = match options.shape() {
            Some((sent, taken)) => format!("{} there, {} back", bytes(sent as u64), bytes(taken as u64)),
            None => {
                let (keys, distribution) = (count(options.keys.into()), options.distribution());
                format!("{commands}; {keys} keys{key_size}, {distribution}{values}")
            }
        };
        let idle = match options.idle_clients {
            0 => String::new(),
            idle => format!(" and {} idle", count(idle as u64)),
        };
        let pace = options.rate.map_or("closed loop".into(), |rate| format!("{}/s due", count(rate as u64)));
        let (target, protocol, clients) = (options.target(), options.protocol.name, count(options.clients as u64));
        let columns = line(COLUMNS.map(|(name, _)| name.to_owned()).into());
        format!("{target} in {protocol}: {clients} clients{idle}, {pace}\n{what}\n\n{columns}")
    }

    /// One row of the table, or a line of JSON.
    pub fn row(&self, row: &Row) -> String {
        if self.options.json {
            return self.json(row);
        }
        let (_, explanation) = self.limit(row);
        let tally = &row.tally;
        let (cost, busy) = row.cost(row.server).unzip();
        let mark = if explanation.is_some() { "*" } else { "" };
        let mut cells = vec![
            count(row.depth as u64),
            format!("{mark}{:>11}", count(row.rate() as u64)),
            cost.map_or("-".into(), |nanos| count(nanos.round() as u64)),
            busy.map_or("-".into(), percent),
        ];
        cells.extend(LATENCIES.map(|(_, part)| time(tally.latency.value_at_quantile(part))));
        cells.push(format!("{:.1}", (tally.sent_bytes + tally.received_bytes) as f64 / row.seconds / 1e6));
        let mut text = line(cells);
        let mut note = |note: String| text += &format!("        {note}\n");
        let busy = |usage| row.cost(usage).map_or("unknown".into(), |(_, busy)| percent(busy));
        if let Some(explanation) = explanation {
            note(format!("* {explanation}; busy: the server {}, the client {}", busy(row.server), busy(row.client)));
        }
        if tally.misses > 0 {
            let hits = 100.0 * ratio(tally.hits, tally.hits + tally.misses);
            note(format!("{} misses, {hits:.2} % hits", count(tally.misses)));
        }
        if tally.refused > 0 {
            note(format!("{} requests refused", count(tally.refused)));
        }
        if row.unanswered > 0 {
            note(format!("{} requests that were due have no reply", count(row.unanswered)));
        }
        if row.interrupted {
            note(format!("interrupted after {:.1} s", row.seconds));
        }
        text
    }

    /// What is to be said under the table.
    pub fn foot(&self, usage: Option<Usage>) -> String {
        if self.options.json { String::new() } else { format!("\n  server: {}\n", self.memory(usage)) }
    }

    fn memory(&self, usage: Option<Usage>) -> String {
        let Some((pid, usage)) = self.server.zip(usage) else {
            return "process not found or not ours to read, so no CPU time and memory (--pid N)".into();
        };
        let (resident, peak) = (bytes(usage.resident_bytes), bytes(usage.peak_bytes));
        format!("process {pid}, {resident} resident, {peak} at its peak")
    }

    /// What limited a run, as far as it can be told, and what to say if that was not what was to be measured.
    fn limit(&self, row: &Row) -> (&'static str, Option<&'static str>) {
        let server_busy = row.cost(row.server).map(|(_, busy)| busy);
        let client_busy = row.cost(row.client).map(|(_, busy)| busy);
        // In open loop the client looks at the clock all the time, so it is busy whatever it does.
        match (self.options.rate, server_busy) {
            (Some(rate), _) if row.unanswered > 0 || row.rate() < 0.99 * rate => {
                ("rate missed", Some("the rate was missed"))
            }
            (Some(_), _) => ("rate", None),
            (None, Some(busy)) if busy >= BUSY => ("server", None),
            (None, _) if client_busy >= Some(BUSY) => {
                ("client", Some("the client was the bottleneck, and the server can do more"))
            }
            // Many clients kept neither side busy: other work has the cores, or there is a network in between.
            (None, Some(_)) if self.options.clients >= MANY_CLIENTS => ("other", Some("something else had the cores")),
            (None, _) => ("unknown", None),
        }
    }

    /// Names end in their units.
    fn json(&self, row: &Row) -> String {
        let (options, tally) = (self.options, &row.tally);
        let rate = |count| number(count as f64 / row.seconds);
        let (client_cost, client_busy) = row.cost(row.client).unzip();
        let (server_cost, server_busy) = row.cost(row.server).unzip();
        let command = options.command.map_or("mix".into(), |command| command.name().to_lowercase());
        let mut fields = vec![
            ("clients", options.clients.to_string()),
            ("idle_clients", options.idle_clients.to_string()),
            ("pipeline", row.depth.to_string()),
            ("command", text(&command)),
            ("get_percent", options.get_percent.to_string()),
            ("keys", options.keys.to_string()),
            ("key_bytes", text(&options.key_size.to_string())),
            ("value_bytes", text(&options.value_size.to_string())),
            ("distribution", text(&options.distribution())),
            ("rate_wanted", optional(options.rate)),
            ("request_bytes", optional(options.request_bytes.map(|bytes| bytes as f64))),
            ("reply_bytes", optional(options.reply_bytes.map(|bytes| bytes as f64))),
            ("seconds", number(row.seconds)),
            ("requests", tally.replies.to_string()),
            ("requests_per_second", number(row.rate())),
            ("sent_bytes_per_second", rate(tally.sent_bytes)),
            ("received_bytes_per_second", rate(tally.received_bytes)),
            ("hits", tally.hits.to_string()),
            ("misses", tally.misses.to_string()),
            ("refused", tally.refused.to_string()),
            ("unanswered", row.unanswered.to_string()),
            ("latency_mean_ns", number(tally.latency.mean())),
            ("client_cpu_ns_per_request", optional(client_cost)),
            ("client_busy", optional(client_busy)),
            ("server_cpu_ns_per_request", optional(server_cost)),
            ("server_busy", optional(server_busy)),
            ("limited_by", text(self.limit(row).0)),
        ];
        fields.extend(LATENCIES.map(|(name, part)| (name, tally.latency.value_at_quantile(part).to_string())));
        self.object(fields, row.server, row.interrupted)
    }

    /// What became of a trace.
    pub fn replay(&self, phase: &Phase, seconds: f64, interrupted: bool) -> String {
        let (options, usage) = (self.options, self.server.and_then(process::usage));
        let Source::Trace(trace) = &phase.source else { return String::new() };
        let (refused, rate) = (phase.tally.refused, trace.requests as f64 / seconds);
        let share = |part| ratio(part, trace.requests);
        let (hits, misses) = (share(trace.hits), share(trace.requests - trace.hits));
        let (cold, hit_bytes) = (share(trace.first_sights), ratio(trace.hit_bytes, trace.asked_bytes));
        let (first_sights, asked) = (count(trace.first_sights), bytes(trace.asked_bytes));
        // For machines, and for people.
        let figures = [
            ("requests", trace.requests.to_string(), format!("{}, {}/s", count(trace.requests), count(rate as u64))),
            ("hit_ratio", number(hits), format!("{hits:.4}")),
            ("miss_ratio", number(misses), format!("{misses:.4}")),
            ("cold_floor", number(cold), format!("{cold:.4}  ({first_sights} keys seen for the first time)")),
            ("byte_hit_ratio", number(hit_bytes), format!("{hit_bytes:.4}  (of {asked})")),
            ("refused", refused.to_string(), format!("{} requests", count(refused))),
        ];
        if options.json {
            let mut fields = vec![
                ("pipeline", options.depths[0].to_string()),
                ("seconds", number(seconds)),
                ("requests_per_second", number(rate)),
                ("hits", trace.hits.to_string()),
                ("first_sights", trace.first_sights.to_string()),
            ];
            fields.extend(figures.map(|(name, value, _)| (name, value)));
            return self.object(fields, usage, interrupted);
        }
        let mut text = format!("{} in {}\n\n", options.target(), options.protocol.name);
        let mut line = |name: &str, value| text += &format!("  {:<16}{value}\n", name.replace('_', " "));
        let worth_telling = figures.into_iter().filter(|(name, ..)| *name != "refused" || refused > 0);
        worth_telling.for_each(|(name, _, value)| line(name, value));
        if interrupted {
            line("interrupted", format!("after {seconds:.1} s"));
        }
        line("server", self.memory(usage));
        text
    }

    /// A line of JSON.
    fn object(&self, figures: Vec<(&str, String)>, usage: Option<Usage>, interrupted: bool) -> String {
        let (target, protocol) = (self.options.target(), self.options.protocol.name);
        let mut fields = vec![("server", text(&target)), ("protocol", text(protocol))];
        fields.extend(figures);
        fields.extend([
            ("server_pid", optional(self.server.map(f64::from))),
            ("server_resident_bytes", optional(usage.map(|usage| usage.resident_bytes as f64))),
            ("server_peak_bytes", optional(usage.map(|usage| usage.peak_bytes as f64))),
            ("verified", self.options.verify.to_string()),
            ("interrupted", interrupted.to_string()),
        ]);
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}\n", fields.join(","))
    }
}

impl Row {
    /// Replies a second.
    fn rate(&self) -> f64 {
        self.tally.replies as f64 / self.seconds
    }

    /// A process's CPU time per request in nanoseconds, and the share of the time that it computed.
    fn cost(&self, used: Option<Usage>) -> Option<(f64, f64)> {
        let nanos = used?.cpu_nanos as f64;
        Some((nanos / self.tally.replies.max(1) as f64, nanos / self.seconds / 1e9))
    }
}

/// A line of the table.
fn line(cells: Vec<String>) -> String {
    let cells = COLUMNS.iter().zip(cells).map(|((_, width), cell)| format!("{cell:>width$}"));
    cells.collect::<Vec<_>>().join(" ") + "\n"
}

/// A string of JSON.
fn text(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\0'..=' ' => quoted += &format!("\\u{:04x}", character as u32),
            _ => quoted.push(character),
        }
    }
    quoted + "\""
}

/// A number of JSON, whole where it is.
fn number(number: f64) -> String {
    if number.fract() == 0.0 { number.to_string() } else { format!("{number:.6}") }
}

fn optional(value: Option<f64>) -> String {
    value.map_or("null".into(), number)
}

fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A number with its thousands apart.
pub fn count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", count(number / 1000), number % 1000),
    }
}

/// A length in the unit that suits it.
fn bytes(number: u64) -> String {
    let number = number as f64;
    match number {
        1e4..1e6 => format!("{:.1} kb", number / 1024.0),
        1e6..1e9 => format!("{:.1} mb", number / 1024.0 / 1024.0),
        1e9.. => format!("{:.2} gb", number / 1024.0 / 1024.0 / 1024.0),
        _ => format!("{number} b"),
    }
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
        assert_eq!(text("b\"\\\n"), "\"b\\\"\\\\\\u000a\"");
        assert_eq!([Some(1.5), Some(2.0), None].map(optional), ["1.500000", "2", "null"]);
    }
}
