//! RESP, the Redis protocol: how frames are cut into arguments, and how replies are written, in versions 2 and 3.
//!
//! A command whose number of arguments is bounded is parsed anew from its first byte until it is whole, which is
//! linear since the number is small. One on any number of keys comes in parts instead, each parsed and executed
//! by itself, and one with more arguments than any command takes is skipped: what has to be remembered between two
//! calls is the small [`Cursor`], and memory follows neither the number of arguments nor their length. This file
//! knows no session, and of a command only what [`verbs`] says.

use std::fmt;

use super::verbs::{self, ADD_ONE, GET, SET, TAKE_ONE, VERBS, Verb};
use crate::command::{Command, Value};
use crate::limits::{
    FRAME_EXTRA_BYTES, KEY_BYTES_MAX, LENGTH_DIGITS_MAX, RESP_ARGUMENTS_MAX, SMALL_VALUE_BYTES_MAX,
    STRANGER_ARGUMENTS_MAX, STRANGER_BYTES_MAX,
};
use crate::output::Output;

/// How many arguments a command that does not come in parts can have, its name apart: CLIENT KILL with all its filters.
pub const ARGUMENTS_MAX: usize = 15;

/// What a client may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// It has said the password, or none is needed.
    pub authenticated: bool,
}

/// Where a session is within a frame whose beginning has been taken from the input.
#[derive(Clone, Copy, Debug, Default)]
pub enum Cursor {
    /// Between two frames.
    #[default]
    Between,
    /// In a command that comes in parts.
    Parts {
        /// The command.
        verb: &'static Verb,
        /// Arguments still to come.
        left: usize,
        /// How many bytes they may have.
        bytes_left: usize,
    },
    /// In a frame that has been answered before its end, with an error.
    Skipping {
        /// Arguments still to come.
        left: usize,
        /// Bytes still to come of the one before them, its line end included.
        bytes: usize,
    },
}

/// The arguments of a frame, or of one part of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    /// The command's name; empty for a part.
    pub name: &'a [u8],
    slots: [&'a [u8]; ARGUMENTS_MAX],
    count: usize,
    long: Option<(usize, Value<'a>)>,
}

/// What stands at the start of the input.
#[derive(Clone, Copy, Debug)]
pub enum Parsed {
    /// A whole frame. Its verb is absent if it is not known.
    Frame(Option<&'static Verb>, usize),
    /// The beginning of a frame that comes in so many parts.
    Head(&'static Verb, usize, usize),
    /// One part of it, and whether it is the last.
    Part(&'static Verb, bool, usize),
    /// The beginning of a frame that has too many or too long arguments for its verb: so many, the name included.
    /// The rest of it will be skipped.
    Excess(Option<&'static Verb>, usize, usize),
    /// Bytes that mean nothing.
    Nothing(usize),
    /// The beginning of a frame up to an argument of so many bytes, which are better taken as they come.
    Long(usize, usize),
    /// The beginning of any of these. Parsing again is pointless before the input is so many bytes long.
    Incomplete(usize),
}

/// Why the input cannot be the start of a frame. No later byte can mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// A frame begins with something else than `*`.
    NoArray(u8),
    /// An argument begins with something else than `$`.
    NoBulk(u8),
    /// The number of arguments is none, or over its limit.
    Count,
    /// A length is none, or over its limit.
    Length,
    /// The number of arguments is over what a client may send before it has said the password.
    StrangerCount,
    /// A length is, likewise.
    StrangerLength,
    /// An argument is not followed by CRLF.
    NoLineEnd,
}

/// Redis's words, where it has any.
impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::NoArray(got) => write!(f, "expected '*', got '{}'", got.escape_ascii()),
            ParseError::NoBulk(got) => write!(f, "expected '$', got '{}'", got.escape_ascii()),
            ParseError::Count => f.write_str("invalid multibulk length"),
            ParseError::Length => f.write_str("invalid bulk length"),
            ParseError::StrangerCount => f.write_str("unauthenticated multibulk length"),
            ParseError::StrangerLength => f.write_str("unauthenticated bulk length"),
            ParseError::NoLineEnd => f.write_str("expected CRLF after an argument"),
        }
    }
}

impl Parsed {
    /// How many bytes of the input it took; none if it is incomplete.
    #[inline]
    pub fn consumed(&self) -> usize {
        match *self {
            Parsed::Frame(_, consumed)
            | Parsed::Head(.., consumed)
            | Parsed::Part(.., consumed)
            | Parsed::Excess(.., consumed)
            | Parsed::Nothing(consumed)
            | Parsed::Long(_, consumed) => consumed,
            Parsed::Incomplete(_) => 0,
        }
    }
}

impl<'a> Arguments<'a> {
    /// Those that are not long; a long one is an empty slice here.
    pub fn all(&self) -> &[&'a [u8]] {
        &self.slots[..self.count]
    }

    /// Whether one of them is long.
    pub fn has_long(&self) -> bool {
        self.long.is_some()
    }

    /// One of them as a value.
    pub fn value(&self, at: usize) -> Value<'a> {
        match self.long {
            Some((place, value)) if place == at => value,
            _ => Value::small(self.slots[at]),
        }
    }
}

/// Whether a client that sends this byte first speaks RESP: no GoStash command begins with any of these.
#[inline]
pub fn is_first_byte(byte: u8) -> bool {
    matches!(byte, b'*' | b'P' | b'p')
}

/// Reads a whole frame of one of the commands that a cache is asked most, as clients write them, with nothing
/// unusual about it: what it asks for, the command's row, and the frame's length. `None` tells nothing: [`parse`] does.
#[inline]
pub fn parse_plain(input: &[u8], value_bytes_max: usize) -> Option<(Command<'_>, &'static Verb, usize)> {
    // `*2`, CRLF, `$4`, CRLF and up to eight letters, of which those that are not the name's are blanked.
    let (head, word) = input.first_chunk::<16>()?.split_at(8);
    let [b'*', count, b'\r', b'\n', b'$', length @ b'3'..=b'4', b'\r', b'\n'] = *head else {
        return None;
    };
    let end = 8 + usize::from(length - b'0');
    let word = u64::from_le_bytes(word.try_into().ok()?) | 0x2020_2020_2020_2020;
    let word = if length == b'3' { word & 0xFF_FFFF } else { word & 0xFFFF_FFFF };
    if !input[end..].starts_with(b"\r\n$") {
        return None;
    }
    let (key, end) = plain_bulk(input, end + 3, KEY_BYTES_MAX)?;
    let is = |name: &[u8]| name.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) == word;
    let (command, verb) = match count {
        b'3' if is(b"set") && input.get(end) == Some(&b'$') => {
            let (value, end) = plain_bulk(input, end + 1, value_bytes_max.min(SMALL_VALUE_BYTES_MAX))?;
            let value = Value::small(value);
            return Some((Command::Set { key, value }, &VERBS[SET], end));
        }
        b'2' if is(b"get") => (Command::Get { key }, GET),
        b'2' if is(b"incr") => (Command::Add { key, delta: 1 }, ADD_ONE),
        b'2' if is(b"decr") => (Command::Add { key, delta: -1 }, TAKE_ONE),
        _ => return None,
    };
    Some((command, &VERBS[verb], end))
}

/// A bulk string whose length begins at `at`, and what follows its line end.
#[inline]
fn plain_bulk(input: &[u8], at: usize, max: usize) -> Option<(&[u8], usize)> {
    let rest = input.get(at..)?;
    let mut length = 0;
    for (digits, &byte) in rest.iter().enumerate().take(6) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let content = rest.get(digits..)?.strip_prefix(b"\r\n")?;
            let (bulk, end) = content.split_at_checked(length)?;
            let plain = digits > 0 && length <= max && end.starts_with(b"\r\n");
            return plain.then_some((bulk, at + digits + 2 + length + 2));
        }
        length = length * 10 + usize::from(digit);
    }
    None
}

/// What ends a step of the parser early.
enum Stop {
    Incomplete(usize),
    Long(usize, usize),
    /// An argument is too long: arguments left behind it, how many bytes it has with its line end, and where they begin.
    TooLong(usize, usize, usize),
    Broken(ParseError),
}

/// Reads what stands at the start of `input`, within the frame that `cursor` tells of, and moves the cursor on.
/// `aside` is the value that an earlier [`Parsed::Long`] announced, once it has come in: its bytes are not in the input.
///
/// # Errors
/// A [`ParseError`] at the earliest byte that shows it.
pub fn parse<'a>(
    input: &'a [u8],
    cursor: &mut Cursor,
    limits: &Limits,
    aside: Option<Value<'a>>,
    arguments: &mut Arguments<'a>,
) -> Result<Parsed, ParseError> {
    let parsed = match *cursor {
        Cursor::Between => frame(input, cursor, limits, aside, arguments),
        Cursor::Skipping { left, bytes } => skip(input, cursor, limits, left, bytes),
        Cursor::Parts { verb, left, bytes_left } => {
            arguments.name = &[];
            let step = verb.part();
            take(input, 0, step, verb.value_at(), limits, aside, arguments).and_then(|end| {
                let bytes = end + aside.map_or(0, |value| value.len());
                let bytes_left = bytes_left.checked_sub(bytes);
                let bytes_left = bytes_left.ok_or(Stop::Broken(ParseError::Length))?;
                let left = left - step;
                *cursor = match left {
                    0 => Cursor::Between,
                    _ => Cursor::Parts { verb, left, bytes_left },
                };
                Ok(Parsed::Part(verb, left == 0, end))
            })
        }
    };
    match parsed {
        Ok(parsed) => Ok(parsed),
        Err(Stop::Incomplete(needed)) => Ok(Parsed::Incomplete(needed)),
        Err(Stop::Long(bytes, consumed)) => Ok(Parsed::Long(bytes, consumed)),
        Err(Stop::TooLong(..)) => Err(ParseError::Length),
        Err(Stop::Broken(error)) => Err(error),
    }
}

fn frame<'a>(
    input: &'a [u8],
    cursor: &mut Cursor,
    limits: &Limits,
    aside: Option<Value<'a>>,
    arguments: &mut Arguments<'a>,
) -> Result<Parsed, Stop> {
    let Some(&first) = input.first() else {
        return Err(Stop::Incomplete(1));
    };
    if first != b'*' {
        return inline_ping(input, first, arguments);
    }
    let (count, at) = number(input, 1, ParseError::Count)?;
    if count <= 0 {
        return Ok(Parsed::Nothing(at));
    }
    let count = count as usize;
    if !limits.authenticated && count > STRANGER_ARGUMENTS_MAX {
        return Err(Stop::Broken(ParseError::StrangerCount));
    }
    if count > RESP_ARGUMENTS_MAX {
        return Err(Stop::Broken(ParseError::Count));
    }
    let mut at = take(input, at, 1, None, limits, None, arguments)?;
    arguments.name = arguments.slots[0];
    let verb = verbs::find(arguments.name);
    let (mut left, mut bytes) = (count - 1, 0);
    match verb {
        Some(verb) if verb.comes_in_parts() && verb.takes(count) => {
            *cursor = Cursor::Parts { verb, left, bytes_left: limits.value_bytes_max + FRAME_EXTRA_BYTES };
            return Ok(Parsed::Head(verb, left / verb.part(), at));
        }
        _ if left > ARGUMENTS_MAX => {}
        _ => {
            let value_at = verb.and_then(Verb::value_at);
            match take(input, at, left, value_at, limits, aside, arguments) {
                Ok(end) => return Ok(Parsed::Frame(verb, end)),
                Err(Stop::TooLong(still, length, from)) => (left, bytes, at) = (still, length, from),
                Err(stop) => return Err(stop),
            }
        }
    }
    (arguments.count, arguments.long) = (0, None);
    if left + bytes > 0 {
        *cursor = Cursor::Skipping { left, bytes };
    }
    Ok(Parsed::Excess(verb, count, at))
}

/// Redis's inline form is only spoken as far as load tools and health checks go: one word, PING.
fn inline_ping<'a>(input: &'a [u8], first: u8, arguments: &mut Arguments<'a>) -> Result<Parsed, Stop> {
    const PING: &[u8] = b"PING\r\n";
    let seen = &input[..input.len().min(PING.len())];
    if !PING[..seen.len()].eq_ignore_ascii_case(seen) {
        return Err(Stop::Broken(ParseError::NoArray(first)));
    }
    if seen.len() < PING.len() {
        return Err(Stop::Incomplete(PING.len()));
    }
    arguments.name = &input[..4];
    arguments.count = 0;
    Ok(Parsed::Frame(verbs::find(b"ping"), PING.len()))
}

fn skip(input: &[u8], cursor: &mut Cursor, limits: &Limits, left: usize, bytes: usize) -> Result<Parsed, Stop> {
    let (left, bytes, consumed) = if bytes == 0 {
        let (length, at) = length(input, 0, limits)?;
        (left - 1, length + 2, at)
    } else {
        let count = bytes.min(input.len());
        (left, bytes - count, count)
    };
    *cursor = match left + bytes {
        0 => Cursor::Between,
        _ => Cursor::Skipping { left, bytes },
    };
    Ok(Parsed::Nothing(consumed))
}

/// Reads `count` arguments at `at` and returns the place behind them. The one at `value_at` may be long.
#[inline]
fn take<'a>(
    input: &'a [u8],
    mut at: usize,
    count: usize,
    value_at: Option<usize>,
    limits: &Limits,
    aside: Option<Value<'a>>,
    arguments: &mut Arguments<'a>,
) -> Result<usize, Stop> {
    arguments.count = count;
    arguments.long = None;
    for index in 0..count {
        let is_value = value_at == Some(index);
        let plain_max = if is_value { limits.value_bytes_max.min(SMALL_VALUE_BYTES_MAX) } else { KEY_BYTES_MAX };
        if input.get(at) == Some(&b'$')
            && limits.authenticated
            && let Some((argument, end)) = plain_bulk(input, at + 1, plain_max)
        {
            (arguments.slots[index], at) = (argument, end);
            continue;
        }
        let (bytes, start) = length(input, at, limits)?;
        let end = start + bytes;
        if is_value && bytes > limits.value_bytes_max {
            return Err(Stop::Broken(ParseError::Length));
        }
        if is_value && bytes > SMALL_VALUE_BYTES_MAX {
            let Some(value) = aside else {
                return Err(Stop::Long(bytes, start));
            };
            arguments.slots[index] = &[];
            arguments.long = Some((index, value));
            at = line_end(input, start)?;
            continue;
        }
        if bytes > KEY_BYTES_MAX {
            return Err(Stop::TooLong(count - index - 1, bytes + 2, start));
        }
        let Some(argument) = input.get(start..end) else {
            return Err(Stop::Incomplete(end + 2));
        };
        arguments.slots[index] = argument;
        at = line_end(input, end)?;
    }
    Ok(at)
}

/// A bulk string's length at `at`, and where its bytes begin.
#[inline]
fn length(input: &[u8], at: usize, limits: &Limits) -> Result<(usize, usize), Stop> {
    match input.get(at) {
        Some(b'$') => {}
        Some(&other) => return Err(Stop::Broken(ParseError::NoBulk(other))),
        None => return Err(Stop::Incomplete(at + 1)),
    }
    let (length, start) = number(input, at + 1, ParseError::Length)?;
    let length = usize::try_from(length).map_err(|_| Stop::Broken(ParseError::Length))?;
    if !limits.authenticated && length > STRANGER_BYTES_MAX {
        return Err(Stop::Broken(ParseError::StrangerLength));
    }
    if length > limits.value_bytes_max.max(KEY_BYTES_MAX) {
        return Err(Stop::Broken(ParseError::Length));
    }
    Ok((length, start))
}

/// A number and the line end behind it; `error` is what it is if it is none.
#[inline]
fn number(input: &[u8], at: usize, error: ParseError) -> Result<(i64, usize), Stop> {
    let digit = |byte: u8| i64::from(byte.wrapping_sub(b'0'));
    match input.get(at..) {
        // Nearly all of them are as short as this.
        Some(&[a, b'\r', b'\n', ..]) if a.is_ascii_digit() => Ok((digit(a), at + 3)),
        Some(&[a, b, b'\r', b'\n', ..]) if a.is_ascii_digit() && b.is_ascii_digit() => {
            Ok((digit(a) * 10 + digit(b), at + 4))
        }
        _ => long_number(input, at, error),
    }
}

#[inline(never)]
fn long_number(input: &[u8], at: usize, error: ParseError) -> Result<(i64, usize), Stop> {
    let mut number: i64 = 0;
    let negative = input.get(at) == Some(&b'-');
    let digits_at = at + usize::from(negative);
    let rest = input.get(digits_at..).unwrap_or_default();
    for (digits, &byte) in rest.iter().enumerate() {
        match byte {
            b'0'..=b'9' if digits < LENGTH_DIGITS_MAX => {
                // Saturated, it is over every limit.
                let digit = i64::from(byte - b'0');
                number = number.saturating_mul(10).saturating_add(digit);
            }
            b'\r' if digits > 0 => {
                let end = line_end_or(input, digits_at + digits, error)?;
                return Ok((if negative { -number } else { number }, end));
            }
            _ => return Err(Stop::Broken(error)),
        }
    }
    Err(Stop::Incomplete(input.len() + 1))
}

/// The CRLF at `at`, and the place behind it.
#[inline]
fn line_end(input: &[u8], at: usize) -> Result<usize, Stop> {
    line_end_or(input, at, ParseError::NoLineEnd)
}

#[inline]
fn line_end_or(input: &[u8], at: usize, error: ParseError) -> Result<usize, Stop> {
    match input.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] | [b'\r'] => Err(Stop::Incomplete(at + 2)),
        _ => Err(Stop::Broken(error)),
    }
}

/// Writes replies.
impl Output {
    /// A status: a word that says how it went.
    pub(crate) fn push_status(&mut self, status: &str) {
        self.push_line(b'+', status);
    }

    /// An error; what could break the line is replaced.
    pub(crate) fn push_error(&mut self, error: &str) {
        let clean: String = error.chars().map(|c| if c == '\r' || c == '\n' { ' ' } else { c }).collect();
        self.push_line(b'-', &clean);
    }

    fn push_line(&mut self, kind: u8, line: &str) {
        self.push(&[kind]);
        self.push(line.as_bytes());
        self.push(b"\r\n");
    }

    /// A number.
    #[inline]
    pub(crate) fn push_integer(&mut self, number: i64) {
        self.push_header(b':', number);
    }

    /// The beginning of an array of `count` replies.
    #[inline]
    pub(crate) fn push_array(&mut self, count: usize) {
        self.push_header(b'*', count as i64);
    }

    /// The beginning of a map of `count` pairs: in version 2, an array of twice as many.
    pub(crate) fn push_map(&mut self, count: usize, version: Version) {
        match version {
            Version::Two => self.push_header(b'*', 2 * count as i64),
            Version::Three => self.push_header(b'%', count as i64),
        }
    }

    /// A string.
    pub(crate) fn push_bulk(&mut self, bytes: &[u8]) {
        self.push_bulk_value(Value::small(bytes));
    }

    /// A value, its chunks by reference.
    #[inline]
    pub(crate) fn push_bulk_value(&mut self, value: Value<'_>) {
        self.push_header(b'$', value.len() as i64);
        self.push_value(value, b"\r\n");
    }

    /// Nothing, where there could be a value.
    pub(crate) fn push_null(&mut self, version: Version) {
        self.push(match version {
            Version::Two => b"$-1\r\n".as_slice(),
            Version::Three => b"_\r\n",
        });
    }

    /// Nothing, where there could be an array.
    pub(crate) fn push_null_array(&mut self, version: Version) {
        self.push(match version {
            Version::Two => b"*-1\r\n".as_slice(),
            Version::Three => b"_\r\n",
        });
    }

    #[inline]
    fn push_header(&mut self, kind: u8, number: i64) {
        if let 0..100 = number {
            let (tens, ones) = (b'0' + (number / 10) as u8, b'0' + (number % 10) as u8);
            return match tens {
                b'0' => self.push(&[kind, ones, b'\r', b'\n']),
                _ => self.push(&[kind, tens, ones, b'\r', b'\n']),
            };
        }
        self.push(&[kind]);
        self.push_number(number, b"\r\n");
    }
}

/// The version of the protocol that replies are written in. Requests are the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every client understands.
    #[default]
    Two,
    /// With maps and a null of its own.
    Three,
}

impl Version {
    /// Its number.
    pub fn number(self) -> i64 {
        match self {
            Version::Two => 2,
            Version::Three => 3,
        }
    }
}
