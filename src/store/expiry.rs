//! Expiry: what is over is gone. An item is checked when it is met, and all are swept in the background, shard by shard,
//! a slice of a shard at a time.
//!
//! Deadlines are times of the clock that is handed in. That one must be monotonic, so a wall clock that jumps neither
//! expires an item early nor keeps it longer. This file does not know how memory is won back from the log.

use std::mem;

use super::hash::KeyHash;
use super::index::{Entry, TAGS};
use super::record::{NEVER, Record};
use super::{SLICE_ENTRIES, Store};
use crate::limits::SWEEP_PAUSE_MILLIS;

/// How far the sweep for expired items has come.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    /// Number of items that carry an expiry.
    pub(super) expiring: usize,
    /// The shard and the tag it goes on with, while it is under way.
    place: Option<(usize, u64)>,
    /// When the next begins, in milliseconds.
    next: u64,
    expired: Vec<(Entry, Record)>,
}

impl Sweep {
    /// Whether it is in the middle of a shard, whose bound is not known until it ends.
    #[cfg(test)]
    pub(super) fn is_within(&self, shard: usize) -> bool {
        self.place.is_some_and(|(number, tag)| number == shard && tag > 0)
    }
}

impl Store {
    /// Number of items that carry an expiry.
    pub fn expiring(&self) -> usize {
        self.sweep.expiring
    }

    /// Removes an item whose time is over.
    #[cold]
    pub(super) fn expire(&mut self, hash: KeyHash, entry: Entry, record: &Record) {
        self.settle();
        self.remove(self.index.number(hash), entry, record);
        self.stats.expired += 1;
    }

    /// Notes an item that was written with this deadline.
    #[inline]
    pub(super) fn count_expiring(&mut self, shard: usize, entry: Entry, deadline: u64) {
        debug_assert_eq!(entry.expires(), deadline != NEVER);
        if entry.expires() {
            self.sweep.expiring += 1;
            let due = &mut self.index.nth_mut(shard).due;
            *due = deadline.min(*due);
        }
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
        let (number, tag) = self.sweep.place.unwrap_or((0, 0));
        if number == self.index.shard_count() {
            self.sweep.place = None;
            self.sweep.next = self.now + SWEEP_PAUSE_MILLIS;
            return false;
        }
        let shard = self.index.nth_mut(number);
        self.work += 1;
        if tag == 0 {
            if shard.due > self.now {
                self.sweep.place = Some((number + 1, 0));
                return true;
            }
            // From here on it gathers the deadlines that are still to come.
            shard.due = NEVER;
        }
        let tags = shard.slice(tag, SLICE_ENTRIES);
        let mut expired = mem::take(&mut self.sweep.expired);
        let mut due = shard.due;
        for entry in shard.entries(tags.clone()).filter(|entry| entry.expires()) {
            let record = Record::read(self.log.bytes(entry.handle()));
            self.work += 1;
            if record.deadline <= self.now {
                expired.push((entry, record));
            } else {
                due = due.min(record.deadline);
            }
        }
        shard.due = due;
        self.work += shard.len() as u64 / 64;
        for (entry, record) in expired.drain(..) {
            self.remove(number, entry, &record);
            self.stats.expired += 1;
            self.work += 1;
        }
        self.sweep.expired = expired;
        self.sweep.place = Some(if tags.end == TAGS { (number + 1, 0) } else { (number, tags.end) });
        true
    }
}
