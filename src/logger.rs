//! The logger: `log`'s records as lines on standard error, which must not hold up the event loop.
//!
//! Standard error may be a pipe that nobody reads, or a terminal that was stopped with Ctrl-S, and writing to it would
//! then block. It cannot be made non-blocking, since that would change it for every process that shares it. A
//! thread of its own for the logger would cost the server its one thread. So each line first asks whether there is room, and a
//! line that would wait is dropped and counted instead. It knows nothing of what is logged.

use std::io::{self, Stderr, Write};

use env_logger::{Builder, Target};
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Bytes of a line that are written; more would not surely fit a pipe that has room (`PIPE_BUF` on Linux).
const LINE_BYTES_MAX: usize = 4096;

/// Starts logging at `level`, unless the environment's `RUST_LOG` says otherwise. To be called once.
pub fn start(level: LevelFilter) {
    let mut builder = Builder::new();
    builder.filter_level(level).parse_default_env().format_timestamp_millis();
    builder.target(Target::Pipe(Box::new(Patient { stderr: io::stderr(), dropped: 0 }))).init();
}

/// Standard error that drops a line rather than wait.
struct Patient {
    stderr: Stderr,
    dropped: u64,
}

impl Patient {
    /// Whether a line can be written now. When that cannot be told, writing will tell.
    fn has_room(&self) -> bool {
        let mut descriptors = [PollFd::new(&self.stderr, PollFlags::OUT)];
        poll(&mut descriptors, Some(&Timespec::default())) != Ok(0)
    }
}

impl Write for Patient {
    /// Takes a whole line, as `env_logger` hands them out.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.dropped > 0 && self.has_room() {
            let dropped = std::mem::take(&mut self.dropped);
            let note = format!("[{dropped} lines were dropped here: there was no room for them]\n");
            self.stderr.write_all(note.as_bytes())?;
        }
        if !self.has_room() {
            self.dropped += 1;
        } else if line.len() <= LINE_BYTES_MAX {
            self.stderr.write_all(line)?;
        } else {
            let mut cut = line[..LINE_BYTES_MAX - 1].to_vec();
            cut.push(b'\n');
            self.stderr.write_all(&cut)?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
