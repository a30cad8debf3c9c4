//! Logging does not wait: a line for which there is no room is dropped.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gostash::limits::LOG_LINE_BYTES_MAX;
use gostash::logger::LossyWriter;

fn pipe() -> (PipeReader, LossyWriter) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, LossyWriter { out: OwnedFd::from(writer).into(), dropped: 0 })
}

#[test]
fn a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody() {
    let (mut reader, mut log) = pipe();
    let line = [b"x".repeat(99), b"\n".to_vec()].concat();
    let lines = line.clone();
    let (done, written) = mpsc::channel();
    // On a thread, so that a logger which waits fails the test instead of hanging it.
    thread::spawn(move || {
        while log.dropped < 1000 {
            assert_eq!(log.write(&lines).expect("a full pipe is no error"), lines.len());
        }
        done.send(log)
    });
    let mut log = written.recv_timeout(Duration::from_secs(20)).expect("writing waits for no reader");
    let mut read = vec![0; 65_536];
    let length = reader.read(&mut read).unwrap();
    assert!(read[..length].chunks_exact(line.len()).all(|read| read == line), "whole lines");

    log.write_all(b"again\n").and_then(|()| log.write_all(b"and again\n")).expect("room again");
    drop(log);
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let note = "[1000 lines were dropped here: there was no room for them]\nagain\nand again\n";
    assert!(rest.ends_with(note), "{rest:?}");
}

#[test]
fn a_line_too_long_for_a_pipe_is_cut() {
    let (mut reader, mut log) = pipe();
    log.write_all(&[b'x'; 10_000]).expect("room");
    drop(log);
    let mut read = String::new();
    reader.read_to_string(&mut read).unwrap();
    assert_eq!((read.len(), read.ends_with("x\n")), (LOG_LINE_BYTES_MAX, true));
}
