//! Session and store without sockets, driven by one thread and by several. This is where even a machine of two cores
//! shows what threads gain and what locks cost. Either each thread has a store of its own, as with one server per core,
//! or all share the sixteen locked stores of the multithreaded variants. Replies are checked by their total length.

use std::error::Error;
use std::io::sink;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;
use gostash::batch::{Visit, process};
use gostash::execute::Executor;
use gostash::limits::{OUTPUT_HIGH_BYTES, TURN_CONNECTIONS};
use gostash::protocol::stash::LINE_END;
use gostash::session::Session;
use gostash::store::{Eviction, Settings, Store};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::client::{Client, Scratch};
use crate::options::{KEY_BYTES, Options};
use crate::results::{Measurement, Results};
use crate::servers::{Stop, pin};
use crate::shards::Shards;

/// The memory limit of each store, in bytes.
const MEMORY_BYTES: usize = 1 << 30;

/// What an item takes beyond its key and value, rounded up.
const ITEM_OVERHEAD_BYTES: usize = 32;

/// Requests that a thread has ready, and sends again and again; fewer if their values would take more than so many
/// bytes.
const REQUESTS: usize = 64 * 1024;
const VALUES_BYTES_MAX: usize = 64 << 20;

/// Requests in a turn: pipelines of several clients, as in the server, which begins and ends a turn for all of them. The
/// locked stores do the same work after as many.
const TURN_REQUESTS: usize = 256;

/// The rows of the table: a name, whether the stores are shared, and the number of threads.
pub(crate) fn rows(cores: &[usize]) -> Vec<(String, bool, usize)> {
    let mut counts = vec![1, 2, cores.len()];
    counts.retain(|count| *count <= cores.len().max(1));
    counts.sort_unstable();
    counts.dedup();
    let mut rows = Vec::new();
    for (stores, is_shared) in [("a store for each thread", false), ("shared stores, locked", true)] {
        for &threads in &counts {
            let unit = if threads == 1 { "thread" } else { "threads" };
            rows.push((format!("{stores}, {threads} {unit}"), is_shared, threads));
        }
    }
    rows
}

pub(crate) fn round(
    options: &Options,
    cores: &[usize],
    round: usize,
    results: &mut Results,
    stop: &Stop,
) -> Result<(), Box<dyn Error>> {
    for (name, is_shared, threads) in rows(cores) {
        for &depth in options.depths.iter().filter(|depth| has_room(options, **depth)) {
            stop.check()?;
            let (rate, nanos) = measure(options, cores, is_shared, threads, depth);
            let row = json!({ "requests_per_second": rate, "server_cpu_ns_per_request": nanos });
            results.push(&name, Measurement::InProcess(depth), round, row);
        }
    }
    Ok(())
}

/// Whether the stores can hold all keys and the output all replies of a pipeline, so that every reply is the expected
/// one. Where they cannot, nothing is measured: a session stops at its high-water mark until somebody takes its output.
fn has_room(options: &Options, depth: usize) -> bool {
    let Options { keys, value_size, .. } = *options;
    let store_bytes = keys.saturating_mul(KEY_BYTES + value_size + ITEM_OVERHEAD_BYTES);
    store_bytes <= MEMORY_BYTES / 2 && reply_bytes(options, depth) <= OUTPUT_HIGH_BYTES
}

/// The length of a pipeline's replies, if all are values.
fn reply_bytes(options: &Options, depth: usize) -> usize {
    depth.saturating_mul(options.value_size + LINE_END.len())
}

/// Requests a second of all threads together, and CPU time for a request in nanoseconds.
fn measure(options: &Options, cores: &[usize], is_shared: bool, threads: usize, depth: usize) -> (f64, f64) {
    let shards = is_shared.then(|| Arc::new(Shards::new(MEMORY_BYTES)));
    let barrier = Barrier::new(threads);
    let room = OUTPUT_HIGH_BYTES / reply_bytes(options, depth).max(1);
    let clients = (TURN_REQUESTS / depth).min(room).clamp(1, TURN_CONNECTIONS);
    let done: Vec<Done> = thread::scope(|scope| {
        let spawn = |number: usize| {
            let (shards, barrier) = (shards.clone(), &barrier);
            scope.spawn(move || {
                pin(cores.get(number..=number).unwrap_or(&[]));
                let mut engine = shards.map_or_else(Engine::own, Engine::shared);
                if number == 0 || !is_shared {
                    engine.run(&Script::fill(options), 64, 1);
                }
                let script = Script::random(options, number as u64);
                barrier.wait();
                // Once to warm up.
                engine.run(&script, depth, clients);
                barrier.wait();
                let (since, cpu, mut requests) = (Instant::now(), cpu_time(), 0);
                while since.elapsed().as_secs_f64() < options.duration / 2.0 {
                    requests += engine.run(&script, depth, clients);
                }
                Done { requests: requests as f64, wall: since.elapsed(), cpu: cpu_time() - cpu }
            })
        };
        let threads: Vec<_> = (0..threads).map(spawn).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread whose replies are right")).collect()
    });
    let rate = done.iter().map(|done| done.requests / done.wall.as_secs_f64()).sum();
    let requests: f64 = done.iter().map(|done| done.requests).sum();
    let cpu: Duration = done.iter().map(|done| done.cpu).sum();
    (rate, cpu.as_nanos() as f64 / requests)
}

struct Done {
    requests: f64,
    wall: Duration,
    cpu: Duration,
}

/// The CPU time that this thread has used so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What answers requests: sessions and a store, as in the server, or clients of the locked stores.
enum Engine {
    Own(Box<([Box<Session>; TURN_CONNECTIONS], Executor)>),
    Shared(Box<(Vec<Client>, Scratch)>, Arc<Shards>),
}

impl Engine {
    fn own() -> Engine {
        let store =
            Store::new(Settings { memory_bytes: MEMORY_BYTES, eviction: Eviction::S3Fifo, default_ttl_millis: 0 });
        let sessions = std::array::from_fn(|_| Box::new(Session::new(1, 0)));
        Engine::Own(Box::new((sessions, Executor::new(store, 1 << 20))))
    }

    fn shared(shards: Arc<Shards>) -> Engine {
        let clients = (0..TURN_CONNECTIONS).map(|_| Client::default()).collect();
        Engine::Shared(Box::new((clients, Scratch::default())), shards)
    }

    /// Runs a script in turns, each with a pipeline of `depth` requests from each of `clients`, and returns how many
    /// requests it had. Panics if a reply is missing.
    fn run(&mut self, script: &Script, depth: usize, clients: usize) -> usize {
        let (mut start, mut replied, mut turn) = (0, 0, Vec::with_capacity(clients));
        for requests in script.ends.chunks(depth * clients) {
            turn.extend(requests.chunks(depth).map(|ends| mem::replace(&mut start, ends[ends.len() - 1])..start));
            replied += self.turn(&script.frames, &mut turn);
        }
        assert_eq!(replied, script.reply_bytes, "every request has its reply");
        script.ends.len()
    }

    /// Runs one turn, in which each client sends the frames of one range, and returns the length of all replies.
    fn turn(&mut self, frames: &[u8], turn: &mut Vec<Range<usize>>) -> usize {
        match self {
            Engine::Own(own) => {
                let (sessions, executor) = &mut **own;
                executor.begin_turn(0, 0);
                let mut visits: Vec<_> =
                    turn.drain(..).enumerate().map(|(slot, range)| Visit::new(slot, range)).collect();
                process(&mut visits, frames, sessions, executor);
                executor.housekeep();
                let take = |session: &mut Box<Session>| {
                    let count = session.output.len();
                    session.output.consume(count);
                    count
                };
                sessions[..visits.len()].iter_mut().map(take).sum()
            }
            Engine::Shared(shared, shards) => {
                let (clients, scratch) = &mut **shared;
                let mut reply_bytes = 0;
                for (client, range) in clients.iter_mut().zip(turn.drain(..)) {
                    client.process(&frames[range], shards, scratch);
                    reply_bytes += client.output.len();
                    // A sink never fails.
                    let _ = client.write_to(&mut sink(), scratch);
                }
                reply_bytes
            }
        }
    }
}

/// Frames, where each of them ends, and the length of all their replies.
struct Script {
    frames: Vec<u8>,
    ends: Vec<usize>,
    reply_bytes: usize,
}

impl Script {
    /// A SET of every key.
    fn fill(options: &Options) -> Script {
        Script::new((0..options.keys).map(|key| (key, true)), options.value_size)
    }

    /// 90 % GET and 10 % SET of random keys.
    fn random(options: &Options, seed: u64) -> Script {
        let mut random = Rng::with_seed(seed);
        // One in ten is a SET.
        let count = REQUESTS.min(10 * VALUES_BYTES_MAX / options.value_size.max(1));
        let requests = (0..count).map(|_| (random.usize(..options.keys), random.u8(..10) == 0));
        Script::new(requests, options.value_size)
    }

    fn new(requests: impl Iterator<Item = (usize, bool)>, value_bytes: usize) -> Script {
        let mut script = Script { frames: Vec::new(), ends: Vec::new(), reply_bytes: 0 };
        for (key, is_set) in requests {
            let verb = if is_set { "SET" } else { "GET" };
            script.frames.extend_from_slice(format!("{verb}\x0016\0{key:016}").as_bytes());
            if is_set {
                script.frames.extend_from_slice(format!("\0{value_bytes}\0").as_bytes());
                script.frames.resize(script.frames.len() + value_bytes, b'v');
            }
            script.frames.extend_from_slice(b"\r\n");
            script.ends.push(script.frames.len());
            script.reply_bytes += if is_set { "OK\r\n".len() } else { value_bytes + 2 };
        }
        script
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every reply is checked by its length, and a thread that panicked would leave the others waiting for ever.
    #[test]
    fn what_has_room_is_measured() {
        let options = |keys, value_size| Options { keys, value_size, duration: 0.01, ..Options::default() };
        for (keys, value_size, depth) in [(500, 1020, 64), (200, 65_000, 1)] {
            let options = options(keys, value_size);
            assert!(has_room(&options, depth));
            for is_shared in [false, true] {
                let (rate, nanos) = measure(&options, &[], is_shared, 1, depth);
                assert!(rate > 0.0 && nanos > 0.0, "{keys} {value_size} {depth}");
            }
        }
        assert!(has_room(&options(5_000_000, 32), 64));
        for (keys, value_size, depth) in [(500, 2000, 64), (500, 65_536, 1), (5_000_000, 300, 1)] {
            assert!(!has_room(&options(keys, value_size), depth), "{keys} {value_size} {depth}");
        }
    }
}
