//! The log: where items lie. Segments of equal size are appended to and given back whole; each belongs to one of two
//! first-in-first-out queues, and its place in the queue is the age of all its items. So an item needs no links, and
//! making room is walking over the oldest segment.
//!
//! It counts every byte it holds. It does not know the index, nor why an item is moved or removed.

use std::mem;

use bytes::Bytes;
use slab::Slab;

use super::holes::Holes;
use super::record::{self, Place, Record};
use crate::limits::{CHUNK_BYTES, SEGMENT_BYTES};

/// What the C library adds to a block, in bytes.
pub(super) const MALLOC_BYTES: usize = 16;

/// Free segments kept for the next that is opened: giving pages back and faulting them in again costs more than
/// filling them.
const SPARES_MAX: usize = 4;

/// What releasing a flushed segment costs, in units of about 100 ns: some 600 headers are read, and pages given back.
const DOOMED_SEGMENT_UNITS: usize = 64;

/// How many segments one search for the deadest looks at: enough to find nearly the best, and a bound.
const DEADEST_SAMPLE: usize = 32;

/// How far behind an item's start its second cache line is touched.
const TOUCH_BYTES: usize = 48;

const NONE: u32 = u32::MAX;

/// Where an item lies: segment and offset, in 37 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Handle(pub(super) u64);

impl Handle {
    #[inline]
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

/// A walk over the places of a segment, to leave none of them alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Walk {
    /// Over the oldest segment of the small queue.
    Small = 0,
    /// Over the oldest segment of the main queue.
    Main = 1,
    /// Over the segment with most dead bytes, to save the rest.
    Clean = 2,
}

#[derive(Clone, Copy, Debug)]
struct Cursor {
    segment: u32,
    offset: usize,
}

impl Default for Cursor {
    fn default() -> Cursor {
        Cursor { segment: NONE, offset: 0 }
    }
}

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
    #[inline]
    fn room_bytes(&self) -> usize {
        if self.bytes.len() <= SEGMENT_BYTES { self.bytes.capacity() - self.bytes.len() } else { 0 }
    }
}

#[derive(Debug)]
struct Fifo {
    oldest: u32,
    newest: u32,
    /// The segment that is appended to, the newest if there is one.
    open: u32,
    live_bytes: usize,
}

impl Default for Fifo {
    fn default() -> Fifo {
        Fifo { oldest: NONE, newest: NONE, open: NONE, live_bytes: 0 }
    }
}

/// All segments, and the chunk lists of large values.
#[derive(Debug)]
pub(super) struct Log {
    segments: Vec<Segment>,
    vacant: Vec<u32>,
    spares: Vec<Vec<u8>>,
    /// Segments that are wholly dead.
    emptied: Vec<u32>,
    /// The oldest segments of queues that were flushed.
    doomed: Vec<u32>,
    queues: [Fifo; 2],
    cursors: [Cursor; 3],
    probe: usize,
    dead: usize,
    lists: Slab<Box<[Bytes]>>,
    /// Lists of items that are dead, and how many references they still have.
    dropped: Vec<Vec<Bytes>>,
    dropped_chunks: usize,
    /// References to chunks in `lists` and `dropped`.
    chunks: usize,
    holes: Holes,
    held: usize,
}

impl Log {
    /// An empty log. The directories' address space for `memory_bytes` is reserved now, so that they never move.
    pub(super) fn new(memory_bytes: usize, holes: Holes) -> Log {
        let mut log = Log {
            segments: Vec::new(),
            vacant: Vec::new(),
            spares: Vec::with_capacity(SPARES_MAX),
            emptied: Vec::new(),
            doomed: Vec::new(),
            queues: Default::default(),
            cursors: Default::default(),
            probe: 0,
            dead: 0,
            lists: Slab::new(),
            dropped: Vec::new(),
            dropped_chunks: 0,
            chunks: 0,
            holes,
            held: 0,
        };
        log.reserve(memory_bytes);
        log
    }

    /// Reserves the directories' address space for `memory_bytes`; a large block is remapped, not copied.
    pub(super) fn reserve(&mut self, memory_bytes: usize) {
        // Those that fill holes are smaller, and no more than as many again.
        let segments = memory_bytes / SEGMENT_BYTES * 2 + 16;
        self.segments.reserve(segments.saturating_sub(self.segments.len()));
        self.vacant.reserve(segments.saturating_sub(self.vacant.len()));
        let lists = memory_bytes / CHUNK_BYTES;
        self.lists.reserve(lists.saturating_sub(self.lists.len()));
    }

    /// Number of chunks that the log refers to.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Bytes held: segments, spares, lists and directories as far as they were used. Not the chunks themselves.
    #[inline]
    pub(super) fn held_bytes(&self) -> usize {
        self.held
    }

    /// Bytes of held memory that can take new records at once or after the walks under way: spares, the rest of
    /// open segments, and what the walks have left behind.
    #[inline]
    pub(super) fn slack_bytes(&self) -> usize {
        let open = |fifo: &Fifo| match self.segments.get(fifo.open as usize) {
            Some(segment) => segment.room_bytes(),
            None => 0,
        };
        self.spare_bytes()
            + self.queues.iter().map(open).sum::<usize>()
            + self.cursors.iter().map(|cursor| cursor.offset).sum::<usize>()
    }

    /// Bytes of spare segments.
    pub(super) fn spare_bytes(&self) -> usize {
        self.spares.len() * (SEGMENT_BYTES + MALLOC_BYTES)
    }

    /// Whether a queue has any segment.
    #[inline]
    pub(super) fn has_segments(&self, queue: Queue) -> bool {
        self.queues[queue as usize].oldest != NONE
    }

    /// Bytes of live records and chunks in a queue.
    #[inline]
    pub(super) fn live_bytes(&self, queue: Queue) -> usize {
        self.queues[queue as usize].live_bytes
    }

    /// The bytes that start at an item.
    #[inline]
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        &self.segments[handle.segment()].bytes[handle.offset()..]
    }

    /// Loads two cache lines at a place that may be gone by now: a small item mostly lies in them.
    #[inline]
    pub(super) fn touch(&self, handle: Handle) -> u8 {
        let Some(segment) = self.segments.get(handle.segment()) else {
            return 0;
        };
        let byte = |at: usize| segment.bytes.get(at).copied().unwrap_or(0);
        byte(handle.offset()) ^ byte(handle.offset() + TOUCH_BYTES)
    }

    /// A chunk list by its number.
    #[inline]
    pub(super) fn list(&self, number: u32) -> &[Bytes] {
        &self.lists[number as usize]
    }

    /// The queue an item is in.
    #[inline]
    pub(super) fn queue(&self, handle: Handle) -> Queue {
        self.segments[handle.segment()].queue
    }

    /// Bytes of dead records in segments that are still held.
    pub(super) fn dead_bytes(&self) -> usize {
        self.dead
    }

    /// What an item weighs: its record and its chunks, in bytes.
    #[inline]
    pub(super) fn weight(&self, record: &Record) -> usize {
        record.size() + record.list().map_or(0, |list| self.list(list).len() * CHUNK_BYTES)
    }

    /// Keeps a chunk list; its number goes into a record.
    pub(super) fn keep_list(&mut self, chunks: &[Bytes]) -> u32 {
        let list: Box<[Bytes]> = chunks.into();
        self.held += list_bytes(list.len());
        self.chunks += list.len();
        self.lists.insert(list) as u32
    }

    /// The chunk list that was dropped last and not given back yet.
    pub(super) fn last_dropped_list(&self) -> &[Bytes] {
        self.dropped.last().map_or(&[], Vec::as_slice)
    }

    fn drop_list(&mut self, number: u32) {
        let list = self.lists.remove(number as usize);
        self.dropped_chunks += list.len();
        self.dropped.push(list.into_vec());
    }

    /// Whether a record of this size fits the queue's open segment.
    #[inline]
    pub(super) fn fits(&self, queue: Queue, size: usize) -> bool {
        let open = self.segments.get(self.queues[queue as usize].open as usize);
        open.is_some_and(|segment| segment.room_bytes() >= size)
    }

    /// Bytes more that [`open`](Self::open) would hold.
    pub(super) fn open_bytes(&self, size: usize) -> usize {
        if self.holes.largest(size).is_some() || size <= SEGMENT_BYTES && !self.spares.is_empty() {
            return 0;
        }
        segment_bytes(size) + MALLOC_BYTES + size_of::<Segment>()
    }

    /// Opens a new segment for the queue, with room for a record of `size` bytes.
    pub(super) fn open(&mut self, queue: Queue, size: usize) {
        self.seal(queue);
        let bytes = self.block(size);
        let fifo = &mut self.queues[queue as usize];
        let segment = Segment { bytes, dead: 0, queue, older: fifo.newest, newer: NONE };
        let number = if let Some(number) = self.vacant.pop() {
            self.segments[number as usize] = segment;
            number
        } else {
            self.held += size_of::<Segment>();
            self.segments.push(segment);
            self.segments.len() as u32 - 1
        };
        if let Some(newest) = self.segments.get_mut(fifo.newest as usize) {
            newest.newer = number;
        } else {
            fifo.oldest = number;
        }
        fifo.newest = number;
        fifo.open = number;
    }

    /// Memory for a segment that takes a record of `size` bytes: a hole, or a spare segment, or a new one.
    fn block(&mut self, size: usize) -> Vec<u8> {
        let hole = self.holes.largest(size);
        if hole.is_none()
            && size <= SEGMENT_BYTES
            && let Some(spare) = self.spares.pop()
        {
            return spare;
        }
        let bytes = hole.unwrap_or(segment_bytes(size));
        self.holes.fill(bytes);
        self.held += bytes + MALLOC_BYTES;
        Vec::with_capacity(bytes)
    }

    fn seal(&mut self, queue: Queue) {
        let open = mem::replace(&mut self.queues[queue as usize].open, NONE);
        if self.segments.get(open as usize).is_some_and(|segment| segment.dead == segment.bytes.len()) {
            self.emptied.push(open);
        }
    }

    /// Appends a record that fits the queue's open segment.
    #[inline]
    pub(super) fn append(&mut self, queue: Queue, record: &Record, key: &[u8], rest: &[u8]) -> Handle {
        let weight = self.weight(record);
        let fifo = &mut self.queues[queue as usize];
        fifo.live_bytes += weight;
        let segment = &mut self.segments[fifo.open as usize];
        let handle = Handle::new(fifo.open, segment.bytes.len());
        debug_assert!(segment.bytes.capacity() - segment.bytes.len() >= record.size());
        record.append(&mut segment.bytes, key, rest);
        handle
    }

    /// Copies an item of another segment to the queue's open segment, where it must fit. The original stays.
    pub(super) fn copy(&mut self, from: Handle, record: &Record, queue: Queue) -> Handle {
        let source = mem::take(&mut self.segments[from.segment()].bytes);
        let bytes = &source[from.offset()..];
        let handle = self.append(queue, record, &bytes[record.key()], &bytes[record.rest()]);
        self.segments[from.segment()].bytes = source;
        handle
    }

    /// Puts another value's rest of the same length in the place of a record's.
    #[inline]
    pub(super) fn rewrite(&mut self, at: Handle, record: &Record, rest: &[u8]) {
        self.segments[at.segment()].bytes[at.offset()..][record.rest()].copy_from_slice(rest);
    }

    /// Puts a record that is no longer than the old one in its place.
    #[inline]
    pub(super) fn overwrite(&mut self, at: Handle, old: &Record, new: &Record, key: &[u8], rest: &[u8]) {
        let (before, after) = (self.weight(old), self.weight(new));
        let segment = &mut self.segments[at.segment()];
        let live_bytes = &mut self.queues[segment.queue as usize].live_bytes;
        *live_bytes = *live_bytes + after - before;
        let bytes = &mut segment.bytes[at.offset()..];
        new.overwrite(bytes, old, key, rest);
        let gap = old.size() - new.size();
        if gap > 0 {
            record::write_gap(&mut bytes[new.size()..], gap);
            segment.dead += gap;
            self.dead += gap;
        }
        if let Some(list) = old.list() {
            self.drop_list(list);
        }
    }

    /// Declares an item dead. Its bytes and chunks stay until the next [`settle`](Self::settle). A list that a copy
    /// of the record has taken over stays for good.
    #[inline]
    pub(super) fn kill(&mut self, handle: Handle, record: &Record, keeps_list: bool) {
        let weight = self.weight(record);
        let segment = &mut self.segments[handle.segment()];
        record::write_gap(&mut segment.bytes[handle.offset()..], record.size());
        segment.dead += record.size();
        self.dead += record.size();
        let fifo = &mut self.queues[segment.queue as usize];
        fifo.live_bytes -= weight;
        if segment.dead == segment.bytes.len() && fifo.open != handle.segment() as u32 {
            self.emptied.push(handle.segment() as u32);
        }
        if let (Some(list), false) = (record.list(), keeps_list) {
            self.drop_list(list);
        }
    }

    /// Declares everything dead, in one step; [`settle`](Self::settle) gives it back.
    pub(super) fn flush(&mut self) {
        self.settle(0);
        for fifo in &mut self.queues {
            if fifo.oldest != NONE {
                self.doomed.push(fifo.oldest);
            }
            *fifo = Fifo::default();
        }
        self.cursors = [Cursor::default(); 3];
    }

    /// References to chunks that [`settle`](Self::settle) is still to give back.
    pub(super) fn dropped_chunks(&self) -> usize {
        self.dropped_chunks
    }

    /// Whether a call of [`settle`](Self::settle) would give nothing back.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.emptied.is_empty() && self.dropped.is_empty() && self.doomed.is_empty()
    }

    /// Gives back segments that are wholly dead, and up to about `units` of 100 ns of what else is. Returns how many it
    /// took.
    pub(super) fn settle(&mut self, units: usize) -> usize {
        let mut done = 0;
        while let Some(number) = self.emptied.pop() {
            self.release(number);
            done += 1;
        }
        while done < units {
            if let Some(list) = self.dropped.last_mut() {
                let keep = list.len().saturating_sub(units - done);
                done += list.len() - keep;
                self.chunks -= list.len() - keep;
                self.dropped_chunks -= list.len() - keep;
                list.truncate(keep);
                if keep == 0 {
                    self.held -= list_bytes(list.capacity());
                    self.dropped.pop();
                }
            } else if let Some(oldest) = self.doomed.pop() {
                done += self.release_doomed(oldest);
            } else {
                break;
            }
        }
        done
    }

    fn release(&mut self, number: u32) {
        let segment = &self.segments[number as usize];
        let (older, newer) = (segment.older, segment.newer);
        let fifo = &mut self.queues[segment.queue as usize];
        match self.segments.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => fifo.oldest = newer,
        }
        match self.segments.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => fifo.newest = older,
        }
        for cursor in &mut self.cursors {
            if cursor.segment == number {
                *cursor = Cursor::default();
            }
        }
        self.vacate(number);
    }

    /// Releases the first of a chain of segments that were flushed with all that lay in them.
    fn release_doomed(&mut self, number: u32) -> usize {
        let segment = &mut self.segments[number as usize];
        if segment.newer != NONE {
            self.doomed.push(segment.newer);
        }
        let bytes = mem::take(&mut segment.bytes);
        let mut offset = 0;
        while offset < bytes.len() {
            offset += match record::place(&bytes[offset..]) {
                Place::Gap(size) => size,
                Place::Item(record) => {
                    if let Some(list) = record.list() {
                        self.drop_list(list);
                    }
                    record.size()
                }
            };
        }
        self.segments[number as usize].bytes = bytes;
        self.vacate(number);
        DOOMED_SEGMENT_UNITS
    }

    fn vacate(&mut self, number: u32) {
        let segment = &mut self.segments[number as usize];
        self.dead -= mem::take(&mut segment.dead);
        let mut bytes = mem::take(&mut segment.bytes);
        self.vacant.push(number);
        if bytes.capacity() == SEGMENT_BYTES && self.spares.len() < SPARES_MAX {
            bytes.clear();
            self.spares.push(bytes);
        } else {
            self.held -= bytes.capacity() + MALLOC_BYTES;
            self.holes.dig(bytes.capacity());
        }
    }

    /// Gives one spare segment back to the system, if there is one.
    pub(super) fn drop_spare(&mut self) -> bool {
        let Some(spare) = self.spares.pop() else {
            return false;
        };
        self.held -= spare.capacity() + MALLOC_BYTES;
        true
    }

    /// Whether a walk is in the middle of a segment.
    #[inline]
    pub(super) fn is_walking(&self, walk: Walk) -> bool {
        self.cursors[walk as usize].segment != NONE
    }

    /// Starts a walk over the oldest segment of the queue, closing it if it is the open one. False if there is none.
    pub(super) fn walk_oldest(&mut self, queue: Queue) -> bool {
        let oldest = self.queues[queue as usize].oldest;
        if oldest == NONE || self.cursors[Walk::Clean as usize].segment == oldest {
            return false;
        }
        if self.queues[queue as usize].open == oldest {
            self.seal(queue);
        }
        self.cursors[queue as usize] = Cursor { segment: oldest, offset: 0 };
        true
    }

    /// Starts the cleaning walk over the deadest of some segments, if at least `dead_share` / 256 of it is dead.
    pub(super) fn walk_deadest(&mut self, dead_share: usize) -> bool {
        let mut best = (NONE, 0);
        for _ in 0..DEADEST_SAMPLE.min(self.segments.len()) {
            self.probe = (self.probe + 1) % self.segments.len();
            let (number, segment) = (self.probe as u32, &self.segments[self.probe]);
            let is_open = self.queues[segment.queue as usize].open == number;
            let is_walked = self.cursors.iter().any(|cursor| cursor.segment == number);
            if segment.dead > best.1 && !is_open && !is_walked {
                best = (number, segment.dead);
            }
        }
        let (number, dead) = best;
        if number == NONE || dead * 256 < self.segments[number as usize].bytes.len() * dead_share {
            return false;
        }
        self.cursors[Walk::Clean as usize] = Cursor { segment: number, offset: 0 };
        true
    }

    /// The place a walk has come to, or nothing when it is over.
    #[inline]
    pub(super) fn walked(&self, walk: Walk) -> Option<(Handle, Place)> {
        let cursor = self.cursors[walk as usize];
        let segment = self.segments.get(cursor.segment as usize)?;
        let bytes = segment.bytes.get(cursor.offset..).filter(|bytes| !bytes.is_empty())?;
        Some((Handle::new(cursor.segment, cursor.offset), record::place(bytes)))
    }

    /// The items among the next `count` places of a walk.
    pub(super) fn ahead(&self, walk: Walk, count: usize) -> impl Iterator<Item = (&[u8], Record)> {
        let Cursor { segment, mut offset } = self.cursors[walk as usize];
        let bytes = self.segments.get(segment as usize).map_or(&[][..], |segment| &segment.bytes);
        let places = (0..count).map_while(move |_| {
            let bytes = bytes.get(offset..).filter(|bytes| !bytes.is_empty())?;
            let place = record::place(bytes);
            offset += match place {
                Place::Gap(size) => size,
                Place::Item(record) => record.size(),
            };
            Some((bytes, place))
        });
        places.filter_map(|(bytes, place)| match place {
            Place::Gap(_) => None,
            Place::Item(record) => Some((bytes, record)),
        })
    }

    /// Takes a walk past a place that is dead by now, and gives the segment back behind the last.
    #[inline]
    pub(super) fn pass(&mut self, walk: Walk, size: usize) {
        let cursor = &mut self.cursors[walk as usize];
        cursor.offset += size;
        let segment = &self.segments[cursor.segment as usize];
        if cursor.offset >= segment.bytes.len() {
            debug_assert_eq!(segment.dead, segment.bytes.len(), "a walk leaves nothing alive");
            self.settle(0);
        }
    }
}

/// How large a segment is for a record of `size` bytes: for one that is longer than a segment, as large as two next to
/// each other, so that either fits the hole that the other leaves.
fn segment_bytes(size: usize) -> usize {
    if size <= SEGMENT_BYTES { SEGMENT_BYTES } else { 2 * SEGMENT_BYTES + MALLOC_BYTES }
}

fn list_bytes(chunks: usize) -> usize {
    chunks * size_of::<Bytes>() + MALLOC_BYTES + size_of::<(usize, Box<[Bytes]>)>()
}

#[cfg(test)]
impl Log {
    /// All items, every count in the log checked against what lies there.
    pub(super) fn check(&self) -> Vec<(Handle, Record)> {
        let mut items = Vec::new();
        let mut held = self.segments.len() * size_of::<Segment>();
        let mut linked = 0;
        for (queue, fifo) in self.queues.iter().enumerate() {
            let (mut number, mut older, mut live) = (fifo.oldest, NONE, 0);
            while let Some(segment) = self.segments.get(number as usize) {
                assert_eq!((segment.queue as usize, segment.older), (queue, older));
                let (mut offset, mut dead) = (0, 0);
                while offset < segment.bytes.len() {
                    offset += match record::place(&segment.bytes[offset..]) {
                        Place::Gap(size) => {
                            dead += size;
                            size
                        }
                        Place::Item(record) => {
                            live += self.weight(&record);
                            items.push((Handle::new(number, offset), record));
                            record.size()
                        }
                    };
                }
                assert_eq!(dead, segment.dead);
                for cursor in self.cursors.iter().filter(|cursor| cursor.segment == number) {
                    assert!(items.iter().all(|(handle, _)| {
                        handle.segment() != number as usize || handle.offset() >= cursor.offset
                    }));
                }
                held += segment.bytes.capacity() + MALLOC_BYTES;
                linked += 1;
                (older, number) = (number, segment.newer);
            }
            assert_eq!((fifo.newest, fifo.live_bytes), (older, live));
            assert!(fifo.open == NONE || fifo.open == fifo.newest);
        }
        let listed = items.iter().filter(|(_, record)| record.list().is_some()).count();
        for &oldest in &self.doomed {
            let mut number = oldest;
            while let Some(segment) = self.segments.get(number as usize) {
                held += segment.bytes.capacity() + MALLOC_BYTES;
                linked += 1;
                number = segment.newer;
            }
        }
        let dead: usize = self.segments.iter().map(|segment| segment.dead).sum();
        assert_eq!(dead, self.dead);
        let known = linked + self.vacant.len();
        assert_eq!(known, self.segments.len(), "every segment is linked, doomed or vacant");
        held += self.spares.iter().map(|spare| spare.capacity() + MALLOC_BYTES).sum::<usize>();
        held += self.lists.iter().map(|(_, list)| list_bytes(list.len())).sum::<usize>();
        held += self.dropped.iter().map(|list| list_bytes(list.capacity())).sum::<usize>();
        assert_eq!(self.dropped.iter().map(Vec::len).sum::<usize>(), self.dropped_chunks);
        assert_eq!(held, self.held);
        assert!(listed == self.lists.len() || !self.doomed.is_empty(), "every chunk list has its item");
        items
    }
}
