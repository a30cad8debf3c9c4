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

const PLAIN_BYTES: u8 = 2;
const TIMED_BYTES: u8 = 8;
const TIMED_DEADLINE_MAX: u64 = (1 << 40) - 1;

/// A record's header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    header: u8,
    key: u16,
    rest: u32,
    list: u32,
    /// When it expires, in milliseconds of the store's clock, or [`NEVER`].
    pub(super) deadline: u64,
}

/// In place of a chunk list's number: there is none.
const NO_LIST: u32 = u32::MAX;

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
    pub(super) fn plan(key: usize, rest: usize, deadline: u64, has_list: bool) -> Record {
        let list = if has_list { 0 } else { NO_LIST };
        let header = if key <= 127 && rest <= 255 && deadline == NEVER && !has_list {
            PLAIN_BYTES
        } else if key <= 255 && rest <= 255 && deadline <= TIMED_DEADLINE_MAX && !has_list {
            TIMED_BYTES
        } else {
            8 + if deadline == NEVER { 0 } else { 8 } + if has_list { 4 } else { 0 }
        };
        Record { header, key: key as u16, rest: rest as u32, list, deadline }
    }

    /// The number of its chunk list, if its value has chunks.
    #[inline]
    pub(super) fn list(&self) -> Option<u32> {
        (self.list != NO_LIST).then_some(self.list)
    }

    /// Names the chunk list of a record that was planned with one.
    pub(super) fn set_list(&mut self, number: u32) {
        debug_assert!(self.list != NO_LIST && number != NO_LIST);
        self.list = number;
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

    /// The item whose record starts these bytes; it must be one.
    #[inline]
    pub(super) fn read(bytes: &[u8]) -> Record {
        if bytes[0] & EXTENDED == 0 {
            let (key, rest) = (bytes[0].into(), bytes[1].into());
            return Record { header: PLAIN_BYTES, key, rest, list: NO_LIST, deadline: NEVER };
        }
        Self::read_extended(bytes)
    }

    /// The value of the item whose record starts these bytes, if that is a plain one.
    #[inline]
    pub(super) fn plain_rest(bytes: &[u8]) -> Option<&[u8]> {
        match bytes {
            [key, rest, bytes @ ..] if key & EXTENDED == 0 => bytes.get(usize::from(*key)..)?.get(..usize::from(*rest)),
            _ => None,
        }
    }

    #[cold]
    fn read_extended(bytes: &[u8]) -> Record {
        let flags = bytes[0];
        debug_assert!(flags < LONG_GAP, "a gap is not an item");
        let number = |at: Range<usize>| bytes[at].iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        if flags & LONG == 0 {
            let (key, rest) = (bytes[1].into(), bytes[2].into());
            return Record { header: TIMED_BYTES, key, rest, list: NO_LIST, deadline: number(3..8) };
        }
        let (key, rest) = (number(2..4) as u16, number(4..8) as u32);
        let (mut end, mut deadline, mut list) = (8, NEVER, NO_LIST);
        if flags & EXPIRES != 0 {
            deadline = number(8..16);
            end = 16;
        }
        if flags & CHUNKED != 0 {
            list = number(end..end + 4) as u32;
            end += 4;
        }
        Record { header: end as u8, key, rest, list, deadline }
    }

    /// Its size in the log, in bytes; even.
    #[inline]
    pub(super) fn size(&self) -> usize {
        (self.rest().end + 1) & !1
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

    /// Writes it over an `old` one of the same key, which starts `bytes` and is no shorter.
    #[inline]
    pub(super) fn overwrite(&self, bytes: &mut [u8], old: &Record, key: &[u8], rest: &[u8]) {
        if self.header == PLAIN_BYTES && old.header == PLAIN_BYTES {
            bytes[1] = self.rest as u8;
        } else {
            let (header, length) = self.encode();
            bytes[..length].copy_from_slice(&header[..length]);
            bytes[self.key()].copy_from_slice(key);
        }
        bytes[self.rest()].copy_from_slice(rest);
    }

    /// Appends it to `bytes`.
    #[inline]
    pub(super) fn append(&self, bytes: &mut Vec<u8>, key: &[u8], rest: &[u8]) {
        debug_assert!(key.len() == self.key().len() && rest.len() == self.rest().len());
        if self.header == PLAIN_BYTES {
            bytes.extend_from_slice(&[self.key as u8, self.rest as u8]);
        } else {
            let (header, length) = self.encode();
            bytes.extend_from_slice(&header[..length]);
        }
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(rest);
        if bytes.len() % 2 == 1 {
            bytes.push(0);
        }
    }

    #[cold]
    fn encode(&self) -> ([u8; HEADER_BYTES_MAX], usize) {
        let mut header = [0; HEADER_BYTES_MAX];
        if self.header == PLAIN_BYTES {
            header[..2].copy_from_slice(&[self.key as u8, self.rest as u8]);
        } else {
            self.encode_extended(&mut header);
        }
        (header, self.header.into())
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
        header[0] |= LONG | if self.list == NO_LIST { 0 } else { CHUNKED };
        header[2..4].copy_from_slice(&self.key.to_le_bytes());
        header[4..8].copy_from_slice(&self.rest.to_le_bytes());
        let mut end = 8;
        if timed {
            header[8..16].copy_from_slice(&self.deadline.to_le_bytes());
            end = 16;
        }
        if self.list != NO_LIST {
            header[end..end + 4].copy_from_slice(&self.list.to_le_bytes());
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
            ((3, 0, NEVER, Some(u32::MAX - 1)), 12),
        ];
        for ((key, rest, deadline, list), header) in rows {
            let mut record = Record::plan(key, rest, deadline, list.is_some());
            if let Some(list) = list {
                record.set_list(list);
            }
            assert_eq!((record.header, record.list()), (header, list), "{record:?}");
            let (key, rest) = (vec![b'k'; key], vec![b'r'; rest]);
            let mut bytes = Vec::new();
            record.append(&mut bytes, &key, &rest);
            assert_eq!(bytes.len(), record.size());
            assert_eq!(place(&bytes), Place::Item(record));
            assert_eq!((&bytes[record.key()], &bytes[record.rest()]), (&key[..], &rest[..]));
            let plain = (header == PLAIN_BYTES).then_some(&rest[..]);
            assert_eq!(Record::plain_rest(&bytes), plain);
            assert!(Record::is_of(&bytes, &key) && !Record::is_of(&bytes, b"another"));
            let longest = Record::plan(key.len(), 32_000, 0, true);
            let mut again = Vec::new();
            longest.append(&mut again, &key, &[0; 32_000]);
            record.overwrite(&mut again, &longest, &key, &rest);
            assert_eq!(&again[..record.rest().end], &bytes[..record.rest().end]);
            write_gap(&mut bytes, record.size());
            assert_eq!(place(&bytes), Place::Gap(record.size()));
            assert_eq!(&bytes[record.rest()], &rest[..], "a gap leaves the value readable");
        }
    }
}
