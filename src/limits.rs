//! Every bound in one place, each with its unit and its reason, and the relations between them asserted.
//! It knows numbers only.

use std::time::Duration;

/// A large value's chunk, in bytes. So much less than 32 KiB that with the C library's header and the reference count
/// that is allocated beside it, two chunks fit the hole that a segment of the store's log has left.
pub const CHUNK_BYTES: usize = 32 * 1024 - 128;

/// A key's longest length, in bytes: what a RESP proxy, a log line and a person can still handle.
pub const KEY_BYTES_MAX: usize = 65_535;

/// A value up to this length, in bytes, is parsed whole and copied; a longer one streams into chunks.
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES;

/// The longest a length may be written, in digits: what an unsigned 64-bit number takes.
pub const LENGTH_DIGITS_MAX: usize = 20;

// ---- One connection ----

/// Output that waits before a client's input is left alone, in bytes. One reply may go beyond it.
pub const OUTPUT_HIGH_BYTES: usize = 64 * 1024;

/// What one read asks for, in bytes. One client can make the others wait for no more commands than fit into it.
pub const READ_BYTES: usize = 8 * 1024;

/// What one read asks for while a large value comes in, in bytes: such bytes are cheap, and a read is not.
pub const READ_LARGE_BYTES: usize = 64 * 1024;

/// The longest input that is put back in front of the next read, in bytes. A longer unfinished frame is collected
/// apart, since copying it for each read would make the work grow with the square of its length.
pub const CARRY_BYTES_MAX: usize = 16 * 1024;

/// How long a client that was told ERR is still listened to, in milliseconds: closing with its input unread would make
/// the kernel send a reset, which can overtake the ERR.
pub const DRAIN_MILLIS: u64 = 2000;

/// How much a client that was told ERR may still send beyond the value limit, in bytes.
pub const DRAIN_EXTRA_BYTES: usize = 64 * 1024;

/// How many clients may be listened to in this way at once; one more is closed at once, and may see a reset.
pub const DRAINING_MAX: usize = 64;

/// How often the loop wakes to do what only time makes due, in milliseconds: to look at connections for timeouts, and to
/// accept again where there were no descriptors, which other processes may have used up.
pub const TICK_MILLIS: u64 = 100;
/// Parts that one look at all connections is cut into.
pub const SWEEP_PARTS: usize = 10;

/// How long buffers may be over their bound before the largest holder is closed, in milliseconds.
pub const PRESSURE_MILLIS: u64 = 1000;
/// How soon after that the next one is, in milliseconds.
pub const PRESSURE_AGAIN_MILLIS: u64 = 100;

/// Events taken from one poll.
pub const EVENTS_MAX: usize = 1024;

// ---- One turn of the loop: all together take less than 200 us ----

/// Connections served in one turn. At 3 to 4 us of system calls each, these are 100 us.
pub const TURN_CONNECTIONS: usize = 32;

/// Bytes read in one turn: some 1,300 small SETs, or one read of a large value.
pub const TURN_READ_BYTES: usize = READ_LARGE_BYTES + CARRY_BYTES_MAX;

/// Bytes read in one turn after which no further connection is read from: some 300 GETs, or 130 SETs that each
/// evict at about a microsecond. Three times as much gains nothing measurable.
pub const TURN_FRAME_BYTES: usize = 8 * 1024;

/// What one read asks for when memory has run out and the store is still to make room, in bytes.
pub const READ_SCARCE_BYTES: usize = 4 * 1024;

/// Connections served in one turn then: their replies take memory too, and the store must keep up.
pub const TURN_CONNECTIONS_SCARCE: usize = 4;

/// Bytes written in one turn, of which the last connection may take one write more.
pub const TURN_WRITE_BYTES: usize = 256 * 1024;

/// The store's work in one turn beyond plain look-ups, in its units: some 85 SETs that each evict, which takes 100 to
/// 150 us, as a unit takes three times as long where all of it misses the processor's caches.
pub const TURN_WORK_UNITS: u64 = 256;

/// Connections accepted in one turn, at some 15 us each.
pub const TURN_ACCEPTS: usize = 8;

/// Sockets closed in one turn, at up to 60 us each: the kernel may deliver the end to the other side at once.
pub const TURN_CLOSES: usize = 2;

/// How long a stop may take to answer what has arrived, in milliseconds.
pub const STOP_MILLIS: u64 = 5000;

/// How soon after the first a second signal to stop is taken for the same one, in milliseconds.
pub const STOP_TWICE_MILLIS: u64 = 100;

/// Commands looked up together: enough for their cache misses to overlap, few enough for what they touch to stay in
/// the first-level cache.
pub const BATCH_COMMANDS: usize = 64;

const _: () = {
    assert!(SMALL_VALUE_BYTES_MAX <= CHUNK_BYTES, "a small value must fit where a rest does");
    assert!(READ_BYTES <= READ_LARGE_BYTES);
};

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

/// The longest that `spin` may ask for, in microseconds: what time makes due may have to wait for so long.
pub const SPIN_MICROS_MAX: u64 = 1000 * TICK_MILLIS;

/// Descriptors beyond one for each client: standard streams, the poll, signals, listening sockets, and a few more
/// for connections that are being refused.
pub const DESCRIPTORS_RESERVED: usize = 32 + DRAINING_MAX;

/// Connections that the kernel holds ready for us to accept, for each listening socket.
pub const LISTEN_BACKLOG: i32 = 1024;

/// How long a TCP connection is silent before the kernel asks whether the client is still there.
pub const KEEPALIVE: Duration = Duration::from_secs(60);

/// How often to look for a port that is free on all addresses, when the system picks it on the first alone.
pub const FREE_PORT_ATTEMPTS: usize = 32;

/// The longest line of the log, in bytes: a longer one would not surely fit a pipe that has room (`PIPE_BUF` on Linux).
pub const LOG_LINE_BYTES_MAX: usize = 4096;

/// What the buffers of all connections may take together, in bytes, and their share of max-memory: the smaller counts.
pub const BUFFER_BYTES_MAX: usize = 64 << 20;
/// One part in this many of max-memory is for buffers.
pub const BUFFER_SHARE: usize = 8;
/// What they may take beyond that, in bytes: the longest value has the same share, and comes with its key, in a buffer
/// that has doubled, and with a chunk that is not full.
pub const BUFFER_EXTRA_BYTES: usize = 2 * KEY_BYTES_MAX + 4 * CHUNK_BYTES;

/// What the process is still to touch when it has started, in bytes: its code, its stack, the C library's own.
pub const START_BYTES: usize = 256 * 1024;

/// One part in this many of max-memory is the most that one value may take: a value that fills the cache evicts all
/// else, and while it is overwritten there are two of it.
pub const VALUE_SHARE: usize = 8;

/// An output buffer that has grown beyond this many bytes is freed, not kept for the next connection.
pub const SPARE_BYTES_MAX: usize = OUTPUT_HIGH_BYTES / 2;

// ---- The store ----

/// A segment of the store's log, in bytes. Sixteen less than 64 KiB, so that with the C library's header it fills
/// exactly 64 KiB; small enough that a 16 MB cache has two hundred of them.
pub const SEGMENT_BYTES: usize = 64 * 1024 - 16;

/// The least memory a store works with, in bytes: a dozen segments.
pub const STORE_BYTES_MIN: usize = 1024 * 1024;

/// The most memory a store can address, in bytes: its handles have 37 bits and count two bytes each.
pub const STORE_BYTES_MAX: usize = 1 << 38;

/// Memory per shard of the index, in bytes: with the smallest items a shard's table then has some 10,000 entries,
/// and rebuilding it takes well under 100 us.
pub const BYTES_PER_SHARD: usize = 128 * 1024;

/// Fewest shards: even a tiny store must not grow its index in one step.
pub const SHARDS_MIN: usize = 16;

/// Most shards: their array alone is 4 MiB then.
pub const SHARDS_MAX: usize = 65_536;

/// Work units (about 100 ns each) that one command may spend on making room.
pub const RECLAIM_UNITS_PER_COMMAND: u64 = 64;

/// One part in this many of its memory is what a store that evicts may be over its limit, when many tables grow at the
/// same moment.
pub const OVERDRAFT_SHARE: usize = 64;

/// Pause between two sweeps for expired items, in milliseconds. A sweep must end within 60 s of an item's expiry
/// together with the pause before it.
pub const SWEEP_PAUSE_MILLIS: u64 = 10_000;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "a record keeps a key's length in 16 bits");
const _: () =
    assert!(KEY_BYTES_MAX + SMALL_VALUE_BYTES_MAX + 64 <= 2 * SEGMENT_BYTES, "the longest record fits two segments");
const _: () = assert!(SEGMENT_BYTES <= 65_536, "an offset in a segment has 15 bits and counts two bytes");

// ---- The Redis protocol ----

/// The most arguments that one command may have, its name included: what a proxy sends when it splits a large MGET.
pub const RESP_ARGUMENTS_MAX: usize = 65_536;

/// What one command may have beyond the longest value, in bytes: the longest key, and a kilobyte for what is around it.
pub const FRAME_EXTRA_BYTES: usize = 64 * 1024 + 1024;

/// The most arguments of a command before the client has said the password: HELLO with everything it takes.
pub const STRANGER_ARGUMENTS_MAX: usize = 10;

/// The longest argument before the client has said the password, in bytes.
pub const STRANGER_BYTES_MAX: usize = 16 * 1024;

/// The most that APPEND may add to a value that is there, in bytes: these are moved in one step.
pub const APPEND_BYTES_MAX: usize = 512 * 1024;

/// What MULTI may queue, in bytes, large values apart.
pub const QUEUE_BYTES_MAX: usize = 4 << 20;

/// How many commands of a queue EXEC runs before others have their turn. A transaction up to this long is run in
/// one go; a longer one is a pipeline that its client's library wrapped into MULTI, and nobody may wait for all of it.
pub const EXEC_COMMANDS: usize = 1024;

/// The output at which EXEC lets others have their turn, in bytes.
pub const EXEC_OUTPUT_BYTES: usize = 256 * 1024;

/// The longest name that a client may give itself or its library, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The longest pattern for SCAN, in bytes: matching takes as long as pattern and key multiplied.
pub const SCAN_PATTERN_BYTES_MAX: usize = 256;

/// The work after which one SCAN ends early, in the store's units.
pub const SCAN_WORK_UNITS: u64 = 256;

/// The longest password, in bytes: an argument that a client may send before it is known must hold it.
pub const PASSWORD_BYTES_MAX: usize = 512;
