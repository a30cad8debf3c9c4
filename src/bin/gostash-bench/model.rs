//! What `--verify` expects of the server's keys. With several clients, a number is known only within bounds.

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::{FIRST_NUMBER, Request};

/// How many writes of each key were sent, and how many were answered: the preload's SET, and each INC or DEC after it.
/// A key whose SET was answered must be there. A number counts at least the writes that were answered before its
/// request was sent, and at most all that were sent before its reply.
pub struct Model {
    sent: Vec<u32>,
    answered: Vec<u32>,
}

impl Model {
    pub fn new(options: &Options) -> Self {
        let keys = options.keys as usize;
        Model { sent: vec![0; keys], answered: vec![0; keys] }
    }

    /// Counts a request that is about to be sent, and returns how many writes of its key are answered by now.
    pub fn send(&mut self, request: &Request) -> u32 {
        self.sent[request.id as usize] += u32::from(request.operation != Operation::Get);
        self.answered[request.id as usize]
    }

    /// Checks a reply against the bounds.
    pub fn check(&mut self, request: &Request, outcome: Outcome) -> Result<(), String> {
        let (id, is_get) = (request.id as usize, request.operation == Operation::Get);
        self.answered[id] += u32::from(!is_get);
        // The first write is the SET of the number that the others count from.
        let sign = if request.operation == Operation::Inc { 1 } else { -1 };
        let steps = [request.writes_answered, self.sent[id].saturating_sub(1)];
        let mut bounds = steps.map(|steps| FIRST_NUMBER + sign * i64::from(steps));
        bounds.sort_unstable();
        let [low, high] = bounds;
        match outcome {
            Outcome::Done => Ok(()),
            Outcome::Miss if is_get && request.writes_answered == 0 => Ok(()),
            Outcome::Miss => {
                let expected = if is_get { "the value that was set" } else { "that it is done" };
                Err(format!("expected {expected}, got that the key is missing"))
            }
            Outcome::Refused => Err("expected that it is done, got a refusal".to_owned()),
            Outcome::Number(number) if (low..=high).contains(&number) => Ok(()),
            Outcome::Number(number) => Err(format!("expected {low} to {high}, got {number}")),
        }
    }
}
