//! gostash-bench: loads a cache server and says what that cost whom. It speaks `GoStash` frames, the Redis protocol,
//! memcached's and plain echo, so that one client does the same work against different servers.
//!
//! The life of a request: [`draws`] picks a command and a key, or a [`mod@replay`] takes both from a trace;
//! [`workload`] writes them in the words of [`protocol`]; [`mod@load`] decides when, and on which [`connection`], which
//! also pairs what comes back with what was asked; the [`phase`] counts it, and the [`model`] knows what it had to be.
//! [`process`] reads what the server used, [`report`] prints. It shares nothing with the server but a limit and how
//! sizes are written, lest both be wrong in the same way.

// What one module offers the others is `pub` here; a binary has nobody else to offer it to.
#![allow(unreachable_pub)]

mod connection;
mod draws;
mod load;
mod model;
mod options;
mod phase;
mod process;
mod protocol;
mod replay;
mod report;
mod workload;

use std::io::Write;
use std::process::ExitCode;

use load::Load;
use options::Options;
use replay::Trace;

/// What a shell reports for a program that Ctrl-C ended: what was printed is not the whole.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = Options::parse().map_err(|problem| (2, problem));
    let done = done.and_then(|options| run(options).map_err(|problem| (1, problem)));
    ExitCode::from(done.unwrap_or_else(|(status, problem)| {
        eprintln!("gostash-bench: {problem}");
        status
    }))
}

/// Runs each depth, or replays a trace, prints what became of it, and returns the status to end with.
fn run(mut options: Options) -> Result<u8, String> {
    let mut trace = Trace::read(&mut options)?;
    let mut load = Load::new(&options)?;
    if options.preload {
        load.preload()?;
    }
    print(&report::head(&options));
    let mut foot = String::new();
    for &depth in &options.pipeline {
        if load.is_interrupted() {
            break;
        }
        let row = load.run(depth, trace.take())?;
        print(&report::row(&options, &row));
        foot = report::foot(&options, row.server);
    }
    print(&foot);
    Ok(if load.is_interrupted() { INTERRUPTED } else { 0 })
}

/// Prints and flushes; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
