//! Frames that cannot be executed where they were read: their bytes in one place, and their long values in chunks of their
//! own. Of one that comes in over many reads, room is taken for what has come and not for what was announced. It knows no
//! protocol.

use std::io::{self, IoSliceMut, Read};

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
pub(crate) struct Incoming {
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
        let chunks = self.longs.iter().map(|long| long.chunks.len() + usize::from(long.filling.is_some()));
        chunks.sum::<usize>() * CHUNK_BYTES
    }
}

impl Incoming {
    /// A frame that begins so, and takes at least `needed` bytes.
    pub(super) fn new(bytes: Vec<u8>, needed: usize) -> Incoming {
        Incoming { frames: Frames { bytes, longs: Vec::new() }, needed, left: 0 }
    }

    /// Reads the next bytes of the long value to where they will stay, at most `bytes_max`, and what follows it into `rest`,
    /// all at once: how many bytes there could have been, what came of it, and how many of them were the value's. Nothing
    /// if no long value is coming in, or if there is no room and it is to be thrown away.
    pub(crate) fn read(
        &mut self,
        source: &mut impl Read,
        bytes_max: usize,
        rest: &mut [u8],
        executor: &Executor,
    ) -> Option<(usize, io::Result<usize>, usize)> {
        debug_assert!(bytes_max > 0, "what there is no room for now is not to be thrown away");
        let long = self.frames.longs.last_mut().filter(|long| self.left > 0 && !long.refused)?;
        let wanted = self.left.min(bytes_max);
        let (mut chunks, mut room_bytes) = (Vec::new(), 0);
        while room_bytes < wanted
            && let Some(chunk) = long.filling.take().or_else(|| executor.chunk())
        {
            room_bytes += chunk.room_bytes();
            chunks.push(chunk);
        }
        if chunks.is_empty() {
            *long = Long { refused: true, ..Long::default() };
            return None;
        }
        let mut asked = 0;
        let mut slices = Vec::with_capacity(chunks.len() + 1);
        for chunk in &mut chunks {
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
        for mut chunk in chunks {
            self.left -= chunk.advance(self.left - end);
            match chunk.room_bytes() {
                0 => long.chunks.push(chunk.freeze()),
                // One that nothing came for is given back.
                1..CHUNK_BYTES => long.filling = Some(chunk),
                _ => {}
            }
        }
        Some((asked, result, before - end))
    }

    /// Takes bytes of the long value that is coming in, then of the frame, as far as is known what they are. Returns how
    /// many.
    pub(super) fn take(&mut self, mut bytes: &[u8], executor: &Executor) -> usize {
        let length = bytes.len();
        while self.left > 0 && !bytes.is_empty() {
            let count = self.left.min(bytes.len());
            if self.read(&mut bytes, count, &mut [], executor).is_none() {
                (bytes, self.left) = (&bytes[count..], self.left - count);
            }
        }
        if self.left == 0 {
            let missing = self.needed.saturating_sub(self.frames.bytes.len());
            self.frames.bytes.extend(bytes.split_off(..missing.min(bytes.len())).unwrap_or_default());
        }
        length - bytes.len()
    }
}

impl Long {
    /// What has come of it.
    pub(super) fn value(&self) -> Value<'_> {
        Value { chunks: &self.chunks, rest: self.filling.as_ref().map_or(&[], Chunk::as_ref) }
    }
}
