//! The layout of an item in the log: a header in the shortest form that fits, the key, the value's rest, and padding to
//! an even size. The rest is the part of the value behind its last whole chunk; a small value is nothing else. This file
//! knows bytes, not segments or queues.
//!
//! | form | first byte | then, with their bytes |
//! |---|---|---|
//! | plain, for keys to 127 bytes and rests to 255 | key length | rest length (1) |
//! | short, for keys and rests to 255 bytes that expire | 128 | key length (1), rest length (1), deadline (5) |
//! | wide | 129 | key length (2), rest length (4) |
//! | wide, if it expires | 130 | the same, deadline (8) |
//! | chunked | 131 | the same, list of chunks (4) |
//! | gap: dead bytes | 255 or 254 | rest length (1); or nothing (1), rest length (4) |

use std::ops::Range;

use crate::command::NEVER;

const SHORT: u8 = 128;
const WIDE: u8 = 129;
const EXPIRING: u8 = 130;
const CHUNKED: u8 = 131;
const LONG_GAP: u8 = 254;
const GAP: u8 = 255;

/// A record's header, decoded. A gap has no key, and its rest is all of its bytes behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    form: u8, // the first byte
    header: u8,
    key: u16,
    rest: u32,
    /// The number of the value's chunk list, if it has chunks.
    pub list: Option<u32>,
    /// The last millisecond of the store's clock in which it is there, or [`NEVER`].
    pub deadline: u64,
}

impl Record {
    /// The shortest record for a key and a rest of these lengths, which must fit 16 and 32 bits.
    pub fn plan(key: usize, rest: usize, deadline: u64, list: Option<u32>) -> Record {
        let (form, header) = match list {
            Some(_) => (CHUNKED, 19),
            None if deadline < 1 << 40 && key <= 255 && rest <= 255 => (SHORT, 8),
            None if deadline != NEVER => (EXPIRING, 15),
            None if key <= 127 && rest <= 255 => (key as u8, 2),
            None => (WIDE, 7),
        };
        Record { form, header, key: key as u16, rest: rest as u32, list, deadline }
    }

    /// Decodes the record that these bytes of the log begin with.
    #[inline(always)]
    pub fn read(bytes: &[u8]) -> Record {
        let form = bytes[0];
        let word = |at| field::<4>(bytes, at) as u32;
        let (header, key, rest, deadline, list) = match form {
            ..SHORT => (2, form.into(), bytes[1].into(), NEVER, None),
            SHORT => (8, bytes[1].into(), bytes[2].into(), field::<5>(bytes, 3), None),
            GAP => (2, 0, bytes[1].into(), NEVER, None),
            LONG_GAP => (6, 0, word(2), NEVER, None),
            WIDE => (7, field::<2>(bytes, 1) as u16, word(3), NEVER, None),
            EXPIRING => (15, field::<2>(bytes, 1) as u16, word(3), field::<8>(bytes, 7), None),
            _ => (19, field::<2>(bytes, 1) as u16, word(3), field::<8>(bytes, 7), Some(word(15))),
        };
        Record { form, header, key, rest, list, deadline }
    }

    /// Whether this, which `bytes` begin with, is the record of `key`.
    #[inline(always)]
    pub fn is_of(&self, key: &[u8], bytes: &[u8]) -> bool {
        !self.is_gap() && bytes.get(self.key()).is_some_and(|own| own.len() == key.len() && is_equal(own, key))
    }

    /// Whether this is a gap.
    pub fn is_gap(&self) -> bool {
        self.form >= LONG_GAP
    }

    /// Its size in the log, in bytes; even.
    pub fn size(&self) -> usize {
        self.rest().end.next_multiple_of(2)
    }

    /// Where the key lies, relative to the record's start.
    pub fn key(&self) -> Range<usize> {
        let start = usize::from(self.header);
        start..start + usize::from(self.key)
    }

    /// Where the value's rest lies, relative to the record's start.
    pub fn rest(&self) -> Range<usize> {
        let start = self.key().end;
        start..start + self.rest as usize
    }

    /// Makes a gap of the first `size` of these bytes. `size` is even and not 0.
    #[inline]
    pub fn write_gap(bytes: &mut [u8], size: usize) {
        if size <= 257 {
            bytes[..2].copy_from_slice(&[GAP, (size - 2) as u8]);
        } else {
            bytes[..2].copy_from_slice(&[LONG_GAP, 0]);
            bytes[2..6].copy_from_slice(&(size as u32 - 6).to_le_bytes());
        }
    }

    /// Writes the record to the start of `bytes`.
    pub fn write(&self, bytes: &mut [u8], key: &[u8], rest: &[u8]) {
        self.write_header(bytes);
        bytes[self.key()].copy_from_slice(key);
        bytes[self.rest()].copy_from_slice(rest);
    }

    /// Writes the record's header to the start of `bytes`.
    pub fn write_header(&self, bytes: &mut [u8]) {
        bytes[0] = self.form;
        match self.form {
            ..SHORT => bytes[1] = self.rest as u8,
            SHORT => {
                bytes[1..3].copy_from_slice(&[self.key as u8, self.rest as u8]);
                bytes[3..8].copy_from_slice(&self.deadline.to_le_bytes()[..5]);
            }
            form => {
                bytes[1..3].copy_from_slice(&self.key.to_le_bytes());
                bytes[3..7].copy_from_slice(&self.rest.to_le_bytes());
                if form != WIDE {
                    bytes[7..15].copy_from_slice(&self.deadline.to_le_bytes());
                }
                if let Some(list) = self.list {
                    bytes[15..19].copy_from_slice(&list.to_le_bytes());
                }
            }
        }
    }
}

/// The number in a header's field of `BYTES` bytes, which begins at `at`.
#[inline(always)]
fn field<const BYTES: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number[..BYTES].copy_from_slice(&bytes[at..at + BYTES]);
    u64::from_le_bytes(number)
}

/// Whether two slices of equal length are equal. For most keys, that is decided before a library call would begin.
#[inline(always)]
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if !(8..=16).contains(&one.len()) {
        return one == other;
    }
    one.first_chunk::<8>() == other.first_chunk() && one.last_chunk::<8>() == other.last_chunk()
}
