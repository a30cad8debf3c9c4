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

pub use self::eviction::Eviction;
pub use self::hash::KeyHash;

use self::expiry::Sweep;
use self::hash::Secret;
use self::holes::Holes;
use self::index::{Entry, Index, TAGS};
use self::log::{Handle, Log, Queue};
use self::record::{NEVER, Record};
use crate::chunk::ChunkMeter;
use crate::command::{Condition, Expiry, Refusal, Value};
use crate::limits::{STORE_BYTES_MAX, STORE_BYTES_MIN};
use crate::number;

/// How many entries a slice of a shard holds, about, where a shard is gone through: each may cost a look at its item.
const SLICE_ENTRIES: usize = 32;

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

/// What a look ahead found; good for another look and nothing else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Touched(Option<Handle>);

/// The store. See the module.
#[derive(Debug)]
pub struct Store {
    secret: Secret,
    index: Index,
    log: Log,
    holes: Holes,
    settings: Settings,
    /// The limit in force, which follows a lowered `settings.memory_bytes` in steps.
    limit: usize,
    outside_bytes: usize,
    now: u64,
    work: u64,
    stats: Stats,
    /// Bytes that the policy may still copy before it has to drop what it would rather keep.
    copy_credit: isize,
    /// Places of the walk under way that have been looked up already.
    looked_ahead: usize,
    sweep: Sweep,
}

impl Store {
    /// An empty store. Memory beyond the least and the most it can work with is clamped.
    pub fn new(settings: Settings) -> Store {
        Store::with_secret(settings, Secret::random())
    }

    /// An empty store that hashes keys as this one does.
    pub fn sibling(&self, settings: Settings) -> Store {
        Store::with_secret(settings, self.secret.clone())
    }

    fn with_secret(mut settings: Settings, secret: Secret) -> Store {
        settings.memory_bytes = settings.memory_bytes.clamp(STORE_BYTES_MIN, STORE_BYTES_MAX);
        let limit = settings.memory_bytes;
        let holes = Holes::default();
        Store {
            secret,
            index: Index::new(limit, holes.clone()),
            log: Log::new(limit, holes.clone()),
            holes,
            settings,
            limit,
            outside_bytes: 0,
            now: 0,
            work: 0,
            stats: Stats::default(),
            copy_credit: 0,
            looked_ahead: 0,
            sweep: Sweep::default(),
        }
    }

    /// The hash of a key, for all calls about it.
    #[inline]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        self.secret.hash(key)
    }

    /// Looks where a key may lie, to have it in the processor's cache when it is asked for. Counts for nothing.
    #[inline]
    pub fn touch_index(&self, hash: KeyHash) -> Touched {
        Touched(self.index.shard(hash).candidate(hash).map(Entry::handle))
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
    }

    /// The value of a key; a use of it.
    #[inline]
    pub fn get(&mut self, hash: KeyHash, key: &[u8]) -> Option<Value<'_>> {
        let entry = self.find_entry(hash, key)?;
        if entry.expires() {
            let record = Record::read(self.log.bytes(entry.handle()));
            if record.deadline <= self.now {
                self.expire(hash, entry, &record);
                return None;
            }
        }
        // Most records are plain, and this is the path that all is built for.
        let bytes = self.log.bytes(entry.handle());
        if let Some(rest) = Record::plain_rest(bytes) {
            return Some(Value::small(rest));
        }
        Some(self.value(entry.handle(), &Record::read(bytes)))
    }

    /// The value of a key and when it expires, without counting as a use.
    pub fn peek(&self, hash: KeyHash, key: &[u8]) -> Option<(Value<'_>, Option<u64>)> {
        let entry = self.index.shard(hash).find(hash, |entry| is_key(&self.log, entry, key))?;
        let record = Record::read(self.log.bytes(entry.handle()));
        let deadline = (record.deadline != NEVER).then_some(record.deadline);
        (record.deadline > self.now).then(|| (self.value(entry.handle(), &record), deadline))
    }

    /// Stores a value, whatever was there. An expiry it had is gone; the default time to live applies.
    ///
    /// # Errors
    /// `OutOfMemory` if there is no room, and the policy may not make any or could not within one command's bounds.
    #[inline]
    pub fn set(&mut self, hash: KeyHash, key: &[u8], value: Value<'_>) -> Result<(), Refusal> {
        self.write(hash, key, value, Condition::Always, Expiry::Default).map(drop)
    }

    /// Stores a value if the condition holds; whether it did.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    #[inline]
    pub fn write(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        condition: Condition,
        expiry: Expiry,
    ) -> Result<bool, Refusal> {
        let found = self.find(hash, key);
        match condition {
            Condition::Missing if found.is_some() => return Ok(false),
            Condition::Present if found.is_none() => return Ok(false),
            _ => {}
        }
        let deadline = self.deadline(expiry, found);
        self.put(hash, key, value, deadline, found, true)?;
        Ok(true)
    }

    /// Stores a value and returns the one it replaces.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub fn swap(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        expiry: Expiry,
    ) -> Result<Option<Value<'_>>, Refusal> {
        let found = self.find(hash, key);
        let deadline = self.deadline(expiry, found);
        let old = self.put(hash, key, value, deadline, found, false)?;
        Ok(old.map(|(handle, record)| self.dead_value(handle, &record)))
    }

    /// Adds to the number stored under a key, a missing key counting as 0, and returns the sum. It keeps its expiry.
    /// A value that has chunks is no number, not even one of 32,000 zeros.
    ///
    /// # Errors
    /// `NotANumber` if the value is none, `Overflow` if the sum is none, `OutOfMemory` as [`set`](Self::set).
    pub fn add(&mut self, hash: KeyHash, key: &[u8], delta: i64) -> Result<i64, Refusal> {
        let found = self.find(hash, key);
        let number = match found {
            None => 0,
            Some((_, record)) if record.list().is_some() => return Err(Refusal::NotANumber),
            Some((entry, record)) => {
                number::parse(&self.log.bytes(entry.handle())[record.rest()]).ok_or(Refusal::NotANumber)?
            }
        };
        let sum = number.checked_add(delta).ok_or(Refusal::Overflow)?;
        let deadline = self.deadline(Expiry::Keep, found);
        let mut digits = [0; number::DIGITS_MAX];
        let value = Value::small(number::format(sum, &mut digits));
        self.put(hash, key, value, deadline, found, true)?;
        Ok(sum)
    }

    /// Removes a key; whether it was there.
    pub fn delete(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        self.take(hash, key).is_some()
    }

    /// Removes a key and returns its value.
    pub fn take(&mut self, hash: KeyHash, key: &[u8]) -> Option<Value<'_>> {
        self.settle();
        let (entry, record) = self.find(hash, key)?;
        self.remove(self.index.number(hash), entry, &record);
        Some(self.dead_value(entry.handle(), &record))
    }

    /// Changes when a key expires, to never with `None`; whether it was there.
    ///
    /// # Errors
    /// As [`set`](Self::set): an expiry takes six bytes.
    pub fn set_expiry(&mut self, hash: KeyHash, key: &[u8], deadline: Option<u64>) -> Result<bool, Refusal> {
        let Some((entry, record)) = self.find(hash, key) else {
            return Ok(false);
        };
        let value = self.value(entry.handle(), &record);
        let (chunks, rest) = (value.chunks.to_vec(), value.rest.to_vec());
        let value = Value { chunks: &chunks, rest: &rest };
        self.put(hash, key, value, deadline.unwrap_or(NEVER), Some((entry, record)), true)?;
        Ok(true)
    }

    /// Removes everything, at once to all who ask; the memory comes back with housekeeping and commands.
    pub fn flush(&mut self) {
        self.log.flush();
        self.index.flush();
        self.sweep.expiring = 0;
    }

    /// Shows some keys, from `cursor` on, and returns the cursor to go on with; 0 begins, and 0 is the end. A step shows
    /// about 32 keys, sometimes none. Whoever goes from 0 to 0 has been shown each key that was there throughout.
    pub fn scan(&mut self, cursor: u64, mut visit: impl FnMut(&[u8])) -> u64 {
        // A cursor is a place in the hash space, and no growth moves a key from its place.
        let (mut number, mut tag) = ((cursor / TAGS) as usize, cursor % TAGS);
        let end = self.index.shard_count().min(number.saturating_add(SCAN_SHARDS_MAX));
        while number < end && self.index.nth(number).len() == 0 {
            (number, tag) = (number + 1, 0);
        }
        if number < end {
            let shard = self.index.nth(number);
            let tags = shard.slice(tag, SLICE_ENTRIES);
            self.work += shard.len() as u64 / 64;
            for entry in shard.entries(tags.clone()) {
                let bytes = self.log.bytes(entry.handle());
                let record = Record::read(bytes);
                self.work += 1;
                if record.deadline > self.now {
                    visit(&bytes[record.key()]);
                }
            }
            (number, tag) = if tags.end == TAGS { (number + 1, 0) } else { (number, tags.end) };
        }
        if number < self.index.shard_count() { number as u64 * TAGS + tag } else { 0 }
    }

    /// Bytes that a key's item takes: record, chunks, and its share of the index.
    pub fn item_bytes(&self, hash: KeyHash, key: &[u8]) -> Option<usize> {
        let entry = self.index.shard(hash).find(hash, |entry| is_key(&self.log, entry, key))?;
        let record = Record::read(self.log.bytes(entry.handle()));
        Some(self.log.weight(&record) + self.index.held_bytes() / self.index.len())
    }

    /// Number of items, those included that have expired and were not met yet.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes held now, by the store, by all chunks, and outside as the last turn was told.
    #[inline]
    pub fn memory_bytes(&self) -> usize {
        let chunks = self.settings.chunks.bytes();
        self.index.held_bytes() + self.log.held_bytes() + self.hole_bytes() + chunks + self.outside_bytes
    }

    /// Bytes of holes. When the index has shrunk, most of its holes lie next to each other, and the C library has made
    /// of them what fits other blocks as well: so they count for no more than the index that is left.
    #[inline]
    fn hole_bytes(&self) -> usize {
        self.holes.bytes().min(self.index.held_bytes())
    }

    /// Bytes of chunks that are not the store's: of values on their way in, and of values that have left it on their way
    /// out.
    pub fn stray_chunk_bytes(&self) -> usize {
        self.settings.chunks.bytes().saturating_sub(ChunkMeter::bytes_of(self.log.chunks()))
    }

    /// The counters.
    pub fn stats(&self) -> Stats {
        Stats { entries_moved: self.index.moved(), ..self.stats }
    }

    /// Work done beyond plain look-ups, ever, in units of about 100 ns: an item visited, sixteen entries moved, a
    /// kilobyte copied.
    pub fn work(&self) -> u64 {
        self.work + self.index.moved() / 16
    }

    /// The entry of a key, expired or not. A use of it.
    #[inline]
    fn find_entry(&mut self, hash: KeyHash, key: &[u8]) -> Option<Entry> {
        let log = &self.log;
        let entry = self.index.shard_mut(hash).find_mut(hash, |entry| is_key(log, entry, key))?;
        entry.count_use();
        Some(*entry)
    }

    /// The item of a key, unless it has expired: then it is removed. A use of it.
    #[inline]
    fn find(&mut self, hash: KeyHash, key: &[u8]) -> Option<(Entry, Record)> {
        let entry = self.find_entry(hash, key)?;
        let record = Record::read(self.log.bytes(entry.handle()));
        if record.deadline <= self.now {
            self.expire(hash, entry, &record);
            return None;
        }
        Some((entry, record))
    }

    #[inline]
    fn value(&self, handle: Handle, record: &Record) -> Value<'_> {
        let rest = &self.log.bytes(handle)[record.rest()];
        Value { chunks: record.list().map_or(&[], |list| self.log.list(list)), rest }
    }

    /// The value of an item that was killed since the log was settled.
    fn dead_value(&self, handle: Handle, record: &Record) -> Value<'_> {
        let chunks = if record.list().is_some() { self.log.last_dropped_list() } else { &[] };
        Value { chunks, rest: &self.log.bytes(handle)[record.rest()] }
    }

    #[inline]
    fn deadline(&self, expiry: Expiry, found: Option<(Entry, Record)>) -> u64 {
        match (expiry, found) {
            (Expiry::At(deadline), _) => deadline,
            (Expiry::Keep, Some((_, record))) => record.deadline,
            _ if self.settings.default_ttl_millis == 0 => NEVER,
            _ => self.now.saturating_add(self.settings.default_ttl_millis),
        }
    }

    /// Writes an item over `found`, or as a new one: in its place if it fits there and `in_place` allows, else to the
    /// head of a queue. Returns what it displaced there, dead by now.
    #[inline]
    fn put(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        deadline: u64,
        found: Option<(Entry, Record)>,
        in_place: bool,
    ) -> Result<Option<(Handle, Record)>, Refusal> {
        let record = Record::plan(key.len(), value.rest.len(), deadline, !value.chunks.is_empty());
        match found {
            // The commonest overwrite changes nothing but the value's bytes.
            Some((entry, old)) if in_place && record == old && value.chunks.is_empty() => {
                self.log.rewrite(entry.handle(), &record, value.rest);
                Ok(None)
            }
            Some((entry, old)) if in_place && record.size() <= old.size() => {
                let record = self.keep_chunks(record, value);
                self.log.overwrite(entry.handle(), &old, &record, key, value.rest);
                if entry.expires() || deadline != NEVER {
                    let new = Entry::new(hash, entry.handle(), deadline != NEVER, entry.uses());
                    self.replace(hash, entry, new, deadline);
                }
                Ok(None)
            }
            _ => self.put_at_head(hash, key, value, record, found),
        }
    }

    fn put_at_head(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        value: Value<'_>,
        record: Record,
        mut found: Option<(Entry, Record)>,
    ) -> Result<Option<(Handle, Record)>, Refusal> {
        let remembered = found.is_none() && self.index.shard_mut(hash).ghost.take(hash);
        if self.make_room(record.size()) {
            // It may have been moved or evicted itself.
            found = found.and_then(|_| self.find(hash, key));
        }
        let (queue, uses) = match found {
            Some((entry, _)) if self.log.queue(entry.handle()) == Queue::Main => (Queue::Main, entry.uses()),
            Some((entry, _)) if entry.uses() > 1 => (Queue::Main, 0),
            Some(_) => (Queue::Small, 1),
            None if remembered => (Queue::Main, 0),
            None => (Queue::Small, 0),
        };
        if !self.has_room(queue, record.size()) {
            return Err(Refusal::OutOfMemory);
        }
        let record = self.keep_chunks(record, value);
        let handle = self.log.append(queue, &record, key, value.rest);
        let new = Entry::new(hash, handle, record.deadline != NEVER, uses);
        if let Some((entry, old)) = found {
            self.log.kill(entry.handle(), &old, false);
            self.replace(hash, entry, new, record.deadline);
        } else {
            self.index.insert(hash, new);
            self.count_expiring(self.index.number(hash), new, record.deadline);
        }
        Ok(found.map(|(entry, old)| (entry.handle(), old)))
    }

    #[inline]
    fn keep_chunks(&mut self, mut record: Record, value: Value<'_>) -> Record {
        if !value.chunks.is_empty() {
            // An overwrite in place, which makes no room, drops a list as well.
            self.settle();
            record.set_list(self.log.keep_list(value.chunks));
        }
        record
    }

    /// Puts a new entry in an old one's place.
    #[inline]
    fn replace(&mut self, hash: KeyHash, old: Entry, new: Entry, deadline: u64) {
        if let Some(entry) = self.index.shard_mut(hash).find_mut(hash, |entry| entry == old) {
            *entry = new;
        } else {
            debug_assert!(false, "an entry that is replaced is there");
        }
        if old.expires() {
            self.sweep.expiring -= 1;
        }
        if new.expires() {
            self.count_expiring(self.index.number(hash), new, deadline);
        }
    }

    /// Removes an item from index and log; its value can be read until the log is settled.
    fn remove(&mut self, shard: usize, entry: Entry, record: &Record) {
        self.index.remove(shard, entry);
        self.log.kill(entry.handle(), record, false);
        if entry.expires() {
            self.sweep.expiring -= 1;
        }
    }
}

#[inline]
fn is_key(log: &Log, entry: Entry, key: &[u8]) -> bool {
    Record::is_of(log.bytes(entry.handle()), key)
}
