//! Hits, misses, and that whoever asks at the same time shares one load.

use std::{
    future::{pending, ready},
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use shardflight::cache::ReadThrough;
use tokio::{sync::oneshot, task::spawn_blocking};

use crate::{
    common::{Polled, limited, on_tokio},
    kit::{
        Key, Place, Value, assert_all_visited, at_once, builder, counted, get, looks, sent, trap,
        until, unwanted, watched,
    },
};

/// What has been loaded is there from then on, for callers of every kind.
#[test]
fn a_value_is_loaded_once_and_found_from_then_on() {
    limited(|| {
        let (cache, stats) = counted(builder());
        assert_eq!(get(&cache, Ok(7)), Ok(7));
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        assert_eq!(at_once(cache.get_spawning(&1, unwanted())), Ok(7));
        assert_eq!(cache.get_blocking(&1, || unreachable!("it is there")), Ok(7));
        assert_eq!(cache.get_if_present(&1), Some(7));
        let many = cache.get_many([1], |_| async { unreachable!("it is there") as [_; 0] });
        assert_eq!(at_once(many)[&1], Ok(7));
        assert_eq!(cache.clone().get_if_present(&1), Some(7), "a clone is the same cache");
        assert_eq!(looks(&stats), [6, 0, 1]);
        assert_eq!((stats.snapshot().loads, cache.loading()), (1, 0));
    });
}

/// Nothing happens before the first poll, and `get_if_present` loads nothing.
#[test]
fn what_is_not_asked_for_is_not_loaded() {
    limited(|| {
        let (cache, stats) = counted(builder());
        drop(cache.get(&1, unwanted()));
        drop(cache.get_spawning(&1, unwanted()));
        assert_eq!(looks(&stats), [0, 0, 0]);
        assert_eq!(cache.get_if_present(&1), None);
        assert_eq!(looks(&stats), [0, 0, 1]);
        assert_eq!((stats.snapshot().led, cache.loading()), (0, 0));
    });
}

/// Keys may be asked for in a borrowed form, and values are those of their keys.
#[test]
fn keys_are_looked_up_in_their_borrowed_form() {
    limited(|| {
        let cache: ReadThrough<String, usize, ()> = ReadThrough::builder().build();
        for name in ["a", "bc", ""] {
            assert_eq!(at_once(cache.get(name, ready(Ok(name.len())))), Ok(name.len()));
        }
        cache.insert("bc", 20);
        cache.invalidate("");
        let found = ["a", "bc", ""].map(|name| cache.get_if_present(name));
        assert_eq!(found, [Some(1), Some(20), None]);
        assert_eq!(cache.get_blocking("", || Ok(5)), Ok(5));
        assert_eq!(at_once(cache.get_spawning("", unwanted())), Ok(5));
    });
}

/// `insert` is as good as a load, and replaces what is there.
#[test]
fn an_inserted_value_is_found_and_replaces_an_older_one() {
    limited(|| {
        let (cache, stats) = counted(builder());
        cache.insert(&1, 5);
        assert_eq!(get(&cache, Err("not called")), Ok(5));
        cache.insert(&1, 6);
        assert_eq!(cache.get_if_present(&1), Some(6));
        assert_eq!(stats.snapshot().loads, 0);
    });
}

/// All who come while it is loaded get that value; keys are loaded independently.
#[test]
fn tasks_that_overlap_share_a_load() {
    limited(|| {
        let (cache, stats) = counted(builder());
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let mut second = Polled::pending(cache.get(&1, unwanted()));
        let mut third = Polled::pending(cache.get_spawning(&1, unwanted()));
        let mut many = Polled::pending(
            cache.get_many([1], |_| async { unreachable!("it is being loaded") as [_; 0] }),
        );
        let other = Polled::pending(cache.get(&2, pending()));
        assert_eq!(cache.loading(), 2);
        land.send(Ok(7)).expect("it waits");
        assert_eq!(leader.woken_value(), Ok(7));
        assert_eq!((second.woken_value(), third.woken_value()), (Ok(7), Ok(7)));
        assert_eq!(many.woken_value()[&1], Ok(7));
        assert_eq!((cache.loading(), stats.snapshot().loads), (1, 1));
        drop(other);
        assert_eq!(cache.loading(), 0);
        assert_eq!(looks(&stats), [0, 0, 5]);
        assert_eq!(stats.snapshot().joined, 3);
    });
}

/// A thread waits for the load of a task, and a task for that of a thread.
#[test]
fn threads_and_tasks_share_a_load() {
    on_tokio(|| async {
        let (cache, stats) = counted(builder());
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let blocked = cache.clone();
        let blocked = spawn_blocking(move || blocked.get_blocking(&1, || unreachable!("loading")));
        until(|| stats.snapshot().joined == 1);
        land.send(Ok(7)).expect("it waits");
        assert_eq!(leader.woken_value(), Ok(7));
        assert_eq!(blocked.await.expect("no panic"), Ok(7));

        let (land, value) = oneshot::channel();
        let leads = cache.clone();
        let leads =
            spawn_blocking(move || leads.get_blocking(&2, || value.blocking_recv().expect("sent")));
        until(|| cache.loading() == 1);
        let mut follower = Polled::pending(cache.get(&2, unwanted()));
        land.send(Ok(8)).expect("it waits");
        assert_eq!(leads.await.expect("no panic"), Ok(8));
        assert_eq!(follower.woken_value(), Ok(8));
        assert_eq!(stats.snapshot().loads, 2);
    });
}

/// A crowd that asks at once, and whoever comes late, are served by one load.
#[test]
fn a_thousand_callers_make_one_load() {
    on_tokio(|| async {
        let (cache, stats) = counted(builder());
        let loads = Arc::new(AtomicUsize::new(0));
        let start = Arc::new(Barrier::new(2));
        let mut callers = Vec::new();
        for i in 0..1_000 {
            let (cache, loads, start) = (cache.clone(), Arc::clone(&loads), Arc::clone(&start));
            if i % 10 == 0 {
                callers.push(spawn_blocking(move || {
                    cache.get_blocking(&1, || {
                        start.wait();
                        loads.fetch_add(1, SeqCst);
                        Ok(7)
                    })
                }));
            } else {
                callers.push(tokio::spawn(async move {
                    let load = async move {
                        spawn_blocking(move || start.wait()).await.expect("no panic");
                        loads.fetch_add(1, SeqCst);
                        Ok(7)
                    };
                    match i % 3 {
                        0 => cache.get_spawning(&1, load).await,
                        _ => cache.get(&1, load).await,
                    }
                }));
            }
        }
        // The load ends when somebody else has come.
        let joined = Arc::clone(&stats);
        spawn_blocking(move || {
            until(|| joined.snapshot().joined > 0);
            start.wait();
        })
        .await
        .expect("no panic");
        for caller in callers {
            assert_eq!(caller.await.expect("no panic"), Ok(7));
        }
        assert_eq!((loads.load(SeqCst), stats.snapshot().loads), (1, 1));
        assert_eq!(looks(&stats).iter().sum::<u64>(), 1_000);
        assert_eq!(cache.loading(), 0);
    });
}

/// M3: who looked before a load landed, and leads after it, finds what that has brought.
#[test]
fn who_looked_before_a_landing_does_not_load_again() {
    limited(|| {
        let cache = watched();
        type Call<'a> = &'a dyn Fn() -> Result<Value, &'static str>;
        let calls: [Call<'_>; 4] = [
            &|| at_once(cache.get(&Key(1), unwanted())),
            &|| at_once(cache.get_spawning(&Key(1), unwanted())),
            &|| cache.get_blocking(&Key(1), || unreachable!("it is there")),
            &|| {
                let load = |_| async { unreachable!("it is there") as [_; 0] };
                let mut found = at_once(cache.get_many([Key(1)], load));
                found.remove(&Key(1)).expect("it is there")
            },
        ];
        for call in calls {
            let quicker = cache.clone();
            trap(Place::Missed, 0, move || {
                let loaded = quicker.get_blocking(&Key(1), || Ok(Value(7)));
                assert_eq!(loaded, Ok(Value(7)));
            });
            assert_eq!(call(), Ok(Value(7)));
            assert_all_visited();
            cache.invalidate(&Key(1));
        }
    });
}

/// A load may ask for other keys, whose loads may ask for more.
#[test]
fn a_load_may_ask_for_other_keys() {
    limited(|| {
        let cache = builder().build();
        let nested = cache.get(&1, async {
            let two = cache.get(&2, async { cache.get_blocking(&3, || Ok(3)) }).await?;
            let many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(key))));
            let many = cache.get_many([2, 4], many).await;
            Ok(two + many[&2]? + many[&4]?)
        });
        assert_eq!(at_once(nested), Ok(10));
        assert_eq!(
            [1, 2, 3, 4].map(|key| cache.get_if_present(&key)),
            [Some(10), Some(3), Some(3), Some(4)]
        );
        assert_eq!(cache.loading(), 0);
    });
}

/// A cache may be a `static`, used without a runtime.
#[test]
fn it_needs_no_runtime() {
    use std::sync::LazyLock;
    static CACHE: LazyLock<ReadThrough<u64, u64, &str>> =
        LazyLock::new(|| ReadThrough::builder().build());

    limited(|| {
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let load = async { Ok(7) };
                    assert_eq!(futures_lite::future::block_on(CACHE.get(&1, load)), Ok(7));
                });
            }
        });
        assert_eq!(CACHE.get_if_present(&1), Some(7));
    });
}
