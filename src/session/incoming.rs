//! A frame that cannot be executed in the buffer it was read into: its bytes in one place, long values in chunks.
//! Memory is kept for bytes that have arrived, never for those that were only announced. It knows no protocol.

use std::io::{self, IoSliceMut, Read};

use bytes::Bytes;

use crate::chunk::Chunk;
use crate::command::Value;
use crate::execute::Executor;
use crate::limits::{CHUNK_BYTES, TAKEN_EXTRA_BYTES};

/// A frame that is being received over many reads, and apart from it, in order, its long values.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(super) bytes: Vec<u8>,
    pub(super) longs: Vec<Long>,
    pub(super) needed: usize, // how long `bytes` must be before parsing it again is of use
    pub(super) left: usize,   // how many bytes of the last long value have not arrived yet
    pub(super) place: Option<Place>, // if it stands in line
}

/// Where a frame or a transaction stands among those that are received while buffers are crowded.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) missing_bytes: usize,     // when it was last looked at
    pub(crate) reads_until: Option<u64>, // it is received: until when its client may pause, in milliseconds
}

/// A long value, as far as it has arrived.
#[derive(Debug, Default)]
pub(super) struct Long {
    pub(super) chunks: Vec<Bytes>,
    pub(super) filling: Vec<Chunk>, // at most one between two reads
    pub(super) refused: bool,       // there is no memory or place for it, so its bytes are discarded as they arrive
}

impl Incoming {
    /// Reads at most `bytes_max` bytes of the long value straight into its chunks and, if that may complete it, what
    /// follows into `rest`, with one vectored read. Returns how many bytes were asked for, the result of the read, and
    /// how many of the bytes read belong to the value. `None` if no long value is received, or if it is discarded.
    pub(crate) fn read(
        &mut self,
        source: &mut impl Read,
        bytes_max: usize,
        rest: &mut [u8],
        executor: &mut Executor,
    ) -> Option<(usize, io::Result<usize>, usize)> {
        debug_assert!(bytes_max > 0, "a value that has to wait for memory must not be refused");
        let long = self.longs.last_mut().filter(|long| self.left > 0 && !long.refused)?;
        let wanted = self.left.min(bytes_max);
        while long.filling.iter().map(Chunk::room_bytes).sum::<usize>() < wanted
            && let Some(chunk) = executor.store.chunk()
        {
            long.filling.push(chunk);
        }
        if long.filling.is_empty() {
            *long = Long { refused: true, ..Long::default() };
            return None;
        }
        let mut asked = 0;
        let mut slices = Vec::with_capacity(long.filling.len() + 1);
        for chunk in &mut long.filling {
            let room = chunk.room(wanted - asked);
            asked += room.len();
            slices.push(IoSliceMut::new(room));
        }
        if asked == self.left {
            asked += rest.len();
            slices.push(IoSliceMut::new(rest));
        }
        let result = source.read_vectored(&mut slices);
        let (before, end) = (self.left, self.left.saturating_sub(*result.as_ref().unwrap_or(&0)));
        long.filling.iter_mut().for_each(|chunk| self.left -= chunk.advance(self.left - end));
        long.chunks.extend(long.filling.extract_if(.., |chunk| chunk.room_bytes() == 0).map(Chunk::freeze));
        // A chunk that is still empty is dropped, which returns it to the pool.
        long.filling.retain(|chunk| chunk.room_bytes() < CHUNK_BYTES);
        Some((asked, result, before - end))
    }

    /// Takes from `bytes` the rest of the long value, then what the frame needs and a little more. Returns how many.
    pub(super) fn take(&mut self, mut bytes: &[u8], executor: &mut Executor) -> usize {
        let length = bytes.len();
        while self.left > 0 && !bytes.is_empty() {
            let count = self.left.min(bytes.len());
            if self.read(&mut bytes, count, &mut [], executor).is_none() {
                (bytes, self.left) = (&bytes[count..], self.left - count);
            }
        }
        let missing = (self.needed + TAKEN_EXTRA_BYTES).saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.split_off(..missing.min(bytes.len())).unwrap_or_default());
        length - bytes.len()
    }
}

impl Long {
    pub(super) fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: self.filling.first().map_or(&[], Chunk::as_ref) }
    }
}

/// Bytes of memory that the chunks of long values take.
pub(super) fn chunk_bytes(longs: &[Long]) -> usize {
    longs.iter().map(|long| long.value().len().next_multiple_of(CHUNK_BYTES)).sum()
}
