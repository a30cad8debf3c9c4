//! Wire formats: pure functions from bytes to commands and from replies to bytes. Nothing here knows a socket, a
//! session or the store.

use std::borrow::Cow;

pub mod glob;
#[doc(hidden)]
pub mod resp;
pub mod stash;
#[doc(hidden)]
pub mod verbs;

/// Why there is no frame to be had at the start of the input, or none yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is not whole. Parsing again is pointless before the input is so many bytes long.
    Incomplete(usize),
    /// The value of so many bytes that begins there is better taken as it comes.
    Long(usize, usize),
    /// No later byte can make a frame of it, for this reason.
    Broken(Cow<'static, str>),
}

impl Stop {
    /// How long the input must be, if it is not whole.
    pub fn needed(self) -> Option<usize> {
        if let Stop::Incomplete(needed) = self { Some(needed) } else { None }
    }
}

#[cold]
fn broken<T>(reason: &'static str) -> Result<T, Stop> {
    Err(Stop::Broken(Cow::Borrowed(reason)))
}
