//! What a request costs once its bytes are read: frame in, reply out, without a socket. Every reply is checked.
//!
//! `cargo bench --bench handler`. Keys have 16 bytes and values 32. A time is that of one request in a pipeline of 64,
//! which is how busy clients send them. `one at a time` has one request in each turn, and includes the cost of the
//! turn. The rows have the names of those in the original's benchmark.

use std::cell::{LazyCell, RefCell};
use std::ops::Deref;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use gostash::batch::{Visit, process};
use gostash::execute::Executor;
use gostash::session::Session;
use gostash::store::{Eviction, Settings, Store};

/// Requests in a turn.
const PIPELINE: usize = 64;

/// How many keys the rows in random order have: so many that their items do not fit into a core's own caches.
const KEYS: usize = 100_032;

/// A session and its store, and nothing else of the server.
struct Handler {
    sessions: [Box<Session>; 1],
    executor: Executor,
}

/// Frames, and the expected reply to each.
#[derive(Clone, Default)]
struct Script {
    frames: Vec<u8>,
    frame_ends: Vec<usize>,
    replies: Vec<u8>,
    reply_ends: Vec<usize>,
}

fn one_key(criterion: &mut Criterion) {
    rows(criterion, "one key", PIPELINE, &[0; PIPELINE]);
}

fn one_at_a_time(criterion: &mut Criterion) {
    rows(criterion, "one at a time", 1, &[0; PIPELINE]);
}

fn random_keys(criterion: &mut Criterion) {
    let mut order: Vec<usize> = (0..KEYS).collect();
    // A fixed shuffle: every run measures the same order.
    let mut state = 0x9e37_79b9_u64;
    for at in (1..KEYS).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    rows(criterion, "100,000 keys in random order", PIPELINE, &order);
}

/// The five rows, each repeating the keys in `order`. What a row needs is made on first use, as rows may be left out.
fn rows(criterion: &mut Criterion, group: &str, pipeline: usize, order: &[usize]) {
    let mut group = criterion.benchmark_group(group);
    let value = [b'v'; 32];
    let set = |key| (set_frame(key, &value), b"OK\r\n".to_vec());
    let sets = LazyCell::new(|| script(order, set));
    let gets = LazyCell::new(|| script(order, |key| (frame("GET", key), [&value[..], b"\r\n"].concat())));
    let filled = RefCell::new(LazyCell::new(|| {
        let mut handler = Handler::new();
        handler.run(&sets, pipeline);
        handler
    }));
    let requests: [(&str, &dyn Deref<Target = Script>); 2] = [("get", &gets), ("set", &sets)];
    for (name, requests) in requests {
        group.bench_function(name, |bencher| {
            let mut handler = filled.borrow_mut();
            bencher.iter_custom(|count| repeat(count, order.len(), || handler.run(requests, pipeline)));
        });
    }
    for (name, command, delta) in [("incr", "INC", 1), ("decr", "DEC", -1)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let (mut handler, mut numbers) = (Handler::new(), vec![0_i64; KEYS]);
                let mut round = || {
                    // The replies change with every round, so the script is made anew, which is not timed.
                    let steps = script(order, |key| {
                        numbers[key] += delta;
                        (frame(command, key), format!("{}\r\n", numbers[key]).into_bytes())
                    });
                    handler.run(&steps, pipeline)
                };
                // The first round creates the keys.
                round();
                repeat(count, order.len(), round)
            });
        });
    }
    // A key can be deleted only once, so the keys are put back after each round, which is not timed, and the "one key"
    // is as many keys as a round has requests.
    let distinct: Vec<usize> = if order.len() == KEYS { order.to_vec() } else { (0..order.len()).collect() };
    let put_back = LazyCell::new(|| script(&distinct, set));
    let dels = LazyCell::new(|| script(&distinct, |key| (frame("DEL", key), b"OK\r\n".to_vec())));
    group.bench_function("del", |bencher| {
        let mut handler = filled.borrow_mut();
        bencher.iter_custom(|count| {
            repeat(count, order.len(), || {
                handler.run(&put_back, pipeline);
                handler.run(&dels, pipeline)
            })
        });
    });
    group.finish();
}

/// Runs rounds of `len` requests until at least `count` are done, and returns the time of `count` requests.
fn repeat(count: u64, len: usize, mut round: impl FnMut() -> Duration) -> Duration {
    let rounds = count.div_ceil(len as u64);
    let total: Duration = (0..rounds).map(|_| round()).sum();
    total.mul_f64(count as f64 / (rounds * len as u64) as f64)
}

impl Handler {
    fn new() -> Handler {
        let store = Store::new(Settings { memory_bytes: 1 << 30, eviction: Eviction::S3Fifo, default_ttl_millis: 0 });
        Handler { sessions: [Box::new(Session::new(1, 0))], executor: Executor::new(store, 1 << 20) }
    }

    /// Runs a script, `pipeline` requests in each turn, and returns how long that took. Panics on a wrong reply.
    fn run(&mut self, script: &Script, pipeline: usize) -> Duration {
        let since = Instant::now();
        let (mut frame_start, mut reply_start) = (0, 0);
        for last in (pipeline - 1..script.frame_ends.len()).step_by(pipeline) {
            let (frame_end, reply_end) = (script.frame_ends[last], script.reply_ends[last]);
            self.executor.begin_turn(0, 0);
            let input = frame_start..frame_end;
            let visits = &mut [Visit::new(0, input)];
            process(visits, &script.frames, &mut self.sessions, &mut self.executor);
            let output = &mut self.sessions[0].output;
            let reply = output.contiguous();
            assert!(reply == Some(&script.replies[reply_start..reply_end]), "{reply:?}");
            output.consume(reply_end - reply_start);
            (frame_start, reply_start) = (frame_end, reply_end);
        }
        since.elapsed()
    }
}

fn script(order: &[usize], mut exchange: impl FnMut(usize) -> (Vec<u8>, Vec<u8>)) -> Script {
    let mut script = Script::default();
    for &key in order {
        let (frame, reply) = exchange(key);
        script.frames.extend_from_slice(&frame);
        script.frame_ends.push(script.frames.len());
        script.replies.extend_from_slice(&reply);
        script.reply_ends.push(script.replies.len());
    }
    script
}

fn frame(command: &str, key: usize) -> Vec<u8> {
    format!("{command}\x0016\0{key:016}\r\n").into_bytes()
}

fn set_frame(key: usize, value: &[u8]) -> Vec<u8> {
    let mut frame = format!("SET\x0016\0{key:016}\0{}\0", value.len()).into_bytes();
    frame.extend_from_slice(value);
    frame.extend_from_slice(b"\r\n");
    frame
}

criterion_group!(benches, one_key, one_at_a_time, random_keys);
criterion_main!(benches);
