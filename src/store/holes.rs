//! Holes: blocks that the index's tables have left behind as they grew, by their size.
//!
//! The C library keeps a freed block for the next request that it fits, and tables only ever ask for larger ones. Left
//! alone, a tenth of a full store would be holes that count for nothing: the process was 6 % over its limit. So they are
//! counted as held, and the log asks for a block of just such a size when it opens a segment, which the C library then
//! takes from the hole. This file knows sizes, and neither tables nor segments.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What the C library adds to a block, in bytes.
pub const MALLOC_BYTES: usize = 16;

/// What hashbrown allocates for tables of 2^8 to 2^12 buckets: eight bytes and a control byte a bucket, and a group of
/// control bytes more. Smaller holes are not worth a segment, and larger ones a usual segment fits.
const SIZES: [usize; 5] = [(9 << 8) + 16, (9 << 9) + 16, (9 << 10) + 16, (9 << 11) + 16, (9 << 12) + 16];

/// How many holes there are of each size. They are atomic only so that a store may move to another thread.
#[derive(Debug, Default)]
pub struct Holes([AtomicUsize; SIZES.len()]);

impl Holes {
    /// A block of this size was freed.
    pub fn dig(&self, bytes: usize) {
        self.change(bytes, |count| Some(count + 1));
    }

    /// A block of this size was allocated: a hole is gone if there was one.
    pub fn fill(&self, bytes: usize) {
        self.change(bytes, |count| count.checked_sub(1));
    }

    fn change(&self, bytes: usize, change: impl FnMut(usize) -> Option<usize>) {
        if let Some(class) = SIZES.iter().position(|size| *size == bytes) {
            _ = self.0[class].fetch_update(Relaxed, Relaxed, change);
        }
    }

    /// The size of the largest hole, if that is at least `bytes`.
    pub fn largest(&self, bytes: usize) -> Option<usize> {
        let largest = (0..SIZES.len()).rfind(|&class| self.0[class].load(Relaxed) > 0)?;
        (SIZES[largest] >= bytes).then_some(SIZES[largest])
    }

    /// Bytes of all holes.
    pub fn bytes(&self) -> usize {
        SIZES.iter().zip(&self.0).map(|(size, count)| count.load(Relaxed) * (size + MALLOC_BYTES)).sum()
    }
}
