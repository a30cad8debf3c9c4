//! Chunks: the equal pieces that large values are made of, and the one count of how many are alive.
//!
//! A chunk is filled by a session as bytes arrive, handed to the store by reference, and sent by reference, so it may
//! outlive the item it belonged to. The count follows the last reference, whoever holds it: it keeps the memory limit
//! honest while slow readers hold values that were evicted long ago. This file knows neither sessions nor the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::limits::{CHUNK_BYTES, MALLOC_BYTES};
use crate::memory;

/// The blocks of chunks that are gone: those that still have memory, and those that only have addresses.
#[derive(Debug, Default)]
struct Spare {
    ready: Vec<MmapMut>,
    empty: Vec<MmapMut>,
}

/// Makes chunks, and counts those that are alive: each has a weak reference to this one thing, which clones of the pool
/// share. It keeps their blocks for the next, until it is told to [trim](Self::trim) them: a new one takes longer to make
/// than to fill. There is a lock only because [`Bytes`] insists that what it owns may cross threads; ours has one.
#[derive(Clone, Debug, Default)]
pub struct ChunkPool(Arc<Mutex<Spare>>);

impl ChunkPool {
    /// Bytes that all live chunks take from the process, being filled, stored or on their way out.
    pub fn bytes(&self) -> usize {
        Self::bytes_of(Arc::weak_count(&self.0))
    }

    /// Bytes that so many chunks take, with the reference count of each.
    pub const fn bytes_of(count: usize) -> usize {
        count * (CHUNK_BYTES + MALLOC_BYTES + 64)
    }

    /// Bytes that wait for the next chunks.
    pub fn spare_bytes(&self) -> usize {
        lock(&self.0).ready.len() * CHUNK_BYTES
    }

    /// Gives some of them back; false if there are none.
    pub fn trim(&self) -> bool {
        let mut spare = lock(&self.0);
        let Some(mut block) = spare.ready.pop() else { return false };
        memory::give_back(&mut block);
        spare.empty.push(block);
        true
    }

    /// A new chunk, to be filled. It counts as a whole one.
    pub fn chunk(&self) -> Chunk {
        let mut spare = lock(&self.0);
        let block = spare.ready.pop().or_else(|| spare.empty.pop()).unwrap_or_else(|| memory::block(CHUNK_BYTES));
        Chunk { block: Some(block), len: 0, pool: Arc::downgrade(&self.0) }
    }
}

fn lock(spare: &Mutex<Spare>) -> MutexGuard<'_, Spare> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A chunk that is being filled. Dropping it, or the last reference to what it became, counts it out.
#[derive(Debug)]
pub struct Chunk {
    /// There until it is dropped.
    block: Option<MmapMut>,
    len: usize,
    pool: Weak<Mutex<Spare>>,
}

impl Chunk {
    /// How many bytes more it takes.
    pub fn room_bytes(&self) -> usize {
        CHUNK_BYTES - self.len
    }

    /// Where the next go, `bytes_max` at most. [`advance`](Self::advance) has to be told how many came.
    pub fn room(&mut self, bytes_max: usize) -> &mut [u8] {
        let end = self.len + bytes_max.min(self.room_bytes());
        self.block.as_deref_mut().map_or(&mut [], |block| &mut block[self.len..end])
    }

    /// Takes up to `count` bytes of its room for filled, and returns how many these are.
    pub fn advance(&mut self, count: usize) -> usize {
        let count = count.min(self.room_bytes());
        self.len += count;
        count
    }

    /// Appends as much of `input` as fits and returns how many bytes that was.
    pub fn fill(&mut self, input: &[u8]) -> usize {
        let room = self.room(input.len());
        room.copy_from_slice(&input[..room.len()]);
        self.advance(input.len())
    }

    /// The finished chunk, shared by reference from now on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], |block| &block[..self.len])
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            lock(&pool).ready.extend(self.block.take());
        }
    }
}
