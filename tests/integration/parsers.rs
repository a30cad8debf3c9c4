//! Both parsers, on all short strings of some bytes behind the beginnings of frames: what they say of one, and what they
//! may then say of those that continue it.

use gostash::command::{Action, Clock, Expiry};
use gostash::protocol::resp::{self, Arguments, Cursor};
use gostash::protocol::{Parsed, Stop, stash};

const VALUE_BYTES_MAX: usize = 40_000;

const BYTES_MAX: usize = 5; // that are tried behind each beginning

#[test]
fn what_was_said_of_a_string_holds_for_all_that_begin_with_it() {
    let frames: [&[u8]; 10] = [
        b"",
        b"*2\r\n$3\r\nGET\r\n",
        b"*2\r\n$3\r\nget\r\n$2\r\n",
        b"*2\r\n$4\r\nINCR\r\n$1\r\n",
        b"*2\r\n$4\r\ndecr\r\n$1\r\n",
        b"*2\r\n$4\r\nMGET\r\n$0\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n",
        b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3277",
        b"*5\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r\n$2\r\nEX\r\n$1\r\n",
        b"PING",
    ];
    for frame in frames {
        visit(parse_resp, b"*$12-\r\nGET\x000", &mut frame.to_vec(), BYTES_MAX, None);
    }
    for frame in [&b""[..], b"GET\0", b"DEC\x002\0", b"SET\x001\0k", b"SET\x001\0k\x001\0", b"SET\x001\0k\x003277"] {
        visit(parse_stash, b"GETSINC\x00012-\r\n", &mut frame.to_vec(), BYTES_MAX, None);
    }
}

/// Tries `input`, and all that is up to `most` bytes longer. `before` is what was said of it without its last byte, and
/// how long the shortest frame that begins like this can be.
fn visit(
    parse: fn(&[u8]) -> Parsed<String>,
    bytes: &[u8],
    input: &mut Vec<u8>,
    most: usize,
    before: Option<&(Parsed<String>, usize)>,
) {
    let said = parse(input);
    let mut shortest = before.map_or(0, |(_, shortest)| *shortest);
    match (&said, before) {
        (_, Some((all, _))) if !matches!(all, Err(Stop::Incomplete(_))) => assert_eq!(said, *all),
        (Ok((_, end)) | Err(Stop::Long(_, end)), _) => assert!((shortest..=input.len()).contains(end)),
        (Err(Stop::Incomplete(needed)), _) => {
            assert!(*needed > input.len(), "{}: {needed}", input.escape_ascii());
            shortest = shortest.max(*needed);
        }
        (Err(Stop::Broken(_)), _) => {}
    }
    // Two bytes more show whether it is final.
    let most = if matches!(said, Err(Stop::Incomplete(_))) { most } else { most.min(2) };
    let said = (said, shortest);
    for byte in bytes.iter().take_while(|_| most > 0) {
        input.push(*byte);
        visit(parse, bytes, input, most - 1, Some(&said));
        input.pop();
    }
}

fn parse_stash(input: &[u8]) -> Parsed<String> {
    stash::parse(input, VALUE_BYTES_MAX, None).map(|(command, end)| (format!("{command:?}"), end))
}

/// What is taken at a glance means what the table says.
fn parse_resp(input: &[u8]) -> Parsed<String> {
    let mut arguments = Arguments::default();
    let step = resp::parse(input, Cursor::default(), VALUE_BYTES_MAX, true, &[], &mut arguments);
    if let Some((mut command, index, end)) = resp::parse_plain(input, VALUE_BYTES_MAX, Clock::default()) {
        let step = step.as_ref().expect("a frame");
        let verb = step.next.verb.expect("a command");
        let action = verb.plan.expect("one on keys")(&arguments, Clock::default()).expect("well-formed");
        if let Action::Set(value) = command.action {
            command.action = Action::Write { value, if_present: None, expiry: Expiry::Default, returns_old: false };
        }
        assert_eq!((verb.index, step.next.left, step.consumed), (index, 0, end), "{}", input.escape_ascii());
        assert_eq!((verb.key(&arguments), action), (command.key, command.action), "{}", input.escape_ascii());
    }
    step.map(|step| (format!("{arguments:?}"), step.consumed))
}
