//! Every bound, in one place: its name ends in its unit, its reason stands beside it, and relations are asserted.

#![allow(missing_docs)] // a table with a line for each bound, whose reasons are not doc comments

// ---- Keys and values ----
pub const KEY_BYTES_MAX: usize = 65_535; // as many as a record tells in 16 bits
pub const LENGTH_DIGITS_MAX: usize = 20; // as many as the largest unsigned 64-bit number has
pub const VALUE_BYTES_MAX_MAX: usize = 512 << 20; // for max-value-size: the Redis protocol's own limit on a string
// The longest value's share of max-memory. One that filled the cache would evict all else; overwritten, it takes two.
pub const VALUE_SHARE: usize = 8;
pub const CHUNK_BYTES: usize = 32 * 1024; // a piece of a large value
pub const SPARE_BYTES_MAX: usize = 32 << 20; // memory of dropped chunks kept for new ones: making one anew takes 12 us
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES; // parsed whole and copied; a longer one streams into chunks
pub const APPEND_BYTES_MAX: usize = 512 * 1024; // to an existing value: moved in one step, into new memory in .3 ms

// ---- What options may ask for ----
pub const CLIENTS_MAX: usize = 1_000_000; // descriptors and the loop's tokens fit into 32 bits with much to spare
pub const MEMORY_BYTES_MIN: usize = 8 << 20; // an empty process, and as much again for items
pub const MACHINE_SHARE_BYTES_MAX: usize = 1 << 30; // the default's maximum where no container sets a limit
pub const UNKNOWN_MACHINE_BYTES: usize = 256 << 20; // the default where the machine's memory is not known
pub const SPIN_MICROS_MAX: u64 = TICK_MILLIS * 1000; // what time alone makes due waits until it is over
pub const SECONDS_MAX: u64 = 315_360_000; // ten years: no sum of times overflows
pub const PASSWORD_BYTES_MAX: usize = 512; // a client must be able to send it before it has authenticated
pub const CPU_MAX: usize = 1023; // the highest that the kernel's fixed-size CPU set holds
pub const LOG_LINE_BYTES_MAX: usize = 4096; // what surely fits a pipe that has room: `PIPE_BUF` on Linux

// ---- Connections ----
pub const LISTEN_BACKLOG: i32 = 1024; // connections that the kernel keeps waiting, for each listening socket
pub const FREE_PORT_ATTEMPTS: usize = 32; // to find one free on all addresses, when the system picks it on the first
// What the kernel holds for a client counts in a container's limit: up to 4 MB of replies and 6 MB of input. So it is told
// a share of max-memory: for replies not sent yet and, if so much is neither in a large server nor left beside a small one,
// for what comes in. Where that is 64 KB, SETs of 1 MB cost 2.5 times as much, and clients that are far away wait longer.
pub const KERNEL_SHARE: usize = 1024;
pub const KERNEL_BYTES_MIN: usize = 64 * 1024;
pub const KERNEL_LEFT_BYTES_MIN: usize = 512 << 20;
pub const KEEPALIVE_SECONDS: u64 = 60; // of silence until the kernel probes the client; then, each sixth of it
// The standard streams, the log, the poll, signals, one file, listening sockets, and clients that are being refused.
pub const DESCRIPTORS_RESERVED: usize = 32 + DRAINING_MAX;

pub const READ_BYTES: usize = 8 * 1024; // asked for by one read: other clients wait for no more commands than that
// Asked for at most if frames are long, a batch of such as its last unfinished one. With 128 KB, more turns took 200 us.
pub const READ_LONG_BYTES: usize = 64 * 1024;
// Of large values by one read, and with what is thrown away by all before it: 35 us. Twice that: more turns of 200 us.
pub const READ_LARGE_BYTES: usize = 64 * 1024;
// Unfinished input up to this length is put in front of the next read. A longer frame is collected in its own buffer,
// since copying it for each read would make the work grow with the square of its length.
pub const CARRY_BYTES_MAX: usize = 16 * 1024;
pub const TAKEN_EXTRA_BYTES: usize = 64; // by such a frame: its end, with options, instead of a CRLF or digit at a time
pub const OUTPUT_HIGH_BYTES: usize = 64 * 1024; // high-water mark: above it input waits; a visit or a reply may exceed it
// Written at once: all small values that a visit may answer with. What is left of them would grow into new pages.
pub const WRITE_BYTES: usize = VISIT_BYTES + SMALL_VALUE_BYTES_MAX;
// Empty buffers kept for all outputs, enough for a turn: without, GETs of 4 KB in pipelines of 16 cost twice as much.
pub const OUTPUT_SPARE_BYTES_MAX: usize = 1024 * 1024;

// A client that was sent ERR is still read from: closed with input unread, it would get a reset, maybe before the ERR.
pub const DRAIN_MILLIS: u64 = 2000;
pub const DRAINING_MAX: usize = 64; // clients at a time; any more are closed at once, and may see a reset

// All buffers together may take this, or an eighth of max-memory if that is less, but at least the longest value. The
// extra is for that value's key, in a buffer that has doubled, and for chunks that are not full.
pub const BUFFER_BYTES_MAX: usize = 64 << 20;
pub const BUFFER_EXTRA_BYTES: usize = 2 * KEY_BYTES_MAX + 4 * CHUNK_BYTES;
pub const CROWDED_EIGHTHS: usize = 1; // of that bound: from here on long frames are received in line, to their ends
pub const CROWD_SHARE: usize = 4; // of that bound, from there on, for all who collect something and need no line for it
pub const LINE_BYTES_PER_MILLI: u64 = 64; // earn one in line a millisecond to pause: a far client's 64 KB, a second
pub const SCARCE_EIGHTHS: usize = 4; // outputs that wait have little room for more: to get it anew takes time
pub const OVER_EIGHTHS: usize = 8; // the bound itself
pub const FULL_EIGHTHS: usize = OVER_EIGHTHS + CROWDED_EIGHTHS; // no long frame is received: the longest has had room
pub const RELIEF_EIGHTHS: usize = 10; // the largest client is closed at once
pub const SHORT_SHARE: usize = 32; // of max-memory: nobody is served while the store is over by more
pub const UNCOUNTED_SHARE: usize = 4; // of max-memory, at most, is set aside for what the C library keeps
pub const PRESSURE_MILLIS: u64 = 1000; // over that bound until the largest client is closed, then one more each tick

// ---- The event loop's time ----
// How often the loop checks what only time makes due: timeouts of a part of the connections, and new free descriptors.
pub const TICK_MILLIS: u64 = 100;
pub const SWEEP_PARTS: usize = 10; // of the connections, one each tick: so each is checked about once a second
pub const SWEEPS_MILLIS: u64 = SWEEP_PARTS as u64 * TICK_MILLIS; // for all parts
pub const STOP_MILLIS: u64 = 5000; // for a stop to answer the requests that have arrived
pub const STOP_TWICE_MILLIS: u64 = 100; // within which a second signal to stop is taken for the same one
pub const PROCESS_BYTES: usize = 3 << 20; // that a process has when it starts, where the system does not tell
pub const START_BYTES: usize = 256 * 1024; // that a process still comes to touch once started: code, stack, C library

// ---- One turn of the loop: within each of these bounds it takes less than 200 us, and some 400 if it reaches all ----
pub const EVENTS_MAX: usize = 256; // taken from one poll: 17 us
// Commands parsed before they are executed: enough for their cache misses to overlap, few enough for the L1 cache.
pub const BATCH_COMMANDS: usize = 32;
pub const VISIT_COMMANDS: usize = 512; // for one connection: 8 KB can hold 1,365 keys of EXISTS, each of no bytes
pub const TURN_CONNECTIONS: usize = 32; // served: 100 us, at 3 to 4 us of system calls each
// Kept free for each connection served: what may wait, as much of an EXEC and a reply more, in buffers that double.
pub const VISIT_BYTES: usize = 256 * 1024;
// Once this much has been read in a turn, no further connection is read: some 600 GETs, or 250 SETs unless they evict.
// Half as much costs 5 % more with pipelines of 64; twice as much gains little.
pub const TURN_FRAME_BYTES: usize = 16 * 1024;
// The last connection may add an unfinished frame carried over and one read, or frames that it may not run yet.
pub const TURN_READ_BYTES: usize = TURN_FRAME_BYTES + CARRY_BYTES_MAX + READ_LONG_BYTES;
// A client that sent no more than this is served before others, with half of a turn's work: it waits one turn, not two.
pub const SHORT_VISIT_BYTES: usize = 256;
pub const TURN_WRITE_BYTES: usize = 256 * 1024; // written in a turn, half by each group; each may exceed it by a write
pub const SHORT_OUTPUT_BYTES: usize = TURN_WRITE_BYTES / 2 / TURN_CONNECTIONS; // all in a turn fit into half of it
// The work in a turn: two thousand look-ups, eighty SETs of new keys, half as many that evict, or 256 commands that a
// session executes. The SETs take 40 us, up to 150 where all misses the processor's caches or others share the core.
pub const TURN_WORK_UNITS: u64 = 256;
pub const TURN_LOOKS: usize = 2 * TURN_CONNECTIONS; // at connections, to answer a CLIENT LIST or to move the line on
pub const TURN_ACCEPTS: usize = 8; // at some 15 us each
pub const TURN_CLOSES: usize = 2; // at up to 60 us each: the kernel may deliver the end to the peer at once

// ---- The store, whose units of work are about 100 ns each ----
pub const STORE_BYTES_MIN: usize = 1024 * 1024; // 16 segments
pub const STORE_BYTES_MAX: usize = 1 << 38; // a handle numbers segments with 22 bits
pub const COPIED_BYTES_PER_UNIT: u64 = 1024;
pub const STEPS_PER_UNIT: u64 = 64; // of parsing a number or matching a pattern: a byte each
pub const ROOM_UNITS_PER_COMMAND: u64 = 64; // spent on making room
pub const SWEEP_PAUSE_MILLIS: u64 = 10_000; // between sweeps at most: an expired item must be gone within 60 s
pub const SEGMENT_BYTES: usize = 64 * 1024; // of the log: small enough for a 16 MB cache to have two hundred of them
pub const INDEX_BLOCK_BYTES: usize = 256 * 1024; // of address space: only pages that are used take memory
pub const MALLOC_BYTES: usize = 16; // what the C library adds to an allocation
pub const BUCKETS_MIN: usize = 512; // of the index: 64 KB even if empty. With fewer, more of a tag would number buckets
const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "a record keeps a key's length in 16 bits");
const _: () = assert!(KEY_BYTES_MAX + SMALL_VALUE_BYTES_MAX + 64 <= 2 * SEGMENT_BYTES, "a record fits two segments");

// ---- The Redis protocol ----
pub const RESP_ARGUMENTS_MAX: usize = 65_536; // of one command: what a proxy sends when it splits a large MGET
pub const FRAME_EXTRA_BYTES: usize = 65 * 1024; // beyond the longest value: in a command, a MULTI, or what is drained
pub const STRANGER_ARGUMENTS_MAX: usize = 10; // before the client has authenticated: HELLO with all its options
pub const STRANGER_BYTES_MAX: usize = 16 * 1024; // of one argument before that
pub const STRANGER_HELD_BYTES: usize = 2 * PASSWORD_BYTES_MAX; // before that; more, and under pressure it is closed first
const _: () = assert!(PASSWORD_BYTES_MAX <= STRANGER_BYTES_MAX, "a client must be able to send the password");
pub const NAME_BYTES_MAX: usize = 128; // of a client or its library, and of any word of a question
// EXEC lets others have their turn after this many commands, or when much output waits. A transaction up to this long
// is run in one go; a longer one is a pipeline that a library wrapped into MULTI, and nobody may wait for all of it.
pub const EXEC_COMMANDS: usize = 1024;
pub const EXEC_WORK_UNITS: u64 = 8 * EXEC_COMMANDS as u64; // the same for the store's work: so many SETs that each evict
pub const SCAN_STEPS_MAX: usize = 64 * 1024; // of matching, some 150 us: a pattern that takes more is refused
pub const SCAN_WORK_UNITS: u64 = 320; // after which a SCAN returns early
