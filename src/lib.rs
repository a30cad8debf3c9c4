//! GoStash: a small in-memory cache server on one thread.

pub mod chunk;
pub mod command;
pub mod limits;
pub mod store;
