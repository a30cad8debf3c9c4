//! The hash of a key: SipHash-1-3 (Aumasson and Bernstein, INDOCRYPT 2012) under a random 128-bit key per store.
//!
//! Whoever does not know the hash key can neither choose keys that collide nor learn it from our answers, and a scan does
//! answer in the order of hashes: that rules out cheaper functions, whose key can be solved for. Fewer rounds than
//! SipHash-2-4 are what Rust's and Python's tables use, too. It does not defend against one who can time single look-ups
//! in nanoseconds. The standard library has the same function behind a streaming interface that costs twice as much; this
//! one takes a key in one piece, and knows nothing else.

use std::hash::{BuildHasher, RandomState};

/// The secret that all hashes of a store depend on, as the state that each begins with.
#[derive(Clone, Debug)]
pub struct Secret([u64; 4]);

impl Secret {
    /// The secret of a hash key's two halves.
    pub fn new(low: u64, high: u64) -> Secret {
        Secret([
            low ^ 0x736f_6d65_7073_6575,
            high ^ 0x646f_7261_6e64_6f6d,
            low ^ 0x6c79_6765_6e65_7261,
            high ^ 0x7465_6462_7974_6573,
        ])
    }

    /// A new one, from the system's randomness by way of the standard library.
    pub fn random() -> Secret {
        Secret::new(RandomState::new().hash_one(0), RandomState::new().hash_one(1))
    }

    /// The hash of a key under this secret.
    #[inline(always)]
    pub fn hash(&self, key: &[u8]) -> u64 {
        let mut state = self.0;
        let (words, tail) = key.as_chunks::<8>();
        for word in words {
            absorb(&mut state, u64::from_le_bytes(*word));
        }
        // The last word holds the bytes that are left, and the length's low byte on top.
        let left = match key.last_chunk::<8>() {
            Some(last) => u64::from_le_bytes(*last).checked_shr(64 - 8 * tail.len() as u32).unwrap_or(0),
            None => tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte)),
        };
        absorb(&mut state, left | (key.len() as u64) << 56);
        state[2] ^= 0xff;
        (0..3).for_each(|_| round(&mut state));
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

#[inline]
fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline]
fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}
