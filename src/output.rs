//! What a client is still to be sent, in order: bytes that were copied in, and chunks that are only referred to.
//! It knows neither the wire format of what it holds nor the socket it is for.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Write};
use std::mem;

use bytes::{Buf, Bytes};

use crate::command::Value;
use crate::limits::CHUNK_BYTES;

/// Replies waiting to be written.
#[derive(Debug, Default)]
pub struct Output {
    /// All copied bytes; the first `sent` are gone.
    bytes: Vec<u8>,
    sent: usize,
    /// Chunks, each with the place in `bytes` that it stands before.
    chunks: VecDeque<(usize, Bytes)>,
    /// What is left of the chunks, in bytes.
    pub chunk_bytes: usize,
}

/// Pieces of output in one system call: half a megabyte of a large value.
const SLICES_MAX: usize = 16;

/// A sent prefix shorter than this many bytes is not worth moving the rest for.
const COMPACT_BYTES_MIN: usize = 4096;

impl Output {
    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.sent + self.chunk_bytes
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that it holds for itself, in bytes; chunks are counted by their pool.
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.chunks.capacity() * size_of::<(usize, Bytes)>()
    }

    /// Appends bytes.
    #[inline]
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends bytes and what ends them.
    #[inline]
    fn push_with(&mut self, bytes: &[u8], end: &[u8; 2]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.extend_from_slice(end);
    }

    /// Appends a number in decimal, and what ends it.
    #[inline]
    pub fn push_number(&mut self, number: i64, end: &[u8; 2]) {
        self.push_with(itoa::Buffer::new().format(number).as_bytes(), end);
    }

    /// Appends a value, its chunks by reference and its rest copied, and what ends it.
    #[inline]
    pub fn push_value(&mut self, value: Value<'_>, end: &[u8; 2]) {
        if !value.chunks.is_empty() {
            self.push_chunks(value.chunks);
        }
        self.push_with(value.rest, end);
    }

    #[cold]
    fn push_chunks(&mut self, chunks: &[Bytes]) {
        self.chunk_bytes += chunks.len() * CHUNK_BYTES;
        self.chunks.extend(chunks.iter().map(|chunk| (self.bytes.len(), chunk.clone())));
    }

    /// Fills `slices` with what comes first and returns how many it filled; at most `bytes_max` bytes or one slice.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>], bytes_max: usize) -> usize {
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
        filled
    }

    /// Writes what comes first, about `bytes_max` bytes at most, and takes away what was taken. Returns how many bytes it
    /// tried, and what came of it; a signal in between is none of the caller's business.
    pub fn write_to(&mut self, socket: &mut impl Write, bytes_max: usize) -> (usize, io::Result<usize>) {
        loop {
            let (tried, result) = if let Some(bytes) = self.contiguous() {
                (bytes.len(), socket.write(bytes))
            } else {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = self.slices(&mut slices, bytes_max);
                let tried = slices[..filled].iter().map(|slice| slice.len()).sum();
                (tried, socket.write_vectored(&slices[..filled]))
            };
            match &result {
                Ok(count) => self.consume(*count),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {}
            }
            return (tried, result);
        }
    }

    /// What comes first, in one piece, if there is no chunk in between.
    pub fn contiguous(&self) -> Option<&[u8]> {
        self.chunks.is_empty().then(|| &self.bytes[self.sent..])
    }

    /// Takes away the first `count` bytes, which have been written.
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
        if self.sent == self.bytes.len() && self.chunks.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent >= COMPACT_BYTES_MIN && self.sent * 2 >= self.bytes.len() {
            // Or a reader who never quite catches up would make it grow for ever. So each byte moves once at most.
            self.bytes.drain(..self.sent);
            for (until, _) in &mut self.chunks {
                *until -= self.sent;
            }
            self.sent = 0;
        }
    }

    /// Gives it a spare buffer, unless it has one: allocating for each reply would cost more than the reply.
    pub fn lend(&mut self, spare: &mut Vec<Vec<u8>>) {
        if self.bytes.capacity() == 0
            && let Some(buffer) = spare.pop()
        {
            self.bytes = buffer;
        }
    }

    /// Takes the buffer back from an output that is empty, so that an idle client holds none. One that has grown
    /// beyond `capacity_max` bytes, or for which there is no place, is freed.
    pub fn reclaim(&mut self, spare: &mut Vec<Vec<u8>>, capacity_max: usize) {
        if !self.is_empty() || self.bytes.capacity() == 0 {
            return;
        }
        let buffer = mem::take(&mut self.bytes);
        if buffer.capacity() <= capacity_max && spare.len() < spare.capacity() {
            spare.push(buffer);
        }
        if self.chunks.capacity() > 0 {
            self.chunks = VecDeque::new();
        }
    }
}
