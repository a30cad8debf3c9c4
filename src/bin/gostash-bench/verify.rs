//! For `--verify`: what the server must know, as far as several clients at once can tell. A key whose SET was answered
//! is there, and a number lies between what was answered before it was asked for and what was ever sent.

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::{FIRST_NUMBER, Request, Workload};

/// How often each key was written, as the preload's SET and every INC or DEC after it.
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
    pub fn send(&mut self, operation: Operation, id: u32) -> u32 {
        self.sent[id as usize] += u32::from(operation != Operation::Get);
        self.answered[id as usize]
    }

    /// Compares a reply with what is known.
    #[inline(never)]
    pub fn check(&mut self, request: &Request, outcome: Outcome, workload: &Workload) -> Result<(), String> {
        let id = request.id as usize;
        self.answered[id] += u32::from(request.operation != Operation::Get);
        // The first write set the number that the others count from.
        let (least, most) = (i64::from(request.known), i64::from(self.sent[id]) - 1);
        let sign = if request.operation == Operation::Inc { 1 } else { -1 };
        let expected = match (request.operation, outcome) {
            (Operation::Get, Outcome::Miss) if request.known == 0 => return Ok(()),
            (Operation::Get, Outcome::Miss) => "the value that was set".to_owned(),
            (_, Outcome::Done) => return Ok(()),
            (_, Outcome::Number(number)) if (least..=most).contains(&((number - FIRST_NUMBER) * sign)) => return Ok(()),
            (_, Outcome::Number(_)) => format!("{} to {}", FIRST_NUMBER + sign * least, FIRST_NUMBER + sign * most),
            _ => "that it is done".to_owned(),
        };
        let got = match outcome {
            Outcome::Done => "that it is done",
            Outcome::Miss => "that the key is missing",
            Outcome::Refused => "a refusal",
            Outcome::Number(number) => &number.to_string(),
        };
        Err(workload.wrong(request, &format!("expected {expected}, got {got}")))
    }
}
