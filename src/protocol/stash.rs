//! GoStash frames: the original's binary protocol, and the only file that knows its NUL delimiters.
//!
//! ```text
//! GET \0 <keyLen> \0 <key> \r\n
//! SET \0 <keyLen> \0 <key> \0 <valueLen> \0 <value> \r\n
//! INC \0 <keyLen> \0 <key> \r\n      DEC and DEL likewise
//! ```
//!
//! [`parse`] starts at the beginning of the frame each time it is called. That costs a few bytes of header and no more:
//! keys and values are skipped by their lengths and never searched, so the work is linear in the input however it is
//! cut. It knows no session: what to do with an incomplete frame is its caller's business.

use super::{Parsed, Stop, broken};
use crate::command::{Action, Command, Reply, Value};
use crate::limits::{KEY_BYTES_MAX, LENGTH_DIGITS_MAX, SMALL_VALUE_BYTES_MAX};
use crate::number;
use crate::output::Output;

/// What ends every frame and every reply.
pub const LINE_END: &[u8; 2] = b"\r\n";

/// The reply to a command that failed, and to a broken frame.
pub const ERROR_REPLY: &[u8; 5] = b"ERR\r\n";

/// What frames begin with, but never with `*`, `P` or `p`, as RESP does. As integers, each takes one comparison.
pub const WORDS: [&[u8; 4]; 5] = [b"GET\0", b"SET\0", b"INC\0", b"DEC\0", b"DEL\0"];
const GET: u32 = u32::from_le_bytes(*WORDS[0]);
const SET: u32 = u32::from_le_bytes(*WORDS[1]);
const INC: u32 = u32::from_le_bytes(*WORDS[2]);
const DEC: u32 = u32::from_le_bytes(*WORDS[3]);
const DEL: u32 = u32::from_le_bytes(*WORDS[4]);

/// Parses the frame at the start of `input`, and returns its command and its length. A value may have up to
/// `value_bytes_max` bytes. `long` is the value that an earlier [`Stop::Long`] of this frame announced: it has been
/// received, and its bytes are not in `input`. A broken frame is recognized at the first byte that breaks it.
#[inline(always)]
pub fn parse<'a>(input: &'a [u8], value_bytes_max: usize, long: Option<Value<'a>>) -> Parsed<Command<'a>> {
    let mut action = match input.first_chunk().map(|word| u32::from_le_bytes(*word)) {
        Some(GET) => Action::Get,
        Some(SET) => Action::Set(Value::default()),
        Some(INC) => Action::Add(1),
        Some(DEC) => Action::Add(-1),
        Some(DEL) => Action::Delete,
        None if WORDS.iter().any(|word| word.starts_with(input)) => return Err(Stop::Incomplete(input.len() + 1)),
        _ => return broken("expected GET, SET, INC, DEC or DEL and a NUL"),
    };
    let (length, start) = parse_length(input, WORDS[0].len(), KEY_BYTES_MAX)?;
    let mut end = start + length;
    // At least two bytes follow the key in every frame: CRLF, or NUL and a digit.
    let key = input.get(start..end).ok_or(Stop::Incomplete(end + 2))?;
    if let Action::Set(value) = &mut action {
        match input.get(end) {
            Some(b'\0') => {}
            Some(_) => return broken("expected a NUL after the key"),
            None => return Err(Stop::Incomplete(end + 2)),
        }
        let (length, start) = parse_length(input, end + 1, value_bytes_max)?;
        (*value, end) = if length > SMALL_VALUE_BYTES_MAX {
            (long.ok_or(Stop::Long(length, start))?, start)
        } else {
            let end = start + length;
            (Value::small(input.get(start..end).ok_or(Stop::Incomplete(end + LINE_END.len()))?), end)
        };
    }
    match input[end..].first_chunk() {
        Some(LINE_END) => Ok((Command { key, action }, end + LINE_END.len())),
        None if LINE_END.starts_with(&input[end..]) => Err(Stop::Incomplete(input.len() + 1)),
        _ => broken("expected CRLF at the end of the frame"),
    }
}

/// Parses the decimal length at `at` and the NUL behind it. Leading zeros are allowed, within the bound on digits.
#[inline(always)]
fn parse_length(input: &[u8], at: usize, max: usize) -> Parsed<usize> {
    // Most lengths have two digits.
    if let Some(&[tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'\0']) = input[at..].first_chunk() {
        let length = usize::from(tens - b'0') * 10 + usize::from(ones - b'0');
        if length <= max {
            return Ok((length, at + 3));
        }
    }
    parse_any_length(input, at, max)
}

#[inline(never)]
fn parse_any_length(input: &[u8], at: usize, max: usize) -> Parsed<usize> {
    let digits = input[at..].iter().take(LENGTH_DIGITS_MAX).take_while(|byte| byte.is_ascii_digit()).count();
    let length = number::parse(&input[at..at + digits]).map(|length| length as usize);
    match input.get(at + digits) {
        // A number that does not fit exceeds every limit.
        _ if digits > 0 && length.is_none_or(|length| length > max) => broken("expected a length within its limit"),
        None => Err(Stop::Incomplete(input.len() + 1)),
        Some(b'\0') if digits > 0 => Ok((length.unwrap_or_default(), at + digits + 1)),
        Some(_) => broken("expected a length of 1 to 20 digits and a NUL"),
    }
}

/// Appends `reply` to `output`.
#[inline(always)]
pub fn encode(reply: Reply<'_>, output: &mut Output) {
    match reply {
        Reply::Value(value) => output.push_value(value, LINE_END),
        Reply::Number(number) => output.push_number(number, LINE_END),
        Reply::Done => output.push(b"OK\r\n"),
        Reply::Missing | Reply::Refused(_) => output.push(ERROR_REPLY),
    }
}
