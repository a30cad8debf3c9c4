//! The loop's account of itself: how long each turn took, what it was busy with, and what the last hour was like. Every
//! promise about stalls is checked against it. It decides nothing.

use std::fmt;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A turn up to this long needs no second look: it cannot have taken more CPU time.
const SHORT: Duration = Duration::from_micros(100);

/// How old a reading of the thread's CPU time may be. It takes half a microsecond, too much for each turn.
const READING_AGE_MAX: Duration = Duration::from_micros(250);

/// What one turn did: its CPU time in nanoseconds, connections accepted, closed, and read from or written to, commands,
/// bytes read and written, and the store's work in its units.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Turn {
    pub nanos: u64,
    pub accepted: u64,
    pub closed: u64,
    pub visited: u64,
    pub commands: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub work: u64,
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Turn { nanos, accepted, closed, visited, commands, bytes_in, bytes_out, work } = self;
        write!(
            formatter,
            "{}us (accepted={accepted} closed={closed} visited={visited} commands={commands} bytes_in={bytes_in} \
             bytes_out={bytes_out} work={work})",
            nanos / 1000
        )
    }
}

/// Measures turns and keeps the longest.
#[derive(Debug)]
pub(super) struct TurnClock {
    started: Instant,
    turn_started: Instant,
    /// The thread's CPU time when it was last read, and when that was.
    cpu_read: (Duration, Instant),
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
            cpu_read: (thread_cpu_time(), now),
            since_reading: Duration::ZERO,
            turns: 0,
            longest: Turn::default(),
            history: History::default(),
        }
    }

    /// Starts a turn and returns the time since the clock was made, in milliseconds: the turn's one look at the clock.
    pub(super) fn begin(&mut self) -> u64 {
        self.turn_started = Instant::now();
        if self.turn_started - self.cpu_read.1 > READING_AGE_MAX {
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
            let before = self.cpu_read.0 + self.since_reading;
            self.read_cpu_time(now);
            taken = taken.min(self.cpu_read.0.saturating_sub(before));
        } else {
            self.since_reading += taken;
        }
        let turn = Turn { nanos: taken.as_nanos() as u64, ..turn };
        self.history.note((now - self.started).as_secs(), &turn);
        keep_longer(&mut self.longest, &turn);
    }

    fn read_cpu_time(&mut self, now: Instant) {
        self.cpu_read = (thread_cpu_time(), now);
        self.since_reading = Duration::ZERO;
    }
}

/// The CPU time that this thread has used so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The turns of up to an hour.
#[derive(Debug, Default)]
pub struct History {
    /// The longest of each second and each minute.
    seconds: Ring,
    minutes: Ring,
    /// The sums of each second.
    sums: Ring,
}

impl History {
    /// Adds a turn that ended in the second `now`.
    pub fn note(&mut self, now: u64, turn: &Turn) {
        let sum = self.sums.at(now);
        sum.commands += turn.commands;
        sum.bytes_in += turn.bytes_in;
        sum.bytes_out += turn.bytes_out;
        keep_longer(self.seconds.at(now), turn);
        keep_longer(self.minutes.at(now / SLOTS), turn);
    }

    /// Commands, bytes read and bytes written in the last whole second before `now`.
    pub fn rates(&mut self, now: u64) -> [u64; 3] {
        self.sums.at(now);
        let Turn { commands, bytes_in, bytes_out, .. } = self.sums.slots[((now + SLOTS - 1) % SLOTS) as usize];
        [commands, bytes_in, bytes_out]
    }

    /// The longest turns of about the last second, minute and hour.
    pub fn longest(&mut self, now: u64) -> [Turn; 3] {
        [self.seconds.longest(now, 2), self.seconds.longest(now, SLOTS), self.minutes.longest(now / SLOTS, SLOTS)]
    }
}

/// How many spans of time are remembered.
const SLOTS: u64 = 60;

/// What was in each of the last spans of time, by the number of the span.
#[derive(Debug)]
struct Ring {
    slots: [Turn; SLOTS as usize],
    now: u64,
}

impl Default for Ring {
    fn default() -> Self {
        Ring { slots: [Turn::default(); SLOTS as usize], now: 0 }
    }
}

impl Ring {
    /// Lets time go on until the span `now`, and returns its slot.
    fn at(&mut self, now: u64) -> &mut Turn {
        for span in (self.now + 1).max(now.saturating_sub(SLOTS - 1))..=now {
            self.slots[(span % SLOTS) as usize] = Turn::default();
        }
        self.now = now;
        &mut self.slots[(now % SLOTS) as usize]
    }

    /// The longest of the last `spans`.
    fn longest(&mut self, now: u64, spans: u64) -> Turn {
        self.at(now);
        let mut longest = Turn::default();
        for ago in 0..spans {
            keep_longer(&mut longest, &self.slots[((now + SLOTS - ago) % SLOTS) as usize]);
        }
        longest
    }
}

#[inline]
fn keep_longer(longest: &mut Turn, turn: &Turn) {
    if turn.nanos > longest.nanos {
        *longest = *turn;
    }
}
