//! GoStash frames, by bytes alone: what is read, and at which byte a broken one is known.

use gostash::command::{Action, Command, Value};
use gostash::limits::SMALL_VALUE_BYTES_MAX;
use gostash::protocol::Stop;
use gostash::protocol::stash::parse;

const WORD: &str = "expected GET, SET, INC, DEC or DEL and a NUL";
const LENGTH: &str = "expected a length of 1 to 20 digits and a NUL";
const LIMIT: &str = "expected a length within its limit";
const DELIMITER: &str = "expected a NUL after the key";
const LINE_END: &str = "expected CRLF at the end of the frame";

const MAX: usize = 1 << 20;

#[track_caller]
fn check(input: &[u8], key: &[u8], action: Action<'_>) {
    assert_eq!(parse(input, MAX, None), Ok((Command { key, action }, input.len())), "{}", input.escape_ascii());
}

#[test]
fn each_command_is_read() {
    check(b"GET\x003\0key\r\n", b"key", Action::Get);
    check(b"SET\x003\0key\x005\0a\0\r\nb\r\n", b"key", Action::Set(Value::small(b"a\0\r\nb")));
    check(b"INC\x003\0key\r\n", b"key", Action::Add(1));
    check(b"DEC\x00003\0key\r\n", b"key", Action::Add(-1));
    check(b"DEL\x000\0\r\n", b"", Action::Delete);
}

#[test]
fn every_prefix_is_incomplete_and_never_asks_for_too_much() {
    for frame in [b"GET\x00003\0key\r\n".as_slice(), b"SET\x003\0key\x0010\x000123456789\r\n"] {
        for length in 0..frame.len() {
            match parse(&frame[..length], MAX, None) {
                Err(Stop::Incomplete(needed)) => {
                    assert!((length + 1..=frame.len()).contains(&needed));
                }
                other => panic!("{}: {other:?}", frame[..length].escape_ascii()),
            }
        }
    }
}

#[test]
fn a_broken_frame_is_known_at_its_earliest_byte() {
    for (input, error) in [
        (b"X".as_slice(), WORD),
        (b"GEX", WORD),
        (b"g", WORD),
        (b"GET ", WORD),
        (b"GET\0\0", LENGTH),
        (b"GET\0+", LENGTH),
        (b"GET\0-", LENGTH),
        (b"GET\x003x", LENGTH),
        (b"GET\x00000000000000000000000", LENGTH),
        (b"GET\x0065536", LIMIT),
        (b"GET\x001\0kx", LINE_END),
        (b"GET\x001\0k\rx", LINE_END),
        (b"SET\x001\0kx", DELIMITER),
        (b"SET\x001\0k\0\0", LENGTH),
        (b"SET\x001\0k\x001048577", LIMIT),
        (b"SET\x001\0k\x001\0vx", LINE_END),
    ] {
        assert_eq!(parse(input, MAX, None), Err(Stop::Broken(error.into())), "{}", input.escape_ascii());
        let before = &input[..input.len() - 1];
        assert!(
            !matches!(parse(before, MAX, None), Err(Stop::Broken(_))),
            "{} is not broken yet",
            before.escape_ascii()
        );
    }
}

#[test]
fn a_large_value_is_left_to_come_in_by_itself() {
    let head = format!("SET\x001\0k\0{}\0", SMALL_VALUE_BYTES_MAX + 1);
    assert_eq!(parse(head.as_bytes(), MAX, None), Err(Stop::Long(SMALL_VALUE_BYTES_MAX + 1, head.len())));
    let (value, whole) = (Value::small(b"stands for it"), [head.as_bytes(), b"\r\n"].concat());
    let command = Command { key: b"k", action: Action::Set(value) };
    assert_eq!(parse(&whole, MAX, Some(value)), Ok((command, whole.len())));
    assert_eq!(parse(head.as_bytes(), MAX, Some(value)), Err(Stop::Incomplete(head.len() + 1)));
}
