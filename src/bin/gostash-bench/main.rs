//! gostash-bench: loads a cache server and says what that cost whom. It speaks `GoStash` frames, the Redis protocol,
//! memcached's and plain echo, so that one client does the same work against different servers.
//!
//! The life of a request: [`workload`] picks a command and a key and writes it in the words of [`protocol`] to an
//! [`output`]; [`mod@load`] decides when, and on which [`socket`]; [`replies`] pairs what comes back with what was
//! asked. [`process`] reads what the server used, [`report`] prints. [`mod@replay`] sends a recorded trace instead.
//! It shares nothing with the server but one limit, lest both be wrong in the same way.

// What one module offers the others is `pub` here; a binary has nobody else to offer it to.
#![allow(unreachable_pub)]

mod load;
mod options;
mod output;
mod process;
mod progress;
mod protocol;
mod replay;
mod replies;
mod report;
mod socket;
mod workload;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use load::{Failure, Load};
use options::{Options, Request};
use process::Process;
use report::Report;
use signal_hook::consts::SIGINT;

/// What a shell reports for a program that Ctrl-C ended: what was printed is not the whole.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let request = match Request::parse(std::env::args_os().skip(1)) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("gostash-bench: {error}");
            return ExitCode::from(2);
        }
    };
    let done = match &request {
        Request::Print(text) => {
            print(text);
            return ExitCode::SUCCESS;
        }
        Request::Load(options) => load(options),
        Request::Replay(trace, options) => replay(trace, options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(INTERRUPTED),
        Err(failure) => {
            eprintln!("gostash-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs each depth and prints a row for it. Whether it came to its end.
fn load(options: &Options) -> Result<bool, Failure> {
    let interrupted = interruption();
    let mut load = Load::new(options, &interrupted)?;
    let server = Process::find(options);
    let report = Report::new(options, server);
    if options.preload {
        load.preload()?;
    }
    if !options.json {
        print(&report.head());
    }
    for (place, &depth) in options.depths.iter().enumerate() {
        if load.is_interrupted() {
            return Ok(false);
        }
        let row = load.run(depth, server)?;
        print(&if options.json { report.json(&row) } else { report.row(&row) });
        if row.interrupted || place + 1 == options.depths.len() {
            if !options.json {
                print(&report.foot(&row));
            }
            return Ok(!row.interrupted);
        }
    }
    Ok(true)
}

/// Replays a trace and prints what became of it. Whether it came to its end.
fn replay(trace: &Path, options: &Options) -> Result<bool, Failure> {
    let summary = replay::replay(trace, options, &interruption())?;
    print(&if options.json { report::replay_json(&summary, options) } else { report::replay(&summary, options) });
    Ok(!summary.interrupted)
}

/// Becomes true with the first Ctrl-C; the second ends the program. So would the first if the handlers could not be set.
fn interruption() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&interrupted));
    let _ = signal_hook::flag::register(SIGINT, Arc::clone(&interrupted));
    interrupted
}

/// Prints and flushes; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
