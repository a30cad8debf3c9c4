//! A small in-memory cache server on one thread.

pub mod batch;
pub mod chunk;
pub mod command;
pub mod config;
pub mod event_loop;
pub mod execute;
pub mod limits;
pub mod logger;
pub mod memory;
pub mod output;
pub mod protocol;
pub mod session;
pub mod stats;
pub mod store;
