//! The figures of all runs, and their medians over the rounds. It knows neither how they were measured nor how they are
//! shown.

use serde_json::{Value, json};

use crate::contenders::{Contender, Role};
use crate::machine::Machine;
use crate::options::Options;

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measurement {
    /// Closed loop, in pipelines of this depth.
    Depth(usize),
    /// Open loop, at the given rate.
    Latency,
    /// The memory of a filled server.
    Memory,
    /// Session and store without sockets, in pipelines of this depth.
    InProcess(usize),
}

#[derive(Default)]
pub(crate) struct Results {
    rows: Vec<Row>,
}

struct Row {
    name: String,
    measurement: Measurement,
    round: usize,
    figures: Value,
}

/// A median, with the minimum and the maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(mut samples: Vec<f64>) -> Option<Spread> {
        samples.sort_by(f64::total_cmp);
        let middle = samples.len() / 2;
        let median = match samples.as_slice() {
            [] => return None,
            samples if samples.len() % 2 == 1 => samples[middle],
            samples => (samples[middle - 1] + samples[middle]) / 2.0,
        };
        Some(Spread { median, least: samples[0], most: samples[samples.len() - 1] })
    }

    /// Half of the range, as a percentage of the median.
    pub(crate) fn percent(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.most - self.least) / 2.0 / self.median * 100.0 }
    }
}

impl Results {
    pub(crate) fn push(&mut self, name: &str, measurement: Measurement, round: usize, figures: Value) {
        self.rows.push(Row { name: name.to_owned(), measurement, round, figures });
    }

    fn of(&self, name: &str, measurement: Measurement) -> impl Iterator<Item = &Value> {
        let rows = self.rows.iter().filter(move |row| row.name == name && row.measurement == measurement);
        rows.map(|row| &row.figures)
    }

    /// The spread of one figure over all rounds.
    pub(crate) fn spread(&self, name: &str, measurement: Measurement, figure: &str) -> Option<Spread> {
        Spread::of(self.of(name, measurement).filter_map(|figures| figures[figure].as_f64()).collect())
    }

    /// Whether one of the runs was limited by something else than it should be: the server's speed, or the given rate.
    fn is_limited_elsewhere(&self, name: &str, measurement: Measurement) -> bool {
        let expected = if measurement == Measurement::Latency { "rate" } else { "server" };
        self.of(name, measurement).any(|figures| figures["limited_by"] != expected)
    }

    /// The share of the requests, over all runs, whose key was missing or which the server refused.
    fn unserved(&self, name: &str) -> f64 {
        let rows = || self.rows.iter().filter(|row| row.name == name);
        let sum = |figure| rows().filter_map(|row| row.figures[figure].as_f64()).sum::<f64>();
        (sum("misses") + sum("refused")) / sum("requests").max(1.0)
    }

    /// The mean lengths of request and reply on the wire, in bytes.
    pub(crate) fn lengths(&self, name: &str, measurement: Measurement) -> Option<(f64, f64)> {
        let mean = |figure| {
            let bytes = self.spread(name, measurement, figure)?.median;
            Some(bytes / self.spread(name, measurement, "requests_per_second")?.median)
        };
        Some((mean("sent_bytes_per_second")?, mean("received_bytes_per_second")?))
    }

    /// Everything, as JSON.
    pub(crate) fn to_json(&self, options: &Options, machine: &Machine, contenders: &[Contender]) -> String {
        let contenders = contenders.iter().zip(&machine.versions).map(|(contender, version)| {
            let Contender { name, protocol, command, cores, .. } = contender;
            json!({ "name": name, "protocol": protocol, "command": command, "cores": cores, "version": version })
        });
        let rows = self.rows.iter().map(|row| {
            let (measurement, depth) = match row.measurement {
                Measurement::Depth(depth) => ("depth", Some(depth)),
                Measurement::Latency => ("latency", None),
                Measurement::Memory => ("memory", None),
                Measurement::InProcess(depth) => ("in process", Some(depth)),
            };
            let Row { name, round, figures, .. } = row;
            json!({ "name": name, "measurement": measurement, "depth": depth, "round": round, "figures": figures })
        });
        let Machine { stamp, processor, kernel, cores, memory, compiler, commit, .. } = machine;
        let all = json!({
            "started": stamp,
            "command": options.command,
            "machine": {
                "processor": processor, "kernel": kernel, "cores": cores, "memory": memory,
                "compiler": compiler, "commit": commit,
            },
            "contenders": contenders.collect::<Vec<_>>(),
            "runs": rows.collect::<Vec<_>>(),
        });
        format!("{all:#}\n")
    }
}

/// One contender's figures, for tables and charts.
pub(crate) struct Summary<'a> {
    pub(crate) contender: &'a Contender,
    pub(crate) version: &'a str,
    /// For each depth, the server's CPU nanoseconds per request.
    pub(crate) cost: Vec<Option<Spread>>,
    /// For each depth, requests per second.
    pub(crate) rate: Vec<Option<Spread>>,
    /// For each depth, whether something else than the server limited the rate.
    pub(crate) is_limited_elsewhere: Vec<bool>,
    /// For each of [`PERCENTILES`], the latency in nanoseconds.
    pub(crate) latency: Vec<Option<Spread>>,
    /// Whether requests were sent or answered too slowly for the given rate.
    pub(crate) is_rate_missed: bool,
    /// The share of its requests that found no key or were refused, which is less work.
    pub(crate) unserved: f64,
    /// Bytes per item beyond key and value.
    pub(crate) item_bytes: Option<Spread>,
    /// The mean lengths of request and reply, in bytes.
    pub(crate) lengths: Option<(f64, f64)>,
}

/// The percentiles that are shown, each with its name in gostash-bench's rows.
pub(crate) const PERCENTILES: [(&str, &str); 4] = [
    ("p50", "latency_p50_ns"),
    ("p99", "latency_p99_ns"),
    ("p99.9", "latency_p99_9_ns"),
    ("p99.99", "latency_p99_99_ns"),
];

impl Results {
    pub(crate) fn summaries<'a>(
        &self,
        options: &Options,
        machine: &'a Machine,
        contenders: &'a [Contender],
    ) -> Vec<Summary<'a>> {
        let summary = |(contender, version): (&'a Contender, &'a String)| {
            let name = &contender.name;
            let by_depth = |figure| {
                let depths = options.depths.iter();
                depths.map(|depth| self.spread(name, Measurement::Depth(*depth), figure)).collect()
            };
            let depths = options.depths.iter().map(|depth| Measurement::Depth(*depth));
            Summary {
                contender,
                version,
                cost: by_depth("server_cpu_ns_per_request"),
                rate: by_depth("requests_per_second"),
                is_limited_elsewhere: depths.map(|depth| self.is_limited_elsewhere(name, depth)).collect(),
                latency: PERCENTILES
                    .iter()
                    .map(|(_, figure)| self.spread(name, Measurement::Latency, figure))
                    .collect(),
                is_rate_missed: self.is_limited_elsewhere(name, Measurement::Latency),
                unserved: self.unserved(name),
                item_bytes: self.spread(name, Measurement::Memory, "bytes_beyond_key_and_value_per_item"),
                lengths: self.lengths(name, Measurement::Depth(options.depths[0])),
            }
        };
        contenders.iter().zip(&machine.versions).map(summary).collect()
    }
}

impl Summary<'_> {
    /// Its name; for another project's server with the version, unless that is unknown or in the name already.
    pub(crate) fn title(&self) -> String {
        match self.contender.role {
            Role::Peer if !self.contender.name.contains(self.version) => {
                format!("{} {}", self.contender.name, self.version)
            }
            _ => self.contender.name.clone(),
        }
    }
}

/// A number with a comma between thousands.
pub(crate) fn count(number: f64) -> String {
    let whole = number.round();
    match whole.abs() < 1000.0 {
        true => whole.to_string(),
        false => format!("{},{:03}", count((whole / 1000.0).trunc()), whole.abs() % 1000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_both_ends() {
        let spread = |samples: &[f64]| Spread::of(samples.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 8.0]), Some(Spread { median: 3.0, least: 1.0, most: 8.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, least: 1.0, most: 9.0 }));
        let spread = Spread { median: 100.0, least: 90.0, most: 120.0 };
        assert!((spread.percent() - 15.0).abs() < 1e-9);
    }

    #[test]
    fn what_was_not_measured_as_it_should_be_is_told() {
        let mut results = Results::default();
        let mut push = |name, limited_by, requests, misses, refused| {
            let figures = json!({
                "limited_by": limited_by, "requests": requests, "misses": misses, "refused": refused,
            });
            results.push(name, Measurement::Latency, 1, figures);
        };
        push("good", "rate", 1000, 0, 0);
        push("bad", "rate", 90, 8, 1);
        push("bad", "rate missed", 10, 0, 1);
        let told = ["good", "bad"]
            .map(|name| (results.is_limited_elsewhere(name, Measurement::Latency), results.unserved(name)));
        assert_eq!(told, [(false, 0.0), (true, 0.1)]);
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!([0.4, 999.0, 1234.4, -1234567.0].map(count), ["0", "999", "1,234", "-1,234,567"]);
    }
}
