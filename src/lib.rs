//! GoStash: a small in-memory cache server on one thread.

pub mod batch;
pub mod chunk;
pub mod command;
pub mod execute;
pub mod limits;
pub mod output;
pub mod protocol;
pub mod session;
pub mod stats;
pub mod store;
