//! The index: a hash table from a key's hash to the place of its item in the log, at eight bytes an entry.
//!
//! It grows by linear hashing (Litwin, VLDB 1980): one bucket after the other is split in two. So a step moves some
//! fifteen entries, rarely up to 40, and the bytes per item stay the same at every size. A bucket is two neighbouring
//! cache lines of eight entries, and a key's hash chooses the one to search first: 19 look-ups in 20 wait for memory
//! only once. What finds no place there goes into overflow lines chained to the bucket. (With hashbrown's table, 44 to
//! 87 % full and doubled at once, an item took 4 bytes more, and a request at five million keys a tenth longer.)
//!
//! An entry holds enough of the hash to be moved without reading its item. When an item is evicted, its entry stays as
//! a ghost, which leads to no item, until its place is needed. The ghosts tell the eviction policy which keys come
//! back, and how soon. This file knows hashes and handles, neither keys nor values.

use std::mem;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use memmap2::MmapMut;

use super::log::{Handle, Queue};
use crate::limits::{BUCKETS_MIN, INDEX_BLOCK_BYTES};
use crate::memory::{self, prefetch};

/// Entries in a line. The last place of a bucket's first line and of each overflow line may hold a link instead.
const PLACES: usize = 8;
const LAST: isize = PLACES as isize - 1;

/// A cache line: first the upper halves of its entries, which are compared all at once, then the lower halves. The two
/// lines of a bucket are aligned so that the processor loads them as a pair.
type Line = [[u8; 4]; 2 * PLACES];

/// Lines in a block, the unit in which memory is allocated.
const LINES: usize = INDEX_BLOCK_BYTES / size_of::<Line>();

/// Items per bucket, on average: above the maximum a bucket is split, below the minimum two are merged. So an item
/// takes 13.3 bytes, and 3 % of the entries lie in overflow lines. 12 would save 1.6 bytes and cost a tenth more time.
const ITEMS_MAX: usize = 10;
const ITEMS_MIN: usize = 5;

/// A slice for SCAN ends after so many buckets, or after one that is not empty: each entry costs a look at its item.
const SLICE_BUCKETS_MAX: usize = 512;

/// A key's hash, computed once per command, with the place where its entry was last seen.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    /// All 64 bits. The top 24 are the tag, whose top bit chooses the home line in a bucket. The bucket's number is
    /// made of the bits just below the tag and, as the table grows, of more and more of the tag's own lowest bits.
    bits: u64,
    /// First [`UNKNOWN`], then the first place of its home line, then that where its entry was seen, or the index's `absent`.
    /// A hint, as entries move: who follows it compares the key or handle of what is there now, and searches if it differs.
    pub(super) place: isize,
}

impl KeyHash {
    pub(super) fn new(bits: u64) -> KeyHash {
        KeyHash { bits, place: UNKNOWN }
    }

    /// Its bits. The lowest 24 decide nothing in a store but which ghosts make way for a new one.
    pub fn bits(self) -> u64 {
        self.bits
    }
}

/// An entry, from the top: the hash's tag (24 bits), the number of uses (2), and the item's handle (38). Three kinds
/// lead to no item: 0 is a free place; a ghost has a queue instead of uses, and a stamp instead of an offset in segment 0;
/// a link has a line's number instead of tag and offset in segment 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry(u64);

const TAG: u32 = 40;
const SHIFT: u32 = TAG - BUCKETS_MIN.ilog2();
const USE: u64 = 1 << 38;
const USES_MAX: u64 = 3;
const HANDLE_UPPER: u32 = ((USE - 1) >> 32) as u32;
/// The least handle in segment 1. No item ever lies in the first two segments.
const LINK: u64 = 1 << 16;

/// The place of a hash that has not been looked up yet. No entry ever lies here or beyond.
const UNKNOWN: isize = isize::MAX / 2;

impl Entry {
    pub(super) fn new(hash: KeyHash, handle: Handle, uses: u64) -> Entry {
        debug_assert!(handle.0 < USE && uses <= USES_MAX);
        Entry((hash.bits >> TAG << TAG) + uses * USE + handle.0)
    }

    /// The entry in a place of a line.
    #[inline(always)]
    fn read(line: &Line, at: usize) -> Entry {
        let half = |at: usize| u64::from(u32::from_ne_bytes(line[at]));
        Entry(half(at % PLACES) << 32 | half(PLACES + at % PLACES))
    }

    /// Whether it is a ghost or a free place.
    fn is_vacant(self) -> bool {
        self.0 % USE < LINK
    }

    pub(super) fn handle(self) -> Handle {
        Handle(self.0 % USE)
    }

    /// The uses that count for its item, up to 3: a round in the main queue takes one, the move there takes all.
    pub(super) fn uses(self) -> u64 {
        self.0 / USE % (USES_MAX + 1)
    }

    /// Whether it leads to an item.
    fn is_item(self) -> bool {
        self.0 % USE >= 2 * LINK
    }

    /// A link to an overflow line.
    fn link_to(line: isize) -> Entry {
        let number = !line as u64;
        Entry(number / LINK * (1 << TAG) + LINK + number % LINK)
    }

    /// The overflow line that it leads to, if it is a link.
    fn link(self) -> Option<isize> {
        (self.0 % USE / LINK == 1).then_some(!((self.0 >> TAG) * LINK + self.0 % LINK) as isize)
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    lines: Vec<MmapMut>, // two lines for each bucket, numbered from 0 up, and overflow lines, numbered from -1 down
    overflow: Vec<MmapMut>,
    touched: usize, // how many of `lines` have been used since their block was allocated, and so take memory
    /// How many lines of `overflow` were ever used, and a link to the first free one of them, which links to the next.
    overflowed: usize,
    free: Entry,
    buckets: usize,
    /// A hash's bits from [`SHIFT`] up choose its bucket, as many as `mask` has: the least 2^n - 1 >= `buckets` - 1.
    mask: usize,
    pub(super) len: usize,
    pub(super) walked: AtomicU64, // overflow lines visited and not counted as work yet; atomic so that a store is Sync
    /// The place of a hash that was not found. Each put changes it, so a hash that has the current one is absent still.
    absent: isize,
}

impl Index {
    pub(super) fn new() -> Index {
        let mut index = Index { absent: UNKNOWN + 1, ..Index::default() };
        index.resize(BUCKETS_MIN);
        index
    }

    /// Empties it, and returns what it was, whose memory is still to be given back.
    pub(super) fn flush(&mut self) -> Index {
        let empty = Index { absent: self.absent, ..Index::new() };
        mem::replace(self, empty)
    }

    pub(super) fn held(&self) -> usize {
        (self.touched + self.overflowed) * size_of::<Line>()
    }

    /// The home line of a hash: in its bucket, or in the one from which that bucket is still to be split off.
    #[inline(always)]
    fn home(&self, bits: u64) -> isize {
        let address = (bits >> SHIFT) as usize;
        let wide = address & self.mask;
        let bucket = if wide < self.buckets { wide } else { address & self.mask >> 1 };
        (bucket * 2) as isize | (bits >> 63) as isize
    }

    #[inline(always)]
    fn line(&self, number: isize) -> Option<&Line> {
        let block = self.lines.get(number as usize / LINES).or_else(|| self.overflow.get(!number as usize / LINES));
        let bytes: &[u8; INDEX_BLOCK_BYTES] = block?.first_chunk()?;
        Some(&bytes.as_chunks().0.as_chunks().0[number as usize % LINES])
    }

    /// The entry in a place. A place is its line's number times eight, plus the position within the line.
    #[inline(always)]
    pub(super) fn entry(&self, place: isize) -> Entry {
        self.line(place >> 3).map_or(Entry(0), |line| Entry::read(line, place as usize))
    }

    #[inline(always)]
    fn line_mut(&mut self, number: isize) -> Option<&mut Line> {
        let block = self.lines.get_mut(number as usize / LINES);
        let block = block.or_else(|| self.overflow.get_mut(!number as usize / LINES));
        let bytes: &mut [u8; INDEX_BLOCK_BYTES] = block?.first_chunk_mut()?;
        Some(&mut bytes.as_chunks_mut().0.as_chunks_mut().0[number as usize % LINES])
    }

    #[inline(always)]
    pub(super) fn set(&mut self, place: isize, entry: Entry) {
        let at = place as usize % PLACES;
        if let Some(line) = self.line_mut(place >> 3) {
            line[at] = ((entry.0 >> 32) as u32).to_ne_bytes();
            line[PLACES + at] = (entry.0 as u32).to_ne_bytes();
        }
    }

    /// Visits lines until something is found: the home, the bucket's other line, then the bucket's overflow lines.
    #[inline(always)]
    fn visit_lines<T>(&self, home: isize, mut visit: impl FnMut(isize, &Line) -> Option<T>) -> Option<T> {
        let (mut number, mut link) = (home, link_place(home & !1));
        loop {
            if let Some(found) = visit(number, self.line(number)?) {
                return Some(found);
            }
            if number == home {
                number ^= 1;
            } else {
                number = self.entry(link).link()?;
                link = link_place(number);
                self.walked.fetch_add(1, Relaxed); // rare
            }
        }
    }

    /// The entries of a bucket that lead to items, and the numbers of its lines. `home` is its first line.
    fn items(&self, home: isize) -> (Vec<Entry>, Vec<isize>) {
        let (mut items, mut lines) = (Vec::with_capacity(2 * PLACES), Vec::with_capacity(PLACES));
        self.visit_lines(home, |number, line| {
            items.extend((0..PLACES).map(|at| Entry::read(line, at)).filter(|entry| entry.is_item()));
            lines.push(number);
            None::<()>
        });
        (items, lines)
    }

    /// The place of the first entry from `home` on that has the hash's tag and that `is_it` accepts, and the entry.
    #[inline(always)]
    fn search(&self, home: isize, hash: KeyHash, is_it: impl Fn(Entry) -> bool) -> Option<(isize, Entry)> {
        self.visit_lines(home, |number, line| {
            let mut found = matching(line, |upper, _| (upper ^ (hash.bits >> 32) as u32) >> 8 == 0);
            while found != 0 {
                let at = found.trailing_zeros() as usize - 1;
                let entry = Entry::read(line, at);
                if is_it(entry) {
                    return Some((number << 3 | at as isize, entry));
                }
                found &= found - 1;
            }
            None
        })
    }

    /// Prefetches the home of a hash, and returns the hash with that place. A write may insert, and need a place in the
    /// bucket's other line: it gets both.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: KeyHash, is_write: bool) -> KeyHash {
        let home = self.home(hash.bits);
        prefetch(self.line(home));
        if is_write {
            prefetch(self.line(home ^ 1));
        }
        KeyHash { place: home << 3, ..hash }
    }

    /// Looks up a hash that [`prefetch`](Self::prefetch) returned by its tag alone, keeps the place found in it, and
    /// returns the handle of the item there. To start from the kept home takes 4 % off a request that comes alone.
    #[inline(always)]
    pub(super) fn find_by_tag(&self, hash: &mut KeyHash) -> Handle {
        let found = self.search(hash.place >> 3, *hash, Entry::is_item);
        let is_home = || hash.place >> 3 == self.home(hash.bits); // which may be another by now
        let (place, entry) = found.unwrap_or_else(|| (if is_home() { self.absent } else { UNKNOWN }, Entry(0)));
        hash.place = place;
        entry.handle()
    }

    /// Counts a use of an entry that was just found, and returns what it is now.
    #[inline(always)]
    pub(super) fn count_use(&mut self, hash: KeyHash, mut entry: Entry) -> Entry {
        if entry.uses() < USES_MAX {
            entry.0 += USE;
            self.set(hash.place, entry);
        }
        entry
    }

    /// Finds the entry of a hash that `is_it` accepts, and keeps its place in `hash`.
    pub(super) fn find(&self, hash: &mut KeyHash, is_it: impl Fn(Entry) -> bool) -> Option<Entry> {
        if hash.place == self.absent {
            return None;
        }
        let (place, entry) = self.search(self.home(hash.bits), *hash, |entry| entry.is_item() && is_it(entry))?;
        hash.place = place;
        Some(entry)
    }

    /// Inserts an entry, and returns the work of a split.
    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) -> u64 {
        self.put(self.home(hash.bits), entry);
        self.len += 1;
        if self.len > self.buckets * ITEMS_MAX { self.resize(self.buckets + 1) } else { 0 }
    }

    /// Puts an entry into the first line, from its home on, that has a free place or a ghost.
    fn put(&mut self, home: isize, entry: Entry) {
        self.absent += 1;
        let free = self.visit_lines(home, |number, line| {
            let free = matching(line, |upper, lower| upper & HANDLE_UPPER | lower >> 16 == 0);
            // The entry's bits choose where to begin, so that ghosts are overwritten in no particular order.
            let turn = entry.0 as usize % PLACES;
            let at = ((free | free << PLACES) >> turn).trailing_zeros() as usize + PLACES - 1 + turn;
            (free != 0).then_some(number << 3 | (at % PLACES) as isize)
        });
        if let Some(place) = free {
            return self.set(place, entry);
        }
        // All are full. A new overflow line becomes the chain's first, and takes over what the link to it displaces.
        let number = self.free.link().unwrap_or(!(self.overflowed as isize));
        self.overflowed = self.overflowed.max(!number as usize + 1);
        self.overflow.resize_with(self.overflowed.div_ceil(LINES), || memory::block(INDEX_BLOCK_BYTES));
        self.free = self.entry(link_place(number));
        self.set(link_place(number), self.entry(link_place(home & !1)));
        self.set(link_place(home & !1), Entry::link_to(number));
        self.put(home, entry);
    }

    fn free_line(&mut self, number: isize) {
        self.set(link_place(number), self.free);
        self.free = Entry::link_to(number);
    }

    /// Removes an entry that was just found, leaves a ghost of it if one is given, and returns the work of a merge.
    pub(super) fn remove(&mut self, hash: KeyHash, ghost: Option<(Queue, u16)>) -> u64 {
        debug_assert!(self.entry(hash.place).is_item(), "an entry that is removed is there");
        self.set(hash.place, ghost.map_or(Entry(0), |(queue, at)| Entry::new(hash, Handle(at.into()), queue as u64)));
        // With more than two places for each item, ghosts would outlive their use, so each new one takes some away.
        let places = 2 * self.buckets * PLACES;
        let taken = if ghost.is_some() { places / self.len } else { 0 };
        for step in 2..taken.min(BUCKETS_MIN) {
            let place = (((hash.bits >> 1) as usize + step) % places) as isize;
            if self.entry(place).is_vacant() {
                self.set(place, Entry(0));
            }
        }
        self.len -= 1;
        let link = link_place(self.home(hash.bits) & !1);
        if let Some(first) = self.entry(link).link() {
            let mut places = first << 3..(first + 1) << 3;
            // An entry of the first overflow line takes its place. So no other overflow line is ever less than full.
            if let Some(place) = places.clone().find(|place| self.entry(*place).is_item()) {
                self.set(hash.place, self.entry(place));
                self.set(place, Entry(0));
            }
            if !places.any(|place| self.entry(place).is_item()) {
                self.set(link, self.entry(link_place(first)));
                self.free_line(first);
            }
        }
        let is_merged = self.len < self.buckets * ITEMS_MIN && self.buckets > BUCKETS_MIN;
        if is_merged { self.resize(self.buckets - 1) } else { 0 }
    }

    /// Changes the number of buckets by one: splits the next one in two, or undoes the last split. Either way one
    /// bucket is emptied, and its entries are put where they belong now, at a unit of work for four of them.
    fn resize(&mut self, buckets: usize) -> u64 {
        let mask = buckets.next_power_of_two() - 1;
        let bucket = if buckets > self.buckets { self.buckets & mask >> 1 } else { buckets };
        let (items, lines) = self.items(bucket as isize * 2);
        for number in lines {
            self.line_mut(number).map(mem::take);
            if number < 0 {
                self.free_line(number);
            }
        }
        (self.buckets, self.mask) = (buckets, mask);
        let (lines, blocks) = (2 * buckets, (2 * buckets).div_ceil(LINES));
        self.lines.resize_with(blocks, || memory::block(INDEX_BLOCK_BYTES));
        self.touched = self.touched.clamp(lines, blocks * LINES);
        // An entry has only the tag of its hash. The bits below it that count are the lowest of the bucket's number.
        let low = (bucket as u64 % BUCKETS_MIN as u64) << SHIFT;
        for item in &items {
            self.put(self.home(item.0 >> TAG << TAG | low), *item);
        }
        items.len() as u64 / 4
    }

    /// The ghost of a hash, as [`remove`](Self::remove) took it, if it is still there. It is there no longer.
    pub(super) fn recall(&mut self, hash: KeyHash) -> Option<(Queue, u16)> {
        let (place, ghost) = self.search(self.home(hash.bits), hash, Entry::is_vacant)?;
        self.set(place, Entry(0));
        Some((if ghost.uses() == Queue::Small as u64 { Queue::Small } else { Queue::Main }, ghost.0 as u16))
    }

    /// The entries of the first bucket from `cursor` on that has any, the next cursor (0 at the end), and the number of
    /// buckets searched. A cursor counts buckets with the bits of their numbers reversed. So a bucket and the one split
    /// off from it are next to each other, and no entry is missed because of a split or merge in between.
    pub(super) fn slice(&self, cursor: u64) -> (Vec<Entry>, u64, usize) {
        let width = u64::BITS - SHIFT;
        let (mut at, mut entries, mut count) = (cursor, Vec::new(), 0);
        while at < 1 << width && entries.is_empty() && count < SLICE_BUCKETS_MAX {
            let home = self.home(at.reverse_bits()) & !1;
            entries = self.items(home).0;
            let narrow = self.mask >> 1;
            let is_split = ((home as usize / 2) & narrow) + narrow + 1 < self.buckets;
            let span = 1 << (width - self.mask.count_ones() + u32::from(!is_split));
            (at, count) = (at / span * span + span, count + 1);
        }
        (entries, if at < 1 << width { at } else { 0 }, count)
    }

    /// Gives back a block of a flushed index. False once none is left.
    pub(super) fn give_back(&mut self) -> bool {
        let is_left = self.lines.pop().or_else(|| self.overflow.pop()).is_some();
        self.touched = self.touched.min(self.lines.len() * LINES);
        self.overflowed = self.overflowed.min(self.overflow.len() * LINES);
        is_left
    }

    /// Panics unless `len` is the number of entries that lead to items.
    pub(super) fn check(&self) {
        assert_eq!((0..self.buckets).flat_map(|bucket| self.items(bucket as isize * 2).0).count(), self.len);
    }
}

/// Which entries of a line match, judged by their two halves: bit 1 stands for the first entry, bit 2 for the next. The
/// compiler uses vector instructions for all at once; with bit 0 for the first entry it would treat one of them apart.
#[inline(always)]
fn matching(line: &Line, is_match: impl Fn(u32, u32) -> bool) -> u32 {
    let half = |at: usize| u32::from_ne_bytes(line[at]);
    (0..PLACES).fold(0, |found, at| found | if is_match(half(at), half(PLACES + at)) { 2 << at } else { 0 })
}

/// The last place of a line, where a link may be.
fn link_place(line: isize) -> isize {
    line << 3 | LAST
}
