//! The loop's account of itself: how long each turn took, what it was busy with, and what the last hour was like. Every
//! promise about stalls is checked against it. It decides nothing.

use std::collections::VecDeque;
use std::{array, fmt, mem};

use rustix::time::{ClockId, clock_gettime};

// What no turn should take. On a machine that is shared some do, since the time that others steal counts as ours.
const LONG_NANOS: u64 = 200_000;
const READING_TURNS: u64 = 8; // between two readings of the thread's CPU time, which take half a microsecond each
const HOUR: u64 = 3600; // in seconds: how long turns are remembered

/// How much there was of each of these: visits are of connections, to read or to write, and work is the store's, in its units.
pub type Counts = [u64; NAMES.len()];
const NAMES: [&str; 7] = ["accepted", "closed", "visited", "commands", "bytes_in", "bytes_out", "work"];

/// What one turn did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Its CPU time in nanoseconds.
    pub nanos: u64,
    /// What there was of each.
    pub counts: Counts,
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = NAMES.iter().zip(self.counts).map(|(name, count)| format!("{name}={count}")).collect();
        write!(formatter, "{}us ({})", self.nanos / 1000, counts.join(" "))
    }
}

/// Measures turns.
#[derive(Debug, Default)]
pub(super) struct TurnClock {
    started: u64,
    turn_started: u64,
    /// The thread's CPU time, but for what polls have taken since it was read.
    cpu_nanos: u64,
    /// What had been counted when the last turn ended.
    totals: Counts,
    pub(super) turns: u64,
    /// How many of them took longer than `LONG_NANOS`.
    pub(super) long: u64,
    pub(super) history: History,
}

impl TurnClock {
    pub(super) fn new() -> Self {
        TurnClock { started: nanos(ClockId::Monotonic), ..TurnClock::default() }
    }

    /// Starts a turn and returns the time since the clock was made, in milliseconds: the turn's one look at the clock.
    pub(super) fn begin(&mut self) -> u64 {
        self.turn_started = nanos(ClockId::Monotonic);
        if self.turns.is_multiple_of(READING_TURNS) {
            self.cpu_nanos = thread_cpu_nanos();
        }
        (self.turn_started - self.started) / 1_000_000
    }

    /// Ends a turn, after which so much has been counted.
    pub(super) fn end(&mut self, totals: Counts) {
        let now = nanos(ClockId::Monotonic);
        let mut nanos = now - self.turn_started;
        if nanos > LONG_NANOS {
            // Others may have had the core for a part of it.
            let before = mem::replace(&mut self.cpu_nanos, thread_cpu_nanos());
            nanos = nanos.min(self.cpu_nanos.saturating_sub(before));
        } else {
            self.cpu_nanos += nanos;
        }
        let before = mem::replace(&mut self.totals, totals);
        let turn = Turn { nanos, counts: array::from_fn(|at| totals[at] - before[at]) };
        self.turns += 1;
        self.long += u64::from(nanos > LONG_NANOS);
        self.history.note((now - self.started) / 1_000_000_000, &turn);
    }
}

pub(super) fn thread_cpu_nanos() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The turns of up to an hour, and the longest of all.
#[derive(Debug, Default)]
pub struct History {
    /// Those that no longer one has followed, each with the second that it ended in: the first of them that is within a
    /// span of time is the longest there.
    longest: VecDeque<(u64, Turn)>,
    /// The sums of this second and of the last.
    sums: [(u64, Counts); 2],
}

impl History {
    /// Adds a turn that ended in the second `now`.
    pub fn note(&mut self, now: u64, turn: &Turn) {
        let sums = self.sums(now);
        *sums = array::from_fn(|at| sums[at] + turn.counts[at]);
        while self.longest.back().is_some_and(|(_, last)| last.nanos <= turn.nanos) {
            self.longest.pop_back();
        }
        if self.longest.back().is_none_or(|(second, _)| *second != now) {
            self.longest.push_back((now, *turn));
        }
        // The first is the longest of all, and stays.
        while self.longest.get(1).is_some_and(|(second, _)| second + HOUR <= now) {
            self.longest.remove(1);
        }
    }

    /// Commands, bytes read and bytes written in the last whole second before `now`.
    pub fn rates(&mut self, now: u64) -> [u64; 3] {
        let [.., commands, bytes_in, bytes_out, _] = *self.sums(now.saturating_sub(1));
        [commands, bytes_in, bytes_out]
    }

    /// The longest turns of about the last second, minute and hour, and of all.
    pub fn longest(&self, now: u64) -> [Turn; 4] {
        let longest = |seconds| self.longest.iter().find(|(second, _)| now.saturating_sub(*second) < seconds);
        [2, 60, HOUR, u64::MAX].map(|seconds| longest(seconds).map_or(Turn::default(), |(_, turn)| *turn))
    }

    fn sums(&mut self, now: u64) -> &mut Counts {
        let (second, sums) = &mut self.sums[(now % 2) as usize];
        if mem::replace(second, now) != now {
            *sums = Counts::default();
        }
        sums
    }
}
