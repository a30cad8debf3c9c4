//! Holes: blocks that the index's tables have left behind as they grew, by their size.
//!
//! The C library keeps a freed block for the next request that it fits, and tables only ever ask for larger ones; left
//! alone, a tenth of a full store would be holes that count for nothing. So they are counted as held, and the log
//! asks for a block of just such a size when it opens a segment, which the C library then takes from the hole. This file
//! knows sizes, and neither tables nor segments.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::log::MALLOC_BYTES;

/// What hashbrown allocates for tables of 2^8 to 2^12 buckets: eight bytes and a control byte a bucket, and a group of
/// control bytes more. Smaller holes are not worth a segment, and larger ones a usual segment fits.
const SIZES: [usize; 5] = [(9 << 8) + 16, (9 << 9) + 16, (9 << 10) + 16, (9 << 11) + 16, (9 << 12) + 16];

/// How many holes there are of each size. They are atomic only so that a store may move to another thread: it never has
/// two at once.
#[derive(Debug, Default)]
pub(super) struct Holes([AtomicUsize; SIZES.len()]);

impl Holes {
    /// A block of this size was freed.
    pub(super) fn dig(&self, bytes: usize) {
        let counts = self.counts().filter(|(size, _)| *size == bytes);
        counts.for_each(|(_, count)| count.store(count.load(Relaxed) + 1, Relaxed));
    }

    /// A block of this size was allocated: a hole is gone if there was one.
    pub(super) fn fill(&self, bytes: usize) {
        let counts = self.counts().filter(|(size, _)| *size == bytes);
        counts.for_each(|(_, count)| count.store(count.load(Relaxed).saturating_sub(1), Relaxed));
    }

    /// The size of the largest hole, if that is at least `bytes`.
    pub(super) fn largest(&self, bytes: usize) -> Option<usize> {
        let largest = self.counts().filter(|(_, count)| count.load(Relaxed) > 0).last();
        largest.map(|(size, _)| size).filter(|size| *size >= bytes)
    }

    /// Bytes of all holes.
    pub(super) fn bytes(&self) -> usize {
        self.counts().map(|(size, count)| count.load(Relaxed) * (size + MALLOC_BYTES)).sum()
    }

    fn counts(&self) -> impl Iterator<Item = (usize, &AtomicUsize)> {
        SIZES.into_iter().zip(&self.0)
    }
}
