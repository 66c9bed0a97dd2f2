//! Threads as callers: `run_blocking` leads, follows and takes over as `run` does.

#![cfg(not(loom))]

mod common;

use std::{
    sync::{Barrier, mpsc},
    thread,
};

use common::{Doorbell, Executions, LIMIT, Polled, RingingKey, limited, on_tokio};
use shardflight::{CallError, Group, Role};
use tokio::sync::oneshot;

/// G2, G11: alone, a thread's work runs in the call, and may borrow and move what is on the stack.
#[test]
fn g02_alone_the_work_runs_in_the_call() {
    limited(|| {
        let group: Group<String, String> = Group::new();
        let mut calls = 0;
        let moved = "moved".to_owned();
        let me = thread::current().id();
        let value = group.run_blocking("key", || {
            calls += 1;
            assert_eq!(thread::current().id(), me);
            assert!(group.is_in_flight("key"));
            moved
        });
        assert_eq!((value.as_str(), calls), ("moved", 1));
        assert!(group.is_empty());
    });
}

/// Scenario 8, G1, G2: threads that follow a task, and a task that follows a thread.
#[test]
fn g12_threads_and_tasks_share_a_flight() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let silent = RingingKey::silent(1);
        let key = bell.key(1);

        let (land, value) = oneshot::channel();
        let mut leader =
            Polled::pending(group.call(&silent).run(async { value.await.expect("sent") }));
        thread::scope(|scope| {
            let follower = scope.spawn(|| group.call(&key).run_blocking(|| unreachable!()));
            bell.wait_for(1, &group, 1);
            land.send(1).expect("it waits");
            let led = leader.woken_value().expect("a value");
            assert_eq!((led.value, led.role), (1, Role::Led { followers: 1 }));
            let joined = follower.join().expect("no panic").expect("a value");
            assert_eq!((joined.value, joined.role), (1, Role::Joined));
        });

        thread::scope(|scope| {
            let mut followers = Vec::new();
            let led = group.call(&silent).run_blocking(|| {
                // Polled on this stack it would wait for itself.
                let follower = scope.spawn(|| {
                    let call = group.call(&key).run(async { unreachable!() });
                    futures_lite::future::block_on(call)
                });
                bell.wait_for(1, &group, 1);
                followers.push(follower);
                2
            });
            let led = led.expect("a value");
            assert_eq!((led.value, led.role), (2, Role::Led { followers: 1 }));
            let follower = followers.pop().expect("it was begun");
            let joined = follower.join().expect("no panic").expect("a value");
            assert_eq!((joined.value, joined.role), (2, Role::Joined));
        });
        assert!(group.is_empty());
    });
}

/// G7: threads take over from a cancelled task, one with its own work, the rest with its value.
#[test]
fn g07_one_of_the_waiting_threads_takes_over() {
    limited(|| {
        for _ in 0..50 {
            let group: Group<RingingKey, usize> = Group::new();
            let bell = Doorbell::new();
            let executions = Executions::default();
            let silent = RingingKey::silent(1);
            let leader = Polled::pending(group.run(&silent, executions.endless()));
            let keys: Vec<_> = (0..6).map(|_| bell.key(1)).collect();
            thread::scope(|scope| {
                let followers: Vec<_> = keys
                    .iter()
                    .enumerate()
                    .map(|(i, key)| {
                        let (group, executions) = (&group, &executions);
                        scope.spawn(move || {
                            group.call(key).run_blocking(|| {
                                let _running = executions.begin();
                                i
                            })
                        })
                    })
                    .collect();
                bell.wait_for(keys.len(), &group, 1);
                drop(leader);
                let outcomes: Vec<_> = followers
                    .into_iter()
                    .map(|f| f.join().expect("no panic").expect("a value"))
                    .collect();
                let value = outcomes[0].value;
                assert!(outcomes.iter().all(|outcome| outcome.value == value));
                for (i, outcome) in outcomes.iter().enumerate() {
                    let expected = match i == value {
                        true => Role::Led { followers: 5 },
                        false => Role::Joined,
                    };
                    assert_eq!(outcome.role, expected);
                }
            });
            assert_eq!((executions.started(), executions.peak()), (2, 1));
            assert!(group.is_empty());
        }
    });
}

/// G7: a thread that takes over and panics is followed by nobody: its panic is the flight's end.
#[test]
fn g08_thread_that_took_over_and_panics_tells_the_rest() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let silent = RingingKey::silent(1);
        let leader = Polled::pending(group.run(&silent, std::future::pending()));
        let keys: Vec<_> = (0..4).map(|_| bell.key(1)).collect();
        thread::scope(|scope| {
            let followers: Vec<_> = keys
                .iter()
                .map(|key| scope.spawn(|| group.call(key).run_blocking(|| panic!("of a thread"))))
                .collect();
            bell.wait_for(keys.len(), &group, 1);
            drop(leader);
            let mut led = 0;
            for follower in followers {
                match follower.join() {
                    Err(payload) => {
                        assert_eq!(common::text(&*payload), "of a thread");
                        led += 1;
                    }
                    Ok(Err(CallError::Panicked(p))) => assert_eq!(p.message(), "of a thread"),
                    Ok(other) => panic!("{other:?}"),
                }
            }
            assert_eq!(led, 1);
        });
        assert!(group.is_empty());
    });
}

/// Scenario 22, G10: a thread that is long at work on one key does not hold up another key, though
/// both hash alike. (`user_code.rs` has the hasher; here it is the shard: there are only two.)
#[test]
fn g10_slow_thread_does_not_hold_up_other_keys() {
    limited(|| {
        let group: Group<u64, u64> = Group::builder().shards(0).build();
        let (release, released) = mpsc::channel::<()>();
        let (begun, has_begun) = mpsc::channel();
        thread::scope(|scope| {
            let group = &group;
            let slow = scope.spawn(move || {
                group.run_blocking(&0, || {
                    begun.send(()).expect("the test waits");
                    released.recv_timeout(LIMIT).expect("released");
                    0
                })
            });
            has_begun.recv_timeout(LIMIT).expect("it begins");
            for key in 1..1_000 {
                assert_eq!(group.run_blocking(&key, || key), key);
            }
            assert_eq!(group.len(), 1);
            release.send(()).expect("it waits");
            assert_eq!(slow.join().expect("no panic"), 0);
        });
        assert!(group.is_empty());
    });
}

/// Scenario 8, G12: blocking callers inside `spawn_blocking` share flights with tasks of the runtime.
#[test]
fn g12_spawn_blocking_meets_tasks() {
    on_tokio(|| async {
        for _ in 0..100 {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let (land, value) = oneshot::channel();
            let (started, has_started) = oneshot::channel();
            let leader = tokio::spawn({
                let group = group.clone();
                async move {
                    let work = async {
                        started.send(()).expect("the test waits");
                        value.await.expect("sent")
                    };
                    group.run(&RingingKey::silent(1), work).await
                }
            });
            has_started.await.expect("the work begins");
            let followers: Vec<_> = (0..4)
                .map(|_| {
                    let (group, key) = (group.clone(), bell.key(1));
                    tokio::task::spawn_blocking(move || {
                        group.run_blocking(&key, || unreachable!("it follows"))
                    })
                })
                .collect();
            bell.wait_for(4, &group, 1);
            land.send(6).expect("it waits");
            assert_eq!(leader.await.expect("no panic"), 6);
            for follower in followers {
                assert_eq!(follower.await.expect("no panic"), 6);
            }
            assert!(group.is_empty());
        }
    });
}

/// G1, G2: threads that all begin at once share executions and never run two.
#[test]
fn g01_threads_that_begin_together_run_one_work_at_a_time() {
    limited(|| {
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let start = Barrier::new(8);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for i in 0..500 {
                        start.wait();
                        group.run_blocking(&1, || {
                            let _running = executions.begin();
                            common::spin();
                            i
                        });
                    }
                });
            }
        });
        assert_eq!(executions.peak(), 1);
        assert!(executions.started() < 8 * 500, "nothing was shared");
        assert!(group.is_empty());
    });
}
