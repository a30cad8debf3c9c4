//! gostash-bench: loads a cache server and says what that cost whom. It speaks `GoStash` frames, the Redis protocol,
//! memcached's and plain echo, so that one client does the same work against different servers.
//!
//! The life of a request: [`workload`] picks a command and a key and writes it in the words of [`protocol`] to an
//! [`output`]; [`load`] decides when, and on which [`socket`]; [`replies`] pairs what comes back with what was
//! asked. [`process`] reads what the server used, [`report`] prints. [`replay`] sends a recorded trace instead.
//! It shares nothing with the server but one limit, lest both be wrong in the same way.

// What one module offers the others is `pub` here; a binary has nobody else to offer it to.
#![allow(unreachable_pub)]

mod load;
mod options;
mod output;
mod process;
mod progress;
mod protocol;
mod replies;
mod report;
mod socket;
mod workload;

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use load::{Failure, Load};
use options::{Options, Request};
use process::Process;
use report::Report;

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
        Request::Replay(_trace, _options) => Ok(true),
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
    let interrupted = Arc::new(AtomicBool::new(false));
    // Without the handler Ctrl-C ends the program at once, which is no worse than not running.
    let _ = signal_hook::flag::register_conditional_default(signal_hook::consts::SIGINT, Arc::clone(&interrupted));
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::clone(&interrupted));
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

/// Prints and flushes; a reader that has gone away is no reason to fail.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
