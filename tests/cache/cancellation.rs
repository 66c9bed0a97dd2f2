//! Callers that go: whoever goes affects nobody else, and leaves nothing.

use std::future::{pending, ready};

use tokio::sync::oneshot;

use crate::{
    common::{Executions, Polled, limited, on_tokio},
    kit::{Answer, at_once, builder, counted, get, sent, unwanted},
};

/// 100,000 loads are cancelled, many of them under way at once.
#[test]
fn cancelled_loads_leave_nothing() {
    limited(|| {
        let cache = builder().build();
        let keys: Vec<u64> = (0..5_000).collect();
        for _ in 0..20 {
            let loads: Vec<_> =
                keys.iter().map(|key| Polled::pending(cache.get(key, pending()))).collect();
            assert_eq!(cache.loading(), keys.len());
            drop(loads);
            assert_eq!(cache.loading(), 0);
        }
        assert_eq!(cache.moka().iter().count(), 0);
        assert_eq!(get(&cache, Ok(7)), Ok(7));
    });
}

/// The same with aborted tasks, half of which follow.
#[test]
fn aborted_tasks_leave_nothing() {
    on_tokio(|| async {
        let cache = builder().build();
        let tasks: Vec<_> = (0..2_000_u64)
            .map(|i| {
                let cache = cache.clone();
                tokio::spawn(async move {
                    match i % 4 {
                        0 => {
                            cache.get_many([i / 2], |_| pending::<Vec<(u64, Answer)>>()).await.len()
                        }
                        1 => cache.get_spawning(&(i / 2), pending()).await.map_or(0, |_| 1),
                        _ => cache.get(&(i / 2), pending()).await.map_or(0, |_| 1),
                    }
                })
            })
            .collect();
        for (i, task) in tasks.iter().enumerate() {
            if i % 64 == 0 {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
        for task in tasks {
            assert!(task.await.expect_err("it never ends").is_cancelled());
        }
        assert_eq!(cache.loading(), 0);
    });
}

/// The leader goes, and a follower takes over with its own load; those who come meanwhile join it.
#[test]
fn a_follower_takes_over_with_its_own_load() {
    limited(|| {
        let (cache, stats) = counted(builder());
        let executions = Executions::default();
        let leader = Polled::pending(cache.get(&1, executions.endless()));
        let (land, value) = oneshot::channel();
        let mut follower = Polled::pending(cache.get(&1, sent(value)));
        drop(leader);
        assert_eq!((executions.running(), cache.loading()), (0, 1));
        assert!(follower.is_woken() && follower.poll().is_pending());
        let mut late = Polled::pending(cache.get(&1, unwanted()));
        land.send(Ok(2)).expect("it waits");
        assert_eq!((follower.woken_value(), late.woken_value()), (Ok(2), Ok(2)));
        assert_eq!(cache.get_if_present(&1), Some(2));
        let counted = stats.snapshot();
        assert_eq!((counted.loads, counted.taken_over, counted.cancelled), (1, 1, 1));
    });
}

/// A thread that follows takes over, too.
#[test]
fn a_thread_takes_over() {
    on_tokio(|| async {
        let (cache, stats) = counted(builder());
        let leader = Polled::pending(cache.get(&1, pending()));
        let blocked = cache.clone();
        let blocked = tokio::task::spawn_blocking(move || blocked.get_blocking(&1, || Ok(2)));
        crate::kit::until(|| stats.snapshot().joined == 1);
        drop(leader);
        assert_eq!(blocked.await.expect("no panic"), Ok(2));
        assert_eq!(cache.get_if_present(&1), Some(2));
    });
}

/// A follower goes: the load goes on for the others.
#[test]
fn a_follower_that_goes_affects_nobody() {
    limited(|| {
        let cache = builder().build();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let goes = Polled::pending(cache.get(&1, unwanted()));
        let mut stays = Polled::pending(cache.get(&1, unwanted()));
        drop(goes);
        land.send(Ok(1)).expect("it waits");
        assert_eq!((leader.woken_value(), stays.woken_value()), (Ok(1), Ok(1)));
    });
}

/// A value is kept before anybody gets it: it is there though all who waited have gone by then.
#[test]
fn a_value_is_kept_before_anybody_gets_it() {
    limited(|| {
        let cache = builder().build();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let follower = Polled::pending(cache.get(&1, unwanted()));
        land.send(Ok(1)).expect("it waits");
        assert_eq!(leader.woken_value(), Ok(1));
        drop(follower);
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
    });
}

/// Invalidations between do not keep anything either.
#[test]
fn cancelled_loads_that_were_invalidated_leave_nothing() {
    limited(|| {
        let cache = builder().build();
        for i in 0..1_000 {
            let load = Polled::pending(cache.get(&1, pending()));
            match i % 3 {
                0 => cache.invalidate(&1),
                1 => cache.invalidate_all(),
                _ => cache.insert(&1, i),
            }
            assert_eq!(cache.loading(), 0);
            drop(load);
            cache.invalidate(&1);
        }
        assert_eq!(at_once(cache.get(&1, ready(Ok(7)))), Ok(7));
        assert_eq!(cache.loading(), 0);
    });
}
