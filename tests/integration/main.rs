//! The integration tests, as one binary so that they link once.
//!
//! - `server`: a real server for the others, from the built binary.
//! - `cli`: options, start-up errors, listening sockets, limits and signals of the built binary.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod cli;
mod server;
