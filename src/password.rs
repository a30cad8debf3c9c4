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
        let mut different = guess.len() ^ self.0.len();
        for (at, byte) in guess.iter().enumerate() {
            // The place wraps around, so that each byte is compared with some byte. That the compiler may not know what
            // has been found so far keeps it from leaving early.
            let own = self.0.get(at % self.0.len().max(1)).copied().unwrap_or(0);
            different = black_box(different | usize::from(own ^ byte));
        }
        different == 0
    }
}

/// Says that there is one.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_password_is_it() {
        let password = Password::new("secret");
        assert!(password.is(b"secret"));
        for guess in ["", "s", "secre", "secret!", "Secret", "secretsecret", "secres"] {
            assert!(!password.is(guess.as_bytes()), "{guess:?}");
        }
        assert!(!Password::new("").is(b"x"));
        assert!(!format!("{password:?}").contains("secret"));
    }
}
