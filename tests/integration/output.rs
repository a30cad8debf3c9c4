//! Replies that are not sent yet: in order however much is sent at a time, and in no more memory than they must take.

use std::io::{self, IoSlice};

use bytes::Bytes;
use gostash::command::Value;
use gostash::limits::{CHUNK_BYTES, OUTPUT_HIGH_BYTES, OUTPUT_SPARE_BYTES_MAX};
use gostash::output::{Output, Spare};

fn gather(output: &Output) -> Vec<u8> {
    let mut slices = [IoSlice::new(&[]); 64];
    let (filled, total) = output.slices(&mut slices, usize::MAX);
    assert_eq!(total, output.len());
    slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
}

#[test]
fn pieces_stay_in_order_whatever_is_consumed() {
    let chunks = [Bytes::from(vec![b'x'; CHUNK_BYTES]), Bytes::from(vec![b'y'; CHUNK_BYTES])];
    let mut expected = vec![b'a'; 5000];
    for step in [1000, 4999, 5000, 5001, CHUNK_BYTES, 40_000, 70_000] {
        let mut output = Output::default();
        output.push(&[b'a'; 5000]);
        output.push_value(Value { chunks: &chunks, rest: b"rest" }, b"\r\n");
        output.push(b"end");
        expected.truncate(5000);
        expected.extend(chunks.concat());
        expected.extend(b"rest\r\nend");
        // What one write takes ends with the piece that reaches its bound.
        for (bytes_max, bytes) in [(1, 5000), (5000, 5000), (5001, 5000 + CHUNK_BYTES)] {
            assert_eq!(output.slices(&mut [IoSlice::new(&[]); 64], bytes_max).1, bytes);
        }
        let mut at = 0;
        while !output.is_empty() {
            assert_eq!(gather(&output), &expected[at..], "after {at} in steps of {step}");
            let count = step.min(output.len());
            output.consume(count);
            at += count;
        }
        assert_eq!(at, expected.len());
    }
}

#[test]
fn a_reader_who_never_catches_up_does_not_make_it_grow() {
    let mut output = Output::default();
    output.push(&[0; 10_000]);
    for _ in 0..1000 {
        output.push(&[0; 1000]);
        output.consume(1000);
    }
    assert!(output.held_bytes() < 100_000, "{} bytes held", output.held_bytes());
}

#[test]
fn an_empty_output_gives_its_buffer_back() {
    let mut spare = Spare::default();
    let mut output = Output::default();
    output.push(b"abc");
    output.take_back(&mut spare, false);
    assert_eq!(spare.bytes, 0, "it is not empty yet");
    output.consume(3);
    output.take_back(&mut spare, false);
    assert_eq!((spare.bytes > 0, output.held_bytes()), (true, 0));
    output.lend(&mut spare);
    assert_eq!((spare.bytes, output.held_bytes() > 0), (0, true));
}

#[test]
fn spare_buffers_take_a_bounded_number_of_bytes_in_all() {
    let mut spare = Spare::default();
    let reply_bytes = OUTPUT_HIGH_BYTES;
    for count in 1..=2 * OUTPUT_SPARE_BYTES_MAX / reply_bytes {
        let mut output = Output::default();
        output.push(&vec![0; reply_bytes]);
        output.consume(reply_bytes);
        output.take_back(&mut spare, false);
        assert_eq!(spare.bytes, (count * reply_bytes).min(OUTPUT_SPARE_BYTES_MAX));
    }
}

#[test]
fn who_is_slow_to_read_little_holds_no_large_buffer() {
    let (mut spare, mut long, mut short) = (Spare::default(), Output::default(), Output::default());
    long.push(&[b'v'; OUTPUT_HIGH_BYTES]);
    long.consume(OUTPUT_HIGH_BYTES);
    long.take_back(&mut spare, false);
    short.lend(&mut spare);
    short.push(b"short");
    short.take_back(&mut spare, false);
    assert_eq!((short.held_bytes(), spare.bytes >= OUTPUT_HIGH_BYTES), (5, true));
    assert_eq!(gather(&short), b"short");
    // While it may get more, it has room for that again.
    short.lend(&mut spare);
    assert_eq!((short.held_bytes() >= OUTPUT_HIGH_BYTES, spare.bytes, gather(&short)), (true, 0, b"short".to_vec()));
    short.consume(5);
    short.take_back(&mut spare, false);
    assert_eq!((short.held_bytes(), short.contiguous()), (0, Some(&b""[..])));
}

/// What a slow client leaves unread may have grown by doubling.
#[test]
fn while_buffers_are_scarce_what_waits_has_no_room_for_more() {
    let (mut spare, mut output) = (Spare::default(), Output::default());
    output.push(&[b'v'; 1000]);
    output.push(b"more");
    for (are_scarce, held, given_back) in [(false, 2000, 0), (true, 1004, 2000)] {
        output.take_back(&mut spare, are_scarce);
        assert_eq!((output.held_bytes(), output.len(), spare.bytes), (held, 1004, given_back));
    }
}

/// A socket that a signal interrupts once, and that then takes five bytes.
struct Interrupted(usize);

impl io::Write for Interrupted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += 1;
        if self.0 == 1 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(bytes.len().min(5)) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_signal_in_the_middle_of_a_write_loses_nothing() {
    let mut output = Output::default();
    output.push(b"hello, world");
    let mut socket = Interrupted(0);
    let mut write = || output.write_to(&mut socket, usize::MAX);
    assert!(write().1.is_err_and(|error| error.kind() == io::ErrorKind::Interrupted));
    let (tried, result) = write();
    assert_eq!((tried, result.ok()), (12, Some(5)));
    assert_eq!(gather(&output), b", world");
}

/// SCAN of long keys and CLIENT LIST are answered with megabytes, which a socket may take at once.
#[test]
fn a_long_reply_is_written_in_pieces() {
    let mut output = Output::default();
    output.push(&[b'r'; 100_000]);
    let (tried, result) = output.write_to(&mut io::sink(), 30_000);
    assert_eq!((tried, result.ok(), output.len()), (30_000, Some(30_000), 70_000));
}

/// A reader who never quite catches up, with a chunk waiting for him at any time, makes it grow no further.
#[test]
fn what_was_sent_is_given_back_while_chunks_wait() {
    let chunk = Bytes::from(vec![b'c'; CHUNK_BYTES]);
    let mut output = Output::default();
    for _ in 0..1000 {
        output.push_value(Value { chunks: std::slice::from_ref(&chunk), rest: &[b'r'; 2000] }, b"\r\n");
        // All but half of the last chunk, and what follows it.
        output.consume(output.len() - CHUNK_BYTES / 2 - 2002);
        assert!(output.held_bytes() < 100_000, "it holds {} bytes", output.held_bytes());
    }
}
