//! For `--verify`: what the server must know, as far as several clients at once can tell. A key whose SET was answered is
//! there, and a number lies between what was answered before it was asked for and what was ever sent.

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::replies::wrong;
use crate::workload::{FIRST_NUMBER, Request, Workload};

pub struct Model {
    present: Vec<bool>,
    sent: Vec<u32>,
    answered: Vec<u32>,
    /// What is wrong with the first wrong reply.
    pub wrong: Option<String>,
}

impl Model {
    pub fn new(options: &Options) -> Self {
        let keys = options.keys as usize;
        Model { present: vec![false; keys], sent: vec![0; keys], answered: vec![0; keys], wrong: None }
    }

    /// What is known when a request is sent.
    pub fn send(&mut self, operation: Operation, id: u32) -> u32 {
        let id = id as usize;
        match operation {
            Operation::Get => u32::from(self.present[id]),
            Operation::Inc | Operation::Dec => {
                self.sent[id] += 1;
                self.answered[id]
            }
            Operation::Set | Operation::Del => 0,
        }
    }

    /// Compares a reply with what is known.
    #[inline(never)]
    pub fn check(&mut self, request: &Request, outcome: Outcome, workload: &Workload) {
        let id = request.id as usize;
        let expected = match (request.operation, outcome) {
            (Operation::Get, Outcome::Miss) if request.known == 0 => return,
            (Operation::Get, Outcome::Miss) => "the value that was set".to_owned(),
            (operation, Outcome::Done) => {
                self.present[id] |= operation == Operation::Set;
                return;
            }
            (operation, Outcome::Number(number)) => {
                self.answered[id] += 1;
                let sign = if operation == Operation::Inc { 1 } else { -1 };
                let (least, most) = (i64::from(request.known) + 1, i64::from(self.sent[id]));
                if (least..=most).contains(&((number - FIRST_NUMBER) * sign)) {
                    return;
                }
                format!("{} to {}", FIRST_NUMBER + sign * least, FIRST_NUMBER + sign * most)
            }
            _ => "that it is done".to_owned(),
        };
        let got = match outcome {
            Outcome::Done => "that it is done",
            Outcome::Miss => "that the key is missing",
            Outcome::Refused => "a refusal",
            Outcome::Number(number) => &number.to_string(),
        };
        self.wrong.get_or_insert_with(|| wrong(request, workload, &format!("expected {expected}, got {got}")));
    }
}
