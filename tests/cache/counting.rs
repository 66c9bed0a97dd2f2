//! What `Stats` count of a cache, and that it adds up.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::spawn_blocking, time::advance};

use crate::{
    common::{Dice, Polled, on_paused_clock, on_tokio, spin},
    kit::{after, at_once, builder, counted, get, looks, secs, sent, unwanted},
};

/// A run of every event.
#[test]
fn every_event_is_counted() {
    on_paused_clock(|| async {
        let lives = builder().soft_ttl(secs(10)).time_to_live(secs(20));
        let (cache, stats) = counted(lives);
        assert_eq!(stats.snapshot().hit_rate(), None);
        assert_eq!(get(&cache, Err("down")), Err("down"));
        assert_eq!(stats.snapshot().hit_rate(), Some(0.0));
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        assert_eq!(get(&cache, Ok(1)), Ok(1));
        assert_eq!(looks(&stats), [1, 0, 2]);
        advance(secs(10)).await;
        assert_eq!(cache.get_if_present(&1), Some(1));
        assert_eq!(stats.snapshot().hit_rate(), Some(0.5), "two of four");
        let (land, value) = oneshot::channel();
        let mut refresher = Polled::pending(cache.get(&1, sent(value)));
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        land.send(Err("down")).expect("it waits");
        assert_eq!(refresher.woken_value(), Ok(1));
        let counted = stats.snapshot();
        assert_eq!(looks(&stats), [1, 2, 3]);
        assert_eq!((counted.refreshes, counted.loads, counted.failed_loads), (1, 1, 2));
        assert_eq!(counted.hit_rate(), Some(0.5));
        assert_eq!((counted.joined, counted.refused), (0, 0));
    });
}

/// How long loads took, failed or not, is what is told of them.
#[test]
fn loads_are_told_with_their_time() {
    use std::sync::Mutex;
    #[derive(Default)]
    struct Times(Mutex<Vec<(bool, Duration)>>);
    impl shardflight::Observer for Times {
        fn loaded(&self, took: Duration) {
            self.0.lock().unwrap().push((true, took));
        }
        fn load_failed(&self, took: Duration) {
            self.0.lock().unwrap().push((false, took));
        }
    }

    on_paused_clock(|| async {
        let times = Arc::new(Times::default());
        let cache = builder().observer(Arc::clone(&times)).build();
        assert_eq!(cache.get(&1, after(secs(3), Err("down"))).await, Err("down"));
        assert_eq!(cache.get(&1, after(secs(5), Ok(1))).await, Ok(1));
        let many = |_| after(secs(7), [(2, Ok(2)), (3, Err("down"))]);
        assert_eq!(cache.get_many([2, 3], many).await.len(), 2);
        let told = times.0.lock().unwrap().clone();
        let expected = [(false, 3), (true, 5), (true, 7), (false, 7)];
        assert_eq!(told, expected.map(|(is_loaded, took)| (is_loaded, secs(took))));
    });
}

/// Tasks and threads that look up few keys in all ways: each look-up is one of hit, stale hit and miss; each miss has
/// led a load or joined one; and each load that ran to its end has been counted.
#[test]
fn everything_adds_up() {
    on_tokio(|| async {
        let lives =
            builder().soft_ttl(Duration::from_micros(50)).negative_ttl(Duration::from_micros(20));
        let (cache, stats) =
            counted(lives.time_to_live_of(|_, _| Some(Duration::from_micros(200))));
        let (looked, ran, spawned) =
            (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut callers = Vec::new();
        for seed in 0..8 {
            let cache = cache.clone();
            let (looked, ran, spawned) =
                (Arc::clone(&looked), Arc::clone(&ran), Arc::clone(&spawned));
            let mut dice = Dice::new(seed);
            let is_thread = seed % 4 == 0;
            let step = move || {
                let (cache, key) = (cache.clone(), dice.below(3) as u64);
                let (how, fails) = (dice.below(6), dice.below(4) == 0);
                let (looked, ran, spawned) =
                    (Arc::clone(&looked), Arc::clone(&ran), Arc::clone(&spawned));
                let answer = move |ran: &AtomicU64| {
                    ran.fetch_add(1, SeqCst);
                    if fails { Err("down") } else { Ok(key) }
                };
                async move {
                    looked.fetch_add(1, SeqCst);
                    let load = async {
                        tokio::task::yield_now().await;
                        answer(&ran)
                    };
                    match how {
                        0 => _ = cache.get_if_present(&key),
                        1 => {
                            looked.fetch_add(1, SeqCst);
                            let load = async |keys: Vec<u64>| {
                                tokio::task::yield_now().await;
                                let found = keys.into_iter().map(|key| (key, answer(&ran)));
                                found.collect::<Vec<_>>()
                            };
                            drop(cache.get_many([key, key + 1], load).await);
                        }
                        _ if is_thread => {
                            _ = cache.get_blocking(&key, || {
                                spin();
                                answer(&ran)
                            });
                        }
                        2 => {
                            let spawned = Arc::clone(&spawned);
                            let (ran, own) = (Arc::clone(&ran), Arc::clone(&spawned));
                            let load = async move {
                                own.fetch_add(1, SeqCst);
                                answer(&ran)
                            };
                            _ = cache.get_spawning(&key, load).await;
                        }
                        _ => _ = cache.get(&key, load).await,
                    }
                }
            };
            let mut step = step;
            callers.push(match is_thread {
                true => spawn_blocking(move || {
                    (0..1_500).for_each(|_| futures_lite::future::block_on(step()));
                }),
                false => tokio::spawn(async move {
                    for _ in 0..1_500 {
                        step().await;
                    }
                }),
            });
        }
        for caller in callers {
            caller.await.expect("no panic");
        }
        while cache.loading() > 0 {
            tokio::task::yield_now().await;
        }
        let counted = stats.snapshot();
        assert_eq!(looks(&stats).iter().sum::<u64>(), looked.load(SeqCst));
        assert_eq!(counted.loads + counted.failed_loads, ran.load(SeqCst));
        assert_eq!(counted.joined, counted.answered, "nobody goes");
        assert_eq!(counted.led, counted.landed);
        assert!(counted.refreshes <= counted.loads + counted.failed_loads);
        assert!(counted.hits > 0 && counted.stale_hits > 0 && counted.refreshes > 0, "{counted:?}");
        assert!(counted.joined > 0 && counted.failed_loads > 0, "{counted:?}");
        assert!(spawned.load(SeqCst) > 0);
    });
}

/// Misses are the flights that were led and joined, when nobody spawns.
#[test]
fn a_miss_has_led_or_joined() {
    on_tokio(|| async {
        let (cache, stats) = counted(builder().soft_ttl(Duration::from_micros(50)));
        let tasks: Vec<_> = (0..8)
            .map(|seed| {
                let cache = cache.clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(seed);
                    for i in 0..1_000_u64 {
                        if dice.below(8) == 0 {
                            cache.invalidate(&1);
                        }
                        let load = async {
                            tokio::task::yield_now().await;
                            Ok(i)
                        };
                        match dice.below(2) {
                            0 => assert!(cache.get(&1, load).await.is_ok()),
                            _ => {
                                let load = |keys: Vec<u64>| {
                                    ready(keys.into_iter().map(|key| (key, Ok(key))))
                                };
                                assert!(cache.get_many([1, 2], load).await[&1].is_ok());
                            }
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let counted = stats.snapshot();
        assert_eq!(counted.misses, counted.led + counted.joined);
        assert!(counted.joined > 0 && counted.stale_hits > 0, "{counted:?}");
    });
}
