//! The layout of an item in the log: a header as short as the lengths allow, the key, the value's rest, and padding to
//! an even size. The rest is the part of the value behind its last whole chunk; a small value is nothing else.
//!
//! | form | header | for |
//! |---|---|---|
//! | plain | key length (7 bits), rest length | keys to 127 bytes, rests to 255, no deadline, no chunks |
//! | narrow | flags, key length, rest length [, 40-bit deadline] [, chunk list] | keys and rests to 255 bytes |
//! | wide | flags, 16-bit key length, 32-bit rest length [, 64-bit deadline] [, chunk list] | everything else |
//! | gap | 255, rest length; or 254, 0, 32-bit rest length | dead bytes |
//!
//! This file knows bytes, not segments or queues.

use std::iter::zip;
use std::ops::Range;

use crate::command::NEVER;

const EXTENDED: u8 = 0x80;
const WIDE: u8 = 0x40;
const EXPIRES: u8 = 0x20;
const CHUNKED: u8 = 0x10;
const GAP: u8 = 0xFF;
const LONG_GAP: u8 = 0xFE;

/// The widths in bytes of key length, rest length, deadline and chunk list, which follow a header's first byte.
fn widths(flags: u8) -> [usize; 4] {
    let [key, rest, deadline] = match flags {
        ..EXTENDED | GAP => return [0, 1, 0, 0],
        LONG_GAP => return [1, 4, 0, 0],
        _ if flags & WIDE == 0 => [1, 1, 5],
        _ => [2, 4, 8],
    };
    [key, rest, if flags & EXPIRES == 0 { 0 } else { deadline }, if flags & CHUNKED == 0 { 0 } else { 4 }]
}

/// A record's header, decoded. A gap has no key, and its rest is all of its bytes behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    flags: u8,
    header: u8,
    key: u16,
    rest: u32,
    /// The number of the value's chunk list, if it has chunks.
    pub list: Option<u32>,
    /// The last millisecond of the store's clock in which it is there, or [`NEVER`].
    pub deadline: u64,
}

impl Record {
    fn new(flags: u8, key: usize, rest: usize, deadline: u64, list: Option<u32>) -> Record {
        let header = 1 + widths(flags).iter().sum::<usize>() as u8;
        Record { flags, header, key: key as u16, rest: rest as u32, list, deadline }
    }

    /// The shortest record for a key and a rest of these lengths, which must fit 16 and 32 bits.
    pub fn plan(key: usize, rest: usize, deadline: u64, list: Option<u32>) -> Record {
        let mut flags = EXTENDED;
        if key > 255 || rest > 255 || (1 << 40..NEVER).contains(&deadline) {
            flags |= WIDE;
        }
        flags |= if deadline == NEVER { 0 } else { EXPIRES } | if list.is_none() { 0 } else { CHUNKED };
        let is_plain = flags == EXTENDED && key <= 127;
        Record::new(if is_plain { key as u8 } else { flags }, key, rest, deadline, list)
    }

    /// Decodes the record that these bytes of the log begin with.
    #[inline]
    pub fn read(bytes: &[u8]) -> Record {
        let (flags, mut end) = (bytes[0], 1);
        // A shortcut for the commonest forms, which takes a tenth of the time.
        if let ..EXTENDED | GAP = flags {
            let key = if flags == GAP { 0 } else { flags.into() };
            return Record { flags, header: 2, key, rest: bytes[1].into(), list: None, deadline: NEVER };
        }
        let widths = widths(flags);
        let [key, rest, deadline, list] = widths.map(|width| {
            end += width;
            bytes[end - width..end].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        });
        let deadline = if widths[2] == 0 { NEVER } else { deadline };
        Record::new(flags, key as usize, rest as usize, deadline, (widths[3] > 0).then_some(list as u32))
    }

    /// Where the value lies in the record that these bytes begin with, if that is a plain one and has this key.
    #[inline]
    pub fn plain_rest(bytes: &[u8], key: &[u8]) -> Option<Range<usize>> {
        let [length, rest, tail @ ..] = bytes else { return None };
        let is_it = *length < EXTENDED
            && usize::from(*length) == key.len()
            && tail.get(..key.len()).is_some_and(|own| is_equal(own, key));
        let end = 2 + key.len();
        is_it.then(|| end..end + usize::from(*rest))
    }

    /// Whether this is a gap.
    pub fn is_gap(&self) -> bool {
        self.flags >= LONG_GAP
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
        bytes[0] = self.flags;
        bytes[1] = self.rest as u8;
        if self.header > 2 {
            let fields = [self.key.into(), self.rest.into(), self.deadline, self.list.unwrap_or(0).into()];
            let mut end = 1;
            for (field, width) in zip(fields, widths(self.flags)) {
                bytes[end..end + width].copy_from_slice(&field.to_le_bytes()[..width]);
                end += width;
            }
        }
        bytes[self.key()].copy_from_slice(key);
        bytes[self.rest()].copy_from_slice(rest);
    }
}

/// Whether two slices of equal length have the same bytes. Most keys are so short that this is decided before the C
/// library's function would have been called.
#[inline(always)]
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    if !(8..=16).contains(&one.len()) {
        return one == other;
    }
    one.first_chunk::<8>() == other.first_chunk() && one.last_chunk::<8>() == other.last_chunk()
}
