//! gostash-bench: loads a cache server and reports throughput, latency, and the server's CPU time and memory. It speaks
//! `GoStash` frames, the Redis protocol, memcached's text protocol and plain echo, so that one client does the same
//! work against different servers.
//!
//! The life of a request: [`draws`] picks a command and a key, or a [`mod@replay`] takes both from a trace.
//! [`workload`] encodes them with the templates of [`protocol`]. [`mod@load`] decides when it is sent and on which
//! [`connection`], which also pairs each reply with its request. The [`phase`] counts the reply. [`process`] reads what
//! the server used, and [`report`] prints. Of the server's own code only limits, the parsing of sizes, and
//! [`Output`](gostash::output::Output) with its values are used: with more, both sides might be wrong in the same way.
//!
//! Where a change goes: a command is a variant of [`protocol::Operation`] with a row in each protocol, and a protocol is
//! these rows. `Phase::note` says what of it is a hit. An option is a row in [`options`], which has its help. How keys
//! are drawn is in [`draws`], and told above the table by `report::head`. A figure is added in `Phase::figures`: JSON has
//! all of them, the table those that a column or a note names.

// In a binary, `pub` means what the other modules may use.
#![allow(unreachable_pub)]

mod connection;
mod draws;
mod load;
mod options;
mod phase;
mod process;
mod protocol;
mod replay;
mod report;
mod workload;

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use load::Load;
use options::Options;
use replay::Trace;

/// The exit status of a program that Ctrl-C has ended, as shells report it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = Options::parse().map_err(|problem| (2, problem));
    let done = done.and_then(|options| run(options).map_err(|problem| (1, problem)));
    ExitCode::from(done.unwrap_or_else(|(status, problem)| {
        report::progress("");
        // One line, whatever characters it quotes; and where it cannot be written, the status tells all the same.
        let problem = problem.to_string().replace(char::is_control, "?");
        let _ = writeln!(std::io::stderr(), "gostash-bench: {problem}");
        status
    }))
}

/// Measures each depth, or replays a trace, prints the results and returns the exit status.
fn run(mut options: Options) -> Result<u8, Box<dyn Error>> {
    let mut trace = Trace::read(&mut options)?;
    let mut load = Load::new(&options, draws::draws(&options))?;
    if options.preload {
        load.preload()?;
    }
    if !options.json {
        print(&report::head(&options))?;
    }
    let mut foot = String::new();
    for &depth in &options.pipeline {
        let Some(figures) = load.run(depth, trace.take())? else { break };
        if options.json {
            print(&report::json(&options, &figures))?;
        } else {
            print(&report::row(&options, &figures))?;
            foot = report::foot(&figures);
        }
    }
    print(&foot)?;
    load.all_answered()?;
    Ok(if load.is_interrupted() { INTERRUPTED } else { 0 })
}

/// Prints and flushes. A closed pipe is not an error.
fn print(text: &str) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
        _ => Ok(()),
    }
}
