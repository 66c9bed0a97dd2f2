//! What is left in the table when no call is in progress: nothing.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
    thread,
};

use common::{Dice, Doorbell, Polled, RingingKey, limited, on_tokio};
use shardflight::{Group, OnCancel};

/// Scenario 9, G4: 100,000 leaders of as many keys, all in flight at once, are cancelled. (What
/// becomes of the memory is told in `allocations.rs`.)
#[test]
fn g04_cancelled_leaders_leave_nothing() {
    limited(|| {
        const KEYS: u64 = 100_000;
        let group: Group<u64, u64> = Group::new();
        let keys: Vec<u64> = (0..KEYS).collect();
        let leaders: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        assert_eq!(group.len(), KEYS as usize);
        drop(leaders);
        assert_eq!(group.len(), 0);
    });
}

/// Scenario 9, G4: the same with aborted tasks on several threads.
#[test]
fn g04_aborted_tasks_leave_nothing() {
    on_tokio(|| async {
        let group: Group<u64, u64> = Group::new();
        let tasks: Vec<_> = (0..10_000_u64)
            .map(|i| {
                let group = group.clone();
                // Every other key is shared by two.
                tokio::spawn(async move { group.run(&(i / 2 * (1 + i % 4 / 2)), pending()).await })
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
        assert!(group.is_empty());
    });
}

/// Scenario 10, G4: futures that are made and dropped without a poll are never seen by the table.
#[test]
fn g04_futures_that_were_never_polled_are_never_seen() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        for key in 0..100_000 {
            let run = group.run(&key, async { unreachable!("it is never polled") });
            let call = group.call(&key);
            let called = call.on_cancel(OnCancel::Fail).run(async { unreachable!() });
            if key % 1_000 == 0 {
                assert!(group.is_empty());
            }
            drop(run);
            drop(called);
        }
        assert!(group.is_empty());
    });
}

/// Scenario 10, G4: nor do they count in a flight of others.
#[test]
fn g04_future_that_was_never_polled_does_not_follow() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let never_polled = group.run(&1, async { 1 });
        drop(leader);
        assert!(group.is_empty());
        drop(never_polled);
        assert!(group.is_empty());
    });
}

/// Scenario 12, G4: the key is free after a value, an error, a panic and a cancellation, with
/// followers and without.
#[test]
fn g04_every_end_of_a_flight_frees_the_key() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum End {
        Value,
        Error,
        Panic,
        Cancel,
    }

    limited(|| {
        for end in [End::Value, End::Error, End::Panic, End::Cancel] {
            for followers in 0..3 {
                let group: Group<u64, Result<u32, String>> = Group::new();
                let mut leader = Polled::pending(group.run(&1, async {
                    futures_lite::future::yield_now().await;
                    match end {
                        End::Value => Ok(1),
                        End::Error => Err("no".to_owned()),
                        End::Panic => panic!("on purpose"),
                        End::Cancel => pending().await,
                    }
                }));
                let followers: Vec<_> =
                    (0..followers).map(|_| Polled::pending(group.run(&1, pending()))).collect();
                let polled = catch_unwind(AssertUnwindSafe(|| leader.poll()));
                match end {
                    End::Value | End::Error => assert!(matches!(polled, Ok(Poll::Ready(_)))),
                    End::Panic => assert!(polled.is_err()),
                    End::Cancel => assert!(matches!(polled, Ok(Poll::Pending))),
                }
                if end != End::Cancel {
                    assert!(group.is_empty(), "{end:?}, before anybody is dropped");
                }
                drop(leader);
                drop(followers);
                assert!(group.is_empty(), "{end:?}");
            }
        }
    });
}

/// Scenario 12, G4: the same for closures, whose followers are threads.
#[test]
fn g04_every_end_of_a_blocking_flight_frees_the_key() {
    limited(|| {
        for panics in [false, true] {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let key = bell.key(1);
            let group = &group;
            thread::scope(|scope| {
                let ended = catch_unwind(AssertUnwindSafe(|| {
                    group.run_blocking(&RingingKey::silent(1), || {
                        scope.spawn(|| group.call(&key).run_blocking(|| unreachable!()).is_ok());
                        bell.wait_for(1, group, 1);
                        assert!(!panics, "on purpose");
                        1
                    })
                }));
                assert_eq!(ended.is_err(), panics);
                assert!(group.is_empty());
            });
            assert!(group.is_empty());
        }
    });
}

/// G4: leaders and followers of both kinds are dropped in every order of five.
#[test]
fn g04_every_order_of_dropping_leaves_nothing() {
    fn orders(left: &[usize]) -> Vec<Vec<usize>> {
        if left.is_empty() {
            return vec![Vec::new()];
        }
        let mut all = Vec::new();
        for first in left {
            let rest: Vec<_> = left.iter().copied().filter(|i| i != first).collect();
            for mut order in orders(&rest) {
                order.insert(0, *first);
                all.push(order);
            }
        }
        all
    }

    limited(|| {
        for kinds in 0..1 << 5 {
            for (n, order) in orders(&[0, 1, 2, 3, 4]).into_iter().enumerate() {
                let group: Group<u64, u32> = Group::new();
                let mut callers: Vec<_> = (0..5)
                    .map(|i| {
                        let on_cancel = match kinds >> i & 1 {
                            0 => OnCancel::TakeOver,
                            _ => OnCancel::Fail,
                        };
                        let call = group.call(&1).on_cancel(on_cancel);
                        Some(Polled::pending(call.run(pending())))
                    })
                    .collect();
                // Sometimes those who are woken are polled between the drops, sometimes not.
                let mut dice = Dice::new(n as u64);
                for i in order {
                    callers[i] = None;
                    if dice.below(2) == 0 {
                        common::settle(&mut callers);
                    }
                }
                assert_eq!(group.len(), 0);
            }
        }
    });
}

/// G4: a group that is dropped with futures of others still about takes nothing with it that they
/// need: they hold a handle of their own.
#[test]
fn g04_handles_share_the_flights_and_each_keeps_them() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let other = group.clone();
        let leader = Polled::pending(other.run(&1, pending()));
        assert!(group.is_in_flight(&1));
        drop(group);
        assert_eq!(other.len(), 1);
        drop(leader);
        assert!(other.is_empty());
    });
}
