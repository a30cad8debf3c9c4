//! Read-through replay of a trace: a GET of each key, and a SET after a miss, as an application in front of a database
//! does. It measures the hit ratio that a server reaches with the memory it has.
//!
//! A trace is a file of records, each two little-endian `u32`: the key's number, and the length of key and value
//! together in bytes. Keys have 16 bytes; values have the rest, and at least 1 byte.

use std::collections::HashMap;
use std::fs;

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::Sizes;

/// The length of every key, in bytes.
const KEY_BYTES: usize = 16;

/// A file with a longer value than this, in bytes, is not a trace.
const VALUE_BYTES_MAX: usize = 1 << 30;

/// A trace, and how far its replay has come.
#[derive(Default)]
pub struct Trace {
    /// Each a key's number, and the length of its value in bytes.
    records: Vec<(u32, usize)>,
    /// How many records' GETs were sent.
    asked: usize,
    /// The keys that were asked for: the first GET of a key misses in any cache. Each has the length of the value that
    /// was set last, which a GET's reply in `GoStash` frames does not tell, or that is to be set.
    pub seen: HashMap<u32, usize>,
    /// How many GETs were answered.
    pub requests: usize,
    /// Bytes of key and value in all answered requests.
    pub asked_bytes: u64,
    /// Bytes of key and value in all hits.
    pub hit_bytes: u64,
}

impl Trace {
    /// Reads the trace, if there is one to replay, and sets the options that a replay needs.
    pub fn read(options: &mut Options) -> Result<Option<Trace>, String> {
        let Some(path) = &options.replay else { return Ok(None) };
        let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let (records, rest) = bytes.as_chunks::<8>();
        let record = |record: u64| (record as u32, ((record >> 32) as usize).saturating_sub(KEY_BYTES).max(1));
        let records: Vec<_> = records.iter().map(|bytes| record(u64::from_le_bytes(*bytes))).collect();
        let longest = records.iter().map(|&(_, value_bytes)| value_bytes).max().unwrap_or(0);
        if records.is_empty() || !rest.is_empty() || longest > VALUE_BYTES_MAX {
            let expected = format!("records of 8 bytes with values of at most {VALUE_BYTES_MAX}");
            let (path, got) = (path.display(), bytes.len());
            return Err(format!("{path}: expected {expected}, got {got} bytes, longest value {longest}"));
        }
        options.key_size = Sizes { low: KEY_BYTES, high: KEY_BYTES };
        options.value_size = Sizes { low: 1, high: longest };
        (options.clients, options.preload, options.warmup) = (1, false, 0.0);
        Ok(Some(Trace { records, ..Trace::default() }))
    }

    /// The next GET of the current pipeline and its key, once all that follows from earlier ones is sent. A key whose
    /// last GET is not answered yet ends the pipeline, so that each GET finds what the ones before it have set.
    pub fn next(&mut self) -> Option<(Operation, u32)> {
        let (id, value_bytes) = *self.records.get(self.asked)?;
        if self.records[self.requests..self.asked].iter().any(|record| record.0 == id) {
            return None;
        }
        self.asked += 1;
        self.seen.entry(id).or_insert(value_bytes);
        Some((Operation::Get, id))
    }

    /// Counts the reply to a GET, and returns whether a SET of its key follows.
    pub fn note(&mut self, outcome: Outcome) -> bool {
        let (id, value_bytes) = self.records[self.requests];
        let bytes = (KEY_BYTES + value_bytes) as u64;
        self.requests += 1;
        self.asked_bytes += bytes;
        match outcome {
            Outcome::Done => self.hit_bytes += bytes,
            _ => _ = self.seen.insert(id, value_bytes),
        }
        outcome != Outcome::Done
    }
}
