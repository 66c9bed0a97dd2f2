//! Old values that are refreshed: who waits, who does not, how often it is tried, and how early.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use shardflight::cache::EarlyRefresh;
use tokio::{
    sync::oneshot,
    task::yield_now,
    time::{Instant, advance, sleep},
};

use crate::{
    common::{Polled, limited, on_paused_clock, panic_text},
    kit::{Answer, after, at_once, builder, counted, get, looks, millis, secs, sent, unwanted},
};

/// The soft end is exact; then one caller refreshes and waits, and all others get the old value at once.
#[test]
fn one_caller_refreshes_and_the_others_do_not_wait() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)));
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        assert_eq!(looks(&stats), [1, 0, 1]);
        advance(millis(1)).await;
        let (land, value) = oneshot::channel();
        let mut refresher = Polled::pending(cache.get(&1, sent(value)));
        assert_eq!(stats.snapshot().refreshes, 1);
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        assert_eq!(cache.get_blocking(&1, || unreachable!("it is being refreshed")), Ok(1));
        assert_eq!(at_once(cache.get_spawning(&1, unwanted())), Ok(1));
        let many = cache.get_many([1], |_| async { unreachable!("as above") as [_; 0] });
        assert_eq!(at_once(many)[&1], Ok(1));
        assert_eq!(cache.get_if_present(&1), Some(1));
        assert_eq!(looks(&stats), [1, 5, 1]);
        land.send(Ok(2)).expect("it waits");
        assert_eq!(refresher.woken_value(), Ok(2));
        assert_eq!(looks(&stats), [1, 5, 2], "who waited has missed");
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(2));
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(2), "its time begins anew");
        advance(millis(1)).await;
        assert_eq!(cache.get_blocking(&1, || Ok(3)), Ok(3), "a thread refreshes, too");
        assert_eq!((stats.snapshot().refreshes, stats.snapshot().loads), (2, 3));
    });
}

/// A value that says itself when it is to be refreshed: sooner or later than others, never, or at once.
#[test]
fn a_value_has_a_soft_end_of_its_own() {
    on_paused_clock(|| async {
        let own = |_: &u64, value: &u64| match value {
            0 => None,
            9 => Some(Duration::MAX),
            seconds => Some(secs(*seconds - 1)),
        };
        let (cache, _) = counted(builder().soft_ttl(secs(10)).soft_ttl_of(own));
        for (value, end) in [(0, Some(10)), (6, Some(5)), (21, Some(20)), (9, None), (1, Some(0))] {
            cache.insert(&1, value);
            if let Some(end) = end.filter(|end| *end > 0) {
                advance(secs(end) - millis(1)).await;
                assert_eq!(at_once(cache.get(&1, unwanted())), Ok(value));
                advance(millis(1)).await;
            }
            match end {
                Some(_) => assert_eq!(get(&cache, Ok(50)), Ok(50), "{value}"),
                None => {
                    advance(secs(1_000_000)).await;
                    assert_eq!(at_once(cache.get(&1, unwanted())), Ok(value));
                }
            }
        }
    });
}

/// Another has begun to refresh between the look and the call: who loses that race gets the old value at once.
#[test]
fn who_loses_the_race_to_refresh_does_not_wait() {
    use std::{cell::RefCell, rc::Rc};

    use crate::kit::{Key, Place, Value, Watched, assert_all_visited, trap, watched_builder};

    type Call = fn(&Watched) -> Result<Value, &'static str>;
    let calls: [Call; 2] = [
        |cache| at_once(cache.get(&Key(1), unwanted())),
        |cache| cache.get_blocking(&Key(1), || unreachable!("another refreshes it")),
    ];
    limited(move || {
        for call in calls {
            let stats = Arc::new(shardflight::Stats::default());
            let lives = watched_builder().soft_ttl(Duration::ZERO);
            let cache = lives.observer(Arc::clone(&stats)).build();
            cache.insert(&Key(1), Value(1));
            let quicker = Rc::new(RefCell::new(None));
            let (begun, other) = (Rc::clone(&quicker), cache.clone());
            // After those of the look, and of whether it is in flight.
            trap(Place::HashKey, 2, move || {
                let refresh = async move { other.get(&Key(1), std::future::pending()).await };
                *begun.borrow_mut() = Some(Polled::pending(refresh));
            });
            assert_eq!(call(&cache), Ok(Value(1)));
            assert_all_visited();
            assert_eq!((cache.loading(), looks(&stats)), (1, [0, 1, 0]));
            drop(quicker.take());
            assert_eq!(cache.loading(), 0);
        }
    });
}

/// The one that refreshes goes: the old value stays, and the next one refreshes.
#[test]
fn a_refresh_that_is_cancelled_is_begun_again() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)));
        cache.insert(&1, 1);
        advance(secs(10)).await;
        drop(Polled::pending(cache.get(&1, std::future::pending())));
        assert_eq!((cache.loading(), cache.get_if_present(&1)), (0, Some(1)));
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        assert_eq!((stats.snapshot().refreshes, stats.snapshot().loads), (2, 1));
    });
}

/// Nobody waits, and there is one task.
#[test]
fn a_spawned_refresh_makes_nobody_wait() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)));
        cache.insert(&1, 1);
        advance(secs(10)).await;
        let loads = Arc::new(AtomicUsize::new(0));
        for _ in 0..100 {
            let loads = Arc::clone(&loads);
            let load = async move {
                loads.fetch_add(1, SeqCst);
                after(secs(1), Ok(2)).await
            };
            assert_eq!(at_once(cache.get_spawning(&1, load)), Ok(1));
        }
        assert_eq!(looks(&stats), [0, 100, 0]);
        sleep(millis(999)).await;
        assert_eq!(cache.get_if_present(&1), Some(1));
        sleep(millis(1)).await;
        yield_now().await;
        assert_eq!((cache.get_if_present(&1), cache.loading()), (Some(2), 0));
        assert_eq!(loads.load(SeqCst), 1);
        let counted = stats.snapshot();
        assert_eq!((counted.refreshes, counted.loads, counted.led), (1, 1, 1));
    });
}

/// A refresh goes on though the caller that has begun it is gone; what is not there yet is loaded by the caller.
#[test]
fn a_spawned_refresh_outlives_its_caller_and_a_load_does_not() {
    on_paused_clock(|| async {
        let cache = builder().soft_ttl(secs(10)).build();
        drop(Polled::pending(cache.get_spawning(&1, after(secs(1), Ok(1)))));
        sleep(secs(2)).await;
        assert_eq!((cache.get_if_present(&1), cache.loading()), (None, 0));
        cache.insert(&1, 1);
        sleep(secs(10)).await;
        assert_eq!(at_once(cache.get_spawning(&1, after(secs(1), Ok(2)))), Ok(1));
        sleep(secs(2)).await;
        assert_eq!(cache.get_if_present(&1), Some(2));
    });
}

/// Beyond the hard end callers wait for a refresh that is under way.
#[test]
fn who_comes_after_the_hard_end_waits_for_the_refresh() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)).time_to_live(secs(20)));
        cache.insert(&1, 1);
        advance(secs(19)).await;
        let (land, value) = oneshot::channel();
        assert_eq!(at_once(cache.get_spawning(&1, sent(value))), Ok(1));
        yield_now().await;
        advance(secs(1)).await;
        let mut waits = Polled::pending(cache.get(&1, unwanted()));
        land.send(Ok(2)).expect("it waits");
        yield_now().await;
        assert_eq!(waits.woken_value(), Ok(2));
        assert_eq!(stats.snapshot().loads, 1);
    });
}

/// A refresh that fails leaves the old value until its hard end; each look tries again.
#[test]
fn a_failing_refresh_keeps_the_old_value_to_its_hard_end() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)).time_to_live(secs(20)));
        cache.insert(&1, 1);
        advance(secs(10)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        assert_eq!(get(&cache, Err("down")), Ok(1));
        assert_eq!(at_once(cache.get_spawning(&1, ready(Err("down")))), Ok(1));
        yield_now().await;
        let many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Err("down"))));
        assert_eq!(at_once(cache.get_many([1], many))[&1], Ok(1));
        assert_eq!((stats.snapshot().failed_loads, stats.snapshot().refreshes), (4, 4));
        assert_eq!(looks(&stats), [0, 1, 3]);
        advance(secs(10) - millis(1)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Err("down")), Err("down"));
    });
}

/// With a `negative_ttl` it is not tried again for that time, though not beyond the hard end.
#[test]
fn a_failing_refresh_is_put_off_for_the_negative_ttl() {
    on_paused_clock(|| async {
        let lives = builder().soft_ttl(secs(10)).time_to_live(secs(20)).negative_ttl(secs(3));
        let (cache, stats) = counted(lives);
        cache.insert(&1, 1);
        advance(secs(10)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        advance(secs(3) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        assert_eq!(at_once(cache.get_spawning(&1, unwanted())), Ok(1));
        let many = cache.get_many([1], |_| async { unreachable!("it is put off") as [_; 0] });
        assert_eq!(at_once(many)[&1], Ok(1));
        yield_now().await;
        assert_eq!(looks(&stats), [0, 3, 1]);
        advance(millis(1)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        assert_eq!(stats.snapshot().refreshes, 2);
        advance(secs(6)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        advance(secs(1) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Err("gone")), Err("gone"));
    });
}

/// A value that was put off, and then refreshed, is as good as any.
#[test]
fn a_refresh_that_succeeds_ends_the_pause() {
    on_paused_clock(|| async {
        let cache = builder().soft_ttl(secs(10)).negative_ttl(secs(3)).build();
        cache.insert(&1, 1);
        advance(secs(10)).await;
        assert_eq!(get(&cache, Err("down")), Ok(1));
        advance(secs(3)).await;
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(2));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Ok(3)), Ok(3));
    });
}

/// A refresh that panics: in its caller for `get`, in a task of its own for `get_spawning`. The old value stays, and
/// the next look tries again.
#[test]
fn a_panicking_refresh_leaves_the_old_value() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)));
        cache.insert(&1, 1);
        advance(secs(10)).await;
        assert_eq!(panic_text(|| at_once(cache.get(&1, async { panic!("broken") }))), "broken");
        assert_eq!(panic_text(|| cache.get_blocking(&1, || panic!("broken"))), "broken");
        assert_eq!(at_once(cache.get_spawning(&1, async { panic!("broken") })), Ok(1));
        yield_now().await;
        assert_eq!((cache.get_if_present(&1), cache.loading()), (Some(1), 0));
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        assert_eq!((stats.snapshot().refreshes, stats.snapshot().panicked), (4, 3));
    });
}

/// A soft end at or beyond the hard one never comes.
#[test]
fn a_soft_end_beyond_the_hard_one_changes_nothing() {
    on_paused_clock(|| async {
        for soft in [secs(10), secs(11), Duration::MAX] {
            let (cache, stats) = counted(builder().soft_ttl(soft).time_to_live(secs(10)));
            cache.insert(&1, 1);
            advance(secs(10) - millis(1)).await;
            assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
            advance(millis(1)).await;
            assert_eq!(cache.get_if_present(&1), None);
            assert_eq!(get(&cache, Err("down")), Err("down"));
            assert_eq!((looks(&stats), stats.snapshot().refreshes), ([1, 0, 2], 0));
        }
    });
}

/// A refresh that asks for its own key gets the old value; a load that does panics.
#[test]
fn a_refresh_may_ask_for_its_own_key() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().soft_ttl(secs(10)));
        cache.insert(&1, 1);
        advance(secs(10)).await;
        let load = async {
            let old = cache.get(&1, unwanted()).await?;
            let same = cache.get_blocking(&1, || unreachable!("it is there"))?;
            Ok(old + same)
        };
        assert_eq!(at_once(cache.get(&1, load)), Ok(2));
        assert_eq!(looks(&stats), [0, 2, 1]);
    });
}

/// Outside of a runtime a refresh cannot be spawned; everything else works.
#[test]
fn a_refresh_is_spawned_only_inside_of_a_runtime() {
    limited(|| {
        let cache = builder().soft_ttl(Duration::ZERO).build();
        assert_eq!(at_once(cache.get_spawning(&1, ready(Ok(1)))), Ok(1));
        let text = panic_text(|| at_once(cache.get_spawning(&1, unwanted())));
        assert!(text.contains("runtime"), "{text}");
        assert_eq!((cache.get_if_present(&1), cache.loading()), (Some(1), 0));
    });
}

/// When its runtime goes down a refresh is dropped, and the next look begins another.
#[test]
fn a_refresh_goes_with_its_runtime() {
    limited(|| {
        let (cache, stats) = counted(builder().soft_ttl(Duration::ZERO));
        cache.insert(&1, 1);
        let runtime = crate::common::multi_thread();
        let begun = runtime.block_on(cache.get_spawning(&1, std::future::pending()));
        assert_eq!((begun, cache.loading()), (Ok(1), 1));
        drop(runtime);
        assert_eq!((cache.loading(), cache.get_if_present(&1)), (0, Some(1)));
        assert_eq!(get(&cache, Ok(2)), Ok(2));
        assert_eq!(stats.snapshot().loads, 1);
    });
}

/// Jitter: each value at a moment of its own in its window before the soft end, or the hard one, and never outside.
#[test]
fn jitter_spreads_refreshes_over_its_window() {
    on_paused_clock(|| async {
        const KEYS: u64 = 200;
        for (soft, hard) in [(Some(60), None), (None, Some(60)), (Some(60), Some(90))] {
            let mut lives = builder().early_refresh(EarlyRefresh::Jitter(secs(10)));
            lives = soft.into_iter().fold(lives, |lives, ttl| lives.soft_ttl(secs(ttl)));
            lives = hard.into_iter().fold(lives, |lives, ttl| lives.time_to_live(secs(ttl)));
            let (cache, stats) = counted(lives);
            (0..KEYS).for_each(|key| cache.insert(&key, 1));
            advance(secs(50) - millis(1)).await;
            // What has been refreshed has a new time: none is counted twice.
            let mut before = 0;
            let mut begun_now = || {
                (0..KEYS).for_each(|key| assert_eq!(at_once(cache.get(&key, ready(Ok(1)))), Ok(1)));
                let loads = stats.snapshot().loads;
                loads - std::mem::replace(&mut before, loads)
            };
            assert_eq!(begun_now(), 0, "too early");
            let mut begun = Vec::new();
            for _ in 0..10 {
                advance(secs(1)).await;
                begun.push(begun_now());
            }
            // Twenty on average.
            assert!(begun.iter().all(|n| (2..60).contains(n)), "{begun:?}");
            advance(millis(1)).await;
            assert_eq!(begun.iter().sum::<u64>() + begun_now(), KEYS, "{begun:?}");
        }
    });
}

/// XFetch: a look at so long before the end refreshes with the probability that the paper says, which is one half at
/// `took * beta * ln 2`.
#[test]
fn xfetch_refreshes_the_likelier_the_nearer_the_end() {
    on_paused_clock(|| async {
        const KEYS: u64 = 1_000;
        for (beta, left) in [(1.0, 6_931), (2.0, 13_863), (0.5, 3_466)] {
            let lives = builder().time_to_live(secs(100));
            let (cache, stats) = counted(lives.early_refresh(EarlyRefresh::XFetch { beta }));
            let begun = Instant::now();
            join_all((0..KEYS).map(|key| {
                let cache = cache.clone();
                async move { cache.get(&key, after(secs(10), Ok(key))).await }
            }))
            .await;
            assert_eq!(begun.elapsed(), secs(10));
            advance(secs(100) - millis(left)).await;
            for key in 0..KEYS {
                assert_eq!(at_once(cache.get(&key, ready(Ok(key)))), Ok(key));
            }
            // 500 on average, and never six standard deviations from it.
            let refreshed = stats.snapshot().refreshes;
            assert!((400..600).contains(&refreshed), "{refreshed} with {beta}");
            assert_eq!(looks(&stats), [KEYS - refreshed, 0, KEYS + refreshed]);
        }
    });
}

/// Values that took no time, and a `beta` that makes no sense, are never early, and nothing panics.
#[test]
fn xfetch_is_never_early_without_a_reason() {
    on_paused_clock(|| async {
        for (beta, took) in [
            (1.0, 0),
            (f64::INFINITY, 0),
            (0.0, 10),
            (-0.0, 10),
            (-1.0, 10),
            (f64::NEG_INFINITY, 10),
            (f64::NAN, 10),
        ] {
            let lives = builder().time_to_live(secs(100));
            let cache = lives.early_refresh(EarlyRefresh::XFetch { beta }).build();
            assert_eq!(cache.get(&1, after(secs(took), Ok(1))).await, Ok(1));
            advance(secs(100) - millis(1)).await;
            for _ in 0..100 {
                assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1), "{beta} {took}");
            }
            advance(millis(1)).await;
            assert_eq!(cache.get_if_present(&1), None);
        }
        // This one is always early.
        let lives = builder().time_to_live(secs(100));
        let cache = lives.early_refresh(EarlyRefresh::XFetch { beta: f64::INFINITY }).build();
        assert_eq!(cache.get(&1, after(secs(1), Ok(1))).await, Ok(1));
        let loads: Answer = at_once(cache.get(&1, ready(Ok(2))));
        assert_eq!(loads, Ok(2));
    });
}

/// An early refresh that fails is put off like any.
#[test]
fn an_early_refresh_that_fails_is_put_off() {
    on_paused_clock(|| async {
        for _ in 0..20 {
            let lives = builder().time_to_live(secs(1_000)).negative_ttl(secs(1));
            let early = EarlyRefresh::XFetch { beta: 1.0 };
            let (cache, stats) = counted(lives.early_refresh(early));
            assert_eq!(cache.get(&1, after(secs(100), Ok(1))).await, Ok(1));
            advance(secs(900)).await;
            // Somebody is early before long.
            while stats.snapshot().failed_loads == 0 {
                assert_eq!(get(&cache, Err("down")), Ok(1));
            }
            advance(millis(999)).await;
            for _ in 0..20 {
                assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
            }
        }
    });
}

/// Without an end nothing is early.
#[test]
fn values_without_an_end_are_not_refreshed_early() {
    on_paused_clock(|| async {
        for early in [EarlyRefresh::Jitter(Duration::MAX), EarlyRefresh::XFetch { beta: 1e300 }] {
            let cache = builder().early_refresh(early).build();
            assert_eq!(cache.get(&1, after(secs(10), Ok(1))).await, Ok(1));
            advance(secs(1_000_000)).await;
            assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1), "{early:?}");
        }
    });
}
