//! The command line of the multithreaded variants, and the line that says where they listen. It knows no server.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{ExitCode, exit};

/// What the user asked for.
pub(crate) struct Arguments {
    /// The TCP port on 127.0.0.1; 0 picks a free one.
    pub(crate) port: u16,
    /// The memory limit of all shards together, in bytes.
    pub(crate) max_memory: usize,
    /// How many event loops there are.
    #[allow(dead_code, reason = "a thread for each connection needs no number")]
    pub(crate) threads: usize,
}

/// Parses the command line, serves, and returns the exit status. `more` are the options that not all variants have,
/// each with its help text.
pub(crate) fn run(
    name: &str,
    what: &str,
    more: &[(&str, &str)],
    serve: impl FnOnce(&Arguments) -> io::Result<()>,
) -> ExitCode {
    let arguments = parse(name, what, more).map_err(|problem| (2, problem.to_string()));
    match arguments.and_then(|arguments| serve(&arguments).map_err(|problem| (1, problem.to_string()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err((status, problem)) => {
            eprintln!("{name}: {problem}");
            ExitCode::from(status)
        }
    }
}

/// Prints the address to standard output. A closed pipe is not an error.
pub(crate) fn announce(address: SocketAddr) {
    let _ = writeln!(io::stdout(), "listening on {address}");
}

/// Parses the command line. `--help` prints the usage and ends the program.
fn parse(name: &str, what: &str, more: &[(&str, &str)]) -> Result<Arguments, lexopt::Error> {
    use lexopt::prelude::*;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = Arguments { port: 0, max_memory: 1 << 30, threads };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("port") => arguments.port = parser.value()?.parse()?,
            Long("max-memory") => arguments.max_memory = parser.value()?.parse()?,
            Long("threads") if more.iter().any(|(option, _)| option.starts_with("threads")) => {
                arguments.threads = parser.value()?.parse::<usize>()?.max(1);
            }
            Short('h') | Long("help") => {
                println!("{name}: {what}\n\n  --port N            TCP port on 127.0.0.1; 0 picks a free one (0)");
                println!("  --max-memory BYTES  what all keys and values may take (1 GiB)");
                more.iter().for_each(|(option, meaning)| println!("  --{option:<18}{meaning}"));
                exit(0);
            }
            _ => return Err(argument.unexpected()),
        }
    }
    Ok(arguments)
}
