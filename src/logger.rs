//! The logger: it writes log records as lines to standard error, and never blocks the event loop.
//!
//! Standard error may be a pipe that nobody reads, or a terminal stopped with Ctrl-S, and writing to it would then
//! block. It cannot be made non-blocking, since that would change it for every process that shares it, and a thread for
//! the logger would be the server's second. So before a line is written, the kernel is asked whether there is room; if
//! not, the line is dropped and counted. A terminal with room for half a line would block, and is opened anew instead.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;

use env_logger::{Builder, Target};
use log::LevelFilter;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

use crate::limits::LOG_LINE_BYTES_MAX;

/// Starts logging at `level`, or as the environment's `RUST_LOG` says, unless no descriptor is left. Call it once.
pub fn start(level: LevelFilter) -> io::Result<()> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits() as i32;
    let anew = || File::options().write(true).custom_flags(flags).open("/dev/stderr");
    let out = match io::stderr().is_terminal().then(anew) {
        Some(Ok(terminal)) => terminal,
        // It is no terminal, or one that belongs to another user.
        _ => io::stderr().as_fd().try_clone_to_owned()?.into(),
    };
    let target = Target::Pipe(Box::new(LossyWriter { out, dropped: 0 }));
    Builder::new().filter_level(level).parse_default_env().format_timestamp_millis().target(target).init();
    Ok(())
}

/// A writer that drops a line rather than wait.
pub struct LossyWriter {
    /// Where lines go.
    pub out: File,
    /// How many lines have been dropped since one was last written.
    pub dropped: u64,
}

impl Write for LossyWriter {
    /// Takes a whole line at a time, which is how `env_logger` writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut text = match self.dropped {
            0 => Vec::new(),
            dropped => format!("[{dropped} lines were dropped here: there was no room for them]\n").into_bytes(),
        };
        text.extend_from_slice(line);
        if text.len() > LOG_LINE_BYTES_MAX {
            text.truncate(LOG_LINE_BYTES_MAX - 1);
            text.push(b'\n');
        }
        // If there is no room, the poll may also fail: a signal interrupts it even though it does not wait.
        let has_room = poll(&mut [PollFd::new(&self.out, PollFlags::OUT)], Some(&Timespec::default())) == Ok(1);
        self.dropped = if has_room && self.out.write_all(&text).is_ok() { 0 } else { self.dropped + 1 };
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
