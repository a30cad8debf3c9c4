//! What a request costs once its bytes are read: bytes in, reply out, without a socket. Every reply is checked.
//!
//! `cargo bench --bench handler`. Keys have 16 bytes and values 32. A time is that of one request in a pipeline of 64,
//! which is how busy clients send them. `one at a time` has one request in each turn, and includes the cost of the
//! turn. The first five rows have the names of those in the original's benchmark.
//!
//! `scripts/instructions.sh` counts the instructions of these rows instead.

use std::env;
use std::time::{Duration, Instant};

use criterion::Criterion;
use gostash::batch::{Visit, process};
use gostash::execute::Executor;
use gostash::session::Session;
use gostash::store::{Eviction, Settings, Store};

/// Requests in a turn.
const PIPELINE: usize = 64;
const LAST: usize = PIPELINE - 1;

/// How many keys the rows in random order have: so many that their items do not fit into a core's own caches.
const KEYS: usize = 100_032;

const VALUE: &str = "a value of 32 bytes without CRLF";

/// A row of the table: one kind of request, on a store that has what the requests expect.
struct Row {
    name: &'static str,
    handler: Handler,
    requests: Script,
    /// What takes their effect back, so that all rounds are the same. It is not timed.
    undo: Script,
}

/// A session and its store, and nothing else of the server.
struct Handler {
    session: [Box<Session>; 1],
    executor: Executor,
    /// Requests in a turn.
    pipeline: usize,
}

/// Requests, and the expected reply to each.
#[derive(Clone, Default)]
struct Script {
    requests: Vec<u8>,
    request_ends: Vec<usize>,
    replies: Vec<u8>,
    reply_ends: Vec<usize>,
}

fn main() {
    let mut random: Vec<usize> = (0..KEYS).collect();
    // A fixed shuffle: every run measures the same order.
    fastrand::Rng::with_seed(1).shuffle(&mut random);
    let groups = [
        ("one key", PIPELINE, &[0; PIPELINE][..]),
        ("one at a time", 1, &[0; PIPELINE]),
        ("100,000 keys in random order", PIPELINE, &random),
    ];
    let arguments: Vec<String> = env::args().collect();
    if let [_, option, title, name, rounds, ..] = &arguments[..]
        && option == "--rounds-of"
    {
        let (_, pipeline, order) = groups.into_iter().find(|group| group.0 == title).expect("a group");
        let mut row = rows(pipeline, order).into_iter().find(|row| row.name == name).expect("a row");
        row.run(rounds.parse().expect("a number of rounds"));
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (title, pipeline, order) in groups {
        let mut group = criterion.benchmark_group(title);
        for mut row in rows(pipeline, order) {
            group.bench_function(row.name, |bencher| {
                bencher.iter_custom(|count| {
                    let rounds = count.div_ceil(order.len() as u64);
                    row.run(rounds).mul_f64(count as f64 / (rounds * order.len() as u64) as f64)
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// The rows of a group. A round of each has a request for each key in `order`.
fn rows(pipeline: usize, order: &[usize]) -> [Row; 11] {
    let set = |key| (set_frame(key, VALUE), "OK\r\n".into());
    let sets = Script::new(order, set);
    let gets = Script::new(order, |key| (frame("GET", key), format!("{VALUE}\r\n")));
    let misses = Script::new(order, |key| (frame("GET", key), "ERR\r\n".into()));
    let resp_sets = Script::new(order, |key| (resp_frame(&["SET", &padded(key), VALUE]), "+OK\r\n".into()));
    let resp_gets = Script::new(order, |key| (resp_frame(&["GET", &padded(key)]), format!("$32\r\n{VALUE}\r\n")));
    // What an application that uses a cache sends, as a rule: each item has a time to live.
    let lives = Script::new(order, |key| (resp_frame(&["SET", &padded(key), VALUE, "EX", "3600"]), "+OK\r\n".into()));
    // What many client libraries make of a pipeline: its first request is MULTI, its last EXEC.
    let mut places = (0..PIPELINE).cycle();
    let transactions = Script::new(order, |key| match places.next() {
        Some(0) => (resp_frame(&["MULTI"]), "+OK\r\n".into()),
        Some(LAST) => {
            (resp_frame(&["EXEC"]), format!("*{}\r\n", LAST - 1) + &format!("$32\r\n{VALUE}\r\n").repeat(LAST - 1))
        }
        _ => (resp_frame(&["GET", &padded(key)]), "+QUEUED\r\n".into()),
    });
    // Each key's number is the key at first.
    let mut numbers: Vec<i64> = (0..KEYS as i64).collect();
    let starts = Script::new(order, |key| (set_frame(key, &key.to_string()), "OK\r\n".into()));
    let mut steps = |command, delta| {
        Script::new(order, |key| {
            numbers[key] += delta;
            (frame(command, key), format!("{}\r\n", numbers[key]))
        })
    };
    let (ups, downs) = (steps("INC", 1), steps("DEC", -1));
    // A key can be deleted only once, so `one key` is as many keys as a round has requests there.
    let distinct: Vec<usize> = if order.len() == KEYS { order.into() } else { (0..order.len()).collect() };
    let puts = Script::new(&distinct, set);
    let deletes = Script::new(&distinct, |key| (frame("DEL", key), "OK\r\n".into()));
    let nothing = Script::default();

    let rows: [(&str, &[&Script], &Script, &Script); 11] = [
        ("get", &[&sets], &gets, &nothing),
        ("set", &[&sets], &sets, &nothing),
        ("incr", &[&starts], &ups, &downs),
        ("decr", &[&starts, &ups], &downs, &ups),
        ("del", &[&puts], &deletes, &puts),
        ("miss", &[], &misses, &nothing),
        ("get, RESP", &[&resp_sets], &resp_gets, &nothing),
        ("set, RESP", &[&resp_sets], &resp_sets, &nothing),
        ("get, RESP, expiring", &[&lives], &resp_gets, &nothing),
        ("set, RESP, expiring", &[&lives], &lives, &nothing),
        ("get, RESP, MULTI", &[&resp_sets], &transactions, &nothing),
    ];
    rows.map(|(name, before, requests, undo)| {
        let mut handler = Handler::new(pipeline);
        before.iter().for_each(|script| handler.run(script));
        Row { name, handler, requests: requests.clone(), undo: undo.clone() }
    })
}

impl Row {
    /// Runs rounds, and returns how long their requests took.
    fn run(&mut self, rounds: u64) -> Duration {
        // To read the clock for each round of 64 requests takes 2 % of what they take.
        if self.undo.requests.is_empty() {
            let since = Instant::now();
            (0..rounds).for_each(|_| self.handler.run(&self.requests));
            return since.elapsed();
        }
        let mut round = || {
            let since = Instant::now();
            self.handler.run(&self.requests);
            let time = since.elapsed();
            self.handler.run(&self.undo);
            time
        };
        (0..rounds).map(|_| round()).sum()
    }
}

impl Handler {
    fn new(pipeline: usize) -> Handler {
        let store = Store::new(Settings { memory_bytes: 1 << 30, eviction: Eviction::S3Fifo, default_ttl_millis: 0 });
        Handler { session: [Box::new(Session::new(1, 0))], executor: Executor::new(store, 1 << 20), pipeline }
    }

    /// Runs a script. Panics on a wrong reply.
    fn run(&mut self, script: &Script) {
        let (mut request_start, mut reply_start) = (0, 0);
        for last in (self.pipeline - 1..script.request_ends.len()).step_by(self.pipeline) {
            let (request_end, reply_end) = (script.request_ends[last], script.reply_ends[last]);
            self.executor.begin_turn(0, 0);
            let visits = &mut [Visit::new(0, request_start..request_end)];
            process(visits, &script.requests, &mut self.session, &mut self.executor);
            let output = &mut self.session[0].output;
            let reply = output.contiguous();
            assert!(reply == Some(&script.replies[reply_start..reply_end]), "{reply:?}");
            output.consume(reply_end - reply_start);
            (request_start, reply_start) = (request_end, reply_end);
        }
    }
}

impl Script {
    fn new(order: &[usize], mut exchange: impl FnMut(usize) -> (String, String)) -> Script {
        let mut script = Script::default();
        for &key in order {
            let (request, reply) = exchange(key);
            script.requests.extend_from_slice(request.as_bytes());
            script.request_ends.push(script.requests.len());
            script.replies.extend_from_slice(reply.as_bytes());
            script.reply_ends.push(script.replies.len());
        }
        script
    }
}

fn padded(key: usize) -> String {
    format!("{key:016}")
}

fn frame(command: &str, key: usize) -> String {
    format!("{command}\x0016\0{key:016}\r\n")
}

fn set_frame(key: usize, value: &str) -> String {
    format!("SET\x0016\0{key:016}\0{}\0{value}\r\n", value.len())
}

fn resp_frame(arguments: &[&str]) -> String {
    let argument = |argument: &&str| format!("${}\r\n{argument}\r\n", argument.len());
    format!("*{}\r\n{}", arguments.len(), arguments.iter().map(argument).collect::<String>())
}
