//! The server's process: what the kernel says about its memory, processor time and descriptors, and having it stand
//! still for a while or do with less. Read from `/proc`, so these tests need Linux.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, prlimit};

use crate::server::{Server, wait_until};

/// Stops the server's process while clients send, so that it then finds everything at once.
pub(crate) fn at_once(server: &Server, send: impl FnOnce()) {
    server.signal(Signal::STOP);
    wait_until("the server to stop", || server.status_line("State").starts_with('T'));
    send();
    server.signal(Signal::CONT);
}

/// As when the system's limit is lowered, or the table of all processes' files is full.
pub(crate) fn limit_descriptors(server: &Server, count: u64) {
    let limit = Rlimit { current: Some(count), maximum: Some(count) };
    prlimit(Some(server.pid()), Resource::Nofile, limit).expect("the limit can be lowered");
}

/// Resident memory in bytes.
pub(crate) fn resident_bytes(server: &Server) -> u64 {
    kilobytes(server, "VmRSS")
}

/// The most that resident memory ever was, in bytes.
pub(crate) fn peak_resident_bytes(server: &Server) -> u64 {
    kilobytes(server, "VmHWM")
}

/// How many descriptors it holds.
pub(crate) fn descriptors(server: &Server) -> usize {
    let path = format!("/proc/{}/fd", server.pid());
    fs::read_dir(path).expect("the server's process is there").count()
}

/// The share of one core that the server's main thread takes over about a second.
pub(crate) fn cpu_share(server: &Server) -> f64 {
    let (before, since) = (cpu_time(server), Instant::now());
    sleep(Duration::from_secs(1));
    let spent = cpu_time(server) - before;
    spent.as_secs_f64() / since.elapsed().as_secs_f64()
}

/// Waits until the server has nothing to do for now. One that sleeps has nothing; one that only waits for a core would
/// take as little time of it.
pub(crate) fn wait_until_quiet(server: &Server) {
    let sleeps = || server.status_line("State").starts_with('S');
    wait_until("the server to come to rest", || {
        let (before, slept) = (cpu_time(server), sleeps());
        sleep(Duration::from_millis(100));
        slept && sleeps() && cpu_time(server) - before < Duration::from_millis(5)
    });
}

/// The CPU time that it has taken in user mode and in the kernel, in hundredths of a second.
pub(crate) fn cpu_ticks(server: &Server) -> [i64; 2] {
    stat(server, [12, 13])
}

/// How often it touched a page that it had to be given.
pub(crate) fn page_faults(server: &Server) -> i64 {
    let [faults] = stat(server, [8]);
    faults
}

fn stat<const N: usize>(server: &Server, fields: [usize; N]) -> [i64; N] {
    let path = format!("/proc/{}/stat", server.pid());
    let text = fs::read_to_string(path).expect("the server's process is there");
    let all: Vec<_> = text.rsplit(')').next().unwrap().split(' ').collect();
    fields.map(|at| all[at].parse().expect("a number"))
}

/// How long the server and the calling thread have waited for a core, together.
pub(crate) fn core_wait(server: &Server) -> Duration {
    schedule(&server.pid().to_string())[1] + schedule("thread-self")[1]
}

fn cpu_time(server: &Server) -> Duration {
    schedule(&server.pid().to_string())[0]
}

/// How long a thread has had a core, and how long it has waited for one.
fn schedule(thread: &str) -> [Duration; 2] {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).expect("the thread is there");
    let mut times = text.split(' ').map(|nanos| Duration::from_nanos(nanos.parse().expect("nanoseconds")));
    [(); 2].map(|()| times.next().expect("a time"))
}

fn kilobytes(server: &Server, name: &str) -> u64 {
    let line = server.status_line(name);
    let number = line.strip_suffix(" kB").and_then(|number| number.parse().ok());
    number.map_or_else(|| panic!("{name}: {line:?}"), |number: u64| number * 1024)
}
