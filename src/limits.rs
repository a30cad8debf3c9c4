//! Every bound in one place, each with its unit and its reason, and the relations between them asserted.
//! It knows numbers only.

/// A large value's chunk, in bytes. Sixteen less than 32 KiB, so that with the C library's header it fills
/// exactly 32 KiB: every chunk then fits the hole that any other chunk left.
pub const CHUNK_BYTES: usize = 32 * 1024 - 16;

/// A key's longest length, in bytes: what a RESP proxy, a log line and a person can still handle.
pub const KEY_BYTES_MAX: usize = 65_535;

/// A value up to this length, in bytes, is parsed whole and copied; a longer one streams into chunks.
pub const SMALL_VALUE_BYTES_MAX: usize = CHUNK_BYTES;
