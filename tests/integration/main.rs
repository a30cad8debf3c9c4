//! The integration tests, as one binary so that they link once.
//!
//! What the others stand on:
//! - `server`: a real server for the others, from the built binary.
//! - `client`: one connection, exact bytes out and in.
//! - `random`: seeded random numbers.
//! - `rows`: the wire as data, for every driver.
//!
//! What is tested:
//! - `cli`: options, start-up errors, listening sockets, limits and signals of the built binary.
//! - `wire`: every line of the wire's tables, cut in every way.
//! - `model`: random commands in random pieces, against a `HashMap`.
//! - `adversity`: bad input, bad clients and a full machine; what everyone else feels of it.
//! - `house`: the rules that the code itself must keep.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod adversity;
mod cli;
mod client;
mod house;
mod model;
mod random;
mod rows;
mod server;
mod wire;
