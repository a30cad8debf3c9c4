//! The loop's record of its own turns: how long each took, what it did, and which were the longest of the last hour.
//! Every promise about stalls is checked against it. It decides nothing.

use std::collections::VecDeque;
use std::{array, fmt, mem};

use rustix::time::{ClockId, clock_gettime};

// No turn should take longer. Some do on a virtual machine, since time that others take from it counts as ours.
const LONG_NANOS: u64 = 200_000;
const READING_TURNS: u64 = 8; // from one reading of the thread's CPU time to the next: each takes half a microsecond
const HOUR: u64 = 3600; // in seconds: how long turns are remembered

/// How much there was of each of the following. A visit serves one connection; work is the store's, in its own units.
pub type Counts = [u64; NAMES.len()];
const NAMES: [&str; 7] = ["accepted", "closed", "visited", "commands", "bytes_in", "bytes_out", "work"];

/// What one turn did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// How long it took, in nanoseconds; of a long turn only its CPU time, if that is less.
    pub nanos: u64,
    /// What it did.
    pub counts: Counts,
}

impl fmt::Display for Turn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<_> = NAMES.iter().zip(self.counts).map(|(name, count)| format!("{name}={count}")).collect();
        write!(formatter, "{}us ({})", self.nanos / 1000, counts.join(" "))
    }
}

#[derive(Debug, Default)]
pub(super) struct TurnClock {
    started: u64, // when it read 0: as a millisecond of the wall clock began, so that both change at the same moment
    turn_started: u64,
    /// The thread's CPU time at the end of the last turn, estimated: when it was last read, and the turns since.
    cpu_nanos: u64,
    totals: Counts, // what had been counted when the last turn ended
    pub(super) turns: u64,
    pub(super) long: u64, // how many of them took longer than `LONG_NANOS`
    pub(super) history: History,
}

impl TurnClock {
    pub(super) fn new() -> Self {
        TurnClock { started: read(ClockId::Monotonic) - read(ClockId::Realtime) % 1_000_000, ..TurnClock::default() }
    }

    /// The Unix time minus the time since the clock was made, in milliseconds.
    pub(super) fn unix_offset_millis(&self) -> i64 {
        (read(ClockId::Realtime) as i64 - (read(ClockId::Monotonic) - self.started) as i64 + 500_000) / 1_000_000
    }

    /// Starts a turn, and returns how long ago the clock was made, in milliseconds: the time that this turn goes by.
    pub(super) fn begin(&mut self) -> u64 {
        self.turn_started = read(ClockId::Monotonic);
        if self.turns.is_multiple_of(READING_TURNS) {
            self.cpu_nanos = read(ClockId::ThreadCPUTime);
        }
        (self.turn_started - self.started) / 1_000_000
    }

    /// Ends a turn. `totals` is what has been counted since the start of the server.
    pub(super) fn end(&mut self, totals: Counts) {
        let now = read(ClockId::Monotonic);
        let mut nanos = now - self.turn_started;
        if nanos > LONG_NANOS {
            // Other processes may have had the core for a part of it.
            let before = mem::replace(&mut self.cpu_nanos, read(ClockId::ThreadCPUTime));
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

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The longest turns of the last hour, and the longest of all.
#[derive(Debug, Default)]
pub struct History {
    /// A monotonic queue: a turn, with the second in which it ended, stays until one that is at least as long follows.
    /// So the first in any span of time up to now is the longest of that span.
    longest: VecDeque<(u64, Turn)>,
    sums: [(u64, Counts); 2], // the counts of this second and of the last, added up
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
        // The first stays, since it is the longest of all.
        while self.longest.get(1).is_some_and(|(second, _)| second + HOUR <= now) {
            self.longest.remove(1);
        }
    }

    /// Commands, bytes read and bytes written in the second before `now`.
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
