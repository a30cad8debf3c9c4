//! Every bound in one place, its unit last in its name and its reason beside it, and the relations between bounds
//! asserted. It knows numbers only.

// A table with a line for each, so the reasons are no doc comments.
#![allow(missing_docs)]

use std::time::Duration;

// ---- Keys and values ----

pub const KEY_BYTES_MAX: usize = 65_535; // what a RESP proxy, a log line and a person can still handle
pub const LENGTH_DIGITS_MAX: usize = 20; // what an unsigned 64-bit number takes
pub const VALUE_BYTES_MAX_MAX: usize = 512 << 20; // for max-value-size: the Redis protocol's own limit on a string
// Of max-memory: a value that fills the cache evicts all else, and while it is overwritten there are two of it.
pub const VALUE_SHARE: usize = 8;
pub const CHUNK_BYTES: usize = 32 * 1024; // a piece of a large value
pub const SPARE_BYTES_MAX: usize = 32 << 20; // of chunks that are gone, kept where there is room: anew each takes 12 us
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES; // parsed whole and copied; a longer one streams into chunks
pub const APPEND_BYTES_MAX: usize = 512 * 1024; // behind a value that is there: moved in one step

// ---- What options may ask for ----

pub const CLIENTS_MAX: usize = 1_000_000; // descriptors, and the loop's tokens, stay in 32 bits with much to spare
pub const MEMORY_BYTES_MIN: usize = 8 << 20; // room for an empty process and as much again for its items
pub const MACHINE_SHARE_BYTES_MAX: usize = 1 << 30; // what a machine without a container's limit gives by default
pub const UNKNOWN_MACHINE_BYTES: usize = 256 << 20; // the default where no limit can be learnt
pub const SPIN_MICROS_MAX: u64 = TICK_MILLIS * 1000; // the loop looks around that often anyway
pub const SECONDS_MAX: u64 = 315_360_000; // ten years: no sum with a time overflows
pub const PASSWORD_BYTES_MAX: usize = 512; // a client must be able to say it
pub const CPU_MAX: usize = 1023; // what the kernel's fixed-size set of cores holds
pub const LOG_LINE_BYTES_MAX: usize = 4096; // what surely fits a pipe that has room: `PIPE_BUF` on Linux

// ---- Connections ----

pub const LISTEN_BACKLOG: i32 = 1024; // connections that the kernel holds ready, for each listening socket
pub const FREE_PORT_ATTEMPTS: usize = 32; // for one free on all addresses, when the system picks it on the first
pub const KEEPALIVE: Duration = Duration::from_secs(60); // of silence until the kernel asks whether the client is there
// The standard streams, the poll, signals, listening sockets, and those that are being refused.
pub const DESCRIPTORS_RESERVED: usize = 32 + DRAINING_MAX;

pub const READ_BYTES: usize = 8 * 1024; // asked for by one read: others wait for no more commands than fit into it
// Of large values in one turn: some 35 us into new memory. With twice as much, turns took over 200 us, and no less in all.
pub const READ_LARGE_BYTES: usize = 64 * 1024;
// Unfinished input up to this length is put back in front of the next read. A longer frame is collected apart, since
// copying it for each read would make the work grow with the square of its length.
pub const CARRY_BYTES_MAX: usize = 16 * 1024;
pub const OUTPUT_HIGH_BYTES: usize = 64 * 1024; // waiting output at which input is left alone; one reply may go beyond
pub const OUTPUT_KEPT_BYTES_MAX: usize = OUTPUT_HIGH_BYTES / 2; // a larger empty output buffer is freed, not kept for others

// A client that was told ERR is still listened to: closed with input unread, it would get a reset, perhaps before the ERR.
pub const DRAIN_MILLIS: u64 = 2000;
pub const DRAIN_EXTRA_BYTES: usize = 64 * 1024; // beyond the value limit
pub const DRAINING_MAX: usize = 64; // clients at once; one more is closed at once, and may see a reset

// What buffers take together: their share of max-memory, but no more than the maximum. The longest value has the same
// share, and beyond that comes with its key, in a buffer that has doubled, and with a chunk that is not full.
pub const BUFFER_SHARE: usize = 8;
pub const BUFFER_BYTES_MAX: usize = 64 << 20;
pub const BUFFER_EXTRA_BYTES: usize = 2 * KEY_BYTES_MAX + 4 * CHUNK_BYTES;
pub const UNCOUNTED_SHARE: usize = 4; // of max-memory, at most, is left to what the C library may keep for itself
pub const PRESSURE_MILLIS: u64 = 1000; // over that bound until the largest holder is closed, and then one each tick

// ---- The event loop's time ----

// Between looks at what only time makes due: a part of the connections for timeouts; whether there are descriptors again.
pub const TICK_MILLIS: u64 = 100;
pub const SWEEP_PARTS: usize = 10; // of them, so that each is looked at about once a second
pub const STOP_MILLIS: u64 = 5000; // for a stop to answer what has arrived
pub const STOP_TWICE_MILLIS: u64 = 100; // in which a second signal to stop is taken for the same one
pub const START_BYTES: usize = 256 * 1024; // still to be touched by a process that has started: code, stack, C library

// ---- One turn of the loop: all together take less than 200 us ----

pub const EVENTS_MAX: usize = 1024; // taken from one poll
// Parsed, then executed: enough for their cache misses to overlap, few enough for the first-level cache.
pub const BATCH_COMMANDS: usize = 32;
pub const TURN_CONNECTIONS: usize = 32; // served: at 3 to 4 us of system calls each, these are 100 us
// Of what buffers may still take, for each that is served: a reply beyond what may wait, in buffers that double.
pub const VISIT_BYTES: usize = 256 * 1024;
// Read in one turn, after which no further connection is read: some 600 GETs, or 250 SETs, unless these evict. Half as
// much costs 5 % more with pipelines of 64, and twice as much gains little.
pub const TURN_FRAME_BYTES: usize = 16 * 1024;
// The last connection carries over an unfinished frame and reads, or frames that it may not run yet.
pub const TURN_READ_BYTES: usize = TURN_FRAME_BYTES + CARRY_BYTES_MAX + READ_BYTES;
// What a client may bring and be answered before who brought more, with half of a turn's work: it waits one turn, not two.
pub const SHORT_VISIT_BYTES: usize = 256;
pub const TURN_WRITE_BYTES: usize = 256 * 1024; // of which the last connection may take one write more
// The store's work beyond plain look-ups: eighty SETs of new keys, or half as many that each evict. They take some
// 40 us, and up to 150 where all of it misses the processor's caches or others share the core.
pub const TURN_WORK_UNITS: u64 = 256;
pub const TURN_LOOKS: usize = 2 * TURN_CONNECTIONS; // at connections, for one question such as CLIENT LIST
pub const TURN_ACCEPTS: usize = 8; // at some 15 us each
pub const TURN_CLOSES: usize = 2; // at up to 60 us each: the kernel may deliver the end to the other side at once

// ---- The store, whose units of work are about 100 ns each ----

pub const STORE_BYTES_MIN: usize = 1024 * 1024; // a dozen segments
pub const STORE_BYTES_MAX: usize = 1 << 38; // its handles number segments with 22 bits
pub const COPIED_BYTES_PER_UNIT: u64 = 1024;
pub const RECLAIM_UNITS_PER_COMMAND: u64 = 64; // to be spent on making room
pub const SWEEP_PAUSE_MILLIS: u64 = 10_000; // between sweeps, which with it must end within 60 s of an item's expiry
pub const SEGMENT_BYTES: usize = 64 * 1024; // of the log: small enough that a 16 MB cache has two hundred of them
pub const INDEX_BLOCK_BYTES: usize = 256 * 1024; // of address space: what of it is used takes memory, page by page
pub const MALLOC_BYTES: usize = 16; // what the C library adds to a block
pub const BYTES_PER_BUCKET: usize = 1024 * 1024; // of the index as it begins: these take a ten-thousandth of the memory
pub const BUCKETS_MIN: usize = 2048; // it begins with no more: one block, made in no time
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "a record keeps a key's length in 16 bits");
const _: () = assert!(KEY_BYTES_MAX + SMALL_VALUE_BYTES_MAX + 64 <= 2 * SEGMENT_BYTES, "a record fits two segments");

// ---- The Redis protocol ----

pub const RESP_ARGUMENTS_MAX: usize = 65_536; // of a command: what a proxy sends when it splits a large MGET
pub const FRAME_EXTRA_BYTES: usize = 64 * 1024 + 1024; // beyond the longest value: a key, and what is around it
pub const STRANGER_ARGUMENTS_MAX: usize = 10; // before the client has said the password: HELLO with everything it takes
pub const STRANGER_BYTES_MAX: usize = 16 * 1024; // of an argument before that
const _: () = assert!(PASSWORD_BYTES_MAX <= STRANGER_BYTES_MAX, "a client must be able to say the password");
pub const NAME_BYTES_MAX: usize = 128; // that a client gives itself or its library
pub const QUEUE_BYTES_MAX: usize = 4 << 20; // of what MULTI queues, large values apart
// EXEC lets others have their turn after so many commands, or when much output waits. A transaction up to this long is run
// in one go; a longer one is a pipeline that a library wrapped into MULTI, and nobody may wait for all of it.
pub const EXEC_COMMANDS: usize = 1024;
pub const SCAN_PATTERN_BYTES_MAX: usize = 256; // matching takes as long as pattern and key multiplied
pub const SCAN_WORK_UNITS: u64 = 256; // after which one SCAN ends early
