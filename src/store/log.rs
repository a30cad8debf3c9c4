//! The log: the memory where items lie. It consists of segments, which are appended to and given back whole. Each
//! belongs to one of two first-in-first-out queues, and its position in the queue is the age of all its items. So an
//! item needs no list links, and making room means walking over the oldest segment.
//!
//! It counts all that it holds but a table, a thousandth. It knows neither the index nor why items move or leave.

use std::{iter, mem};

use bytes::Bytes;
use memmap2::MmapMut;
use slab::Slab;

use super::record::Record;
use crate::command::{NEVER, Value};
use crate::limits::{CHUNK_BYTES, MALLOC_BYTES, SEGMENT_BYTES};
use crate::memory::{self, prefetch};

/// How many neighbours a search for the emptiest segment looks at in half a microsecond: fewer may all be new.
const SEARCHED_AT_ONCE: usize = 256;
/// Unused segments that keep their memory, at most: getting one anew takes 24 us, and a full store soon needs one.
const SPARE_SEGMENTS: usize = 4;
const SECOND_BYTES: usize = 48; // from an item's start to a second prefetch: a small item mostly lies in two cache lines

/// What a reference to a chunk takes, in bytes, including the memory of the list that it is in.
const REFERENCE_BYTES: usize = size_of::<Bytes>() + MALLOC_BYTES + size_of::<Vec<Bytes>>();

/// Where an item lies, in 38 bits: a segment's number (22 bits) and half the offset in it (16 bits).
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
    /// The small queue: new items, on probation.
    #[default]
    Small,
    /// The main queue: items that were used again.
    Main,
}

/// The counters of a segment. A segment in a queue has at least one live item, unless it is the queue's newest.
#[derive(Debug, Default)]
struct Segment {
    held: usize, // bytes of memory: those of its block, or of its records' pages once it gets no more
    len: usize,  // bytes appended so far
    dead: usize, // how many of these are dead
    due: u64,    // none of its items expires before the end of this millisecond
    older: usize,
    newer: usize,
    queue: Queue,
}

/// A walk over one segment, record by record, which moves or removes each live item. Then the segment is given back.
#[derive(Debug, Default)]
pub(super) struct Walk {
    segment: usize, // its number; 0 while there is no walk
    /// Where the walk has come to. Nothing before this is alive.
    pub(super) offset: usize,
    /// Whether it cleans: keeps live items where they belong, and only gets rid of the dead bytes between them.
    pub(super) is_cleaning: bool,
}

/// All segments, and the chunk lists of large values.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// The first two have no bytes: each is the head that closes a queue's list into a ring. `newer` than the head is
    /// the oldest segment of its queue, and `older` than the head is the newest.
    segments: Vec<Segment>,
    blocks: Vec<MmapMut>, // the bytes of each segment, in a table of their own, since a look-up needs nothing else
    vacant: Vec<usize>,   // numbers of unused segments whose memory has been given back
    spare: Vec<usize>,    // numbers of unused segments that have kept their memory
    pub(super) walk: Walk,
    probe: usize,                      // where the last search for the emptiest segment ended
    pub(super) live_bytes: [usize; 2], // bytes of live records and their chunks, in each queue
    pub(super) dead: usize,            // bytes of dead records in segments in use
    pub(super) expiring: usize,        // items that carry an expiry
    lists: Slab<Vec<Bytes>>,
    pub(super) dropped: Vec<Bytes>, // references to chunks of dead values, which are still to be given back
    pub(super) chunk_refs: usize,   // references to chunks, of live and dead values
    held: usize,                    // bytes of the segments in use and of the spare ones
    /// How many segments were searched since the last was given back, or since more has died, and what was dead then.
    searched: (usize, usize),
}

impl Log {
    pub(super) fn new() -> Log {
        let rings = [0, 1].map(|ring| Segment { older: ring, newer: ring, ..Segment::default() });
        Log { segments: rings.into(), blocks: vec![memory::block(0), memory::block(0)], ..Log::default() }
    }

    /// Bytes held: segments, and references to chunks, but not the chunks themselves.
    pub(super) fn held(&self) -> usize {
        self.held + self.chunk_refs * REFERENCE_BYTES
    }

    /// Bytes of its segments that no living record takes.
    pub(super) fn unused_bytes(&self) -> usize {
        self.held + (self.chunk_refs - self.dropped.len()) * CHUNK_BYTES - self.live_bytes.iter().sum::<usize>()
    }

    /// The bytes from an item's start to its segment's end. Empty for a handle that leads to no item.
    pub(super) fn bytes(&self, handle: Handle) -> &[u8] {
        self.blocks[handle.segment()].get(handle.offset()..).unwrap_or_default()
    }

    pub(super) fn bytes_mut(&mut self, handle: Handle) -> &mut [u8] {
        self.blocks[handle.segment()].get_mut(handle.offset()..).unwrap_or_default()
    }

    /// Prefetches two cache lines at a place that may no longer be there.
    #[inline(always)]
    pub(super) fn prefetch(&self, handle: Handle) {
        let bytes: &[u8] = self.blocks.get(handle.segment()).map_or(&[], |block| block);
        prefetch(bytes.get(handle.offset()));
        prefetch(bytes.get(handle.offset() + SECOND_BYTES));
    }

    /// The records of a segment from an offset on, gaps included.
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

    /// The weight of an item: the bytes of its record and its chunks.
    pub(super) fn weight(&self, record: &Record) -> usize {
        record.size() + self.chunks_of(record).len() * CHUNK_BYTES
    }

    /// Stores a list of chunks, and returns its number for the record.
    pub(super) fn keep_list(&mut self, chunks: &[Bytes]) -> u32 {
        self.chunk_refs += chunks.len();
        self.lists.insert(chunks.to_vec()) as u32
    }

    /// Leaves an item's chunks to be given back, but drops those at once that its new value begins with: they count there.
    #[inline(always)]
    fn drop_list(&mut self, record: &Record, new: &[Bytes]) {
        if let Some(number) = record.list {
            let mut list = self.lists.remove(number as usize);
            let kept = list.iter().zip(new).take_while(|(old, new)| old.as_ptr() == new.as_ptr()).count();
            self.chunk_refs -= kept;
            self.dropped.extend(list.drain(kept..));
        }
    }

    /// Gives back `count` dropped references to chunks, or a 32nd of all, so that they never pile up. Returns how many.
    pub(super) fn give_back_dropped(&mut self, count: usize) -> usize {
        let left = self.dropped.len();
        let count = count.max(left / 32).min(left);
        self.dropped.truncate(left - count);
        self.chunk_refs -= count;
        self.dropped.shrink_to(8 * (left - count));
        count
    }

    /// Gives back a piece of a flushed log: a list of chunks, or a segment whose lists are gone. False at the end.
    pub(super) fn give_back(&mut self) -> bool {
        let last = self.segments.len() - 1;
        let large = self.records(last, 0).find(|(_, record)| record.list.is_some());
        if let Some((handle, record)) = large {
            self.write_gap(last, handle.offset(), record.size());
            self.drop_list(&record, &[]);
        } else if last > 1 {
            self.held -= self.segments.pop().map_or(0, |segment| segment.held);
            self.blocks.pop();
        }
        last > 1
    }

    fn newest(&self, queue: Queue) -> usize {
        self.segments[queue as usize].older
    }

    /// How many bytes still fit into a queue's newest segment: 0 while a walk is over it.
    pub(super) fn tail_room_bytes(&self, queue: Queue) -> usize {
        let newest = self.newest(queue);
        if newest == self.walk.segment { 0 } else { self.blocks[newest].len() - self.segments[newest].len }
    }

    /// Bytes that new records find in segments in use: what is left of the newest, and what the walk has passed.
    pub(super) fn reusable_bytes(&self) -> usize {
        self.tail_room_bytes(Queue::Small) + self.tail_room_bytes(Queue::Main) + self.walk.offset
    }

    /// Bytes of the spare segments.
    pub(super) fn spare_bytes(&self) -> usize {
        self.spare.iter().map(|number| self.segments[*number].held).sum()
    }

    /// Gives back the memory of a spare segment. False if there is none.
    pub(super) fn give_back_spare(&mut self) -> bool {
        let Some(number) = self.spare.pop() else { return false };
        self.held -= mem::take(&mut self.segments[number].held);
        memory::give_back(&mut self.blocks[number], 0);
        self.vacant.push(number);
        true
    }

    /// Opens a segment of `bytes` bytes as the queue's newest.
    pub(super) fn open(&mut self, queue: Queue, bytes: usize) {
        let newest = self.newest(queue);
        let Segment { held, len, dead, .. } = self.segments[newest];
        let kept = len.next_multiple_of(rustix::param::page_size());
        if newest != queue as usize && dead == len {
            self.give_back_segment(newest);
        } else if kept < held {
            // It gets no more, and so need not hold the pages behind its last record: a third behind two of 22 KB.
            memory::give_back(&mut self.blocks[newest], kept);
            self.segments[newest].held = kept;
            self.held -= held - kept;
        }
        let spare = self.spare.pop_if(|_| bytes == SEGMENT_BYTES);
        let number = spare.or_else(|| self.vacant.pop()).unwrap_or(self.segments.len());
        self.segments.resize_with(self.segments.len().max(number + 1), Segment::default);
        self.blocks.resize_with(self.segments.len(), || memory::block(bytes));
        if self.blocks[number].len() != bytes {
            self.blocks[number] = memory::block(bytes);
        }
        self.held += bytes - self.segments[number].held;
        let (older, newer) = (self.newest(queue), queue as usize);
        self.segments[number] = Segment { held: bytes, queue, older, newer, due: NEVER, ..Segment::default() };
        (self.segments[older].newer, self.segments[newer].older) = (number, number);
    }

    fn give_back_segment(&mut self, number: usize) {
        let Segment { held, dead, older, newer, .. } = mem::take(&mut self.segments[number]);
        self.segments[older].newer = newer;
        self.segments[newer].older = older;
        self.dead -= dead;
        self.searched = (0, self.dead);
        self.segments[number].held = held;
        self.spare.push(number);
        if self.spare.len() > SPARE_SEGMENTS || self.blocks[number].len() > SEGMENT_BYTES {
            self.give_back_spare();
        }
        if self.walk.segment == number {
            self.walk = Walk::default();
        }
    }

    /// Appends a record to the queue's newest segment, where it must fit.
    pub(super) fn append(&mut self, queue: Queue, record: &Record, key: &[u8], rest: &[u8]) -> Handle {
        debug_assert!(self.tail_room_bytes(queue) >= record.size());
        let handle = self.claim(queue, record);
        record.write(self.bytes_mut(handle), key, rest);
        handle
    }

    /// Reserves and counts the place for a record at the end of a queue's newest segment.
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

    /// Writes a record over one at least as large. A gap behind it grows: a segment of tiny ones is slow to search.
    pub(super) fn overwrite(&mut self, at: Handle, old: &Record, new: &Record, key: &[u8], value: Value<'_>) {
        self.count_in(at.segment(), new);
        self.count_out(at.segment(), old);
        new.write(self.bytes_mut(at), key, value.rest);
        let (start, end) = (new.size(), old.size());
        if start < end {
            self.write_gap(at.segment(), at.offset() + start, end - start);
            let next = self.records(at.segment(), at.offset() + end).next().filter(|(_, next)| next.is_gap());
            Record::write_gap(&mut self.bytes_mut(at)[start..], next.map_or(end, |(_, gap)| end + gap.size()) - start);
        }
        self.drop_list(old, value.chunks);
    }

    /// Writes a record's header anew, which differs from the old one by the deadline alone.
    pub(super) fn set_deadline(&mut self, at: Handle, old: &Record, new: &Record) {
        self.count_in(at.segment(), new);
        self.count_out(at.segment(), old);
        new.write_header(self.bytes_mut(at));
    }

    #[inline(always)]
    pub(super) fn remove(&mut self, handle: Handle, record: &Record, new: &[Bytes]) {
        self.bury(handle, record);
        self.drop_list(record, new);
    }

    /// Turns a record into a gap, and gives back a segment in which nothing is alive, unless it still gets new records.
    #[inline(always)]
    fn bury(&mut self, handle: Handle, record: &Record) {
        let number = handle.segment();
        self.count_out(number, record);
        self.write_gap(number, handle.offset(), record.size());
        let segment = &self.segments[number];
        if segment.dead == segment.len && (self.walk.segment == number || self.newest(segment.queue) != number) {
            self.give_back_segment(number);
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

    /// Starts a walk over the oldest segment of a queue, which must have live items.
    pub(super) fn walk_oldest(&mut self, queue: Queue) {
        self.walk = Walk { segment: self.segments[queue as usize].newer, ..Walk::default() };
    }

    /// Starts a cleaning walk over the emptiest of some segments, if over `dead_share` / 256 of it is dead, or if over half
    /// is free: what lives in two of those fits into one. Returns whether there are others to search. Once all were,
    /// that waits until 16 bytes more of each are dead.
    pub(super) fn walk_emptiest(&mut self, dead_share: usize) -> bool {
        // A full store asks all the time, and a search of a large one takes longer than what left a few bytes dead.
        if self.dead > self.searched.1 + 16 * self.segments.len() {
            self.searched = (0, self.dead);
        }
        let (total, left) = (self.segments.len(), self.segments.len().saturating_sub(self.searched.0));
        let places = (self.probe..total).chain(0..self.probe).take(left.min(SEARCHED_AT_ONCE));
        let found = places.filter_map(|at| {
            let Segment { held, len, dead, newer, .. } = self.segments[at];
            let free_bytes = held - len + dead;
            let is_emptier = dead * 256 > len * dead_share || 2 * free_bytes > held;
            (is_emptier && newer > 1).then_some((free_bytes, at)) // not the newest, behind which is the head
        });
        self.walk = found.max().map_or(Walk::default(), |(_, segment)| Walk { segment, offset: 0, is_cleaning: true });
        (self.probe, self.searched.0) = ((self.probe + SEARCHED_AT_ONCE) % total, self.searched.0 + SEARCHED_AT_ONCE);
        left > SEARCHED_AT_ONCE
    }

    pub(super) fn is_walking(&self) -> bool {
        self.walk.segment > 0
    }

    /// The records that the walk comes to next, gaps included.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (Handle, Record)> {
        self.records(self.walk.segment, self.walk.offset)
    }

    /// Up to `count` expired items of a segment, and how many records were searched. `None` behind the last segment.
    pub(super) fn expired(&mut self, number: usize, now: u64, count: usize) -> Option<(Vec<(Handle, Record)>, u64)> {
        let (mut expired, mut due, mut searched) = (Vec::new(), NEVER, 0);
        if self.segments.get(number)?.due < now {
            for (handle, record) in self.records(number, 0) {
                if expired.len() == count {
                    return Some((expired, searched)); // it stays due
                }
                searched += 1;
                if record.deadline < now {
                    expired.push((handle, record));
                } else {
                    due = due.min(record.deadline);
                }
            }
            self.segments[number].due = due;
        }
        Some((expired, searched))
    }

    /// All items. Panics unless its counters match what it holds.
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
                held += segment.held;
                (number, linked, dead_bytes) = (segment.newer, linked + 1, dead_bytes + dead);
            }
        }
        assert_eq!(live_bytes, self.live_bytes);
        assert_eq!((linked + self.vacant.len() + self.spare.len(), dead_bytes), (self.segments.len(), self.dead));
        assert_eq!(self.lists.iter().map(|(_, list)| list.len()).sum::<usize>() + self.dropped.len(), self.chunk_refs);
        assert_eq!(held + self.spare_bytes(), self.held);
        let count = |is_it: fn(&Record) -> bool| items.iter().filter(|(_, record)| is_it(record)).count();
        assert_eq!(count(|record| record.list.is_some()), self.lists.len(), "every chunk list has its item");
        assert_eq!(count(|record| record.deadline != NEVER), self.expiring);
        items
    }
}
