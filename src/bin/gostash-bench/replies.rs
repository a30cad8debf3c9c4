//! One connection's requests under way, and the bytes that come back for them, however they are cut. It pairs each
//! reply with its request and, if asked, compares every byte. It knows no socket and no clock.

use std::collections::VecDeque;

use crate::protocol::Outcome;
use crate::workload::{Request, UNKNOWN, Workload, quote};

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
    /// The first reply that is none, or that `done` refuses; with `verify` also the first wrong byte.
    #[inline]
    pub fn feed(
        &mut self,
        data: &[u8],
        workload: &Workload,
        verify: bool,
        mut done: impl FnMut(&Request, Outcome) -> Result<(), String>,
    ) -> Result<(), String> {
        let whole_bytes = std::mem::replace(&mut self.whole_bytes, UNKNOWN);
        // Replies that have exactly the length of all the right ones are taken for them if the first one is: at depth
        // 64 looking at each would cost as much as all the rest of a request.
        let mut at_a_glance = whole_bytes == data.len() && !verify;
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
            workload.check(&request, self.left, piece, verify)?;
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
