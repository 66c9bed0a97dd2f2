//! The user's code, wherever it is called from, may use the cache: no lock is held meanwhile.

use std::{
    future::ready,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use shardflight::{Observer, cache::ReadThrough};

use crate::{
    common::limited,
    kit::{
        Cache, Key, Place, Value, Watched, assert_all_visited, at_once, disarm, get, trap, watched,
    },
};

/// All that does not wait for the key itself.
fn use_all(cache: &Watched) {
    assert_eq!(cache.get_blocking(&Key(8), || Ok(Value(8))), Ok(Value(8)));
    cache.insert(&Key(9), Value(9));
    cache.invalidate(&Key(9));
    let load = |keys: Vec<Key>| ready(keys.into_iter().map(|key| (key, Ok(Value(8)))));
    assert_eq!(at_once(cache.get_many([Key(8), Key(9)], load)).len(), 2);
    drop(cache.get_if_present(&Key(1)));
    cache.invalidate(&Key(1));
    cache.invalidate_all();
    cache.moka().run_pending_tasks();
    assert!(cache.loading() <= 1);
}

/// From each visit of each place while a key is loaded, found, replaced, invalidated and dropped. (`Eq` and `ToOwned`
/// of a key may run under a lock, as in every map.)
#[test]
fn user_code_may_use_the_cache_from_everywhere() {
    limited(|| {
        let places = [
            Place::HashKey,
            Place::DropKey,
            Place::CloneValue,
            Place::DropValue,
            Place::Weigh,
            Place::TtlOf,
            Place::Missed,
        ];
        for place in places {
            for visits in 0.. {
                let cache = watched();
                let used = cache.clone();
                trap(place, visits, move || use_all(&used));
                drop(at_once(cache.get(&Key(1), ready(Ok(Value(1))))));
                drop(at_once(cache.get(&Key(1), ready(Ok(Value(1))))));
                drop(cache.get_blocking(&Key(1), || Err("down")));
                cache.insert(&Key(1), Value(2));
                let load = |keys: Vec<Key>| ready(keys.into_iter().map(|key| (key, Ok(Value(1)))));
                drop(at_once(cache.get_many([Key(1), Key(2)], load)));
                cache.invalidate(&Key(1));
                let load = || {
                    cache.invalidate(&Key(1));
                    Ok(Value(3))
                };
                drop(cache.get_blocking(&Key(1), load));
                assert_eq!(cache.loading(), 0);
                if disarm() {
                    assert!(visits > 0, "{place:?} was never visited");
                    break;
                }
            }
        }
    });
}

/// The last copy of a value is dropped by moka: its destructor may use the cache, too.
#[test]
fn a_value_that_moka_drops_may_use_the_cache() {
    struct Uses(OnceLock<ReadThrough<u64, Arc<Uses>, ()>>, Arc<AtomicUsize>);
    impl Drop for Uses {
        fn drop(&mut self) {
            if let Some(cache) = self.0.get() {
                drop(cache.get_blocking(&8, || Err(())));
                cache.invalidate(&1);
                assert_eq!(cache.loading(), 0);
                self.1.fetch_add(1, SeqCst);
            }
        }
    }

    limited(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let cache: ReadThrough<u64, Arc<Uses>, ()> =
            ReadThrough::builder().max_capacity(10).build();
        for key in 0..200 {
            let uses = Uses(OnceLock::new(), Arc::clone(&dropped));
            assert!(uses.0.set(cache.clone()).is_ok());
            cache.insert(&key, Arc::new(uses));
        }
        crate::kit::until(|| {
            cache.insert(&0, Arc::new(Uses(OnceLock::new(), Arc::clone(&dropped))));
            cache.moka().run_pending_tasks();
            dropped.load(SeqCst) > 100
        });
    });
}

/// A listener may use the cache with other keys.
#[test]
fn a_listener_may_use_the_cache_with_other_keys() {
    limited(|| {
        let shared: Arc<OnceLock<Cache>> = Arc::default();
        let calls = Arc::new(AtomicUsize::new(0));
        let (uses, count) = (Arc::clone(&shared), Arc::clone(&calls));
        let cache: Cache = ReadThrough::builder()
            .settings(|moka| {
                moka.eviction_listener(move |key, _, _| {
                    if *key == 1 {
                        let cache = uses.get().expect("there from the beginning");
                        cache.insert(&8, 8);
                        assert_eq!(cache.get_blocking(&9, || Ok(9)), Ok(9));
                        cache.invalidate(&9);
                        assert_eq!(cache.get_if_present(&8), Some(8));
                        count.fetch_add(1, SeqCst);
                    }
                })
            })
            .build();
        assert!(shared.set(cache.clone()).is_ok());
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        cache.insert(&1, 2);
        cache.invalidate(&1);
        assert_eq!(calls.load(SeqCst), 2);
        assert_eq!(cache.get_if_present(&8), Some(8));
    });
}

/// An observer may use the cache at every event, with the key that is looked up if it does not wait.
#[test]
fn an_observer_may_use_the_cache() {
    #[derive(Default)]
    struct Curious {
        cache: OnceLock<Cache>,
        calls: AtomicUsize,
        done: AtomicUsize,
    }
    impl Curious {
        fn look(&self) {
            if self.calls.fetch_add(1, SeqCst).is_multiple_of(20) {
                let cache = self.cache.get().expect("there from the beginning");
                assert_eq!(cache.get_blocking(&8, || Ok(8)), Ok(8));
                cache.insert(&9, 9);
                cache.invalidate(&9);
                _ = cache.get_if_present(&1);
                assert!(cache.loading() <= 2);
                // Else the panic of an assertion would go unnoticed.
                self.done.fetch_add(1, SeqCst);
            }
        }
    }
    impl Observer for Curious {
        fn hit(&self) {
            self.look();
        }
        fn stale_hit(&self) {
            self.look();
        }
        fn missed(&self) {
            self.look();
        }
        fn refreshing(&self) {
            self.look();
        }
        fn loaded(&self, _: Duration) {
            self.look();
        }
        fn load_failed(&self, _: Duration) {
            self.look();
        }
    }

    limited(|| {
        for offset in 0..20 {
            let curious = Arc::new(Curious::default());
            curious.calls.store(offset, SeqCst);
            let cache: Cache = ReadThrough::builder()
                .soft_ttl(Duration::ZERO)
                .observer(Arc::clone(&curious))
                .build();
            assert!(curious.cache.set(cache.clone()).is_ok());
            assert_eq!(get(&cache, Err("down")), Err("down"));
            assert_eq!(get(&cache, Ok(1)), Ok(1));
            assert_eq!(get(&cache, Err("down")), Ok(1));
            assert_eq!(cache.get_blocking(&1, || Ok(2)), Ok(2));
            assert_eq!(cache.get_if_present(&1), Some(2));
            let calls = curious.calls.load(SeqCst) - offset;
            assert!(calls >= 10, "{calls}");
            let begun = (offset..offset + calls).filter(|i| i % 20 == 0).count();
            assert_eq!((curious.done.load(SeqCst), cache.loading()), (begun, 0));
        }
    });
}

/// An observer that panics at every event: no call notices.
#[test]
fn an_observer_that_panics_changes_nothing() {
    struct Panics;
    impl Observer for Panics {
        fn hit(&self) {
            panic!("hit");
        }
        fn stale_hit(&self) {
            panic!("stale hit");
        }
        fn missed(&self) {
            panic!("missed");
        }
        fn refreshing(&self) {
            panic!("refreshing");
        }
        fn loaded(&self, _: Duration) {
            panic!("loaded");
        }
        fn load_failed(&self, _: Duration) {
            panic!("load failed");
        }
    }

    limited(|| {
        let cache: Cache = ReadThrough::builder().soft_ttl(Duration::ZERO).observer(Panics).build();
        assert_eq!(get(&cache, Err("down")), Err("down"));
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        assert_eq!(get(&cache, Err("down")), Ok(1));
        assert_eq!(cache.get_if_present(&1), Some(1));
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        assert_eq!(cache.loading(), 0);
        assert_all_visited();
    });
}
