//! The index: from a key's hash to where its item lies, in eight bytes an item and a share of empty buckets.
//!
//! It is cut into shards, each a small table, so that no growth moves much at once. Tables double, and all at the same
//! count if all shards were alike; so the hash space is cut into pieces whose widths spread evenly, in logarithms,
//! over a factor of two, and at every count the shards' tables are filled from 44 to 87 %: bytes per item stay flat.
//! An entry carries enough of the hash to be moved without reading its item. This file knows hashes and handles,
//! neither keys nor values.

use std::ops::Range;

use hashbrown::HashTable;

use super::ghost::Ghost;
use super::hash::KeyHash;
use super::holes::Holes;
use super::log::{Handle, MALLOC_BYTES};
use crate::limits::{BYTES_PER_SHARD, SHARDS_MAX, SHARDS_MIN};

/// The part of a hash that an entry keeps. The top 31 bits choose the shard, the 16 above the tag go into the ghost.
#[inline]
fn tag(hash: KeyHash) -> u64 {
    hash.0 & (TAGS - 1)
}

/// What the index keeps of an item: 24 bits of hash, how often it was used (2 bits), whether it expires (1 bit), where it
/// lies (37 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

const EXPIRES: u64 = 1 << 37;
const USE: u64 = 1 << 38;
const USES_MAX: u64 = 3;

impl Entry {
    #[inline]
    pub(super) fn new(hash: KeyHash, handle: Handle, expires: bool, uses: u64) -> Entry {
        debug_assert!(handle.0 < EXPIRES && uses <= USES_MAX);
        Entry((tag(hash) << 40) | (uses * USE) | if expires { EXPIRES } else { 0 } | handle.0)
    }

    #[inline]
    pub(super) fn handle(self) -> Handle {
        Handle(self.0 & (EXPIRES - 1))
    }

    #[inline]
    pub(super) fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    /// How often it was used since the policy last asked, up to 3.
    #[inline]
    pub(super) fn uses(self) -> u64 {
        self.0 >> 38 & USES_MAX
    }

    /// Counts a use.
    #[inline]
    pub(super) fn count_use(&mut self) {
        if self.uses() < USES_MAX {
            self.0 += USE;
        }
    }

    #[inline]
    fn tag(self) -> u64 {
        self.0 >> 40
    }

    /// The hash its table sees: hashbrown takes the position from the low bits and its 7-bit tag from the top ones,
    /// so the 24 bits we have are put at both ends.
    #[inline]
    fn table_hash(&self) -> u64 {
        spread(self.tag())
    }
}

#[inline]
fn spread(tag: u64) -> u64 {
    tag << 40 | tag
}

const _: () = assert!(size_of::<Shard>() == 64);

/// One piece of the hash space, in one cache line but for its tables.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Shard {
    table: HashTable<Entry>,
    /// What was evicted from here lately.
    pub(super) ghost: Ghost,
    /// No entry expires before this time, in milliseconds.
    pub(super) due: u64,
    /// The flush that it has followed last.
    epoch: u32,
}

impl Shard {
    /// The entry of this hash that `is_it` accepts.
    #[inline]
    pub(super) fn find(&self, hash: KeyHash, mut is_it: impl FnMut(Entry) -> bool) -> Option<Entry> {
        let tag = tag(hash);
        self.table.find(spread(tag), |entry| entry.tag() == tag && is_it(*entry)).copied()
    }

    /// The same, to change it in place.
    #[inline]
    pub(super) fn find_mut(&mut self, hash: KeyHash, mut is_it: impl FnMut(Entry) -> bool) -> Option<&mut Entry> {
        let tag = tag(hash);
        self.table.find_mut(spread(tag), |entry| entry.tag() == tag && is_it(*entry))
    }

    /// The entry that a hash's first candidate is, right or wrong.
    #[inline]
    pub(super) fn candidate(&self, hash: KeyHash) -> Option<Entry> {
        self.find(hash, |_| true)
    }

    /// Number of entries.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The tags from `tag` on that about `entries` entries have.
    pub(super) fn slice(&self, tag: u64, entries: usize) -> Range<u64> {
        let slices = (self.len() / entries).next_power_of_two() as u64;
        tag..(tag + TAGS / slices).min(TAGS)
    }

    /// All entries whose tag lies in `tags`.
    pub(super) fn entries(&self, tags: Range<u64>) -> impl Iterator<Item = Entry> {
        self.table.iter().copied().filter(move |entry| tags.contains(&entry.tag()))
    }

    fn held_bytes(&self) -> usize {
        let table = match self.table.allocation_size() {
            0 => 0,
            bytes => bytes + MALLOC_BYTES,
        };
        table + self.ghost.held_bytes()
    }

    /// Replaces the table by one with room for `capacity` entries, and the ghost by one to match.
    fn rebuild(&mut self, capacity: usize) {
        let mut table = HashTable::with_capacity(capacity);
        for entry in &self.table {
            table.insert_unique(entry.table_hash(), *entry, Entry::table_hash);
        }
        self.table = table;
        if !self.ghost.is_empty() {
            self.ghost.resize(self.table.num_buckets());
        }
    }
}

/// All shards.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Shard]>,
    scale: u64,
    len: usize,
    held: usize,
    holes: Holes,
    moved: u64,
    /// How often everything was flushed. A shard that has not followed yet counts as empty.
    epoch: u32,
    /// Shards below this number have followed.
    followed: usize,
    /// What is seen in place of a shard that has not.
    empty: Shard,
}

/// The past-the-end tag.
pub(super) const TAGS: u64 = 1 << 24;

impl Index {
    /// An empty index, cut for a store of `memory_bytes`.
    pub(super) fn new(memory_bytes: usize, holes: Holes) -> Index {
        let count = (memory_bytes / BYTES_PER_SHARD).next_power_of_two().clamp(SHARDS_MIN, SHARDS_MAX);
        let shard = || Shard { table: HashTable::new(), ghost: Ghost::default(), due: u64::MAX, epoch: 0 };
        let shards: Box<[Shard]> = (0..count).map(|_| shard()).collect();
        let held = size_of_val(&*shards) + MALLOC_BYTES;
        let scale = count as u64 * 512 / 3;
        Index { scale, shards, len: 0, held, holes, moved: 0, epoch: 0, followed: count, empty: shard() }
    }

    /// Number of entries.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes held by shards, tables and ghosts.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.held
    }

    /// Number of entries moved by rebuilding tables, ever.
    #[inline]
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Number of shards.
    #[inline]
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// The number of the shard a hash belongs to.
    ///
    /// With x the hash's place in the hash space from 0 to 1, that is x * (4 - x) / 3 of all shards: its slope falls from
    /// 4/3 to 2/3, so the shards' widths grow twofold, close enough to evenly in logarithms.
    #[inline]
    pub(super) fn number(&self, hash: KeyHash) -> usize {
        let x = hash.0 >> 33;
        ((((x * ((1 << 33) - x)) >> 32) * self.scale) >> 39) as usize
    }

    /// The shard of a hash.
    #[inline]
    pub(super) fn shard(&self, hash: KeyHash) -> &Shard {
        self.nth(self.number(hash))
    }

    /// The shard of a hash.
    #[inline]
    pub(super) fn shard_mut(&mut self, hash: KeyHash) -> &mut Shard {
        self.nth_mut(self.number(hash))
    }

    /// A shard by its number.
    #[inline]
    pub(super) fn nth(&self, number: usize) -> &Shard {
        let shard = &self.shards[number];
        if shard.epoch == self.epoch { shard } else { &self.empty }
    }

    /// A shard by its number.
    #[inline]
    pub(super) fn nth_mut(&mut self, number: usize) -> &mut Shard {
        if self.shards[number].epoch != self.epoch {
            self.follow(number);
        }
        &mut self.shards[number]
    }

    /// Declares all entries gone; shards follow as they are met, and by [`follow_next`](Self::follow_next).
    pub(super) fn flush(&mut self) {
        self.epoch += 1;
        self.followed = 0;
        self.len = 0;
    }

    #[cold]
    fn follow(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        self.held -= shard.held_bytes();
        self.holes.dig(shard.table.allocation_size());
        *shard = Shard { table: HashTable::new(), ghost: Ghost::default(), due: u64::MAX, epoch: self.epoch };
    }

    /// Whether all shards have followed the last flush.
    #[inline]
    pub(super) fn is_followed(&self) -> bool {
        self.followed == self.shards.len()
    }

    /// Has one more shard follow the last flush; whether there was one.
    pub(super) fn follow_next(&mut self) -> bool {
        let is_left = !self.is_followed();
        if is_left {
            self.nth_mut(self.followed);
            self.followed += 1;
        }
        is_left
    }

    /// Adds an entry.
    #[inline]
    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) {
        let number = self.number(hash);
        let shard = self.nth_mut(number);
        if shard.table.len() == shard.table.capacity() {
            self.grow(number);
        }
        self.shards[number].table.insert_unique(entry.table_hash(), entry, Entry::table_hash);
        self.len += 1;
    }

    /// A full table gets twice the buckets, or if deletions have used them up, as many afresh: hashbrown would
    /// double it down to half its load, and a store that stays at one count would see all tables double.
    #[cold]
    fn grow(&mut self, number: usize) {
        let table = &self.shards[number].table;
        let (len, full) = (table.len(), table.num_buckets() / 8 * 7);
        let capacity = if len * 8 < full * 7 { full } else { full.max(len) + 1 };
        self.rebuild(number, capacity);
    }

    /// Removes an entry that is there from the shard of this number.
    #[inline]
    pub(super) fn remove(&mut self, number: usize, entry: Entry) {
        let table = &mut self.nth_mut(number).table;
        if let Ok(found) = table.find_entry(entry.table_hash(), |other| *other == entry) {
            found.remove();
            self.len -= 1;
        } else {
            debug_assert!(false, "an entry that is removed is there");
        }
        let (len, buckets) = (self.shards[number].table.len(), self.shards[number].table.num_buckets());
        if len * 6 < buckets && buckets > 16 {
            self.rebuild(number, len * 2);
        }
    }

    #[cold]
    fn rebuild(&mut self, number: usize, capacity: usize) {
        let shard = &mut self.shards[number];
        self.held -= shard.held_bytes();
        self.moved += shard.table.len() as u64;
        let before = shard.table.allocation_size();
        shard.rebuild(capacity);
        self.holes.fill(shard.table.allocation_size());
        self.holes.dig(before);
        self.held += shard.held_bytes();
    }

    /// Remembers in its shard's ghost that an item was evicted. A shard that has none yet gets one if there is room.
    #[inline]
    pub(super) fn remember(&mut self, hash: KeyHash, is_room: bool) {
        let shard = self.shard_mut(hash);
        let mut held = 0;
        if shard.ghost.is_empty() && is_room {
            shard.ghost.resize(shard.table.num_buckets());
            held = shard.ghost.held_bytes();
        }
        shard.ghost.insert(hash);
        self.held += held;
    }
}

#[cfg(test)]
impl Index {
    /// Checks every count of the index against what it holds.
    pub(super) fn check(&self) {
        let held: usize = self.shards.iter().map(Shard::held_bytes).sum();
        assert_eq!(held + size_of_val(&*self.shards) + MALLOC_BYTES, self.held);
        let len: usize = (0..self.shards.len()).map(|number| self.nth(number).len()).sum();
        assert_eq!(len, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_cover_the_hash_space_and_widths_grow_twofold() {
        for memory_bytes in [1 << 20, 16 << 20, 1 << 30] {
            let index = Index::new(memory_bytes, Holes::default());
            let count = index.shard_count();
            assert_eq!(index.number(KeyHash(0)), 0);
            assert_eq!(index.number(KeyHash(u64::MAX)), count - 1);
            let first = (0..1 << 16).filter(|x| index.number(KeyHash(x << 48)) * 16 / count == 0).count();
            let last = (0..1 << 16).filter(|x| index.number(KeyHash(x << 48)) * 16 / count == 15).count();
            let ratio = last as f64 / first as f64;
            assert!((1.8..2.1).contains(&ratio), "{first} {last}");
        }
    }
}
