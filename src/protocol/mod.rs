//! Wire formats: pure functions from bytes to commands and from replies to bytes. Nothing here knows a socket, a
//! session or the store.

pub mod glob;
pub mod request;
pub mod resp;
pub mod stash;
pub mod verbs;
