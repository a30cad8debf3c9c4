//! Processes: starts them on their cores, waits for them, and ends them whatever happens. It knows neither what they
//! print nor why they are run.

use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::contenders::Contender;

/// How long a server may take until it accepts connections.
const START_PATIENCE: Duration = Duration::from_secs(10);

const LOOK_EVERY: Duration = Duration::from_millis(3);

/// Whether a signal has asked for the end. Everything that waits checks it.
#[derive(Clone)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// SIGINT, SIGTERM and SIGHUP all end the comparison in an orderly way.
    pub(crate) fn on_signals() -> io::Result<Stop> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Stop(flag))
    }

    /// Fails once the end was asked for.
    pub(crate) fn check(&self) -> Result<(), Box<dyn Error>> {
        if self.0.load(Ordering::Relaxed) { Err("interrupted".into()) } else { Ok(()) }
    }
}

/// A process and all its descendants, as a process group. Dropping it kills them.
struct Group(Child);

impl Group {
    /// Starts `command` on these cores; on all if the list is empty.
    fn start(command: &mut Command, cores: &[usize]) -> io::Result<Group> {
        // A child inherits the cores of the thread that starts it, so that is one of its own.
        let start = || {
            pin(cores);
            command.stdin(Stdio::null()).process_group(0).spawn().map(Group)
        };
        thread::scope(|scope| scope.spawn(start).join().expect("no panic"))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.0), Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A server that accepts connections. Dropping it ends it.
pub(crate) struct Server {
    _group: Group,
    pub(crate) port: u16,
}

impl Server {
    /// Starts a contender on a free port. `folder` is its working directory, and gets a file with what it prints.
    pub(crate) fn start(contender: &Contender, folder: &Path, stop: &Stop) -> Result<Server, Box<dyn Error>> {
        // Somebody else may take the port in between. Then the server fails, and another port is tried.
        let mut problem = Err("".into());
        for _ in 0..3 {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            problem = Self::start_on(port, contender, folder, stop);
            stop.check()?;
            if problem.is_ok() {
                break;
            }
        }
        problem
    }

    fn start_on(port: u16, contender: &Contender, folder: &Path, stop: &Stop) -> Result<Server, Box<dyn Error>> {
        let name: String = contender.name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let said = folder.join(format!("{name}.log"));
        let log = File::create(&said)?;
        let command = contender.command.replace("{port}", &port.to_string());
        let mut command_line = Command::new("sh");
        command_line.args(["-c", &command]).current_dir(folder).stdout(log.try_clone()?).stderr(log);
        // What the caller may have set for a server of his own: a client of it would need the password.
        command_line.env_remove("GOSTASH_PASSWORD").env_remove("RUST_LOG");
        let mut group = Group::start(&mut command_line, &contender.cores)?;
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            stop.check()?;
            let ended = group.0.try_wait()?.is_some();
            if ended || since.elapsed() > START_PATIENCE {
                let said = fs::read_to_string(said).unwrap_or_default();
                return Err(format!("{} did not start: {command}\n{said}", contender.name).into());
            }
            sleep(LOOK_EVERY);
        }
        Ok(Server { _group: group, port })
    }
}

/// Runs a command to its end on these cores, for at most `patience`.
pub(crate) fn run(
    command: &mut Command,
    cores: &[usize],
    patience: Duration,
    stop: &Stop,
) -> Result<Output, Box<dyn Error>> {
    let mut group = Group::start(command.stdout(Stdio::piped()).stderr(Stdio::piped()), cores)?;
    let since = Instant::now();
    let status = loop {
        if let Some(status) = group.0.try_wait()? {
            break status;
        }
        stop.check()?;
        if since.elapsed() > patience {
            return Err(format!("no end after {patience:?}").into());
        }
        sleep(LOOK_EVERY);
    };
    let mut output = Output { status, stdout: Vec::new(), stderr: Vec::new() };
    // What it has printed fits into the pipes, so it could end before anybody read.
    if let (Some(stdout), Some(stderr)) = (&mut group.0.stdout, &mut group.0.stderr) {
        io::Read::read_to_end(stdout, &mut output.stdout)?;
        io::Read::read_to_end(stderr, &mut output.stderr)?;
    }
    Ok(output)
}

/// Keeps this thread, and what it starts, on some cores; on all if there are none in the list.
pub(crate) fn pin(cores: &[usize]) {
    #[cfg(target_os = "linux")]
    if !cores.is_empty() {
        let mut set = rustix::thread::CpuSet::new();
        cores.iter().for_each(|core| set.set(*core));
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = cores;
}
