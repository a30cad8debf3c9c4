//! The store: owned bytes under keys, in the memory it was given, for as long as they are worth it.
//!
//! An index of eight bytes an item leads to records in a log of segments; the log's order is the order in which items
//! leave (`eviction`); what expired is swept up in between (`housekeeping`). No step of any of them takes longer than
//! about 100 us: what is large is done in pieces, some with each command, the rest by [`Store::housekeep`].
//!
//! It knows no wire, socket or client, and no clock: time is handed in.

mod eviction;
mod housekeeping;
mod index;
mod log;
mod prefetch;
mod record;

use std::hash::{BuildHasher, RandomState};
use std::mem;

use bytes::Bytes;
use siphasher::sip::SipHasher13;

pub use self::eviction::Eviction;
pub use self::index::KeyHash;
#[doc(hidden)]
pub use self::record::Record;

use self::index::{Entry, Index};
use self::log::{Log, Queue};
use crate::chunk::ChunkPool;
use crate::command::{Action, Condition, Expiry, NEVER, Refusal, Value};
use crate::limits::{RECLAIM_UNITS_PER_COMMAND, STORE_BYTES_MAX, STORE_BYTES_MIN, TURN_WORK_UNITS};
use crate::number;

/// What a store is made with.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Memory for all that the store holds, the chunks it shares, and what [`Store::begin_turn`] is told of, in bytes.
    pub memory_bytes: usize,
    /// What to do when that is full.
    pub eviction: Eviction,
    /// Time to live of a write that brings none, in milliseconds; 0 for ever.
    pub default_ttl_millis: u64,
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
    /// Index entries moved by splitting and merging buckets.
    pub entries_moved: u64,
}

/// What there is under a key.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The value.
    pub value: Value<'a>,
    /// When it expires, in milliseconds of the store's clock, or [`NEVER`].
    pub deadline: u64,
    /// What it takes, in bytes: record, chunks, and its share of the index.
    pub bytes: usize,
}

/// The store. See the module.
#[derive(Debug, Default)]
pub struct Store {
    /// The keyed hash function. Whoever does not know its key can neither choose keys that collide nor learn it from our
    /// answers, and a scan does answer in the order of hashes: that rules out cheaper functions, whose key can be solved
    /// for. Fewer rounds than SipHash-2-4 are what Rust's and Python's tables use, too.
    hasher: SipHasher13,
    index: Index,
    log: Log,
    /// What was flushed and is not given back yet.
    flushed: Vec<(Index, Log)>,
    /// What makes chunks for large values, and counts them for as long as anybody holds them.
    pub chunks: ChunkPool,
    settings: Settings,
    /// The limit in force, which follows a lowered `settings.memory_bytes` in steps.
    limit: usize,
    /// Bytes that the process holds outside of the store and of chunks.
    pub outside_bytes: usize,
    /// Bytes that can be written before room has to be looked for, however much there may be.
    ample: usize,
    /// Writes had better wait until the next turn: more room is being made than one command may make.
    pub is_short: bool,
    now: u64,
    /// What was done, in units of about 100 ns, but for entries that were moved: see [`Store::work`].
    pub work: u64,
    stats: Stats,
    /// Bytes that the policy may still copy before it has to drop what it would rather keep.
    copy_credit: isize,
    /// How many segments the sweep for expired items has passed, and when the next begins, in milliseconds.
    swept: usize,
    next_sweep: u64,
}

impl Store {
    /// An empty store. Memory beyond the least and the most it can work with is clamped.
    pub fn new(mut settings: Settings) -> Store {
        let [low, high] = [0, 1].map(|half| RandomState::new().hash_one(half));
        settings.memory_bytes = settings.memory_bytes.clamp(STORE_BYTES_MIN, STORE_BYTES_MAX);
        let (hasher, limit) = (SipHasher13::new_with_keys(low, high), settings.memory_bytes);
        Store { hasher, index: Index::new(limit), log: Log::new(), settings, limit, ..Store::default() }
    }

    /// An empty store that hashes keys as this one does, so that one look decides between stores.
    pub fn sibling(&self, settings: Settings) -> Store {
        Store { hasher: self.hasher, ..Store::new(settings) }
    }

    /// The hash of a key, for all calls about it.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash::new(self.hasher.hash(key))
    }

    /// Asks for the part of the index that tells of a key, so that it is in the processor's cache some time later.
    #[inline(always)]
    pub fn prefetch_index(&self, hash: KeyHash, action: &Action<'_>) {
        self.index.prefetch(hash, matches!(action, Action::Set(_) | Action::Write { .. }));
    }

    /// Looks where a key's item may lie, asks for its start, and keeps in `hash` what need not be searched again.
    #[inline(always)]
    pub fn prefetch_item(&self, hash: &mut KeyHash) {
        self.log.prefetch(self.index.look(hash));
    }

    /// Tells the time, in milliseconds of a clock that never runs backwards, and how many bytes the process holds
    /// for its connections outside of the store and of chunks.
    pub fn begin_turn(&mut self, now_millis: u64, outside_bytes: usize) {
        self.now = self.now.max(now_millis);
        self.outside_bytes = outside_bytes;
        self.ample = 0;
        self.is_short = self.lacks_room() && {
            self.housekeep(TURN_WORK_UNITS as usize / 2);
            self.lacks_room()
        };
    }

    /// The value of a key; a use of it.
    #[inline(always)]
    pub fn get(&mut self, mut hash: KeyHash, key: &[u8]) -> Option<Value<'_>> {
        // Most records are plain, and most were looked for ahead: `prefetch_item` left in `hash` where. There may be another's
        // by now, or nothing; the key decides, and else all is searched. This is the path that all is built for.
        let entry = self.index.seen(hash);
        if let Some(rest) = Record::plain_rest(self.log.bytes(entry.handle()), key) {
            let rest = &self.log.bytes(entry.handle())[rest];
            self.index.count_use(hash, entry);
            return Some(Value::small(rest));
        }
        let (entry, record) = self.find(&mut hash, key, true)?;
        Some(self.value(entry, &record))
    }

    /// What there is under a key, without counting as a use.
    pub fn peek(&mut self, mut hash: KeyHash, key: &[u8]) -> Option<Item<'_>> {
        let (entry, record) = self.find(&mut hash, key, false)?;
        let bytes = self.log.weight(&record) + self.index.held() / self.index.len;
        Some(Item { value: self.value(entry, &record), deadline: record.deadline, bytes })
    }

    /// Stores a value, whatever was there. An expiry it had is gone; the default time to live applies.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room, and the policy may not make any or could not within one command's bounds.
    #[inline(always)]
    pub fn set(&mut self, hash: KeyHash, key: &[u8], value: Value<'_>) -> Result<(), Refusal> {
        // The commonest write leaves all as it is but for the value.
        if value.chunks.is_empty()
            && self.settings.default_ttl_millis == 0
            && let (entry, Some(old)) = self.plain_value(hash, key)
            && old.len() == value.rest.len()
        {
            old.copy_from_slice(value.rest);
            self.index.count_use(hash, entry);
            return Ok(());
        }
        self.write(hash, key, value, Condition::Always, Expiry::Default).map(|_| ())
    }

    /// Stores a value if the condition holds; whether it did. What would have expired by now is removed instead.
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
        let found = self.find(&mut hash, key, true);
        let is_met = condition.allows(found.map(|(_, record)| record.deadline), expiry);
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
    #[inline(always)]
    pub fn add(&mut self, mut hash: KeyHash, key: &[u8], delta: i64) -> Result<i64, Refusal> {
        if let (entry, Some(text)) = self.plain_value(hash, key)
            && let Some(number) = number::parse(text)
            && let Some(sum) = number.checked_add(delta)
            && rewrite(text, number, sum)
        {
            self.index.count_use(hash, entry);
            return Ok(sum);
        }
        let found = self.find(&mut hash, key, true);
        let number = found.map_or(Some(0), |(entry, record)| {
            let value = self.value(entry, &record);
            if value.chunks.is_empty() { number::parse(value.rest) } else { None }
        });
        let sum = number.ok_or(Refusal::NotANumber)?.checked_add(delta).ok_or(Refusal::Overflow)?;
        let mut digits = itoa::Buffer::new();
        self.put(hash, key, Value::small(digits.format(sum).as_bytes()), found, Expiry::Keep)?;
        Ok(sum)
    }

    /// Removes a key; whether it was there.
    #[inline(always)]
    pub fn delete(&mut self, mut hash: KeyHash, key: &[u8]) -> bool {
        let entry = self.index.seen(hash);
        let bytes = self.log.bytes(entry.handle());
        let found = match Record::plain_rest(bytes, key) {
            Some(_) => Some((entry, Record::read(bytes))),
            None => self.find(&mut hash, key, false),
        };
        found.map(|(entry, record)| self.remove(hash, entry, &record, false)).is_some()
    }

    /// Drops references to chunks in bounded steps, as those of a value that was removed.
    pub fn discard(&mut self, chunks: Vec<Bytes>) {
        self.log.discard(chunks);
    }

    /// Removes everything, at once to all who ask; the memory comes back with housekeeping and commands.
    pub fn flush(&mut self) {
        if !self.is_empty() {
            // As much is given back as a store of a few items leaves behind, or repeated flushes would pile up.
            (0..4).for_each(|_| _ = self.settle());
            let index = self.index.flushed();
            self.flushed.push((mem::replace(&mut self.index, index), mem::replace(&mut self.log, Log::new())));
        }
    }

    /// Shows some keys, from `cursor` on, and returns the cursor to go on with; 0 begins, and 0 is the end. A step shows
    /// about 32 keys, sometimes none. Whoever goes from 0 to 0 has been shown each key that was there throughout.
    pub fn scan(&mut self, cursor: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        let (entries, behind, buckets) = self.index.slice(cursor);
        self.work += 1 + buckets as u64 / 4;
        for entry in entries {
            self.work += 1;
            let bytes = self.log.bytes(entry.handle());
            let record = Record::read(bytes);
            if record.deadline > self.now {
                visit(&bytes[record.key()]);
            }
        }
        behind
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
        let flushed: usize = self.flushed.iter().map(|(index, log)| index.held() + log.held()).sum();
        let chunks = self.chunks.bytes() + self.chunks.spare_bytes();
        self.index.held() + self.log.held() + flushed + chunks + self.outside_bytes
    }

    /// Bytes of chunks that are not the store's: of values on their way in, and of values that have left it on their way
    /// out.
    pub fn stray_chunk_bytes(&self) -> usize {
        let flushed: usize = self.flushed.iter().map(|(_, log)| log.chunks).sum();
        self.chunks.bytes().saturating_sub(ChunkPool::bytes_of(self.log.chunks + flushed))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats { entries_moved: self.index.moved, ..self.stats }
    }

    /// Work done beyond plain look-ups, ever, in units of about 100 ns: an item visited, a third of one added, four entries
    /// moved, a kilobyte copied.
    #[inline]
    pub fn work(&self) -> u64 {
        self.work + self.index.moved / 4
    }

    /// Bytes that the index holds, that the log holds, and that are live in the log.
    #[doc(hidden)]
    pub fn shares(&self) -> [usize; 3] {
        [self.index.held(), self.log.held(), self.log.live_bytes.iter().sum()]
    }

    /// Panics unless bytes counted are bytes held, and index, log and counters agree. It reads everything.
    #[doc(hidden)]
    pub fn check(&mut self) {
        self.index.check();
        let items = self.log.check();
        assert_eq!(items.len(), self.len());
        for (handle, record) in items {
            let (log, key) = (&self.log, &self.log.bytes(handle)[record.key()]);
            let key_of = |entry: Entry| &log.bytes(entry.handle())[Record::read(log.bytes(entry.handle())).key()];
            let found = self.index.find(&mut self.hash(key), |entry| key_of(entry) == key);
            assert_eq!(found.map(Entry::handle), Some(handle), "the index leads to each item, and to one of each key");
        }
    }

    /// What was seen for a key, and its value, if that is a plain one.
    #[inline(always)]
    fn plain_value(&mut self, hash: KeyHash, key: &[u8]) -> (Entry, Option<&mut [u8]>) {
        let entry = self.index.seen(hash);
        let bytes = self.log.bytes_mut(entry.handle());
        (entry, Record::plain_rest(bytes, key).map(|rest| &mut bytes[rest]))
    }

    /// The item of a key, unless it has expired: then it is removed. A use of it, if that is said.
    fn find(&mut self, hash: &mut KeyHash, key: &[u8], is_use: bool) -> Option<(Entry, Record)> {
        let log = &self.log;
        let mut entry = self.index.find(hash, |entry| {
            let bytes = log.bytes(entry.handle());
            bytes[Record::read(bytes).key()] == *key
        })?;
        if is_use {
            self.index.count_use(*hash, entry);
            entry = self.index.seen(*hash);
        }
        let record = Record::read(self.log.bytes(entry.handle()));
        if record.deadline <= self.now {
            self.remove(*hash, entry, &record, false);
            return None;
        }
        Some((entry, record))
    }

    fn value(&self, entry: Entry, record: &Record) -> Value<'_> {
        Value { chunks: self.log.chunks_of(record), rest: &self.log.bytes(entry.handle())[record.rest()] }
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
            (Expiry::At(deadline), _) if deadline <= self.now => {
                found.iter().for_each(|(entry, old)| self.remove(hash, *entry, old, false));
                return Ok(());
            }
            (Expiry::At(deadline), _) => deadline,
            (Expiry::Keep, Some((_, record))) => record.deadline,
            _ if self.settings.default_ttl_millis == 0 => NEVER,
            _ => self.now.saturating_add(self.settings.default_ttl_millis),
        };
        let end = self.work + RECLAIM_UNITS_PER_COMMAND;
        while !self.is_settled() && self.work < end {
            self.settle();
        }
        let list = (!value.chunks.is_empty()).then_some(0);
        let mut record = Record::plan(key.len(), value.rest.len(), deadline, list);
        let size = record.size();
        if let Some((entry, old)) = found
            && size <= old.size()
        {
            record.list = record.list.map(|_| self.log.keep_list(value.chunks));
            self.log.overwrite(entry.handle(), &old, &record, key, value.rest);
            return Ok(());
        }
        let is_remembered = found.is_none() && self.stats.evictions > 0 && self.index.recall(hash);
        if self.ample < size {
            self.make_room(size)?;
            // It may have been moved or evicted itself.
            found = found.and_then(|_| self.find(&mut hash, key, false));
        }
        let (queue, uses) = match found {
            Some((entry, _)) if self.log.queue(entry.handle()) == Queue::Main => (Queue::Main, entry.uses()),
            Some((entry, _)) if entry.uses() > 1 => (Queue::Main, 0),
            Some(_) => (Queue::Small, 1),
            None if is_remembered => (Queue::Main, 0),
            None => (Queue::Small, 0),
        };
        if !self.has_room(queue, size) {
            return Err(Refusal::OutOfMemory);
        }
        self.ample = self.ample.saturating_sub(size);
        record.list = record.list.map(|_| self.log.keep_list(value.chunks));
        let new = Entry::new(hash, self.log.append(queue, &record, key, value.rest), uses);
        if let Some((entry, old)) = found {
            self.log.kill(entry.handle(), &old);
            self.index.replace(hash, new);
        } else {
            self.index.insert(hash, new);
            self.work += 3; // its segment's memory and its place in the index are touched first
        }
        Ok(())
    }

    /// Removes an item that was just found; a ghost of it may stay.
    #[inline(always)]
    fn remove(&mut self, hash: KeyHash, entry: Entry, record: &Record, leaves_ghost: bool) {
        self.index.remove(hash, leaves_ghost);
        self.log.kill(entry.handle(), record);
        self.stats.expired += u64::from(record.deadline <= self.now);
    }
}

/// Writes a number over the text of another, if its own is as long; whether it is. Nine steps in ten change one digit.
#[inline]
fn rewrite(text: &mut [u8], old: i64, new: i64) -> bool {
    if text[0] > b'0' && new >= 0 && old / 10 == new / 10 {
        text[text.len() - 1] = b'0' + (new % 10) as u8;
        return true;
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(new).as_bytes();
    let is_as_long = digits.len() == text.len();
    if is_as_long {
        text.copy_from_slice(digits);
    }
    is_as_long
}
