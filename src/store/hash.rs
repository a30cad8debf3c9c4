//! The hash of a key: SipHash-1-3 (Aumasson and Bernstein, INDOCRYPT 2012) under a random 128-bit key per store.
//!
//! Whoever does not know the hash key can neither choose keys that collide nor learn it from our answers, so a table
//! stays as fast for hostile keys as for others. Fewer rounds than SipHash-2-4 are what Rust's and Python's tables use, too. It
//! does not defend against one who can time single look-ups in nanoseconds. The standard library has the same function
//! behind a streaming interface that costs twice as much; this one takes a key in one piece, and knows nothing else.

use std::hash::{BuildHasher, RandomState};

/// A key's hash, computed once per command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyHash(pub(super) u64);

impl KeyHash {
    /// Its bits. A store's index and eviction make no use of those from 40 to 44 unless it has millions of items.
    pub fn bits(self) -> u64 {
        self.0
    }
}

/// The secret that all hashes of a store depend on.
#[derive(Clone, Debug)]
pub(super) struct Secret(pub(super) u64, pub(super) u64);

impl Secret {
    /// A new one, from the system's randomness by way of the standard library.
    pub(super) fn random() -> Secret {
        Secret(RandomState::new().hash_one(0), RandomState::new().hash_one(1))
    }

    /// The hash of a key under this secret.
    #[inline]
    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        let mut state = [
            self.0 ^ 0x736f_6d65_7073_6575,
            self.1 ^ 0x646f_7261_6e64_6f6d,
            self.0 ^ 0x6c79_6765_6e65_7261,
            self.1 ^ 0x7465_6462_7974_6573,
        ];
        let (words, tail) = key.as_chunks::<8>();
        for word in words {
            absorb(&mut state, u64::from_le_bytes(*word));
        }
        // The last word holds the bytes that are left, and the length's low byte on top.
        let last = tail.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
        absorb(&mut state, last | (key.len() as u64) << 56);
        state[2] ^= 0xff;
        round(&mut state);
        round(&mut state);
        round(&mut state);
        KeyHash(state[0] ^ state[1] ^ state[2] ^ state[3])
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

#[cfg(test)]
mod tests {
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    #[test]
    fn it_is_siphash_1_3() {
        // The standard library's hasher is the same function, under the key 0 when made like this.
        let key: Vec<u8> = (0..100_u8).map(|byte| byte.wrapping_mul(7)).collect();
        for length in 0..key.len() {
            let mut hasher = DefaultHasher::new();
            hasher.write(&key[..length]);
            assert_eq!(Secret(0, 0).hash(&key[..length]), KeyHash(hasher.finish()), "length {length}");
        }
        assert_ne!(Secret(0, 1).hash(b"key"), Secret(0, 0).hash(b"key"));
        assert_ne!(Secret(1, 0).hash(b"key"), Secret(0, 0).hash(b"key"));
    }
}
