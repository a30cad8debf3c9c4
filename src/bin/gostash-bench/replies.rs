//! One connection's requests under way, and the bytes that come back for them, however they are cut. It pairs each
//! reply with its request and, if asked, compares every byte. It knows no socket and no clock.

use std::collections::VecDeque;

use crate::output::Output;
use crate::protocol::{Outcome, Protocol, Start};
use crate::workload::{Request, Workload};

/// A sentence that says what was expected and what came.
pub type Wrong = String;

/// Requests without a reply, oldest first.
#[derive(Default)]
pub struct Replies {
    waiting: VecDeque<Request>,
    /// A reply's first line, as far as it came.
    line: Vec<u8>,
    /// What follows it, once the line is complete.
    body: Option<Body>,
}

struct Body {
    /// How much of it came, in bytes.
    at: usize,
    /// What comes after the value.
    end: &'static [u8],
    /// All of it, if an echo is checked.
    echo: Option<Vec<u8>>,
}

impl Replies {
    /// A request was sent.
    #[inline]
    pub fn expect(&mut self, request: Request) {
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
            if self.body.is_none() {
                match workload.start(request.operation, request.body_bytes as usize, data) {
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
                        let echo = (verify && workload.protocol() == Protocol::Echo && !workload.is_shaped())
                            .then(|| sent(&request, workload));
                        self.body = Some(Body { at: 0, end, echo });
                        data = &data[skip..];
                    }
                    Start::Partial => {
                        self.line.extend_from_slice(data);
                        return Ok(());
                    }
                    Start::Wrong => return Err(no_reply(&request, data, workload)),
                }
            }
            if let Some(body) = &mut self.body {
                let left = request.body_bytes as usize + body.end.len() - body.at;
                let (piece, rest) = data.split_at(left.min(data.len()));
                body.check(&request, piece, workload, verify)?;
                body.at += piece.len();
                if piece.len() == left {
                    self.body = None;
                    self.waiting.pop_front();
                    done(&request, Outcome::Done)?;
                }
                data = rest;
            }
        }
        Ok(())
    }
}

impl Body {
    /// Checks what ends the value always, since it proves the length; the value itself only if asked.
    #[inline]
    fn check(&self, request: &Request, piece: &[u8], workload: &Workload, verify: bool) -> Result<(), Wrong> {
        let length = request.body_bytes as usize;
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
        if !verify || workload.is_shaped() {
            return Ok(());
        }
        let difference = match &self.echo {
            Some(sent) => value.iter().zip(&sent[self.at..]).position(|(got, sent)| got != sent),
            None => workload.values().difference(request.id, self.at, value),
        };
        let Some(place) = difference else {
            return Ok(());
        };
        let shown = if self.echo.is_some() { place } else { place - self.at };
        Err(format!(
            "wrong reply to {}: byte {} of {length} differs from what was set, got {}",
            name(request, workload),
            self.at + shown + 1,
            quote(&value[shown..])
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

fn sent(request: &Request, workload: &Workload) -> Vec<u8> {
    let mut output = Output::default();
    workload.write(request.operation, request.id, &mut output);
    output.slices(workload.shared()).collect::<Vec<_>>().concat()
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
