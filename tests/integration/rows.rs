//! What the wire says, as rows: these bytes, that answer, then the connection is open or closed. Data only, so that
//! every driver (sockets, a session without one) runs the same rows, cut in every way.

use crate::client::{dec, del, frames, get, inc, line, set};
use crate::random::Random;

/// One exchange on a fresh connection to a store that has none of [`KEYS`].
pub(crate) struct Row {
    /// What it shows.
    pub(crate) name: String,
    /// All that the client sends.
    pub(crate) send: Vec<u8>,
    /// All that the server answers.
    pub(crate) expect: Vec<u8>,
    /// What becomes of the connection.
    pub(crate) ending: Ending,
}

/// How a row leaves its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It serves on.
    Open,
    /// The last byte sent shows that the frame is broken, no byte before it does; the server closes.
    Broken,
    /// A byte before the last one broke the frame; the server closes.
    Closed,
    /// The frame is not complete: no answer, and when the client ends its input the server closes without `ERR`.
    Unfinished,
}

use Ending::{Broken, Closed, Open, Unfinished};

/// The longest value with default options, in bytes.
pub(crate) const VALUE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest key, in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 65_535;

/// Every key that a row may leave behind.
pub(crate) const KEYS: [&[u8]; 5] = [b"key", b"other", b"", b"a\0b\r\nc", b"\r\nGET\0"];

/// Every row that is small enough to be cut at each of its bytes.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    rows.extend(outcomes());
    rows.extend(lengths());
    rows.extend(bytes());
    rows.extend(numbers());
    rows.extend(broken());
    rows.extend(broken_in_each_command());
    rows.extend(unfinished());
    rows
}

/// The rows that are too large for that.
pub(crate) fn large_rows() -> Vec<Row> {
    let key = noise(KEY_BYTES_MAX);
    let large = set(b"key", &noise(100_000));
    let mut rows = vec![
        row(
            "the longest key",
            [set(&key, b"v"), get(&key), del(&key), get(&key)].concat(),
            b"OK\r\nv\r\nOK\r\nERR\r\n",
            Open,
        ),
        row(
            "29,999 zeros and a 7",
            [set(b"key", &zeros_and_seven(30_000)), inc(b"key")].concat(),
            b"OK\r\n8\r\n",
            Open,
        ),
        row("a large value without its CRLF", [&large[..large.len() - 2], b"x"].concat(), b"ERR\r\n", Broken),
        row("a large value without its LF", [&large[..large.len() - 1], b"\r"].concat(), b"ERR\r\n", Broken),
        row("a large value that does not end", [&get(b"key"), &large[..90_000]].concat(), b"ERR\r\n", Unfinished),
        row(
            "a large value in place of a small one, and back",
            [
                set(b"key", b"small"),
                set(b"key", &noise(70_000)),
                get(b"key"),
                set(b"key", b"again"),
                get(b"key"),
                del(b"key"),
                get(b"key"),
            ]
            .concat(),
            [b"OK\r\nOK\r\n".to_vec(), line(&noise(70_000)), b"OK\r\nagain\r\nOK\r\nERR\r\n".to_vec()].concat(),
            Open,
        ),
    ];
    // Around every power of two where a buffer may end, and around the server's own chunks, which are 16 bytes
    // short of one.
    for size in [4_096, 16_384, 32_752, 32_768, 65_504, 65_536, 100_000] {
        for len in [size - 1, size, size + 1] {
            let value = noise(len);
            rows.push(row(
                &format!("a value of {len} bytes between two frames"),
                [get(b"other"), set(b"key", &value), get(b"key"), inc(b"key"), inc(b"other")].concat(),
                [b"ERR\r\nOK\r\n".to_vec(), line(&value), b"ERR\r\n1\r\n".to_vec()].concat(),
                Open,
            ));
        }
    }
    let value = noise(VALUE_BYTES_MAX);
    rows.push(row(
        "the longest value",
        [set(b"key", &value), get(b"key"), inc(b"other")].concat(),
        [b"OK\r\n".to_vec(), line(&value), b"1\r\n".to_vec()].concat(),
        Open,
    ));
    rows
}

/// The five commands and their outcomes: one a line, and the replies, in which LF stands for CRLF.
const OUTCOMES: &[(&str, &str)] = &[
    ("GET key", "ERR\n"),
    ("DEL key", "ERR\n"),
    ("INC key", "1\n"),
    ("DEC key", "-1\n"),
    ("SET key value\nGET key", "OK\nvalue\n"),
    ("SET key one\nSET key second\nGET key", "OK\nOK\nsecond\n"),
    ("SET key value\nDEL key\nGET key\nDEL key", "OK\nOK\nERR\nERR\n"),
    ("INC key\nINC key\nDEC key\nGET key", "1\n2\n1\n1\n"),
    // Below zero, and back.
    ("DEC key\nDEC key\nINC key\nINC key\nINC key", "-1\n-2\n-1\n0\n1\n"),
    // The original's example client.
    ("SET key value\nGET key\nSET key 1\nINC key\nDEC key\nDEL key", "OK\nvalue\nOK\n2\n1\nOK\n"),
    ("SET key 41\nDEL key\nINC key", "OK\nOK\n1\n"),
    // A key that begins like another.
    ("SET key a\nGET ke\nGET keys\nGET key", "OK\nERR\nERR\na\n"),
    // Refusals in a pipeline keep their place.
    ("GET key\nSET key abc\nINC key\nGET key\nDEL other\nGET key", "ERR\nOK\nERR\nabc\nERR\nabc\n"),
];

fn outcomes() -> impl Iterator<Item = Row> {
    let replies = |text: &str| text.replace('\n', "\r\n");
    OUTCOMES.iter().map(move |(commands, answers)| row(commands, frames(commands), replies(answers), Open))
}

/// Lengths that are allowed, however they are written.
fn lengths() -> Vec<Row> {
    vec![
        row(
            "length 003, in place of a NUL and a 3",
            b"SET\x00003\0key\x00005\0value\r\nGET\x003\0key\r\n",
            b"OK\r\nvalue\r\n",
            Open,
        ),
        row(
            "lengths of 20 digits",
            format!("SET\0{0:020}\0key\0{1:020}\0value\r\nGET\0{0:020}\0key\r\n", 3, 5),
            b"OK\r\nvalue\r\n",
            Open,
        ),
        row(
            "an empty key",
            b"SET\x000\0\x005\0value\r\nGET\x000\0\r\nDEL\x000\0\r\nINC\x000\0\r\nDEC\x000\0\r\n",
            b"OK\r\nvalue\r\nOK\r\n1\r\n0\r\n",
            Open,
        ),
        row(
            "an empty key whose length is many zeros",
            b"SET\x0000000\0\x005\0value\r\nGET\x000\0\r\n",
            b"OK\r\nvalue\r\n",
            Open,
        ),
        row("an empty value", b"SET\x003\0key\x000\0\r\nGET\x003\0key\r\nDEL\x003\0key\r\n", b"OK\r\n\r\nOK\r\n", Open),
        row("an empty value under an empty key", b"SET\x000\0\x0000\0\r\nGET\x000\0\r\n", b"OK\r\n\r\n", Open),
    ]
}

/// Keys and values are arbitrary bytes.
fn bytes() -> Vec<Row> {
    let every_byte: Vec<u8> = (0..=255).collect();
    let values: [&[u8]; 5] = [b"a\0\r\nGET\0b", b"DEL\x003\0key\r\n", b"ERR", b"\r\nx\r\n", &every_byte];
    let values = values.map(|value| {
        let name = format!("the value \"{}\"", value.escape_ascii());
        row(&name, [set(b"key", value), get(b"key")].concat(), [b"OK\r\n", value, b"\r\n"].concat(), Open)
    });
    // The second begins like a frame.
    let keys: [&[u8]; 2] = [b"a\0b\r\nc", b"\r\nGET\0"];
    let keys = keys.map(|key| {
        let send = [set(key, b"1"), get(key), inc(key), dec(key), del(key), get(b"a")].concat();
        row(&format!("the key \"{}\"", key.escape_ascii()), send, b"OK\r\n1\r\n2\r\n1\r\nOK\r\nERR\r\n", Open)
    });
    values.into_iter().chain(keys).collect()
}

/// A value is a number if it is an optional `-` and digits, and fits a signed 64-bit integer.
fn numbers() -> Vec<Row> {
    let mut rows = Vec::new();
    let counted: &[(&[u8], &[u8], &[u8])] = &[
        // stored, after INC, after DEC instead
        (b"0", b"1", b"-1"),
        (b"1", b"2", b"0"),
        (b"9", b"10", b"8"),
        (b"-1", b"0", b"-2"),
        (b"-0", b"1", b"-1"),
        (b"-10", b"-9", b"-11"),
        (b"007", b"8", b"6"),
        (b"-007", b"-6", b"-8"),
        (b"000", b"1", b"-1"),
        (b"0000000000000000000000000000000041", b"42", b"40"),
        (b"-0000000000000000000000000000000041", b"-40", b"-42"),
        (b"9223372036854775806", b"9223372036854775807", b"9223372036854775805"),
        (b"-9223372036854775807", b"-9223372036854775806", b"-9223372036854775808"),
        (b"00009223372036854775806", b"9223372036854775807", b"9223372036854775805"),
    ];
    for (stored, incremented, decremented) in counted {
        for (frame, result) in [(inc(b"key"), incremented), (dec(b"key"), decremented)] {
            rows.push(row(
                &format!("a step from {}", stored.escape_ascii()),
                [set(b"key", stored), get(b"key"), frame, get(b"key")].concat(),
                [b"OK\r\n".to_vec(), line(stored), line(result), line(result)].concat(),
                Open,
            ));
        }
    }
    let zeros = zeros_and_seven(300);
    rows.push(row("INC of 299 zeros and a 7", [set(b"key", &zeros), inc(b"key")].concat(), b"OK\r\n8\r\n", Open));
    let overflowing: [(&[u8], _, &[u8], _); 4] = [
        (b"9223372036854775807", inc(b"key"), b"9223372036854775806", dec(b"key")),
        (b"-9223372036854775808", dec(b"key"), b"-9223372036854775807", inc(b"key")),
        (b"0009223372036854775807", inc(b"key"), b"9223372036854775806", dec(b"key")),
        (b"-0009223372036854775808", dec(b"key"), b"-9223372036854775807", inc(b"key")),
    ];
    for (stored, over, back, inward) in overflowing {
        rows.push(row(
            &format!("a step out of {} is refused, one back is not", stored.escape_ascii()),
            [set(b"key", stored), over, get(b"key"), inward].concat(),
            [b"OK\r\nERR\r\n".to_vec(), line(stored), line(back)].concat(),
            Open,
        ));
    }
    let short: [&[u8]; 20] = [
        b"",
        b"-",
        b"--1",
        b"+5",
        b"+",
        b"abc",
        b"1a",
        b"a1",
        b"1 ",
        b" 1",
        b"1\0",
        b"\x001",
        b"1\r\n",
        b"1.0",
        b"1e3",
        b"0x1",
        b"1_000",
        b"-+1",
        b"1-",
        b"\xd9\xa1",
    ];
    let long: [&[u8]; 6] = [
        b"1,000",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"18446744073709551617",
        b"99999999999999999999999999",
        b"340282366920938463463374607431768211457",
    ];
    for stored in short.iter().chain(&long) {
        for frame in [inc(b"key"), dec(b"key")] {
            rows.push(row(
                &format!("\"{}\" is no number", stored.escape_ascii()),
                [set(b"key", stored), frame, get(b"key")].concat(),
                [b"OK\r\nERR\r\n".to_vec(), line(stored)].concat(),
                Open,
            ));
        }
    }
    rows
}

/// Frames that cannot be parsed, each up to the byte that shows it.
fn broken() -> Vec<Row> {
    vec![
        // Commands.
        row("a lower-case command", b"g", b"ERR\r\n", Broken),
        row("lower case further in", b"Ge", b"ERR\r\n", Broken),
        row("an unknown command", b"FLUSH", b"ERR\r\n", Closed),
        row("an unknown command, its first byte", b"F", b"ERR\r\n", Broken),
        row("an unknown command that begins like GET", b"GEX", b"ERR\r\n", Broken),
        row("an unknown command that begins like SET", b"SEN", b"ERR\r\n", Broken),
        row("an unknown command that begins like INC", b"IND", b"ERR\r\n", Broken),
        row("an unknown command that begins like DEC or DEL", b"DEX", b"ERR\r\n", Broken),
        row("an unknown command that begins like SET or DEL", b"SD", b"ERR\r\n", Broken),
        row("a NUL first", b"\0", b"ERR\r\n", Broken),
        row("an empty line", b"\r", b"ERR\r\n", Broken),
        row("an LF first", b"\n", b"ERR\r\n", Broken),
        row("a CRLF between frames", b"GET\x003\0key\r\n\r", b"ERR\r\nERR\r\n", Broken),
        row("a space in place of the NUL", b"GET ", b"ERR\r\n", Broken),
        row("a command and nothing else", b"GET\r", b"ERR\r\n", Broken),
        row("a longer command", b"GETS", b"ERR\r\n", Broken),
        row("an octal NUL spelt out", b"GET\\", b"ERR\r\n", Broken),
        // What is no client of ours.
        row("an HTTP request", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"ERR\r\n", Closed),
        row("a memcached request", b"set key 0 0 5\r\nvalue\r\n", b"ERR\r\n", Closed),
        row("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"ERR\r\n", Closed),
        row("a TLS hello, the byte that shows it", b"\x16", b"ERR\r\n", Broken),
        row("a byte above ASCII", b"\xff", b"ERR\r\n", Broken),
        // A value's length; what keys have in common with it is below, for each command.
        row("a value without a length", b"SET\x003\0key\0\0", b"ERR\r\n", Broken),
        row("a value's length with a plus", b"SET\x003\0key\0+", b"ERR\r\n", Broken),
        row("a value's length below zero", b"SET\x003\0key\0-", b"ERR\r\n", Broken),
        row("a value's length with a space before it", b"SET\x003\0key\0 ", b"ERR\r\n", Broken),
        row("a value's length with a space after it", b"SET\x003\0key\x005 ", b"ERR\r\n", Broken),
        row("a value's length in hexadecimal", b"SET\x003\0key\x000x", b"ERR\r\n", Broken),
        row("a value's length ended by a CRLF", b"SET\x003\0key\x005\r", b"ERR\r\n", Broken),
        row("a value's length of 21 digits", format!("SET\x003\0key\0{:021}", 5), b"ERR\r\n", Broken),
        row("a value of 16 mb and one byte", b"SET\x003\0key\x0016777217", b"ERR\r\n", Broken),
        row("a value's length of 30 digits", b"SET\x003\0key\x00123456789012345678901234567890\0", b"ERR\r\n", Closed),
        row(
            "a value's length of 30 digits, the digit that shows it",
            b"SET\x003\0key\x00123456789",
            b"ERR\r\n",
            Broken,
        ),
        row(
            "a value's length that wraps to 5 in 64 bits",
            b"SET\x003\0key\x0018446744073709551621\0value\r\n",
            b"ERR\r\n",
            Closed,
        ),
        row(
            "a value's length that wraps to 5 in 32 bits",
            b"SET\x003\0key\x004294967301\0value\r\n",
            b"ERR\r\n",
            Closed,
        ),
        // Around a value.
        row("SET without a value", b"SET\x003\0key\r", b"ERR\r\n", Broken),
        row("a value longer than it says", b"SET\x003\0key\x005\0values", b"ERR\r\n", Broken),
        row("a value shorter than it says", b"SET\x003\0key\x005\0abc\r\nG", b"ERR\r\n", Broken),
        row("a value ended by LF alone", b"SET\x003\0key\x005\0value\n", b"ERR\r\n", Broken),
        row("a value ended by CR and more", b"SET\x003\0key\x005\0value\rx", b"ERR\r\n", Broken),
        row("a value ended by CR twice", b"SET\x003\0key\x005\0value\r\r", b"ERR\r\n", Broken),
        row("a value ended by NUL", b"SET\x003\0key\x005\0value\0", b"ERR\r\n", Broken),
        row("an empty value ended by NUL", b"SET\x003\0key\x000\0\0", b"ERR\r\n", Broken),
        // Its neighbours.
        row(
            "replies due before a broken frame come first",
            b"INC\x003\0key\r\nINC\x003\0key\r\nGET\x005\0other\r\nX",
            b"1\r\n2\r\nERR\r\nERR\r\n",
            Broken,
        ),
        row(
            "what follows a broken frame is not read as commands",
            b"INC\x003\0key\r\nINC 3\0key\r\nINC\x003\0key\r\nINC\x003\0key\r\n",
            b"1\r\nERR\r\n",
            Closed,
        ),
        row(
            "a SET that breaks at its end stores nothing",
            b"INC\x003\0key\r\nSET\x003\0key\x001\x005\rx",
            b"1\r\nERR\r\n",
            Broken,
        ),
    ]
}

/// What breaks a frame anywhere in its command and key.
fn broken_in_each_command() -> Vec<Row> {
    let mut rows = Vec::new();
    for command in ["GET", "SET", "INC", "DEC", "DEL"] {
        let mut add = |name: &str, rest: &[u8], ending| {
            let send = [command.as_bytes(), rest].concat();
            rows.push(row(&format!("{command}, {name}"), send, b"ERR\r\n", ending));
        };
        add("no length", b"\0\0", Broken);
        add("length +3", b"\0+", Broken);
        add("length -3", b"\0-", Broken);
        add("a space before the length", b"\0 ", Broken);
        add("a space after the length", b"\x003 ", Broken);
        add("a letter as length", b"\0k", Broken);
        add("a letter in the length", b"\x003k", Broken);
        add("a digit of another script", b"\0\xd9", Broken);
        add("the length ended by a CRLF", b"\x003\r", Broken);
        add("no key at all", b"\r", Broken);
        add("a key of 65,536 bytes", b"\x0065536", Broken);
        add("a key of 655,350 bytes", b"\x00655350", Broken);
        add("a key of 70,000 bytes, the digit that shows it", b"\x0070000", Broken);
        add("a length of 21 digits", format!("\0{:021}", 3).as_bytes(), Broken);
        add("a length of 30 digits", b"\x00123456789012345678901234567890\0key\r\n", Closed);
        add("a length of 30 digits, the digit that shows it", b"\x00123456", Broken);
        add("a length that wraps to 3 in 64 bits", b"\x0018446744073709551619\0key\r\n", Closed);
        add("a length that wraps to 3 in 32 bits", b"\x004294967299\0key\r\n", Closed);
        add("a length that wraps to 3 in 16 bits", b"\x0065539", Broken);
        add("a key longer than it says", b"\x003\0keys", Broken);
        add("a key ended by LF alone", b"\x003\0key\n", Broken);
        add("a key shorter than it says", b"\x005\0key\r\nG", Broken);
        add("an empty key and more", b"\x000\0x", Broken);
        if command != "SET" {
            add("a key ended by NUL", b"\x003\0key\0", Broken);
            add("a key ended by CR and more", b"\x003\0key\rx", Broken);
            add("a key ended by CR twice", b"\x003\0key\r\r", Broken);
        }
    }
    rows
}

/// Frames that the end of input cuts off, anywhere: what was complete by then is answered, and nothing else.
fn unfinished() -> Vec<Row> {
    let frames = [get(b"key"), set(b"key", b"value"), inc(b"key"), dec(b"key"), del(b"key")];
    let cut = |frame: &Vec<u8>, len: usize| {
        let name = format!("{} cut after {len} bytes", frame.escape_ascii());
        row(&name, [&inc(b"other"), &frame[..len]].concat(), b"1\r\n", Unfinished)
    };
    let rows = frames.iter().flat_map(|frame| (0..frame.len()).map(move |len| cut(frame, len)));
    let alone = [
        row("nothing at all", b"", b"", Unfinished),
        row("a value announced and not sent", b"SET\x003\0key\x0016777216\0", b"", Unfinished),
        row("a length of twenty digits that is not done", format!("GET\0{:020}", 3), b"", Unfinished),
    ];
    rows.chain(alone).collect()
}

/// `len` bytes that do not repeat, NULs and CRLFs among them.
fn noise(len: usize) -> Vec<u8> {
    Random::new(len as u64).bytes(len)
}

fn zeros_and_seven(len: usize) -> Vec<u8> {
    let mut digits = vec![b'0'; len];
    digits[len - 1] = b'7';
    digits
}

fn row(name: &str, send: impl Into<Vec<u8>>, expect: impl Into<Vec<u8>>, ending: Ending) -> Row {
    Row { name: name.to_owned(), send: send.into(), expect: expect.into(), ending }
}
