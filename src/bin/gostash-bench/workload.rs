//! The bytes of the work: keys, values, encoded requests, and the parsing of replies. Key and value follow from a key's
//! number, so any reply can be checked without remembering what was set. It knows no socket and no clock.

use std::fmt;
use std::iter::zip;
use std::ops::Range;

use bytes::Bytes;
use fastrand::Rng;
use gostash::command::Value;
use gostash::limits::CHUNK_BYTES;
use gostash::output::Output;

use crate::options::Options;
use crate::protocol::{Operation, Outcome};

/// The number of different values. As many keys in a row have one each; the next ones have the same in another order.
const VALUES: usize = 1 << 18;

/// A line of more bytes than this is not a valid reply, whether its end has come or not.
const LINE_BYTES_MAX: usize = 512;

/// Where INC and DEC start: far from a number of another length, and from 0, below which memcached does not count.
pub const FIRST_NUMBER: i64 = 5_000_000_000_000;

/// A request that waits for its reply.
#[derive(Clone, Copy)]
pub struct Request {
    pub operation: Operation,
    /// The key's number.
    pub id: u32,
    /// The length of the key's value, in bytes.
    pub value_bytes: usize,
    /// With `--verify`, for INC and DEC: how many requests before it have written its key.
    pub writes: i64,
    /// When it was due, in nanoseconds since the phase began.
    pub due_nanos: u64,
}

/// A length in bytes, or a range of lengths from which each key has one.
#[derive(Clone, Copy, Default)]
pub struct Sizes {
    pub low: usize,
    pub high: usize,
}

impl Sizes {
    /// One length of the range, always the same for the same seed.
    #[inline(always)]
    pub fn pick(self, seed: u32) -> usize {
        // Spread over 64 bits, or what is drawn from 1, 2 and 3 would be related, and from a number and its complement.
        let spread = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if self.is_fixed() { self.low } else { Rng::with_seed(spread).usize(self.low..=self.high) }
    }

    fn is_fixed(self) -> bool {
        self.low == self.high
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_fixed() { write!(f, "{}", self.low) } else { write!(f, "{}-{}", self.low, self.high) }
    }
}

/// Encodes requests and parses replies.
pub struct Workload<'a> {
    pub options: &'a Options,
    /// The bytes that all values are slices of.
    shared: Bytes,
    /// In the order of the operations.
    exchanges: [Exchange; Operation::ALL.len()],
}

/// An operation in the protocol's words.
struct Exchange {
    request: Template,
    /// The reply if it succeeds.
    reply: Template,
    /// The reply if there is no such key.
    miss: &'static str,
}

/// A head, then perhaps a value and what ends it.
struct Template {
    /// The head: alternately text and the name of a placeholder. What is the same for all keys has become text already.
    parts: Vec<String>,
    /// The head of the last request.
    head: Vec<u8>,
    /// Where in the head the last eight digits of a key go, if all keys have the same length.
    digits_at: Option<usize>,
    /// What follows the value; `None` if there is no value.
    end: Option<String>,
    /// Whether the value is a number, which the server computes.
    is_number: bool,
}

/// The head of a reply.
pub struct Head {
    pub outcome: Outcome,
    /// How many bytes it has.
    pub bytes: usize,
    /// How many bytes follow it: a value and its end.
    pub body_bytes: usize,
}

impl<'a> Workload<'a> {
    pub fn new(options: &'a Options) -> Self {
        let mut shared = vec![0; VALUES - 1 + options.value_size.high];
        Rng::with_seed(0).fill(&mut shared);
        // With this bit set no byte is a capital letter, so no value begins as `ERR` does.
        shared.iter_mut().for_each(|byte| *byte |= 0x20);
        if options.counts() {
            shared = FIRST_NUMBER.to_string().into_bytes();
        }
        // An echo that stands in for a server whose replies have another length.
        let filler = options.request_bytes.map(|bytes| "x".repeat(bytes));
        let exchanges = options.protocol.exchanges.map(|(request, reply, miss)| {
            let (request, reply, miss) = match &filler {
                Some(filler) => (filler.as_str(), "{v}", ""),
                None if options.protocol.name == "echo" => (request, request, ""),
                None => (request, reply, miss),
            };
            Exchange { request: Template::new(options, request), reply: Template::new(options, reply), miss }
        });
        Workload { options, shared: shared.into(), exchanges }
    }

    /// Appends a request's bytes, those of a large value's whole chunks by reference.
    pub fn write(&mut self, request: &Request, out: &mut Output) {
        let template = &mut self.exchanges[request.operation as usize].request;
        out.push(template.head(request, self.options.key_size));
        if template.end.is_some() {
            let Range { start, end } = self.value(request);
            let chunks_end = end - request.value_bytes % CHUNK_BYTES;
            let chunks = (start..chunks_end).step_by(CHUNK_BYTES).map(|at| self.shared.slice(at..at + CHUNK_BYTES));
            let chunks: Vec<Bytes> = chunks.collect();
            out.push_value(Value { chunks: &chunks, rest: &self.shared[chunks_end..end] }, b"\r\n");
        }
    }

    /// The place of a request's value in the shared bytes.
    fn value(&self, request: &Request) -> Range<usize> {
        let (id, starts) = (request.id as usize, self.shared.len() + 1 - self.options.value_size.high);
        let start = id.wrapping_add(Rng::with_seed((id / starts) as u64).usize(..)) % starts;
        start..start + request.value_bytes
    }

    /// The length of a successful reply, in bytes; `None` if only formatting its head tells, or a miss is no shorter.
    pub fn reply_bytes(&self, request: &Request) -> Option<usize> {
        let Exchange { reply, miss, .. } = &self.exchanges[request.operation as usize];
        let bytes = reply.head.len() + reply.body_bytes(request);
        (!reply.varies() && bytes > miss.len()).then_some(bytes)
    }

    /// Parses the head of the reply to a request from `input`, which is not empty; `None` if it is incomplete. In a
    /// preload nothing may be refused. With `--verify` neither, a number must be the right one, and only a GET may miss,
    /// if not all keys were set before.
    pub fn parse_head(&mut self, request: &Request, input: &[u8], is_preload: bool) -> Result<Option<Head>, String> {
        let Options { verify, preload, protocol, .. } = self.options;
        let Request { operation, writes, .. } = *request;
        let Exchange { reply, miss, .. } = &mut self.exchanges[operation as usize];
        let (is_number, body_bytes) = (reply.is_number, reply.body_bytes(request));
        let head = reply.head(request, self.options.key_size);
        // No value begins with a capital letter, and the lines that come instead of one do.
        let is_line = is_number || (head.is_empty() && input[0].is_ascii_uppercase());
        if !is_line && input.starts_with(head) {
            return Ok(Some(Head { outcome: Outcome::Done, bytes: head.len(), body_bytes }));
        }
        let line = input.split_inclusive(|&byte| byte == b'\n').next().unwrap_or_default();
        if !line.ends_with(b"\n") && line.len() <= LINE_BYTES_MAX.max(head.len()) {
            return Ok(None);
        }
        let number = || str::from_utf8(line.strip_prefix(head)?.strip_suffix(b"\r\n")?).ok()?.parse::<i64>().ok();
        let right_number = FIRST_NUMBER + writes * if operation == Operation::Inc { 1 } else { -1 };
        let is_right = || line == [head, right_number.to_string().as_bytes(), b"\r\n"].concat();
        let is_refusal = |it: &&str| line.starts_with(it.as_bytes()) && line.len() <= LINE_BYTES_MAX;
        let outcome = match number() {
            Some(_) if is_number && (!verify || is_right()) => Outcome::Done,
            None if line == miss.as_bytes() && (!verify || operation == Operation::Get && !preload) => Outcome::Miss,
            None if !verify && !is_preload && protocol.refusals.iter().any(is_refusal) => Outcome::Refused,
            _ => {
                let expected = match head {
                    _ if is_number && *verify => right_number.to_string(),
                    [] => "a value".to_owned(),
                    head => quote(head),
                };
                return Err(self.wrong(request, &format!("expected {expected}, got {}", quote(line))));
            }
        };
        Ok(Some(Head { outcome, bytes: line.len(), body_bytes: 0 }))
    }

    /// Checks a piece of a reply's body, of which `left` bytes had not been read before. What ends the value is always
    /// checked, since it proves the length; the value itself only with `--verify`.
    pub fn check(&self, request: &Request, left: usize, piece: &[u8]) -> Result<(), String> {
        let length = request.value_bytes;
        let reply = &self.exchanges[request.operation as usize].reply;
        let end = reply.end.as_deref().unwrap_or_default().as_bytes();
        let at = reply.body_bytes(request) - left;
        let (value, rest) = piece.split_at(length.saturating_sub(at).min(piece.len()));
        if !end[at.saturating_sub(length)..].starts_with(rest) {
            let problem = format!("expected {} after {length} bytes of value, got {}", quote(end), quote(rest));
            return Err(self.wrong(request, &problem));
        }
        let expected = || &self.shared[self.value(request)][at.min(length)..][..value.len()];
        if !self.options.verify || value == expected() {
            return Ok(());
        }
        let same = zip(value, expected()).take_while(|(got, expected)| got == expected).count();
        let problem = format!("byte {} of {length} differs from what was set", at + same + 1);
        Err(self.wrong(request, &format!("{problem}, got {}", quote(&value[same..]))))
    }

    fn wrong(&self, request: &Request, problem: &str) -> String {
        let mut key = Vec::new();
        write_key(request.id, self.options.key_size.pick(request.id), &mut key);
        format!("wrong reply to {} {}: {problem}", request.operation.name(), key.escape_ascii())
    }
}

impl Template {
    fn new(options: &Options, text: &str) -> Template {
        let Options { key_size, value_size, .. } = options;
        let mut text = text.to_owned();
        let mut digits_at = None;
        if key_size.is_fixed() && key_size.low >= 8 {
            text = text.replace("{K}", &key_size.low.to_string());
            digits_at = text.find("{k}").map(|at| at + key_size.low - 8);
            let mut key = Vec::new();
            write_key(0, key_size.low, &mut key);
            text = text.replace("{k}", &key.escape_ascii().to_string());
        }
        if value_size.is_fixed() {
            text = text.replace("{V}", &value_size.low.to_string());
        }
        let is_number = text.contains("{n}");
        let (head, end) = match text.split_once(if is_number { "{n}" } else { "{v}" }) {
            Some((head, end)) => (head, Some(end.to_owned())),
            None => (text.as_str(), None),
        };
        let parts = head.split(['{', '}']).map(str::to_owned).collect();
        Template { parts, head: head.into(), digits_at, end, is_number }
    }

    /// Whether more of the head varies than the last digits of the key.
    fn varies(&self) -> bool {
        self.parts.len() > 1
    }

    /// The head for this request.
    #[inline(always)]
    fn head(&mut self, request: &Request, key_size: Sizes) -> &[u8] {
        if self.varies() {
            let key_bytes = key_size.pick(request.id);
            self.head.clear();
            for (place, part) in self.parts.iter().enumerate() {
                match part.as_str() {
                    text if place % 2 == 0 => self.head.extend_from_slice(text.as_bytes()),
                    "k" => write_key(request.id, key_bytes, &mut self.head),
                    "K" => self.head.extend_from_slice(itoa::Buffer::new().format(key_bytes).as_bytes()),
                    _ => self.head.extend_from_slice(itoa::Buffer::new().format(request.value_bytes).as_bytes()),
                }
            }
        }
        if let Some(at) = self.digits_at {
            self.head[at..at + 8].copy_from_slice(&digits(request.id));
        }
        &self.head
    }

    /// The length of what follows the head: the value and its end.
    fn body_bytes(&self, request: &Request) -> usize {
        self.end.as_ref().map_or(0, |end| request.value_bytes + end.len())
    }
}

/// Appends a key: `key:` and its number in hexadecimal digits, padded with zeros. A short key is digits alone.
fn write_key(id: u32, bytes: usize, out: &mut Vec<u8>) {
    let prefix = if bytes >= 12 { "key:" } else { "" };
    out.extend_from_slice(prefix.as_bytes());
    out.resize(out.len() + (bytes - prefix.len()).saturating_sub(8), b'0');
    out.extend_from_slice(&digits(id)[8_usize.saturating_sub(bytes)..]);
}

/// The first of some bytes, for a message.
pub fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(48)];
    format!("'{}'{}", shown.escape_ascii(), if shown.len() < bytes.len() { "..." } else { "" })
}

/// A number as eight hexadecimal digits.
fn digits(id: u32) -> [u8; 8] {
    // Spread one nibble into each byte, then make letters of those above 9. To look each up would take more instructions,
    // a tenth of a request's.
    let mut nibbles = u64::from(id);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}
