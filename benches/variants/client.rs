//! One client of the locked shards without its socket, in GoStash frames: its unfinished input and its pending output.
//! Parsing, execution, store, chunks and output are the server's own code. The server's `Session` and `batch` are not
//! used: they borrow one executor, and borrowing sixteen behind locks would need a trait that serves only this
//! comparison.

use std::io::{self, ErrorKind, Write};

use bytes::Bytes;
use gostash::chunk::Chunk;
use gostash::command::{Action, Command, Reply, Value};
use gostash::limits::{BATCH_COMMANDS, CARRY_BYTES_MAX, OUTPUT_HIGH_BYTES};
use gostash::output::{Output, Spare};
use gostash::protocol::Stop;
use gostash::protocol::stash::{self, LINE_END};
use gostash::store::KeyHash;

use crate::shards::Shards;

/// One client without its socket.
#[derive(Default)]
pub(crate) struct Client {
    /// An unfinished frame, or frames that may not run before output has been written.
    waiting: Vec<u8>,
    /// How long `waiting` must be before it is worth parsing again.
    needed: usize,
    /// A large value of which a part has arrived.
    incoming: Option<Incoming>,
    pub(crate) output: Output,
    /// Whether a broken frame has ended this client, with ERR as its last reply.
    pub(crate) broken: bool,
}

/// A thread's buffers, which it lends to the client that it serves: all its clients use the same memory, so it stays in
/// the processor's cache.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The replies of a batch in the order of the shards; empty between batches.
    unordered: Output,
    /// Empty buffers for output.
    spare: Spare,
}

struct Incoming {
    hash: KeyHash,
    key: Vec<u8>,
    chunks: Vec<Bytes>,
    filling: Option<Chunk>,
    value_left: usize,
    /// How many bytes of the frame's end have been read.
    end: usize,
}

impl Client {
    /// Runs the frames in `input`, until the output is too long. With empty input it goes on with the backlog.
    pub(crate) fn process(&mut self, input: &[u8], shards: &Shards, scratch: &mut Scratch) {
        self.output.lend(&mut scratch.spare);
        if self.waiting.is_empty() {
            let taken = self.run(input, shards, scratch);
            self.waiting.extend_from_slice(&input[taken..]);
            return;
        }
        self.waiting.extend_from_slice(input);
        // A short frame is parsed again whenever it grows, so that the first byte that breaks it is noticed.
        if self.has_backlog() || self.needed <= CARRY_BYTES_MAX {
            let mut waiting = std::mem::take(&mut self.waiting);
            let taken = self.run(&waiting, shards, scratch);
            waiting.drain(..taken);
            self.waiting = waiting;
        }
    }

    /// Whether frames wait that can run as soon as output has been written.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.broken && !self.waiting.is_empty() && self.needed <= self.waiting.len()
    }

    /// Whether so much output is pending that nothing more may be run or read.
    pub(crate) fn is_choked(&self) -> bool {
        self.output.len() >= OUTPUT_HIGH_BYTES
    }

    /// Writes the output to `socket`.
    ///
    /// # Errors
    /// Those of the socket; after `WouldBlock` the rest is kept.
    pub(crate) fn write_to(&mut self, socket: &mut impl Write, scratch: &mut Scratch) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.output.write_to(socket, usize::MAX).1 {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => drop(result?),
            }
        }
        self.output.take_back(&mut scratch.spare, false);
        Ok(())
    }

    /// Runs the complete frames in `input`, and returns how many bytes were consumed.
    fn run(&mut self, input: &[u8], shards: &Shards, scratch: &mut Scratch) -> usize {
        let mut at = 0;
        let mut batch = Vec::with_capacity(BATCH_COMMANDS);
        self.needed = 0;
        while at < input.len() && !self.broken && !self.is_choked() {
            if self.incoming.is_some() {
                at += self.receive(&input[at..], shards, scratch);
                continue;
            }
            let mut end = at;
            let mut next = Err(Stop::Incomplete(0));
            while end < input.len() && batch.len() < BATCH_COMMANDS {
                next = stash::parse(&input[end..], shards.value_bytes_max, None);
                let Ok((command, consumed)) = next else {
                    break;
                };
                end += consumed;
                batch.push((shards.hash(command.key), command));
            }
            self.answer(&mut batch, shards, scratch);
            batch.clear();
            at = end;
            match next {
                Ok(_) => {}
                Err(Stop::Incomplete(needed)) => {
                    self.needed = needed;
                    break;
                }
                Err(Stop::Long(value_bytes, consumed)) => {
                    // Its head is complete. Parsed once more with an empty value, it gives the key.
                    let head = [&input[at..at + consumed], LINE_END].concat();
                    let parsed = stash::parse(&head, shards.value_bytes_max, Some(Value::default()));
                    let key = parsed.map_or(&[][..], |(command, _)| command.key).to_vec();
                    at += consumed;
                    self.incoming = Some(Incoming {
                        hash: shards.hash(&key),
                        key,
                        chunks: Vec::new(),
                        filling: None,
                        value_left: value_bytes,
                        end: 0,
                    });
                }
                Err(_) => self.break_off(),
            }
        }
        if self.broken { input.len() } else { at }
    }

    /// Runs a batch, and restores the order of its commands for the replies.
    fn answer(&mut self, batch: &mut [(KeyHash, Command<'_>)], shards: &Shards, scratch: &mut Scratch) {
        let (output, unordered) = (&mut self.output, &mut scratch.unordered);
        if batch.len() == 1 {
            shards.execute(batch, |_, reply| stash::encode(reply, output));
            return;
        }
        let mut ranges = [(0, 0); BATCH_COMMANDS];
        let mut chunks = Vec::new();
        shards.execute(batch, |place, reply| {
            let start = unordered.len();
            match reply {
                Reply::Value(value) if !value.chunks.is_empty() => {
                    chunks.push((place, value.chunks.to_vec()));
                    unordered.push_value(Value::small(value.rest), LINE_END);
                }
                reply => stash::encode(reply, unordered),
            }
            ranges[place] = (start, unordered.len());
        });
        let bytes = unordered.contiguous().unwrap_or_default();
        for (place, (start, end)) in ranges[..batch.len()].iter().enumerate() {
            let reply = &bytes[*start..*end];
            match chunks.iter().find(|(of, _)| *of == place) {
                Some((_, chunks)) => {
                    let rest = &reply[..reply.len() - LINE_END.len()];
                    output.push_value(Value { chunks, rest }, LINE_END);
                }
                None => output.push(reply),
            }
        }
        unordered.consume(unordered.len());
    }

    /// Consumes bytes of a large value and of its frame's end, and runs the SET when it is complete.
    fn receive(&mut self, input: &[u8], shards: &Shards, scratch: &mut Scratch) -> usize {
        let Some(incoming) = &mut self.incoming else {
            return 0;
        };
        let mut at = 0;
        while incoming.value_left > 0 && at < input.len() {
            if incoming.filling.is_none() {
                incoming.filling = shards.chunk(incoming.hash);
            }
            // A store that evicts always has a chunk.
            let Some(chunk) = &mut incoming.filling else {
                self.break_off();
                return input.len();
            };
            let count = chunk.fill(&input[at..input.len().min(at + incoming.value_left)]);
            if chunk.room_bytes() == 0 {
                incoming.chunks.extend(incoming.filling.take().map(Chunk::freeze));
            }
            incoming.value_left -= count;
            at += count;
        }
        while incoming.value_left == 0 && incoming.end < LINE_END.len() && at < input.len() {
            if input[at] != LINE_END[incoming.end] {
                self.break_off();
                return input.len();
            }
            incoming.end += 1;
            at += 1;
        }
        if incoming.end == LINE_END.len()
            && let Some(Incoming { hash, key, chunks, filling, .. }) = self.incoming.take()
        {
            let value = Value { chunks: &chunks, rest: filling.as_ref().map_or(&[], Chunk::as_ref) };
            self.answer(&mut [(hash, Command { key: &key, action: Action::Set(value) })], shards, scratch);
        }
        at
    }

    fn break_off(&mut self) {
        self.broken = true;
        self.incoming = None;
        self.output.push(stash::ERROR_REPLY);
    }
}
