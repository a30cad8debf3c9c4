//! What every command means, once for all protocols. It knows no bytes on a wire and no client.

use std::fmt;

use crate::chunk::{Chunk, ChunkMeter};
use crate::command::{Command, Refusal, Reply};
use crate::limits::{CHUNK_BYTES, TURN_WORK_UNITS};
use crate::stats::Stats;
use crate::store::{KeyHash, Store};

/// What all sessions act upon: the store, the counters, and how much may be done in this turn.
pub struct Executor {
    /// The store.
    pub store: Store,
    /// The counters.
    pub stats: Stats,
    value_bytes_max: usize,
    chunks: ChunkMeter,
    now_millis: u64,
    work_at_turn: u64,
}

impl Executor {
    /// An executor on `store`, for values of up to `value_bytes_max` bytes, whose chunks `chunks` counts.
    pub fn new(store: Store, value_bytes_max: usize, chunks: ChunkMeter) -> Self {
        Executor { store, stats: Stats::default(), value_bytes_max, chunks, now_millis: 0, work_at_turn: 0 }
    }

    /// Starts a turn at `now_millis` of a clock that never goes back, with connections holding `outside_bytes` beside
    /// their chunks.
    pub fn begin_turn(&mut self, now_millis: u64, outside_bytes: usize) {
        self.now_millis = now_millis;
        self.work_at_turn = self.store.work();
        self.store.begin_turn(now_millis, outside_bytes);
    }

    /// Whether this turn's commands have cost the store as much work as one turn may.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.store.work() - self.work_at_turn >= TURN_WORK_UNITS
    }

    /// Lets the store do what can wait, as far as this turn's bound on its work goes.
    pub fn housekeep(&mut self) {
        let done = self.store.work() - self.work_at_turn;
        self.store.housekeep(TURN_WORK_UNITS.saturating_sub(done) as usize);
    }

    /// The time that this turn started at, in milliseconds.
    #[inline]
    pub fn now_millis(&self) -> u64 {
        self.now_millis
    }

    /// The longest value that is taken, in bytes.
    #[inline]
    pub fn value_bytes_max(&self) -> usize {
        self.value_bytes_max
    }

    /// A new chunk for a value on its way in, unless there is no room for one and none can be made.
    pub fn chunk(&self) -> Option<Chunk> {
        let is_room = self.store.evicts() || self.store.room_bytes() >= CHUNK_BYTES;
        is_room.then(|| self.chunks.chunk())
    }

    /// How much of large values may be read before the store has made more room, in bytes.
    pub fn room_bytes(&self) -> usize {
        // What cannot make room says so at once.
        if self.store.evicts() { self.store.room_bytes() } else { usize::MAX }
    }

    /// Carries out `command`, whose key has `hash`, and counts it.
    #[inline]
    pub fn execute(&mut self, hash: KeyHash, command: &Command<'_>) -> Reply<'_> {
        let Executor { store, stats, .. } = self;
        match *command {
            Command::Get { key } => {
                stats.gets += 1;
                let Some(value) = store.get(hash, key) else {
                    return Reply::Missing;
                };
                stats.hits += 1;
                Reply::Value(value)
            }
            Command::Set { key, value } => {
                stats.sets += 1;
                match store.set(hash, key, value) {
                    Ok(()) => Reply::Done,
                    Err(refusal) => refuse(stats, refusal),
                }
            }
            Command::Add { key, delta } => {
                stats.adds += 1;
                match store.add(hash, key, delta) {
                    Ok(number) => Reply::Number(number),
                    Err(refusal) => refuse(stats, refusal),
                }
            }
            Command::Delete { key } => {
                stats.deletes += 1;
                if store.delete(hash, key) { Reply::Done } else { Reply::Missing }
            }
        }
    }
}

fn refuse(stats: &mut Stats, refusal: Refusal) -> Reply<'static> {
    stats.errors += 1;
    Reply::Refused(refusal)
}

impl fmt::Debug for Executor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Executor").field("stats", &self.stats).finish_non_exhaustive()
    }
}
