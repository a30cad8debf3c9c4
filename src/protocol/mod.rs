//! Wire formats: pure functions from bytes to commands and from replies to bytes. Nothing here knows a socket, a
//! session or the store.

pub mod glob;
#[doc(hidden)]
pub mod request;
#[doc(hidden)]
pub mod resp;
pub mod stash;
#[doc(hidden)]
pub mod verbs;
