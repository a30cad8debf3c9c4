//! The line that moves while a run is under way: on a terminal, and nowhere else.

use std::io::{IsTerminal, Write, stderr};

use crate::report::count;

const NANOS_PER_UPDATE: u64 = 250_000_000;

pub struct Progress {
    is_terminal: bool,
    /// When it was shown last, in nanoseconds since the run began.
    shown_nanos: u64,
}

impl Progress {
    pub fn new() -> Self {
        Progress { is_terminal: stderr().is_terminal(), shown_nanos: 0 }
    }

    /// Shows it anew, a few times a second. A run without a name shows nothing.
    pub fn show(&mut self, what: &str, nanos: u64, replies: u64) {
        if !self.is_terminal || what.is_empty() || nanos < self.shown_nanos + NANOS_PER_UPDATE {
            return;
        }
        self.shown_nanos = nanos;
        let seconds = nanos as f64 / 1e9;
        let rate = count((replies as f64 / seconds) as u64);
        let _ = write!(stderr(), "\r\x1b[K  {what}: {seconds:.1} s, {} replies, {rate}/s", count(replies));
    }
}

impl Drop for Progress {
    /// Takes it away.
    fn drop(&mut self) {
        if self.shown_nanos > 0 {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
