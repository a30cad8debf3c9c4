//! What protocols, executor and store share: commands on keys, and replies. Data only: it knows no wire and no client.

use std::cmp::Ordering;
use std::fmt;

use bytes::Bytes;

/// A value's bytes, on their way into the store or out of it: whole chunks first, then a rest.
///
/// A small value is a rest alone. A large one is any number of chunks of [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES)
/// each, which are shared by reference and never copied, and a rest that is no longer than one.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Value<'a> {
    /// Whole chunks, shared by reference.
    pub chunks: &'a [Bytes],
    /// What follows the chunks, copied when it is stored and when it is sent. The store panics if it is much too long.
    pub rest: &'a [u8],
}

#[allow(clippy::len_without_is_empty)] // nobody asks
impl<'a> Value<'a> {
    /// A value that is one contiguous run of at most [`CHUNK_BYTES`](crate::limits::CHUNK_BYTES) bytes.
    pub fn small(bytes: &'a [u8]) -> Self {
        Value { chunks: &[], rest: bytes }
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.chunks.len() * crate::limits::CHUNK_BYTES + self.rest.len()
    }
}

/// Shows the length alone, since the log must not be filled with values.
impl fmt::Debug for Value<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.len())
    }
}

/// The deadline of an item that does not expire: later than any other.
pub const NEVER: u64 = u64::MAX;

/// A command on one key, borrowed from the input that it was parsed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Command<'a> {
    /// The key, of at most [`KEY_BYTES_MAX`](crate::limits::KEY_BYTES_MAX) bytes, or the store panics.
    pub key: &'a [u8],
    /// What to do with it.
    pub action: Action<'a>,
}

/// What can be done with a key. The fields are in the sentences above them.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Return its value.
    Get,
    /// Store this value, whether the key is present or not.
    Set(Value<'a>),
    /// Add this to the number that is its value. A missing key counts as 0.
    Add(i64),
    /// Remove it.
    Delete,
    /// Store `value`, if the key is present or missing as `if_present` asks, unless that is `None`. An item that would
    /// have expired by now is removed instead. The reply is the old value if `returns_old` is set.
    Write { value: Value<'a>, if_present: Option<bool>, expiry: Expiry, returns_old: bool },
    /// Have it expire at `deadline`, as [`Expiry::At`] does, if it is present and, for each of these that is not `None`:
    /// it expires or does not, as `if_expiring` says; `deadline` compares with its old one as `moves` says. The reply is
    /// its value if `returns_value` is set.
    Expire { deadline: u64, if_expiring: Option<bool>, moves: Option<Ordering>, returns_value: bool },
    /// Append this to its value. A missing key counts as empty.
    Append(Value<'a>),
    /// Measure it, which does not count as an access to it.
    Measure(Measure),
}

/// When a written item expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// After the default time to live.
    Default,
    /// When the item that it replaces would have expired; after the default time to live if there is none.
    Keep,
    /// At the end of this millisecond of the monotonic clock, or [`NEVER`]; at once if that has begun already.
    At(u64),
}

/// The time of a turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The time of a monotonic clock, in milliseconds. Items expire by this clock.
    pub now_millis: u64,
    /// The Unix time minus `now_millis`, in milliseconds. It changes when the system's clock is set, so a Unix time in
    /// a command or a reply means what the system's clock says at that moment.
    pub unix_offset_millis: i64,
}

impl Clock {
    /// The Unix time in milliseconds.
    pub fn unix_millis(&self) -> i64 {
        self.now_millis as i64 + self.unix_offset_millis
    }
}

/// What can be said about an item without reading its value.
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
    /// The new number, or what was measured.
    Number(i64),
    /// The command was executed, and there is nothing to return.
    Done,
    /// The key is missing, or a condition does not hold.
    Missing,
    /// The command was not executed, for this reason.
    Refused(Refusal),
}

/// Why a well-formed command was not executed. The connection stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The value is not an optional `-` and digits that fit a signed 64-bit integer.
    NotANumber,
    /// The sum does not fit a signed 64-bit integer; the old value is kept.
    Overflow,
    /// The store is full and may not evict, or could not make room within the bound of one command.
    OutOfMemory,
    /// The new value would be longer than a value may be, or what is appended is longer than one command may copy.
    TooLong,
}
