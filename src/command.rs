//! The vocabulary that protocols, executor and store share: what can be asked about a key, and what can be
//! answered. Data only; it knows no wire format, no store and no client.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

/// A value's bytes, on their way in or out: whole chunks first, then a rest.
///
/// A small value is a rest alone. A large one is any number of chunks of [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES)
/// each, shared by reference and never copied, and a rest that is shorter.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Whole chunks, shared by reference.
    pub chunks: &'a [Bytes],
    /// What follows the chunks, copied when it is stored and when it is sent.
    pub rest: &'a [u8],
}

#[allow(clippy::len_without_is_empty)] // nobody asks
impl<'a> Value<'a> {
    /// A value that is one contiguous run of bytes.
    pub fn small(bytes: &'a [u8]) -> Self {
        Value { chunks: &[], rest: bytes }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.chunks.len() * crate::limits::CHUNK_BYTES + self.rest.len()
    }
}

/// For the log, which is not to be filled with values.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.len())
    }
}

/// The deadline of what does not expire: later than any other.
pub const NEVER: u64 = u64::MAX;

/// One request, borrowed from the input that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The key that it is about.
    pub key: &'a [u8],
    /// What to do with it.
    pub action: Action<'a>,
}

/// What can be done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Tell its value.
    Get,
    /// Store this, whatever was there.
    Set(Value<'a>),
    /// Add this to the number that is there; a missing key counts as 0.
    Add(i64),
    /// Remove it.
    Delete,
    /// Store a value, or without one that which is there, if the condition holds; answer with what was there before if that
    /// is asked for. What would have expired by now is removed instead.
    #[allow(missing_docs)]
    Write { value: Option<Value<'a>>, condition: Condition, expiry: Expiry, returns_old: bool },
    /// Put this behind what is there.
    Append(Value<'a>),
    /// Measure it, which is no use of it.
    Measure(Measure),
}

/// When a write happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// In any case.
    Always,
    /// If the key is missing.
    Missing,
    /// If the key is present, and, each unless it is `None`: it has an expiry, or it has not; the new expiry is on that side
    /// of the old one.
    #[allow(missing_docs)]
    Present { has_expiry: Option<bool>, moves: Option<Ordering> },
}

impl Condition {
    /// If the key is present.
    pub const PRESENT: Condition = Condition::Present { has_expiry: None, moves: None };

    /// Whether what expires at `old`, or a missing key, may be written over with this expiry.
    pub fn allows(self, old: Option<u64>, expiry: Expiry) -> bool {
        match (self, old) {
            (Condition::Always, _) | (Condition::Missing, None) => true,
            (Condition::Present { has_expiry, moves }, Some(old)) => {
                let moves_so = |side| matches!(expiry, Expiry::At(new) if new.cmp(&old) == side);
                has_expiry.is_none_or(|has| has == (old != NEVER)) && moves.is_none_or(moves_so)
            }
            _ => false,
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
    /// At this time of the clock that the turn started by, in milliseconds, or [`NEVER`].
    At(u64),
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
