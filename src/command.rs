//! The vocabulary that protocols, executor and store share: what can be asked about a key, and what can be
//! answered. Data only; it knows no wire format, no store and no client.

use std::fmt;

use bytes::Bytes;

/// A value's bytes, on their way in or out: whole chunks first, then a rest.
///
/// A small value is a rest alone. A large one is any number of chunks of exactly
/// [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES), which are shared by reference and never copied, and a rest that is
/// shorter than a chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Whole chunks, shared by reference.
    pub chunks: &'a [Bytes],
    /// What follows the chunks, copied when it is stored and when it is sent.
    pub rest: &'a [u8],
}

impl<'a> Value<'a> {
    /// A value that is one contiguous run of bytes.
    pub fn small(bytes: &'a [u8]) -> Self {
        Value { chunks: &[], rest: bytes }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.chunks.len() * crate::limits::CHUNK_BYTES + self.rest.len()
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.rest.is_empty()
    }
}

/// One request about a key, borrowed from the input that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// The value of `key`.
    Get {
        /// The key.
        key: &'a [u8],
    },
    /// Store `value` under `key`, whatever was there.
    Set {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Value<'a>,
    },
    /// Add `delta` to the number stored under `key`; a missing key counts as 0.
    Add {
        /// The key.
        key: &'a [u8],
        /// What to add; negative to subtract.
        delta: i64,
    },
    /// Remove `key`.
    Delete {
        /// The key.
        key: &'a [u8],
    },
}

impl<'a> Command<'a> {
    /// The key that it is about.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Command::Get { key } | Command::Set { key, .. } | Command::Add { key, .. } | Command::Delete { key } => key,
        }
    }
}

/// For the log: the verb and the key, without the value.
impl fmt::Display for Command<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self {
            Command::Get { .. } => "get",
            Command::Set { .. } => "set",
            Command::Add { .. } => "add",
            Command::Delete { .. } => "delete",
        };
        write!(formatter, "{verb} {}", self.key().escape_ascii())
    }
}

/// The answer to one [`Command`]; it borrows the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// A hit.
    Value(Value<'a>),
    /// What the number is now.
    Number(i64),
    /// Done, nothing to tell.
    Done,
    /// There is no such key.
    Missing,
    /// Not done, and why.
    Refused(Refusal),
}

/// Why a well-formed command was not carried out. The connection is none the worse for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The value is not an optional `-` and digits that fit a signed 64-bit integer.
    NotANumber,
    /// The sum does not fit a signed 64-bit integer; the old value is kept.
    Overflow,
    /// The store is full and may not evict, or could not make room within the bound of one command.
    OutOfMemory,
}
