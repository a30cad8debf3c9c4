//! Every bound in one place, each with its unit and its reason, and the relations between them asserted.
//! It knows numbers only.

/// A large value's chunk, in bytes. Sixteen less than 32 KiB, so that with the C library's header it fills
/// exactly 32 KiB: every chunk then fits the hole that any other chunk left.
pub const CHUNK_BYTES: usize = 32 * 1024 - 16;

/// A key's longest length, in bytes: what a RESP proxy, a log line and a person can still handle.
pub const KEY_BYTES_MAX: usize = 65_535;

/// A value up to this length, in bytes, is parsed whole and copied; a longer one streams into chunks.
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES;

/// The most that `max-clients` may ask for: descriptors, and the event loop's tokens, stay in 32 bits with much to spare.
pub const CLIENTS_MAX: usize = 1_000_000;

/// The most that `max-value-size` may ask for, in bytes: the Redis protocol's own limit on a string.
pub const VALUE_BYTES_MAX_MAX: usize = 512 << 20;

/// The least that `max-memory` may ask for, in bytes: room for an empty process and as much again for its items.
pub const MEMORY_BYTES_MIN: usize = 8 << 20;

/// The longest time that an option may ask for, in seconds: ten years. No sum with a time then overflows.
pub const SECONDS_MAX: u64 = 315_360_000;

/// The highest core that can be pinned to: what the kernel's fixed-size set of cores holds.
pub const CPU_MAX: usize = 1023;

/// Descriptors beyond one for each client: standard streams, the poll, signals, listening sockets, and a few more
/// for connections that are being refused.
pub const DESCRIPTORS_RESERVED: usize = 32;

/// Connections that the kernel holds ready for us to accept, for each listening socket.
pub const LISTEN_BACKLOG: i32 = 1024;

/// How often to look for a port that is free on all addresses, when the system picks it on the first alone.
pub const FREE_PORT_ATTEMPTS: usize = 32;

/// The longest line of the log, in bytes: a longer one would not surely fit a pipe that has room (`PIPE_BUF` on Linux).
pub const LOG_LINE_BYTES_MAX: usize = 4096;
