//! Making room: which items leave a full store, and how dead bytes between live items are given back.
//!
//! The policy is S3-FIFO (Yang et al., SOSP'23) with four changes. New items go into the small queue, a tenth of the
//! memory. When an item's turn comes there, it moves to the main queue if it was used meanwhile, and is evicted if not.
//! In the main queue each use, up to three, is good for another round. An item evicted from either queue leaves a
//! ghost, and starts in the main queue should its key come back. The changes:
//! - How many uses promote an item depends on its size, since a small one costs less to keep. Against two uses for all,
//!   that took misses beyond the compulsory ones from .0090 to .0050 on a Twitter trace, and .006 off the miss ratio of
//!   zipf 0.99, byte hits being equal.
//! - Another round is a copy to the newest segment. Once more is copied than freed, it takes more uses.
//! - What is tiny beside the mean mostly gets another round unused. All such items together hold an eighth at most. Of
//!   requests with zipf 0.9 for sizes of 10 bytes to 100 KB, at 64 MB, .169 missed instead of .249.
//! - As in ARC (Megiddo and Modha, FAST'03), ghosts of both queues decide how long the small one is: a tenth is too
//!   short where the working set moves. Of keys that are used twice, a fifth of the memory apart, .02 miss the second
//!   use instead of .74. Where popularity is fixed, it stays a tenth.
//!
//! It works in steps of a few items, a bounded number with each command. If they make less room than the command needs,
//! the reserve shrinks, and the next command does more. This file does not know what the room is for.

use super::index::{Entry, KeyHash};
use super::log::{Handle, Queue};
use super::record::Record;
use super::{Store, Written};
use crate::chunk::Chunk;
use crate::command::Refusal;
use crate::limits::*;

/// What a store does when it is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Eviction {
    /// It removes the items least likely to be used again, by S3-FIFO with size-aware promotion.
    #[default]
    S3Fifo,
    /// It refuses commands that need more memory.
    None,
}

/// Bytes that should always be available, so that commands find room and make up for it afterwards: one segment may be
/// tied up in a walk that is nearly over, each queue may need one at once, and the index needs what is not spare.
const RESERVE_BYTES_MIN: isize = 4 * SEGMENT_BYTES as isize;

/// How much of that should be free for the index and the caller. Segments and chunks take spare memory as readily.
const FREE_BYTES: isize = SEGMENT_BYTES as isize / 4;

/// The small queue's share of all live bytes: the least, and what ghosts may add to it.
const SMALL_SHARE: f64 = 0.1;
const SMALL_GROWTH_MAX: f64 = 0.7;

/// A key that comes back before its queue's walks have passed so much would have been kept by a queue that much longer.
const NEAR_STAMPS: u16 = 13; // a twentieth of all live bytes

/// By how many mean items the small queue's share grows with each key that it would have kept if a little longer, and
/// shrinks with each that the main queue would have kept. The former are about 3 times as many where popularity is fixed
/// (zipf 0.6 to 1.0, with and without keys that are used once) and a tenth is right, and 5 to 13 times where it moves.
const GROWTH_ITEMS: f64 = 6.0;
const SHRINKAGE_ITEMS: f64 = 30.0;

/// The dead share, in 256ths, from which a segment is cleaned: without eviction, where space is worth more, and with it.
/// Random overwrites with other lengths, of as many items as just fit, cause 1.6 bytes of copying for each byte written.
/// With 88 it is 1.0, but a sixteenth fewer items stay, and what expires one by one leaves gaps in a fifth of the memory.
pub(super) const DEAD_SHARES: [usize; 2] = [32, 64];

/// The cost of deciding about an item, in units of work: to look it up, move or remove it, and leave a ghost.
pub(super) const ITEM_UNITS: u64 = 3;

/// The cost of giving back the memory of a chunk or segment, in units of work.
pub(super) const CHUNK_UNITS: u64 = 64;

/// How many records of a walk are looked up together. Their cache misses overlap, which halves the cost of evicting.
const LOOK_AHEAD: usize = 8;

/// The most bytes of copy credit that eviction can save up by freeing more than it copies.
const COPY_CREDIT_BYTES: isize = 1 << 20;

impl Store {
    /// The reserve, in bytes. Where values have chunks, a large store that evicts has more: segments and chunks gain
    /// and lose by turns, and less is got anew. SETs of 10 to 80 KB in pipelines at 512 MB take .85 of the time.
    fn reserve_bytes(&self) -> isize {
        RESERVE_BYTES_MIN.max(if self.log.chunk_refs > 0 && self.evicts() { self.limit as isize / 128 } else { 0 })
    }

    /// Bytes that may be taken from the system: now, and once no memory is spare. Negative above the limit.
    fn room_bytes(&self) -> [isize; 2] {
        let free_bytes = self.limit as isize - self.memory_bytes() as isize;
        [free_bytes, free_bytes + (self.chunks.spare_bytes() + self.log.spare_bytes()) as isize]
    }

    /// Gives back a spare chunk or segment if less than `bytes` are free. False if not, or if none is spare.
    fn give_back_spare(&mut self, bytes: isize) -> bool {
        let is_given = self.room_bytes()[0] < bytes && (self.chunks.give_back() || self.log.give_back_spare());
        self.work += if is_given { CHUNK_UNITS } else { 0 };
        is_given
    }

    /// A new chunk for whoever asks, or `None` if the store has no room for one and may not evict.
    pub fn chunk(&mut self) -> Option<Chunk> {
        let chunk = (self.evicts() || self.chunk_room_bytes() >= CHUNK_BYTES).then(|| self.chunks.chunk());
        self.give_back_spare(0); // a segment, if there was no spare chunk
        chunk
    }

    /// Bytes that can be written to the log before the reserve is touched. Negative if that is not complete.
    fn log_room_bytes(&self) -> isize {
        self.room_bytes()[1] + self.log.reusable_bytes() as isize - self.reserve_bytes()
    }

    /// Whether a lowered limit is reached, the reserve complete, and enough memory outside segments free for new chunks.
    pub(super) fn has_reserve(&self) -> bool {
        let [free, room] = self.room_bytes(); // every turn asks, and what is held is summed up
        let is_log_room = room + self.log.reusable_bytes() as isize >= self.reserve_bytes();
        let is_chunk_room = room - SEGMENT_BYTES as isize >= self.chunks.bytes_of(4) as isize;
        is_log_room && is_chunk_room && free >= FREE_BYTES && self.limit <= self.settings.memory_bytes
    }

    /// The most bytes of new chunks that may be allocated before [`housekeep`](Store::housekeep) has made more room. As
    /// long as there is anything left to evict, housekeeping raises this to four chunks.
    pub fn chunk_room_bytes(&self) -> usize {
        (self.room_bytes()[1] - SEGMENT_BYTES as isize).max(0) as usize
    }

    /// Whether the store is over its limit by more than `excess_bytes` and can evict something.
    pub fn is_over(&self, excess_bytes: usize) -> bool {
        self.memory_bytes() > self.limit + excess_bytes && self.evicts() && !self.is_empty()
    }

    /// Whether it may remove items to make room.
    pub fn evicts(&self) -> bool {
        self.settings.eviction != Eviction::None
    }

    /// Changes the memory limit. A lower one comes into force as far as room has been made by now, and then in steps.
    pub fn set_memory_limit(&mut self, memory_bytes: usize) {
        self.settings.memory_bytes = memory_bytes.clamp(STORE_BYTES_MIN, STORE_BYTES_MAX);
        self.limit = self.settings.memory_bytes.max(self.limit.min(self.memory_bytes()));
    }

    /// Does one command's share of making room for `size` bytes. Any item may be moved or evicted. Fails with
    /// `OutOfMemory` if that is not enough and eviction is off, so that later commands cannot make up for it.
    #[cold]
    pub(super) fn make_room(&mut self, size: usize) -> Written {
        let end = self.work + ROOM_UNITS_PER_COMMAND;
        while self.log_room_bytes() < size as isize && self.work < end && (self.give_back() || self.step()) {}
        let room = self.log_room_bytes();
        if room < size as isize && !self.evicts() {
            return Err(Refusal::OutOfMemory);
        }
        // At most a segment, since the index grows as well.
        self.granted_bytes = room.clamp(0, SEGMENT_BYTES as isize) as usize;
        Ok(())
    }

    /// Sees to it that a record of `size` bytes fits into the queue's newest segment, and opens one for it if need be.
    pub(super) fn open_for(&mut self, queue: Queue, size: usize) -> Written {
        if self.log.tail_room_bytes(queue) >= size {
            return Ok(());
        }
        let bytes = if size <= SEGMENT_BYTES { SEGMENT_BYTES } else { 2 * SEGMENT_BYTES };
        // Rather than refuse a write that room is being made for, the store may exceed its limit by what one command
        // needs: four segments for what it moves and writes, and the chunks that APPEND copies into. Without eviction
        // only cleaning gives any back, however much clients take beyond the limit; and it takes some first.
        let appended = self.chunks.bytes_of(APPEND_BYTES_MAX / CHUNK_BYTES + 1);
        let overdraft = if self.evicts() { 4 * SEGMENT_BYTES + appended } else { 0 };
        let may_exceed = self.log.walk.is_cleaning && !self.evicts();
        if !may_exceed && self.room_bytes()[1] + (overdraft as isize) < bytes as isize {
            return Err(Refusal::OutOfMemory);
        }
        self.log.open(queue, bytes);
        // After connections have grown, it may be over its limit by more than this: housekeeping gives back the rest.
        (0..4).for_each(|_| _ = self.give_back_spare(0));
        self.is_short = self.is_over(0);
        Ok(())
    }

    /// Gives back spare memory if little is free, or else decides about a few items. False if nothing can be done.
    pub(super) fn step(&mut self) -> bool {
        self.give_back_spare(FREE_BYTES) || {
            let searches = !self.log.is_walking() && self.choose_walk();
            self.walk() || searches
        }
    }

    /// Decides about the next few items of the walk. False if nothing can be done.
    pub(super) fn walk(&mut self) -> bool {
        self.work += 1;
        let looked_up = |(handle, record): (Handle, Record)| {
            let hash = (!record.is_gap()).then(|| self.hash(&self.log.bytes(handle)[record.key()]));
            (hash.map(|hash| self.index.prefetch(hash, false)), handle, record)
        };
        let places: Vec<_> = self.log.ahead().take(LOOK_AHEAD).map(looked_up).collect();
        for (hash, at, record) in &places {
            // An evicted value's chunks are given back before the next item is decided about: they may be room enough.
            if self.log.dropped.is_empty() {
                self.pass(*hash, *at, record);
            }
        }
        !places.is_empty()
    }

    /// Takes the walk past a record: a gap, which has no hash, or an item, which is moved or removed.
    fn pass(&mut self, hash: Option<KeyHash>, handle: Handle, record: &Record) {
        let size = record.size();
        let Some(mut hash) = hash else { return self.advance(size, false) };
        self.work += ITEM_UNITS;
        let entry = self.index.find(&mut hash, |entry| entry.handle() == handle);
        let entry = entry.expect("an item in the log is in the index");
        if !self.log.walk.is_cleaning {
            let share = self.log.weight(record) as f64 / self.log.live_bytes.iter().sum::<usize>() as f64;
            self.hands[self.log.queue(handle) as usize] += share;
        }
        match self.next_round(entry, record) {
            Some((queue, uses)) if self.open_for(queue, size).is_ok() => {
                self.advance(size, true);
                let new = self.log.relocate(handle, record, queue);
                self.index.set(hash.place, Entry::new(hash, new, uses));
                self.work += size as u64 / COPIED_BYTES_PER_UNIT;
                self.stats.copied_bytes += size as u64;
            }
            _ => {
                self.advance(size, false);
                self.remove(hash, entry, record, true);
            }
        }
    }

    /// Moves the walk on by `size` bytes, and takes them off the copy credit or adds them to it.
    fn advance(&mut self, size: usize, is_copied: bool) {
        // The walk ends when its last live item is gone. Gaps that were looked up with that item may still follow.
        self.log.walk.offset += if self.log.is_walking() { size } else { 0 };
        // Cleaning always gives back enough. Counted here, what one client overwrites would evict what others use.
        let size = if self.log.walk.is_cleaning { 0 } else { size as isize };
        self.copy_credit = (self.copy_credit + if is_copied { -size } else { size }).min(COPY_CREDIT_BYTES);
    }

    /// Begins the next walk, if there is anything to walk over: to clean a segment of which enough is dead; otherwise
    /// over the oldest segment of whichever queue has more than its share. Returns whether the search is to go on.
    fn choose_walk(&mut self) -> bool {
        let searches = self.log.walk_emptiest(DEAD_SHARES[usize::from(self.evicts())]);
        self.work += if searches { 4 } else { 0 }; // half a microsecond, with the unit that any walk takes
        let [small, main] = self.log.live_bytes;
        if !self.log.is_walking() && self.evicts() && small + main > 0 {
            let is_small = small as f64 > (small + main) as f64 * (SMALL_SHARE + self.small_growth);
            self.log.walk_oldest(if is_small { Queue::Small } else { Queue::Main });
        }
        searches
    }

    /// What a ghost is to tell of an item that the queue evicts now: the queue, and a stamp, which says what the queue's
    /// walks have passed by now, in 256ths of all live bytes, modulo 65,536.
    pub(super) fn stamp(&self, queue: Queue) -> (Queue, u16) {
        (queue, (256.0 * self.hands[queue as usize]) as u64 as u16)
    }

    /// The queue in which an item starts that is new, or comes back. In the latter case, the queues' shares may change.
    pub(super) fn queue_of_new(&mut self, hash: KeyHash) -> Queue {
        let ghost = if self.stats.evictions > 0 { self.index.recall(hash) } else { None };
        let Some((queue, stamp)) = ghost else { return Queue::Small };
        if self.stamp(queue).1.wrapping_sub(stamp) < NEAR_STAMPS {
            let items = if queue == Queue::Small { GROWTH_ITEMS } else { -SHRINKAGE_ITEMS };
            self.small_growth = (self.small_growth + items / (1 + self.len()) as f64).clamp(0.0, SMALL_GROWTH_MAX);
        }
        Queue::Main
    }

    /// The queue in which an item gets another round, and the uses that it starts with; `None` if it is to leave.
    fn next_round(&self, entry: Entry, record: &Record) -> Option<(Queue, u64)> {
        let (queue, uses) = (self.log.queue(entry.handle()), entry.uses());
        let extra = self.copy_credit.min(0).unsigned_abs() as u64 / SEGMENT_BYTES as u64;
        let (weight, mean) = (self.log.weight(record), self.log.live_bytes.iter().sum::<usize>() / self.index.len);
        match queue {
            _ if record.deadline < self.now => None,
            _ if self.log.walk.is_cleaning => Some((queue, uses)),
            // Its weight over the mean, rounded, is how many uses promote an item, up to three. One below half the mean
            // needs none: it costs little to keep, and all of them together hold at most half of the memory.
            Queue::Small => (uses >= ((weight + mean / 2) / mean).min(3) as u64 + extra).then_some((Queue::Main, 0)),
            // Below an eighth it leaves unused only once in as many rounds as its weight goes into the mean.
            Queue::Main if 8 * weight < mean && self.work as usize % mean >= weight => Some((queue, 0)),
            Queue::Main => uses.checked_sub(1 + extra).map(|uses| (queue, uses)),
        }
    }
}
