//! Chunks: the equal pieces that large values are made of, and the one count of how many are alive.
//!
//! A chunk is filled by a session as bytes arrive, handed to the store by reference, and sent by reference, so it may
//! outlive the item it belonged to. The count follows the last reference, whoever holds it: it is what keeps the
//! memory limit honest while slow readers hold values that were evicted long ago. This file knows neither
//! sessions nor the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use crate::limits::CHUNK_BYTES;

/// What the C library adds to a chunk, and the reference count in front of it, in bytes.
const CHUNK_OVERHEAD_BYTES: usize = 16 + 64;

/// Counts the chunks that are alive. Clones share one count.
///
/// The count is atomic only because [`Bytes`] insists that what it owns may cross threads; ours has one.
#[derive(Clone, Debug, Default)]
pub struct ChunkMeter(Arc<AtomicUsize>);

impl ChunkMeter {
    /// A meter at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes that all live chunks take from the process, being filled, stored or on their way out.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(self.0.load(Ordering::Relaxed))
    }

    /// Bytes that so many chunks take.
    pub fn bytes_of(count: usize) -> usize {
        count * (CHUNK_BYTES + CHUNK_OVERHEAD_BYTES)
    }

    /// A new chunk, to be filled with up to `bytes` bytes. It counts as a whole one.
    pub fn chunk(&self, bytes: usize) -> Chunk {
        self.0.fetch_add(1, Ordering::Relaxed);
        Chunk { bytes: Vec::with_capacity(bytes.min(CHUNK_BYTES)), meter: self.clone() }
    }
}

/// A chunk that is being filled. Dropping it, or the last reference to what it became, counts it out.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    meter: ChunkMeter,
}

impl Chunk {
    /// Appends as much of `input` as fits and returns how many bytes that was.
    pub fn fill(&mut self, input: &[u8]) -> usize {
        let count = input.len().min(self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(&input[..count]);
        count
    }

    /// Its bytes, to be appended to as far as their capacity goes.
    pub fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether nothing more fits.
    pub fn is_full(&self) -> bool {
        self.bytes.len() == CHUNK_BYTES
    }

    /// The finished chunk, shared by reference from now on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_meter_follows_the_last_reference() {
        let meter = ChunkMeter::new();
        let mut chunk = meter.chunk(CHUNK_BYTES);
        assert_eq!(chunk.fill(&[7; 2 * CHUNK_BYTES]), CHUNK_BYTES);
        assert!(chunk.is_full());
        let one = meter.bytes();
        assert!(one >= CHUNK_BYTES);
        let stored = chunk.freeze();
        let sending = stored.clone();
        drop(stored);
        assert_eq!(meter.bytes(), one, "a reader still holds it");
        assert_eq!(sending[0], 7);
        drop(sending);
        assert_eq!(meter.bytes(), 0);
    }
}
