//! The output: a table for people, JSON for machines, and the progress line. It does not know how figures are measured.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::options::Options;
use crate::phase::Figures;
use crate::protocol::Operation;

/// A process that used more CPU time than this share of the time counts as always busy: the rest is the scheduler's.
const BUSY: f64 = 0.95;

/// A process that used less CPU time than this, as a share of the time, has one busy thread.
const ONE_THREAD: f64 = 1.05;

/// With at least so many clients, either the server or the client always has something to do.
const MANY_CLIENTS: usize = 16;

/// A column of the table: its head, its width, and a figure with how it is written.
type Column = (&'static str, usize, &'static str, fn(f64) -> String);

const COLUMNS: [Column; 11] = [
    ("depth", 9, "pipeline", count),
    ("requests/s", 11, "requests_per_second", count),
    ("server ns", 10, "server_cpu_ns_per_request", count),
    ("busy", 7, "server_busy", percent),
    ("p50", 9, "latency_p50_ns", time),
    ("p90", 9, "latency_p90_ns", time),
    ("p99", 9, "latency_p99_ns", time),
    ("p99.9", 9, "latency_p99_9_ns", time),
    ("p99.99", 9, "latency_p99_99_ns", time),
    ("max", 9, "latency_max_ns", time),
    ("MB/s", 8, "bytes_per_second", |bytes| format!("{:.1}", bytes / 1e6)),
];

/// Figures that have a line below their row, unless they are 0.
const NOTES: [&str; 6] = ["unanswered", "refused", "misses", "miss_ratio", "cold_floor", "byte_hit_ratio"];

/// What is about to be measured, and the head of the table.
pub fn head(options: &Options) -> String {
    let Options { protocol, key_size, value_size, get_percent, .. } = options;
    let mix = format!("{get_percent} % GET, {} % SET", 100 - get_percent);
    let commands = options.command.map_or(mix, Operation::name);
    let drawn = options.distribution.map_or("uniform".into(), |exponent| format!("zipf:{exponent}"));
    let keys = count(options.keys.into());
    let work = format!("{commands}; {keys} keys, {drawn}, values of {value_size} b, keys of {key_size} b");
    let shape = options.request_bytes.map(|bytes| format!("requests of {bytes} b, replies of {value_size} b"));
    let replay = options.replay.as_ref().map(|file| format!("replay of {}", file.display()));
    let what = replay.or(shape).unwrap_or(work);
    let pace = options.rate.map_or("closed loop".into(), |rate| format!("{rate}/s due"));
    let (target, protocol, clients) = (options.target(), protocol.name, count(options.clients as f64));
    let columns = COLUMNS.map(|(head, width, ..)| format!("{head:>width$}")).concat();
    format!("{target} in {protocol}: {clients} clients, {pace}\n{what}\n\n {columns}\n")
}

/// One row of the table with its notes.
pub fn row(options: &Options, figures: &Figures) -> String {
    let limit = limit(options, figures);
    let mark = if ["client", "other", "rate missed"].contains(&limit) { "*" } else { " " };
    let shown = |name, write: fn(f64) -> String| figures.get(name).copied().map_or("-".into(), write);
    let cells = COLUMNS.map(|(_, width, name, write)| format!("{:>width$}", shown(name, write))).concat();
    let mut text = format!("{mark}{cells}\n");
    let mut note = |line: String| text += &format!("        {line}\n");
    if mark == "*" {
        let [server, client] = ["server_busy", "client_busy"].map(|name| shown(name, percent));
        note(format!("* limited by: {limit}; busy: the server {server}, the client {client}"));
    }
    for name in NOTES {
        if let Some(figure) = figures.get(name).filter(|figure| **figure > 0.0) {
            note(format!("{:<15} {figure}", name.replace('_', " ")));
        }
    }
    if figures["interrupted"] > 0.0 {
        note(format!("interrupted after {:.1} s", figures["seconds"]));
    }
    text
}

/// The same as a line of JSON, with all figures, and the command that they are of.
pub fn json(options: &Options, figures: &Figures) -> String {
    let limit = limit(options, figures);
    let figures: String = figures.iter().map(|(name, figure)| format!("\"{name}\":{figure},")).collect();
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    // What cannot be printed is left out, because Rust and JSON escape it differently.
    let command = words.collect::<Vec<_>>().join(" ").replace(|it: char| it.escape_debug().len() > 2, "?");
    format!("{{{figures}\"limited_by\":\"{limit}\",\"command\":{command:?}}}\n")
}

/// What stands below the table.
pub fn foot(figures: &Figures) -> String {
    let megabytes = |name| format!("{:.1} mb", figures[name] / 1_048_576.0);
    let server = figures.get("server_pid").map(|pid| {
        let [resident, peak] = ["server_resident_bytes", "server_peak_bytes"].map(megabytes);
        format!("process {pid}, {resident} resident, {peak} at its peak")
    });
    format!("\n  server: {}\n", server.as_deref().unwrap_or("process not found or not readable (--pid N)"))
}

/// What limited a run, as far as that can be told.
fn limit(options: &Options, figures: &Figures) -> &'static str {
    let [server, client] = ["server_busy", "client_busy"].map(|name| figures.get(name).copied());
    let is_client_full = client >= Some(BUSY);
    // The last reply comes a latency after it was due, so that much of the time does not count.
    let is_kept = |rate| figures["requests"] >= 0.995 * rate * (figures["seconds"] - figures["latency_p50_ns"] / 1e9);
    match options.rate {
        // In open loop the client polls the clock, so it is always busy and that says nothing.
        Some(rate) if is_kept(rate) => "rate",
        Some(_) => "rate missed",
        // A server of several threads may be able to do more all the same, if the client is always busy, too.
        None if server >= Some(BUSY) && !(is_client_full && server > Some(ONE_THREAD)) => "server",
        None if is_client_full => "client",
        // With many clients one side should be busy. Otherwise other work has the cores, or the network is the limit.
        None if server.is_some() && options.clients >= MANY_CLIENTS => "other",
        None => "unknown",
    }
}

/// Replaces the progress line, which only a terminal gets.
pub fn progress(text: &str) {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K{text}");
    }
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A whole number with a comma between thousands.
pub fn count(number: f64) -> String {
    let whole = number.round() as u64;
    match whole {
        0..1000 => whole.to_string(),
        _ => format!("{},{:03}", count((whole / 1000) as f64), whole % 1000),
    }
}

fn time(nanos: f64) -> String {
    format!("{:.2?}", Duration::from_nanos(nanos as u64)).replace('µ', "u")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_who_was_busy_all_the_time() {
        let options = Options { clients: 50, ..Options::default() };
        let limited_by = |(server, client)| {
            limit(&options, &[("server_busy".into(), server), ("client_busy".into(), client)].into())
        };
        let busy = [(1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (2.5, 1.0), (2.5, 0.8), (0.5, 0.5)];
        assert_eq!(busy.map(limited_by), ["server", "server", "client", "client", "server", "other"]);
    }
}
