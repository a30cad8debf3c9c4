//! The integration tests, as one binary so that they link once.
//!
//! What the tests are built on:
//! - `server`: a real server, from the built binary.
//! - `client`: one connection, exact bytes out and in, and how commands are written.
//! - `random`: seeded random numbers.
//! - `process`: what the kernel says about the server's process.
//! - `session`: a session without a socket.
//! - `rows`: the wire as data, for every driver.
//! - `resp_rows`: the same for the Redis protocol.
//!
//! What is tested:
//! - `options`: what the command line, the file and the environment may say.
//! - `memory`: which limit the system's files amount to, and how long a chunk is counted.
//! - `logger`: what is logged, and that logging does not wait.
//! - `listener`: which addresses are listened on, and how.
//! - `history`: what the loop remembers of its turns.
//! - `frames`: what broken and unfinished GoStash frames say.
//! - `parsers`: both parsers on all short strings of some bytes.
//! - `output`: replies that are not sent yet.
//! - `cli`: start-up errors, listening sockets and limits of the built binary.
//! - `wire`: every line of the wire's tables, cut in every way.
//! - `model`: random commands in random pieces, against a `HashMap`.
//! - `store`: the store without a wire: a model, and every bound, counted.
//! - `bad_input`: bytes that are no frames, and what happens around them.
//! - `bad_clients`: correct frames from clients that are slow, greedy or gone.
//! - `full_machine`: descriptors, places for clients or memory run out.
//! - `signals`: what ends the server, and that an end loses no reply.
//! - `resp_session`: the Redis protocol through a session without a socket.
//! - `resp`: the Redis protocol over a socket.
//! - `glob`: the patterns that SCAN and CONFIG GET take.
//! - `variants`: the multithreaded variants, with the rows of the wire (needs the feature `variants`).
//! - `house`: the rules that the code itself must keep.

// A test may panic.
#![allow(clippy::unwrap_used)]

mod bad_clients;
mod bad_input;
mod cli;
mod client;
mod frames;
mod full_machine;
mod glob;
mod history;
mod house;
mod listener;
mod logger;
mod memory;
mod model;
mod options;
mod output;
mod parsers;
mod process;
mod random;
mod resp;
mod resp_rows;
mod resp_session;
mod rows;
mod server;
mod session;
mod signals;
mod store;
#[cfg(feature = "variants")]
mod variants;
mod wire;
