//! The output of one client, in order: bytes that were copied in, and chunks that are held by reference. It knows
//! neither the wire format of what it holds nor the socket it is for.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::mem;

use bytes::{Buf, Bytes};

use crate::command::Value;
use crate::limits::{CHUNK_BYTES, OUTPUT_HIGH_BYTES, OUTPUT_SPARE_BYTES_MAX};

/// Replies waiting to be written.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,                   // all that were copied in
    sent: usize,                      // how many of these have been written
    chunks: VecDeque<(usize, Bytes)>, // each with the index into `bytes` that it is written before
    /// How many bytes of the chunks have not been written yet.
    pub chunk_bytes: usize,
}

/// Empty buffers for outputs that need one.
#[derive(Debug, Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Memory held in bytes.
    pub bytes: usize,
}

const SLICES_MAX: usize = 16; // written by one system call at most: of a large value, more than `WRITE_BYTES`

impl Output {
    /// How many bytes wait to be written.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.chunk_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held in bytes, chunks excluded: their pool counts those.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.chunks.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Appends bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `number` in decimal, and `end`.
    #[inline]
    pub fn push_number(&mut self, number: i64, end: &[u8; 2]) {
        self.push(itoa::Buffer::new().format(number).as_bytes());
        self.push(end);
    }

    /// Appends `value`, its chunks by reference and its rest as a copy, and `end`.
    #[inline]
    pub fn push_value(&mut self, value: Value<'_>, end: &[u8; 2]) {
        if !value.chunks.is_empty() {
            self.push_chunks(value.chunks);
        }
        self.push(value.rest);
        self.push(end);
    }

    #[cold]
    fn push_chunks(&mut self, chunks: &[Bytes]) {
        self.chunk_bytes += chunks.len() * CHUNK_BYTES;
        self.chunks.extend(chunks.iter().map(|chunk| (self.bytes.len(), chunk.clone())));
    }

    /// Fills `slices` from the front, up to the one that reaches `bytes_max`. Returns how many, and their total bytes.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>], bytes_max: usize) -> (usize, usize) {
        let (mut from, mut filled, mut total) = (self.sent, 0, 0);
        let last = (self.bytes.len(), [].as_slice());
        let chunks = self.chunks.iter().map(|(until, chunk)| (*until, &chunk[..])).chain([last]);
        let pieces = chunks.flat_map(|(until, chunk)| [&self.bytes[mem::replace(&mut from, until)..until], chunk]);
        for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            if total >= bytes_max {
                break;
            }
            *slice = IoSlice::new(piece);
            filled += 1;
            total += piece.len();
        }
        (filled, total)
    }

    /// Writes up to `bytes_max` bytes, or a piece more, and removes what was written. Returns how many it tried.
    pub fn write_to(&mut self, socket: &mut impl Write, bytes_max: usize) -> (usize, io::Result<usize>) {
        let (tried, result) = if let Some(bytes) = self.contiguous().and_then(|bytes| bytes.chunks(bytes_max).next()) {
            (bytes.len(), socket.write(bytes))
        } else {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let (filled, tried) = self.slices(&mut slices, bytes_max);
            (tried, socket.write_vectored(&slices[..filled]))
        };
        self.consume(*result.as_ref().unwrap_or(&0));
        (tried, result)
    }

    /// All of the output, if there are no chunks in it.
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.chunks.is_empty().then(|| &self.bytes[self.sent..])
    }

    /// Removes the first `count` bytes, which have been written.
    pub fn consume(&mut self, mut count: usize) {
        debug_assert!(count <= self.len());
        while let Some((until, chunk)) = self.chunks.front_mut() {
            let copied = (*until - self.sent).min(count);
            self.sent += copied;
            count -= copied;
            let shared = chunk.len().min(count);
            chunk.advance(shared);
            self.chunk_bytes -= shared;
            count -= shared;
            if !chunk.is_empty() {
                break;
            }
            self.chunks.pop_front();
        }
        self.sent += count;
        if self.sent > 0 && self.sent * 2 >= self.bytes.len() {
            // Otherwise it would grow for ever if a client never quite catches up. No more is moved than was written.
            self.bytes.drain(..self.sent);
            self.chunks.iter_mut().for_each(|(until, _)| *until -= self.sent);
            self.sent = 0;
        }
    }

    /// Takes a spare buffer, unless it has room: to get memory for each reply would cost more than the reply.
    pub fn lend(&mut self, spare: &mut Spare) {
        if self.bytes.len() == self.bytes.capacity() && self.bytes.len() < OUTPUT_HIGH_BYTES {
            let waiting = mem::replace(&mut self.bytes, spare.buffers.pop().unwrap_or_default());
            spare.bytes -= self.bytes.capacity();
            self.bytes.extend_from_slice(&waiting);
        }
    }

    /// Takes a buffer that is mostly empty back into `spare`, or drops it: idle clients hold none, nor do slow ones a large.
    /// If buffers `are_scarce`, one with a quarter empty, too: shrunk in place, it would have to grow for the next reply.
    pub fn take_back(&mut self, spare: &mut Spare, are_scarce: bool) {
        let bytes = self.bytes.capacity();
        if bytes > 0 && self.bytes.len() <= bytes / 8 * if are_scarce { 6 } else { 1 } {
            self.chunks.shrink_to_fit();
            let waiting = self.bytes.clone();
            let mut buffer = mem::replace(&mut self.bytes, waiting);
            buffer.clear();
            if spare.bytes + bytes <= OUTPUT_SPARE_BYTES_MAX {
                spare.bytes += bytes;
                spare.buffers.push(buffer);
            }
        }
    }
}
