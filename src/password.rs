//! The password that clients have to say. It can be compared and nothing else: not shown, logged or copied out.

use std::fmt;
use std::hint::black_box;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// From what was configured.
    pub fn new(text: &str) -> Self {
        Password(text.as_bytes().into())
    }

    /// Whether `guess` is it. How long that takes depends on the length of the guess alone: neither on how many bytes
    /// are right, nor on the password's own length.
    pub fn is(&self, guess: &[u8]) -> bool {
        // Each byte is compared with some byte, and the compiler may not know what has been found, or it would leave early.
        let pairs = guess.iter().zip(self.0.iter().cycle());
        let length = guess.len() ^ self.0.len();
        pairs.fold(length, |different, (guess, own)| black_box(different | usize::from(guess ^ own))) == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}
