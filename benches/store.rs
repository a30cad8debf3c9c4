//! The store alone, in process: what each operation costs on one key, which stays in the processor's nearest cache, and
//! on 100,000 keys in random order, which do not. Hashing the key and prefetching are included. Every result is
//! checked.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gostash::command::{Action, Value};
use gostash::store::{Eviction, KeyHash, Settings, Store};

const VALUE: &[u8] = b"thirty-two bytes of some value..";
const LONGER: &[u8] = b"thirty-two bytes of some value, and a few more..";

/// Keys of sixteen bytes, in an order that no hardware prefetcher guesses.
fn keys(count: usize, prefix: char) -> Vec<String> {
    let mut keys: Vec<_> = (0..count).map(|id| format!("{prefix}{id:015}")).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut keys);
    keys
}

fn store() -> Store {
    Store::new(Settings { memory_bytes: 256 << 20, eviction: Eviction::S3Fifo, default_ttl_millis: 0 })
}

/// The key's hash, after the prefetching that a batch does.
fn seen(store: &Store, key: &str) -> KeyHash {
    let mut hash = store.prefetch_index(store.hash(key.as_bytes()), &Action::Set(Value::default()));
    store.prefetch_item(&mut hash);
    hash
}

fn set(store: &mut Store, key: &str, value: &[u8]) -> bool {
    let hash = seen(store, key);
    store.set(hash, key.as_bytes(), Value::small(value)).is_ok()
}

fn get(store: &mut Store, key: &str) -> usize {
    let hash = seen(store, key);
    store.get(hash, key.as_bytes()).map_or(usize::MAX, |value| black_box(value).rest.len())
}

fn add(store: &mut Store, key: &str, delta: i64) -> bool {
    let hash = seen(store, key);
    store.add(hash, key.as_bytes(), delta).is_ok()
}

fn delete(store: &mut Store, key: &str) -> bool {
    let hash = seen(store, key);
    store.delete(hash, key.as_bytes())
}

fn rows(criterion: &mut Criterion) {
    for count in [1, 100_000] {
        let (keys, missing) = (keys(count, 'k'), keys(count, 'm'));
        let mut group = criterion.benchmark_group("store");
        group.throughput(Throughput::Elements(1));
        let mut row = |name: &str, prepare: &dyn Fn(&mut Store), step: &dyn Fn(&mut Store, usize) -> bool| {
            let mut store = store();
            prepare(&mut store);
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    next = if next + 1 == 2 * count { 0 } else { next + 1 };
                    assert!(step(&mut store, next));
                });
            });
        };
        // Steps count to twice the number of keys, so each key comes twice, and a write can alternate between the first
        // and the second time.
        let key = |step: usize| &keys[step % count];
        let fill = |store: &mut Store| assert!(keys.iter().all(|key| set(store, key, VALUE)));
        let count_up = |store: &mut Store| assert!(keys.iter().all(|key| set(store, key, b"1000000")));
        row("get hit", &fill, &|store, step| get(store, key(step)) == VALUE.len());
        row("get miss", &fill, &|store, step| get(store, &missing[step % count]) == usize::MAX);
        row("set same length", &fill, &|store, step| set(store, key(step), VALUE));
        row("set other length", &fill, &|store, step| set(store, key(step), if step < count { LONGER } else { VALUE }));
        row("add", &count_up, &|store, step| add(store, key(step), 1));
        row("set new, then delete", &|_| (), &|store, step| set(store, key(step), VALUE) && delete(store, key(step)));
        group.finish();
    }
}

criterion_group!(benches, rows);
criterion_main!(benches);
