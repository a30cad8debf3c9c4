//! Chunks: the equal pieces that large values are made of, and the one count of how many are alive.
//!
//! A chunk is filled by a session as bytes arrive, handed to the store by reference, and sent by reference, so it may
//! outlive the item it belonged to. The count follows the last reference, whoever holds it: it keeps the memory limit
//! honest while slow readers hold values that were evicted long ago. This file knows neither sessions nor the store.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::limits::{CHUNK_BYTES, MALLOC_BYTES};

/// Counts the chunks that are alive: each has a weak reference to this one thing, which clones of the meter share. The
/// count is atomic only because [`Bytes`] insists that what it owns may cross threads; ours has one.
#[derive(Clone, Debug, Default)]
pub struct ChunkMeter(Arc<()>);

impl ChunkMeter {
    /// Bytes that all live chunks take from the process, being filled, stored or on their way out.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(Arc::weak_count(&self.0))
    }

    /// Bytes that so many chunks take, with the C library's header and the reference count in front of each.
    pub const fn bytes_of(count: usize) -> usize {
        count * (CHUNK_BYTES + MALLOC_BYTES + 64)
    }

    /// A new chunk, to be filled with up to `bytes` bytes. It counts as a whole one.
    pub fn chunk(&self, bytes: usize) -> Chunk {
        Chunk { bytes: Vec::with_capacity(bytes.min(CHUNK_BYTES)), _counted: Arc::downgrade(&self.0) }
    }
}

/// A chunk that is being filled. Dropping it, or the last reference to what it became, counts it out.
#[derive(Debug)]
pub struct Chunk {
    /// To be appended to as far as the capacity goes.
    pub(crate) bytes: Vec<u8>,
    _counted: Weak<()>,
}

impl Chunk {
    /// Appends as much of `input` as fits and returns how many bytes that was.
    pub fn fill(&mut self, input: &[u8]) -> usize {
        let count = input.len().min(self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(&input[..count]);
        count
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
