//! How the server comes up: options, logger, limits, sockets, and then the loop. This is the only file that prints
//! usage or decides the exit status. It parses no option itself, and serves nothing.

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use gostash::config::{Config, Invocation};
use gostash::event_loop::EventLoop;
use gostash::event_loop::listener::{Listeners, raise_clients_max};
use gostash::execute::Executor;
use gostash::limits::VALUE_SHARE;
use gostash::store::{Settings, Store};
use gostash::{logger, memory};

const USAGE: u8 = 2; // an option makes no sense
const FAILURE: u8 = 1; // options make sense, but cannot be carried out

fn main() -> ExitCode {
    let result = match Config::from_args(std::env::args_os().skip(1), std::env::var_os("GOSTASH_PASSWORD")) {
        // Here and below, it is no error if standard output is closed or has no reader.
        Ok(Invocation::Print(text)) => io::stdout().write_all(text.as_bytes()).or(Ok(())),
        Ok(Invocation::Serve(config)) => serve(*config).map_err(|problem| (problem.to_string(), FAILURE)),
        Err(problem) => Err((problem, USAGE)),
    };
    let Err((problem, status)) = result else { return ExitCode::SUCCESS };
    // An error is one line, whatever characters it quotes.
    let _ = io::stderr().write_all((problem.replace(char::is_control, "?") + "\n").as_bytes());
    ExitCode::from(status)
}

fn serve(mut config: Config) -> Result<(), Box<dyn Error>> {
    memory::prevent_hoarding();
    logger::start(config.log_level).map_err(|problem| format!("cannot log to standard error: {problem}"))?;
    if let Err((clients, granted)) = raise_clients_max(config.max_clients) {
        log::warn!("max-clients is {clients}, not {}: the descriptor limit granted is {granted}", config.max_clients);
        config.max_clients = clients;
    }
    pin(&config)?;
    let listeners = Listeners::bind(&config)?;
    let addresses = listeners.addresses();
    if listeners.are_exposed() && config.password.is_none() {
        log::warn!("listening beyond this machine without a password: whoever can connect may read and write all keys");
    }
    let value_bytes_max = config.max_value_size.min(config.max_memory.bytes / VALUE_SHARE);
    config.max_memory.warn_if_too_much();
    log::info!("max-memory is {}; values may have up to {value_bytes_max} bytes", config.max_memory.text);
    let store = Store::new(Settings {
        memory_bytes: config.max_memory.bytes,
        eviction: config.eviction,
        default_ttl_millis: config.default_ttl * 1000,
    });
    let mut executor = Executor::new(store, value_bytes_max);
    executor.password = config.password.clone();
    // The loop, which handles signals, is there before this line appears: whoever waits for it may stop the server.
    let polling = |problem| format!("cannot poll: {problem}");
    let event_loop = EventLoop::new(config, listeners, executor).map_err(polling)?;
    let _ = writeln!(io::stdout(), "listening on {addresses}");
    log::info!("listening on {addresses}");
    Ok(event_loop.run().map_err(polling)?)
}

/// Pins this thread, which will run the event loop, to the core that was asked for.
fn pin(config: &Config) -> Result<(), String> {
    let Some(cpu) = config.cpu else { return Ok(()) };
    #[cfg(target_os = "linux")]
    {
        use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
        let mut set = CpuSet::new(); // of 128 cores with musl; one that is left empty is refused, too
        (cpu < CpuSet::MAX_CPU).then(|| set.set(cpu));
        sched_setaffinity(None, &set).map_err(|problem| {
            let usable = sched_getaffinity(None).unwrap_or_default();
            let usable: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| usable.is_set(*cpu)).collect();
            config.error("cpu", format!("expected a core that this process may use, {usable:?}, got {cpu}: {problem}"))
        })
    }
    #[cfg(not(target_os = "linux"))]
    Err(config.error("cpu", format!("this system cannot pin a process to core {cpu}")))
}
