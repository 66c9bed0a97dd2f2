//! How long values are good for: one time for all, one for each, and times of any length.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use shardflight::cache::{EarlyRefresh, ReadThrough};
use tokio::time::advance;

use crate::{
    common::{limited, on_paused_clock},
    kit::{at_once, builder, get, millis, secs, until, unwanted},
};

/// What moka sees to alone, by its own clock: a value goes when its time is over, and not before.
#[test]
fn values_go_at_the_end_of_their_time_to_live() {
    limited(|| {
        let ttl = millis(100);
        // moka's own time to live, and with the `negative_ttl` its `expire_after`.
        for builder in [builder(), builder().negative_ttl(secs(60))] {
            let cache = builder.time_to_live(ttl).build();
            for loaded in [true, false] {
                let begun = Instant::now();
                match loaded {
                    true => assert_eq!(get(&cache, Ok(1)), Ok(1)),
                    false => cache.insert(&1, 1),
                }
                until(|| cache.get_if_present(&1).is_none());
                assert!(begun.elapsed() >= ttl, "{:?}", begun.elapsed());
            }
            assert_eq!(get(&cache, Ok(2)), Ok(2));
        }
    });
}

/// The crate's own dates are exact; the time begins when a value has been loaded, not when its load began.
#[test]
fn the_time_begins_when_a_load_has_returned() {
    on_paused_clock(|| async {
        let cache = builder().time_to_live(secs(10)).stale_if_error(secs(1)).build();
        assert_eq!(cache.get(&1, crate::kit::after(secs(5), Ok(1))).await, Ok(1));
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Ok(2)), Ok(2));
    });
}

/// Values say themselves how long they are good for, shorter or longer than the others; those that do not are good for
/// the time to live.
#[test]
fn values_have_times_of_their_own() {
    on_paused_clock(|| async {
        // With `stale_if_error` all are dated by the crate.
        let cache = builder()
            .time_to_live(secs(10))
            .stale_if_error(Duration::ZERO)
            .time_to_live_of(|key, value| {
                assert_eq!(*key + 100, *value);
                (*key > 0).then(|| secs(*key))
            })
            .build();
        let there = || [0, 5, 20].map(|key| cache.get_if_present(&key).is_some());
        for key in [0, 5, 20] {
            assert!(at_once(cache.get(&key, ready(Ok(key + 100)))).is_ok());
        }
        let mut now = [true; 3];
        for (seconds, then) in
            [(5, [true, false, true]), (5, [false, false, true]), (10, [false, false, false])]
        {
            advance(secs(seconds) - millis(1)).await;
            assert_eq!(there(), now);
            advance(millis(1)).await;
            assert_eq!(there(), then);
            now = then;
        }
    });
}

/// Each exactly; an own time holds for inserted values, for batches, and where no other time is set.
#[test]
fn own_times_are_exact() {
    on_paused_clock(|| async {
        let cache = builder().time_to_live_of(|key, _| Some(secs(*key))).build();
        let many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(1))));
        assert_eq!(at_once(cache.get_many([3, 6], many)).len(), 2);
        cache.insert(&9, 1);
        for key in [3, 6, 9] {
            advance(secs(3) - millis(1)).await;
            assert_eq!(cache.get_if_present(&key), Some(1), "{key}");
            advance(millis(1)).await;
            assert_eq!(cache.get_if_present(&key), None, "{key}");
        }
    });
}

/// A value is asked once, when it is stored, and an error never.
#[test]
fn a_value_is_asked_for_its_time_once() {
    on_paused_clock(|| async {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let ttl_of = move |_: &u64, _: &u64| {
            count.fetch_add(1, SeqCst);
            Some(secs(1))
        };
        let cache = builder().time_to_live_of(ttl_of).negative_ttl(secs(1)).build();
        assert_eq!(get(&cache, Err("down")), Err("down"));
        assert_eq!(asked.load(SeqCst), 0);
        advance(secs(1)).await;
        for _ in 0..5 {
            assert_eq!(get(&cache, Ok(1)), Ok(1));
        }
        assert_eq!(asked.load(SeqCst), 1);
    });
}

/// An own time moves the hard end alone: the soft one stays, and what may answer errors does so from then on.
#[test]
fn an_own_time_goes_with_the_other_settings() {
    on_paused_clock(|| async {
        let cache = builder()
            .time_to_live_of(|key, _| Some(secs(*key)))
            .soft_ttl(secs(10))
            .stale_if_error(secs(5))
            .build();
        cache.insert(&20, 1);
        cache.insert(&7, 1);
        advance(secs(7)).await;
        assert_eq!(at_once(cache.get(&7, ready(Err("down")))), Ok(1));
        assert_eq!(cache.get_if_present(&7), None);
        advance(secs(5)).await;
        assert_eq!(at_once(cache.get(&7, ready(Err("down")))), Err("down"));
        assert_eq!(at_once(cache.get(&20, ready(Ok(2)))), Ok(2), "it is due");
    });
}

/// moka is told of times of the values' own, by its own clock: it does not keep what nobody can get any more.
#[test]
fn moka_drops_values_at_the_end_of_their_own_times() {
    limited(|| {
        let own = |_: &u64, value: &u64| (*value > 0).then(|| millis(*value));
        let cache = builder().time_to_live_of(own).build();
        cache.insert(&1, 50);
        cache.insert(&2, 0);
        // An update moves the end.
        cache.insert(&3, 50);
        cache.insert(&3, 3_600_000);
        let held = || {
            cache.moka().run_pending_tasks();
            cache.moka().entry_count()
        };
        assert!(held() >= 2);
        until(|| held() == 2);
        assert_eq!(cache.get_if_present(&2), Some(0));
        assert_eq!(cache.get_if_present(&3), Some(3_600_000));
    });
}

/// Nor errors.
#[test]
fn moka_drops_errors_at_the_end_of_their_time() {
    limited(|| {
        let cache = builder().negative_ttl(millis(50)).build();
        assert_eq!(get(&cache, Err("down")), Err("down"));
        until(|| {
            cache.moka().run_pending_tasks();
            cache.moka().entry_count() == 0
        });
    });
}

/// moka keeps an expired value for as long as it may answer errors, and an error for its own time.
#[test]
fn moka_keeps_what_may_still_be_used() {
    limited(|| {
        for own in [false, true] {
            let lives = builder().stale_if_error(secs(3_600));
            let lives = match own {
                false => lives.time_to_live(Duration::ZERO),
                true => lives.time_to_live_of(|_, _| Some(Duration::ZERO)),
            };
            let cache = lives.build();
            cache.insert(&1, 1);
            cache.moka().run_pending_tasks();
            assert_eq!(cache.get_if_present(&1), None);
            assert_eq!(get(&cache, Err("down")), Ok(1), "{own}");
        }
    });
}

/// No time is too long or too short: of every setting, alone and with all others.
#[test]
fn no_time_is_too_long_or_too_short() {
    on_paused_clock(|| async {
        const TIMES: [Option<Duration>; 5] = [
            None,
            Some(Duration::ZERO),
            Some(Duration::from_nanos(1)),
            Some(Duration::from_secs(u64::MAX / 1_000_000_000)),
            Some(Duration::MAX),
        ];
        let early = [
            None,
            Some(EarlyRefresh::Jitter(Duration::ZERO)),
            Some(EarlyRefresh::Jitter(Duration::MAX)),
            Some(EarlyRefresh::XFetch { beta: f64::INFINITY }),
        ];
        let number = TIMES.len();
        for i in 0..number.pow(5) {
            let time = |n: u32| TIMES[i / number.pow(n) % number];
            let mut lives = builder();
            lives = time(0).into_iter().fold(lives, |lives, time| lives.time_to_live(time));
            lives = time(1).into_iter().fold(lives, |lives, time| lives.soft_ttl(time));
            lives = time(2).into_iter().fold(lives, |lives, time| lives.stale_if_error(time));
            lives = time(3).into_iter().fold(lives, |lives, time| lives.negative_ttl(time));
            if let Some(time) = time(4) {
                lives = lives.time_to_live_of(move |_, _| Some(time)).max_age(time);
            }
            if let Some(early) = early[i % early.len()] {
                lives = lives.early_refresh(early);
            }
            let cache = lives.build();
            cache.insert(&1, 1);
            let answer = get(&cache, Ok(2));
            assert!(matches!(answer, Ok(1 | 2)), "{answer:?}");
            for _ in 0..2 {
                let answer = get(&cache, Err("down"));
                assert!(matches!(answer, Ok(1 | 2) | Err("down")), "{answer:?}");
                let answer = cache.get_blocking(&2, || Err("down"));
                assert_eq!(answer, Err("down"));
            }
            assert_eq!(cache.loading(), 0);
        }
    });
}

/// What lasts for ever is there after a century.
#[test]
fn the_longest_times_do_not_end() {
    on_paused_clock(|| async {
        let cache = builder()
            .time_to_live(Duration::MAX)
            .soft_ttl(Duration::MAX)
            .negative_ttl(Duration::MAX)
            .build();
        let other = builder().time_to_live(secs(1)).time_to_live_of(|_, _| Some(Duration::MAX));
        let other = other.build();
        cache.insert(&1, 1);
        other.insert(&1, 1);
        assert_eq!(at_once(cache.get(&2, ready(Err("down")))), Err("down"));
        advance(secs(100 * 365 * 24 * 60 * 60)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        assert_eq!(at_once(other.get(&1, unwanted())), Ok(1));
        assert_eq!(at_once(cache.get(&2, unwanted())), Err("down"));
    });
}

/// A time of zero means that nothing is found again; those who overlap still share.
#[test]
fn nothing_is_found_that_lives_for_no_time() {
    limited(|| {
        for lives in [
            builder().time_to_live(Duration::ZERO),
            builder().time_to_live(Duration::ZERO).stale_if_error(Duration::ZERO),
            builder().time_to_live(Duration::ZERO).negative_ttl(Duration::ZERO),
            builder().time_to_live_of(|_, _| Some(Duration::ZERO)),
        ] {
            let cache = lives.build();
            assert_eq!(get(&cache, Ok(1)), Ok(1));
            assert_eq!(cache.get_if_present(&1), None);
            let (land, value) = tokio::sync::oneshot::channel();
            let mut leader = crate::common::Polled::pending(cache.get(&1, crate::kit::sent(value)));
            let mut follower = crate::common::Polled::pending(cache.get(&1, unwanted()));
            land.send(Ok(2)).expect("it waits");
            assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(2), Ok(2)));
            assert_eq!(get(&cache, Err("down")), Err("down"));
            assert_eq!(get(&cache, Ok(3)), Ok(3));
        }
    });
}

/// A load that hangs does not hold its key for longer than `max_age`.
#[test]
fn a_load_that_hangs_is_not_waited_for_beyond_its_age() {
    limited(|| {
        let cache: ReadThrough<u64, u64, &str> = builder().max_age(millis(50)).build();
        // Ages are taken from when they are first asked for.
        assert_eq!(get(&cache, Ok(0)), Ok(0));
        cache.invalidate(&1);
        let begun = Instant::now();
        let hangs = crate::common::Polled::pending(cache.get(&1, std::future::pending()));
        let mut waits = crate::common::Polled::pending(cache.get(&1, unwanted()));
        until(|| begun.elapsed() >= millis(60));
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        assert_eq!(cache.get_blocking(&1, || unreachable!("it is there")), Ok(1));
        assert!(waits.poll().is_pending(), "who waits already goes on waiting");
        drop((hangs, waits));
        assert_eq!((cache.loading(), cache.get_if_present(&1)), (0, Some(1)));
    });
}

/// The same for one that is refreshing: the value is there for others, and is refreshed by another.
#[test]
fn a_refresh_that_hangs_is_replaced() {
    limited(|| {
        let cache = builder().soft_ttl(Duration::ZERO).max_age(millis(50)).build();
        cache.insert(&1, 0);
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        let begun = Instant::now();
        let hangs = crate::common::Polled::pending(cache.get(&1, std::future::pending()));
        until(|| get(&cache, Ok(2)) == Ok(2));
        assert!(begun.elapsed() >= millis(50));
        drop(hangs);
        assert_eq!(cache.loading(), 0);
    });
}

/// The same for a batch that comes to it.
#[test]
fn a_batch_does_not_wait_for_a_load_that_hangs() {
    limited(|| {
        let cache = builder().max_age(millis(50)).build();
        assert_eq!(get(&cache, Ok(0)), Ok(0));
        let begun = Instant::now();
        let hangs = crate::common::Polled::pending(cache.get(&2, std::future::pending()));
        let load = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(key))));
        let young = crate::common::Polled::pending(cache.get_many([2, 3], load));
        until(|| begun.elapsed() >= millis(60));
        assert_eq!(at_once(cache.get_many([2], load))[&2], Ok(2));
        drop((hangs, young));
        assert_eq!(cache.loading(), 0);
    });
}
