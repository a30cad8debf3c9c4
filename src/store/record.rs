//! How one item lies in the log: a header as short as its lengths allow, the key, the value's rest, padding to even.
//!
//! | form | header | for |
//! |---|---|---|
//! | plain | key length (7 bits), rest length | keys to 127 bytes, rests to 255, nothing else |
//! | narrow | flags, key length, rest length [, 40-bit deadline] [, chunk list] | keys and rests to 255 bytes |
//! | wide | flags, 16-bit key length, 32-bit rest length [, 64-bit deadline] [, chunk list] | all else |
//! | gap | 255, size / 2; or 254, 0, 32-bit size | what is dead |
//!
//! This file knows bytes, not segments or queues.

use std::ops::Range;

/// The deadline of an item that does not expire, in milliseconds.
pub(super) const NEVER: u64 = u64::MAX;

/// The longest header there is, in bytes.
const HEADER_BYTES_MAX: usize = 19;

const PLAIN_BYTES: u8 = 2;
const EXTENDED: u8 = 0x80;
const WIDE: u8 = 0x40;
const EXPIRES: u8 = 0x20;
const CHUNKED: u8 = 0x10;
const GAP: u8 = 0xFF;
const LONG_GAP: u8 = 0xFE;

/// How many bytes the fields of a header take that is not plain.
const fn widths(flags: u8) -> [usize; 4] {
    let [key, rest, deadline] = if flags & WIDE == 0 { [1, 1, 5] } else { [2, 4, 8] };
    [key, rest, if flags & EXPIRES == 0 { 0 } else { deadline }, if flags & CHUNKED == 0 { 0 } else { 4 }]
}

/// A record's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    flags: u8,
    header: u8,
    key: u16,
    rest: u32,
    /// The number of its chunk list, if its value has chunks.
    pub(super) list: Option<u32>,
    /// When it expires, in milliseconds of the store's clock, or [`NEVER`].
    pub(super) deadline: u64,
}

/// What lies at a place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// An item.
    Item(Record),
    /// So many dead bytes.
    Gap(usize),
}

impl Record {
    /// The record for a key and a value's rest of these lengths, in its shortest form. They must fit 16 and 32 bits.
    #[inline]
    pub(super) fn plan(key: usize, rest: usize, deadline: u64, list: Option<u32>) -> Record {
        let (flags, header) = if key <= 127 && rest <= 255 && deadline == NEVER && list.is_none() {
            (0, PLAIN_BYTES)
        } else {
            let is_narrow = key <= 255 && rest <= 255 && (deadline == NEVER || deadline < 1 << 40);
            let mut flags = if is_narrow { EXTENDED } else { EXTENDED | WIDE };
            flags |= if deadline == NEVER { 0 } else { EXPIRES } | if list.is_none() { 0 } else { CHUNKED };
            (flags, 1 + widths(flags).iter().sum::<usize>() as u8)
        };
        Record { flags, header, key: key as u16, rest: rest as u32, list, deadline }
    }

    /// Whether the record that starts these bytes is of this key.
    #[inline]
    pub(super) fn is_of(bytes: &[u8], key: &[u8]) -> bool {
        match bytes {
            [length, _, rest @ ..] if length & EXTENDED == 0 => {
                usize::from(*length) == key.len() && rest.get(..key.len()) == Some(key)
            }
            _ => bytes[Record::read_extended(bytes).key()] == *key,
        }
    }

    /// Where the value lies in the record that starts these bytes, if that is a plain one.
    #[inline]
    pub(super) fn plain_rest(bytes: &[u8]) -> Option<Range<usize>> {
        let start = usize::from(PLAIN_BYTES) + usize::from(bytes[0]);
        (bytes[0] & EXTENDED == 0).then(|| start..start + usize::from(bytes[1]))
    }

    /// The item whose record starts these bytes; it must be one.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Record {
        if bytes[0] & EXTENDED != 0 {
            return Record::read_extended(bytes);
        }
        let (key, rest) = (bytes[0].into(), bytes[1].into());
        Record { flags: 0, header: PLAIN_BYTES, key, rest, list: None, deadline: NEVER }
    }

    #[cold]
    fn read_extended(bytes: &[u8]) -> Record {
        let flags = bytes[0];
        debug_assert!(flags < LONG_GAP, "a gap is not an item");
        let mut end = 1;
        let [key, rest, deadline, list] = widths(flags).map(|width| {
            end += width;
            bytes[end - width..end].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        });
        let deadline = if flags & EXPIRES == 0 { NEVER } else { deadline };
        let list = (flags & CHUNKED != 0).then_some(list as u32);
        Record { flags, header: end as u8, key: key as u16, rest: rest as u32, list, deadline }
    }

    /// Its header's bytes, and how many they are.
    #[inline]
    fn header(&self) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut header = [0; HEADER_BYTES_MAX];
        [header[0], header[1]] = [self.key as u8, self.rest as u8];
        if self.flags & EXTENDED != 0 {
            header[0] = self.flags;
            let fields = [self.key.into(), self.rest.into(), self.deadline, self.list.unwrap_or(0).into()];
            let mut end = 1;
            for (field, width) in fields.into_iter().zip(widths(self.flags)) {
                header[end..end + width].copy_from_slice(&field.to_le_bytes()[..width]);
                end += width;
            }
        }
        (header, self.header.into())
    }

    /// Its size in the log, in bytes; even.
    #[inline]
    pub(super) fn size(&self) -> usize {
        self.rest().end.next_multiple_of(2)
    }

    /// Where its key lies, from its start.
    #[inline]
    pub(super) fn key(&self) -> Range<usize> {
        let start = usize::from(self.header);
        start..start + usize::from(self.key)
    }

    /// Where its value's rest lies, from its start.
    #[inline]
    pub(super) fn rest(&self) -> Range<usize> {
        let start = self.key().end;
        start..start + self.rest as usize
    }

    /// Writes it over the start of `bytes`.
    pub(super) fn write(&self, bytes: &mut [u8], key: &[u8], rest: &[u8]) {
        let (header, length) = self.header();
        bytes[..length].copy_from_slice(&header[..length]);
        bytes[self.key()].copy_from_slice(key);
        bytes[self.rest()].copy_from_slice(rest);
    }

    /// Appends it to `bytes`.
    pub(super) fn append(&self, bytes: &mut Vec<u8>, key: &[u8], rest: &[u8]) {
        let (header, length) = self.header();
        bytes.extend_from_slice(&header[..length]);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(rest);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
    }
}

impl Place {
    /// What starts these bytes of the log.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Place {
        match bytes {
            [GAP, half, ..] => Place::Gap(usize::from(*half) * 2),
            [LONG_GAP, _, size @ ..] => {
                Place::Gap(size.first_chunk().map_or(0, |size| u32::from_le_bytes(*size)) as usize)
            }
            _ => Place::Item(Record::read(bytes)),
        }
    }

    /// How many bytes of the log it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Place::Item(record) => record.size(),
            Place::Gap(size) => *size,
        }
    }
}

/// Declares the first `size` bytes (even, not 0) dead.
#[inline]
pub(super) fn write_gap(bytes: &mut [u8], size: usize) {
    debug_assert!(size >= 2 && size.is_multiple_of(2));
    if size <= 510 {
        bytes[..2].copy_from_slice(&[GAP, (size / 2) as u8]);
    } else {
        bytes[..2].copy_from_slice(&[LONG_GAP, 0]);
        bytes[2..6].copy_from_slice(&(size as u32).to_le_bytes());
    }
}
