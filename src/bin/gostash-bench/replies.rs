//! What comes back: the replies of one connection, however they are cut, each paired with its request and, if asked,
//! compared byte by byte; and for `--verify` what they had to say, as far as several clients at once can tell. It knows
//! no socket and no clock.

use std::collections::VecDeque;

use crate::options::Options;
use crate::protocol::{Operation, Outcome};
use crate::workload::{FIRST_NUMBER, Request, UNKNOWN, Workload, quote};

/// What comes back on a connection.
#[derive(Default)]
pub struct Replies {
    /// Requests without a reply, oldest first.
    pub waiting: VecDeque<Request>,
    /// How long all their replies are together, in bytes, if all goes well; [`UNKNOWN`] once something of them has
    /// come.
    whole_bytes: usize,
    /// A reply's beginning, if that does not tell yet what it is.
    start: Vec<u8>,
    /// How much is to come yet of a right reply whose head has come, in bytes.
    left: usize,
    /// Room in which to write what is expected.
    scratch: Vec<u8>,
}

impl Replies {
    /// A request was sent.
    #[inline]
    pub fn expect(&mut self, request: Request, reply_bytes: usize) {
        self.whole_bytes = self.whole_bytes.saturating_add(reply_bytes);
        self.waiting.push_back(request);
    }

    /// Takes what was read, and calls `done` for each request that it completes.
    ///
    /// # Errors
    /// The first reply that is none, or that `done` refuses; with `--verify` also the first wrong byte.
    #[inline]
    pub fn feed(
        &mut self,
        data: &[u8],
        workload: &Workload,
        mut done: impl FnMut(&Request, Outcome) -> Result<(), String>,
    ) -> Result<(), String> {
        let whole_bytes = std::mem::replace(&mut self.whole_bytes, UNKNOWN);
        // Replies that have exactly the length of all the right ones are taken for them if the first one is: at depth
        // 64 looking at each would cost as much as all the rest of a request.
        let mut at_a_glance = whole_bytes == data.len() && !workload.options.verify;
        let joined;
        let mut data = data;
        if !self.start.is_empty() {
            self.start.extend_from_slice(data);
            joined = std::mem::take(&mut self.start);
            data = &joined;
        }
        while !data.is_empty() {
            let Some(&request) = self.waiting.front() else {
                return Err(format!("expected nothing, since every request has its reply, got {}", quote(data)));
            };
            let mut outcome = Outcome::Done;
            if self.left == 0 {
                let Some((said, bytes, body_bytes)) = workload.start(&request, data, &mut self.scratch)? else {
                    self.start.extend_from_slice(data);
                    return Ok(());
                };
                (outcome, self.left, data) = (said, body_bytes, &data[bytes..]);
            }
            let (piece, rest) = data.split_at(self.left.min(data.len()));
            workload.check(&request, self.left, piece)?;
            self.left -= piece.len();
            if self.left > 0 {
                return Ok(());
            }
            data = rest;
            self.waiting.pop_front();
            done(&request, outcome)?;
            at_a_glance &= matches!(outcome, Outcome::Done | Outcome::Number(_));
            if at_a_glance {
                self.waiting.iter().try_for_each(|request| done(request, Outcome::Done))?;
                self.waiting.clear();
                break;
            }
        }
        if self.waiting.is_empty() {
            self.whole_bytes = 0;
        }
        Ok(())
    }
}

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
