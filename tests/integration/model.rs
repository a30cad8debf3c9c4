//! Random commands in random pieces, against a `HashMap` that obeys the same rules. A failure prints its seed, and
//! `GOSTASH_TEST_SEED` repeats it.

use std::collections::HashMap;
use std::thread;

use crate::client::{Client, dec, del, get, inc, line, set};
use crate::random::{Random, SEED_VARIABLE, seed};
use crate::server::Server;

/// Commands that each pipelining connection sends.
const COMMANDS: usize = 3_000;

/// What the store must hold.
#[derive(Default)]
struct Model(HashMap<Vec<u8>, Vec<u8>>);

/// Frames to send, the replies expected, and where the reply to each frame ends, to trace a mismatch back to its frame.
#[derive(Default)]
struct Script {
    send: Vec<u8>,
    expect: Vec<u8>,
    frames: Vec<(String, usize)>,
}

/// Every connection pipelines as fast as it can, on keys of its own; a reader compares each byte of the replies.
#[test]
fn pipelines_in_random_pieces() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let server = Server::start(&["--max-memory", "1gb"]);
    let models: Vec<Model> = thread::scope(|scope| {
        let runs: Vec<_> = (0..4)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    let mut random = Random::new(seed ^ (number << 56));
                    let mut model = Model::default();
                    let mut script = Script::default();
                    for _ in 0..COMMANDS {
                        let owner = format!("{number}:");
                        script.add(&random_frame(&mut random, owner.as_bytes()), &mut model);
                    }
                    script.run(&mut Client::tcp(server), &mut random);
                    model
                })
            })
            .collect();
        let done = runs.into_iter().map(thread::ScopedJoinHandle::join);
        done.map(|model| model.expect("every connection got its replies")).collect()
    });
    // A new connection must see exactly what the models still hold.
    let mut script = Script::default();
    for mut model in models {
        for key in model.0.keys().cloned().collect::<Vec<_>>() {
            script.add(&Frame::Get(key), &mut model);
        }
    }
    script.run(&mut Client::tcp(&server), &mut Random::new(seed));
}

/// Connections share the keys and take turns, each with a frame half sent while others are answered.
#[test]
fn shared_keys_in_turns() {
    let seed = seed();
    println!("{SEED_VARIABLE}={seed}");
    let server = Server::start(&["--max-memory", "1gb"]);
    let mut random = Random::new(seed);
    let mut model = Model::default();
    let mut clients: Vec<_> = (0..8).map(|_| Client::tcp(&server)).collect();
    let mut half_sent: Vec<Option<(Frame, Vec<u8>)>> = vec![None; clients.len()];
    for _ in 0..2 * COMMANDS {
        let turn = random.below(clients.len());
        let client = &mut clients[turn];
        match half_sent[turn].take() {
            // Frames take effect in the order in which they become complete.
            Some((frame, rest)) => {
                let reply = model.apply(&frame);
                client.check(&rest, &reply);
            }
            None => {
                let frame = random_frame(&mut random, b"");
                let bytes = frame.bytes();
                let cut = random.below(bytes.len());
                client.send(&bytes[..cut]);
                half_sent[turn] = Some((frame, bytes[cut..].to_vec()));
            }
        }
    }
}

/// One command, owned.
#[derive(Clone)]
enum Frame {
    Get(Vec<u8>),
    Set(Vec<u8>, Vec<u8>),
    Inc(Vec<u8>),
    Dec(Vec<u8>),
    Del(Vec<u8>),
}

impl Frame {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Frame::Get(key) => get(key),
            Frame::Set(key, value) => set(key, value),
            Frame::Inc(key) => inc(key),
            Frame::Dec(key) => dec(key),
            Frame::Del(key) => del(key),
        }
    }
}

impl Model {
    /// Carries out a command and returns the expected reply.
    fn apply(&mut self, frame: &Frame) -> Vec<u8> {
        let refused = b"ERR\r\n".to_vec();
        match frame {
            Frame::Get(key) => self.0.get(key).map_or(refused, |value| line(value)),
            Frame::Set(key, value) => {
                self.0.insert(key.clone(), value.clone());
                line(b"OK")
            }
            Frame::Inc(key) => self.add(key, 1).unwrap_or(refused),
            Frame::Dec(key) => self.add(key, -1).unwrap_or(refused),
            Frame::Del(key) => self.0.remove(key).map_or(refused, |_| line(b"OK")),
        }
    }

    fn add(&mut self, key: &[u8], delta: i64) -> Option<Vec<u8>> {
        let old = match self.0.get(key) {
            Some(value) => number(value)?,
            None => 0,
        };
        let new = old.checked_add(delta)?.to_string().into_bytes();
        self.0.insert(key.to_vec(), new.clone());
        Some(line(&new))
    }
}

/// An optional `-` and digits that fit 64 bits; the standard library's own rule but for its `+`.
fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    if text.starts_with('+') {
        return None;
    }
    text.parse().ok()
}

impl Script {
    fn add(&mut self, frame: &Frame, model: &mut Model) {
        let bytes = frame.bytes();
        self.send.extend_from_slice(&bytes);
        self.expect.extend_from_slice(&model.apply(frame));
        let shown = bytes[..bytes.len().min(60)].escape_ascii().to_string();
        self.frames.push((shown, self.expect.len()));
    }

    /// Sends everything in random pieces while the replies are compared as they come.
    fn run(&self, client: &mut Client, random: &mut Random) {
        let mut sender = client.again();
        let mut random = random.clone();
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut rest = &self.send[..];
                while !rest.is_empty() {
                    let most = random.pick(&[&3, &60, &5_000, &400_000]);
                    let (piece, later) = rest.split_at(rest.len().min(1 + random.below(*most)));
                    sender.send(piece);
                    rest = later;
                }
            });
            let mut buffer = vec![0; 64 * 1024];
            let mut at = 0;
            while at < self.expect.len() {
                let count = client.read(&mut buffer).expect("a reply in time");
                let due = &self.expect[at..self.expect.len().min(at + count)];
                if buffer[..count] != *due || count == 0 {
                    let same = due.iter().zip(&buffer).take_while(|(a, b)| a == b).count();
                    let frame = self.frames.iter().find(|frame| frame.1 > at + same);
                    let got = buffer[same..count.min(same + 60)].escape_ascii();
                    let due = due[same..due.len().min(same + 60)].escape_ascii();
                    panic!("the reply to {frame:?}: expected \"{due}\", got \"{got}\"");
                }
                at += count;
            }
        });
    }
}

/// A command on one of a few dozen keys, so that commands often share a key.
fn random_frame(random: &mut Random, owner: &[u8]) -> Frame {
    let key = random_key(random, owner);
    match random.below(10) {
        0..3 => Frame::Get(key),
        3..6 => Frame::Set(key, random_value(random)),
        6 => Frame::Del(key),
        7 => Frame::Dec(key),
        _ => Frame::Inc(key),
    }
}

fn random_key(random: &mut Random, owner: &[u8]) -> Vec<u8> {
    let kinds: [&[u8]; 6] = [b"", b"\0", b"\r\n", b"a\0b\r\nGET\x001\0", b"\xff\xfe", b"key"];
    let mut key = [owner, random.pick(&kinds)].concat();
    key.push(b'0' + random.below(6) as u8);
    if random.once_in(40) {
        key.resize(65_535, b'k');
    }
    // The empty key belongs to no connection, so only shared keys include it.
    if owner.is_empty() && random.once_in(20) {
        key.clear();
    }
    key
}

fn random_value(random: &mut Random) -> Vec<u8> {
    let edges: [&[u8]; 12] = [
        b"0",
        b"-0",
        b"-1",
        b"007",
        b"-",
        b"+1",
        b"abc",
        b"9223372036854775806",
        b"9223372036854775807",
        b"9223372036854775808",
        b"-9223372036854775807",
        b"-9223372036854775808",
    ];
    let len = match random.below(100) {
        0..40 => return random.pick(&edges).to_vec(),
        40..50 => {
            return random.pick(&[&b""[..], b"\r\n", b"\0", b"ERR", b"OK\r\n"]).to_vec();
        }
        50..90 => random.below(300),
        90..97 => random.below(5_000),
        // On both sides of the length from which a value is large.
        97..99 => 32_700 + random.below(200),
        _ => random.below(400_000),
    };
    random.bytes(len)
}
