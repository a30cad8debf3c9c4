//! Housekeeping: work that no command waits for, done in pieces. It gives back dead memory, makes room, and sweeps
//! expired items out of one segment after the other. It does not know which items leave a full store.

use std::{iter, mem};

use super::Store;
use super::eviction::{CHUNK_UNITS, DEAD_SHARES, ITEM_UNITS};
use crate::limits::{ROOM_UNITS_PER_COMMAND, SPARE_BYTES_MAX, STEPS_PER_UNIT, SWEEP_PAUSE_MILLIS};

const SWEEP_ITEMS: usize = 64; // removed by one step of the sweep at most

impl Store {
    /// Gives back dead memory, makes room, and sweeps out expired items, for about `units` of about 100 ns. Returns in
    /// how many milliseconds it has more to do. `None`: after the next command.
    pub fn housekeep(&mut self, units: u64) -> Option<u64> {
        let end = self.work + units;
        self.set_memory_limit(self.settings.memory_bytes);
        // Clients can have every turn do all the work that it may, so a step of the sweep and one of the rest are free.
        self.sweep();
        while self.give_back() || !self.has_reserve() && self.step() || self.cleans() && self.walk() || self.sweep() {
            if self.work >= end {
                return Some(0);
            }
        }
        (self.expiring() > 0).then(|| self.must_sweep_at - self.now)
    }

    /// Whether a segment is being cleaned. Begins with one when three quarters of the log are free: otherwise overwrites
    /// with other lengths would have a store that is not full grow to its limit. They take a tenth longer for it.
    fn cleans(&mut self) -> bool {
        if !self.log.is_walking() && self.log.unused_bytes() > self.log.held() / 4 * 3 {
            self.log.walk_emptiest(DEAD_SHARES[usize::from(self.evicts())]);
        }
        self.log.walk.is_cleaning
    }

    /// The number of items that have an expiry.
    pub fn expiring(&self) -> usize {
        self.log.expiring
    }

    /// Gives back a piece of dead memory; false if there is none. After a flush no spare chunk is kept, but they come
    /// last: commands may add new ones as fast as they are given back.
    pub(super) fn give_back(&mut self) -> bool {
        let mut logs = iter::once(&mut self.log).chain(self.flushed.last_mut().map(|(_, log)| log));
        if self.chunks.spare_bytes() > SPARE_BYTES_MAX && self.chunks.give_back() {
            self.work += CHUNK_UNITS;
        } else if let Some(log) = logs.find(|log| !log.dropped.is_empty()) {
            self.work += log.give_back_dropped(ROOM_UNITS_PER_COMMAND as usize) as u64;
        } else if let Some((index, log)) = self.flushed.last_mut() {
            self.work += 3 * CHUNK_UNITS; // a segment is read for the chunks that it leads to, and its pages go back
            if !index.give_back() && !log.give_back() && !self.chunks.give_back() {
                self.flushed.pop();
            }
        } else {
            return false;
        }
        true
    }

    /// Sweeps some expired items out of a segment, or passes one in which none can be. False if no sweep is due.
    fn sweep(&mut self) -> bool {
        if self.expiring() == 0 || self.now < self.may_sweep_at {
            return false;
        }
        let Some((expired, searched)) = self.log.expired(self.swept, self.now, SWEEP_ITEMS) else {
            let pause = SWEEP_PAUSE_MILLIS.min(mem::take(&mut self.pause_micros) / 1000);
            (self.swept, self.may_sweep_at, self.must_sweep_at) = (0, self.now + pause, self.now + SWEEP_PAUSE_MILLIS);
            return false;
        };
        // What has expired keeps others out of a full store. To search a segment takes 3 us if it has 16 items, 14 if 900,
        // and 47 if 2,000, so a 20th to a 70th of the time is spent on that. Where much is found, it spares evictions.
        self.pause_micros += (4 * searched).min(1000).saturating_sub(32 * expired.len() as u64).max(64);
        self.work += 1 + 4 * searched / STEPS_PER_UNIT + expired.len() as u64 * ITEM_UNITS;
        self.swept += usize::from(expired.len() < SWEEP_ITEMS);
        for (handle, record) in expired {
            let mut hash = self.hash(&self.log.bytes(handle)[record.key()]);
            if let Some(entry) = self.index.find(&mut hash, |entry| entry.handle() == handle) {
                self.remove(hash, entry, &record, false);
            }
        }
        true
    }
}
