//! The log: where items lie. Segments of equal size are appended to and given back whole; each belongs to one of two
//! first-in-first-out queues, and its place in the queue is the age of all its items. So an item needs no links, and
//! making room is walking over the oldest segment.
//!
//! It counts every byte it holds. It does not know the index, nor why an item is moved or removed.

use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::holes::Holes;
use super::record::{self, Place, Record};
use crate::limits::{CHUNK_BYTES, SEGMENT_BYTES};

/// What the C library adds to a block, in bytes.
pub(super) const MALLOC_BYTES: usize = 16;

/// What giving back a flushed segment costs, in units of about 100 ns: its pages go back to the system.
const DOOMED_SEGMENT_UNITS: usize = 64;

/// How many segments one search for the deadest looks at: enough to find nearly the best, and a bound.
const DEADEST_SAMPLE: usize = 32;

/// How far behind an item's start its second cache line is touched.
const TOUCH_BYTES: usize = 48;

/// In place of a segment's number: there is none.
const NONE: u32 = u32::MAX;

/// Where an item lies: segment and offset, in 37 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(pub(super) u64);

impl Handle {
    fn new(segment: u32, offset: usize) -> Handle {
        debug_assert!(offset < 1 << 16);
        Handle(u64::from(segment) << 15 | (offset as u64) >> 1)
    }

    #[inline]
    fn segment(self) -> usize {
        (self.0 >> 15) as usize
    }

    #[inline]
    fn offset(self) -> usize {
        (self.0 as usize & 0x7FFF) << 1
    }
}

/// Which queue a segment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// New items, on probation.
    Small = 0,
    /// Items that were used again.
    Main = 1,
}

/// A segment. One that is vacant has no memory. One that is linked has something alive in it, unless it is its queue's
/// newest.
#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    dead: usize,
    queue: Queue,
    older: u32,
    newer: u32,
}

impl Segment {
    /// What it can still take, in bytes. Behind the end of a usual segment, where no handle leads, that is nothing.
    fn room_bytes(&self) -> usize {
        if self.bytes.len() <= SEGMENT_BYTES { self.bytes.capacity() - self.bytes.len() } else { 0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Fifo {
    oldest: u32,
    newest: u32,
    live_bytes: usize,
}

/// A walk over the places of a segment, that is to leave none of them alive.
#[derive(Clone, Copy, Debug)]
struct Walk {
    segment: u32,
    offset: usize,
    /// Whether it is to save what is alive from among what is dead.
    is_cleaning: bool,
}

const NO_FIFO: Fifo = Fifo { oldest: NONE, newest: NONE, live_bytes: 0 };
const NO_WALK: Walk = Walk { segment: NONE, offset: 0, is_cleaning: false };

/// All segments, and the chunk lists of large values.
#[derive(Debug)]
pub(super) struct Log {
    segments: Vec<Segment>,
    vacant: Vec<u32>,
    /// Segments that were flushed.
    doomed: Vec<Segment>,
    queues: [Fifo; 2],
    walk: Walk,
    probe: usize,
    /// Bytes of dead records in segments that are still held.
    pub(super) dead: usize,
    lists: Vec<Vec<Bytes>>,
    vacant_lists: Vec<u32>,
    /// Lists of items that are dead, and how many references to chunks they have.
    dropped: Vec<Vec<Bytes>>,
    dropped_chunks: usize,
    /// References to chunks in `lists` and `dropped`.
    pub(super) chunks: usize,
    holes: Arc<Holes>,
    /// Bytes held: segments, and lists without their chunks.
    pub(super) held: usize,
}

impl Log {
    /// An empty log.
    pub(super) fn new(memory_bytes: usize, holes: Arc<Holes>) -> Log {
        let mut log = Log {
            segments: Vec::new(),
            vacant: Vec::new(),
            doomed: Vec::new(),
            queues: [NO_FIFO; 2],
            walk: NO_WALK,
            probe: 0,
            dead: 0,
            lists: Vec::new(),
            vacant_lists: Vec::new(),
            dropped: Vec::new(),
            dropped_chunks: 0,
            chunks: 0,
            holes,
            held: 0,
        };
        log.reserve(memory_bytes);
        log
    }

    /// Reserves the directories' address space for `memory_bytes`, so that they never move; a large block is remapped,
    /// not copied.
    pub(super) fn reserve(&mut self, memory_bytes: usize) {
        // Those that fill holes are smaller, and no more than as many again.
        let (segments, lists) = (memory_bytes / SEGMENT_BYTES * 2 + 16, memory_bytes / CHUNK_BYTES);
        self.segments.reserve(segments.saturating_sub(self.segments.len()));
        self.vacant.reserve(segments.saturating_sub(self.vacant.len()));
        self.lists.reserve(lists.saturating_sub(self.lists.len()));
        self.vacant_lists.reserve(lists.saturating_sub(self.vacant_lists.len()));
    }

    /// Bytes of live records and chunks in a queue.
    pub(super) fn live_bytes(&self, queue: Queue) -> usize {
        self.queues[queue as usize].live_bytes
    }

    /// The bytes that start at an item.
    #[inline]
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        &self.segments[handle.segment()].bytes[handle.offset()..]
    }

    /// The same, to write on.
    #[inline]
    pub(super) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        &mut self.segments[handle.segment()].bytes[handle.offset()..]
    }

    /// Loads two cache lines at a place that may be gone by now: a small item mostly lies in them.
    #[inline]
    pub(super) fn touch(&self, handle: Handle) -> u8 {
        let bytes = self.segments.get(handle.segment()).map_or(&[][..], |segment| &segment.bytes);
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        byte(handle.offset()) ^ byte(handle.offset() + TOUCH_BYTES)
    }

    /// The chunks of an item's value.
    pub(super) fn chunks_of(&self, record: &Record) -> &[Bytes] {
        record.list.map_or(&[], |list| &self.lists[list as usize])
    }

    /// The queue an item is in.
    pub(super) fn queue(&self, handle: Handle) -> Queue {
        self.segments[handle.segment()].queue
    }

    /// What an item weighs: its record and its chunks, in bytes.
    pub(super) fn weight(&self, record: &Record) -> usize {
        record.size() + self.chunks_of(record).len() * CHUNK_BYTES
    }

    /// Keeps a chunk list, if there are any chunks; its number goes into a record.
    pub(super) fn keep_list(&mut self, chunks: &[Bytes]) -> Option<u32> {
        if chunks.is_empty() {
            return None;
        }
        let list = chunks.to_vec();
        self.held += list_bytes(&list);
        self.chunks += list.len();
        let number = self.vacant_lists.pop().unwrap_or(self.lists.len() as u32);
        match self.lists.get_mut(number as usize) {
            Some(place) => *place = list,
            None => self.lists.push(list),
        }
        Some(number)
    }

    fn drop_list(&mut self, number: u32) {
        let list = mem::take(&mut self.lists[number as usize]);
        self.vacant_lists.push(number);
        self.dropped_chunks += list.len();
        self.dropped.push(list);
    }

    /// The segment that a queue appends to: its newest, but not while that is walked over.
    fn open_segment(&self, queue: Queue) -> Option<&Segment> {
        let newest = self.queues[queue as usize].newest;
        self.segments.get(newest as usize).filter(|_| newest != self.walk.segment)
    }

    /// Bytes of held memory that can take new records at once or after the walk under way: the rest of open segments, and
    /// what the walk has left behind.
    pub(super) fn slack_bytes(&self) -> usize {
        let rooms = [Queue::Small, Queue::Main].map(|queue| self.open_segment(queue).map_or(0, Segment::room_bytes));
        rooms.iter().sum::<usize>() + self.walk.offset
    }

    /// Whether a record of this size fits the queue's open segment.
    pub(super) fn fits(&self, queue: Queue, size: usize) -> bool {
        self.open_segment(queue).is_some_and(|segment| segment.room_bytes() >= size)
    }

    /// Opens a new segment of `bytes` bytes for the queue.
    pub(super) fn open(&mut self, queue: Queue, bytes: usize) {
        let newest = self.queues[queue as usize].newest;
        if self.open_segment(queue).is_some_and(|segment| segment.bytes.is_empty()) {
            self.release(newest);
        }
        self.holes.fill(bytes);
        self.held += bytes + MALLOC_BYTES;
        let fifo = &mut self.queues[queue as usize];
        let number = self.vacant.pop().unwrap_or(self.segments.len() as u32);
        let segment = Segment { bytes: Vec::with_capacity(bytes), dead: 0, queue, older: fifo.newest, newer: NONE };
        match self.segments.get_mut(number as usize) {
            Some(vacant) => *vacant = segment,
            None => self.segments.push(segment),
        }
        match self.segments.get_mut(fifo.newest as usize) {
            Some(newest) => newest.newer = number,
            None => fifo.oldest = number,
        }
        fifo.newest = number;
    }

    /// Appends a record that fits the queue's open segment.
    pub(super) fn append(&mut self, queue: Queue, record: &Record, key: &[u8], rest: &[u8]) -> Handle {
        let weight = self.weight(record);
        let fifo = &mut self.queues[queue as usize];
        fifo.live_bytes += weight;
        let segment = &mut self.segments[fifo.newest as usize];
        let handle = Handle::new(fifo.newest, segment.bytes.len());
        debug_assert!(segment.room_bytes() >= record.size() && self.walk.segment != fifo.newest);
        record.append(&mut segment.bytes, key, rest);
        handle
    }

    /// Moves an item of another segment to the queue's open segment, where it must fit.
    pub(super) fn relocate(&mut self, from: Handle, record: &Record, queue: Queue) -> Handle {
        let source = mem::take(&mut self.segments[from.segment()].bytes);
        let bytes = &source[from.offset()..];
        let handle = self.append(queue, record, &bytes[record.key()], &bytes[record.rest()]);
        self.segments[from.segment()].bytes = source;
        self.bury(from, record);
        handle
    }

    /// Puts a record that is no longer than the old one in its place.
    pub(super) fn overwrite(&mut self, at: Handle, old: &Record, new: &Record, key: &[u8], rest: &[u8]) {
        let (before, after) = (self.weight(old), self.weight(new));
        let segment = &mut self.segments[at.segment()];
        let live_bytes = &mut self.queues[segment.queue as usize].live_bytes;
        *live_bytes = *live_bytes + after - before;
        let bytes = &mut segment.bytes[at.offset()..];
        new.write(bytes, key, rest);
        let gap = old.size() - new.size();
        if gap > 0 {
            record::write_gap(&mut bytes[new.size()..], gap);
            segment.dead += gap;
            self.dead += gap;
        }
        if let Some(list) = old.list {
            self.drop_list(list);
        }
    }

    /// Declares an item dead. Its chunks are given back by [`settle`](Self::settle).
    #[inline]
    pub(super) fn kill(&mut self, handle: Handle, record: &Record) {
        self.bury(handle, record);
        if let Some(list) = record.list {
            self.drop_list(list);
        }
    }

    /// Makes a gap of a record, and gives its segment back if nothing in it is alive any more.
    #[inline]
    fn bury(&mut self, handle: Handle, record: &Record) {
        let (weight, number) = (self.weight(record), handle.segment() as u32);
        let segment = &mut self.segments[handle.segment()];
        record::write_gap(&mut segment.bytes[handle.offset()..], record.size());
        segment.dead += record.size();
        self.dead += record.size();
        let fifo = &mut self.queues[segment.queue as usize];
        fifo.live_bytes -= weight;
        if segment.dead < segment.bytes.len() {
            return;
        }
        if fifo.newest == number && self.walk.segment != number {
            // The open one is begun afresh.
            self.dead -= mem::take(&mut segment.dead);
            segment.bytes.clear();
        } else {
            self.release(number);
        }
    }

    fn release(&mut self, number: u32) {
        let segment = &mut self.segments[number as usize];
        let Segment { queue, older, newer, .. } = *segment;
        self.dead -= mem::take(&mut segment.dead);
        let bytes = mem::take(&mut segment.bytes);
        self.free(bytes);
        self.vacant.push(number);
        let fifo = &mut self.queues[queue as usize];
        *self.segments.get_mut(older as usize).map_or(&mut fifo.oldest, |older| &mut older.newer) = newer;
        *self.segments.get_mut(newer as usize).map_or(&mut fifo.newest, |newer| &mut newer.older) = older;
        if self.walk.segment == number {
            self.walk = NO_WALK;
        }
    }

    fn free(&mut self, bytes: Vec<u8>) {
        self.held -= bytes.capacity() + MALLOC_BYTES;
        self.holes.dig(bytes.capacity());
    }

    /// Declares everything dead, in one step; [`settle`](Self::settle) gives it back.
    pub(super) fn flush(&mut self, memory_bytes: usize) {
        // What is swapped is not moved.
        mem::swap(&mut self.segments, &mut self.doomed);
        self.doomed.append(&mut self.segments);
        mem::swap(&mut self.lists, &mut self.dropped);
        self.dropped.append(&mut self.lists);
        self.dropped_chunks = self.chunks;
        self.vacant.clear();
        self.vacant_lists.clear();
        (self.queues, self.walk, self.dead) = ([NO_FIFO; 2], NO_WALK, 0);
        self.reserve(memory_bytes);
    }

    /// Drops references to chunks, as those of an item that is dead.
    pub(super) fn discard(&mut self, list: Vec<Bytes>) {
        self.held += list_bytes(&list);
        self.chunks += list.len();
        self.dropped_chunks += list.len();
        self.dropped.push(list);
    }

    /// Whether a call of [`settle`](Self::settle) would give nothing back.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.dropped.is_empty() && self.doomed.is_empty()
    }

    /// Gives back up to `units` of 100 ns of what is dead, or a share of all chunks where these are so many that they
    /// would pile up: each APPEND to a large value drops all of its list. Returns how many units it took.
    pub(super) fn settle(&mut self, units: usize) -> usize {
        let units = units.max(self.dropped_chunks / 8);
        let mut done = 0;
        while done < units {
            if let Some(list) = self.dropped.last_mut() {
                let count = list.len().min(units - done);
                list.truncate(list.len() - count);
                self.chunks -= count;
                self.dropped_chunks -= count;
                done += count.max(1);
                if list.is_empty() {
                    self.held -= list_bytes(list);
                    self.dropped.pop();
                }
            } else if let Some(segment) = self.doomed.pop() {
                done += 1;
                if segment.bytes.capacity() > 0 {
                    self.free(segment.bytes);
                    done += DOOMED_SEGMENT_UNITS;
                }
            } else {
                break;
            }
        }
        done
    }

    /// Whether a walk is in the middle of a segment.
    pub(super) fn is_walking(&self) -> bool {
        self.walk.segment != NONE
    }

    /// Whether that walk is to save what is alive.
    pub(super) fn is_cleaning(&self) -> bool {
        self.walk.is_cleaning
    }

    /// Starts a walk over the oldest segment of a queue that has live items. Nothing more is appended to it.
    pub(super) fn walk_oldest(&mut self, queue: Queue) {
        self.walk = Walk { segment: self.queues[queue as usize].oldest, ..NO_WALK };
    }

    /// Starts a walk over the deadest of some segments, if at least `dead_share` / 256 of it is dead; whether it did.
    pub(super) fn walk_deadest(&mut self, dead_share: usize) -> bool {
        let mut best = (NONE, 0);
        for _ in 0..DEADEST_SAMPLE.min(self.segments.len()) {
            self.probe = (self.probe + 1) % self.segments.len();
            let (number, segment) = (self.probe as u32, &self.segments[self.probe]);
            if segment.dead > best.1 && self.queues[segment.queue as usize].newest != number {
                best = (number, segment.dead);
            }
        }
        let (segment, dead) = best;
        let is_worth_it = dead > 0 && dead * 256 >= self.segments[segment as usize].bytes.len() * dead_share;
        if is_worth_it {
            self.walk = Walk { segment, offset: 0, is_cleaning: true };
        }
        is_worth_it
    }

    /// The items among the next `count` places of the walk, and where these end in the segment.
    pub(super) fn ahead(&self, count: usize) -> (Vec<(Handle, Record)>, usize) {
        let Walk { segment: number, offset: mut end, .. } = self.walk;
        let bytes = self.segments.get(number as usize).map_or(&[][..], |segment| &segment.bytes);
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            let Some(rest) = bytes.get(end..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            let place = Place::read(rest);
            if let Place::Item(record) = place {
                items.push((Handle::new(number, end), record));
            }
            end += place.size();
        }
        (items, end)
    }

    /// Takes the walk past an item that is about to leave, and returns how many bytes that is with the gaps before it.
    pub(super) fn pass(&mut self, handle: Handle, record: &Record) -> usize {
        self.pass_to(handle.offset() + record.size())
    }

    /// Takes the walk, unless it is over, to where there is nothing alive behind it. Returns how many bytes that is.
    pub(super) fn pass_to(&mut self, end: usize) -> usize {
        if self.is_walking() { end - mem::replace(&mut self.walk.offset, end) } else { 0 }
    }

    /// All items. Panics unless what it counts is what it holds.
    pub(super) fn check(&self) -> Vec<(Handle, Record)> {
        let (mut items, mut linked) = (Vec::new(), 0);
        for fifo in &self.queues {
            let (mut number, mut older, mut live_bytes) = (fifo.oldest, NONE, 0);
            while let Some(segment) = self.segments.get(number as usize) {
                let (mut offset, mut dead) = (0, 0);
                while offset < segment.bytes.len() {
                    let place = Place::read(&segment.bytes[offset..]);
                    match place {
                        Place::Gap(size) => dead += size,
                        Place::Item(record) => {
                            live_bytes += self.weight(&record);
                            items.push((Handle::new(number, offset), record));
                        }
                    }
                    offset += place.size();
                }
                assert_eq!((segment.older, segment.dead), (older, dead));
                assert!(dead < segment.bytes.len() || segment.newer == NONE && dead == 0);
                (older, number, linked) = (number, segment.newer, linked + 1);
            }
            assert_eq!((fifo.newest, fifo.live_bytes), (older, live_bytes));
        }
        assert_eq!(linked + self.vacant.len(), self.segments.len(), "every segment is linked or vacant");
        assert_eq!(self.segments.iter().map(|segment| segment.dead).sum::<usize>(), self.dead);
        assert_eq!(self.dropped.iter().map(Vec::len).sum::<usize>(), self.dropped_chunks);
        let lists = || self.lists.iter().chain(&self.dropped);
        assert_eq!(lists().map(Vec::len).sum::<usize>(), self.chunks);
        let blocks = self.segments.iter().chain(&self.doomed).map(|segment| segment.bytes.capacity());
        let blocks = blocks.filter(|bytes| *bytes > 0).map(|bytes| bytes + MALLOC_BYTES);
        assert_eq!(blocks.sum::<usize>() + lists().map(list_bytes).sum::<usize>(), self.held);
        let listed = items.iter().filter(|(_, record)| record.list.is_some()).count();
        assert_eq!(listed + self.vacant_lists.len(), self.lists.len(), "every chunk list has its item");
        items
    }
}

/// How large a segment is for a record of `size` bytes: for one that is longer than a segment, as large as two next to
/// each other, so that either fits the hole that the other leaves.
pub(super) fn segment_bytes(size: usize) -> usize {
    if size <= SEGMENT_BYTES { SEGMENT_BYTES } else { 2 * SEGMENT_BYTES + MALLOC_BYTES }
}

/// What a chunk list takes, in bytes, with its place in the directory; a vacant place has no list.
fn list_bytes(list: &Vec<Bytes>) -> usize {
    match list.capacity() {
        0 => 0,
        chunks => chunks * size_of::<Bytes>() + MALLOC_BYTES + size_of::<Vec<Bytes>>(),
    }
}
