//! What every command means, once for all protocols. It knows no wire format and no client.

use std::mem;

use crate::chunk::Chunked;
use crate::command::{Action, Clock, Command, Expiry, Measure, NEVER, Refusal, Reply, Value};
use crate::limits::{APPEND_BYTES_MAX, COPIED_BYTES_PER_UNIT, OUTPUT_HIGH_BYTES, TURN_WORK_UNITS};
use crate::output::Spare;
use crate::password::Password;
use crate::stats::Stats;
use crate::store::{KeyHash, Store};

/// What the commands of all sessions act upon: the store, the counters, and the bounds on this turn.
pub struct Executor {
    /// The store.
    pub store: Store,
    /// The counters.
    pub stats: Stats,
    /// How often each command of the Redis protocol was executed, or refused for its options, by its row in the table.
    pub calls: [u64; 256],
    /// What clients have to authenticate with, if anything.
    pub password: Option<Password>,
    /// The time, which stands still during a turn.
    pub clock: Clock,
    /// The longest value that is accepted, in bytes.
    pub value_bytes_max: usize,
    /// How much output of a session may wait before the rest of what it brought is left to later turns, in bytes.
    pub output_bytes_max: usize,
    /// While buffers are crowded, what each connection may hold without standing in line for it, in bytes.
    pub share_bytes: usize,
    pub(crate) spare: Spare, // output buffers, each lent to a session that begins to execute in a turn
    pub(crate) work_max: u64, // the turn is over when `Store::work` reaches this
    kept: Chunked, // an item's old value, kept while the item changes: its chunks by reference, and a copy of the rest
}

impl Executor {
    /// An executor on `store`, for values of up to `value_bytes_max` bytes.
    pub fn new(store: Store, value_bytes_max: usize) -> Self {
        Executor {
            store,
            stats: Stats::default(),
            calls: [0; 256],
            password: None,
            clock: Clock::default(),
            value_bytes_max,
            output_bytes_max: OUTPUT_HIGH_BYTES,
            share_bytes: usize::MAX,
            spare: Spare::default(),
            work_max: TURN_WORK_UNITS,
            kept: Chunked::default(),
        }
    }

    /// Starts a turn at `now_millis` of a monotonic clock, with `outside_bytes` held outside the store and chunks.
    pub fn begin_turn(&mut self, now_millis: u64, outside_bytes: usize) {
        self.store.count_look_ups(0); // those of the last housekeeping
        (self.clock.now_millis, self.work_max) = (now_millis, self.store.work + TURN_WORK_UNITS);
        self.store.drop_chunks(&mut self.kept.chunks);
        self.store.begin_turn(now_millis, outside_bytes);
    }

    /// Whether the store has done as much work as it may in one turn.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.store.work >= self.work_max
    }

    /// Lets the store use what is left of this turn's work for what could wait. Returns what [`Store::housekeep`] does.
    pub fn housekeep(&mut self) -> Option<u64> {
        self.store.housekeep(self.work_max.saturating_sub(self.store.work))
    }

    /// Executes `command`, whose key has `hash`, and counts it.
    #[inline(always)]
    pub fn execute(&mut self, hash: KeyHash, command: &Command<'_>) -> Reply<'_> {
        let key = command.key;
        match command.action {
            Action::Get => {
                self.stats.gets += 1;
                let Some(value) = self.store.get(hash, key) else { return Reply::Missing };
                self.stats.hits += 1;
                Reply::Value(value)
            }
            Action::Set(value) => {
                self.stats.sets += 1;
                self.store.set(hash, key, value).map_or_else(|refusal| self.refuse(refusal), |()| Reply::Done)
            }
            Action::Add(delta) => {
                self.stats.adds += 1;
                self.store.add(hash, key, delta).map_or_else(|refusal| self.refuse(refusal), Reply::Number)
            }
            Action::Delete => {
                self.stats.deletes += 1;
                if self.store.delete(hash, key) { Reply::Done } else { Reply::Missing }
            }
            _ => self.execute_rare(hash, command),
        }
    }

    /// Executes a command that is not part of a batch, or refuses it if there was no memory for its value.
    pub fn execute_alone(&mut self, command: &Command<'_>, is_refused: bool) -> Reply<'_> {
        if is_refused {
            self.stats.sets += 1; // no other has a value
            return self.refuse(Refusal::OutOfMemory);
        }
        let mut hash = self.store.prefetch_index(self.store.hash(command.key), &command.action);
        self.store.prefetch_item(&mut hash); // the store's shortcuts begin at the place that this finds
        self.execute(hash, command)
    }

    /// Counts a command that is not executed, and says why.
    pub fn refuse(&mut self, refusal: Refusal) -> Reply<'static> {
        self.stats.errors += 1;
        Reply::Refused(refusal)
    }

    /// Executes the commands that a cache gets less often. They are apart so that the code of the others stays small.
    #[inline(never)]
    fn execute_rare(&mut self, hash: KeyHash, command: &Command<'_>) -> Reply<'_> {
        let Command { key, action } = *command;
        match action {
            Action::Write { value, if_present, expiry, returns_old } => {
                self.stats.sets += 1;
                let is_kept = returns_old && self.keep(hash, key);
                let written = self.store.write(hash, key, value, if_present, expiry);
                self.written(written, returns_old, is_kept)
            }
            Action::Expire { deadline, if_expiring, moves, returns_value } => {
                let is_kept = returns_value && self.keep(hash, key);
                let counter = if returns_value { &mut self.stats.gets } else { &mut self.stats.others };
                *counter += 1;
                self.stats.hits += u64::from(is_kept);
                let kind_fits = |old| if_expiring.is_none_or(|expires| expires == (old != NEVER));
                let move_fits = |old| moves.is_none_or(|moves| deadline.cmp(&old) == moves);
                let written = self.store.expire(hash, key, deadline, |old| kind_fits(old) && move_fits(old));
                self.written(written, returns_value, is_kept)
            }
            Action::Append(value) => self.append(hash, key, value),
            Action::Measure(measure) => {
                self.stats.others += 1;
                let Some(item) = self.store.peek(hash, key) else { return Reply::Missing };
                Reply::Number(match measure {
                    Measure::Length => item.value.len() as i64,
                    Measure::Memory => (item.bytes + self.store.index_share_bytes()) as i64,
                    _ if item.deadline == NEVER => -1,
                    Measure::TimeLeft => (item.deadline - self.clock.now_millis) as i64,
                    Measure::ExpiryTime => (item.deadline as i64).saturating_add(self.clock.unix_offset_millis),
                })
            }
            Action::Get | Action::Set(_) | Action::Add(_) | Action::Delete => unreachable!(),
        }
    }

    /// The reply to a write, which may have happened: the value that was kept if one is to be returned.
    fn written(&mut self, written: Result<bool, Refusal>, returns_value: bool, is_kept: bool) -> Reply<'_> {
        match written {
            Err(refusal) => self.refuse(refusal),
            Ok(_) if is_kept => Reply::Value(self.kept.value()),
            Ok(true) if !returns_value => Reply::Done,
            Ok(_) => Reply::Missing,
        }
    }

    /// Keeps a key's value, its chunks by reference, beyond a change of the item. Returns whether the key is present.
    fn keep(&mut self, hash: KeyHash, key: &[u8]) -> bool {
        self.store.drop_chunks(&mut self.kept.chunks);
        let Some(item) = self.store.peek(hash, key) else { return false };
        self.kept = Chunked { chunks: item.value.chunks.to_vec(), rest: item.value.rest.to_vec() };
        self.store.work += 1 + self.kept.rest.len() as u64 / COPIED_BYTES_PER_UNIT + self.kept.chunks.len() as u64 / 8;
        true
    }

    /// Appends `value` to the old value, whose whole chunks stay as they are. Only what follows them is copied.
    fn append(&mut self, hash: KeyHash, key: &[u8], value: Value<'_>) -> Reply<'_> {
        self.stats.sets += 1;
        let old_bytes = self.store.peek(hash, key).map(|item| item.value.len());
        let length = old_bytes.unwrap_or(0) + value.len();
        let written = match old_bytes {
            None => self.store.write(hash, key, value, None, Expiry::Default),
            Some(_) if length > self.value_bytes_max || value.len() > APPEND_BYTES_MAX => Err(Refusal::TooLong),
            Some(_) => {
                self.keep(hash, key);
                let mut whole = mem::take(&mut self.kept);
                let mut pieces = value.chunks.iter().map(|chunk| &chunk[..]).chain([value.rest]);
                let is_room = pieces.all(|piece| whole.push(piece, || self.store.chunk()));
                self.store.work += (whole.rest.len() + value.len()) as u64 / COPIED_BYTES_PER_UNIT;
                if !is_room {
                    return self.refuse(Refusal::OutOfMemory);
                }
                self.store.write(hash, key, whole.value(), None, Expiry::Keep)
            }
        };
        written.map_or_else(|refusal| self.refuse(refusal), |_| Reply::Number(length as i64))
    }
}
