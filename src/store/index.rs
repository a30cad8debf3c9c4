//! The index: from a key's hash to where its item lies, in eight bytes an item and a share of empty buckets.
//!
//! It is cut into shards, each a small table, so that no growth moves much at once. Tables double, and all at the same
//! count if all shards were alike; so the hash space is cut into pieces whose widths spread evenly, in logarithms,
//! over a factor of two, and at every count the shards' tables are filled from 44 to 87 %: bytes per item stay flat.
//! An entry carries enough of the hash to be moved without reading its item. This file knows hashes and handles,
//! neither keys nor values.

use std::sync::Arc;

use hashbrown::HashTable;

use super::ghost::Ghost;
use super::holes::Holes;
use super::log::{Handle, MALLOC_BYTES};
use crate::limits::{BYTES_PER_SHARD, SHARDS_MAX, SHARDS_MIN};

/// How many different tags there are.
pub(super) const TAGS: u64 = 1 << 24;

/// How many entries a slice of a shard holds, about: each may cost a look at its item.
const SLICE_ENTRIES: usize = 32;

/// A key's hash, computed once per command, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    /// All 64 bits. The top 31 choose the shard, the low 24 are the tag, the 16 above it go into the ghost.
    pub(super) bits: u64,
    pub(super) shard: u32,
    /// Where in the shard's table the entry was when it was last looked for.
    bucket: u32,
}

impl KeyHash {
    /// Its bits. A store's index and eviction make no use of those from 40 to 44 unless it has millions of items.
    pub fn bits(self) -> u64 {
        self.bits
    }

    /// What an entry keeps of it.
    fn tag(self) -> u64 {
        self.bits % TAGS
    }
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
        Entry((hash.tag() << 40) + uses * USE + u64::from(expires) * EXPIRES + handle.0)
    }

    #[inline]
    pub(super) fn handle(self) -> Handle {
        Handle(self.0 % EXPIRES)
    }

    #[inline]
    pub(super) fn expires(self) -> bool {
        self.0 & EXPIRES != 0
    }

    /// How often it was used since the policy last asked, up to 3.
    #[inline]
    pub(super) fn uses(self) -> u64 {
        self.0 / USE % (USES_MAX + 1)
    }

    /// Counts a use.
    #[inline]
    pub(super) fn count_use(&mut self) {
        self.0 += if self.uses() < USES_MAX { USE } else { 0 };
    }

    #[inline]
    fn tag(self) -> u64 {
        self.0 >> 40
    }

    /// The hash that its table sees.
    fn table_hash(&self) -> u64 {
        spread(self.tag())
    }
}

/// hashbrown takes the position from the low bits and its own 7-bit tag from the top ones, so the 24 bits that we have
/// are put at both ends.
#[inline]
fn spread(tag: u64) -> u64 {
    tag << 40 | tag
}

/// One piece of the hash space, in one cache line but for its tables.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Shard {
    table: HashTable<Entry>,
    /// What was evicted from here lately.
    pub(super) ghost: Ghost,
    /// No entry expires before this time, in milliseconds; meaningless without an entry that does.
    pub(super) due: u64,
    /// The flush that it has followed last.
    epoch: u32,
}

const _: () = assert!(size_of::<Shard>() == 64);

impl Shard {
    /// Number of entries.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    fn held_bytes(&self) -> usize {
        let table = self.table.allocation_size();
        table + if table == 0 { 0 } else { MALLOC_BYTES } + self.ghost.held_bytes()
    }
}

/// All shards.
#[derive(Debug)]
pub(super) struct Index {
    shards: Box<[Shard]>,
    scale: u64,
    /// Number of entries.
    pub(super) len: usize,
    /// Bytes held by shards, tables and ghosts.
    pub(super) held: usize,
    /// Number of entries moved by rebuilding tables, ever.
    pub(super) moved: u64,
    holes: Arc<Holes>,
    /// How often everything was flushed. A shard that has not followed yet counts as empty.
    epoch: u32,
    /// Shards below this number have followed.
    followed: usize,
}

impl Index {
    /// An empty index, cut for a store of `memory_bytes`.
    pub(super) fn new(memory_bytes: usize, holes: Arc<Holes>) -> Index {
        let count = (memory_bytes / BYTES_PER_SHARD).next_power_of_two().clamp(SHARDS_MIN, SHARDS_MAX);
        let shards: Box<[Shard]> = (0..count).map(|_| Shard { due: u64::MAX, ..Shard::default() }).collect();
        let held = size_of_val(&*shards) + MALLOC_BYTES;
        let scale = count as u64 * 512 / 3;
        Index { shards, scale, len: 0, held, moved: 0, holes, epoch: 0, followed: count }
    }

    /// A hash with its place in the index.
    ///
    /// With x the hash as a part of the hash space from 0 to 1, its shard is x * (4 - x) / 3 of all: the slope falls from
    /// 4/3 to 2/3, so the shards' widths grow twofold, close enough to evenly in logarithms.
    #[inline]
    pub(super) fn place(&self, bits: u64) -> KeyHash {
        let x = bits >> 33;
        let shard = ((((x * ((1 << 33) - x)) >> 32) * self.scale) >> 39) as u32;
        KeyHash { bits, shard, bucket: u32::MAX }
    }

    /// Number of shards.
    pub(super) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// A shard by its number.
    #[inline]
    pub(super) fn shard(&mut self, number: usize) -> &mut Shard {
        if self.shards[number].epoch != self.epoch {
            self.follow(number);
        }
        &mut self.shards[number]
    }

    /// The shard of a hash.
    #[inline]
    pub(super) fn shard_of(&mut self, hash: KeyHash) -> &mut Shard {
        self.shard(hash.shard as usize)
    }

    /// Looks where the entry of a hash may be, keeps that for [`find`](Self::find), and returns what is there.
    #[inline]
    pub(super) fn touch(&mut self, hash: &mut KeyHash) -> Option<Entry> {
        let tag = hash.tag();
        let table = &self.shard_of(*hash).table;
        let bucket = table.find_bucket_index(spread(tag), |entry| entry.tag() == tag)?;
        hash.bucket = bucket as u32;
        table.get_bucket(bucket).copied()
    }

    /// The entry of a hash that `is_it` accepts, and only that one: where it was last seen, or else where it is.
    #[inline]
    pub(super) fn find(&mut self, hash: &mut KeyHash, is_it: impl Fn(Entry) -> bool) -> Option<&mut Entry> {
        let tag = hash.tag();
        let table = &mut self.shard_of(*hash).table;
        if !table.get_bucket(hash.bucket as usize).is_some_and(|entry| is_it(*entry)) {
            hash.bucket = probe(table, tag, is_it)?;
        }
        table.get_bucket_mut(hash.bucket as usize)
    }

    /// Adds an entry.
    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) {
        let table = &self.shard_of(hash).table;
        if table.len() == table.capacity() {
            // A full table gets twice the buckets, or if deletions have used them up, as many afresh: hashbrown would
            // double it down to half its load, and a store that stays at one count would see all tables double.
            let (len, full) = (table.len(), table.num_buckets() / 8 * 7);
            self.rebuild(hash, if len * 8 < full * 7 { full } else { full.max(len) + 1 });
        }
        self.shard_of(hash).table.insert_unique(entry.table_hash(), entry, Entry::table_hash);
        self.len += 1;
    }

    /// Puts another entry in the place of one that [`find`](Self::find) has just found.
    pub(super) fn replace(&mut self, hash: KeyHash, entry: Entry) {
        if let Some(found) = self.shard_of(hash).table.get_bucket_mut(hash.bucket as usize) {
            *found = entry;
        } else {
            debug_assert!(false, "an entry that is replaced is there");
        }
    }

    /// Removes an entry that [`find`](Self::find) has just found.
    #[inline]
    pub(super) fn remove(&mut self, hash: KeyHash) {
        let table = &mut self.shard_of(hash).table;
        if let Ok(found) = table.get_bucket_entry(hash.bucket as usize) {
            found.remove();
        } else {
            debug_assert!(false, "an entry that is removed is there");
        }
        let (len, buckets) = (table.len(), table.num_buckets());
        if len * 6 < buckets && buckets > 16 {
            self.rebuild(hash, len * 2);
        }
        self.len -= 1;
    }

    /// Replaces a table by one with room for `capacity` entries, and the ghost by one to match.
    #[cold]
    fn rebuild(&mut self, hash: KeyHash, capacity: usize) {
        let shard = &mut self.shards[hash.shard as usize];
        self.held -= shard.held_bytes();
        self.moved += shard.len() as u64;
        let mut table = HashTable::with_capacity(capacity);
        for entry in &shard.table {
            table.insert_unique(entry.table_hash(), *entry, Entry::table_hash);
        }
        self.holes.fill(table.allocation_size());
        self.holes.dig(shard.table.allocation_size());
        shard.table = table;
        if !shard.ghost.is_empty() {
            shard.ghost.resize(shard.table.num_buckets());
        }
        self.held += shard.held_bytes();
    }

    /// Remembers in its shard's ghost that an item was evicted. A shard that has none yet gets one if there is room.
    pub(super) fn remember(&mut self, hash: KeyHash, is_room: bool) {
        let shard = self.shard_of(hash);
        let before = shard.ghost.held_bytes();
        if before == 0 && is_room {
            shard.ghost.resize(shard.table.num_buckets());
        }
        shard.ghost.insert(hash.bits);
        let more = shard.ghost.held_bytes() - before;
        self.held += more;
    }

    /// About 32 entries from a place in the hash space on, with what finds them, and the place behind them. A place is a
    /// shard's number and a tag; no growth moves an entry from its own.
    pub(super) fn slice(&mut self, place: u64) -> (Vec<(KeyHash, Entry)>, u64) {
        let (number, start) = ((place / TAGS) as usize, place % TAGS);
        let table = &self.shard(number).table;
        let slices = (table.len() / SLICE_ENTRIES).next_power_of_two() as u64;
        let end = TAGS.min(start + TAGS / slices);
        let entries = table.iter().filter(|entry| (start..end).contains(&entry.tag()));
        let hash = |entry: &Entry| KeyHash { bits: entry.tag(), shard: number as u32, bucket: u32::MAX };
        (entries.map(|entry| (hash(entry), *entry)).collect(), number as u64 * TAGS + end)
    }

    /// Declares all entries gone; shards follow as they are met, and by [`follow_next`](Self::follow_next).
    pub(super) fn flush(&mut self) {
        self.epoch += 1;
        self.followed = 0;
        self.len = 0;
    }

    /// Whether all shards have followed the last flush.
    pub(super) fn is_followed(&self) -> bool {
        self.followed == self.shards.len()
    }

    /// Has one more shard follow the last flush; whether there was one.
    pub(super) fn follow_next(&mut self) -> bool {
        let is_left = !self.is_followed();
        if is_left {
            self.shard(self.followed);
            self.followed += 1;
        }
        is_left
    }

    #[cold]
    fn follow(&mut self, number: usize) {
        let shard = &mut self.shards[number];
        self.held -= shard.held_bytes();
        self.holes.dig(shard.table.allocation_size());
        *shard = Shard { due: u64::MAX, epoch: self.epoch, ..Shard::default() };
    }

    /// Panics unless what it counts is what it holds.
    pub(super) fn check(&self) {
        let held: usize = self.shards.iter().map(Shard::held_bytes).sum();
        assert_eq!(held + size_of_val(&*self.shards) + MALLOC_BYTES, self.held);
        let current = self.shards.iter().filter(|shard| shard.epoch == self.epoch);
        assert_eq!(current.map(Shard::len).sum::<usize>(), self.len);
    }
}

#[inline(never)]
fn probe(table: &HashTable<Entry>, tag: u64, is_it: impl Fn(Entry) -> bool) -> Option<u32> {
    let bucket = table.find_bucket_index(spread(tag), |entry| entry.tag() == tag && is_it(*entry))?;
    Some(bucket as u32)
}
