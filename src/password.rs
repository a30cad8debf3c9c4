//! The password that clients must give. It can be compared and nothing else: not shown, logged or copied out.

use std::hint::black_box;

/// A password.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<[u8]>);

impl Password {
    /// The password that was configured.
    pub fn new(text: &str) -> Self {
        Password(text.as_bytes().into())
    }

    /// Whether `guess` is the password. How many bytes are compared depends on the length of the guess alone: neither
    /// on how many of them are right, nor on the password's own length.
    pub fn is(&self, guess: &[u8]) -> bool {
        // What was found so far is hidden from the compiler, which could otherwise leave the loop early.
        let pairs = guess.iter().zip(self.0.iter().cycle());
        let different = guess.len() ^ self.0.len();
        pairs.fold(different, |different, (guess, own)| black_box(different | usize::from(guess ^ own))) == 0
    }
}
