//! RESP, the Redis protocol: how frames are parsed into arguments, and how replies are written, in versions 2 and 3.
//!
//! Most frames are parsed in one step. A command on many keys takes one step for each key, or for each pair of key and
//! value: `MGET a b c` takes three. Where a command has more arguments than it may have, the rest is skipped in steps,
//! too. An incomplete step is parsed again from its first byte, which stays linear because a step is small. Between two
//! steps a [`Cursor`] is all that is remembered, so memory follows neither the number of arguments nor their length: a
//! long one is left to the caller. It knows no session, and of most commands only how many arguments make a step.

use super::verbs::{self, ADD_ONE, GET, SET, TAKE_ONE, Verb};
use super::{Parsed, Stop, broken};
use crate::command::{Action, Clock, Command, Expiry, Value};
use crate::limits::*;
use crate::number;
use crate::output::Output;

/// How many arguments a step can have, without the name: enough for CLIENT KILL with all its filters.
pub const ARGUMENTS_MAX: usize = 15;

/// Where parsing stands: within a frame, or between two frames if no arguments are left.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The command that the next arguments belong to, or `None` if they are to be skipped.
    pub verb: Option<&'static Verb>,
    pub left: usize,       // arguments of the frame
    pub bytes_left: usize, // that these may have together
}

/// The arguments of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arguments<'a> {
    pub name: &'a [u8],
    slots: [&'a [u8]; ARGUMENTS_MAX],
    count: usize,
    /// The index of the long argument, and its bytes. If several are long, the last of them.
    pub long: Option<(usize, Value<'a>)>,
}

/// What was parsed from the start of the input: a frame, or a part of one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    pub is_first: bool,  // it has the command's name
    pub left: usize,     // arguments of the frame, those of this step among them, without the name
    pub longs: usize,    // arguments of this step that are long values
    pub consumed: usize, // bytes of the input
    pub next: Cursor,
}

impl<'a> Arguments<'a> {
    /// All arguments. A long one is an empty slice here.
    pub fn all(&self) -> &[&'a [u8]] {
        &self.slots[..self.count]
    }

    /// The argument at `at`, which may be long.
    pub fn value(&self, at: usize) -> Value<'a> {
        match self.long {
            Some((place, value)) if place == at => value,
            _ => Value::small(self.slots[at]),
        }
    }
}

/// Parses a complete GET, INCR, DECR or SET with at most a time to live, written as client libraries write it: to the
/// command, its index in the table, and the frame's length. `None` says nothing about the frame: it is left to [`parse`].
#[inline(always)]
pub fn parse_plain(input: &[u8], value_bytes_max: usize, clock: Clock) -> Option<(Command<'_>, u8, usize)> {
    let [b'*', count, b'\r', b'\n', b'$', length, b'\r', b'\n', name @ ..] = input else { return None };
    // This bit turns upper case into lower case, and the CR behind a short name into a hyphen.
    let (verb, mut action) = match (count, length, &name.first_chunk()?.map(|byte: u8| byte | 0x20)) {
        (b'2', b'3', b"get-") => (GET, Action::Get),
        (b'3' | b'5', b'3', b"set-") => (SET, Action::Set(Value::default())),
        (b'2', b'4', b"incr") => (ADD_ONE, Action::Add(1)),
        (b'2', b'4', b"decr") => (TAKE_ONE, Action::Add(-1)),
        _ => return None,
    };
    let [b'\r', b'\n', rest @ ..] = &name[usize::from(length - b'0')..] else { return None };
    let (key, mut rest) = plain_bulk(rest, KEY_BYTES_MAX)?;
    if let Action::Set(value) = &mut action {
        (value.rest, rest) = plain_bulk(rest, value_bytes_max.min(SMALL_VALUE_BYTES_MAX))?;
        if *count == b'5' {
            (action, rest) = expiring(*value, rest, clock)?;
        }
    }
    Some((Command { key, action }, verb, input.len() - rest.len()))
}

/// The SET of a value with the time to live that follows it, and what follows that. Inlined, it slows down GET by 2 %.
#[inline(never)]
fn expiring<'a>(value: Value<'a>, input: &'a [u8], clock: Clock) -> Option<(Action<'a>, &'a [u8])> {
    let (unit, rest) = plain_bulk(input, 4)?;
    let (number, rest) = plain_bulk(rest, LENGTH_DIGITS_MAX)?;
    let expiry = Expiry::At(verbs::deadline(b"set", unit, number, 1, clock).ok()?);
    Some((Action::Write { value, if_present: None, expiry, returns_old: false }, rest))
}

/// A bulk string, and what follows it. `None` if it is incomplete, too long, or unusual.
#[inline(always)]
fn plain_bulk(input: &[u8], bytes_max: usize) -> Option<(&[u8], &[u8])> {
    let [b'$', input @ ..] = input else { return None };
    let mut bytes = 0;
    for (digits, byte) in input.iter().enumerate().take(6) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            let [b'\r', b'\n', rest @ ..] = &input[digits..] else { return None };
            let (bulk, [b'\r', b'\n', rest @ ..]) = rest.split_at_checked(bytes)? else { return None };
            return (digits > 0 && bytes <= bytes_max).then_some((bulk, rest));
        }
        bytes = bytes * 10 + usize::from(digit);
    }
    None
}

/// Parses the step at the start of `input` and fills in `arguments`. `longs` are the values that earlier
/// [`Stop::Long`]s of this step announced: they have been received, and their bytes are not in `input`. The limits are
/// lower for a client that is not `authenticated`. A broken frame is recognized at the first byte that breaks it, but too
/// large a number once its line ends.
pub fn parse<'a>(
    input: &'a [u8],
    mut cursor: Cursor,
    value_bytes_max: usize,
    authenticated: bool,
    longs: &[Value<'a>],
    arguments: &mut Arguments<'a>,
) -> Result<Step, Stop> {
    let (is_first, mut at) = (cursor.left == 0, 0);
    let any_bytes_max = value_bytes_max.max(KEY_BYTES_MAX);
    if is_first {
        match input.first() {
            Some(b'*') => {}
            // An empty line is ignored: `redis-cli --pipe` ends with one.
            Some(b'\r') => {
                let consumed = line_end(input, 0, "expected '*', got '\\r'")?;
                return Ok(Step { consumed, ..Step::default() });
            }
            _ => return inline_ping(input, arguments),
        }
        let (count, end) = number(input, 1, "invalid multibulk length")?;
        let count = match usize::try_from(count) {
            Err(_) | Ok(0) => return Ok(Step { consumed: end, ..Step::default() }),
            Ok(count) if count > STRANGER_ARGUMENTS_MAX && !authenticated => {
                return broken("unauthenticated multibulk length");
            }
            Ok(count) if count > RESP_ARGUMENTS_MAX => return broken("invalid multibulk length: too many arguments"),
            Ok(count) => count,
        };
        (arguments.name, at) = bulk(input, end, authenticated, KEY_BYTES_MAX, KEY_BYTES_MAX)?;
        let bytes_left = value_bytes_max + FRAME_EXTRA_BYTES;
        cursor = Cursor { verb: verbs::find(arguments.name), left: count - 1, bytes_left };
    }
    let Cursor { verb, left, bytes_left } = cursor;
    let parts = verb.filter(|verb| verb.part > 0 && verb.takes(left + 1));
    arguments.count = parts.map_or(left.min(ARGUMENTS_MAX), |verb| verb.part.into());
    arguments.long = None;
    // How long an argument may be before it is received in chunks, and at all. The first is a key, as a rule: if it is
    // too long, the command is answered with an error, but that of a command on many keys breaks the frame.
    let first_max = (KEY_BYTES_MAX, if parts.is_some() { KEY_BYTES_MAX } else { any_bytes_max });
    let is_keyed = verb.is_some_and(|verb| verb.plan.is_some());
    let other_max = if is_keyed { (SMALL_VALUE_BYTES_MAX, value_bytes_max) } else { (KEY_BYTES_MAX, any_bytes_max) };
    let (mut used, mut long_bytes) = (0, 0);
    for index in 0..arguments.count {
        let (short_max, bytes_max) = if index == 0 { first_max } else { other_max };
        match bulk(input, at, authenticated, short_max, bytes_max) {
            Ok(found) => (arguments.slots[index], at) = found,
            Err(Stop::Long(bytes, start)) if start + long_bytes + bytes <= bytes_left => {
                let value = *longs.get(used).ok_or(Stop::Long(bytes, start))?;
                (arguments.slots[index], arguments.long) = (&[], Some((index, value)));
                used += 1;
                long_bytes += bytes;
                at = line_end(input, start, "expected CRLF after an argument")?;
            }
            Err(Stop::Long(..)) => return broken("invalid bulk length"),
            Err(Stop::Incomplete(needed)) if needed + long_bytes > bytes_left => return broken("invalid bulk length"),
            Err(stop) => return Err(stop),
        }
    }
    let Some(bytes_left) = bytes_left.checked_sub(at + long_bytes) else { return broken("invalid bulk length") };
    let next = Cursor { verb, left: left - arguments.count, bytes_left };
    Ok(Step { is_first, left, longs: used, consumed: at, next })
}

/// Parses PING in Redis's inline form, which load tools and health checks send. No other inline command is known.
fn inline_ping<'a>(input: &'a [u8], arguments: &mut Arguments<'a>) -> Result<Step, Stop> {
    const PING: &[u8] = b"PING\r\n";
    match input.split_at_checked(PING.len()) {
        Some((line, _)) if line.eq_ignore_ascii_case(PING) => {
            *arguments = Arguments { name: &line[..4], ..Arguments::default() };
            let next = Cursor { verb: verbs::find(arguments.name), ..Cursor::default() };
            Ok(Step { is_first: true, consumed: PING.len(), next, ..Step::default() })
        }
        None if input.eq_ignore_ascii_case(&PING[..input.len()]) => Err(Stop::Incomplete(input.len() + 1)),
        _ => Err(Stop::Broken(format!("expected '*', got '{}'", input[0].escape_ascii()).into())),
    }
}

/// Parses the bulk string at `at`, unless it is longer than `short_max`: then it is a [`Stop::Long`].
fn bulk(input: &[u8], at: usize, authenticated: bool, short_max: usize, bytes_max: usize) -> Parsed<&[u8]> {
    let rest = input.get(at..).unwrap_or_default();
    if authenticated && let Some((bulk, rest)) = plain_bulk(rest, short_max.min(bytes_max)) {
        return Ok((bulk, input.len() - rest.len()));
    }
    match rest.first() {
        Some(b'$') => {}
        Some(other) => return Err(Stop::Broken(format!("expected '$', got '{}'", other.escape_ascii()).into())),
        None => return Err(Stop::Incomplete(at + 1)),
    }
    let (bytes, start) = number(input, at + 1, "invalid bulk length")?;
    match usize::try_from(bytes).unwrap_or(usize::MAX) {
        bytes if bytes > STRANGER_BYTES_MAX && !authenticated => broken("unauthenticated bulk length"),
        bytes if bytes > bytes_max => broken("invalid bulk length"),
        bytes if bytes > short_max => Err(Stop::Long(bytes, start)),
        bytes => {
            let end = start + bytes;
            let bulk = input.get(start..end).ok_or(Stop::Incomplete(end + 2))?;
            Ok((bulk, line_end(input, end, "expected CRLF after an argument")?))
        }
    }
}

/// Parses the number at `at`, which a CRLF ends. If there is none, the frame is broken because of `error`.
fn number(input: &[u8], at: usize, error: &'static str) -> Parsed<i64> {
    let rest = input.get(at..).unwrap_or_default();
    // Nearly all are so short, and cost a fifteenth of a command otherwise.
    if let [digit @ b'0'..=b'9', b'\r', b'\n', ..] = rest {
        return Ok((i64::from(digit - b'0'), at + 3));
    }
    let sign = usize::from(rest.first() == Some(&b'-'));
    let digits = rest[sign..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits > LENGTH_DIGITS_MAX || digits == 0 && rest.len() > sign {
        return broken(error);
    }
    // A number that does not fit exceeds every limit.
    let number = number::parse(&rest[..sign + digits]).unwrap_or(i64::MAX);
    Ok((number, line_end(input, at + sign + digits, error)?))
}

/// The index behind the CRLF at `at`.
fn line_end(input: &[u8], at: usize, error: &'static str) -> Result<usize, Stop> {
    match input.get(at..).unwrap_or_default() {
        [b'\r', b'\n', ..] => Ok(at + 2),
        [] | [b'\r'] => Err(Stop::Incomplete(at + 2)),
        _ => broken(error),
    }
}

impl Output {
    /// Appends a status (`+`) or an error (`-`). A CR or LF in it, which would end the line, becomes a space.
    pub(crate) fn push_line(&mut self, kind: u8, line: &str) {
        self.push(&[&[kind][..], line.replace(['\r', '\n'], " ").as_bytes(), b"\r\n"].concat());
    }

    /// Appends a number (`:`), or the length that a string (`$`), an array (`*`) or a map (`%`) begins with.
    #[inline]
    pub(crate) fn push_header(&mut self, kind: u8, number: i64) {
        // Most numbers are as short as this. They are appended at once, with one check of the buffer's capacity.
        match number {
            0..10 => self.push(&[kind, b'0' + number as u8, b'\r', b'\n']),
            10..100 => self.push(&[kind, b'0' + (number / 10) as u8, b'0' + (number % 10) as u8, b'\r', b'\n']),
            _ => {
                self.push(&[kind]);
                self.push_number(number, b"\r\n");
            }
        }
    }

    /// Appends the beginning of a map of `count` pairs. In version 2 that is an array with twice as many elements.
    pub(crate) fn push_map(&mut self, count: usize, is_resp3: bool) {
        let (kind, length) = if is_resp3 { (b'%', count) } else { (b'*', 2 * count) };
        self.push_header(kind, length as i64);
    }

    pub(crate) fn push_bulk(&mut self, bytes: &[u8]) {
        self.push_bulk_value(Value::small(bytes));
    }

    #[inline]
    pub(crate) fn push_bulk_value(&mut self, value: Value<'_>) {
        self.push_header(b'$', value.len() as i64);
        self.push_value(value, b"\r\n");
    }

    pub(crate) fn push_null(&mut self, is_resp3: bool) {
        self.push(if is_resp3 { b"_\r\n".as_slice() } else { b"$-1\r\n" });
    }
}
