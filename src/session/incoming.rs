//! Frames that cannot be executed where they were read: their bytes in one place, and their long values in chunks of their
//! own. Of one that comes in over many reads, room is taken for what has come and not for what was announced. It knows no
//! protocol.

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::command::Value;
use crate::execute::Executor;
use crate::limits::CHUNK_BYTES;

/// Frames as they came, and their long values apart.
#[derive(Debug, Default)]
pub(super) struct Frames {
    pub(super) bytes: Vec<u8>,
    pub(super) longs: Vec<Long>,
}

/// A frame on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    /// All of it that has come.
    pub(super) frames: Frames,
    /// How long its bytes must be before parsing them can get anywhere.
    pub(super) needed: usize,
    /// How many bytes of the last long value are still to come.
    pub(super) left: usize,
}

/// A long value.
#[derive(Debug, Default)]
pub(super) struct Long {
    chunks: Vec<Bytes>,
    filling: Option<Chunk>,
    /// There was no room for it, so that it is thrown away as it comes.
    pub(super) refused: bool,
}

impl Frames {
    /// Bytes of chunks that they hold.
    pub(super) fn chunk_bytes(&self) -> usize {
        self.longs.iter().map(Long::chunk_bytes).sum()
    }
}

impl Incoming {
    /// A frame that begins so, and takes at least `needed` bytes.
    pub(super) fn new(bytes: Vec<u8>, needed: usize) -> Incoming {
        Incoming { frames: Frames { bytes, longs: Vec::new() }, needed, left: 0 }
    }

    /// Where the next bytes of the long value go; nothing if no long value is coming in, or if there is no room and it is to
    /// be thrown away. [`placed`](Self::placed) has to be told of what was put there.
    pub(super) fn place(&mut self, executor: &Executor) -> Option<&mut Chunk> {
        let long = self.frames.longs.last_mut().filter(|long| self.left > 0 && !long.refused)?;
        if long.filling.is_none() {
            long.filling = executor.chunk();
        }
        if long.filling.is_none() {
            *long = Long { refused: true, ..Long::default() };
        }
        long.filling.as_mut()
    }

    /// So many bytes of the long value have been put in their place, or thrown away.
    pub(super) fn placed(&mut self, count: usize) {
        self.left -= count;
        if let Some(long) = self.frames.longs.last_mut()
            && let Some(chunk) = long.filling.take_if(|chunk| chunk.is_full())
        {
            long.chunks.push(chunk.freeze());
        }
    }

    /// Takes bytes of the long value that is coming in, then of the frame, as far as is known what they are. Returns how
    /// many.
    pub(super) fn take(&mut self, bytes: &[u8], executor: &Executor) -> usize {
        let mut taken = 0;
        while self.left > 0 && taken < bytes.len() {
            let next = &bytes[taken..bytes.len().min(taken + self.left)];
            let count = self.place(executor).map_or(next.len(), |chunk| chunk.fill(next));
            self.placed(count);
            taken += count;
        }
        if self.left == 0 {
            let missing = self.needed.saturating_sub(self.frames.bytes.len());
            let more = &bytes[taken..bytes.len().min(taken + missing)];
            self.frames.bytes.extend_from_slice(more);
            taken += more.len();
        }
        taken
    }
}

impl Long {
    /// What has come of it.
    pub(super) fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: self.filling.as_ref().map_or(&[], Chunk::as_ref) }
    }

    /// Bytes of chunks that it holds.
    pub(super) fn chunk_bytes(&self) -> usize {
        (self.chunks.len() + usize::from(self.filling.is_some())) * CHUNK_BYTES
    }
}
