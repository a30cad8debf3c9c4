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
    /// Store `value` under `key` if the condition holds.
    Write {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: Value<'a>,
        /// When it is stored.
        condition: Condition,
        /// When it expires.
        expiry: Expiry,
        /// Answer with the value that was there before, stored or not.
        returns_old: bool,
    },
    /// The value of `key`, which is removed.
    Take {
        /// The key.
        key: &'a [u8],
    },
    /// Put `value` behind what `key` has.
    Append {
        /// The key.
        key: &'a [u8],
        /// What to append.
        value: Value<'a>,
    },
    /// A measure of `key`, without using it.
    Measure {
        /// The key.
        key: &'a [u8],
        /// What to measure.
        measure: Measure,
    },
    /// Change when `key` expires, if the condition holds.
    Expire {
        /// The key.
        key: &'a [u8],
        /// The new time; `None` is never.
        deadline: Option<u64>,
        /// When it is changed.
        condition: ExpireCondition,
        /// Answer with the value.
        returns_value: bool,
    },
}

/// When a write happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the key is missing.
    Missing,
    /// If the key is present.
    Present,
}

impl Condition {
    /// Whether a write to a key that is present or not may happen.
    pub fn allows(self, is_present: bool) -> bool {
        match self {
            Condition::Always => true,
            Condition::Missing => !is_present,
            Condition::Present => is_present,
        }
    }
}

/// When a written item expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// As the default time to live says.
    Default,
    /// When the item that it replaces would have; as the default says if there is none.
    Keep,
    /// At this time of the clock that the turn started by, in milliseconds.
    At(u64),
}

/// When an expiry is changed. An item that never expires counts as expiring later than any other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireCondition {
    /// Whether it must, or must not, have an expiry.
    pub has_expiry: Option<bool>,
    /// Only if the new time is on that side of the old one.
    pub moves: Option<std::cmp::Ordering>,
}

impl ExpireCondition {
    /// Whether a change from one time to another, `None` being never, may happen.
    pub fn allows(self, old: Option<u64>, new: Option<u64>) -> bool {
        let end = |time: Option<u64>| time.map_or((1, 0), |time| (0, time));
        self.has_expiry.is_none_or(|has| has == old.is_some())
            && self.moves.is_none_or(|side| end(new).cmp(&end(old)) == side)
    }
}

/// The time that a turn goes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds on a clock that never goes back: what expires goes by this one.
    pub now_millis: u64,
    /// What the Unix time has beyond it, in milliseconds. It changes when the system's clock is set, so that a
    /// time given or told as Unix time means what the system's clock said at that moment.
    pub unix_offset_millis: i64,
}

impl Clock {
    /// The Unix time in milliseconds.
    pub fn unix_millis(&self) -> i64 {
        self.now_millis as i64 + self.unix_offset_millis
    }
}

/// What can be told about an item without reading its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// The value's length, in bytes.
    Length,
    /// The memory that the item takes, in bytes.
    Memory,
    /// The time until it expires, in milliseconds; -1 if it never does.
    TimeLeft,
    /// The Unix time at which it expires, in milliseconds; -1 if it never does.
    ExpiryTime,
}

impl<'a> Command<'a> {
    /// The key that it is about.
    #[inline]
    pub fn key(&self) -> &'a [u8] {
        match *self {
            Command::Get { key }
            | Command::Set { key, .. }
            | Command::Add { key, .. }
            | Command::Delete { key }
            | Command::Write { key, .. }
            | Command::Take { key }
            | Command::Append { key, .. }
            | Command::Measure { key, .. }
            | Command::Expire { key, .. } => key,
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
            Command::Write { .. } => "write",
            Command::Take { .. } => "take",
            Command::Append { .. } => "append",
            Command::Measure { .. } => "measure",
            Command::Expire { .. } => "expire",
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
    /// The value would be longer than a value may be, or more than one command may move.
    TooLong,
}
