//! The logger: `log`'s records as lines on standard error, which must not hold up the event loop.
//!
//! Standard error may be a pipe that nobody reads, or a terminal stopped with Ctrl-S, and writing to it would then
//! block. It cannot be made non-blocking, since that would change it for every process that shares it, and a thread of
//! its own for the logger would cost the server its one thread. So each line first asks whether there is room, and a
//! line that would wait is dropped and counted instead. A terminal may have room for half a line and wait in the
//! middle, so one is opened anew, without blocking. It knows nothing of what is logged.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use env_logger::{Builder, Target};
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::limits::LOG_LINE_BYTES_MAX;

/// Starts logging at `level`, unless the environment's `RUST_LOG` says otherwise. To be called once.
pub fn start(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level).parse_default_env();
    let target: Box<dyn Write + Send> = match own_terminal() {
        Some(terminal) => Box::new(Patient::new(terminal)),
        None => Box::new(Patient::new(io::stderr())),
    };
    builder.format_timestamp_millis().target(Target::Pipe(target)).init();
}

/// The terminal that standard error is, opened again for this process alone. Nothing if it is none, or belongs to
/// somebody else.
fn own_terminal() -> Option<File> {
    if !io::stderr().is_terminal() {
        return None;
    }
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    File::options().write(true).custom_flags(flags.bits() as i32).open("/dev/stderr").ok()
}

/// An output that drops a line rather than wait.
struct Patient<W> {
    out: W,
    dropped: u64,
}

impl<W: Write + AsFd> Patient<W> {
    fn new(out: W) -> Self {
        Patient { out, dropped: 0 }
    }

    /// Writes a line if that needs no waiting, and returns whether it did.
    fn put(&mut self, line: &[u8]) -> io::Result<bool> {
        if !self.has_room() {
            return Ok(false);
        }
        match self.out.write_all(line) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Whether a line can be written now. When that cannot be told, writing will tell.
    fn has_room(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.out, PollFlags::OUT)];
        poll(&mut descriptors, Some(&Timespec::default())) != Ok(0)
    }
}

impl<W: Write + AsFd> Write for Patient<W> {
    /// Takes a whole line, as `env_logger` hands them out.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 {
            let dropped = self.dropped;
            let note = format!("[{dropped} lines were dropped here: there was no room for them]\n");
            if self.put(note.as_bytes())? {
                self.dropped = 0;
            }
        }
        let written = if line.len() <= LOG_LINE_BYTES_MAX {
            self.put(line)?
        } else {
            let mut cut = line[..LOG_LINE_BYTES_MAX - 1].to_vec();
            cut.push(b'\n');
            self.put(&cut)?
        };
        self.dropped += u64::from(!written);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let lines = line.clone();
        let (done, written) = mpsc::channel();
        // On a thread, so that a logger which waits fails the test instead of hanging it.
        thread::spawn(move || {
            let mut log = Patient::new(writer);
            while log.dropped < 1000 {
                assert_eq!(log.write(&lines).expect("a full pipe is no error"), lines.len());
            }
            done.send(log)
        });
        let mut log = written.recv_timeout(Duration::from_secs(20)).expect("writing waits for no reader");
        let mut read = vec![0; 65_536];
        let length = reader.read(&mut read).expect("lines are there");
        assert!(read[..length].chunks_exact(line.len()).all(|read| read == line), "whole lines");

        log.write_all(b"again\n").and_then(|()| log.write_all(b"and again\n")).expect("room again");
        drop(log);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        let note = "[1000 lines were dropped here: there was no room for them]\nagain\nand again\n";
        assert!(rest.ends_with(note), "{rest:?}");
    }

    #[test]
    fn a_line_too_long_for_a_pipe_is_cut() {
        let (mut reader, writer) = io::pipe().expect("a pipe");
        Patient::new(writer).write_all(&[b'x'; 10_000]).expect("room");
        let mut read = String::new();
        reader.read_to_string(&mut read).expect("text");
        assert_eq!((read.len(), read.ends_with("x\n")), (LOG_LINE_BYTES_MAX, true));
    }
}
