//! The four languages the generator speaks: what a request looks like, and how a reply begins. Pure functions on
//! bytes; it knows no socket, no workload and no clock.

use std::io::Write;
use std::str::FromStr;

/// The language a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// GoStash frames.
    Gostash,
    /// The Redis protocol, version 2.
    Resp,
    /// memcached's text protocol.
    Memcached,
    /// GoStash frames to a server that sends back what it gets.
    Echo,
}

/// One request's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The value of a key.
    Get,
    /// Store the key's value.
    Set,
    /// Store [`FIRST_NUMBER`].
    SetNumber,
    /// Add one.
    Inc,
    /// Subtract one.
    Dec,
    /// Remove the key.
    Del,
}

/// What numbers start from: far from changing its length, and from the 0 below which memcached does not count.
pub const FIRST_NUMBER: i64 = 1_000_000_000_000;

/// A line longer than this is not a reply to anything we send, in bytes: memcached's longest key and its frills.
const LINE_BYTES_MAX: usize = 512;

/// What a finished reply said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A hit, or done.
    Done,
    /// There is no such key.
    Miss,
    /// The number is now this.
    Number(i64),
    /// The server would not.
    Refused,
}

/// How a reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is one line of so many bytes.
    Line(Outcome, usize),
    /// After `skip` bytes comes a value of the expected length, then `end`.
    Value {
        /// Bytes before the value.
        skip: usize,
        /// Bytes after it.
        end: &'static [u8],
    },
    /// More bytes are needed to tell.
    Partial,
    /// It is not an answer to that request.
    Wrong,
}

impl FromStr for Protocol {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Protocol::Gostash, Protocol::Resp, Protocol::Memcached, Protocol::Echo]
            .into_iter()
            .find(|protocol| protocol.name() == name)
            .ok_or(())
    }
}

impl Protocol {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Gostash => "gostash",
            Protocol::Resp => "resp",
            Protocol::Memcached => "memcached",
            Protocol::Echo => "echo",
        }
    }

    /// Appends a request up to its value, if it has one. In every protocol the value, and then CRLF, complete it.
    pub fn write_head(
        self,
        out: &mut Vec<u8>,
        operation: Operation,
        key_bytes: usize,
        value_bytes: usize,
        write_key: impl FnOnce(&mut Vec<u8>),
    ) {
        let has_value = operation.has_value();
        match self {
            Protocol::Gostash | Protocol::Echo => {
                let name = match operation {
                    Operation::Get => "GET",
                    Operation::Set | Operation::SetNumber => "SET",
                    Operation::Inc => "INC",
                    Operation::Dec => "DEC",
                    Operation::Del => "DEL",
                };
                append(out, format_args!("{name}\0{key_bytes}\0"));
                write_key(out);
                if has_value {
                    append(out, format_args!("\0{value_bytes}\0"));
                }
            }
            Protocol::Resp => {
                let (arguments, name) = match operation {
                    Operation::Get => (2, "GET"),
                    Operation::Set | Operation::SetNumber => (3, "SET"),
                    Operation::Inc => (2, "INCR"),
                    Operation::Dec => (2, "DECR"),
                    Operation::Del => (2, "DEL"),
                };
                let name_bytes = name.len();
                append(out, format_args!("*{arguments}\r\n${name_bytes}\r\n{name}\r\n${key_bytes}\r\n"));
                write_key(out);
                if has_value {
                    append(out, format_args!("\r\n${value_bytes}\r\n"));
                }
            }
            Protocol::Memcached => {
                let (name, rest) = match operation {
                    Operation::Get => ("get ", ""),
                    Operation::Set | Operation::SetNumber => ("set ", " 0 0 "),
                    Operation::Inc => ("incr ", " 1"),
                    Operation::Dec => ("decr ", " 1"),
                    Operation::Del => ("delete ", ""),
                };
                out.extend_from_slice(name.as_bytes());
                write_key(out);
                out.extend_from_slice(rest.as_bytes());
                if has_value {
                    append(out, format_args!("{value_bytes}\r\n"));
                }
            }
        }
    }

    /// How long the reply to `operation` is if it succeeds, in bytes: every request then has a reply of its length, and a
    /// batch of them needs no more than adding up. `None` where a failure is as long.
    pub fn reply_bytes(self, operation: Operation, key_bytes: usize, value_bytes: usize) -> Option<usize> {
        let number_bytes = digit_count(FIRST_NUMBER as usize);
        let value_digits = digit_count(value_bytes);
        let bytes = match (self, operation) {
            // `ERR` is as long as three bytes of value.
            (Protocol::Gostash, Operation::Get) if value_bytes == 3 => return None,
            (Protocol::Gostash, Operation::Get) => value_bytes + 2,
            (Protocol::Gostash, Operation::Inc | Operation::Dec) => number_bytes + 2,
            (Protocol::Gostash, _) => "OK\r\n".len(),
            (Protocol::Resp, Operation::Get) => 1 + value_digits + 2 + value_bytes + 2,
            (Protocol::Resp, Operation::Inc | Operation::Dec) => 1 + number_bytes + 2,
            (Protocol::Resp, Operation::Set | Operation::SetNumber) => "+OK\r\n".len(),
            // The number of keys removed is one digit, whatever it is.
            (Protocol::Resp, Operation::Del) | (Protocol::Echo, _) => return None,
            (Protocol::Memcached, Operation::Get) => {
                "VALUE ".len() + key_bytes + " 0 ".len() + value_digits + value_bytes + "\r\n\r\nEND\r\n".len()
            }
            (Protocol::Memcached, Operation::Inc | Operation::Dec) => number_bytes + 2,
            (Protocol::Memcached, Operation::Set | Operation::SetNumber) => "STORED\r\n".len(),
            (Protocol::Memcached, Operation::Del) => "DELETED\r\n".len(),
        };
        Some(bytes)
    }

    /// How the reply to `operation` begins, where a hit has a value of `value_bytes`. `input` is not empty.
    ///
    /// A GoStash GET reply carries no length: only its first byte can tell a miss, so no value may begin with `E`.
    pub fn start(self, operation: Operation, value_bytes: usize, input: &[u8]) -> Start {
        match (self, operation, input[0]) {
            (Protocol::Echo, ..) => return Start::Value { skip: 0, end: b"" },
            (Protocol::Gostash, Operation::Get, first) if first != b'E' => {
                return Start::Value { skip: 0, end: b"\r\n" };
            }
            _ => {}
        }
        let Some(end) = input.iter().take(LINE_BYTES_MAX).position(|&byte| byte == b'\n') else {
            return if input.len() < LINE_BYTES_MAX { Start::Partial } else { Start::Wrong };
        };
        let [line @ .., b'\r'] = &input[..end] else {
            return Start::Wrong;
        };
        let bytes = end + 1;
        let outcome = match self {
            Protocol::Gostash | Protocol::Echo => stash_line(operation, line),
            Protocol::Resp => match line {
                [b'$', length @ ..] if operation == Operation::Get && length != b"-1" => {
                    return value(length, value_bytes, bytes, b"\r\n");
                }
                _ => resp_line(operation, line),
            },
            Protocol::Memcached => match line {
                [b'V', b'A', b'L', b'U', b'E', b' ', fields @ ..] if operation == Operation::Get => {
                    let length = fields.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
                    return value(length, value_bytes, bytes, b"\r\nEND\r\n");
                }
                _ => memcached_line(operation, line),
            },
        };
        outcome.map_or(Start::Wrong, |outcome| Start::Line(outcome, bytes))
    }
}

/// Digits of a number.
fn digit_count(number: usize) -> usize {
    number.max(1).ilog10() as usize + 1
}

impl Operation {
    /// Whether its request carries a value.
    pub fn has_value(self) -> bool {
        matches!(self, Operation::Set | Operation::SetNumber)
    }

    /// Its name for a person.
    pub fn name(self) -> &'static str {
        match self {
            Operation::Get => "GET",
            Operation::Set | Operation::SetNumber => "SET",
            Operation::Inc => "INC",
            Operation::Dec => "DEC",
            Operation::Del => "DEL",
        }
    }
}

fn append(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = out.write_fmt(text);
}

fn value(length: &[u8], expected: usize, skip: usize, end: &'static [u8]) -> Start {
    match number(length) {
        Some(length) if usize::try_from(length) == Ok(expected) => Start::Value { skip, end },
        _ => Start::Wrong,
    }
}

fn number(digits: &[u8]) -> Option<i64> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn stash_line(operation: Operation, line: &[u8]) -> Option<Outcome> {
    match (operation, line) {
        (Operation::Get | Operation::Del, b"ERR") => Some(Outcome::Miss),
        (_, b"ERR") => Some(Outcome::Refused),
        (Operation::Set | Operation::SetNumber | Operation::Del, b"OK") => Some(Outcome::Done),
        (Operation::Inc | Operation::Dec, digits) => number(digits).map(Outcome::Number),
        _ => None,
    }
}

fn resp_line(operation: Operation, line: &[u8]) -> Option<Outcome> {
    match (operation, line) {
        (_, [b'-', ..]) => Some(Outcome::Refused),
        (Operation::Get, b"$-1") | (Operation::Del, b":0") => Some(Outcome::Miss),
        (Operation::Set | Operation::SetNumber, b"+OK") | (Operation::Del, b":1") => Some(Outcome::Done),
        (Operation::Inc | Operation::Dec, [b':', digits @ ..]) => number(digits).map(Outcome::Number),
        _ => None,
    }
}

fn memcached_line(operation: Operation, line: &[u8]) -> Option<Outcome> {
    match (operation, line) {
        (Operation::Get, b"END") => Some(Outcome::Miss),
        (Operation::Inc | Operation::Dec | Operation::Del, b"NOT_FOUND") => Some(Outcome::Miss),
        (Operation::Set | Operation::SetNumber, b"STORED") | (Operation::Del, b"DELETED") => Some(Outcome::Done),
        (Operation::Inc | Operation::Dec, [b'0'..=b'9', ..]) => number(line).map(Outcome::Number),
        (_, b"ERROR" | b"NOT_STORED") => Some(Outcome::Refused),
        (_, line) if line.starts_with(b"SERVER_ERROR") || line.starts_with(b"CLIENT_ERROR") => Some(Outcome::Refused),
        _ => None,
    }
}
