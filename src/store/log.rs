//! The log: where items lie. Segments of equal size are appended to and given back whole; each belongs to one of two
//! first-in-first-out queues, and its place in the queue is the age of all its items. So an item needs no links, and
//! making room is walking over the oldest segment.
//!
//! It counts every byte it holds. It does not know the index, nor why an item is moved or removed.

use std::{iter, mem};

use bytes::Bytes;
use memmap2::MmapMut;
use slab::Slab;

use super::prefetch::prefetch;
use super::record::Record;
use crate::command::NEVER;
use crate::limits::{CHUNK_BYTES, MALLOC_BYTES, SEGMENT_BYTES};
use crate::memory;

/// How many segments one search for the deadest looks at: enough to find nearly the best, and a bound.
const DEADEST_SAMPLE: usize = 32;

/// How many vacant places of a flushed log's directory are passed at once.
const VACANT_PASSED: usize = 8;

/// How far behind an item's start its second cache line is asked for: a small item mostly lies in two.
const SECOND_BYTES: usize = 48;

/// What a reference to a chunk takes, in bytes, with its part of the list that it is in.
const REFERENCE_BYTES: usize = size_of::<Bytes>() + MALLOC_BYTES + size_of::<Vec<Bytes>>();

/// Where an item lies: segment and offset, in 38 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(pub(super) u64);

impl Handle {
    fn new(segment: usize, offset: usize) -> Handle {
        debug_assert!(offset < 2 * SEGMENT_BYTES, "no segment is longer");
        Handle((segment as u64) << 16 | (offset as u64) >> 1)
    }

    fn segment(self) -> usize {
        (self.0 >> 16) as usize
    }

    pub(super) fn offset(self) -> usize {
        (self.0 as usize & 0xFFFF) << 1
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Queue {
    /// New items, on probation.
    #[default]
    Small,
    /// Items that were used again.
    Main,
}

/// What is known of a segment. One that is linked has something alive in it, unless it is its queue's newest.
#[derive(Debug, Default)]
struct Segment {
    /// How many of its bytes have been appended.
    len: usize,
    dead: usize,
    /// No item expires before this time, in milliseconds.
    due: u64,
    older: usize,
    newer: usize,
    queue: Queue,
}

/// A walk over the places of a segment, that is to leave none of them alive.
#[derive(Debug, Default)]
pub(super) struct Walk {
    /// Segment 0, which has no places, while there is no walk.
    segment: usize,
    /// There is nothing alive before it.
    pub(super) offset: usize,
    /// Whether it is to save what is alive from among what is dead.
    pub(super) is_cleaning: bool,
}

/// All segments, and the chunk lists of large values.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The first two have no bytes, and close the rings of the queues: what is newer than such a one is its queue's
    /// oldest, and what is older the newest.
    segments: Vec<Segment>,
    /// The bytes of each, in a table of its own, since a look-up needs no more of them.
    blocks: Vec<MmapMut>,
    /// Segments that are not in use. Their memory has been given back, but for one: making it anew takes 24 us.
    vacant: Vec<usize>,
    spare: Option<usize>,
    pub(super) walk: Walk,
    probe: usize,
    /// Bytes of live records and chunks in each queue.
    pub(super) live_bytes: [usize; 2],
    /// Bytes of dead records in segments that are still held.
    pub(super) dead: usize,
    /// Number of items that carry an expiry.
    pub(super) expiring: usize,
    lists: Slab<Vec<Bytes>>,
    /// References to chunks of values that are dead.
    pub(super) dropped: Vec<Bytes>,
    /// Number of references to chunks, dead or alive.
    pub(super) chunks: usize,
    /// Bytes of segments in use.
    held: usize,
}

impl Log {
    pub(super) fn new() -> Log {
        let rings = [0, 1].map(|ring| Segment { older: ring, newer: ring, ..Segment::default() });
        Log { segments: rings.into(), blocks: vec![memory::block(0), memory::block(0)], ..Log::default() }
    }

    /// Bytes held: segments, and references to chunks without these.
    pub(super) fn held(&self) -> usize {
        self.held + self.spare_bytes() + self.chunks * REFERENCE_BYTES
    }

    fn spare_bytes(&self) -> usize {
        self.spare.map_or(0, |_| SEGMENT_BYTES)
    }

    /// The bytes that start at an item, to its segment's end; none where there is no item.
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        self.blocks[handle.segment()].get(handle.offset()..).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        self.blocks[handle.segment()].get_mut(handle.offset()..).unwrap_or_default()
    }

    /// Asks for two cache lines at a place that may be gone by now.
    #[inline(always)]
    pub(super) fn prefetch(&self, handle: Handle) {
        let bytes: &[u8] = self.blocks.get(handle.segment()).map_or(&[], |block| block);
        prefetch(bytes.get(handle.offset()));
        prefetch(bytes.get(handle.offset() + SECOND_BYTES));
    }

    /// The records of a segment from an offset on; gaps are among them.
    fn records(&self, number: usize, mut offset: usize) -> impl Iterator<Item = (Handle, Record)> {
        let bytes = &self.blocks[number][..self.segments[number].len];
        iter::from_fn(move || {
            let record = Record::read(bytes.get(offset..).filter(|rest| !rest.is_empty())?);
            offset += record.size();
            Some((Handle::new(number, offset - record.size()), record))
        })
    }

    pub(super) fn chunks_of(&self, record: &Record) -> &[Bytes] {
        record.list.map_or(&[], |list| &self.lists[list as usize])
    }

    pub(super) fn queue(&self, handle: Handle) -> Queue {
        self.segments[handle.segment()].queue
    }

    /// What an item weighs: its record and its chunks, in bytes.
    pub(super) fn weight(&self, record: &Record) -> usize {
        record.size() + self.chunks_of(record).len() * CHUNK_BYTES
    }

    /// Keeps a list of chunks; its number goes into a record.
    pub(super) fn keep_list(&mut self, chunks: &[Bytes]) -> u32 {
        self.chunks += chunks.len();
        self.lists.insert(chunks.to_vec()) as u32
    }

    #[inline(always)]
    fn drop_list(&mut self, record: &Record) {
        if let Some(number) = record.list {
            self.dropped.append(&mut self.lists.remove(number as usize));
        }
    }

    /// Drops references to chunks, as those of an item that is dead; [`settle`](Self::settle) gives them back.
    pub(super) fn discard(&mut self, mut list: Vec<Bytes>) {
        self.chunks += list.len();
        self.dropped.append(&mut list);
    }

    /// Gives back some references to chunks: a share of all where these are so many that they would pile up, since each
    /// APPEND to a large value drops all of its list. Returns how many.
    pub(super) fn settle(&mut self, count: usize) -> usize {
        let left = self.dropped.len();
        let count = count.max(left / 8).min(left);
        self.dropped.truncate(left - count);
        self.chunks -= count;
        if count == left {
            self.dropped = Vec::new();
        }
        count
    }

    /// Gives back a piece of a log that nobody asks any more: drops one list of chunks, or frees a segment that leads to
    /// none. False once nothing is left.
    pub(super) fn dismantle(&mut self) -> bool {
        let is_left = self.segments.len() > 2;
        for last in (2..self.segments.len()).rev().take(VACANT_PASSED) {
            let large = self.records(last, 0).find(|(_, record)| record.list.is_some());
            if let Some((handle, record)) = large {
                self.write_gap(last, handle.offset(), record.size());
                self.drop_list(&record);
                return true;
            }
            let (segment, block) = (self.segments.pop(), self.blocks.pop());
            if segment.is_some_and(|segment| segment.len > 0) {
                self.held -= block.map_or(0, |block| block.len());
                break;
            }
        }
        is_left
    }

    fn newest(&self, queue: Queue) -> usize {
        self.segments[queue as usize].older
    }

    /// What fits the segment that a queue appends to, in bytes: nothing if there is a walk over it.
    pub(super) fn room_bytes(&self, queue: Queue) -> usize {
        let newest = self.newest(queue);
        if newest == self.walk.segment { 0 } else { self.blocks[newest].len() - self.segments[newest].len }
    }

    /// Bytes of held memory that can take new records at once or after the walk under way: what is left of the segments
    /// that are appended to, what the walk has left behind, and what is spare.
    pub(super) fn slack_bytes(&self) -> usize {
        let room_bytes = self.room_bytes(Queue::Small) + self.room_bytes(Queue::Main);
        room_bytes + self.walk.offset + self.spare_bytes()
    }

    /// Opens a new segment of `bytes` bytes for the queue.
    pub(super) fn open(&mut self, queue: Queue, bytes: usize) {
        let newest = self.newest(queue);
        if newest != queue as usize && self.segments[newest].dead == self.segments[newest].len {
            self.release(newest);
        }
        let spare = self.spare.take_if(|_| bytes == SEGMENT_BYTES);
        let number = spare.or_else(|| self.vacant.pop()).unwrap_or(self.segments.len());
        self.segments.resize_with(self.segments.len().max(number + 1), Segment::default);
        self.blocks.resize_with(self.segments.len(), || memory::block(bytes));
        if self.blocks[number].len() != bytes {
            self.blocks[number] = memory::block(bytes);
        }
        self.held += bytes;
        let (older, newer) = (self.newest(queue), queue as usize);
        self.segments[number] = Segment { queue, older, newer, due: NEVER, ..Segment::default() };
        self.segments[older].newer = number;
        self.segments[newer].older = number;
    }

    fn release(&mut self, number: usize) {
        let Segment { dead, older, newer, .. } = mem::take(&mut self.segments[number]);
        self.segments[older].newer = newer;
        self.segments[newer].older = older;
        self.dead -= dead;
        let block = &mut self.blocks[number];
        self.held -= block.len();
        if block.len() == SEGMENT_BYTES && self.spare.is_none() {
            self.spare = Some(number);
        } else {
            memory::give_back(block);
            self.vacant.push(number);
        }
        if self.walk.segment == number {
            self.walk = Walk::default();
        }
    }

    /// Appends a record that fits.
    pub(super) fn append(&mut self, queue: Queue, record: &Record, key: &[u8], rest: &[u8]) -> Handle {
        debug_assert!(self.room_bytes(queue) >= record.size());
        let handle = self.claim(queue, record);
        record.write(self.bytes_mut(handle), key, rest);
        handle
    }

    /// Makes a place for a record behind all others of a queue's newest segment.
    fn claim(&mut self, queue: Queue, record: &Record) -> Handle {
        let number = self.newest(queue);
        self.count_in(number, record);
        let start = self.segments[number].len;
        self.segments[number].len += record.size();
        Handle::new(number, start)
    }

    /// Moves an item of another segment to the queue's newest, where it must fit.
    pub(super) fn relocate(&mut self, from: Handle, record: &Record, queue: Queue) -> Handle {
        let handle = self.claim(queue, record);
        if let Ok([source, target]) = self.blocks.get_disjoint_mut([from.segment(), handle.segment()]) {
            target[handle.offset()..][..record.size()].copy_from_slice(&source[from.offset()..][..record.size()]);
        }
        self.bury(from, record);
        handle
    }

    /// Puts a record that is no longer than the old one in its place.
    pub(super) fn overwrite(&mut self, at: Handle, old: &Record, new: &Record, key: &[u8], rest: &[u8]) {
        self.count_in(at.segment(), new);
        self.count_out(at.segment(), old);
        new.write(self.bytes_mut(at), key, rest);
        if old.size() > new.size() {
            self.write_gap(at.segment(), at.offset() + new.size(), old.size() - new.size());
        }
        self.drop_list(old);
    }

    #[inline(always)]
    pub(super) fn kill(&mut self, handle: Handle, record: &Record) {
        self.bury(handle, record);
        self.drop_list(record);
    }

    /// Makes a gap of a record, and gives its segment back if nothing in it is alive any more.
    #[inline(always)]
    fn bury(&mut self, handle: Handle, record: &Record) {
        let number = handle.segment();
        self.count_out(number, record);
        self.write_gap(number, handle.offset(), record.size());
        let segment = &self.segments[number];
        if segment.dead == segment.len && (self.walk.segment == number || self.newest(segment.queue) != number) {
            self.release(number);
        }
    }

    #[inline(always)]
    fn write_gap(&mut self, number: usize, offset: usize, size: usize) {
        Record::write_gap(&mut self.blocks[number][offset..], size);
        self.segments[number].dead += size;
        self.dead += size;
    }

    fn count_in(&mut self, number: usize, record: &Record) {
        let weight = self.weight(record);
        let segment = &mut self.segments[number];
        segment.due = segment.due.min(record.deadline);
        self.live_bytes[segment.queue as usize] += weight;
        self.expiring += usize::from(record.deadline != NEVER);
    }

    #[inline(always)]
    fn count_out(&mut self, number: usize, record: &Record) {
        self.live_bytes[self.segments[number].queue as usize] -= self.weight(record);
        self.expiring -= usize::from(record.deadline != NEVER);
    }

    /// Starts a walk over the oldest segment of a queue that has live items.
    pub(super) fn walk_oldest(&mut self, queue: Queue) {
        self.walk = Walk { segment: self.segments[queue as usize].newer, ..Walk::default() };
    }

    /// Starts a walk over the deadest of some segments, if at least `dead_share` / 256 of it is dead.
    pub(super) fn walk_deadest(&mut self, dead_share: usize) {
        let mut best = 0;
        for _ in 0..DEADEST_SAMPLE {
            self.probe = (self.probe + 1) % self.segments.len();
            let segment = &self.segments[self.probe];
            if segment.dead > self.segments[best].dead && self.newest(segment.queue) != self.probe {
                best = self.probe;
            }
        }
        let Segment { dead, len, .. } = self.segments[best];
        if dead > 0 && dead * 256 >= len * dead_share {
            self.walk = Walk { segment: best, offset: 0, is_cleaning: true };
        }
    }

    pub(super) fn is_walking(&self) -> bool {
        self.walk.segment > 0
    }

    /// What the walk comes to next: items and gaps.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (Handle, Record)> {
        self.records(self.walk.segment, self.walk.offset)
    }

    /// Up to `count` items of a segment that have expired by now, and among how many bytes they were looked for; nothing
    /// if it has no segment of so high a number.
    pub(super) fn expired(&mut self, number: usize, now: u64, count: usize) -> Option<(Vec<(Handle, Record)>, usize)> {
        let (mut expired, mut due) = (Vec::new(), NEVER);
        if self.segments.get(number)?.due > now {
            return Some((expired, 0));
        }
        for (handle, record) in self.records(number, 0) {
            if record.deadline > now || expired.len() == count {
                due = due.min(record.deadline);
            } else {
                expired.push((handle, record));
            }
        }
        self.segments[number].due = due;
        Some((expired, self.segments[number].len))
    }

    /// All items. Panics unless what it counts is what it holds.
    pub(super) fn check(&self) -> Vec<(Handle, Record)> {
        let (mut items, mut linked, mut dead_bytes, mut live_bytes, mut held) = (Vec::new(), 2, 0, [0, 0], 0);
        for ring in [0, 1] {
            let mut number = self.segments[ring].newer;
            while number != ring {
                let segment = &self.segments[number];
                let (gaps, living): (Vec<_>, Vec<_>) = self.records(number, 0).partition(|(_, record)| record.is_gap());
                let dead: usize = gaps.iter().map(|(_, record)| record.size()).sum();
                assert!(dead == segment.dead && (dead < segment.len || segment.newer == ring));
                assert!(living.iter().all(|(_, record)| record.deadline >= segment.due));
                assert_eq!(self.segments[segment.newer].older, number);
                live_bytes[ring] += living.iter().map(|(_, record)| self.weight(record)).sum::<usize>();
                items.extend(living);
                held += self.blocks[number].len();
                (number, linked, dead_bytes) = (segment.newer, linked + 1, dead_bytes + dead);
            }
        }
        assert_eq!(live_bytes, self.live_bytes);
        let unused = self.vacant.len() + self.spare.iter().len();
        assert_eq!((linked + unused, dead_bytes), (self.segments.len(), self.dead));
        let chunks: usize = self.lists.iter().map(|(_, list)| list.len()).sum();
        assert_eq!(chunks + self.dropped.len(), self.chunks);
        assert_eq!(held, self.held);
        let count = |is_it: fn(&Record) -> bool| items.iter().filter(|(_, record)| is_it(record)).count();
        assert_eq!(count(|record| record.list.is_some()), self.lists.len(), "every chunk list has its item");
        assert_eq!(count(|record| record.deadline != NEVER), self.expiring);
        items
    }
}
