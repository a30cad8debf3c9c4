//! Expiry: what is over is gone. An item is checked when it is met, and all are swept in the background, shard by shard,
//! a slice of a shard at a time.
//!
//! Deadlines are times of the clock that is handed in. That one must be monotonic, so a wall clock that jumps neither
//! expires an item early nor keeps it longer. This file does not know how memory is won back from the log.

use super::Store;
use super::index::TAGS;
use super::record::NEVER;
use crate::limits::SWEEP_PAUSE_MILLIS;

/// How far the sweep for expired items has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Number of items that carry an expiry.
    pub(super) expiring: usize,
    /// The place in the hash space that it goes on with, while it is under way.
    pub(super) place: Option<u64>,
    /// When the next begins, in milliseconds.
    next: u64,
}

impl Store {
    /// Number of items that carry an expiry.
    pub fn expiring(&self) -> usize {
        self.sweep.expiring
    }

    /// Milliseconds until the sweep has something to do, 0 if it is under way; nothing if no item expires.
    pub(super) fn sweep_wait(&self) -> Option<u64> {
        match self.sweep.place {
            Some(_) => Some(0),
            None if self.sweep.expiring == 0 => None,
            None => Some(self.sweep.next.saturating_sub(self.now)),
        }
    }

    /// Sweeps one slice of a shard, or passes a shard in which nothing is due. False if the sweep is over.
    pub(super) fn sweep_step(&mut self) -> bool {
        if self.sweep_wait() != Some(0) {
            return false;
        }
        let place = self.sweep.place.unwrap_or(0);
        if place / TAGS == self.index.shard_count() as u64 {
            self.sweep.place = None;
            self.sweep.next = self.now + SWEEP_PAUSE_MILLIS;
            return false;
        }
        let shard = self.index.shard((place / TAGS) as usize);
        if place.is_multiple_of(TAGS) {
            if shard.due > self.now {
                self.work += 1;
                self.sweep.place = Some(place + TAGS);
                return true;
            }
            // From here on it gathers the deadlines that are still to come.
            shard.due = NEVER;
        }
        let (entries, behind) = self.slice(place);
        for (mut hash, entry) in entries.into_iter().filter(|(_, entry)| entry.expires()) {
            self.index.find(&mut hash, |other| other == entry);
            if let Some(record) = self.live(hash, entry) {
                let due = &mut self.index.shard_of(hash).due;
                *due = record.deadline.min(*due);
            }
        }
        self.sweep.place = Some(behind);
        true
    }
}
