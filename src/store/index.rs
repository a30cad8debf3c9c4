//! The index: from a key's hash to where its item lies, in eight bytes an item and a share of empty buckets.
//!
//! It is cut into shards, each a small table, so that no growth moves much at once. Tables double, and all at the same
//! count if all shards were alike; so the hash space is cut into pieces whose widths spread evenly, in logarithms,
//! over a factor of two, and at every count the shards' tables are filled from 44 to 87 %: bytes per item stay flat.
//! An entry carries enough of the hash to be moved without reading its item. This file knows hashes and handles,
//! neither keys nor values.

use std::iter;
use std::sync::Arc;

use hashbrown::HashTable;

use super::ghost::Ghost;
use super::holes::{Holes, MALLOC_BYTES};
use super::log::Handle;
use crate::limits::{BYTES_PER_SHARD, SHARDS_MAX, SHARDS_MIN};

const TAGS: u64 = 1 << 24;

/// How many entries a slice of a shard holds, about: each costs a look at its item. And how many empty shards it passes.
const SLICE_ENTRIES: usize = 32;
const SLICE_SHARDS_MAX: usize = 1024;

/// Shards that are made together, when the first of them gets an entry: an index that nothing is in is made in no time.
const GROUP: usize = 16;

/// A key's hash, computed once per command, and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    /// All 64 bits. The top 31 choose the shard, the low 24 are the tag, the 16 above it go into the ghost.
    pub(super) bits: u64,
    shard: u32,
    /// Where in the shard's table the entry was when it was last looked for.
    bucket: u32,
    /// What that entry led to.
    pub(super) item: Handle,
}

impl KeyHash {
    /// Its bits. A store's index and eviction make no use of those from 40 to 44 unless it has millions of items.
    pub fn bits(self) -> u64 {
        self.bits
    }

    #[inline]
    fn tag(self) -> u64 {
        self.bits % TAGS
    }
}

/// Which of `scale` / 512 * 3 shards a hash belongs to.
///
/// With x the hash as a part of the hash space from 0 to 1, its shard is x * (4 - x) / 3 of all: the slope falls from
/// 4/3 to 2/3, so the shards' widths grow twofold, close enough to evenly in logarithms.
#[doc(hidden)]
#[inline]
pub fn shard_of(bits: u64, scale: u64) -> u32 {
    let x = bits >> 33;
    ((((x * ((1 << 33) - x)) >> 32) * scale) >> 39) as u32
}

/// What the index keeps of an item: 24 bits of hash, how often it was used (2 bits), where it lies (38 bits).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(u64);

const USE: u64 = 1 << 38;
const USES_MAX: u64 = 3;

impl Entry {
    pub(super) fn new(hash: KeyHash, handle: Handle, uses: u64) -> Entry {
        debug_assert!(handle.0 < USE && uses <= USES_MAX);
        Entry((hash.tag() << 40) + uses * USE + handle.0)
    }

    #[inline]
    pub(super) fn handle(self) -> Handle {
        Handle(self.0 % USE)
    }

    /// How often it was used since the policy last asked, up to 3.
    pub(super) fn uses(self) -> u64 {
        self.0 / USE % (USES_MAX + 1)
    }

    #[inline]
    pub(super) fn count_use(&mut self) {
        if self.0 & (USES_MAX * USE) != USES_MAX * USE {
            self.0 += USE;
        }
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
struct Shard {
    table: HashTable<Entry>,
    ghost: Ghost,
}

const _: () = assert!(size_of::<Shard>() == 64);

impl Shard {
    fn held_bytes(&self) -> usize {
        let table = self.table.allocation_size();
        table + if table == 0 { 0 } else { MALLOC_BYTES } + self.ghost.held_bytes()
    }
}

#[derive(Debug)]
pub(super) struct Index {
    groups: Vec<Option<Box<[Shard; GROUP]>>>,
    scale: u64,
    pub(super) len: usize,
    /// Bytes held by shards, tables and ghosts.
    pub(super) held: usize,
    /// Entries moved by rebuilding tables, ever.
    pub(super) moved: u64,
    holes: Arc<Holes>,
}

impl Index {
    /// An empty index, cut for a store of `memory_bytes`.
    pub(super) fn new(memory_bytes: usize, holes: Arc<Holes>) -> Index {
        let count = (memory_bytes / BYTES_PER_SHARD).next_power_of_two().clamp(SHARDS_MIN, SHARDS_MAX);
        let groups: Vec<_> = iter::repeat_with(|| None).take(count / GROUP).collect();
        let held = size_of_val(&*groups) + MALLOC_BYTES;
        Index { groups, scale: count as u64 * 512 / 3, len: 0, held, moved: 0, holes }
    }

    #[inline]
    pub(super) fn place(&self, bits: u64) -> KeyHash {
        KeyHash { bits, shard: shard_of(bits, self.scale), bucket: u32::MAX, item: Handle(USE - 1) }
    }

    #[inline]
    fn shard(&self, number: usize) -> Option<&Shard> {
        self.groups.get(number / GROUP)?.as_ref().map(|group| &group[number % GROUP])
    }

    #[inline]
    fn shard_mut(&mut self, hash: KeyHash) -> Option<&mut Shard> {
        let number = hash.shard as usize;
        self.groups.get_mut(number / GROUP)?.as_mut().map(|group| &mut group[number % GROUP])
    }

    /// Looks where the entry of a hash may be, and keeps that and what is there for the next look.
    #[inline]
    pub(super) fn touch(&self, hash: &mut KeyHash) {
        let tag = hash.tag();
        let is_it = |entry: &Entry| {
            hash.item = entry.handle();
            entry.tag() == tag
        };
        if let Some(shard) = self.shard(hash.shard as usize)
            && let Some(bucket) = shard.table.find_bucket_index(spread(tag), is_it)
        {
            hash.bucket = bucket as u32;
        }
    }

    /// What is where the entry of a hash was last seen.
    #[inline]
    pub(super) fn seen(&mut self, hash: KeyHash) -> Option<&mut Entry> {
        self.shard_mut(hash)?.table.get_bucket_mut(hash.bucket as usize)
    }

    /// Puts another entry in the place of one that was just found.
    pub(super) fn replace(&mut self, hash: KeyHash, entry: Entry) {
        let found = self.seen(hash).map(|found| *found = entry);
        debug_assert!(found.is_some(), "an entry that is replaced is there");
    }

    /// The entry of a hash that `is_it` accepts, and only that one: where it was last seen, or else where it is.
    pub(super) fn find(&mut self, hash: &mut KeyHash, is_it: impl Fn(Entry) -> bool) -> Option<&mut Entry> {
        let tag = hash.tag();
        let table = &mut self.shard_mut(*hash)?.table;
        if !table.get_bucket(hash.bucket as usize).is_some_and(|entry| is_it(*entry)) {
            let is_it = |entry: &Entry| entry.tag() == tag && is_it(*entry);
            hash.bucket = table.find_bucket_index(spread(tag), is_it)? as u32;
        }
        table.get_bucket_mut(hash.bucket as usize)
    }

    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) {
        let number = hash.shard as usize;
        if self.groups[number / GROUP].is_none() {
            self.held += size_of::<[Shard; GROUP]>() + MALLOC_BYTES;
        }
        let shard = &mut self.groups[number / GROUP].get_or_insert_default()[number % GROUP];
        if shard.table.len() == shard.table.capacity() {
            // A full table gets twice the buckets, or if deletions have used them up, as many afresh: hashbrown would
            // double it down to half its load, and a store that stays at one count would see all tables double.
            let (len, full) = (shard.table.len(), shard.table.num_buckets() / 8 * 7);
            self.rebuild(hash, if len * 8 < full * 7 { full } else { full.max(len) + 1 });
        }
        if let Some(shard) = self.shard_mut(hash) {
            shard.table.insert_unique(entry.table_hash(), entry, Entry::table_hash);
            self.len += 1;
        }
    }

    /// Removes an entry that was just found.
    pub(super) fn remove(&mut self, hash: KeyHash) {
        let Some(shard) = self.shard_mut(hash) else {
            return;
        };
        if let Ok(found) = shard.table.get_bucket_entry(hash.bucket as usize) {
            found.remove();
        } else {
            debug_assert!(false, "an entry that is removed is there");
        }
        let (len, buckets) = (shard.table.len(), shard.table.num_buckets());
        if len * 6 < buckets && buckets > 16 {
            self.rebuild(hash, len * 2);
        }
        self.len -= 1;
    }

    /// Replaces a table by one with room for `capacity` entries, and the ghost by one to match.
    #[cold]
    fn rebuild(&mut self, hash: KeyHash, capacity: usize) {
        let Some(shard) = self.shard_mut(hash) else {
            return;
        };
        let before = shard.held_bytes();
        let mut table = HashTable::with_capacity(capacity);
        for entry in &shard.table {
            table.insert_unique(entry.table_hash(), *entry, Entry::table_hash);
        }
        if !shard.ghost.is_empty() {
            shard.ghost.resize(table.num_buckets());
        }
        let (new, moved) = (table.allocation_size(), table.len() as u64);
        let old = std::mem::replace(&mut shard.table, table).allocation_size();
        let after = shard.held_bytes();
        self.held = self.held + after - before;
        self.moved += moved;
        self.holes.fill(new);
        self.holes.dig(old);
    }

    /// Remembers in its shard's ghost that an item was evicted. A shard that has none yet gets one if there is room.
    pub(super) fn remember(&mut self, hash: KeyHash, is_room: bool) {
        if let Some(shard) = self.shard_mut(hash) {
            let before = shard.ghost.held_bytes();
            if before == 0 && is_room {
                shard.ghost.resize(shard.table.num_buckets());
            }
            shard.ghost.insert(hash.bits);
            let more = shard.ghost.held_bytes() - before;
            self.held += more;
        }
    }

    /// Whether a key was evicted lately; its ghost forgets it then.
    pub(super) fn recall(&mut self, hash: KeyHash) -> bool {
        self.shard_mut(hash).is_some_and(|shard| shard.ghost.take(hash.bits))
    }

    /// About 32 entries from a place in the hash space on, the place behind them, which is 0 at the end, and among how
    /// many they were looked for. A place is a shard's number and a tag; no growth moves an entry from its own.
    pub(super) fn slice(&self, place: u64) -> (impl Iterator<Item = Entry>, u64, usize) {
        let shards = self.groups.len() * GROUP;
        let (mut number, mut start) = (shards.min((place / TAGS) as usize), place % TAGS);
        let table = |number| self.shard(number).map_or(const { &HashTable::new() }, |shard| &shard.table);
        let passed = (number..shards).take(SLICE_SHARDS_MAX).take_while(|number| table(*number).is_empty()).count();
        if passed > 0 {
            (number, start) = (number + passed, 0);
        }
        let count = table(number).len();
        let end = TAGS.min(start + TAGS / (count / SLICE_ENTRIES).next_power_of_two() as u64);
        let behind = number as u64 * TAGS + end;
        let entries = table(number).iter().filter(move |entry| (start..end).contains(&entry.tag()));
        (entries.copied(), if behind < shards as u64 * TAGS { behind } else { 0 }, count)
    }

    /// Gives back a group of shards of an index that nobody asks any more; false at the end.
    pub(super) fn dismantle(&mut self) -> bool {
        while let Some(group) = self.groups.pop() {
            for shard in group.iter().flat_map(|group| &**group) {
                self.held -= shard.held_bytes();
                self.holes.dig(shard.table.allocation_size());
            }
            if group.is_some() {
                self.held -= size_of::<[Shard; GROUP]>() + MALLOC_BYTES;
                return true;
            }
        }
        false
    }

    pub(super) fn check(&self) {
        let groups = || self.groups.iter().flatten();
        let shards: usize = groups().flat_map(|group| &**group).map(Shard::held_bytes).sum();
        let held = groups().count() * (size_of::<[Shard; GROUP]>() + MALLOC_BYTES) + shards;
        assert_eq!(held + size_of_val(&*self.groups) + MALLOC_BYTES, self.held);
        assert_eq!(groups().flat_map(|group| &**group).map(|shard| shard.table.len()).sum::<usize>(), self.len);
    }
}
