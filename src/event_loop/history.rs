//! What the turns of the last second, minute and hour were like. It only keeps and compares what it is told.

use super::turn::Turn;

const SLOTS: usize = 60;

/// The turns of up to an hour, by seconds and minutes.
#[derive(Debug)]
pub(super) struct History {
    seconds: [Second; SLOTS],
    minutes: [Turn; SLOTS],
    /// The second since the start that is being filled.
    now: u64,
}

/// What one second was like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    /// Its longest turn.
    pub(super) longest: Turn,
    /// The sums of all its turns.
    pub(super) commands: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
}

impl History {
    pub(super) fn new() -> Self {
        History { seconds: [Second::default(); SLOTS], minutes: [Turn::default(); SLOTS], now: 0 }
    }

    /// Lets time go on until the second `now`.
    fn advance(&mut self, now: u64) {
        // What lies further back than the slots reach is forgotten at once.
        self.now = self.now.max(now.saturating_sub((SLOTS * SLOTS) as u64));
        while self.now < now {
            self.now += 1;
            let second = self.now as usize % SLOTS;
            self.seconds[second] = Second::default();
            if second == 0 {
                self.minutes[self.now as usize / SLOTS % SLOTS] = Turn::default();
            }
        }
    }

    /// Adds a turn that ended in the second `now`.
    #[inline]
    pub(super) fn note(&mut self, now: u64, turn: &Turn) {
        if now != self.now {
            self.advance(now);
        }
        let second = &mut self.seconds[now as usize % SLOTS];
        second.commands += turn.commands;
        second.bytes_in += turn.bytes_in;
        second.bytes_out += turn.bytes_out;
        if turn.nanos > second.longest.nanos {
            second.longest = *turn;
            let minute = &mut self.minutes[now as usize / SLOTS % SLOTS];
            *minute = longer(*minute, *turn);
        }
    }

    /// The last whole second before `now`.
    pub(super) fn last_second(&mut self, now: u64) -> Second {
        self.advance(now);
        self.seconds[(now as usize + SLOTS - 1) % SLOTS]
    }

    /// The longest turns of about the last second, minute and hour.
    pub(super) fn longest(&mut self, now: u64) -> [Turn; 3] {
        let last = self.last_second(now).longest;
        let second = longer(last, self.seconds[now as usize % SLOTS].longest);
        let minute = self.seconds.iter().map(|second| second.longest).fold(Turn::default(), longer);
        let hour = self.minutes.iter().copied().fold(Turn::default(), longer);
        [second, minute, hour]
    }
}

fn longer(one: Turn, other: Turn) -> Turn {
    if other.nanos > one.nanos { other } else { one }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_forgotten_after_their_time() {
        let turn = |nanos| Turn { nanos, commands: 1, ..Turn::default() };
        let mut history = History::new();
        history.note(10, &turn(500));
        history.note(10, &turn(300));
        history.note(11, &turn(200));
        let nanos = |history: &mut History, now| history.longest(now).map(|turn| turn.nanos);
        assert_eq!(nanos(&mut history, 11), [500, 500, 500]);
        assert_eq!(history.last_second(11).commands, 2);
        assert_eq!(nanos(&mut history, 12), [200, 500, 500]);
        assert_eq!(nanos(&mut history, 13), [0, 500, 500]);
        assert_eq!(nanos(&mut history, 75), [0, 0, 500]);
        assert_eq!(nanos(&mut history, 3700), [0, 0, 0]);
        history.note(1_000_000, &turn(7));
        assert_eq!(nanos(&mut history, 1_000_000), [7, 7, 7]);
    }
}
