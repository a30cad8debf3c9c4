//! The work: what keys and values look like, requests ready to be sent, and how a reply begins. Everything follows from a
//! key's number, so any reply can be checked without remembering it. It knows no socket and no clock.

use std::fmt;
use std::io::Write;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    options: Options,
    /// What all values are cut from.
    pub shared: Vec<u8>,
    /// By operation.
    phrases: Vec<Phrase>,
}

struct Phrase {
    request: Message,
    reply: Message,
    miss: &'static [u8],
    /// How long the reply is if all goes well, where that is always the same and a miss is not as long.
    reply_bytes: Option<usize>,
}

/// A request or a reply: a head, then perhaps a value or a number, and what follows that.
struct Message {
    /// Text and, at every other place, what stands between braces.
    head: Vec<String>,
    /// The head for key 0, if it is as long for all keys.
    template: Option<Vec<u8>>,
    /// Where in the template the digits of a key belong.
    digits_at: Option<usize>,
    gap: Gap,
    end: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Gap {
    Nothing,
    Value,
    Number,
}

/// How the bytes begin that came for a request.
pub enum Start {
    /// With a line of so many bytes that says all.
    Line(Outcome, usize),
    /// With the head of the right reply, of so many bytes.
    Head(usize),
    /// More bytes are needed to tell.
    Partial,
    /// With nothing that answers it.
    Wrong,
}

impl Workload {
    pub fn new(options: &Options) -> Self {
        let mut random = Random(0);
        let words = (OFFSETS + options.value_size.high).div_ceil(8);
        let shared = match options.counts() {
            true => FIRST_DIGITS.to_vec(),
            false => (0..words).flat_map(|_| random.next().to_le_bytes()).collect(),
        };
        let mut workload = Workload { options: options.clone(), shared, phrases: Vec::new() };
        workload.phrases = workload.options.protocol.phrases.iter().map(|texts| workload.phrase(texts)).collect();
        workload
    }

    /// Appends a request's bytes, and returns how long the reply is if all goes well; `None` where a miss is as long.
    #[inline]
    pub fn write(&self, operation: Operation, id: u32, value_bytes: usize, out: &mut Output) -> Option<usize> {
        let phrase = &self.phrases[operation as usize];
        let request = &phrase.request;
        self.write_head(request, id, value_bytes, &mut out.bytes);
        if request.gap == Gap::Value {
            self.write_value(id, value_bytes, out);
            // So it is in every protocol; a copy of a length that the compiler knows is a few stores.
            out.bytes.extend_from_slice(b"\r\n");
        }
        phrase.reply_bytes.or_else(|| self.reply_bytes(phrase, id, value_bytes, &mut out.bytes))
    }

    /// How long that is, seen by writing the reply's head for a moment where there is room.
    #[inline(never)]
    fn reply_bytes(&self, phrase: &Phrase, id: u32, value_bytes: usize, room: &mut Vec<u8>) -> Option<usize> {
        let (reply, before) = (&phrase.reply, room.len());
        self.write_head(reply, id, value_bytes, room);
        let bytes = room.len() - before + reply.gap_bytes(value_bytes) + reply.end.len();
        room.truncate(before);
        (bytes != phrase.miss.len()).then_some(bytes)
    }

    /// How `input`, which is not empty, begins to answer a request. `scratch` is room to write in.
    #[inline]
    pub fn start(&self, request: &Request, input: &[u8], scratch: &mut Vec<u8>) -> Start {
        let Phrase { reply, miss, .. } = &self.phrases[request.operation as usize];
        let head = match (&reply.template, reply.digits_at) {
            (Some(template), None) => template,
            _ => {
                scratch.clear();
                self.write_head(reply, request.id, request.value_bytes, scratch);
                scratch
            }
        };
        if reply.gap != Gap::Number {
            if input.starts_with(head) && (!head.is_empty() || miss.first() != input.first()) {
                return Start::Head(head.len());
            }
            if input.len() < head.len() && head.starts_with(input) {
                return Start::Partial;
            }
        }
        self.line(reply, head, miss, input)
    }

    /// A number, or why there is no right reply.
    fn line(&self, reply: &Message, head: &[u8], miss: &[u8], input: &[u8]) -> Start {
        let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            return if input.len() < LINE_BYTES_MAX { Start::Partial } else { Start::Wrong };
        };
        let line = &input[..=end];
        let number = || {
            let digits = line.strip_prefix(head)?.strip_suffix(reply.end.as_bytes())?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        let outcome = if reply.gap == Gap::Number
            && let Some(number) = number()
        {
            Outcome::Number(number)
        } else if line == miss {
            Outcome::Miss
        } else if self.options.protocol.refusals.iter().any(|refusal| line.starts_with(refusal.as_bytes())) {
            Outcome::Refused
        } else {
            return Start::Wrong;
        };
        Start::Line(outcome, line.len())
    }

    /// The length of the value in the right reply to a request, in bytes, and what follows it.
    #[inline]
    pub fn body(&self, request: &Request) -> (usize, &[u8]) {
        let reply = &self.phrases[request.operation as usize].reply;
        (reply.gap_bytes(request.value_bytes), reply.end.as_bytes())
    }

    /// A request as a person would write it.
    pub fn describe(&self, request: &Request) -> String {
        let mut key = Vec::new();
        self.write_key(request.id, &mut key);
        format!("{} {}", request.operation.name(), key.escape_ascii())
    }

    /// The right reply to a request as a person would write it.
    pub fn describe_reply(&self, request: &Request) -> String {
        match self.phrases[request.operation as usize].reply.gap {
            Gap::Value => format!("a value of {} bytes", request.value_bytes),
            _ => "a reply in this protocol".to_owned(),
        }
    }

    fn phrase(&self, &(request, reply, miss): &(&str, &str, &'static str)) -> Phrase {
        let sent = self.options.shape().map(|(request_bytes, _)| "x".repeat(request_bytes));
        let mut phrase = Phrase {
            request: self.message(sent.as_deref().unwrap_or(request)),
            reply: self.message(if sent.is_some() { "{v}" } else { reply }),
            miss: miss.as_bytes(),
            reply_bytes: None,
        };
        let Sizes { low, high } = self.options.value_size;
        if phrase.reply.template.is_some() && (phrase.reply.gap != Gap::Value || low == high) {
            phrase.reply_bytes = self.reply_bytes(&phrase, 0, low, &mut Vec::new());
        }
        phrase
    }

    fn message(&self, phrase: &str) -> Message {
        let value = phrase.split_once("{v}").map(|(head, end)| (head, Gap::Value, end));
        let number = || phrase.split_once("{n}").map(|(head, end)| (head, Gap::Number, end));
        let (head, gap, end) = value.or_else(number).unwrap_or((phrase, Gap::Nothing, ""));
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
        Message { template, digits_at, head, gap, end: end.to_owned() }
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
        for (place, part) in parts.iter().enumerate() {
            match part.as_str() {
                text if place % 2 == 0 => out.extend_from_slice(text.as_bytes()),
                "k" => self.write_key(id, out),
                // Writing to memory does not fail.
                "K" => _ = write!(out, "{}", self.key_bytes(id)),
                _ => _ = write!(out, "{value_bytes}"),
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
        if self.options.value_size.is_fixed() {
            self.options.value_size.low
        } else {
            self.options.value_size.pick((mix(id) >> 32) as u32)
        }
    }

    #[inline]
    fn write_value(&self, id: u32, value_bytes: usize, out: &mut Output) {
        let (stamp, from) = self.value(id);
        let end = out.bytes.len() + value_bytes;
        out.bytes.extend_from_slice(&stamp);
        if value_bytes >= BORROW_BYTES {
            out.borrow(from + STAMP_BYTES..from + value_bytes);
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

    /// Where `piece`, which begins `at` bytes into the value of `id`, first differs from it.
    pub fn difference(&self, id: u32, at: usize, piece: &[u8]) -> Option<usize> {
        if self.options.shape().is_some() {
            return None;
        }
        let (stamp, from) = self.value(id);
        let own = &stamp[at.min(STAMP_BYTES)..];
        let (first, rest) = piece.split_at(own.len().min(piece.len()));
        let own = &own[..first.len()];
        let shared = &self.shared[from + at + own.len()..][..rest.len()];
        if first == own && rest == shared {
            return None;
        }
        let expected = own.iter().chain(shared);
        piece.iter().zip(expected).position(|(got, expected)| got != expected).map(|place| at + place)
    }
}

impl Message {
    /// A number is as long as a value, where there are numbers.
    #[inline]
    fn gap_bytes(&self, value_bytes: usize) -> usize {
        if self.gap == Gap::Nothing { 0 } else { value_bytes }
    }
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
