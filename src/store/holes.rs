//! Holes: blocks that the index's tables have left behind as they grew, by their size.
//!
//! The C library keeps a freed block for the next request that it fits, and tables only ever ask for larger ones; left
//! alone, a tenth of a full store would be holes that count for nothing. So they are counted as held, and the log
//! asks for a block of just such a size when it opens a segment, which the C library then takes from the hole. This file
//! knows sizes, and neither tables nor segments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::log::MALLOC_BYTES;

/// Tables of 2^8 to 2^12 buckets leave holes of 2 to 36 KiB: smaller ones are not worth a segment, and larger ones a
/// usual segment fits.
const CLASSES: usize = 5;
const SMALLEST_BITS: u32 = 8;

/// How many holes there are of each size. Clones share one count.
///
/// It is atomic only so that a store may move to another thread: it never has two at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Holes(Arc<[AtomicUsize; CLASSES]>);

impl Holes {
    /// A block of this size was freed.
    pub(super) fn dig(&self, bytes: usize) {
        if let Some(count) = self.count(bytes) {
            count.store(count.load(Relaxed) + 1, Relaxed);
        }
    }

    /// A block of this size was allocated: a hole is gone if there was one.
    pub(super) fn fill(&self, bytes: usize) {
        if let Some(count) = self.count(bytes) {
            count.store(count.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// The size of the largest hole of at least `bytes` bytes.
    pub(super) fn largest(&self, bytes: usize) -> Option<usize> {
        let class = (0..CLASSES).rev().find(|class| self.0[*class].load(Relaxed) > 0)?;
        Some(class_bytes(class)).filter(|found| *found >= bytes)
    }

    /// Bytes of all holes.
    #[inline]
    pub(super) fn bytes(&self) -> usize {
        let counts = self.0.iter().enumerate();
        counts.map(|(class, count)| count.load(Relaxed) * (class_bytes(class) + MALLOC_BYTES)).sum()
    }

    /// The count of blocks of this size, if they are of a size that tables have.
    fn count(&self, bytes: usize) -> Option<&AtomicUsize> {
        (0..CLASSES).find(|class| class_bytes(*class) == bytes).map(|class| &self.0[class])
    }
}

/// What hashbrown allocates for a table: eight bytes and a control byte a bucket, and a group of control bytes more.
const fn class_bytes(class: usize) -> usize {
    (9 << (class as u32 + SMALLEST_BITS)) + 16
}

#[cfg(test)]
mod tests {
    use hashbrown::HashTable;

    use super::*;

    #[test]
    fn holes_have_the_sizes_of_tables() {
        let holes = Holes::default();
        for class in 0..CLASSES {
            let buckets = 1 << (class as u32 + SMALLEST_BITS);
            let table: HashTable<u64> = HashTable::with_capacity(buckets / 8 * 7);
            assert_eq!(table.allocation_size(), class_bytes(class));
            holes.dig(table.allocation_size());
        }
        assert_eq!(holes.largest(1), Some(class_bytes(CLASSES - 1)));
        assert_eq!(holes.largest(class_bytes(CLASSES - 1) + 1), None);
        holes.fill(class_bytes(CLASSES - 1));
        assert_eq!(holes.largest(1), Some(class_bytes(CLASSES - 2)));
        let left: usize = (0..CLASSES - 1).map(|class| class_bytes(class) + MALLOC_BYTES).sum();
        assert_eq!(holes.bytes(), left);
    }
}
