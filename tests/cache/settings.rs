//! What moka is told, and a cache that has been configured already.

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use moka::{notification::RemovalCause, policy::EvictionPolicy, sync::Cache as Moka};
use shardflight::cache::{Configured, EarlyRefresh, ReadThrough, Settings};
use tokio::time::advance;

use crate::{
    common::{Polled, limited, on_paused_clock},
    kit::{Answer, at_once, builder, counted, get, looks, millis, secs, until, unwanted},
};

fn configured() -> Settings<u64, u64, &'static str> {
    Moka::builder()
}

fn made(settings: Settings<u64, u64, &'static str>) -> Configured<u64, u64, &'static str> {
    settings.build_with_hasher(ahash::RandomState::new())
}

/// A cache that holds nothing still shares loads, and answers.
#[test]
fn a_cache_without_room_still_shares_loads() {
    limited(|| {
        let (cache, stats) = counted(builder().max_capacity(0));
        let (land, value) = tokio::sync::oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, crate::kit::sent(value)));
        let mut follower = Polled::pending(cache.get(&1, unwanted()));
        land.send(Ok(1)).expect("it waits");
        assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(1), Ok(1)));
        cache.insert(&2, 2);
        cache.moka().run_pending_tasks();
        assert_eq!((cache.get_if_present(&1), cache.get_if_present(&2)), (None, None));
        assert_eq!(get(&cache, Ok(3)), Ok(3));
        let many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(key))));
        assert_eq!(at_once(cache.get_many([7, 8], many)).len(), 2);
        assert_eq!((stats.snapshot().loads, cache.loading()), (4, 0));
    });
}

/// No more is held than there is room for, and what is evicted is loaded again.
#[test]
fn what_is_evicted_is_loaded_again() {
    limited(|| {
        let (cache, stats) = counted(builder().max_capacity(10));
        (0..1_000).for_each(|key| cache.insert(&key, key));
        cache.moka().run_pending_tasks();
        assert_eq!(cache.moka().entry_count(), 10);
        let gone = (0..1_000).find(|key| cache.get_if_present(key).is_none()).expect("most are");
        assert_eq!(at_once(cache.get(&gone, ready(Ok(5)))), Ok(5));
        assert_eq!(stats.snapshot().loads, 1);
    });
}

/// Weigher, listener, policy, idle time and name reach moka.
#[test]
fn settings_reach_moka() {
    limited(|| {
        let removed = Arc::new(Mutex::new(Vec::new()));
        let listens = Arc::clone(&removed);
        let cache = builder()
            .max_capacity(10)
            .negative_ttl(secs(60))
            .settings(|moka| {
                moka.name("numbers")
                    .eviction_policy(EvictionPolicy::lru())
                    .weigher(|_, kept| kept.value().map_or(1, |value| *value as u32))
                    .eviction_listener(move |key, kept, cause| {
                        listens.lock().unwrap().push((*key, kept.value().copied(), cause));
                    })
            })
            .settings(|moka| moka.time_to_idle(millis(100)))
            .build();
        assert_eq!(cache.moka().name(), Some("numbers"));
        let policy = cache.moka().policy();
        assert_eq!((policy.max_capacity(), policy.time_to_idle()), (Some(10), Some(millis(100))));

        cache.insert(&1, 4);
        assert_eq!(at_once(cache.get(&2, ready(Err("down")))), Err("down"));
        cache.moka().run_pending_tasks();
        assert_eq!(cache.moka().weighted_size(), 5);
        cache.insert(&1, 5);
        cache.invalidate(&1);
        cache.moka().run_pending_tasks();
        let causes: Vec<_> = removed.lock().unwrap().drain(..).collect();
        let expected = [(1, Some(4), RemovalCause::Replaced), (1, Some(5), RemovalCause::Explicit)];
        assert_eq!(causes, expected);

        // By its idle time.
        let begun = Instant::now();
        cache.insert(&3, 1);
        until(|| {
            cache.moka().run_pending_tasks();
            removed.lock().unwrap().iter().any(|(key, ..)| *key == 3)
        });
        assert!(begun.elapsed() >= millis(100));
        assert_eq!(cache.get_if_present(&3), None);
    });
}

/// moka's own time to live holds, too, where the crate is told of none; then early refreshes go by it.
#[test]
fn a_time_to_live_of_mokas_settings_holds() {
    on_paused_clock(|| async {
        let cache = builder()
            .settings(|moka| moka.time_to_live(secs(100)))
            .early_refresh(EarlyRefresh::Jitter(secs(10)))
            .build();
        cache.insert(&1, 1);
        advance(secs(90) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        advance(secs(10)).await;
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        assert_eq!(cache.moka().policy().time_to_live(), Some(secs(100)));
    });
}

/// The builder's time to live is moka's, longer by what may answer errors.
#[test]
fn moka_is_told_how_long_it_has_to_keep_values() {
    limited(|| {
        let told = |cache: crate::kit::Cache| cache.moka().policy().time_to_live();
        assert_eq!(told(builder().build()), None);
        assert_eq!(told(builder().time_to_live(secs(5)).build()), Some(secs(5)));
        let lives = builder().time_to_live(secs(5)).stale_if_error(secs(3));
        assert_eq!(told(lives.build()), Some(secs(8)));
    });
}

/// Over a cache that is configured already: what it was told holds.
#[test]
fn what_a_configured_cache_was_told_holds() {
    limited(|| {
        let evicted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&evicted);
        let moka = made(configured().max_capacity(1).time_to_live(millis(100)).eviction_listener(
            move |_, _, cause| {
                assert_ne!(cause, RemovalCause::Replaced);
                count.fetch_add(1, SeqCst);
            },
        ));
        let cache = ReadThrough::over(moka.clone()).build();
        let begun = Instant::now();
        assert_eq!(get(&cache, Ok(7)), Ok(7));
        assert_eq!(moka.get(&1).expect("it is the same cache").value(), Some(&7));
        until(|| cache.get_if_present(&1).is_none());
        assert!(begun.elapsed() >= millis(100));
        (10..20).for_each(|key| cache.insert(&key, key));
        moka.run_pending_tasks();
        assert!(moka.entry_count() <= 1);
        assert!(evicted.load(SeqCst) >= 9);
    });
}

/// What such a cache cannot be told any more is seen to at each look, exactly.
#[test]
fn the_times_over_a_configured_cache_are_seen_to_at_each_look() {
    on_paused_clock(|| async {
        let lives = || ReadThrough::over(made(configured()));
        let stats = Arc::new(shardflight::Stats::default());
        let cache = lives().time_to_live(secs(10)).observer(Arc::clone(&stats)).build();
        cache.insert(&1, 1);
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        advance(millis(1)).await;
        assert_eq!(cache.get_if_present(&1), None);
        assert_eq!(cache.moka().iter().count(), 1, "moka has not been told");
        assert_eq!(at_once(cache.get(&1, ready(Err("down")))), Err("down"));
        assert_eq!(looks(&stats), [1, 0, 2]);

        let cache = lives().negative_ttl(secs(1)).build();
        assert_eq!(at_once(cache.get(&1, ready(Err("down")))), Err("down"));
        advance(secs(1) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Err("down"));
        advance(millis(1)).await;
        assert_eq!(at_once(cache.get(&1, ready(Ok(2)))), Ok(2));

        let cache = lives().time_to_live_of(|key, _| (*key == 1).then_some(secs(1))).build();
        cache.insert(&1, 1);
        cache.insert(&2, 2);
        advance(secs(1)).await;
        assert_eq!((cache.get_if_present(&1), cache.get_if_present(&2)), (None, Some(2)));

        let cache = lives().time_to_live(secs(5)).soft_ttl(secs(2)).stale_if_error(secs(3)).build();
        cache.insert(&1, 1);
        advance(secs(2)).await;
        assert_eq!(at_once(cache.get(&1, ready(Err("down")))), Ok(1));
        advance(secs(6) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, ready(Err("down")))), Ok(1));
        advance(millis(1)).await;
        assert_eq!(at_once(cache.get(&1, ready(Err("down")))), Err("down"));
    });
}

/// Its own time to live is what early refreshes go by.
#[test]
fn a_configured_time_to_live_is_known() {
    on_paused_clock(|| async {
        let moka = made(configured().time_to_live(secs(100)));
        let cache = ReadThrough::over(moka).early_refresh(EarlyRefresh::Jitter(secs(10))).build();
        cache.insert(&1, 1);
        advance(secs(90) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        advance(secs(10)).await;
        assert_eq!(at_once(cache.get(&1, ready(Ok(2)))), Ok(2));
    });
}

/// Invalidations are final over such a cache, too.
#[test]
fn invalidations_are_final_over_a_configured_cache() {
    limited(|| {
        let cache = ReadThrough::over(made(configured())).build();
        for all in [false, true] {
            let (land, value) = tokio::sync::oneshot::channel();
            let mut early = Polled::pending(cache.get(&1, crate::kit::sent::<Answer>(value)));
            match all {
                true => cache.invalidate_all(),
                false => cache.invalidate(&1),
            }
            land.send(Ok(1)).expect("it waits");
            assert_eq!(early.woken_value(), Ok(1));
            assert_eq!(cache.get_if_present(&1), None);
            assert_eq!(at_once(cache.get(&1, ready(Ok(2)))), Ok(2));
            cache.invalidate(&1);
        }
    });
}

/// A hasher of the caller's is used by moka and by the group.
#[test]
fn a_hasher_of_the_callers_is_used() {
    limited(|| {
        let cache: ReadThrough<String, u64, &str, std::hash::RandomState> =
            ReadThrough::builder_with_hasher(std::hash::RandomState::new()).max_capacity(5).build();
        assert_eq!(at_once(cache.get("a", ready(Ok(1)))), Ok(1));
        cache.insert("b", 2);
        cache.invalidate("a");
        assert_eq!((cache.get_if_present("a"), cache.get_if_present("b")), (None, Some(2)));
    });
}

/// `Debug` says what it is, without asking for `Debug` of keys and values, and without waiting.
#[test]
fn debug_tells_something() {
    #[derive(Clone, PartialEq, Eq, Hash)]
    struct Silent;

    limited(|| {
        let builder = ReadThrough::<Silent, Silent, Silent>::builder()
            .time_to_live(secs(5))
            .time_to_live_of(|_, _| None)
            .max_age(secs(7));
        let text = format!("{builder:?}");
        for part in ["time_to_live: Some(5s)", "has_time_to_live_of: true", "max_age: Some(7s)"] {
            assert!(text.contains(part), "{text}");
        }
        let cache = builder.build();
        cache.insert(&Silent, Silent);
        cache.moka().run_pending_tasks();
        cache.invalidate_all();
        let loads = Polled::pending(cache.get(&Silent, std::future::pending()));
        let text = format!("{cache:?}");
        assert!(text.contains("time_to_live: Some(5s)") && text.contains("len: 1"), "{text}");
        drop(loads);
    });
}
