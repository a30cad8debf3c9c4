//! GoStash: a small in-memory cache server on one thread.
//!
//! Protocols and store have never heard of each other. A session has never heard of a socket. The store has never heard
//! of a client.
//!
//! ```text
//!   main                  reads options, binds sockets, starts the loop
//!   event_loop            owns every socket: accepts, reads, writes, closes
//!   batch                 makes a turn's input into commands, and executes them together
//!   session               one client, without its socket
//!   protocol | execute    bytes to commands, replies to bytes | what each command does
//!   command  | store      commands and replies, as data       | keys and values
//! ```
//!
//! # Layers
//! Imports point downward only; a test sees to it.
//! - [`event_loop`]: the turns of the loop, why nobody starves, how buffers stay within their bound, and the answers to
//!   INFO, CONFIG and CLIENT.
//! - [`batch`]: the execution phase of a turn, over many sessions at once.
//! - [`session`]: one client's unanswered input, and the phase that it is in; [`output`]: its unsent replies.
//! - [`protocol`]: pure functions between bytes and commands, for GoStash frames and for RESP.
//! - [`execute`]: what every command on keys means, once for both protocols.
//! - [`store`]: keys and values within a bound on memory: index, log, eviction, expiry.
//! - [`command`]: commands and replies; [`chunk`]: pieces of large values; [`number`]: decimal text.
//! - [`limits`]: every bound, with its reason; [`stats`]: the counters.
//! - [`config`]: options; [`password`]; [`memory`]: how much there is; [`logger`]: lines on standard error.
//!
//! # The life of a GET
//! 1. The poll reports the client's socket as readable. `EventLoop::dispatch` puts the connection on the ready queue.
//! 2. `EventLoop::read_ready` reads from it, and from up to 31 others that are ready, into one input buffer.
//! 3. [`batch::process`] has [`protocol::stash::parse`] find the frame where it was read, hashes the key, prefetches
//!    the line of the index that tells of it, and adds the command to the batch. When the batch is full or the input
//!    has run out, the items of all its commands are prefetched, too.
//! 4. [`execute::Executor::execute`] looks the key up in the [`store`], counts a hit, and returns a reply that borrows
//!    the value.
//! 5. [`protocol::stash::encode`] appends it to the session's [`output`]: a small value by copy, a large by reference.
//! 6. `EventLoop::finish_visit` writes the output to the socket, takes the empty buffer back for the next client, and
//!    puts the connection back on the ready queue if it can do more without an event.
//!
//! # Where other requests leave this path
//! - A write that needs memory: `Store::put` makes room by eviction. Housekeeping makes more at the end of each turn,
//!   and sweeps out items that have expired. One that a command comes to before that is removed by `Store::find`.
//! - MGET and its like are one command for each key. A turn that ends within them rewinds the parser (`Resp::rewind`).
//! - A value over 32 KB is read from the socket straight to where it will stay (`Incoming::read`), the bytes that came
//!   with its header aside. Its command is executed by the session, outside of the batch.
//! - What is not about one key, such as SCAN or MULTI, is executed by the session, in `session::unkeyed`. If it is
//!   about the server or other clients, such as CLIENT LIST, it becomes a question: `EventLoop::answer_questions`.
//!
//! # Where a new command goes
//! Into the table in [`protocol::verbs`]. A row is enough if there is an [`Action`](command::Action) for it and a
//! `Form` for its reply. A new action is executed in [`execute`]; what is not about one key, in `session::unkeyed`.
//! Its tests go into `tests/integration/resp_rows.rs`, its name into the README's table.
//!
//! # Deliberately absent
//! Threads, locks, TLS, persistence, replication, a cluster, and data types beyond bytes and numbers: see the README.

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
