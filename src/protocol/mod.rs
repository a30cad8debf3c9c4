//! Wire formats: pure functions from bytes to commands and from replies to bytes, without socket, session or store.

use std::borrow::Cow;

pub mod glob;
#[doc(hidden)]
pub mod resp;
pub mod stash;
#[doc(hidden)]
pub mod verbs;

/// Why no frame could be parsed from the start of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The frame is incomplete. Parsing again is of no use before the input is so many bytes long.
    Incomplete(usize),
    /// The frame has a long value: its length in bytes, and where it begins. It is better received in chunks.
    Long(usize, usize),
    /// The frame is broken, for this reason: no further input can make it a valid one.
    Broken(Cow<'static, str>),
}

/// What was parsed, and the index of what follows it.
pub type Parsed<T> = Result<(T, usize), Stop>;

impl Stop {
    /// How long the input must be, if the frame is incomplete.
    pub fn needed(self) -> Option<usize> {
        if let Stop::Incomplete(needed) = self { Some(needed) } else { None }
    }
}

#[cold]
fn broken<T>(reason: &'static str) -> Result<T, Stop> {
    Err(Stop::Broken(Cow::Borrowed(reason)))
}
