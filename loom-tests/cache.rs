//! The cache: invalidations against whatever can happen to a load at the same time.
//!
//! A *row* is what loads read, with relaxed accesses: that a load which begins after an invalidation sees what
//! was written before it must be the doing of the crate. The store is one of
//! which a look may miss the latest state (`src/cache/model.rs`); all the rest is the code that ships.

use std::{collections::HashMap, time::Duration};

use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};
use shardflight::cache::{ReadThrough, ReadThroughBuilder};

use crate::kit::{Hasher, KEY, check, pending};

type Cache = ReadThrough<u64, u64, (), Hasher>;

fn cache() -> Cache {
    ReadThrough::builder_with_hasher(Hasher::default()).build()
}

/// Its values are to be refreshed at once, but for an hour after that has failed.
fn cache_of_old_values() -> Cache {
    let builder: ReadThroughBuilder<u64, u64, (), _> =
        ReadThrough::builder_with_hasher(Hasher::default());
    builder.soft_ttl(Duration::ZERO).negative_ttl(Duration::from_secs(3_600)).build()
}

/// What is cached.
#[derive(Clone)]
struct Row(Arc<AtomicU64>);

impl Row {
    fn new(version: u64) -> Self {
        Self(Arc::new(AtomicU64::new(version)))
    }

    fn read(&self) -> Result<u64, ()> {
        Ok(self.0.load(Relaxed))
    }

    fn write(&self, version: u64) {
        self.0.store(version, Relaxed);
    }
}

fn get(cache: &Cache, row: &Row) -> u64 {
    cache.get_blocking(&KEY, || row.read()).unwrap()
}

fn spawn_get(cache: &Cache, row: &Row) -> thread::JoinHandle<u64> {
    let (cache, row) = (cache.clone(), row.clone());
    thread::spawn(move || get(&cache, &row))
}

/// A load stores its value while the key is invalidated; who looks then does not find it.
#[test]
fn an_invalidation_races_a_load_that_is_being_stored() {
    check(5, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        row.write(2);
        cache.invalidate(&KEY);
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        loading.join().unwrap();
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// A caller that comes after the invalidation joins no load of before.
#[test]
fn a_call_after_an_invalidation_races_a_load() {
    check(3, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        row.write(2);
        cache.invalidate(&KEY);
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_eq!(get(&cache, &row), 2);
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// A flight that finds the old value in the cache when it looks again is not there any more when the
/// invalidation has returned.
#[test]
fn an_invalidation_races_a_flight_that_looks_again() {
    check(4, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        cache.insert(&KEY, 1);
        row.write(2);
        cache.invalidate(&KEY);
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// What all have invalidated stays away, though the store keeps it.
#[test]
fn an_invalidation_of_all_races_a_load() {
    check(3, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        row.write(2);
        cache.invalidate_all();
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_eq!(get(&cache, &row), 2);
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// The same for a value that is there already, and a flight that finds it.
#[test]
fn an_invalidation_of_all_races_a_flight_that_looks_again() {
    check(3, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        cache.insert(&KEY, 1);
        row.write(2);
        cache.invalidate_all();
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// What a failed load falls back on is what is there, not what was there before the invalidation.
#[test]
fn an_invalidation_races_a_load_that_fails() {
    check(4, || {
        let cache = cache_of_old_values();
        cache.insert(&KEY, 1);
        let refreshing = {
            let cache = cache.clone();
            thread::spawn(move || cache.get_blocking(&KEY, || Err(())))
        };
        cache.invalidate(&KEY);
        assert_eq!(cache.get_if_present(&KEY), None, "it was inserted before");
        assert_ne!(cache.get_blocking(&KEY, || Ok(2)), Ok(1), "it was inserted before");
        refreshing.join().unwrap().unwrap_or_default();
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// An older load does not replace what was inserted, nor is it joined.
#[test]
fn an_insertion_races_a_load() {
    check(4, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        row.write(2);
        cache.insert(&KEY, 2);
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_eq!(get(&cache, &row), 2);
    });
}

/// An insertion is overtaken by a load which then fails, and so does the next: who comes later gets nothing that was
/// there before, neither from the cache nor from the second load.
#[test]
fn an_insertion_races_loads_that_fail() {
    check(4, || {
        let builder: ReadThroughBuilder<u64, u64, (), _> =
            ReadThrough::builder_with_hasher(Hasher::default());
        let cache = builder.soft_ttl(Duration::ZERO).build();
        cache.insert(&KEY, 1);
        let refreshing = {
            let cache = cache.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    cache.get_blocking(&KEY, || Err(())).unwrap_or_default();
                }
            })
        };
        cache.insert(&KEY, 2);
        assert_ne!(cache.get_blocking(&KEY, || Ok(3)), Ok(1), "it was inserted before");
        refreshing.join().unwrap();
    });
}

/// Two insertions at once: what was there before either of them is gone after each.
#[test]
fn two_insertions_race() {
    check(4, || {
        let cache = cache();
        cache.insert(&KEY, 1);
        let other = {
            let cache = cache.clone();
            thread::spawn(move || {
                cache.insert(&KEY, 2);
                assert_ne!(cache.get_if_present(&KEY), Some(1), "it was inserted before");
            })
        };
        cache.insert(&KEY, 3);
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was inserted before");
        other.join().unwrap();
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was inserted before");
        assert!(cache.is_idle());
    });
}

/// An insertion replaces a value, and a flight finds the one or the other. What is inserted is gone at once, so
/// that who comes later joins what the flight has found.
#[test]
fn an_insertion_races_a_flight_that_looks_again() {
    check(4, || {
        let builder: ReadThroughBuilder<u64, u64, (), _> =
            ReadThrough::builder_with_hasher(Hasher::default());
        let ttl_of = |_: &u64, value: &u64| (*value == 2).then_some(Duration::ZERO);
        let (cache, row) = (builder.time_to_live_of(ttl_of).build(), Row::new(2));
        let loading = spawn_get(&cache, &row);
        cache.insert(&KEY, 1);
        cache.insert(&KEY, 2);
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
    });
}

/// The floor does not sink again.
#[test]
fn two_invalidations_of_all_race() {
    check(4, || {
        let cache = cache();
        let other = {
            let cache = cache.clone();
            thread::spawn(move || cache.invalidate_all())
        };
        cache.insert(&KEY, 1);
        cache.invalidate_all();
        assert_eq!(cache.get_if_present(&KEY), None, "it was inserted before");
        other.join().unwrap();
        assert_eq!(cache.get_if_present(&KEY), None, "it was inserted before");
    });
}

/// An insertion that began before an invalidation does not outlive it.
#[test]
fn an_invalidation_races_an_insertion() {
    check(5, || {
        let (cache, row) = (cache(), Row::new(1));
        let inserting = {
            let (cache, row) = (cache.clone(), row.clone());
            thread::spawn(move || cache.insert(&KEY, row.read().unwrap()))
        };
        row.write(2);
        cache.invalidate(&KEY);
        let seen = cache.get_if_present(&KEY);
        inserting.join().unwrap();
        // The value was read before the insertion began, so either may be there, but it stays.
        let later = cache.get_if_present(&KEY);
        assert!(seen.is_none() || later == seen, "{seen:?}, then {later:?}");
    });
}

/// Two invalidate at once, each of its own write, while a load is under way: neither sees what was before its own.
#[test]
fn two_invalidations_race_a_load() {
    check(2, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = spawn_get(&cache, &row);
        let other = {
            let (cache, row) = (cache.clone(), row.clone());
            thread::spawn(move || {
                row.write(2);
                cache.invalidate(&KEY);
                assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
            })
        };
        row.write(2);
        cache.invalidate(&KEY);
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        other.join().unwrap();
        loading.join().unwrap();
        assert_eq!(get(&cache, &row), 2);
    });
}

/// The load's caller is gone, another takes over, and begins after the invalidation or not: what it stores is
/// seen only if it did.
#[test]
fn an_invalidation_races_a_load_that_is_taken_over() {
    check(2, || {
        let (cache, row) = (cache(), Row::new(1));
        let stuck = pending(cache.get(&KEY, std::future::pending()));
        let follower = spawn_get(&cache, &row);
        let invalidating = {
            let (cache, row) = (cache.clone(), row.clone());
            thread::spawn(move || {
                row.write(2);
                cache.invalidate(&KEY);
                assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
            })
        };
        drop(stuck);
        invalidating.join().unwrap();
        follower.join().unwrap();
        assert_eq!(get(&cache, &row), 2);
        assert_eq!(cache.loading(), 0, "G4");
        assert!(cache.is_idle());
    });
}

/// As the first, of a batch.
#[test]
fn an_invalidation_races_a_batch() {
    check(3, || {
        let (cache, row) = (cache(), Row::new(1));
        let loading = {
            let (cache, row) = (cache.clone(), row.clone());
            thread::spawn(move || {
                let load = |keys: Vec<u64>| {
                    let read = row.read();
                    async move { keys.into_iter().map(move |key| (key, read)) }
                };
                let found: HashMap<_, _> = block_on(cache.get_many([KEY], load));
                assert!(found[&KEY].is_ok());
            })
        };
        row.write(2);
        cache.invalidate(&KEY);
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
        assert_eq!(get(&cache, &row), 2);
        loading.join().unwrap();
        assert_ne!(cache.get_if_present(&KEY), Some(1), "it was loaded before");
    });
}

/// Two who miss at once load once, or the second finds what the first has stored.
#[test]
fn two_who_miss_load_once() {
    check(4, || {
        let (cache, loads) = (cache(), Row::new(0));
        let load = |loads: &Row| Ok(loads.0.fetch_add(1, Relaxed));
        let other = {
            let (cache, loads) = (cache.clone(), loads.clone());
            thread::spawn(move || cache.get_blocking(&KEY, || load(&loads)))
        };
        assert_eq!(cache.get_blocking(&KEY, || load(&loads)), Ok(0));
        assert_eq!(other.join().unwrap(), Ok(0));
    });
}
