//! Results as tables of text: for a terminal, for a README, and for the page.

use std::fmt::Write;

use crate::contenders::{Contender, Role};
use crate::in_process;
use crate::machine::Machine;
use crate::options::Options;
use crate::results::{Measurement, PERCENTILES, Results, Spread, Summary, count};

/// A contender whose requests or replies differ by more than this share from GoStash's is named in a note.
const LENGTH_TOLERANCE: f64 = 0.05;

/// What a star at a rate and one at a latency mean.
pub(crate) const NOT_THE_LIMIT: &str = "\
    * in one round at least the server was not busy all the time: the load generator, or something else on this \
    machine, was the limit, and the server can do more.";
pub(crate) const RATE_MISSED: &str = "\
    * in one round at least the rate was missed, if only at the end: the server, the load generator, or something else \
    on this machine, was too slow for it.";

pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) notes: Vec<String>,
}

pub(crate) struct Tables(pub(crate) Vec<Table>);

pub(crate) fn render(options: &Options, machine: &Machine, contenders: &[Contender], results: &Results) -> Tables {
    let summaries = results.summaries(options, machine, contenders);
    let mut tables = vec![
        by_depth("CPU time of the server for a request, in ns", options, &summaries, |summary| &summary.cost, 1.0),
        by_depth("Thousand requests a second", options, &summaries, |summary| &summary.rate, 1e-3),
        latency_and_memory(options, &summaries),
        in_process_table(options, machine, results),
    ];
    tables[0].notes = notes(&summaries);
    let unserved = summaries.iter().filter(|summary| summary.unserved > 0.0);
    let unserved = unserved.map(|summary| format!("{} {:.2} %", summary.contender.name, 100.0 * summary.unserved));
    let unserved: Vec<_> = unserved.collect();
    if !unserved.is_empty() {
        let unserved = unserved.join(", ");
        tables[0]
            .notes
            .push(format!("Requests whose key was missing or that were refused, which is less work: {unserved}."));
    }
    if options.rounds > 1 {
        tables[0].notes.push("±: half of the range over the rounds.".to_owned());
    }
    mark_rates(&mut tables[1], &summaries);
    Tables(tables)
}

fn by_depth(
    title: &str,
    options: &Options,
    summaries: &[Summary<'_>],
    figure: impl for<'a> Fn(&'a Summary<'_>) -> &'a [Option<Spread>],
    scale: f64,
) -> Table {
    let depths = options.depths.iter().map(|depth| format!("depth {depth}"));
    let head = ["server".to_owned()].into_iter().chain(depths).collect();
    let row = |summary: &Summary<'_>| {
        let cells = figure(summary).iter().map(|spread| cell(*spread, scale));
        [summary.title()].into_iter().chain(cells).collect()
    };
    Table { title: title.to_owned(), head, rows: summaries.iter().map(row).collect(), notes: Vec::new() }
}

fn latency_and_memory(options: &Options, summaries: &[Summary<'_>]) -> Table {
    let mut head = vec!["server".to_owned()];
    head.extend(PERCENTILES.iter().map(|(name, _)| format!("{name}, us")));
    head.push("bytes per item".to_owned());
    let row = |summary: &Summary<'_>| {
        let mark = if summary.is_rate_missed { "*" } else { "" };
        let latency = summary.latency.iter().map(|spread| cell(*spread, 1e-3) + spread.map_or("", |_| mark));
        let bytes = summary.item_bytes.map_or("-".into(), |bytes| format!("{:.1}", bytes.median));
        [summary.title()].into_iter().chain(latency).chain([bytes]).collect()
    };
    let (rate, items) = (count(f64::from(options.rate)), count(options.items as f64));
    Table {
        title: format!("Latency at {rate} requests a second; memory beyond key and value, {items} items"),
        head,
        rows: summaries.iter().map(row).collect(),
        notes: ["A latency counts from the moment at which its request was due, so that no stall is hidden."]
            .into_iter()
            .chain(summaries.iter().any(|summary| summary.is_rate_missed).then_some(RATE_MISSED))
            .map(str::to_owned)
            .collect(),
    }
}

fn in_process_table(options: &Options, machine: &Machine, results: &Results) -> Table {
    let mut head = vec!["session and store, no sockets".to_owned()];
    for depth in &options.depths {
        head.push(format!("ns, depth {depth}"));
        head.push("million/s".to_owned());
    }
    let rows = in_process::rows(&machine.cores).into_iter().map(|(name, ..)| {
        let mut cells = vec![name.clone()];
        for depth in &options.depths {
            let measurement = Measurement::InProcess(*depth);
            cells.push(cell(results.spread(&name, measurement, "server_cpu_ns_per_request"), 1.0));
            let rate = results.spread(&name, measurement, "requests_per_second");
            cells.push(rate.map_or("-".into(), |rate| format!("{:.2}", rate.median / 1e6)));
        }
        cells
    });
    Table {
        title: "In process: what threads gain and locks cost".to_owned(),
        head,
        rows: rows.collect(),
        notes: vec![
            "CPU time for a request; the rate is that of all threads together, each on a core of its own. Not measured \
             where keys and values take more than half a gigabyte, or a pipeline's replies more than 64 kilobytes."
                .into(),
        ],
    }
}

/// A note about contenders whose requests or replies have other lengths, which changes the cost on both sides.
fn notes(summaries: &[Summary<'_>]) -> Vec<String> {
    let own = summaries.iter().find(|summary| summary.contender.role == Role::Own);
    let Some((sent, received)) = own.and_then(|own| own.lengths) else {
        return Vec::new();
    };
    let differs = |length: f64, own: f64| (length / own - 1.0).abs() > LENGTH_TOLERANCE;
    let others = summaries.iter().filter_map(|summary| {
        let (there, back) = summary.lengths?;
        let is_other = differs(there, sent) || differs(back, received);
        is_other.then(|| format!("{} {there:.0} and {back:.0}", summary.contender.name))
    });
    let others: Vec<String> = others.collect();
    let own = format!("Bytes of a request and of its reply: GoStash {sent:.0} and {received:.0}");
    vec![if others.is_empty() { format!("{own}, as all.") } else { format!("{own}; {}.", others.join(", ")) }]
}

/// Puts a star at rates that were limited by the client or by other work on the machine.
fn mark_rates(table: &mut Table, summaries: &[Summary<'_>]) {
    for (row, summary) in table.rows.iter_mut().zip(summaries) {
        for (cell, is_limited) in row[1..].iter_mut().zip(&summary.is_limited_elsewhere) {
            if *is_limited && cell != "-" {
                cell.push('*');
            }
        }
    }
    if table.rows.iter().flatten().any(|cell| cell.ends_with('*')) {
        table.notes.push(NOT_THE_LIMIT.to_owned());
    }
}

fn cell(spread: Option<Spread>, scale: f64) -> String {
    spread.map_or("-".to_owned(), |spread| {
        let decimals = usize::from(spread.median * scale < 99.5);
        let number = match decimals {
            0 => count(spread.median * scale),
            _ => format!("{:.1}", spread.median * scale),
        };
        // A single round has no spread.
        if spread.least == spread.most { number } else { format!("{number} ±{:.0} %", spread.percent()) }
    })
}

impl Tables {
    /// For a terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for table in &self.0 {
            let width = |column: usize| {
                let cells = table.rows.iter().chain([&table.head]).map(|row| row[column].chars().count());
                cells.max().unwrap_or(0)
            };
            let widths: Vec<usize> = (0..table.head.len()).map(width).collect();
            let _ = writeln!(text, "\n{}\n", table.title);
            for row in [&table.head].into_iter().chain(&table.rows) {
                let _ = write!(text, "  {:<width$}", row[0], width = widths[0]);
                for (cell, width) in row.iter().zip(&widths).skip(1) {
                    let _ = write!(text, "  {cell:>width$}");
                }
                text.push('\n');
            }
            table.notes.iter().for_each(|note| text.extend(["\n  ", note, "\n"]));
        }
        text
    }

    /// For a README.
    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        for table in &self.0 {
            let _ = writeln!(text, "{}:\n", table.title);
            let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
            text += &line(&table.head);
            text += &format!("|{}\n", "---|".repeat(table.head.len()));
            table.rows.iter().for_each(|row| text += &line(row));
            table.notes.iter().for_each(|note| text.extend(["\n", &note.replace('*', r"\*"), "\n"]));
            text.push('\n');
        }
        text
    }
}
