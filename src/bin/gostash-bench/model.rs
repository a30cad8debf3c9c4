//! What `--verify` knows of the server's keys, as far as several clients at once can tell.

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::{FIRST_NUMBER, Request};

/// How often each key was written, as the preload's SET and every INC or DEC after it. A key whose SET was answered is
/// there, and a number lies between what was answered before it was asked for and what was ever sent.
pub struct Model {
    sent: Vec<u32>,
    answered: Vec<u32>,
}

impl Model {
    pub fn new(options: &Options) -> Self {
        let keys = options.keys as usize;
        Model { sent: vec![0; keys], answered: vec![0; keys] }
    }

    /// What is known when a request is sent: how many writes of its key were answered.
    pub fn send(&mut self, request: &Request) -> u32 {
        self.sent[request.id as usize] += u32::from(request.operation != Operation::Get);
        self.answered[request.id as usize]
    }

    /// Compares a reply with what is known.
    pub fn check(&mut self, request: &Request, outcome: Outcome) -> Result<(), String> {
        let id = request.id as usize;
        self.answered[id] += u32::from(request.operation != Operation::Get);
        // The first write set the number that the others count from.
        let sign = if request.operation == Operation::Inc { 1 } else { -1 };
        let mut bounds = [request.known, self.sent[id].saturating_sub(1)].map(|n| FIRST_NUMBER + sign * i64::from(n));
        bounds.sort_unstable();
        let [low, high] = bounds;
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Miss if request.operation == Operation::Get && request.known == 0 => Ok(()),
            Outcome::Miss => {
                let expected =
                    if request.operation == Operation::Get { "the value that was set" } else { "that it is done" };
                Err(format!("expected {expected}, got that the key is missing"))
            }
            Outcome::Refused => Err("expected that it is done, got a refusal".to_owned()),
            Outcome::Number(number) if (low..=high).contains(&number) => Ok(()),
            Outcome::Number(number) => Err(format!("expected {low} to {high}, got {number}")),
        }
    }
}
