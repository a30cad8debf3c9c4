//! GoStash frames, by bytes alone: what a broken one is told, and how much more an unfinished one waits for. The rest
//! is in `rows`.

use gostash::protocol::Stop;
use gostash::protocol::stash::parse;

const WORD: &str = "expected GET, SET, INC, DEC or DEL and a NUL";
const LENGTH: &str = "expected a length of 1 to 20 digits and a NUL";
const LIMIT: &str = "expected a length within its limit";
const DELIMITER: &str = "expected a NUL after the key";
const LINE_END: &str = "expected CRLF at the end of the frame";

const MAX: usize = 1 << 20;

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
fn a_broken_frame_is_told_what_was_expected() {
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
    }
}
