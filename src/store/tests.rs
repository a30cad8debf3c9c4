//! Tests of the store as a whole: a model that it must agree with, and its bounds, counted.

use std::collections::HashMap;

use bytes::Bytes;

use super::*;
use crate::limits::CHUNK_BYTES;

impl Store {
    /// Checks every invariant there is: bytes counted are bytes held, and index, log and counters agree.
    fn check_everything(&self) {
        self.index.check();
        let items = self.log.check();
        assert_eq!(items.len(), self.len());
        let mut expiring = 0;
        for (handle, record) in items {
            let hash = self.hash(&self.log.bytes(handle)[record.key()]);
            let entry = self.index.shard(hash).find(hash, |entry| entry.handle() == handle);
            let entry = entry.expect("an item in the log is in the index");
            assert_eq!(entry.expires(), record.deadline != NEVER);
            assert!(record.deadline >= self.index.shard(hash).due || !entry.expires());
            expiring += usize::from(entry.expires());
        }
        assert_eq!(expiring, self.sweep.expiring);
    }
}

fn store(memory_bytes: usize, eviction: Eviction) -> Store {
    Store::new(Settings { memory_bytes, eviction, default_ttl_millis: 0, chunks: ChunkMeter::new() })
}

/// A small generator (xorshift64*, Vigna 2016), so that a seed reproduces a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A value of `length` bytes, those of whole chunks by reference.
struct Owned {
    chunks: Vec<Bytes>,
    rest: Vec<u8>,
}

impl Owned {
    fn new(store: &Store, length: usize, fill: u8) -> Owned {
        let chunk = || {
            let mut chunk = store.settings.chunks.chunk();
            chunk.fill(&[fill; CHUNK_BYTES]);
            chunk.freeze()
        };
        let chunks = (0..length / CHUNK_BYTES).map(|_| chunk()).collect();
        Owned { chunks, rest: vec![fill; length % CHUNK_BYTES] }
    }

    fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: &self.rest }
    }
}

fn flat(value: Value<'_>) -> Vec<u8> {
    let mut bytes: Vec<u8> = value.chunks.iter().flatten().copied().collect();
    bytes.extend_from_slice(value.rest);
    bytes
}

fn agrees_with_a_model(seed: u64, memory_bytes: usize, eviction: Eviction, keys: u64, steps: u64) {
    println!("seed {seed}, {memory_bytes} bytes, {eviction:?}, {keys} keys");
    let mut random = Random(seed | 1);
    let mut store = store(memory_bytes, eviction);
    let mut model: HashMap<u64, (Vec<u8>, u64)> = HashMap::new();
    let (mut now, mut lost, mut refused) = (0, 0, 0);
    for step in 0..steps {
        if random.below(64) == 0 {
            now += random.below(20);
            store.begin_turn(now, random.below(100_000) as usize);
        }
        let id = random.below(keys);
        let key = if id.is_multiple_of(50) { format!("{id:0300}") } else { format!("key {id}") };
        let (key, hash) = (key.as_bytes(), store.hash(key.as_bytes()));
        if model.get(&id).is_some_and(|(_, deadline)| *deadline <= now) {
            model.remove(&id);
        }
        // What the store must say, or that there is nothing: it may have evicted the item.
        let known = store.peek(hash, key).map(|(value, deadline)| (flat(value), deadline.unwrap_or(NEVER)));
        match (&known, model.get(&id)) {
            (Some(known), expected) => assert_eq!(Some(known), expected, "step {step}"),
            (None, None) => {}
            (None, Some(_)) => {
                assert_eq!(eviction, Eviction::S3Fifo, "step {step}: only a policy may lose a key");
                model.remove(&id);
                lost += 1;
            }
        }
        let length = match random.below(1000) {
            0 => random.below(5 * CHUNK_BYTES as u64),
            1..10 => random.below(30_000),
            10..100 => random.below(600),
            _ => random.below(60),
        };
        let fill = random.next() as u8;
        match random.below(12) {
            0..3 => {
                let value = store.get(hash, key).map(flat);
                assert_eq!(value, model.get(&id).map(|(value, _)| value.clone()));
            }
            3..7 => {
                let owned = Owned::new(&store, length as usize, fill);
                let deadline = if random.below(3) == 0 { now + 1 + random.below(500) } else { NEVER };
                let expiry = if deadline == NEVER { Expiry::Default } else { Expiry::At(deadline) };
                let condition = match random.below(4) {
                    0 => Condition::Missing,
                    1 => Condition::Present,
                    _ => Condition::Always,
                };
                let expected = match condition {
                    Condition::Always => true,
                    Condition::Missing => !model.contains_key(&id),
                    Condition::Present => model.contains_key(&id),
                };
                match store.write(hash, key, owned.value(), condition, expiry) {
                    Ok(written) => {
                        assert_eq!(written, expected, "step {step}");
                        if written {
                            model.insert(id, (flat(owned.value()), deadline));
                        }
                    }
                    Err(refusal) => {
                        assert_eq!(refusal, Refusal::OutOfMemory);
                        refused += 1;
                    }
                }
            }
            7 => {
                let owned = Owned::new(&store, length as usize, fill);
                if let Ok(old) = store.swap(hash, key, owned.value(), Expiry::Keep) {
                    let old = old.map(flat);
                    let deadline = model.get(&id).map_or(NEVER, |(_, deadline)| *deadline);
                    // Making room may have evicted the very item.
                    let deadline = if old.is_none() { NEVER } else { deadline };
                    let before = model.insert(id, (flat(owned.value()), deadline));
                    assert!(old.is_none() || old == before.map(|(value, _)| value));
                    if old.is_none() {
                        model.insert(id, (flat(owned.value()), store.peek(hash, key).unwrap().1.unwrap_or(NEVER)));
                    }
                }
            }
            8 => {
                let delta = random.next() as i64;
                let number = match model.get(&id) {
                    None => Some(0),
                    Some((value, _)) if value.len() >= CHUNK_BYTES => None,
                    Some((value, _)) => number::parse(value),
                };
                match store.add(hash, key, delta) {
                    Ok(sum) => {
                        assert_eq!(Some(sum), number.and_then(|number| number.checked_add(delta)));
                        let deadline = store.peek(hash, key).unwrap().1.unwrap_or(NEVER);
                        model.insert(id, (sum.to_string().into_bytes(), deadline));
                    }
                    Err(Refusal::NotANumber) => assert_eq!(number, None),
                    Err(refusal) => assert_ne!(refusal, Refusal::Overflow),
                }
            }
            9 => assert_eq!(store.delete(hash, key), model.remove(&id).is_some(), "step {step}"),
            10 => {
                let value = store.take(hash, key).map(flat);
                assert_eq!(value, model.remove(&id).map(|(value, _)| value));
            }
            _ => {
                let deadline = (random.below(2) == 0).then(|| now + 1 + random.below(500));
                if let Ok(found) = store.set_expiry(hash, key, deadline) {
                    assert_eq!(found, model.contains_key(&id));
                    if let Some((_, expected)) = model.get_mut(&id) {
                        *expected = deadline.unwrap_or(NEVER);
                    }
                }
            }
        }
        assert!(
            store.memory_bytes() <= memory_bytes + 6 * CHUNK_BYTES + 150_000,
            "step {step}: {}",
            store.memory_bytes()
        );
        if step % (steps / 50) == 0 {
            store.check_everything();
        }
    }
    store.check_everything();
    println!("{} items, {lost} found lost, {refused} refused, {:?}", store.len(), store.stats());
}

#[test]
fn the_store_agrees_with_a_model() {
    let steps = if cfg!(debug_assertions) { 200_000 } else { 2_000_000 };
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("SEED is a number"));
    for (seed, memory_bytes, keys) in [(seed, 1 << 20, 20_000), (seed + 1, 2 << 20, 300), (seed + 2, 32 << 20, 50_000)]
    {
        agrees_with_a_model(seed, memory_bytes, Eviction::S3Fifo, keys, steps);
        agrees_with_a_model(seed, memory_bytes, Eviction::None, keys, steps);
    }
}
