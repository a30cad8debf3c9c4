//! One connection's requests under way, and the bytes that come back for them, however they are cut. It pairs each
//! reply with its request and, if asked, compares every byte. It knows no socket and no clock.

use std::collections::VecDeque;

use crate::protocol::Outcome;
use crate::workload::{Request, Start, Workload};

/// Requests without a reply, oldest first.
#[derive(Default)]
pub struct Replies {
    waiting: VecDeque<Request>,
    /// How long all their replies are together, in bytes, if all goes well and nothing of them has come.
    whole_bytes: Option<usize>,
    /// A reply's beginning, if that does not tell yet what it is.
    start: Vec<u8>,
    /// How much came of what follows the head of a right reply, if that has not come whole, in bytes.
    body: Option<usize>,
    /// Room in which to write what is expected.
    scratch: Vec<u8>,
}

impl Replies {
    /// A request was sent.
    #[inline]
    pub fn expect(&mut self, request: Request, reply_bytes: Option<usize>) {
        let before = if self.waiting.is_empty() { Some(0) } else { self.whole_bytes };
        self.whole_bytes = before.zip(reply_bytes).map(|(before, bytes)| before + bytes);
        self.waiting.push_back(request);
    }

    /// How many requests are without a reply.
    #[inline]
    pub fn under_way(&self) -> usize {
        self.waiting.len()
    }

    /// Takes what was read, and calls `done` for each request that it completes.
    ///
    /// # Errors
    /// The first reply that is none, or that `done` refuses; with `verify` also the first wrong byte.
    #[inline]
    pub fn feed(
        &mut self,
        data: &[u8],
        workload: &Workload,
        verify: bool,
        mut done: impl FnMut(&Request, Outcome) -> Result<(), String>,
    ) -> Result<(), String> {
        // Replies that have exactly the length of all the right ones are taken for them if the first one is: at depth 64
        // looking at each would cost as much as all the rest of a request.
        if self.whole_bytes.take() == Some(data.len()) && !verify && self.first_is_right(data, workload) {
            self.waiting.iter().try_for_each(|request| done(request, Outcome::Done))?;
            self.waiting.clear();
            return Ok(());
        }
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
            if self.body.is_none() {
                match workload.start(&request, data, &mut self.scratch) {
                    Start::Line(said, bytes) => (outcome, data) = (said, &data[bytes..]),
                    Start::Head(bytes) => (self.body, data) = (Some(0), &data[bytes..]),
                    Start::Partial => {
                        self.start.extend_from_slice(data);
                        return Ok(());
                    }
                    Start::Wrong => {
                        let expected = workload.describe_reply(&request);
                        return Err(wrong(&request, workload, &format!("expected {expected}, got {}", quote(data))));
                    }
                }
            }
            if let Some(at) = self.body.take() {
                let (value_bytes, end) = workload.body(&request);
                let left = value_bytes + end.len() - at;
                let (piece, rest) = data.split_at(left.min(data.len()));
                check(&request, at, piece, workload, verify)?;
                if piece.len() < left {
                    self.body = Some(at + piece.len());
                    return Ok(());
                }
                data = rest;
            }
            self.waiting.pop_front();
            done(&request, outcome)?;
        }
        Ok(())
    }

    fn first_is_right(&mut self, data: &[u8], workload: &Workload) -> bool {
        let Some(request) = self.waiting.front() else { return false };
        let (value_bytes, end) = workload.body(request);
        match workload.start(request, data, &mut self.scratch) {
            Start::Head(bytes) => data.get(bytes + value_bytes..).is_some_and(|rest| rest.starts_with(end)),
            other => matches!(other, Start::Line(Outcome::Number(_), _)),
        }
    }
}

/// Checks a piece that begins `at` bytes into a value: what ends the value always, since it proves the length; the value
/// itself only if asked.
#[inline]
fn check(request: &Request, at: usize, piece: &[u8], workload: &Workload, verify: bool) -> Result<(), String> {
    let (length, expected) = workload.body(request);
    let (value, end) = piece.split_at(length.saturating_sub(at).min(piece.len()));
    let from = (at + value.len()).saturating_sub(length);
    if end != &expected[from..from + end.len()] {
        let (expected, got) = (quote(expected), quote(end));
        return Err(wrong(request, workload, &format!("expected {expected} after {length} bytes of value, got {got}")));
    }
    let difference = if verify { workload.difference(request.id, at, value) } else { None };
    difference.map_or(Ok(()), |place| {
        let got = quote(&value[place - at..]);
        let place = place + 1;
        Err(wrong(request, workload, &format!("byte {place} of {length} differs from what was set, got {got}")))
    })
}

/// A sentence about a reply that is not what it must be.
pub fn wrong(request: &Request, workload: &Workload, problem: &str) -> String {
    format!("wrong reply to {}: {problem}", workload.describe(request))
}

fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(48)];
    format!("'{}'{}", shown.escape_ascii(), if shown.len() < bytes.len() { "..." } else { "" })
}
