//! How one item lies in the log: a header as short as its lengths allow, the key, the value's rest, padding to even.
//!
//! | form | header | for |
//! |---|---|---|
//! | plain | key length (7 bits), value length | keys to 127 bytes, values to 255, no expiry |
//! | timed | flags, key length, value length, 40-bit deadline | keys and values to 255 bytes |
//! | long | flags, 0, 16-bit key length, 32-bit rest length [, 64-bit deadline] [, 32-bit chunk list] | all else |
//! | gap | 255, size / 2; or 254, 0, 32-bit size | what is dead |
//!
//! A gap overwrites only the first bytes of what it stands for, all within the old header, so whoever still holds the
//! value that was just removed can read it. This file knows bytes, not segments or queues.

use std::ops::Range;

/// The deadline of an item that does not expire, in milliseconds.
pub(super) const NEVER: u64 = u64::MAX;

/// The longest header there is, in bytes.
const HEADER_BYTES_MAX: usize = 20;

const EXTENDED: u8 = 0x80;
const LONG: u8 = 0x40;
const EXPIRES: u8 = 0x20;
const CHUNKED: u8 = 0x10;
const GAP: u8 = 0xFF;
const LONG_GAP: u8 = 0xFE;

const TIMED_BYTES: usize = 8;
const TIMED_DEADLINE_MAX: u64 = (1 << 40) - 1;

/// A record's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    header: usize,
    key: usize,
    rest: usize,
    /// When it expires, in milliseconds of the store's clock, or [`NEVER`].
    pub(super) deadline: u64,
    /// The number of its chunk list, if its value has chunks.
    pub(super) list: Option<u32>,
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
    /// The record for a key and a value's rest of these lengths, in its shortest form.
    #[inline]
    pub(super) fn plan(key: usize, rest: usize, deadline: u64, list: Option<u32>) -> Record {
        let header = if key <= 127 && rest <= 255 && deadline == NEVER && list.is_none() {
            2
        } else if key <= 255 && rest <= 255 && deadline <= TIMED_DEADLINE_MAX && list.is_none() {
            TIMED_BYTES
        } else {
            8 + if deadline == NEVER { 0 } else { 8 } + if list.is_some() { 4 } else { 0 }
        };
        Record { header, key, rest, deadline, list }
    }

    /// The item whose record starts these bytes; it must be one.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Record {
        if bytes[0] & EXTENDED == 0 {
            let (key, rest) = (bytes[0].into(), bytes[1].into());
            return Record { header: 2, key, rest, deadline: NEVER, list: None };
        }
        Self::read_extended(bytes)
    }

    fn read_extended(bytes: &[u8]) -> Record {
        let flags = bytes[0];
        debug_assert!(flags < LONG_GAP, "a gap is not an item");
        let number = |at: Range<usize>| bytes[at].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        if flags & LONG == 0 {
            let (key, rest) = (bytes[1].into(), bytes[2].into());
            return Record { header: TIMED_BYTES, key, rest, deadline: number(3..8), list: None };
        }
        let (key, rest) = (number(2..4) as usize, number(4..8) as usize);
        let mut header = 8;
        let mut deadline = NEVER;
        if flags & EXPIRES != 0 {
            deadline = number(8..16);
            header = 16;
        }
        let mut list = None;
        if flags & CHUNKED != 0 {
            list = Some(number(header..header + 4) as u32);
            header += 4;
        }
        Record { header, key, rest, deadline, list }
    }

    /// Its size in the log, in bytes; even.
    #[inline]
    pub(super) fn size(&self) -> usize {
        (self.header + self.key + self.rest + 1) & !1
    }

    /// Where its key lies, from its start.
    #[inline]
    pub(super) fn key(&self) -> Range<usize> {
        self.header..self.header + self.key
    }

    /// Where its value's rest lies, from its start.
    #[inline]
    pub(super) fn rest(&self) -> Range<usize> {
        let start = self.header + self.key;
        start..start + self.rest
    }

    /// Writes it at the start of `bytes`.
    #[inline]
    pub(super) fn write(&self, bytes: &mut [u8], key: &[u8], rest: &[u8]) {
        let (header, length) = self.encode();
        bytes[..length].copy_from_slice(&header[..length]);
        bytes[self.key()].copy_from_slice(key);
        bytes[self.rest()].copy_from_slice(rest);
    }

    /// Appends it to `bytes`.
    #[inline]
    pub(super) fn append(&self, bytes: &mut Vec<u8>, key: &[u8], rest: &[u8]) {
        debug_assert!(key.len() == self.key && rest.len() == self.rest);
        let (header, length) = self.encode();
        bytes.extend_from_slice(&header[..length]);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(rest);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
    }

    #[inline]
    fn encode(&self) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut header = [0; HEADER_BYTES_MAX];
        if self.header == 2 {
            header[0] = self.key as u8;
            header[1] = self.rest as u8;
        } else {
            self.encode_extended(&mut header);
        }
        (header, self.header)
    }

    fn encode_extended(&self, header: &mut [u8; HEADER_BYTES_MAX]) {
        let timed = self.deadline != NEVER;
        header[0] = EXTENDED | if timed { EXPIRES } else { 0 };
        if timed && self.header == TIMED_BYTES {
            header[1] = self.key as u8;
            header[2] = self.rest as u8;
            header[3..8].copy_from_slice(&self.deadline.to_le_bytes()[..5]);
            return;
        }
        header[0] |= LONG | if self.list.is_some() { CHUNKED } else { 0 };
        header[2..4].copy_from_slice(&(self.key as u16).to_le_bytes());
        header[4..8].copy_from_slice(&(self.rest as u32).to_le_bytes());
        let mut end = 8;
        if timed {
            header[8..16].copy_from_slice(&self.deadline.to_le_bytes());
            end = 16;
        }
        if let Some(list) = self.list {
            header[end..end + 4].copy_from_slice(&list.to_le_bytes());
        }
    }
}

/// What starts these bytes of the log.
#[inline]
pub(super) fn place(bytes: &[u8]) -> Place {
    match bytes[0] {
        GAP => Place::Gap(usize::from(bytes[1]) * 2),
        LONG_GAP => {
            let size = [bytes[2], bytes[3], bytes[4], bytes[5]];
            Place::Gap(u32::from_le_bytes(size) as usize)
        }
        _ => Place::Item(Record::read(bytes)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_reads_back_and_costs_what_it_should() {
        let late = TIMED_DEADLINE_MAX + 1;
        let rows = [
            ((0, 0, NEVER, None), 2),
            ((127, 255, NEVER, None), 2),
            ((128, 0, NEVER, None), 8),
            ((1, 256, NEVER, None), 8),
            ((16, 32, 77, None), 8),
            ((255, 255, TIMED_DEADLINE_MAX, None), 8),
            ((16, 32, late, None), 16),
            ((256, 32, 77, None), 16),
            ((65_535, 32_000, NEVER, Some(9)), 12),
            ((3, 3, 77, Some(9)), 20),
            ((3, 0, NEVER, Some(u32::MAX)), 12),
        ];
        for ((key, rest, deadline, list), header) in rows {
            let record = Record::plan(key, rest, deadline, list);
            assert_eq!(record.header, header, "{record:?}");
            let (key, rest) = (vec![b'k'; key], vec![b'r'; rest]);
            let mut bytes = Vec::new();
            record.append(&mut bytes, &key, &rest);
            assert_eq!(bytes.len(), record.size());
            assert_eq!(place(&bytes), Place::Item(record));
            assert_eq!((&bytes[record.key()], &bytes[record.rest()]), (&key[..], &rest[..]));
            let mut again = vec![0xAA; record.size()];
            record.write(&mut again, &key, &rest);
            assert_eq!(place(&again), Place::Item(record));
            write_gap(&mut bytes, record.size());
            assert_eq!(place(&bytes), Place::Gap(record.size()));
            assert_eq!(&bytes[record.rest()], &rest[..], "a gap leaves the value readable");
        }
    }
}
