//! Who leads: one execution at a time, one leader for all who overlap.

#![cfg(not(loom))]

mod common;

use std::{
    sync::{
        Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::Duration,
};

use common::{
    Crowd, Dice, Doorbell, Executions, Polled, RingingKey, Running, limited, on_tokio, settle,
};
use shardflight::{Group, Role};
use tokio::{sync::oneshot, task::yield_now};

/// Scenario 1, G1, G7: with five followers waiting, an aborted leader costs one more execution.
#[test]
fn g01_aborted_leader_is_followed_by_exactly_one_execution() {
    on_tokio(|| async {
        for round in 0..200 {
            let group: Group<RingingKey, u64> = Group::new();
            let executions = Executions::default();
            let bell = Doorbell::new();
            let (started, has_started) = oneshot::channel();
            let leader = tokio::spawn({
                let (group, work) = (group.clone(), executions.endless());
                async move {
                    let work = async {
                        started.send(()).expect("the test waits");
                        work.await
                    };
                    group.run(&RingingKey::silent(1), work).await
                }
            });
            has_started.await.expect("the leader's work begins");
            let followers: Vec<_> = (0..5)
                .map(|i| {
                    let (group, key, work) = (group.clone(), bell.key(1), executions.yielding(i));
                    tokio::spawn(async move { group.run(&key, work).await })
                })
                .collect();
            bell.wait_for(5, &group, 1);

            leader.abort();
            let mut values = Vec::new();
            for follower in followers {
                values.push(follower.await.expect("a follower gets the value"));
            }
            assert!(leader.await.expect_err("it never ends").is_cancelled());
            assert_eq!(executions.started(), 2, "round {round}");
            assert_eq!(executions.peak(), 1, "round {round}");
            assert!(values.iter().all(|v| *v == values[0]), "{values:?}");
            assert!(group.is_empty());
        }
    });
}

/// Scenario 2, G1: 100,000 calls of one key by 32 tasks, none cancelled, never run two works at
/// once, and share them.
#[test]
fn g01_hot_key_never_runs_two_works_at_once() {
    on_tokio(|| async {
        const TASKS: usize = 32;
        const CALLS: usize = 100_000 / TASKS;
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let (group, executions) = (group.clone(), executions.clone());
                tokio::spawn(async move {
                    for _ in 0..CALLS {
                        let work = async {
                            let _running = executions.begin();
                            yield_now().await;
                            task
                        };
                        group.run(&7, work).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no call fails");
        }
        assert_eq!(executions.peak(), 1);
        assert!(executions.started() < TASKS * CALLS, "nothing was shared");
        assert!(group.is_empty());
    });
}

/// Scenario 3, G1, G2: of two threads that miss at the same moment one leads and one follows.
#[test]
fn g01_two_simultaneous_misses_have_one_leader() {
    limited(|| {
        for _ in 0..500 {
            let group: Group<RingingKey, usize> = Group::new();
            let bell = Doorbell::new();
            let keys = [bell.key(1), bell.key(1)];
            let bell = Mutex::new(bell);
            let start = Barrier::new(2);
            let executions = Executions::default();
            let call = |i: usize| {
                start.wait();
                let work = || {
                    let _running = executions.begin();
                    // A second leader would hear nobody join.
                    bell.lock().expect("no panic").wait_for(1, &group, 1);
                    i
                };
                group.call(&keys[i]).run_blocking(work).expect("a value")
            };
            let (first, second) = thread::scope(|scope| {
                let other = scope.spawn(|| call(1));
                (call(0), other.join().expect("no panic"))
            });
            assert_eq!(executions.started(), 1);
            assert_eq!(first.value, second.value);
            let (led, joined) = match first.value {
                0 => (first, second),
                _ => (second, first),
            };
            assert_eq!(led.role, Role::Led { followers: 1 });
            assert_eq!(joined.role, Role::Joined);
            assert!(group.is_empty());
        }
    });
}

/// Scenario 4, G5: a forgotten flight that lands leaves the newer one of its key in the table.
#[test]
fn g05_landing_removes_only_its_own_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land_1, value_1) = oneshot::channel();
        let (land_2, value_2) = oneshot::channel();
        let mut first = Polled::pending(group.run(&1, async { value_1.await.expect("sent") }));
        assert!(group.forget(&1));
        let mut second = Polled::pending(group.run(&1, async { value_2.await.expect("sent") }));

        land_1.send(1).expect("it waits");
        assert_eq!(first.woken_value(), 1);
        assert!(group.is_in_flight(&1), "1 removed 2");

        let mut third = Polled::pending(group.run(&1, async { unreachable!("3 joins 2") }));
        land_2.send(2).expect("it waits");
        assert_eq!(second.woken_value(), 2);
        assert_eq!(third.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// Scenario 4, G5: the same when the forgotten flight is abandoned, or panics.
#[test]
fn g05_abandoned_or_panicked_flight_removes_only_itself() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let abandoned = Polled::pending(group.run(&1, std::future::pending()));
        assert!(group.forget(&1));
        let (panic, told) = oneshot::channel::<()>();
        let mut panics = Polled::pending(group.run(&1, async {
            told.await.expect("sent");
            panic!("on purpose")
        }));
        assert!(group.forget(&1));
        let newest = Polled::pending(group.run(&1, std::future::pending()));

        drop(abandoned);
        assert!(group.is_in_flight(&1), "the abandoned removed the newest");
        panic.send(()).expect("it waits");
        assert_eq!(common::panic_text(|| panics.poll()), "on purpose");
        assert!(group.is_in_flight(&1), "the panicked removed the newest");
        drop(newest);
        assert!(group.is_empty());
    });
}

/// Scenario 6, G7: a newcomer that finds a flight without a leader joins it by leading it, and
/// those who were about to take over follow the newcomer.
#[test]
fn g07_newcomer_leads_the_abandoned_flight_and_opens_no_second() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let leader = Polled::pending(group.run(&1, executions.endless()));
        let mut followers: Vec<_> =
            (0..4).map(|i| Some(Polled::pending(group.run(&1, executions.yielding(i))))).collect();
        drop(leader);
        assert_eq!(group.len(), 1, "the flight stays joinable");

        let (land, value) = oneshot::channel();
        let work = async {
            let _running = executions.begin();
            value.await.expect("sent")
        };
        let mut newcomer = Polled::pending(group.call(&1).run(work));
        assert_eq!(executions.started(), 2, "it leads at once");
        assert_eq!(settle(&mut followers), [], "nobody else does");
        assert_eq!(group.len(), 1);

        land.send(9).expect("it waits");
        let outcome = newcomer.woken_value().expect("a value");
        assert_eq!(outcome.value, 9);
        assert_eq!(outcome.role, Role::Led { followers: 4 });
        let values = settle(&mut followers);
        assert_eq!(values.len(), 4, "all are woken");
        assert!(values.iter().all(|(_, value)| *value == 9));
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// Scenario 8, G1, G2: tasks, threads and callers that give up half way, all on one key.
#[test]
fn g01_mix_of_async_blocking_and_cancelled_callers_runs_one_work_at_a_time() {
    on_tokio(|| async {
        const ROUNDS: usize = 1_000;
        let mut crowd = Crowd::default();
        crowd.tasks((0..4).map(Dice::new), |mut dice, group, executions| async move {
            for i in 0..ROUNDS {
                let mut call = Box::pin(group.run(&1, executions.yielding(i)));
                match dice.below(3) {
                    0 => drop(futures_lite::future::poll_once(&mut call).await),
                    1 => drop(tokio::time::timeout(Duration::ZERO, &mut call).await),
                    _ => drop(call.await),
                }
            }
        });
        crowd.threads(0..4, |_, group, executions| {
            for i in 0..ROUNDS {
                group.run_blocking(&1, || executions.spinning(i));
            }
        });
        let (group, executions) = crowd.come_back().await;
        assert_eq!(executions.peak(), 1);
        assert_eq!(executions.running(), 0);
        assert!(group.is_empty());
    });
}

/// G1: what cancelled work does in its destructors is over before the next leader begins.
#[test]
fn g01_cancelled_work_is_dropped_before_the_lead_is_passed_on() {
    limited(|| {
        struct Last<'a> {
            dropped: &'a AtomicUsize,
            _running: Running,
        }
        impl Drop for Last<'_> {
            fn drop(&mut self) {
                // The next leader is on another thread. Were the lead passed on already, it would
                // begin now.
                (0..20).for_each(|_| thread::yield_now());
                self.dropped.fetch_add(1, SeqCst);
            }
        }
        for _ in 0..20 {
            let group: Group<RingingKey, usize> = Group::new();
            let (executions, dropped) = (Executions::default(), AtomicUsize::new(0));
            let bell = Doorbell::new();
            let silent = RingingKey::silent(1);
            let leader = Polled::pending(group.run(&silent, async {
                let _last = Last { dropped: &dropped, _running: executions.begin() };
                std::future::pending().await
            }));
            let key = bell.key(1);
            thread::scope(|scope| {
                let follower = scope.spawn(|| {
                    group.run_blocking(&key, || {
                        let _running = executions.begin();
                        dropped.load(SeqCst)
                    })
                });
                bell.wait_for(1, &group, 1);
                drop(leader);
                assert_eq!(follower.join().expect("no panic"), 1);
            });
            assert_eq!((executions.started(), executions.peak()), (2, 1));
        }
    });
}

/// Scenario 30: when all callers of a flight are dropped half way, the next one runs its own work
/// from the start.
#[test]
fn g04_nothing_of_a_flight_outlives_its_last_caller() {
    limited(|| {
        let group: Group<u64, &str> = Group::new();
        let half_way = async {
            futures_lite::future::yield_now().await;
            "old"
        };
        let leader = Polled::pending(group.run(&1, half_way));
        let follower = Polled::pending(group.run(&1, async { "follower" }));
        drop(leader);
        drop(follower);
        assert!(group.is_empty());

        let mut next = Polled::new(group.call(&1).run(async { "new" }));
        let Poll::Ready(Ok(outcome)) = next.poll() else {
            panic!("it waits for a flight that nobody is in");
        };
        assert_eq!(outcome.value, "new");
        assert_eq!(outcome.role, Role::Led { followers: 0 });
    });
}
