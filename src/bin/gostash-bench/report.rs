//! The output: a table for people, JSON for machines, and the progress line. It does not know how figures are measured.

use std::fmt::Debug;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::options::Options;
use crate::phase::{Phase, Source, ratio};
use crate::process::Usage;
use crate::protocol::Operation;

/// A process that used more CPU time than this share of the time counts as always busy: the rest is the scheduler's.
const BUSY: f64 = 0.95;

/// A process that used less CPU time than this, as a share of the time, has one busy thread.
const ONE_THREAD: f64 = 1.05;

/// With at least so many clients, either the server or the client always has something to do.
const MANY_CLIENTS: usize = 16;

/// The head of the table. The column of the requests leaves room for a mark in front.
const HEAD: &str =
    "  depth   requests/s  server ns   busy      p50      p90      p99    p99.9   p99.99      max    MB/s\n";

/// The quantiles of the latency columns.
const SHARES: [f64; 6] = [0.5, 0.9, 0.99, 0.999, 0.9999, 1.0];

/// Pairs of a name and its value in JSON, which Rust's own notation of strings and numbers is.
macro_rules! figures {
    ($($name:ident: $value:expr),* $(,)?) => {
        vec![$((stringify!($name), format!("{:?}", $value))),*]
    };
}

/// What is about to be measured, and the head of the table.
pub fn head(options: &Options) -> String {
    if options.json {
        return String::new();
    }
    let Options { protocol, key_size, value_size, get_percent, .. } = options;
    let commands = match options.command {
        None => format!("{get_percent} % GET, {} % SET", 100 - get_percent),
        Some(Operation::Del) => "SET, then DEL".to_owned(),
        Some(command) => command.name().to_owned(),
    };
    let (keys, distribution) = (count(options.keys.into()), distribution(options));
    let what = match (&options.replay, options.shape()) {
        (Some(file), _) => format!("replay of {}", file.display()),
        (_, Some((sent, taken))) => format!("requests of {sent} b, replies of {taken} b"),
        _ => format!("{commands}; {keys} keys, {distribution}, values of {value_size} b, keys of {key_size} b"),
    };
    let idle = match options.idle_clients as u64 {
        0 => String::new(),
        idle => format!(" and {} idle", count(idle)),
    };
    let pace = options.rate.map_or("closed loop".into(), |rate| format!("{}/s due", count(rate as u64)));
    let (target, protocol, clients) = (options.target(), protocol.name, count(options.clients as u64));
    format!("{target} in {protocol}: {clients} clients{idle}, {pace}\n{what}\n\n{HEAD}")
}

/// One row of the table with its notes, or a line of JSON.
pub fn row(options: &Options, phase: &Phase) -> String {
    if options.json {
        return json(options, phase);
    }
    let (_, explanation) = limit(options, phase);
    let mark = if explanation.is_some() { "*" } else { "" };
    let (depth, rate) = (count(phase.depth as u64), count(phase.throughput() as u64));
    let cost = phase.cost(phase.server).map_or("-".into(), |nanos| count(nanos.round() as u64));
    let busy = phase.busy(phase.server).map_or("-".into(), percent);
    let latencies = SHARES.map(|share| format!("{:>8}", time(phase.latency.0.value_at_quantile(share)))).join(" ");
    let traffic = (phase.sent_bytes + phase.received_bytes) as f64 / phase.seconds / 1e6;
    let mut text = format!("{depth:>7} {mark:>1}{rate:>11} {cost:>10} {busy:>6} {latencies} {traffic:>7.1}\n");
    let busy = |usage| phase.busy(usage).map_or("unknown".into(), percent);
    let shares = || format!("busy: the server {}, the client {}", busy(phase.server), busy(phase.client));
    let percent_hits = 100.0 * ratio(phase.hits, phase.hits + phase.misses);
    let (requests, hits, seconds) = (count(phase.requests()), count(phase.hits), phase.seconds);
    let notes = [
        explanation.map(|explanation| format!("* {explanation}; {}", shares())),
        (phase.misses > 0).then(|| format!("{} misses, {percent_hits:.2} % hits", count(phase.misses))),
        (phase.refused > 0).then(|| format!("{} requests refused", count(phase.refused))),
        (phase.unanswered > 0).then(|| format!("{} requests that were due have no reply", count(phase.unanswered))),
        options.replay.as_ref().map(|_| format!("{requests} requests in {seconds:.1} s, {hits} hits")),
        phase.interrupted.then(|| format!("interrupted after {seconds:.1} s")),
    ];
    let replayed = replayed(phase);
    let replayed = replayed.iter().map(|(name, figure)| format!("{:<15} {figure}", name.replace('_', " ")));
    for note in notes.into_iter().flatten().chain(replayed) {
        text += &format!("        {note}\n");
    }
    text
}

/// What stands below the table.
pub fn foot(options: &Options, server: Option<Usage>) -> String {
    let memory = match server {
        _ if options.json => return String::new(),
        None => "process not found or not readable, so no CPU time and memory (--pid N)".to_owned(),
        Some(Usage { pid, resident_bytes, peak_bytes, .. }) => {
            let (resident, peak) = (megabytes(resident_bytes), megabytes(peak_bytes));
            format!("process {pid}, {resident} resident, {peak} at its peak")
        }
    };
    format!("\n  server: {memory}\n")
}

/// What limited a run, as far as that can be told, and a note if it was not what should have.
fn limit(options: &Options, phase: &Phase) -> (&'static str, Option<&'static str>) {
    let (server_busy, is_client_busy) = (phase.busy(phase.server), phase.busy(phase.client) >= Some(BUSY));
    // In open loop the client polls the clock, so it is always busy and that says nothing.
    match options.rate {
        Some(rate) if phase.unanswered > 0 || phase.throughput() < 0.99 * rate => {
            ("rate missed", Some("the rate was missed"))
        }
        Some(_) => ("rate", None),
        // A server of several threads may be able to do more all the same, if the client is always busy, too.
        None if server_busy >= Some(BUSY) && !(is_client_busy && server_busy > Some(ONE_THREAD)) => ("server", None),
        None if is_client_busy => ("client", Some("the client was the bottleneck, and the server can do more")),
        // With many clients one side should be busy. Otherwise other work has the cores, or the network is the limit.
        None if server_busy.is_some() && options.clients >= MANY_CLIENTS => {
            ("other", Some("something else had the cores"))
        }
        None => ("unknown", None),
    }
}

/// A line of JSON. Names end in their units.
fn json(options: &Options, phase: &Phase) -> String {
    let [p50, p90, p99, p99_9, p99_99, max] = SHARES.map(|share| phase.latency.0.value_at_quantile(share));
    let mut figures = figures! {
        // What cannot be printed is left out, because Rust and JSON escape it differently.
        server: options.target().replace(|it: char| it.escape_debug().len() > 2, "?"),
        protocol: options.protocol.name,
        clients: options.clients, idle_clients: options.idle_clients, pipeline: phase.depth,
        seconds: phase.seconds, requests: phase.requests(), requests_per_second: phase.throughput(),
        sent_bytes_per_second: phase.sent_bytes as f64 / phase.seconds,
        received_bytes_per_second: phase.received_bytes as f64 / phase.seconds,
        hits: phase.hits, misses: phase.misses, refused: phase.refused, unanswered: phase.unanswered,
        latency_mean_ns: phase.latency.0.mean(), latency_p50_ns: p50, latency_p90_ns: p90, latency_p99_ns: p99,
        latency_p99_9_ns: p99_9, latency_p99_99_ns: p99_99, latency_max_ns: max,
        client_cpu_ns_per_request: or_null(phase.cost(phase.client)), client_busy: or_null(phase.busy(phase.client)),
        server_cpu_ns_per_request: or_null(phase.cost(phase.server)), server_busy: or_null(phase.busy(phase.server)),
        limited_by: limit(options, phase).0, server_pid: or_null(phase.server.map(|usage| usage.pid)),
        server_resident_bytes: or_null(phase.server.map(|usage| usage.resident_bytes)),
        server_peak_bytes: or_null(phase.server.map(|usage| usage.peak_bytes)),
        verified: options.verify, interrupted: phase.interrupted,
    };
    figures.extend(match options.replay {
        Some(_) => replayed(phase),
        None => figures! {
            command: options.command.map_or("mix".into(), |command| command.name().to_lowercase()),
            get_percent: options.get_percent, keys: options.keys, key_bytes: options.key_size.to_string(),
            value_bytes: options.value_size.to_string(), distribution: distribution(options),
            rate_wanted: or_null(options.rate), request_bytes: or_null(options.request_bytes),
            reply_bytes: or_null(options.reply_bytes),
        },
    });
    let figures: Vec<_> = figures.iter().map(|(name, figure)| format!("\"{name}\":{figure}")).collect();
    format!("{{{}}}\n", figures.join(","))
}

/// The figures of a replay, if it is one.
fn replayed(phase: &Phase) -> Vec<(&'static str, String)> {
    let Source::Trace(trace) = &phase.source else { return Vec::new() };
    let (requests, first_sights) = (phase.requests(), trace.seen.len() as u64);
    let share = |part, whole| (ratio(part, whole) * 1e6).round() / 1e6;
    figures! {
        hit_ratio: share(phase.hits, requests), miss_ratio: share(requests - phase.hits, requests),
        first_sights: first_sights, cold_floor: share(first_sights, requests),
        byte_hit_ratio: share(trace.hit_bytes, trace.asked_bytes),
    }
}

/// Updates the progress line, which only a terminal gets.
pub fn progress(what: &str, nanos: u64, replies: u64) {
    let seconds = nanos as f64 / 1e9;
    let rate = count((replies as f64 / seconds) as u64);
    write_progress(&format!("  {what}: {seconds:.1} s, {} replies, {rate}/s", count(replies)));
}

/// Removes the progress line.
pub fn end_progress() {
    write_progress("");
}

fn write_progress(text: &str) {
    if stderr().is_terminal() {
        let _ = write!(stderr(), "\r\x1b[K{text}");
    }
}

/// `--distribution` as it is written.
fn distribution(options: &Options) -> String {
    options.distribution.map_or("uniform".into(), |exponent| format!("zipf:{exponent}"))
}

fn or_null(value: Option<impl Debug + 'static>) -> Box<dyn Debug> {
    value.map_or(Box::new(format_args!("null")), |value| Box::new(value))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A number with a comma between thousands.
pub fn count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", count(number / 1000), number % 1000),
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} mb", bytes as f64 / 1024.0 / 1024.0)
}

fn time(nanos: u64) -> String {
    format!("{:.2?}", Duration::from_nanos(nanos)).replace('µ', "u")
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
            ["512.00ns", "1.00us", "9.99us", "10.00us", "99.96us", "1.23ms", "1000.00ms", "61.00s"]
        );
    }

    #[test]
    fn the_limit_is_who_was_busy_all_the_time() {
        let usage = |busy| Some(Usage { pid: 1, cpu_nanos: (busy * 1e9) as u64, resident_bytes: 0, peak_bytes: 0 });
        let options = Options { clients: 50, ..Options::default() };
        let limited_by = |(server, client)| {
            let phase = Phase { server: usage(server), client: usage(client), seconds: 1.0, ..Phase::default() };
            limit(&options, &phase).0
        };
        let busy = [(1.0, 0.5), (1.0, 1.0), (0.5, 1.0), (2.5, 1.0), (2.5, 0.8), (0.5, 0.5)];
        assert_eq!(busy.map(limited_by), ["server", "server", "client", "client", "server", "other"]);
    }
}
