//! No stale answers: once anybody has a flight's value, nobody can join that flight.

#![cfg(not(loom))]

mod common;

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    task::Poll,
    thread,
};

use common::{Doorbell, Polled, RingingKey, limited, on_tokio};
use shardflight::{Group, Role};
use tokio::sync::oneshot;

/// Scenario 31, G3: a call after the landing begins a new execution, though an old follower has not
/// been polled yet; each gets the value of its own flight.
#[test]
fn g03_call_after_landing_begins_anew_while_an_old_follower_has_not_looked() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land_1, value_1) = oneshot::channel();
        let (land_2, value_2) = oneshot::channel();
        let mut old_leader = Polled::pending(group.run(&1, async { value_1.await.expect("sent") }));
        let mut old_follower = Polled::pending(group.run(&1, async { unreachable!() }));
        land_1.send(1).expect("it waits");
        assert_eq!(old_leader.woken_value(), 1);
        assert!(!group.is_in_flight(&1));

        let mut leader = Polled::pending(group.run(&1, async { value_2.await.expect("sent") }));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!() }));
        assert_eq!(old_follower.woken_value(), 1);
        assert!(group.is_in_flight(&1));
        land_2.send(2).expect("it waits");
        assert_eq!(leader.woken_value(), 2);
        assert_eq!(follower.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// Scenario 31, G3: the same when the old follower is dropped: it does not touch the newer flight.
#[test]
fn g03_old_follower_that_never_looks_leaves_the_newer_flight_alone() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut old_leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let old_follower = Polled::pending(group.run(&1, async { unreachable!() }));
        land.send(1).expect("it waits");
        assert_eq!(old_leader.woken_value(), 1);

        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        drop(old_follower);
        assert!(group.is_in_flight(&1));
        assert!(!follower.is_woken());
        drop(leader);
        assert_eq!(follower.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// Scenario 32, G3: tasks whose calls always overlap on one key never get an answer that anybody
/// had before they asked.
#[test]
fn g03_hot_key_of_tasks_keeps_refreshing() {
    on_tokio(|| async {
        let group: Group<u64, u64> = Group::new();
        let executions = AtomicU64::new(0);
        // The newest execution of which anybody has seen the value.
        let seen = AtomicU64::new(0);
        let (group, executions, seen) = (leak(group), leak(executions), leak(seen));
        let tasks: Vec<_> = (0..16)
            .map(|_| {
                tokio::spawn(async move {
                    for _ in 0..3_000 {
                        let before = seen.load(SeqCst);
                        let work = async {
                            let execution = executions.fetch_add(1, SeqCst) + 1;
                            tokio::task::yield_now().await;
                            execution
                        };
                        let answer = group.run(&1, work).await;
                        seen.fetch_max(answer, SeqCst);
                        assert!(answer > before, "{answer} was known when {before} was");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no answer is stale");
        }
        assert!(executions.load(SeqCst) < 16 * 3_000, "nothing overlapped");
        assert!(group.is_empty());
    });
}

/// Scenario 32, G3: the same for threads.
#[test]
fn g03_hot_key_of_threads_keeps_refreshing() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let executions = AtomicU64::new(0);
        let seen = AtomicU64::new(0);
        let shared = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..5_000 {
                        let before = seen.load(SeqCst);
                        let work = || {
                            let execution = executions.fetch_add(1, SeqCst) + 1;
                            common::spin();
                            execution
                        };
                        let outcome = group.call(&1).run_blocking(work).expect("a value");
                        seen.fetch_max(outcome.value, SeqCst);
                        assert!(outcome.value > before);
                        if outcome.role == Role::Joined {
                            shared.store(true, SeqCst);
                        }
                    }
                });
            }
        });
        assert!(shared.load(SeqCst), "nothing overlapped");
        assert!(group.is_empty());
    });
}

/// G3: the key is free when the leader has its value, before any follower looks: also in the work's
/// own last moment it is not.
#[test]
fn g03_key_is_taken_until_the_work_is_gone_and_free_when_the_leader_returns() {
    struct Watch<'a>(&'a Group<u64, u32>, &'a AtomicBool);
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            self.1.store(self.0.is_in_flight(&1), SeqCst);
        }
    }

    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let in_flight = AtomicBool::new(false);
        let watch = Watch(&group, &in_flight);
        let mut leader = Polled::new(group.run(&1, async {
            let _watch = watch;
            1
        }));
        assert_eq!(leader.poll(), Poll::Ready(1));
        assert!(in_flight.load(SeqCst), "its destructors are part of the execution");
        assert!(!group.is_in_flight(&1));
    });
}

/// G2: whoever joins until the last moment of the work gets its value.
#[test]
fn g02_whoever_joins_before_the_landing_gets_the_value() {
    limited(|| {
        for followers in 1..8 {
            let group: Group<RingingKey, usize> = Group::new();
            let bell = Doorbell::new();
            let keys: Vec<_> = (0..followers).map(|_| bell.key(1)).collect();
            let group = &group;
            thread::scope(|scope| {
                let mut joined = Vec::new();
                let led = group.call(&RingingKey::silent(1)).run_blocking(|| {
                    for key in &keys {
                        joined.push(scope.spawn(|| group.call(key).run_blocking(|| 0)));
                    }
                    bell.wait_for(followers, group, 1);
                    77
                });
                let led = led.expect("a value");
                assert_eq!((led.value, led.role), (77, Role::Led { followers }));
                for joined in joined {
                    let outcome = joined.join().expect("no panic").expect("a value");
                    assert_eq!((outcome.value, outcome.role), (77, Role::Joined));
                }
            });
            assert!(group.is_empty());
        }
    });
}

/// Tasks need `'static`; a test may leak what they share.
fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}
