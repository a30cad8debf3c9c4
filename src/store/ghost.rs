//! The ghost: a short memory of which keys were evicted lately. A key that comes back soon has proved that it is
//! wanted, and skips probation (S3-FIFO; Yang et al., SOSP'23).
//!
//! Sets of eight 16-bit fingerprints, first in first out within a set. It may mistake one key for another, which costs a
//! little hit ratio and nothing else. It knows hashes only.

use super::hash::KeyHash;
use super::log::MALLOC_BYTES;

const WAYS: usize = 8;

/// A table of this many buckets has a set: with tables 44 to 87 % full that is a fingerprint for some 0.4 of a
/// shard's items.
const BUCKETS_PER_SET: usize = 32;

/// The ghost of one shard. It is empty, and holds nothing, until the first eviction.
#[derive(Debug, Default)]
pub(super) struct Ghost {
    sets: Box<[[u16; WAYS]]>,
}

impl Ghost {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Bytes held.
    pub(super) fn held_bytes(&self) -> usize {
        match self.sets.len() {
            0 => 0,
            sets => sets * size_of::<[u16; WAYS]>() + MALLOC_BYTES,
        }
    }

    /// Fits the number of sets to a table of so many buckets, once it is in use or about to be. Growing doubles every
    /// set, so that all stay where their keys will be looked for.
    pub(super) fn resize(&mut self, buckets: usize) {
        let sets = (buckets / BUCKETS_PER_SET).next_power_of_two();
        let mut resized = Vec::with_capacity(sets);
        while resized.len() < sets {
            match sets - resized.len() {
                missing if self.sets.is_empty() => resized.resize(missing, [0; WAYS]),
                missing => resized.extend_from_slice(&self.sets[..missing.min(self.sets.len())]),
            }
        }
        self.sets = resized.into_boxed_slice();
    }

    /// Remembers a key.
    #[inline]
    pub(super) fn insert(&mut self, hash: KeyHash) {
        let place = self.place(hash);
        if let Some(set) = self.sets.get_mut(place) {
            set.copy_within(..WAYS - 1, 1);
            set[0] = fingerprint(hash);
        }
    }

    /// Whether it remembers a key; it forgets it then.
    #[inline]
    pub(super) fn take(&mut self, hash: KeyHash) -> bool {
        let place = self.place(hash);
        let Some(set) = self.sets.get_mut(place) else {
            return false;
        };
        let Some(way) = set.iter().position(|&way| way == fingerprint(hash)) else {
            return false;
        };
        set[way] = 0;
        true
    }

    #[inline]
    fn place(&self, hash: KeyHash) -> usize {
        hash.0 as usize & self.sets.len().wrapping_sub(1)
    }
}

#[inline]
fn fingerprint(hash: KeyHash) -> u16 {
    ((hash.0 >> 24) as u16).max(1)
}
