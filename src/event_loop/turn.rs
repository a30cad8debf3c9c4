//! The loop's account of itself: how long each turn took, and what it was busy with. Every promise about stalls is
//! checked against it. It decides nothing.

use std::fmt;
use std::time::{Duration, Instant};

use super::history::History;
use rustix::time::{ClockId, clock_gettime};

/// A turn up to this long needs no second look: it cannot have taken more CPU time.
const SHORT: Duration = Duration::from_micros(100);

/// How old a reading of the thread's CPU time may be. It takes half a microsecond, too much for each turn.
const READING_AGE_MAX: Duration = Duration::from_micros(250);

/// What one turn did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The CPU time that it took, in nanoseconds.
    pub(super) nanos: u64,
    /// Connections accepted.
    pub(super) accepted: u64,
    /// Connections closed.
    pub(super) closed: u64,
    /// Connections read from or written to.
    pub(super) visited: u64,
    /// Commands executed.
    pub(super) commands: u64,
    /// Bytes read.
    pub(super) bytes_in: u64,
    /// Bytes written.
    pub(super) bytes_out: u64,
    /// The store's work, in its units.
    pub(super) work: u64,
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Turn { nanos, accepted, closed, visited, .. } = self;
        let Turn { commands, bytes_in, bytes_out, work, .. } = self;
        let micros = nanos / 1000;
        write!(
            formatter,
            "{micros}us (accepted={accepted} closed={closed} visited={visited} commands={commands} \
             bytes_in={bytes_in} bytes_out={bytes_out} work={work})"
        )
    }
}

/// Measures turns and keeps the longest.
#[derive(Debug)]
pub(super) struct TurnClock {
    started: Instant,
    turn_started: Instant,
    /// The thread's CPU time when it was last read, and when that was.
    cpu_read: Duration,
    cpu_read_at: Instant,
    /// What turns have taken since.
    since_reading: Duration,
    /// How many turns there have been.
    pub(super) turns: u64,
    /// The longest of them.
    pub(super) longest: Turn,
    /// The turns of the last hour.
    pub(super) history: History,
}

impl TurnClock {
    /// A clock that starts now.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        TurnClock {
            started: now,
            turn_started: now,
            cpu_read: thread_cpu_time(),
            cpu_read_at: now,
            since_reading: Duration::ZERO,
            turns: 0,
            longest: Turn::default(),
            history: History::new(),
        }
    }

    /// Starts a turn and returns the time since the clock was made, in milliseconds: the turn's one look at the clock.
    pub(super) fn begin(&mut self) -> u64 {
        self.turn_started = Instant::now();
        if self.turn_started - self.cpu_read_at > READING_AGE_MAX {
            self.read_cpu_time(self.turn_started);
        }
        (self.turn_started - self.started).as_millis() as u64
    }

    /// Ends a turn that did what `turn` says.
    pub(super) fn end(&mut self, turn: Turn) {
        let now = Instant::now();
        let mut taken = now - self.turn_started;
        self.turns += 1;
        if taken > SHORT {
            // Others may have had the core for a part of it. What the thread itself has used since the last reading,
            // less what short turns took, is this turn's; polling in between makes it a little too much.
            let before = self.cpu_read + self.since_reading;
            self.read_cpu_time(now);
            taken = taken.min(self.cpu_read.saturating_sub(before));
        } else {
            self.since_reading += taken;
        }
        let turn = Turn { nanos: taken.as_nanos() as u64, ..turn };
        self.history.note((now - self.started).as_secs(), &turn);
        if turn.nanos > self.longest.nanos {
            self.longest = turn;
        }
    }

    /// The CPU time that this thread has used, in microseconds.
    pub(super) fn cpu_micros(&self) -> u64 {
        thread_cpu_time().as_micros() as u64
    }

    fn read_cpu_time(&mut self, now: Instant) {
        self.cpu_read = thread_cpu_time();
        self.cpu_read_at = now;
        self.since_reading = Duration::ZERO;
    }
}

/// The CPU time that this thread has used so far.
fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
