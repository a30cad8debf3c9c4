//! The page: charts, tables, and everything that is needed to doubt or repeat them, in one file that needs no network.

use std::error::Error;
use std::fmt::Write;

use crate::charts::{self, Bar, Dots, SHAPES};
use crate::contenders::{Contender, Role};
use crate::in_process;
use crate::machine::Machine;
use crate::options::{KEY_BYTES, Options};
use crate::results::{Measurement, PERCENTILES, Results, Spread, Summary, count};
use crate::table::{self, Table};

const STYLE: &str = "
:root { color-scheme: light dark; --faint: color-mix(in srgb, CanvasText 18%, Canvas); }
body { margin: 2rem auto; max-width: 56rem; padding: 0 1rem; background: Canvas; color: CanvasText;
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin-top: 2.5rem; } h3 { font-size: 1rem; }
.chart { overflow-x: auto; } svg { display: block; width: 100%; min-width: 40rem; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; display: block; overflow-x: auto; }
th, td { padding: .2rem .7rem; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
code, pre { font: .85rem/1.45 ui-monospace, monospace; } pre { overflow-x: auto; }
dt { font-weight: 600; } dd { margin: 0 0 .5rem; }
.key span { margin-right: 1em; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border-radius: 2px; }
.note { opacity: .75; font-size: .9rem; }
";

pub(crate) fn render(
    options: &Options,
    machine: &Machine,
    contenders: &[Contender],
    results: &Results,
) -> Result<String, Box<dyn Error>> {
    let summaries = results.summaries(options, machine, contenders);
    let tables = table::render(options, machine, contenders, results).0;
    let mut body = String::new();
    let finding = finding(options, &summaries);
    let _ = writeln!(body, "<h1>{}</h1>\n<p>{}</p>", text(&finding), text(&setting(options, machine)));
    body += &key();

    heading(&mut body, "What a request costs the server");
    paragraph(
        &mut body,
        "Nanoseconds of the server's own CPU time, the kernel's work for its sockets included; shorter is better. The bare \
         echo reads and writes and does nothing else, so no server on these sockets can cost less. It is here twice: what \
         the two differ by is noise.",
    );
    by_depth(&mut body, options, &summaries, "nanoseconds a request", 1.0, |summary| &summary.cost)?;
    heading(&mut body, "How many requests go through");
    paragraph(&mut body, "Thousand requests a second, with as many as the connections take; longer is better.");
    by_depth(&mut body, options, &summaries, "thousand requests a second", 1e-3, |summary| &summary.rate)?;

    heading(&mut body, &format!("Latency at {} requests a second", count(f64::from(options.rate))));
    let shapes = PERCENTILES.iter().zip(SHAPES).map(|((name, _), shape)| format!("{shape} {name}"));
    paragraph(
        &mut body,
        &format!(
            "{}; further left is better. The same arrivals for all, and a latency counts from the moment at which its \
             request was due, so a stall shows in all that had to wait for it. Medians over the rounds.",
            shapes.collect::<Vec<_>>().join("   ")
        ),
    );
    let dots = summaries.iter().map(|summary| Dots {
        name: summary.title() + if summary.is_rate_missed { " *" } else { "" },
        role: summary.contender.role,
        nanos: summary.latency.iter().map(|spread| spread.map(|spread| spread.median)).collect(),
    });
    body += &charts::dots(&dots.collect::<Vec<_>>())?;
    if summaries.iter().any(|summary| summary.is_rate_missed) {
        note(&mut body, table::RATE_MISSED);
    }

    let memory: Vec<_> = summaries.iter().filter_map(|s| Some(bar(s, Some(s.item_bytes?), 1.0, ""))).collect();
    if !memory.is_empty() {
        heading(&mut body, "Memory per item");
        let items = count(options.items as f64);
        let what = format!(
            "Bytes of resident memory beyond key ({KEY_BYTES}) and value ({}), when {items} items are filled into an empty \
             server; shorter is better.",
            options.value_size
        );
        paragraph(&mut body, &what);
        body += &charts::bars("bytes an item", &memory, 1)?;
    }

    heading(&mut body, "What threads gain and locks cost");
    paragraph(
        &mut body,
        "Session and store alone, without sockets, with each thread on a core of its own. A store for each thread is one \
         server for each core; the shared stores are sixteen, each behind a lock. Longer is better.",
    );
    for depth in &options.depths {
        let bars = in_process::rows(&machine.cores).into_iter().map(|(name, is_shared, _)| Bar {
            figure: results
                .spread(&name, Measurement::InProcess(*depth), "requests_per_second")
                .map(|s| scaled(s, 1e-6)),
            role: if is_shared { Role::Variant } else { Role::Own },
            name,
            mark: "",
        });
        depth_heading(&mut body, *depth);
        body += &charts::bars("million requests a second, all threads together", &bars.collect::<Vec<_>>(), 2)?;
    }
    if machine.cores.len() <= 2 {
        paragraph(
            &mut body,
            "This machine has too few cores to show what servers on several cores do with sockets: one is the load \
             generator's. On a machine with more, this comparison also measures them on all cores but that one.",
        );
    }

    heading(&mut body, "The figures");
    tables.iter().for_each(|figures| table_html(&mut body, figures));
    heading(&mut body, "How they came about");
    circumstances(&mut body, options, machine, &summaries);
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>{}</title>\n<style>{STYLE}</style>\n{body}</html>\n",
        text(&finding)
    ))
}

/// The result in one sentence, worded in the same way whoever comes out ahead.
fn finding(options: &Options, summaries: &[Summary<'_>]) -> String {
    let middle = options.depths.len() / 2;
    let cost = |summary: &Summary<'_>| summary.cost[middle].map(|cost| cost.median);
    let of = |role| summaries.iter().filter(move |summary| summary.contender.role == role);
    let least = |role| of(role).filter_map(|s| Some((s.title(), cost(s)?))).min_by(|a, b| a.1.total_cmp(&b.1));
    let Some(own) = of(Role::Own).find_map(cost) else {
        return "GoStash could not be measured".to_owned();
    };
    let mut parts = vec![format!("{} ns for GoStash", count(own))];
    for role in [Role::Floor, Role::Variant, Role::Peer] {
        let first = if role == Role::Floor { of(role).find_map(|s| Some((s.title(), cost(s)?))) } else { least(role) };
        if let Some((name, cost)) = first {
            parts.push(format!("{} for {name}", count(cost)));
        }
    }
    format!("CPU time of a request in pipelines of {}: {}", options.depths[middle], parts.join("; "))
}

fn setting(options: &Options, machine: &Machine) -> String {
    let Options { clients, keys, value_size, rounds, duration, .. } = options;
    let (rounds, lines) = match rounds {
        1 => ("one round".to_owned(), ""),
        _ => (format!("medians of {rounds} rounds"), " Lines on the bars go from the least to the most."),
    };
    format!(
        "{}, on {}, {} cores, {}. {} {clients} clients, {} keys of {KEY_BYTES} bytes drawn evenly, values of {value_size} \
         bytes, 90 % GET and 10 % SET; {rounds} of {duration} s each, in turn, with a new process in each round.{lines}",
        machine.day(),
        machine.processor,
        machine.cores.len(),
        machine.kernel,
        machine.placement(),
        count(*keys as f64),
    )
}

fn key() -> String {
    let roles = [
        (Role::Own, "this server"),
        (Role::Variant, "its parts under threads and locks"),
        (Role::Floor, "the floor"),
        (Role::Peer, "other projects"),
    ];
    let entry = |(role, name)| format!("<span><i style=\"background: {}\"></i>{name}</span>", charts::css_colour(role));
    format!("<p class=\"key\">{}</p>\n", roles.map(entry).join(" "))
}

fn by_depth(
    body: &mut String,
    options: &Options,
    summaries: &[Summary<'_>],
    unit: &str,
    scale: f64,
    figure: impl for<'a> Fn(&'a Summary<'_>) -> &'a [Option<Spread>],
) -> Result<(), Box<dyn Error>> {
    let is_rate = scale < 1.0;
    for (place, depth) in options.depths.iter().enumerate() {
        let bars: Vec<_> = summaries
            .iter()
            .map(|summary| {
                let mark = if is_rate && summary.is_limited_elsewhere[place] { " *" } else { "" };
                bar(summary, figure(summary)[place], scale, mark)
            })
            .collect();
        depth_heading(body, *depth);
        *body += &charts::bars(unit, &bars, 0)?;
    }
    if is_rate && summaries.iter().any(|summary| summary.is_limited_elsewhere.contains(&true)) {
        note(body, table::NOT_THE_LIMIT);
    }
    Ok(())
}

fn bar(summary: &Summary<'_>, figure: Option<Spread>, scale: f64, mark: &'static str) -> Bar {
    let figure = figure.map(|spread| scaled(spread, scale));
    Bar { name: summary.title(), role: summary.contender.role, figure, mark }
}

fn scaled(Spread { median, least, most }: Spread, scale: f64) -> Spread {
    Spread { median: median * scale, least: least * scale, most: most * scale }
}

fn table_html(body: &mut String, table: &Table) {
    let _ = writeln!(body, "<h3>{}</h3>\n<table>", text(&table.title));
    let line = |cells: &[String], tag: &str| {
        let cells = cells.iter().map(|cell| format!("<{tag}>{}</{tag}>", text(cell)));
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    *body += &line(&table.head, "th");
    table.rows.iter().for_each(|row| *body += &line(row, "td"));
    *body += "</table>\n";
    table.notes.iter().for_each(|what| note(body, what));
}

fn circumstances(body: &mut String, options: &Options, machine: &Machine, summaries: &[Summary<'_>]) {
    let Machine { stamp, processor, kernel, memory, compiler, commit, cores, .. } = machine;
    let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    *body += "<dl>\n";
    for (name, what) in [
        ("Begun", format!("{stamp} UTC")),
        ("Machine", format!("{processor}; cores {cores}; {memory} of memory")),
        ("System", kernel.clone()),
        ("Built from", format!("commit {commit}, with {compiler}")),
        ("To repeat it", options.command.clone()),
    ] {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", text(&what));
    }
    *body += "</dl>\n<h3>Commands</h3>\n<pre>";
    for Summary { contender, version, .. } in summaries {
        let Contender { name, protocol, command, cores, .. } = contender;
        let cores = cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
        let place = if cores.is_empty() { String::new() } else { format!(" on core {cores}") };
        let _ = writeln!(body, "{}", text(&format!("# {name} {version}, protocol {protocol}{place}\n{command}")));
    }
    let Options { clients, keys, value_size, duration, warmup, rate, items, .. } = options;
    let load = format!(
        "\n# the load, for each depth; the latencies with --rate {rate} --pipeline 64 instead\n\
         gostash-bench --port PORT --protocol PROTOCOL --clients {clients} --keys {keys} --value-size {value_size} \
         --duration {duration} --warmup {warmup} --pipeline DEPTH\n\
         # memory: resident size after --keys {items} --requests 20000 --get-percent 100 --warmup 0 --pipeline 64, less that\n\
         # of 100 keys; no figure if a key is missing then\n"
    );
    let _ = writeln!(body, "{}</pre>", text(&load));
}

fn depth_heading(body: &mut String, depth: usize) {
    let depth = if depth == 1 { "One request at a time".to_owned() } else { format!("Pipelines of {depth}") };
    let _ = writeln!(body, "<h3>{depth}</h3>");
}

fn heading(body: &mut String, title: &str) {
    let _ = writeln!(body, "<h2>{}</h2>", text(title));
}

fn paragraph(body: &mut String, what: &str) {
    let _ = writeln!(body, "<p>{}</p>", text(what));
}

fn note(body: &mut String, what: &str) {
    let _ = writeln!(body, "<p class=\"note\">{}</p>", text(what));
}

/// Escapes text for HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
