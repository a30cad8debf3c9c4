//! The store: owned bytes under keys, in the memory it was given, for as long as they are worth it.
//!
//! An index of eight bytes an item leads to records in a log of segments; the log's order is the order in
//! which items leave (`eviction`); what expired is swept up in between (`expiry`). No step of any of them takes
//! longer than about 100 us: what is large is done in pieces, some with each command, the rest by
//! [`Store::housekeep`].
//!
//! It knows no wire, socket or client, and no clock: time is handed in.

mod eviction;
mod expiry;
mod ghost;
mod hash;
mod holes;
mod index;
mod log;
mod record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;

pub use self::eviction::Eviction;
pub use self::hash::Secret;
pub use self::index::KeyHash;

use self::expiry::Sweep;
use self::holes::Holes;
use self::index::{Entry, Index, TAGS};
use self::log::{Handle, Log, Queue};
use self::record::{NEVER, Record};
use crate::chunk::ChunkMeter;
use crate::command::{Condition, Expiry, Refusal, Value};
use crate::limits::{RECLAIM_UNITS_PER_COMMAND, STORE_BYTES_MAX, STORE_BYTES_MIN};
use crate::number;

/// How many empty shards one step of a scan passes.
const SCAN_SHARDS_MAX: usize = 1024;

/// What a store is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory for all that the store holds, the chunks it shares, and what [`Store::begin_turn`] is told of, in bytes.
    pub memory_bytes: usize,
    /// What to do when that is full.
    pub eviction: Eviction,
    /// Time to live of a write that brings none, in milliseconds; 0 for ever.
    pub default_ttl_millis: u64,
    /// The count of live chunks.
    pub chunks: ChunkMeter,
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Items removed to make room.
    pub evictions: u64,
    /// Items removed because their time was over.
    pub expired: u64,
    /// Bytes of items copied within the log.
    pub copied_bytes: u64,
    /// Index entries moved by growing, shrinking and renewing tables.
    pub entries_moved: u64,
}

/// What there is under a key.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The value.
    pub value: Value<'a>,
    /// When it expires, in milliseconds of the store's clock; nothing if it never does.
    pub deadline: Option<u64>,
    /// What it takes, in bytes: record, chunks, and its share of the index.
    pub bytes: usize,
}

/// What a look ahead found; good for another look and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched(Option<Handle>);

/// The store. See the module.
#[derive(Debug)]
pub struct Store {
    secret: Secret,
    index: Index,
    log: Log,
    holes: Arc<Holes>,
    settings: Settings,
    /// The limit in force, which follows a lowered `settings.memory_bytes` in steps.
    limit: usize,
    outside_bytes: usize,
    /// Bytes that can be written before room has to be looked for, however much there may be.
    ample: usize,
    now: u64,
    work: u64,
    stats: Stats,
    /// Bytes that the policy may still copy before it has to drop what it would rather keep.
    copy_credit: isize,
    sweep: Sweep,
}

impl Store {
    /// An empty store. Memory beyond the least and the most it can work with is clamped.
    pub fn new(settings: Settings) -> Store {
        Store::with_secret(settings, Secret::random())
    }

    /// An empty store that hashes keys as this one does, so that one look decides between stores.
    pub fn sibling(&self, settings: Settings) -> Store {
        Store::with_secret(settings, self.secret.clone())
    }

    fn with_secret(mut settings: Settings, secret: Secret) -> Store {
        settings.memory_bytes = settings.memory_bytes.clamp(STORE_BYTES_MIN, STORE_BYTES_MAX);
        let limit = settings.memory_bytes;
        let holes = Arc::new(Holes::default());
        Store {
            secret,
            index: Index::new(limit, Arc::clone(&holes)),
            log: Log::new(limit, Arc::clone(&holes)),
            holes,
            settings,
            limit,
            outside_bytes: 0,
            ample: 0,
            now: 0,
            work: 0,
            stats: Stats::default(),
            copy_credit: 0,
            sweep: Sweep::default(),
        }
    }

    /// The hash of a key, for all calls about it.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.index.place(self.secret.hash(key))
    }

    /// Looks where a key may lie, to have it in the processor's cache when it is asked for, and keeps in `hash` what it
    /// saw, so that the next call need not search. Counts for nothing.
    #[inline]
    pub fn touch_index(&mut self, hash: &mut KeyHash) -> Touched {
        Touched(self.index.touch(hash).map(Entry::handle))
    }

    /// Loads the start of what [`touch_index`](Self::touch_index) found; the caller must make use of it lest
    /// the load be optimised away.
    #[inline]
    pub fn touch_item(&self, touched: Touched) -> u8 {
        touched.0.map_or(0, |handle| self.log.touch(handle))
    }

    /// Tells the time, in milliseconds of a clock that never runs backwards, and how many bytes the process holds
    /// for its connections outside of the store and of chunks.
    pub fn begin_turn(&mut self, now_millis: u64, outside_bytes: usize) {
        self.now = self.now.max(now_millis);
        self.outside_bytes = outside_bytes;
        self.ample = 0;
    }

    /// The value of a key; a use of it.
    #[inline]
    pub fn get(&mut self, mut hash: KeyHash, key: &[u8]) -> Option<Value<'_>> {
        let entry = self.find(&mut hash, key, true)?;
        // Most records are plain, and this is the path that all is built for.
        if let Some(rest) = Record::plain_rest(self.log.bytes(entry.handle())) {
            return Some(Value::small(&self.log.bytes(entry.handle())[rest]));
        }
        let record = self.live(hash, entry)?;
        Some(self.value(entry, &record))
    }

    /// What there is under a key, without counting as a use.
    pub fn peek(&mut self, mut hash: KeyHash, key: &[u8]) -> Option<Item<'_>> {
        let entry = self.find(&mut hash, key, false)?;
        let record = self.live(hash, entry)?;
        let deadline = (record.deadline != NEVER).then_some(record.deadline);
        let bytes = self.log.weight(&record) + self.index.held / self.index.len;
        Some(Item { value: self.value(entry, &record), deadline, bytes })
    }

    /// Stores a value, whatever was there. An expiry it had is gone; the default time to live applies.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room, and the policy may not make any or could not within one command's bounds.
    #[inline]
    pub fn set(&mut self, mut hash: KeyHash, key: &[u8], value: Value<'_>) -> Result<(), Refusal> {
        let entry = self.find(&mut hash, key, true);
        if let Some(entry) = entry
            && value.chunks.is_empty()
            && self.settings.default_ttl_millis == 0
            && self.rewrite(entry, value.rest)
        {
            return Ok(());
        }
        let found = entry.and_then(|entry| Some((entry, self.live(hash, entry)?)));
        self.put(hash, key, value, found, Expiry::Default)
    }

    /// Stores a value if the condition holds; whether it did.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn write(
        &mut self,
        mut hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        condition: Condition,
        expiry: Expiry,
    ) -> Result<bool, Refusal> {
        let found = self.find_live(&mut hash, key);
        let is_met = condition.allows(found.is_some());
        if is_met {
            self.put(hash, key, value, found, expiry)?;
        }
        Ok(is_met)
    }

    /// Adds to the number stored under a key, a missing key counting as 0, and returns the sum. It keeps its expiry.
    /// A value that has chunks is no number, not even one of 32,000 zeros: reading it could take milliseconds.
    ///
    /// # Errors
    /// `NotANumber` if the value is none, `Overflow` if the sum is none, `OutOfMemory` as [`set`](Self::set).
    #[inline]
    pub fn add(&mut self, mut hash: KeyHash, key: &[u8], delta: i64) -> Result<i64, Refusal> {
        let found = self.find_live(&mut hash, key);
        let number = match found {
            None => 0,
            Some((_, record)) if record.list.is_some() => return Err(Refusal::NotANumber),
            Some((entry, record)) => {
                number::parse(&self.log.bytes(entry.handle())[record.rest()]).ok_or(Refusal::NotANumber)?
            }
        };
        let sum = number.checked_add(delta).ok_or(Refusal::Overflow)?;
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(sum).as_bytes();
        if !found.is_some_and(|(entry, _)| self.rewrite(entry, digits)) {
            self.put(hash, key, Value::small(digits), found, Expiry::Keep)?;
        }
        Ok(sum)
    }

    /// Removes a key; whether it was there.
    #[inline]
    pub fn delete(&mut self, mut hash: KeyHash, key: &[u8]) -> bool {
        let found = self.find_live(&mut hash, key);
        if let Some((entry, record)) = found {
            self.remove(hash, entry, &record);
        }
        found.is_some()
    }

    /// Drops references to chunks in bounded steps, as those of a value that was removed.
    pub fn discard(&mut self, chunks: Vec<Bytes>) {
        self.log.discard(chunks);
    }

    /// Removes everything, at once to all who ask; the memory comes back with housekeeping and commands.
    pub fn flush(&mut self) {
        self.log.flush(self.settings.memory_bytes);
        self.index.flush();
        self.sweep.expiring = 0;
    }

    /// Shows some keys, from `cursor` on, and returns the cursor to go on with; 0 begins, and 0 is the end. A step shows
    /// about 32 keys, sometimes none. Whoever goes from 0 to 0 has been shown each key that was there throughout.
    pub fn scan(&mut self, cursor: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        // A cursor is a place in the hash space.
        let (mut place, end) = (cursor, self.index.shard_count() as u64 * TAGS);
        for _ in 0..SCAN_SHARDS_MAX {
            if place < end && self.index.shard((place / TAGS) as usize).len() == 0 {
                place = (place / TAGS + 1) * TAGS;
            }
        }
        if place < end {
            let (entries, behind) = self.slice(place);
            place = behind;
            for (_, entry) in entries {
                let bytes = self.log.bytes(entry.handle());
                let record = Record::read(bytes);
                if record.deadline > self.now {
                    visit(&bytes[record.key()]);
                }
            }
        }
        if place < end { place } else { 0 }
    }

    /// Number of items, those included that have expired and were not met yet.
    pub fn len(&self) -> usize {
        self.index.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held now, by the store, by all chunks, and outside as the last turn was told.
    pub fn memory_bytes(&self) -> usize {
        // When the index has shrunk, most of its holes lie next to each other, and the C library has made of them what
        // fits other blocks as well: so they count for no more than the index that is left.
        self.held_bytes() + self.holes.bytes().min(self.index.held)
    }

    /// The same without the holes between the blocks that are held.
    fn held_bytes(&self) -> usize {
        self.index.held + self.log.held + self.settings.chunks.bytes() + self.outside_bytes
    }

    /// Bytes of chunks that are not the store's: of values on their way in, and of values that have left it on their way
    /// out.
    pub fn stray_chunk_bytes(&self) -> usize {
        self.settings.chunks.bytes().saturating_sub(ChunkMeter::bytes_of(self.log.chunks))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats { entries_moved: self.index.moved, ..self.stats }
    }

    /// Work done beyond plain look-ups, ever, in units of about 100 ns: an item visited, sixteen entries moved, a
    /// kilobyte copied.
    #[inline]
    pub fn work(&self) -> u64 {
        self.work + self.index.moved / 16
    }

    /// Panics unless bytes counted are bytes held, and index, log and counters agree. It reads everything.
    #[doc(hidden)]
    pub fn check(&mut self) {
        self.index.check();
        let items = self.log.check();
        assert_eq!(items.len(), self.len());
        let mut expiring = 0;
        for (handle, record) in items {
            let mut hash = self.hash(&self.log.bytes(handle)[record.key()]);
            let entry = self.index.find(&mut hash, |entry| entry.handle() == handle).copied();
            let entry = entry.expect("an item in the log is in the index");
            assert_eq!(entry.expires(), record.deadline != NEVER);
            let is_swept =
                self.sweep.place.is_some_and(|place| place / TAGS == u64::from(hash.shard) && place % TAGS > 0);
            assert!(is_swept || self.index.shard_of(hash).due <= record.deadline);
            expiring += usize::from(entry.expires());
        }
        assert_eq!(expiring, self.sweep.expiring);
    }

    /// The entry of a key, expired or not. A use of it, if that is said.
    #[inline]
    fn find(&mut self, hash: &mut KeyHash, key: &[u8], is_use: bool) -> Option<Entry> {
        let log = &self.log;
        let entry = self.index.find(hash, |entry| Record::is_of(log.bytes(entry.handle()), key))?;
        if is_use {
            entry.count_use();
        }
        Some(*entry)
    }

    /// The record of an entry that was just found, unless it has expired: then it is removed.
    #[inline]
    fn live(&mut self, hash: KeyHash, entry: Entry) -> Option<Record> {
        let record = Record::read(self.log.bytes(entry.handle()));
        if record.deadline <= self.now {
            self.remove(hash, entry, &record);
            self.stats.expired += 1;
            return None;
        }
        Some(record)
    }

    /// The item of a key, unless it has expired: then it is removed. A use of it.
    #[inline]
    fn find_live(&mut self, hash: &mut KeyHash, key: &[u8]) -> Option<(Entry, Record)> {
        let entry = self.find(hash, key, true)?;
        Some((entry, self.live(*hash, entry)?))
    }

    fn value(&self, entry: Entry, record: &Record) -> Value<'_> {
        Value { chunks: self.log.chunks_of(record), rest: &self.log.bytes(entry.handle())[record.rest()] }
    }

    /// Puts a value in the place of another of the same length, if the record there is a plain one: the commonest write
    /// changes nothing else.
    #[inline]
    fn rewrite(&mut self, entry: Entry, value: &[u8]) -> bool {
        let bytes = self.log.bytes_mut(entry.handle());
        let rest = Record::plain_rest(bytes).filter(|rest| rest.len() == value.len());
        rest.map(|rest| bytes[rest].copy_from_slice(value)).is_some()
    }

    /// Writes an item over `found`, or as a new one: in its place if it fits there, else to the head of a queue.
    fn put(
        &mut self,
        mut hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        mut found: Option<(Entry, Record)>,
        expiry: Expiry,
    ) -> Result<(), Refusal> {
        let deadline = match (expiry, found) {
            (Expiry::At(deadline), _) => deadline,
            (Expiry::Keep, Some((_, record))) => record.deadline,
            _ if self.settings.default_ttl_millis == 0 => NEVER,
            _ => self.now.saturating_add(self.settings.default_ttl_millis),
        };
        if !self.log.is_settled() {
            self.work += self.log.settle(RECLAIM_UNITS_PER_COMMAND as usize) as u64;
        }
        let has_list = !value.chunks.is_empty();
        let mut record = Record::plan(key.len(), value.rest.len(), deadline, has_list.then_some(0));
        let size = record.size();
        if let Some((entry, old)) = found
            && size <= old.size()
        {
            record.list = self.log.keep_list(value.chunks);
            self.log.overwrite(entry.handle(), &old, &record, key, value.rest);
            let new = Entry::new(hash, entry.handle(), deadline != NEVER, entry.uses());
            self.enter(hash, Some(entry), new, deadline);
            return Ok(());
        }
        let remembered = found.is_none() && self.index.shard_of(hash).ghost.take(hash.bits);
        if self.ample < size {
            self.make_room(size)?;
            // It may have been moved or evicted itself.
            found = found.and_then(|_| self.find_live(&mut hash, key));
        }
        let (queue, uses) = match found {
            Some((entry, _)) if self.log.queue(entry.handle()) == Queue::Main => (Queue::Main, entry.uses()),
            Some((entry, _)) if entry.uses() > 1 => (Queue::Main, 0),
            Some(_) => (Queue::Small, 1),
            None if remembered => (Queue::Main, 0),
            None => (Queue::Small, 0),
        };
        if !self.has_room(queue, size) {
            return Err(Refusal::OutOfMemory);
        }
        self.ample = self.ample.saturating_sub(size);
        record.list = self.log.keep_list(value.chunks);
        let handle = self.log.append(queue, &record, key, value.rest);
        if let Some((entry, old)) = found {
            self.log.kill(entry.handle(), &old);
        }
        let new = Entry::new(hash, handle, deadline != NEVER, uses);
        self.enter(hash, found.map(|(entry, _)| entry), new, deadline);
        Ok(())
    }

    /// Has an entry stand for what was written, in the place of the old one if there is one.
    fn enter(&mut self, hash: KeyHash, old: Option<Entry>, new: Entry, deadline: u64) {
        match old {
            Some(_) => self.index.replace(hash, new),
            None => self.index.insert(hash, new),
        }
        self.sweep.expiring += usize::from(new.expires());
        self.sweep.expiring -= usize::from(old.is_some_and(Entry::expires));
        let due = &mut self.index.shard_of(hash).due;
        *due = deadline.min(*due);
    }

    /// Removes an item that was just found.
    fn remove(&mut self, hash: KeyHash, entry: Entry, record: &Record) {
        self.index.remove(hash);
        self.log.kill(entry.handle(), record);
        self.sweep.expiring -= usize::from(entry.expires());
    }

    /// Some entries from a place in the hash space on, and the place behind them.
    fn slice(&mut self, place: u64) -> (Vec<(KeyHash, Entry)>, u64) {
        let (entries, behind) = self.index.slice(place);
        self.work += 1 + entries.len() as u64 + self.index.shard((place / TAGS) as usize).len() as u64 / 64;
        (entries, behind)
    }
}
