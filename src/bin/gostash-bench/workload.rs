//! The work: what keys and values look like, requests ready to be sent, and how a reply begins. Everything follows
//! from a key's number, so any reply can be checked without remembering it. It knows no socket and no clock.

use std::fmt;

use crate::draws::{Random, mix};
use crate::options::Options;
use crate::output::Output;
use crate::protocol::{Operation, Outcome};

/// Values begin with so many bytes of their own; the rest they share, at an offset of their own.
const STAMP_BYTES: usize = 8;

/// How far apart the offsets of two values may be in the bytes they share.
const OFFSETS: usize = 1 << 16;

/// A value from this length on, in bytes, is sent from where it lies.
const BORROW_BYTES: usize = 16 * 1024;

/// What numbers start from: far from changing their length, and from the 0 below which memcached does not count.
pub const FIRST_NUMBER: i64 = 5_000_000_000_000;
pub const FIRST_DIGITS: &[u8] = b"5000000000000";

/// A line longer than this is not a reply to anything we send, in bytes.
const LINE_BYTES_MAX: usize = 512;

/// A length that nobody knows.
pub const UNKNOWN: usize = usize::MAX;

/// One request, until it has its reply.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    pub operation: Operation,
    /// The key's number.
    pub id: u32,
    /// How long the key's value is, in bytes.
    pub value_bytes: usize,
    /// For `--verify`: what the model knew when it was sent.
    pub known: u32,
    /// When it was due, in nanoseconds of the run's clock.
    pub due_nanos: u64,
}

/// A length in bytes, or a range from which each key takes one for itself.
#[derive(Clone, Copy, Default)]
pub struct Sizes {
    pub low: usize,
    pub high: usize,
}

impl Sizes {
    pub fn exactly(bytes: usize) -> Self {
        Sizes { low: bytes, high: bytes }
    }

    /// What number `random` of the range's lengths is.
    fn pick(self, random: u32) -> usize {
        let choices = (self.high - self.low + 1) as u64;
        self.low + ((u64::from(random) * choices) >> 32) as usize
    }

    pub fn is_fixed(self) -> bool {
        self.low == self.high
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_fixed() { write!(f, "{}", self.low) } else { write!(f, "{}-{}", self.low, self.high) }
    }
}

/// Turns requests into bytes, and bytes into outcomes.
pub struct Workload {
    pub options: Options,
    /// What all values are cut from.
    pub shared: Vec<u8>,
    /// By operation.
    phrases: Vec<Phrase>,
}

struct Phrase {
    request: Message,
    reply: Message,
    miss: &'static [u8],
}

/// A request or a reply: a head, then perhaps a value, and what follows that.
struct Message {
    /// Text and, at every other place, what stands between braces.
    head: Vec<String>,
    /// The head for key 0, if it is as long for all keys.
    template: Option<Vec<u8>>,
    /// Where in the template the digits of a key belong.
    digits_at: Option<usize>,
    /// What follows a value; nothing if there is none.
    end: Option<String>,
    /// Whether the value is a number, which in a reply nobody knows beforehand.
    is_number: bool,
}

type Answer = Result<Option<(Outcome, usize, usize)>, String>;

impl Workload {
    pub fn new(options: &Options) -> Self {
        let mut random = Random(0);
        let words = (OFFSETS + options.value_size.high).div_ceil(8);
        let shared = match options.counts() {
            true => FIRST_DIGITS.to_vec(),
            false => (0..words).flat_map(|_| random.next().to_le_bytes()).collect(),
        };
        let mut workload = Workload { options: options.clone(), shared, phrases: Vec::new() };
        let sent = options.shape().map(|(request_bytes, _)| "x".repeat(request_bytes));
        let phrases = options.protocol.phrases.iter().map(|&(request, reply, miss)| {
            let (reply, miss) = match sent {
                Some(_) => ("{v}", ""),
                None if options.protocol.name == "echo" => (request, ""),
                None => (reply, miss),
            };
            let request = workload.message(sent.as_deref().unwrap_or(request));
            Phrase { request, reply: workload.message(reply), miss: miss.as_bytes() }
        });
        workload.phrases = phrases.collect();
        workload
    }

    fn message(&self, text: &str) -> Message {
        let (head, end) = text.split_once("{v}").map_or((text, None), |(head, end)| (head, Some(end.to_owned())));
        let head: Vec<String> = head.split(['{', '}']).map(str::to_owned).collect();
        let Options { key_size, value_size, .. } = &self.options;
        let write = |parts| {
            let mut out = Vec::new();
            self.write_parts(parts, 0, value_size.low, &mut out);
            out
        };
        let is_fixed = head.iter().skip(1).step_by(2).all(|name| match name.as_str() {
            "V" => value_size.is_fixed(),
            _ => key_size.is_fixed() && key_size.low >= 8,
        });
        let template = is_fixed.then(|| write(&head));
        let key = head.iter().position(|part| part == "k").filter(|_| is_fixed);
        let digits_at = key.map(|place| write(&head[..=place]).len() - 8);
        // An echo's number is the one that was sent.
        let is_number = end.is_some() && self.options.counts() && self.options.protocol.name != "echo";
        Message { template, digits_at, head, is_number, end }
    }

    /// Appends a request's bytes, and returns how long the reply is if all goes well; [`UNKNOWN`] if only writing it
    /// would tell, or if a miss is as long.
    #[inline]
    pub fn write(&self, operation: Operation, id: u32, value_bytes: usize, out: &mut Output) -> usize {
        let Phrase { request, reply, miss } = &self.phrases[operation as usize];
        self.write_head(request, id, value_bytes, &mut out.bytes);
        if request.end.is_some() {
            self.write_value(id, value_bytes, out);
            // So it is in every protocol; a copy of a length that the compiler knows is a few stores.
            out.bytes.extend_from_slice(b"\r\n");
        }
        let Some(head) = &reply.template else { return UNKNOWN };
        let bytes = head.len() + reply.body_bytes(value_bytes);
        if bytes == miss.len() { UNKNOWN } else { bytes }
    }

    #[inline]
    fn write_head(&self, message: &Message, id: u32, value_bytes: usize, out: &mut Vec<u8>) {
        let Some(template) = &message.template else {
            return self.write_parts(&message.head, id, value_bytes, out);
        };
        let start = out.len();
        out.extend_from_slice(template);
        if let Some(at) = message.digits_at {
            out[start + at..start + at + 8].copy_from_slice(&digits(id));
        }
    }

    #[inline(never)]
    fn write_parts(&self, parts: &[String], id: u32, value_bytes: usize, out: &mut Vec<u8>) {
        let number = |bytes, out: &mut Vec<u8>| out.extend_from_slice(itoa::Buffer::new().format(bytes).as_bytes());
        for (place, part) in parts.iter().enumerate() {
            match part.as_str() {
                text if place % 2 == 0 => out.extend_from_slice(text.as_bytes()),
                "k" => self.write_key(id, out),
                "K" => number(self.key_bytes(id), out),
                _ => number(value_bytes, out),
            }
        }
    }

    /// `key:` and the number in hexadecimal digits, filled up with zeros; a short key is digits alone.
    fn write_key(&self, id: u32, out: &mut Vec<u8>) {
        let length = self.key_bytes(id);
        let prefix = if length >= 12 { "key:" } else { "" };
        out.extend_from_slice(prefix.as_bytes());
        out.resize(out.len() + (length - prefix.len()).saturating_sub(8), b'0');
        out.extend_from_slice(&digits(id)[8_usize.saturating_sub(length)..]);
    }

    fn key_bytes(&self, id: u32) -> usize {
        self.options.key_size.pick(mix(id) as u32)
    }

    /// The length of a key's value, in bytes.
    #[inline]
    pub fn value_bytes(&self, id: u32) -> usize {
        let Sizes { low, high } = self.options.value_size;
        if low == high { low } else { self.options.value_size.pick((mix(id) >> 32) as u32) }
    }

    #[inline]
    fn write_value(&self, id: u32, value_bytes: usize, out: &mut Output) {
        let (stamp, from) = self.value(id);
        let end = out.bytes.len() + value_bytes;
        out.bytes.extend_from_slice(&stamp);
        if value_bytes >= BORROW_BYTES {
            out.borrowed.push((out.bytes.len(), from + STAMP_BYTES..from + value_bytes));
            return;
        }
        out.bytes.extend_from_slice(&self.shared[from + STAMP_BYTES..from + value_bytes.max(STAMP_BYTES)]);
        out.bytes.truncate(end);
    }

    /// A value's own bytes, and where those begin that it shares, with room for its own. The first of all is a small
    /// letter, or a digit, so that no value can be taken for `ERR`.
    #[inline]
    fn value(&self, id: u32) -> ([u8; STAMP_BYTES], usize) {
        if self.options.counts() {
            return (*b"50000000", 0);
        }
        let mut stamp = mix(!id).to_le_bytes();
        stamp[0] = b'a' + stamp[0] % 16;
        (stamp, mix(id) as usize % OFFSETS)
    }

    /// How `input`, which is not empty, begins to answer a request: what it says, in how many bytes, and how many are
    /// to follow; `None` if more are needed to tell. `scratch` is room to write in.
    #[inline]
    pub fn start(&self, request: &Request, input: &[u8], scratch: &mut Vec<u8>) -> Answer {
        let Phrase { reply, miss, .. } = &self.phrases[request.operation as usize];
        let head = match (&reply.template, reply.digits_at) {
            (Some(template), None) => template,
            _ => {
                scratch.clear();
                self.write_head(reply, request.id, request.value_bytes, scratch);
                scratch
            }
        };
        let is_line = reply.is_number || (head.is_empty() && miss.first() == input.first());
        if !is_line && input.starts_with(head) {
            return Ok(Some((Outcome::Done, head.len(), reply.body_bytes(request.value_bytes))));
        }
        if !is_line && head.starts_with(input) {
            return Ok(None);
        }
        self.line(request, head, input)
    }

    /// A number, or why there is no right reply.
    fn line(&self, request: &Request, head: &[u8], input: &[u8]) -> Answer {
        let Phrase { reply, miss, .. } = &self.phrases[request.operation as usize];
        let end = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n');
        if end.is_none() && input.len() < LINE_BYTES_MAX {
            return Ok(None);
        }
        let line = end.map_or(&[][..], |end| &input[..=end]);
        let number = || {
            let digits = line.strip_prefix(head)?.strip_suffix(reply.end.as_deref()?.as_bytes())?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        let outcome = if let Some(number) = reply.is_number.then(number).flatten() {
            Outcome::Number(number)
        } else if line == *miss && !line.is_empty() {
            Outcome::Miss
        } else if self.options.protocol.refusals.iter().any(|refusal| line.starts_with(refusal.as_bytes())) {
            Outcome::Refused
        } else {
            let expected = match reply.end {
                Some(_) if !reply.is_number => format!("a value of {} bytes", request.value_bytes),
                _ => "a reply in this protocol".to_owned(),
            };
            return Err(self.wrong(request, &format!("expected {expected}, got {}", quote(input))));
        };
        Ok(Some((outcome, line.len(), 0)))
    }

    /// Checks a piece of a right reply's body, of which `left` bytes had not come before: what ends the value always,
    /// since it proves the length; the value itself only if asked.
    #[inline]
    pub fn check(&self, request: &Request, left: usize, piece: &[u8]) -> Result<(), String> {
        let (length, reply) = (request.value_bytes, &self.phrases[request.operation as usize].reply);
        let (end, at) = (reply.end.as_deref().unwrap_or_default().as_bytes(), reply.body_bytes(length) - left);
        let (value, rest) = piece.split_at(length.saturating_sub(at).min(piece.len()));
        if !end[at.saturating_sub(length)..].starts_with(rest) {
            let (end, got) = (quote(end), quote(rest));
            return Err(self.wrong(request, &format!("expected {end} after {length} bytes of value, got {got}")));
        }
        if !self.options.verify || value.is_empty() || self.options.shape().is_some() {
            return Ok(());
        }
        let (stamp, from) = self.value(request.id);
        let own = &stamp[at.min(STAMP_BYTES)..];
        let (first, others) = value.split_at(own.len().min(value.len()));
        let shared = &self.shared[from + at + first.len()..][..others.len()];
        if own.starts_with(first) && others == shared {
            return Ok(());
        }
        let same = value.iter().zip(own.iter().chain(shared)).take_while(|(got, expected)| got == expected).count();
        let (place, got) = (at + same + 1, quote(&value[same..]));
        Err(self.wrong(request, &format!("byte {place} of {length} differs from what was set, got {got}")))
    }

    /// A sentence about a reply that is not what it must be.
    pub fn wrong(&self, request: &Request, problem: &str) -> String {
        let mut key = Vec::new();
        self.write_key(request.id, &mut key);
        format!("wrong reply to {} {}: {problem}", request.operation.name(), key.escape_ascii())
    }
}

impl Message {
    /// How long what follows the head is: a value and the end.
    #[inline]
    fn body_bytes(&self, value_bytes: usize) -> usize {
        self.end.as_ref().map_or(0, |end| value_bytes + end.len())
    }
}

/// Bytes as they are shown in a message.
pub fn quote(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(48)];
    format!("'{}'{}", shown.escape_ascii(), if shown.len() < bytes.len() { "..." } else { "" })
}

/// Eight hexadecimal digits.
#[inline]
fn digits(id: u32) -> [u8; 8] {
    // One nibble into each byte, then letters where a nibble exceeds 9.
    let mut nibbles = u64::from(id);
    nibbles = (nibbles | nibbles << 16) & 0x0000_ffff_0000_ffff;
    nibbles = (nibbles | nibbles << 8) & 0x00ff_00ff_00ff_00ff;
    nibbles = (nibbles | nibbles << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = ((nibbles + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}
