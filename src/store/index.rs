//! The index: from a key's hash to where its item lies, in eight bytes an item and a share of free places.
//!
//! It is a table that grows by linear hashing (Litwin, VLDB 1980): one bucket after the other is split in two, so no step
//! moves more than some twenty entries, and bytes per item stay flat at every count. A bucket is two neighbouring cache
//! lines of eight entries, and a key's hash tells in which of them to begin to look: so nineteen look-ups in twenty wait
//! for memory once. What does not fit there goes into further lines, chained to the bucket. (With hashbrown's table, 44 to
//! 87 % full and doubled at once, an item took 4 bytes more, and a request at five million keys a tenth longer.)
//!
//! An entry carries enough of the hash to be moved without reading its item. Once the item is evicted it stays where it
//! is, without the item, until its place is needed: these are the ghosts that a policy asks which keys have come back.
//! This file knows hashes and handles, neither keys nor values.

use std::mem;

use memmap2::MmapMut;

use super::log::Handle;
use super::prefetch::prefetch;
use crate::limits::{BUCKETS_MIN, BYTES_PER_BUCKET, INDEX_BLOCK_BYTES};
use crate::memory;

/// Places for entries of a line. The last one of a bucket's first line, and of a line behind that, may hold a link.
const PLACES: usize = 8;
const LAST: isize = PLACES as isize - 1;

/// A line: the upper halves of its entries, which are compared all at once, then the lower ones. The first two of a bucket
/// begin where the processor loads both together.
type Line = [[u8; 4]; 2 * PLACES];

/// Lines come in blocks of so many.
const LINES: usize = INDEX_BLOCK_BYTES / size_of::<Line>();

/// A bucket is split when there are more items than this for each, and two are merged when there are fewer than that. So
/// an item takes 13.3 bytes, and 3 % of them lie behind their bucket. 12 would save 1.6 bytes and cost a tenth more time.
const ITEMS_MAX: usize = 10;
const ITEMS_MIN: usize = 5;

/// How many entries a slice holds, about: each costs a look at its item. And how many buckets it looks at.
const SLICE_ENTRIES: usize = 32;
const SLICE_BUCKETS_MAX: usize = 512;

/// A key's hash, computed once per command, and what was seen of it since.
#[derive(Clone, Copy, Debug)]
pub struct KeyHash {
    /// All 64 bits. The top 24 are the tag, whose top one chooses the line in a bucket. The bucket is chosen by the
    /// others from the lowest on, as many as the table has come to need, and by those below them.
    bits: u64,
    /// Where its entry was when it was last looked for.
    place: isize,
}

impl KeyHash {
    pub(super) fn new(bits: u64) -> KeyHash {
        KeyHash { bits, place: UNKNOWN }
    }

    /// Its bits. A store makes no use of the lowest 24.
    pub fn bits(self) -> u64 {
        self.bits
    }
}

/// What the index keeps of an item: 24 bits of hash, how often it was used (2 bits), where it lies (38 bits). There are
/// three that lead to none: 0, a ghost, which has a tag alone, and a link, which has a line's number for tag and offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry(u64);

const TAG: u32 = 40;
const USE: u64 = 1 << 38;
const USES_MAX: u64 = 3;
const HANDLE_UPPER: u32 = ((USE - 1) >> 32) as u32;
/// No item lies from here on to twice as far.
const LINK: u64 = 1 << 16;

/// A place that there never is, nor those behind it: that of a hash which was not looked for yet.
const UNKNOWN: isize = isize::MAX / 2;

impl Entry {
    pub(super) fn new(hash: KeyHash, handle: Handle, uses: u64) -> Entry {
        debug_assert!(handle.0 < USE && uses <= USES_MAX);
        Entry(Entry::ghost(hash).0 + uses * USE + handle.0)
    }

    /// The one in a place of a line.
    #[inline(always)]
    fn of(line: &Line, at: usize) -> Entry {
        let half = |at: usize| u64::from(u32::from_ne_bytes(line[at]));
        Entry(half(at % PLACES) << 32 | half(PLACES + at % PLACES))
    }

    fn ghost(hash: KeyHash) -> Entry {
        Entry(hash.bits >> TAG << TAG)
    }

    pub(super) fn handle(self) -> Handle {
        Handle(self.0 % USE)
    }

    /// How often it was used since the policy last asked, up to 3.
    pub(super) fn uses(self) -> u64 {
        self.0 / USE % (USES_MAX + 1)
    }

    /// Whether it leads to an item.
    fn is_item(self) -> bool {
        self.0 % USE >= 2 * LINK
    }

    /// A link to a line behind a bucket.
    fn to(line: isize) -> Entry {
        let number = !line as u64;
        Entry(number / LINK * (1 << TAG) + LINK + number % LINK)
    }

    /// The line that it leads to.
    fn link(self) -> Option<isize> {
        (self.0 % USE / LINK == 1).then_some(!((self.0 >> TAG) * LINK + self.0 % LINK) as isize)
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// Two lines for each bucket, numbered from 0 up, and those that are overflowed into, from -1 down.
    lines: Vec<MmapMut>,
    overflow: Vec<MmapMut>,
    /// How many of `lines` were ever used since their block was new.
    touched: usize,
    /// How many lines of `overflow` were ever used, and a link to one of them that is free, which has a link to the next.
    overflowed: usize,
    free: Entry,
    /// How many buckets there are, and how many there were.
    buckets: usize,
    buckets_min: usize,
    /// The least number of the form 2^n - 1 that is no less than the number of buckets: what of a hash's bits from `shift`
    /// on chooses one.
    mask: usize,
    shift: u32,
    pub(super) len: usize,
    /// The place of what was not found. It is another after each put: what has this one is still not there.
    nowhere: isize,
    /// Entries moved by splitting and merging buckets, ever.
    pub(super) moved: u64,
}

impl Index {
    /// An empty index, for a store of `memory_bytes`.
    pub(super) fn new(memory_bytes: usize) -> Index {
        let buckets_min = 1usize << (memory_bytes / BYTES_PER_BUCKET).clamp(1, BUCKETS_MIN).ilog2();
        let (shift, nowhere) = (TAG - buckets_min.ilog2(), UNKNOWN + 1);
        let mut index = Index { buckets_min, shift, nowhere, ..Index::default() };
        index.resize(buckets_min);
        index
    }

    /// An empty index to go on with instead of this one.
    pub(super) fn flushed(&self) -> Index {
        Index { nowhere: self.nowhere, moved: self.moved, ..Index::new(self.buckets_min * BYTES_PER_BUCKET) }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        (self.touched + self.overflowed) * size_of::<Line>()
    }

    /// The line where a key's entry begins to look for a place.
    #[inline(always)]
    fn home(&self, bits: u64) -> isize {
        let address = (bits >> self.shift) as usize;
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

    /// What is in a place, which is eight times its line and where it is there.
    #[inline(always)]
    fn entry(&self, place: isize) -> Entry {
        self.line(place >> 3).map_or(Entry(0), |line| Entry::of(line, place as usize))
    }

    #[inline(always)]
    fn line_mut(&mut self, number: isize) -> Option<&mut Line> {
        let block = self.lines.get_mut(number as usize / LINES);
        let block = block.or_else(|| self.overflow.get_mut(!number as usize / LINES));
        let bytes: &mut [u8; INDEX_BLOCK_BYTES] = block?.first_chunk_mut()?;
        Some(&mut bytes.as_chunks_mut().0.as_chunks_mut().0[number as usize % LINES])
    }

    #[inline(always)]
    fn set(&mut self, place: isize, entry: Entry) {
        let at = place as usize % PLACES;
        if let Some(line) = self.line_mut(place >> 3) {
            line[at] = ((entry.0 >> 32) as u32).to_ne_bytes();
            line[PLACES + at] = (entry.0 as u32).to_ne_bytes();
        }
    }

    /// Visits the lines that an entry may lie in, until something is found: its home, the other one of the bucket, then
    /// those behind the bucket.
    #[inline(always)]
    fn walk<T>(&self, home: isize, mut visit: impl FnMut(isize, &Line) -> Option<T>) -> Option<T> {
        let (mut number, mut link) = (home, last_of(home & !1));
        loop {
            if let Some(found) = visit(number, self.line(number)?) {
                return Some(found);
            }
            if number == home {
                number ^= 1;
            } else {
                number = self.entry(link).link()?;
                link = last_of(number);
            }
        }
    }

    /// What a bucket leads to, by its first line, and the lines that it has.
    fn items(&self, home: isize) -> (Vec<Entry>, Vec<isize>) {
        let (mut items, mut lines) = (Vec::with_capacity(2 * PLACES), Vec::with_capacity(PLACES));
        self.walk(home, |number, line| {
            items.extend((0..PLACES).map(|at| Entry::of(line, at)).filter(|entry| entry.is_item()));
            lines.push(number);
            None::<()>
        });
        (items, lines)
    }

    /// Where an entry lies that has a hash's tag and that `is_it` accepts.
    #[inline(always)]
    fn search(&self, hash: KeyHash, mut is_it: impl FnMut(Entry) -> bool) -> Option<isize> {
        self.walk(self.home(hash.bits), |number, line| {
            let mut found = which(line, |upper, _| (upper ^ (hash.bits >> 32) as u32) >> 8 == 0);
            while found != 0 {
                let at = found.trailing_zeros() as usize - 1;
                if is_it(Entry::of(line, at)) {
                    return Some(number << 3 | at as isize);
                }
                found &= found - 1;
            }
            None
        })
    }

    /// Asks for the line where the entry of a hash begins to look for a place; for a write, which may be an insert, for both.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: KeyHash, is_write: bool) {
        let home = self.home(hash.bits);
        prefetch(self.line(home));
        if is_write {
            prefetch(self.line(home ^ 1));
        }
    }

    /// Looks where the entry of a hash may be, keeps that for the next look, and tells what it leads to.
    #[inline(always)]
    pub(super) fn look(&self, hash: &mut KeyHash) -> Handle {
        let mut item = Handle(0);
        let found = self.search(*hash, |entry| {
            item = entry.handle();
            entry.is_item()
        });
        hash.place = found.unwrap_or(self.nowhere);
        item
    }

    /// What is where the entry of a hash was last seen; perhaps another's, or nothing.
    #[inline(always)]
    pub(super) fn seen(&self, hash: KeyHash) -> Entry {
        self.entry(hash.place)
    }

    /// Counts a use of an entry that was just found.
    #[inline(always)]
    pub(super) fn count_use(&mut self, hash: KeyHash, entry: Entry) {
        if entry.uses() < USES_MAX {
            self.set(hash.place, Entry(entry.0 + USE));
        }
    }

    /// Puts another entry in the place of one that was just found.
    pub(super) fn replace(&mut self, hash: KeyHash, entry: Entry) {
        self.set(hash.place, entry);
    }

    /// The entry of a hash that `is_it` accepts, and only that one: where it was last seen, or else where it is.
    pub(super) fn find(&self, hash: &mut KeyHash, is_it: impl Fn(Entry) -> bool) -> Option<Entry> {
        if hash.place == self.nowhere {
            return None;
        }
        let is_it = |entry: Entry| entry.is_item() && is_it(entry);
        if !is_it(self.seen(*hash)) {
            hash.place = self.search(*hash, is_it)?;
        }
        Some(self.seen(*hash))
    }

    pub(super) fn insert(&mut self, hash: KeyHash, entry: Entry) {
        self.put(self.home(hash.bits), entry);
        self.len += 1;
        if self.len > self.buckets * ITEMS_MAX {
            self.resize(self.buckets + 1);
        }
    }

    /// Puts an entry into a free place of the first line that has one, from its home on.
    fn put(&mut self, home: isize, entry: Entry) {
        self.nowhere += 1;
        let free = self.walk(home, |number, line| {
            let free = which(line, |upper, lower| upper & HANDLE_UPPER | lower == 0);
            // Ghosts are forgotten in no order: which place is taken depends on the entry.
            let turn = entry.0 as usize % PLACES;
            let at = ((free | free << PLACES) >> turn).trailing_zeros() as usize + PLACES - 1 + turn;
            (free != 0).then_some(number << 3 | (at % PLACES) as isize)
        });
        if let Some(place) = free {
            return self.set(place, entry);
        }
        // A new line becomes the first behind the bucket, and takes what has to make way for the link to it.
        let number = self.free.link().unwrap_or(!(self.overflowed as isize));
        self.overflowed = self.overflowed.max(!number as usize + 1);
        self.overflow.resize_with(self.overflowed.div_ceil(LINES), || memory::block(INDEX_BLOCK_BYTES));
        self.free = self.entry(last_of(number));
        self.set(last_of(number), self.entry(last_of(home & !1)));
        self.set(last_of(home & !1), Entry::to(number));
        self.put(home, entry);
    }

    fn free_line(&mut self, number: isize) {
        self.set(last_of(number), self.free);
        self.free = Entry::to(number);
    }

    /// Removes an entry that was just found; a ghost of it may stay.
    pub(super) fn remove(&mut self, hash: KeyHash, leaves_ghost: bool) {
        debug_assert!(self.seen(hash).is_item(), "an entry that is removed is there");
        self.set(hash.place, if leaves_ghost { Entry::ghost(hash) } else { Entry(0) });
        self.len -= 1;
        let link = last_of(self.home(hash.bits) & !1);
        if let Some(first) = self.entry(link).link() {
            let mut places = first << 3..(first + 1) << 3;
            // What overflowed takes its place: so all lines behind a bucket are full but for the first.
            if let Some(place) = places.clone().find(|place| self.entry(*place).is_item()) {
                let entry = self.entry(place);
                self.set(place, Entry(0));
                self.set(hash.place, entry);
            }
            if !places.any(|place| self.entry(place).is_item()) {
                self.set(link, self.entry(last_of(first)));
                self.free_line(first);
            }
        }
        if self.len < self.buckets * ITEMS_MIN && self.buckets > self.buckets_min {
            self.resize(self.buckets - 1);
        }
    }

    /// Splits the next bucket in two, where that makes the number of buckets, or takes back the last split. The items of
    /// the bucket that this empties are put to where they belong then.
    fn resize(&mut self, buckets: usize) {
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
        self.moved += items.len() as u64;
        // The bits of the hash below the tag are the lowest of the bucket.
        let low = (bucket as u64 % self.buckets_min as u64) << self.shift;
        for item in items {
            self.put(self.home(item.0 >> TAG << TAG | low), item);
        }
    }

    /// Whether a key was evicted lately; its ghost is gone then.
    pub(super) fn recall(&mut self, hash: KeyHash) -> bool {
        let found = self.search(hash, |entry| entry == Entry::ghost(hash));
        found.map(|place| self.set(place, Entry(0))).is_some()
    }

    /// About 32 entries from `cursor` on, the cursor behind them, which is 0 at the end, and among how many buckets they
    /// were looked for. A cursor counts buckets with the bits of their numbers reversed: so a bucket and what is split
    /// off from it lie next to each other, and no entry is passed over because of a split or merge in between.
    pub(super) fn slice(&self, cursor: u64) -> (Vec<Entry>, u64, usize) {
        let width = u64::BITS - self.shift;
        let (mut at, mut entries, mut count) = (cursor, Vec::new(), 0);
        while at < 1 << width && entries.len() < SLICE_ENTRIES && count < SLICE_BUCKETS_MAX {
            let home = self.home(at.reverse_bits() >> (u64::BITS - width) << self.shift) & !1;
            entries.extend(self.items(home).0);
            let narrow = self.mask >> 1;
            let is_split = ((home as usize / 2) & narrow) + narrow + 1 < self.buckets;
            let span = 1 << (width - self.mask.count_ones() + u32::from(!is_split));
            (at, count) = (at / span * span + span, count + 1);
        }
        (entries, if at < 1 << width { at } else { 0 }, count)
    }

    /// Gives back a piece of an index that nobody asks any more; false at the end.
    pub(super) fn dismantle(&mut self) -> bool {
        let is_left = self.lines.pop().or_else(|| self.overflow.pop()).is_some();
        self.touched = self.touched.min(self.lines.len() * LINES);
        self.overflowed = self.overflowed.min(self.overflow.len() * LINES);
        is_left
    }

    /// Panics unless what it counts is what it holds.
    pub(super) fn check(&self) {
        assert_eq!((0..self.buckets).flat_map(|bucket| self.items(bucket as isize * 2).0).count(), self.len);
    }
}

/// Which entries of a line are such, by the halves of each: bit 1 for the first, bit 2 for the next. All are looked at at
/// once, with vector instructions, unless a bit 0 has the compiler treat one apart.
#[inline(always)]
fn which(line: &Line, is_such: impl Fn(u32, u32) -> bool) -> u32 {
    let half = |at: usize| u32::from_ne_bytes(line[at]);
    (0..PLACES).fold(0, |found, at| found | if is_such(half(at), half(PLACES + at)) { 2 << at } else { 0 })
}

fn last_of(line: isize) -> isize {
    line << 3 | LAST
}
