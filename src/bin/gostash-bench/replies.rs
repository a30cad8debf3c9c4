//! One connection's requests under way, and the bytes that come back for them, however they are cut. It pairs each
//! reply with its request and, if asked, compares every byte. It knows no socket and no clock.

use std::collections::VecDeque;

use crate::protocol::{Outcome, Protocol, Start};
use crate::workload::{Request, Workload};

/// A sentence that says what was expected and what came.
pub type Wrong = String;

/// Requests without a reply, oldest first.
#[derive(Default)]
pub struct Replies {
    waiting: VecDeque<Request>,
    /// How long all their replies are together, in bytes, if all goes well and nothing of them has come.
    whole_bytes: Option<usize>,
    /// A reply's first line, as far as it came.
    line: Vec<u8>,
    /// What follows it, if that has not come whole.
    body: Option<Body>,
}

/// A reply's value and what ends it.
struct Body {
    /// How much of it came, in bytes.
    at: usize,
    /// What comes after the value.
    end: &'static [u8],
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
    /// The first reply that is none, or that `done` does not accept; with `verify` also the first wrong byte.
    #[inline]
    pub fn feed(
        &mut self,
        data: &[u8],
        workload: &Workload,
        verify: bool,
        mut done: impl FnMut(&Request, Outcome) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        // Replies that have exactly the length of all the right ones are taken for them if the first one is: at depth 64
        // looking at each would cost as much as all the rest of a request.
        if self.whole_bytes == Some(data.len()) && !verify && self.first_is_right(data, workload) {
            return self.waiting.drain(..).try_for_each(|request| done(&request, Outcome::Done));
        }
        self.whole_bytes = None;
        let joined;
        let mut data = data;
        if !self.line.is_empty() {
            self.line.extend_from_slice(data);
            joined = std::mem::take(&mut self.line);
            data = &joined;
        }
        while !data.is_empty() {
            let Some(&request) = self.waiting.front() else {
                return Err(format!("expected nothing, since every request has its reply, got {}", quote(data)));
            };
            let body = match self.body.take() {
                Some(body) => body,
                None => match workload.start(request.operation, request.body_bytes, data) {
                    Start::Line(outcome, bytes) => {
                        self.waiting.pop_front();
                        done(&request, outcome)?;
                        data = &data[bytes..];
                        continue;
                    }
                    Start::Value { skip, end } => {
                        if verify {
                            check_line(&request, &data[..skip], workload)?;
                        }
                        data = &data[skip..];
                        Body { at: 0, end }
                    }
                    Start::Partial => {
                        self.line.extend_from_slice(data);
                        return Ok(());
                    }
                    Start::Wrong => return Err(no_reply(&request, data, workload)),
                },
            };
            let left = request.body_bytes + body.end.len() - body.at;
            let (piece, rest) = data.split_at(left.min(data.len()));
            body.check(&request, piece, workload, verify)?;
            data = rest;
            if piece.len() == left {
                self.waiting.pop_front();
                done(&request, Outcome::Done)?;
            } else {
                self.body = Some(Body { at: body.at + piece.len(), end: body.end });
            }
        }
        Ok(())
    }

    fn first_is_right(&self, data: &[u8], workload: &Workload) -> bool {
        let Some(request) = self.waiting.front() else { return false };
        match workload.start(request.operation, request.body_bytes, data) {
            Start::Line(outcome, _) => matches!(outcome, Outcome::Done | Outcome::Number(_)),
            Start::Value { skip, end } => {
                data.get(skip + request.body_bytes..).is_some_and(|rest| rest.starts_with(end))
            }
            Start::Partial | Start::Wrong => false,
        }
    }
}

impl Body {
    /// Checks what ends the value always, since it proves the length; the value itself only if asked.
    #[inline]
    fn check(&self, request: &Request, piece: &[u8], workload: &Workload, verify: bool) -> Result<(), Wrong> {
        let length = request.body_bytes;
        let (value, end) = piece.split_at(length.saturating_sub(self.at).min(piece.len()));
        let from = (self.at + value.len()).saturating_sub(length);
        if end != &self.end[from..from + end.len()] {
            return Err(format!(
                "wrong reply to {}: expected {} after {length} bytes of value, got {}",
                name(request, workload),
                quote(self.end),
                quote(end)
            ));
        }
        let difference = if verify { workload.difference(request, self.at, value) } else { None };
        let Some(place) = difference else { return Ok(()) };
        Err(format!(
            "wrong reply to {}: byte {} of {length} differs from what was set, got {}",
            name(request, workload),
            place + 1,
            quote(&value[place - self.at..])
        ))
    }
}

/// memcached names the key again.
fn check_line(request: &Request, line: &[u8], workload: &Workload) -> Result<(), Wrong> {
    if workload.protocol() != Protocol::Memcached {
        return Ok(());
    }
    let mut expected = b"VALUE ".to_vec();
    workload.write_key(request.id, &mut expected);
    expected.extend_from_slice(format!(" 0 {}\r\n", request.body_bytes).as_bytes());
    if line == expected { Ok(()) } else { Err(no_reply(request, line, workload)) }
}

fn no_reply(request: &Request, data: &[u8], workload: &Workload) -> Wrong {
    let hit = format!("a value of {} bytes", request.body_bytes);
    let expected = match workload.has_body(request.operation) {
        true => hit.as_str(),
        false => "a reply in this protocol",
    };
    format!("wrong reply to {}: expected {expected}, got {}", name(request, workload), quote(data))
}

/// A request as a person would write it.
pub fn name(request: &Request, workload: &Workload) -> String {
    let mut key = Vec::new();
    workload.write_key(request.id, &mut key);
    format!("{} {}", request.operation.name(), key.escape_ascii())
}

fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(48)];
    format!("'{}'{}", shown.escape_ascii(), if shown.len() < bytes.len() { "..." } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::output::Output;
    use crate::protocol::{FIRST_NUMBER, Operation};
    use crate::workload::{Expected, Sizes};

    const ASKED: [Operation; 5] = [Operation::Get, Operation::Set, Operation::Get, Operation::Inc, Operation::Del];

    /// Right replies to what is asked: a hit, done, a miss, a number, done.
    fn replies(protocol: Protocol, value: &[u8]) -> Vec<u8> {
        let number = FIRST_NUMBER + 1;
        let (head, rest) = match protocol {
            Protocol::Gostash => (String::new(), format!("\r\nOK\r\nERR\r\n{number}\r\nOK\r\n")),
            Protocol::Resp => ("$40\r\n".into(), format!("\r\n+OK\r\n$-1\r\n:{number}\r\n:1\r\n")),
            Protocol::Memcached => (
                "VALUE key:000000000007 0 40\r\n".into(),
                format!("\r\nEND\r\nSTORED\r\nEND\r\n{number}\r\nDELETED\r\n"),
            ),
            Protocol::Echo => unreachable!("an echo has no replies of its own"),
        };
        [head.as_bytes(), value, rest.as_bytes()].concat()
    }

    fn asked(workload: &Workload) -> (Replies, Output) {
        let (mut replies, mut output) = (Replies::default(), Output::default());
        for operation in ASKED {
            let Expected { body_bytes, reply_bytes } = workload.write(operation, 7, &mut output);
            replies.expect(Request { operation, id: 7, body_bytes, known: 0, due_nanos: 0 }, reply_bytes);
        }
        (replies, output)
    }

    fn workload(protocol: Protocol) -> Workload {
        Workload::new(&Options { protocol, value_size: Sizes::exactly(40), ..Options::default() })
    }

    /// What each request came to, with `input` fed in pieces that end at `cuts` and at its own end.
    fn outcomes(workload: &Workload, input: &[u8], cuts: &[usize], verify: bool) -> Result<Vec<Outcome>, Wrong> {
        let (mut replies, _) = asked(workload);
        let mut outcomes = Vec::new();
        let mut from = 0;
        for &to in cuts.iter().chain([&input.len()]) {
            replies.feed(&input[from..to], workload, verify, |_, outcome| {
                outcomes.push(outcome);
                Ok(())
            })?;
            from = to;
        }
        Ok(outcomes)
    }

    #[test]
    fn replies_are_paired_however_they_are_cut() {
        for protocol in [Protocol::Gostash, Protocol::Resp, Protocol::Memcached] {
            let workload = workload(protocol);
            let mut set = Output::default();
            workload.write(Operation::Set, 7, &mut set);
            let value = &set.bytes[set.bytes.len() - 42..set.bytes.len() - 2];
            let input = replies(protocol, value);
            let right =
                vec![Outcome::Done, Outcome::Done, Outcome::Miss, Outcome::Number(FIRST_NUMBER + 1), Outcome::Done];
            for verify in [false, true] {
                for first in 0..=input.len() {
                    for second in first..=input.len() {
                        let got = outcomes(&workload, &input, &[first, second], verify);
                        assert_eq!(got.as_ref(), Ok(&right), "{protocol:?} cut at {first} and {second}");
                    }
                }
                let everywhere: Vec<usize> = (0..input.len()).collect();
                assert_eq!(outcomes(&workload, &input, &everywhere, verify), Ok(right.clone()), "{protocol:?}");
            }
            for place in 0..input.len() {
                let mut wrong = input.clone();
                wrong[place] ^= 0x01;
                let got = outcomes(&workload, &wrong, &[], true);
                assert_ne!(got.as_ref(), Ok(&right), "{protocol:?} byte {place}");
            }
        }
    }

    #[test]
    fn a_batch_of_the_right_length_is_taken_at_a_glance() {
        for protocol in [Protocol::Gostash, Protocol::Resp, Protocol::Memcached] {
            let workload = workload(protocol);
            let (mut replies, mut output) = (Replies::default(), Output::default());
            for _ in 0..3 {
                let Expected { body_bytes, reply_bytes } = workload.write(Operation::Get, 7, &mut output);
                replies.expect(
                    Request { operation: Operation::Get, id: 7, body_bytes, known: 0, due_nanos: 0 },
                    reply_bytes,
                );
            }
            let one = match protocol {
                Protocol::Gostash => format!("{}\r\n", "v".repeat(40)),
                Protocol::Resp => format!("$40\r\n{}\r\n", "v".repeat(40)),
                _ => format!("VALUE key:000000000007 0 40\r\n{}\r\nEND\r\n", "v".repeat(40)),
            };
            assert_eq!(replies.whole_bytes, Some(3 * one.len()), "{protocol:?}");
            let mut count = 0;
            let fed = replies.feed(one.repeat(3).as_bytes(), &workload, false, |_, outcome| {
                assert_eq!(outcome, Outcome::Done);
                count += 1;
                Ok(())
            });
            assert_eq!((fed, count), (Ok(()), 3));
        }
    }
}
