//! Sixteen stores, each behind a lock: what the multithreaded variants share, and the original's design. A key's hash,
//! which is computed once and outside of the locks, picks its shard. It knows neither a client nor a thread.
//!
//! The locks are `parking_lot`'s: one byte in user space unless threads contend. Each shard starts on its own cache
//! lines. A pipeline's commands are run shard by shard, so each shard is locked once per batch.

use gostash::chunk::Chunk;
use gostash::command::{Action, Command, Reply};
use gostash::execute::Executor;
use gostash::limits::{BATCH_COMMANDS, VALUE_SHARE};
use gostash::store::{Eviction, KeyHash, Settings, Store};
use parking_lot::{Mutex, MutexGuard};

/// How many stores there are, as many as the original had.
pub(crate) const SHARDS: usize = 16;

/// A store does its housekeeping after so many commands, or kilobytes of values.
const UNITS_BETWEEN_HOUSEKEEPING: usize = 256;

/// All keys, for any number of threads.
pub(crate) struct Shards {
    shards: Box<[Shard]>,
    /// Always empty. It hashes keys as all the others do, but needs no lock.
    hasher: Store,
    /// The length of the longest value that is accepted, in bytes.
    pub(crate) value_bytes_max: usize,
}

/// Aligned to two cache lines, since processors fetch lines in pairs.
#[repr(align(128))]
struct Shard(Mutex<Locked>);

struct Locked {
    executor: Executor,
    units: usize,
}

impl Shards {
    /// Empty stores that share `max_memory` bytes evenly. A value may have an eighth of a store's memory.
    pub(crate) fn new(max_memory: usize) -> Self {
        let memory_bytes = max_memory / SHARDS;
        let value_bytes_max = memory_bytes / VALUE_SHARE;
        let settings = || Settings { memory_bytes, eviction: Eviction::S3Fifo, default_ttl_millis: 0 };
        let hasher = Store::new(settings());
        let shard = |_| {
            let settings = settings();
            let executor = Executor::new(hasher.sibling(settings), value_bytes_max);
            Shard(Mutex::new(Locked { executor, units: 0 }))
        };
        Shards { shards: (0..SHARDS).map(shard).collect(), hasher, value_bytes_max }
    }

    /// The hash of a key, which picks its shard and finds it there.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        self.hasher.hash(key)
    }

    /// A chunk for a large value of a key with this hash.
    pub(crate) fn chunk(&self, hash: KeyHash) -> Option<Chunk> {
        self.lock(number(hash)).executor.store.chunk()
    }

    /// Executes commands shard by shard, in their order within a shard, and passes each reply to `answer` with its
    /// command's place. Each shard is locked once, and what its commands will touch is prefetched before they run.
    #[inline]
    pub(crate) fn execute(&self, commands: &mut [(KeyHash, Command<'_>)], mut answer: impl FnMut(usize, Reply<'_>)) {
        let mut wanted = [0_u64; SHARDS];
        for (place, (hash, _)) in commands.iter().enumerate() {
            wanted[number(*hash)] |= 1 << place;
        }
        for (number, wanted) in wanted.into_iter().enumerate().filter(|(_, wanted)| *wanted != 0) {
            let mut guard = self.lock(number);
            let locked = &mut *guard;
            let store = &mut locked.executor.store;
            places(wanted).for_each(|place| {
                let (hash, command) = &mut commands[place];
                *hash = store.prefetch_index(*hash, &command.action);
            });
            places(wanted).for_each(|place| store.prefetch_item(&mut commands[place].0));
            for place in places(wanted) {
                let (hash, command) = &commands[place];
                answer(place, locked.executor.execute(*hash, command));
                locked.count(command);
            }
        }
    }

    #[inline]
    fn lock(&self, number: usize) -> MutexGuard<'_, Locked> {
        self.shards[number].0.lock()
    }
}

impl Locked {
    #[inline]
    fn count(&mut self, command: &Command<'_>) {
        self.units += match command.action {
            Action::Set(value) => 1 + value.len() / 1024,
            _ => 1,
        };
        if self.units >= UNITS_BETWEEN_HOUSEKEEPING {
            self.units = 0;
            self.executor.begin_turn(0, 0);
            self.executor.housekeep();
        }
    }
}

/// The positions of the bits that are set.
#[inline]
fn places(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let place = bits.trailing_zeros();
        bits &= bits.wrapping_sub(1);
        (place < u64::BITS).then_some(place as usize)
    })
}

const _: () = assert!(BATCH_COMMANDS <= u64::BITS as usize);

/// The shard of a key.
#[inline]
fn number(hash: KeyHash) -> usize {
    hash.bits() as usize % SHARDS
}
