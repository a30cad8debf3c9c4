//! The store: owned bytes by key. It knows no wire, no socket, no client and no clock.
//!
//! This first one is a single table without a bound on memory; the segmented one replaces it.

use std::hash::{BuildHasher, Hasher, RandomState};

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::chunk::ChunkMeter;
use crate::command::{Refusal, Value};

/// What to do when memory is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// S3-FIFO.
    S3Fifo,
    /// Refuse.
    None,
}

/// What a store is made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes for everything.
    pub memory_bytes: usize,
    /// The policy.
    pub eviction: Eviction,
    /// Life of an item that brings none, in milliseconds; 0 for no end.
    pub default_ttl_millis: u64,
    /// Counts chunks.
    pub chunks: ChunkMeter,
}

/// A key's hash.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash(u64);

/// What looking ahead found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched(u8);

#[derive(Debug)]
struct Item {
    key: Box<[u8]>,
    chunks: Vec<Bytes>,
    rest: Vec<u8>,
}

/// Owned bytes by key.
#[derive(Debug)]
pub struct Store {
    items: HashTable<Item>,
    random: RandomState,
}

impl Store {
    /// An empty one.
    pub fn new(_: Settings) -> Self {
        Store {
            items: HashTable::new(),
            random: RandomState::new(),
        }
    }
    /// Hashes a key.
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        hash(&self.random, key)
    }
    /// Looks ahead.
    pub fn touch_index(&self, _: KeyHash) -> Touched {
        Touched(0)
    }
    /// Looks ahead.
    pub fn touch_item(&self, touched: Touched) -> u8 {
        touched.0
    }
    /// Starts a turn.
    pub fn begin_turn(&mut self, _now_millis: u64, _outside_bytes: usize) {}
    /// Looks up.
    pub fn get(&mut self, hash: KeyHash, key: &[u8]) -> Option<Value<'_>> {
        let item = self.items.find(hash.0, |item| *item.key == *key)?;
        Some(Value {
            chunks: &item.chunks,
            rest: &item.rest,
        })
    }
    /// Stores.
    pub fn set(
        &mut self,
        hash_of_key: KeyHash,
        key: &[u8],
        value: Value<'_>,
    ) -> Result<(), Refusal> {
        let Store { items, random } = self;
        let entry = items.entry(
            hash_of_key.0,
            |item| *item.key == *key,
            |item| hash(random, &item.key).0,
        );
        let (chunks, rest) = (value.chunks.to_vec(), value.rest.to_vec());
        match entry {
            Entry::Occupied(mut entry) => {
                entry.get_mut().chunks = chunks;
                entry.get_mut().rest = rest;
            }
            Entry::Vacant(entry) => {
                entry.insert(Item {
                    key: key.into(),
                    chunks,
                    rest,
                });
            }
        }
        Ok(())
    }
    /// Adds.
    pub fn add(&mut self, hash: KeyHash, key: &[u8], delta: i64) -> Result<i64, Refusal> {
        let old = match self.get(hash, key) {
            None => 0,
            Some(value) => std::str::from_utf8(value.rest)
                .ok()
                .filter(|text| !text.starts_with('+') && value.chunks.is_empty())
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or(Refusal::NotANumber)?,
        };
        let new = old.checked_add(delta).ok_or(Refusal::Overflow)?;
        self.set(hash, key, Value::small(new.to_string().as_bytes()))?;
        Ok(new)
    }
    /// Removes.
    pub fn delete(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        match self.items.find_entry(hash.0, |item| *item.key == *key) {
            Ok(entry) => {
                entry.remove();
                true
            }
            Err(_) => false,
        }
    }
    /// Units of work done.
    pub fn work(&self) -> u64 {
        0
    }
    /// Works in the background.
    pub fn housekeep(&mut self, _units: usize) {}
    /// When it wants to.
    pub fn wants_housekeeping(&self) -> Option<u64> {
        None
    }
    /// How much may come in.
    pub fn room_bytes(&self) -> usize {
        usize::MAX
    }
}

fn hash(random: &RandomState, key: &[u8]) -> KeyHash {
    let mut hasher = random.build_hasher();
    hasher.write(key);
    KeyHash(hasher.finish())
}
