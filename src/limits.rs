//! Every bound in one place, each with its unit and its reason, and the relations between them asserted.
//! It knows numbers only.

/// A large value's chunk, in bytes. Sixteen less than 32 KiB, so that with the C library's header it fills
/// exactly 32 KiB: every chunk then fits the hole that any other chunk left.
pub const CHUNK_BYTES: usize = 32 * 1024 - 16;

/// A key's longest length, in bytes: what a RESP proxy, a log line and a person can still handle.
pub const KEY_BYTES_MAX: usize = 65_535;

/// A value up to this length, in bytes, is parsed whole and copied; a longer one streams into chunks.
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES;

// The store.

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

/// Pause between two sweeps for expired items, in milliseconds. A sweep must end within 60 s of an item's expiry
/// together with the pause before it.
pub const SWEEP_PAUSE_MILLIS: u64 = 10_000;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize, "a record keeps a key's length in 16 bits");
const _: () = assert!(SEGMENT_BYTES <= 65_536, "an offset in a segment has 15 bits and counts two bytes");
