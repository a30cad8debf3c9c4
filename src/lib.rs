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
//! 1. The poll reports the client's socket as readable. `EventLoop::dispatch` puts the connection on a ready queue.
//! 2. `EventLoop::read_ready` reads from it, and from up to 31 others that are ready, into one input buffer.
//! 3. `EventLoop::serve_visits` calls [`batch::process`]. `Batch::parse` finds the frame where it was read, by
//!    [`protocol::stash::parse`] (in RESP: `Resp::next`), hashes the key, prefetches the line of the index that tells
//!    of it, and adds the command to the batch. When that is full or the input has run out, `Batch::run` prefetches the
//!    items of all its commands, and then executes one after the other:
//! 4. [`execute::Executor::execute`] looks the key up in the [`store`], counts a hit, and returns the value, borrowed.
//! 5. [`protocol::stash::encode`] (in RESP: `Resp::answer`) appends it to the session's [`output`]: a small value by
//!    copy, a large by reference.
//! 6. `EventLoop::finish_visit` writes the output to the socket, takes the empty buffer back for the next client, and
//!    puts the connection back on a ready queue if it can do more without an event.
//!
//! # Where other requests leave this path
//! - A write that needs memory: `Store::put` makes room by eviction. Housekeeping makes more at the end of each turn,
//!   and sweeps out items that have expired. One that a command comes to before that is removed by `Store::find`.
//! - MGET and its like are one command for each key. A turn that ends within them rewinds the parser (`Resp::rewind`).
//! - A value over 32 KB is read from the socket straight into chunks that will stay (`Incoming::read`), the bytes that
//!   came with its header aside. Its command is executed by the session, outside of the batch.
//! - What is not about one key, such as SCAN or MULTI, is executed by the session, in `session::unkeyed`. If it is
//!   about the server or other clients, such as CLIENT LIST, it becomes a question: `EventLoop::answer_questions`.
//!
//! # Where a change goes
//! - A command on keys is a row in [`protocol::verbs`], if there are an [`Action`](command::Action) for it and a `Form`
//!   for its reply. A new action is an arm in [`execute`]; if it needs no memory, `Batch::run` has to know. One on many
//!   keys is executed for one after the other: it cannot look at all of them first, as MSETNX would have to.
//! - Any other command is a row without those, and an arm in `session::unkeyed` or, if it is a question, in
//!   `EventLoop::answer_questions`. Subcommands are the last rows, and `verbs::resolve` lists what has some.
//! - A GoStash frame is one of the `WORDS` in [`protocol::stash`], for an action that there is.
//! - An option is a line in [`config`], and one in `.config.stash.example` with its default; `main` hands it on. CONFIG
//!   is in `event_loop::questions`, INFO in `event_loop::info`, what it counts in [`stats`].
//! - Which items leave is decided in `store::eviction`, and in which queue a new one begins, in `Store::put`.
//!
//! Tests of commands are rows, in `tests/integration/resp_rows.rs` and, for frames, in `rows.rs`. Other tests see to it
//! that the README's tables have every command, frame and option.
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
