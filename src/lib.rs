//! GoStash: a small in-memory cache server on one thread.
//!
//! Protocols and store have never heard of each other. A session has never heard of a socket. The store has never heard
//! of a client.
//!
//! ```text
//!   main                 options, logger, limits, sockets, run
//!   event_loop           every socket: accept, read, write, close
//!   batch                the turn's input becomes commands, looked up together
//!   session              one client without its socket
//!   protocol | execute   bytes to commands and back | what a command means
//!   command  | store     the vocabulary             | the items
//! ```
//!
//! # Layers
//!
//! Imports point downward only, and a test holds them to it.
//!
//! - [`event_loop`]: the poll and the sockets, an account of its own turns, and what INFO, CONFIG and CLIENT tell of it all.
//! - [`batch`]: the execution phase of a turn, over many sessions at once.
//! - [`session`]: what one client sent and was not answered yet, and the phase it is in.
//! - [`output`]: what one client is still to be sent.
//! - [`protocol`]: pure functions between bytes and the vocabulary.
//! - [`execute`]: what every command means, once for all protocols.
//! - [`store`]: keys and values within a bound on memory.
//! - [`command`], [`chunk`], [`number`], [`stats`], [`limits`]: the vocabulary, large values' pieces, decimal text, counters,
//!   and every bound.
//! - [`config`], [`password`], [`memory`], [`logger`]: options, what clients must say, the memory there is, standard error.
//!
//! # The life of a GET
//!
//! 1. The poll reports the client's socket as readable: `EventLoop::note` puts the connection on the ready queue.
//! 2. `EventLoop::read_ready` reads it, and up to 31 others that are ready, into one input buffer.
//! 3. [`batch::process`] parses the frame with [`protocol::stash::parse`], where it was read, hashes the key, asks the
//!    processor for the line of the index that tells of it, and adds the command to the batch. When the batch is full or
//!    the input has run out, the items of all its commands are asked for, too.
//! 4. [`execute::Executor::execute`] looks the key up in the [`store`], counts a hit, and returns a reply that borrows
//!    the value.
//! 5. [`session::Session`] encodes the reply into its [`output`]: a small value is copied, a large one referred to.
//! 6. `EventLoop::finish_visit` writes the output to the socket, takes the empty buffer back for the next client, and puts
//!    the connection back on the ready queue if it can do more without an event.
//!
//! # Deliberately absent
//!
//! Threads, locks, TLS, persistence, replication, a cluster of our own, and data types beyond bytes and numbers: the
//! README says what to use for them.

pub mod batch;
pub mod chunk;
pub mod command;
pub mod config;
pub mod event_loop;
pub mod execute;
pub mod limits;
pub mod logger;
pub mod memory;
pub mod number;
pub mod output;
pub mod password;
pub mod protocol;
pub mod session;
pub mod stats;
pub mod store;
