//! Many: more followers than 16 bits count, more keys than shards, many joins without an error.

#![cfg(not(loom))]

mod common;

use common::{Executions, Polled, limited, on_tokio, settle};
use shardflight::{CallError, Group, OnCancel, Role};
use tokio::sync::oneshot;

/// Scenario 38, G2: more than 65,535 followers of one flight, counted exactly.
#[test]
fn s38_flight_has_room_for_more_than_65535_followers() {
    limited(|| {
        const FOLLOWERS: usize = 70_000;
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let mut followers: Vec<_> = (0..FOLLOWERS)
            .map(|_| Polled::pending(group.call(&1).run(async { unreachable!("it follows") })))
            .collect();
        land.send(1).expect("it waits");
        let led = leader.woken_value().expect("a value");
        assert_eq!(led.role, Role::Led { followers: FOLLOWERS });
        for follower in &mut followers {
            assert_eq!(follower.woken_value().expect("a value").role, Role::Joined);
        }
        assert!(group.is_empty());
    });
}

/// Scenario 38, G7: as many of both kinds, whose leader is cancelled: one takes over, half are told.
#[test]
fn s38_abandoned_flight_of_more_than_65535_followers_goes_on() {
    limited(|| {
        const EACH: usize = 70_000;
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let leader = Polled::pending(group.call(&1).run(std::future::pending()));
        let mut callers: Vec<_> = (0..2 * EACH)
            .map(|i| {
                let on_cancel = [OnCancel::TakeOver, OnCancel::Fail][i % 2];
                let work = executions.yielding(7);
                Some(Polled::pending(group.call(&1).on_cancel(on_cancel).run(work)))
            })
            .collect();
        drop(leader);
        assert_eq!(group.len(), 1);
        let mut led = 0;
        for (i, answer) in settle(&mut callers) {
            match answer {
                Err(error) => assert_eq!((error, i % 2), (CallError::Cancelled, 1)),
                Ok(outcome) => {
                    assert_eq!((outcome.value, i % 2), (7, 0));
                    led += usize::from(outcome.role == Role::Led { followers: EACH - 1 });
                }
            }
        }
        assert!(callers.iter().all(Option::is_none), "all have an answer");
        assert_eq!((led, executions.started()), (1, 1));
        assert!(group.is_empty());
    });
}

/// Scenario 13, G7: 10,000 callers join and leave one long flight; what is counted at its landing
/// are those that stayed. (That the list of waiters does not grow is shown in `allocations.rs`.)
#[test]
fn s13_callers_that_join_and_leave_are_counted_out() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let mut stays = Polled::pending(group.run(&1, async { 0 }));
        for _ in 0..10_000 {
            drop(Polled::pending(group.run(&1, async { 0 })));
        }
        let leave: Vec<_> =
            (0..10_000).map(|_| Polled::pending(group.run(&1, async { 0 }))).collect();
        drop(leave);
        land.send(1).expect("it waits");
        let led = leader.woken_value().expect("a value");
        assert_eq!(led.role, Role::Led { followers: 1 });
        assert_eq!(stays.woken_value(), 1);
        assert!(group.is_empty());
    });
}

/// Scenario 33, G2: 100,000 healthy calls by tasks on several threads; none sees an error.
#[test]
fn s33_healthy_joins_see_no_error() {
    on_tokio(|| async {
        const TASKS: usize = 50;
        const CALLS: usize = 2_000;
        let group: Group<usize, usize> = Group::new();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let group = group.clone();
                tokio::spawn(async move {
                    let mut joined = 0;
                    for i in 0..CALLS {
                        let key = i / 10 % 4;
                        let call = group.call(&key).on_cancel(OnCancel::Fail);
                        let work = async {
                            tokio::task::yield_now().await;
                            key
                        };
                        let outcome = call.run(work).await.expect("nothing was cancelled");
                        assert_eq!(outcome.value, key);
                        joined += usize::from(outcome.role == Role::Joined);
                    }
                    joined
                })
            })
            .collect();
        let mut joined = 0;
        for task in tasks {
            joined += task.await.expect("no error");
        }
        assert!(joined > TASKS * CALLS / 4, "only {joined} joined");
        assert!(group.is_empty());
    });
}

/// G10, G4: many keys in flight at once, each with a follower; each gets its own value.
#[test]
fn g10_many_keys_each_with_their_own_flight() {
    limited(|| {
        const KEYS: u64 = 20_000;
        let group: Group<String, u64> = Group::builder().shards(4).build();
        let keys: Vec<_> = (0..KEYS).map(|key| format!("key {key}")).collect();
        let executions = Executions::default();
        let mut callers = Vec::new();
        for (value, key) in (0..).zip(&keys) {
            let leads = executions.yielding(value);
            callers.push(Polled::pending(group.run(key.as_str(), leads)));
            let follows = async { unreachable!("it follows") };
            callers.push(Polled::pending(group.run(key.as_str(), follows)));
        }
        assert_eq!(group.len(), KEYS as usize);
        for (i, caller) in callers.iter_mut().enumerate() {
            assert_eq!(caller.woken_value(), i as u64 / 2);
        }
        assert_eq!(executions.started(), KEYS as usize);
        assert!(group.is_empty());
    });
}
