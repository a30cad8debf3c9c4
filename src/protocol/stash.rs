//! GoStash frames: the original's binary protocol, and the only file that knows its NUL delimiters.
//!
//! ```text
//! GET \0 <keyLen> \0 <key> \r\n
//! SET \0 <keyLen> \0 <key> \0 <valueLen> \0 <value> \r\n
//! INC \0 <keyLen> \0 <key> \r\n      DEC and DEL likewise
//! ```
//!
//! [`parse`] looks at the start of the input each time it is called, which costs a few bytes of header and no more:
//! keys and values are stepped over by their lengths and never searched, so the work stays linear in the input
//! however it is cut. It knows no session: what to do with an unfinished frame is its caller's business.

use crate::command::{Command, Reply, Value};
use crate::limits::{KEY_BYTES_MAX, LENGTH_DIGITS_MAX, SMALL_VALUE_BYTES_MAX};
use crate::output::Output;

/// What stands at the start of the input.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A whole frame.
    Complete {
        /// What it asks for.
        command: Command<'a>,
        /// Its length in bytes.
        consumed: usize,
    },
    /// The head of a SET whose value is longer than [`SMALL_VALUE_BYTES_MAX`]: the value and [`LINE_END`] follow it,
    /// and are better taken as they come.
    LargeSet {
        /// The key.
        key: &'a [u8],
        /// The length of the value, in bytes.
        value_bytes: usize,
        /// The length of the head, in bytes.
        consumed: usize,
    },
    /// The beginning of a frame. Parsing again is pointless before the input is `needed` bytes long, counted from the
    /// frame's first byte.
    Incomplete {
        /// Always more than there are now.
        needed: usize,
    },
}

/// Why the input cannot be the start of a frame. No later byte can mend it, and where the next frame begins is
/// unknown, since a value may hold any bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The first four bytes are no command.
    UnknownCommand,
    /// A length is empty, has other bytes than digits, or too many of them.
    BadLength,
    /// A length is over its limit.
    TooLong,
    /// A key is not followed by what must follow it.
    MissingDelimiter,
    /// A frame does not end in CRLF.
    MissingLineEnd,
}

impl std::fmt::Display for ParseError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            ParseError::UnknownCommand => "expected GET, SET, INC, DEC or DEL and a NUL",
            ParseError::BadLength => "expected a length of 1 to 20 digits and a NUL",
            ParseError::TooLong => "expected a length within its limit",
            ParseError::MissingDelimiter => "expected a NUL after the key",
            ParseError::MissingLineEnd => "expected CRLF at the end of the frame",
        })
    }
}

/// What ends every frame and every reply.
pub const LINE_END: &[u8; 2] = b"\r\n";

/// The reply to whatever could not be done, to a broken frame too.
pub const ERROR_REPLY: &[u8; 5] = b"ERR\r\n";

const WORDS: [&[u8; 4]; 5] = [b"GET\0", b"SET\0", b"INC\0", b"DEC\0", b"DEL\0"];
// As numbers, so that telling them apart takes one comparison each.
const GET: u32 = u32::from_le_bytes(*WORDS[0]);
const SET: u32 = u32::from_le_bytes(*WORDS[1]);
const INC: u32 = u32::from_le_bytes(*WORDS[2]);
const DEC: u32 = u32::from_le_bytes(*WORDS[3]);
const DEL: u32 = u32::from_le_bytes(*WORDS[4]);

/// Reads the frame at the start of `input`; a value may have up to `value_bytes_max` bytes.
///
/// # Errors
/// A [`ParseError`] at the earliest byte that shows it.
#[inline]
pub fn parse(input: &[u8], value_bytes_max: usize) -> Result<Parsed<'_>, ParseError> {
    let Some(word) = input.first_chunk::<4>() else {
        return match WORDS.iter().any(|word| word.starts_with(input)) {
            true => Ok(Parsed::Incomplete { needed: input.len() + 1 }),
            false => Err(ParseError::UnknownCommand),
        };
    };
    let word = u32::from_le_bytes(*word);
    if !matches!(word, GET | SET | INC | DEC | DEL) {
        return Err(ParseError::UnknownCommand);
    }
    let Some((length, at)) = parse_length(input, 4, KEY_BYTES_MAX)? else {
        return Ok(Parsed::Incomplete { needed: input.len() + 1 });
    };
    // At least two bytes follow the key in every frame: CRLF, or NUL and a digit.
    let end = at + length;
    let Some(key) = input.get(at..end) else {
        return Ok(Parsed::Incomplete { needed: end + 2 });
    };
    let command = match word {
        GET => Command::Get { key },
        SET => return parse_value(input, key, end, value_bytes_max),
        INC => Command::Add { key, delta: 1 },
        DEC => Command::Add { key, delta: -1 },
        _ => Command::Delete { key },
    };
    finish(input, end, command)
}

/// The part of a SET that follows its key, from `at` on.
#[inline]
fn parse_value<'a>(input: &'a [u8], key: &'a [u8], at: usize, max: usize) -> Result<Parsed<'a>, ParseError> {
    match input.get(at) {
        Some(b'\0') => {}
        Some(_) => return Err(ParseError::MissingDelimiter),
        None => return Ok(Parsed::Incomplete { needed: at + 1 }),
    }
    let Some((length, at)) = parse_length(input, at + 1, max)? else {
        return Ok(Parsed::Incomplete { needed: input.len() + 1 });
    };
    if length > SMALL_VALUE_BYTES_MAX {
        return Ok(Parsed::LargeSet { key, value_bytes: length, consumed: at });
    }
    let end = at + length;
    match input.get(at..end) {
        Some(value) => finish(input, end, Command::Set { key, value: Value::small(value) }),
        None => Ok(Parsed::Incomplete { needed: end + LINE_END.len() }),
    }
}

/// The CRLF at `at`, and with it the frame.
#[inline]
fn finish<'a>(input: &'a [u8], at: usize, command: Command<'a>) -> Result<Parsed<'a>, ParseError> {
    let rest = &input[at..];
    match rest.first_chunk() {
        Some(LINE_END) => Ok(Parsed::Complete { command, consumed: at + LINE_END.len() }),
        None if LINE_END.starts_with(rest) => Ok(Parsed::Incomplete { needed: at + LINE_END.len() }),
        _ => Err(ParseError::MissingLineEnd),
    }
}

/// A decimal length at `at`, and where the byte behind its NUL is; `None` if the input ends before. Leading zeros are
/// allowed, within the bound on digits.
#[inline]
fn parse_length(input: &[u8], at: usize, max: usize) -> Result<Option<(usize, usize)>, ParseError> {
    let digit = |byte: u8| usize::from(byte.wrapping_sub(b'0'));
    let (length, end) = match input[at..] {
        // Most lengths have two digits.
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', b'\0', ..] => (digit(tens) * 10 + digit(ones), at + 3),
        _ => {
            let (mut length, mut end) = (0, at);
            loop {
                match input.get(end) {
                    None => return Ok(None),
                    Some(b'\0') if end > at => break (length, end + 1),
                    Some(byte @ b'0'..=b'9') if end < at + LENGTH_DIGITS_MAX => length = length * 10 + digit(*byte),
                    Some(_) => return Err(ParseError::BadLength),
                }
                // Checked for each digit, so that it cannot overflow: limits are far below a tenth of what fits.
                if length > max {
                    return Err(ParseError::TooLong);
                }
                end += 1;
            }
        }
    };
    if length > max { Err(ParseError::TooLong) } else { Ok(Some((length, end))) }
}

/// Appends `reply` to `output`.
#[inline]
pub fn encode(reply: Reply<'_>, output: &mut Output) {
    match reply {
        Reply::Value(value) => output.push_value(value, LINE_END),
        Reply::Number(number) => output.push_number(number, LINE_END),
        Reply::Done => output.push(b"OK\r\n"),
        Reply::Missing | Reply::Refused(_) => output.push(ERROR_REPLY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn complete(input: &[u8]) -> Command<'_> {
        match parse(input, MAX) {
            Ok(Parsed::Complete { command, consumed }) => {
                assert_eq!(consumed, input.len());
                command
            }
            other => panic!("{}: {other:?}", input.escape_ascii()),
        }
    }

    #[test]
    fn each_command_is_read() {
        let key = b"key".as_slice();
        assert_eq!(complete(b"GET\x003\0key\r\n"), Command::Get { key });
        assert_eq!(
            complete(b"SET\x003\0key\x005\0a\0\r\nb\r\n"),
            Command::Set { key, value: Value::small(b"a\0\r\nb") }
        );
        assert_eq!(complete(b"INC\x003\0key\r\n"), Command::Add { key, delta: 1 });
        assert_eq!(complete(b"DEC\x00003\0key\r\n"), Command::Add { key, delta: -1 });
        assert_eq!(complete(b"DEL\x000\0\r\n"), Command::Delete { key: b"" });
    }

    #[test]
    fn every_prefix_is_incomplete_and_never_asks_for_too_much() {
        for frame in [b"GET\x00003\0key\r\n".as_slice(), b"SET\x003\0key\x0010\x000123456789\r\n"] {
            for length in 0..frame.len() {
                match parse(&frame[..length], MAX) {
                    Ok(Parsed::Incomplete { needed }) => {
                        assert!((length + 1..=frame.len()).contains(&needed));
                    }
                    other => panic!("{}: {other:?}", frame[..length].escape_ascii()),
                }
            }
        }
    }

    #[test]
    fn a_broken_frame_is_known_at_its_earliest_byte() {
        use ParseError::*;
        for (input, error) in [
            (b"X".as_slice(), UnknownCommand),
            (b"GEX", UnknownCommand),
            (b"g", UnknownCommand),
            (b"GET ", UnknownCommand),
            (b"GET\0\0", BadLength),
            (b"GET\0+", BadLength),
            (b"GET\0-", BadLength),
            (b"GET\x003x", BadLength),
            (b"GET\x00000000000000000000000", BadLength),
            (b"GET\x0065536", TooLong),
            (b"GET\x001\0kx", MissingLineEnd),
            (b"GET\x001\0k\rx", MissingLineEnd),
            (b"SET\x001\0kx", MissingDelimiter),
            (b"SET\x001\0k\0\0", BadLength),
            (b"SET\x001\0k\x001048577", TooLong),
            (b"SET\x001\0k\x001\0vx", MissingLineEnd),
        ] {
            assert_eq!(parse(input, MAX), Err(error), "{}", input.escape_ascii());
            let before = &input[..input.len() - 1];
            assert!(parse(before, MAX).is_ok(), "{} is not broken yet", before.escape_ascii());
        }
    }

    #[test]
    fn a_large_value_is_announced_by_its_head() {
        let head = format!("SET\x001\0k\0{}\0", SMALL_VALUE_BYTES_MAX + 1);
        assert_eq!(
            parse(head.as_bytes(), MAX),
            Ok(Parsed::LargeSet { key: b"k", value_bytes: SMALL_VALUE_BYTES_MAX + 1, consumed: head.len() })
        );
    }
}
