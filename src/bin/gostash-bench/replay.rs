//! Read-through replay of a trace: GET, and on a miss SET, as an application in front of a database does. It gives the
//! hit ratio that a server reaches with the memory it was given.
//!
//! A trace is a file of records, each two little-endian `u32`: a key's number, and the bytes of key and value together.
//! Keys are 16 bytes; the value gets the rest, and at least 1 byte.

use std::collections::{HashMap, VecDeque};
use std::fs;

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::{Request, Sizes};

/// A key's length in a trace, in bytes.
const KEY_BYTES: usize = 16;

const RECORD_BYTES: usize = 8;

/// A longer value than this, in bytes, means that the file is no trace.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// A trace, and what became of it so far.
#[derive(Default)]
pub struct Trace {
    records: Vec<Record>,
    /// How many of them were asked for.
    asked: usize,
    /// What is known of each key: when it is seen for the first time no cache can have it.
    pub seen: HashMap<u32, Seen>,
    /// Those that are to be set.
    missed: VecDeque<Record>,
    /// How many GETs were answered.
    pub requests: usize,
    /// Bytes of key and value that were asked for.
    pub asked_bytes: u64,
    /// Those of the hits.
    pub hit_bytes: u64,
}

/// A key's number, and how long its value is, in bytes.
type Record = (u32, usize);

/// What is known of a key that was seen.
pub struct Seen {
    /// The length that was set last: a GET's reply does not tell where it ends.
    value_bytes: usize,
    /// How many were asked for when it last was, itself included.
    asked: usize,
}

impl Trace {
    /// Reads the trace that is to be replayed, if any, and changes the options to what it takes to replay it.
    pub fn read(options: &mut Options) -> Result<Option<Trace>, String> {
        let Some(path) = &options.replay else { return Ok(None) };
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (records, rest) = bytes.as_chunks::<RECORD_BYTES>();
        let records = records.iter().map(|&record| u64::from_le_bytes(record)).map(|record| {
            let bytes = (record >> 32) as usize;
            (record as u32, bytes.saturating_sub(KEY_BYTES).max(1))
        });
        let records: Vec<Record> = records.collect();
        let longest = records.iter().map(|&(_, value_bytes)| value_bytes).max().unwrap_or(0);
        if records.is_empty() || !rest.is_empty() || longest > VALUE_BYTES_MAX {
            let expected = format!("records of {RECORD_BYTES} bytes with values of at most {VALUE_BYTES_MAX}");
            let (path, got) = (path.display(), bytes.len());
            return Err(format!("{path}: expected {expected}, got {got} bytes, longest value {longest}"));
        }
        options.key_size = Sizes::exactly(KEY_BYTES);
        options.value_size = Sizes { low: 1, high: longest };
        (options.clients, options.idle_clients, options.preload) = (1, 0, false);
        options.pipeline.truncate(1);
        Ok(Some(Trace { records, ..Trace::default() }))
    }

    /// What may be sent before all that is under way is answered: operation, key and length of its value. It ends
    /// before a key that was asked for since the last answer, and the SETs for misses go ahead of other GETs, so that
    /// each GET finds what was set for the ones before it.
    #[inline(never)]
    pub fn next(&mut self) -> Option<(Operation, u32, usize)> {
        if let Some((id, value_bytes)) = self.missed.pop_front() {
            return Some((Operation::Set, id, value_bytes));
        }
        let (id, value_bytes) = *self.records.get(self.asked)?;
        let key = self.seen.entry(id).or_insert(Seen { value_bytes, asked: 0 });
        if key.asked > self.requests {
            return None;
        }
        self.asked += 1;
        key.asked = self.asked;
        Some((Operation::Get, id, key.value_bytes))
    }

    /// How many more are to be sent, as far as is known by now.
    pub fn left(&self) -> u64 {
        (self.records.len() - self.requests + self.missed.len()) as u64
    }

    /// Counts a reply.
    #[inline(never)]
    pub fn note(&mut self, request: &Request, outcome: Outcome) {
        if request.operation != Operation::Get {
            return;
        }
        let (id, value_bytes) = self.records[self.requests];
        let bytes = (KEY_BYTES + value_bytes) as u64;
        self.requests += 1;
        self.asked_bytes += bytes;
        if outcome == Outcome::Done {
            self.hit_bytes += bytes;
        } else {
            self.seen.insert(id, Seen { value_bytes, asked: self.asked });
            self.missed.push_back((id, value_bytes));
        }
    }
}
