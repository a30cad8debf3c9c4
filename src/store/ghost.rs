//! The ghost: a short memory of which keys were evicted lately. A key that comes back soon has proved that it is
//! wanted, and skips probation (S3-FIFO; Yang et al., SOSP'23).
//!
//! Sets of eight 16-bit fingerprints, first in first out within a set. It may mistake one key for another, which costs a
//! little hit ratio and nothing else. It knows hashes only.

use super::holes::MALLOC_BYTES;

const WAYS: usize = 8;

/// A table of this many buckets has a set: with tables 44 to 87 % full that is a fingerprint for some 0.4 of a
/// shard's items.
const BUCKETS_PER_SET: usize = 32;

/// The ghost of one shard. It is empty, and holds nothing, until the first eviction.
#[derive(Debug, Default)]
pub(super) struct Ghost(Box<[[u16; WAYS]]>);

impl Ghost {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn held_bytes(&self) -> usize {
        if self.is_empty() { 0 } else { size_of_val(&*self.0) + MALLOC_BYTES }
    }

    /// Fits the number of sets to a table of so many buckets. Growing doubles every set, so that all stay where their
    /// keys will be looked for.
    pub(super) fn resize(&mut self, buckets: usize) {
        let sets = (buckets / BUCKETS_PER_SET).next_power_of_two();
        let old = if self.is_empty() { &[[0; WAYS]][..] } else { &self.0 };
        self.0 = old.iter().copied().cycle().take(sets).collect();
    }

    /// Remembers a key.
    pub(super) fn insert(&mut self, hash: u64) {
        if let Some(set) = self.set(hash) {
            set.copy_within(..WAYS - 1, 1);
            set[0] = fingerprint(hash);
        }
    }

    /// Whether it remembers a key; it forgets it then.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let way = self.set(hash).and_then(|set| set.iter_mut().find(|way| **way == fingerprint(hash)));
        way.map(|way| *way = 0).is_some()
    }

    fn set(&mut self, hash: u64) -> Option<&mut [u16; WAYS]> {
        let mask = self.0.len().wrapping_sub(1);
        self.0.get_mut(hash as usize & mask)
    }
}

fn fingerprint(hash: u64) -> u16 {
    ((hash >> 24) as u16).max(1)
}
