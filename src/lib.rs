//! A small in-memory cache server on one thread.

pub mod chunk;
pub mod command;
pub mod config;
pub mod event_loop;
pub mod limits;
pub mod logger;
pub mod memory;
