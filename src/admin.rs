//! Questions about the whole server or about other clients, and what is answered.

use crate::protocol::verbs::Kind;

/// A command that a session cannot answer by itself.
#[derive(Debug)]
pub struct Question {
    /// Which command.
    pub kind: Kind,
    /// Its arguments.
    pub words: Vec<Box<[u8]>>,
}

impl Question {
    /// A question that has just been asked.
    pub fn new(kind: Kind, words: &[&[u8]]) -> Self {
        Question { kind, words: words.iter().map(|&word| word.into()).collect() }
    }
}
