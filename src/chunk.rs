//! Chunks: the pieces of equal size that large values and long queues consist of, and the pool that counts them.
//!
//! A session fills a chunk as bytes arrive and hands it to the store by reference. It is sent by reference, too, and so
//! may outlive its item. A chunk counts until the last reference is gone, whoever holds it: the memory limit holds even
//! while slow readers keep values that were evicted long ago. This file knows neither sessions nor the store.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use memmap2::MmapMut;

use crate::command::Value;
use crate::limits::{CHUNK_BYTES, MALLOC_BYTES};
use crate::memory;

/// What a block takes once it is touched: at least a page, which has 64 KB on some machines.
static BLOCK_BYTES: LazyLock<usize> = LazyLock::new(|| rustix::param::page_size().max(CHUNK_BYTES));

/// Allocates chunks and counts the live ones: each has a weak reference to the pool's spare blocks. Those are kept for
/// new chunks until they are [given back](Self::give_back): a fresh block takes longer to get than to fill. The lock is
/// there only because [`Bytes`] wants an owner that may cross threads.
#[derive(Debug, Default)]
pub struct ChunkPool {
    /// The blocks of dropped chunks. The last ones still have memory; those before have only their address range.
    spare: Arc<Mutex<Vec<MmapMut>>>,
    blocks: AtomicUsize, // that have memory: those of live chunks, and the last of `spare`
}

impl ChunkPool {
    /// How many chunks are live, whether being filled, stored or sent.
    pub fn count(&self) -> usize {
        Arc::weak_count(&self.spare)
    }

    /// Bytes of memory that `count` chunks take, including their reference counts.
    pub fn bytes_of(&self, count: usize) -> usize {
        count * (*BLOCK_BYTES + MALLOC_BYTES + 64)
    }

    /// Spare blocks that still have memory.
    fn ready(&self) -> usize {
        self.blocks.load(Relaxed).saturating_sub(self.count())
    }

    /// Bytes of memory kept for new chunks.
    pub fn spare_bytes(&self) -> usize {
        self.ready() * *BLOCK_BYTES
    }

    /// Gives a spare chunk's memory back to the system. False if there is none.
    pub fn give_back(&self) -> bool {
        let mut spare = lock(&self.spare);
        let first = spare.len() - self.ready();
        let Some(block) = spare.get_mut(first) else { return false };
        memory::give_back(block, 0);
        self.blocks.fetch_sub(1, Relaxed);
        true
    }

    /// A new, empty chunk. It counts in full from now on.
    pub fn chunk(&self) -> Chunk {
        let mut spare = lock(&self.spare);
        self.blocks.fetch_add(usize::from(self.ready() == 0), Relaxed);
        let block = spare.pop().or_else(|| Some(memory::block(CHUNK_BYTES)));
        Chunk { block, len: 0, pool: Arc::downgrade(&self.spare) }
    }
}

fn lock(spare: &Mutex<Vec<MmapMut>>) -> MutexGuard<'_, Vec<MmapMut>> {
    spare.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A chunk that is being filled. It counts until it is dropped or, once frozen, until the last reference is.
#[derive(Debug)]
pub struct Chunk {
    block: Option<MmapMut>, // `None` only while it is being dropped
    len: usize,
    pool: Weak<Mutex<Vec<MmapMut>>>,
}

impl Chunk {
    /// How many more bytes fit into it.
    pub fn room_bytes(&self) -> usize {
        CHUNK_BYTES - self.len
    }

    /// Up to `bytes_max` bytes of its unfilled room. [`advance`](Self::advance) must be told how many were written.
    pub fn room(&mut self, bytes_max: usize) -> &mut [u8] {
        let end = self.len + bytes_max.min(self.room_bytes());
        self.block.as_deref_mut().map_or(&mut [], |block| &mut block[self.len..end])
    }

    /// Counts up to `count` bytes of its room as filled, and returns how many that were.
    pub fn advance(&mut self, count: usize) -> usize {
        let count = count.min(self.room_bytes());
        self.len += count;
        count
    }

    /// Appends as much of `input` as fits, and returns how many bytes that was.
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

/// Bytes that are kept: whole chunks first, then a rest that is no longer than one.
#[derive(Debug, Default)]
pub(crate) struct Chunked {
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) rest: Vec<u8>,
}

impl Chunked {
    pub(crate) fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: &self.rest }
    }

    /// Appends `bytes`. False if it takes one more chunk, and `chunk` gives none.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut chunk: impl FnMut() -> Option<Chunk>) -> bool {
        while self.rest.len() + bytes.len() > CHUNK_BYTES {
            let Some(mut chunk) = chunk() else { return false };
            chunk.fill(&self.rest);
            bytes = &bytes[chunk.fill(bytes)..];
            self.rest.clear();
            self.chunks.push(chunk.freeze());
        }
        self.rest.extend_from_slice(bytes);
        true
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self.block.as_deref().map_or(&[], |block| &block[..self.len])
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let Some(pool) = self.pool.upgrade() else { return };
        let mut spare = lock(&pool); // so that nobody counts in between
        spare.extend(self.block.take());
        self.pool = Weak::new();
    }
}
