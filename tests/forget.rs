//! `forget` and `forget_unshared`: a flight cut loose goes on, and the key is free.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Barrier,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::Poll,
    thread,
};

use common::{Doorbell, Executions, Polled, RingingKey, limited, settle};
use shardflight::{CallError, Group, OnCancel, Role};
use tokio::sync::oneshot;

/// G1, G5: `forget` says whether there was a flight; `len` and `is_in_flight` follow it.
#[test]
fn g05_forget_says_whether_there_was_a_flight() {
    limited(|| {
        let group: Group<String, u32> = Group::new();
        assert!(!group.forget("key"));
        let leader = Polled::pending(group.run("key", pending()));
        assert!(!group.forget("other"));
        assert_eq!(group.len(), 1);
        assert!(group.forget("key"));
        assert!(!group.is_in_flight("key"));
        assert!(group.is_empty());
        assert!(!group.forget("key"), "it is gone already");
        drop(leader);
        assert!(group.is_empty());
    });
}

/// Scenario 4, G5: a forgotten flight lands for its own followers, though its first leader never
/// knew them, and counts them.
#[test]
fn g05_forgotten_flight_lands_for_those_who_follow_it() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let mut followers: Vec<_> = (0..3)
            .map(|_| Some(Polled::pending(group.call(&1).run(async { unreachable!() }))))
            .collect();
        assert!(group.forget(&1));
        let mut newer = Polled::new(group.run(&1, async { 2 }));
        assert_eq!(newer.poll(), Poll::Ready(2), "it does not join the forgotten");
        followers.pop();

        land.send(1).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (1, Role::Led { followers: 2 }));
        let values = settle(&mut followers);
        assert_eq!(values.len(), 2);
        for (_, answer) in values {
            let outcome = answer.expect("a value");
            assert_eq!((outcome.value, outcome.role), (1, Role::Joined));
        }
        assert!(group.is_empty());
    });
}

/// Scenario 7, G7: a forgotten flight whose leader is dropped is taken over by one of its own
/// followers, and runs beside the newer flight of the key.
#[test]
fn g07_forgotten_flight_is_taken_over_from_inside() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let leader = Polled::pending(group.run(&1, executions.endless()));
        let mut followers: Vec<_> =
            (0..4).map(|i| Some(Polled::pending(group.run(&1, executions.yielding(i))))).collect();
        assert!(group.forget(&1));
        let (land, value) = oneshot::channel();
        let mut newer = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        drop(leader);

        let values = settle(&mut followers);
        assert_eq!(values.len(), 4);
        assert!(values.iter().all(|(_, value)| *value == values[0].1));
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_in_flight(&1), "that is the newer one");
        land.send(9).expect("it waits");
        let outcome = newer.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (9, Role::Led { followers: 0 }));
        assert!(group.is_empty());
    });
}

/// Scenario 7, G7: a flight that is forgotten while nobody leads it goes on, too; those of its
/// callers who cannot lead are told when the last who could has left.
#[test]
fn g07_leaderless_flight_can_be_forgotten() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let mut able = Polled::pending(group.run(&1, async { 1 }));
        let call = group.call(&1).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(call.run(async { 2 }));
        drop(leader);
        assert!(group.forget(&1));
        assert!(group.is_empty());
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(able.woken_value(), 1);
        assert!(group.is_empty());
    });
}

/// G8: the panic of a forgotten flight reaches its own followers and nobody else.
#[test]
fn g08_panic_of_a_forgotten_flight_reaches_its_own_followers() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (panic, told) = oneshot::channel::<()>();
        let mut leader = Polled::pending(group.run(&1, async {
            told.await.expect("sent");
            panic!("on purpose")
        }));
        let mut follower = Polled::pending(group.call(&1).run(async { 1 }));
        assert!(group.forget(&1));
        let newer = Polled::pending(group.run(&1, pending()));
        let mut newer_follower = Polled::pending(group.call(&1).run(async { 2 }));
        panic.send(()).expect("it waits");
        assert!(catch_unwind(AssertUnwindSafe(|| leader.poll())).is_err());
        assert!(matches!(follower.woken_value(), Err(CallError::Panicked(_))));
        assert!(!newer_follower.is_woken());
        drop(newer);
        assert_eq!(newer_follower.woken_value().expect("a value").value, 2);
        assert!(group.is_empty());
    });
}

/// G1, G5: the same key can be forgotten again and again; each flight has its own callers.
#[test]
fn g05_many_forgotten_flights_of_one_key_end_in_any_order() {
    limited(|| {
        const FLIGHTS: usize = 20;
        let group: Group<u64, usize> = Group::new();
        let mut flights: Vec<_> = (0..FLIGHTS)
            .map(|i| {
                let (land, value) = oneshot::channel();
                let leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
                let follower = Polled::pending(group.run(&1, async { unreachable!() }));
                assert!(group.forget(&1));
                (i, land, leader, follower)
            })
            .collect();
        let mut dice = common::Dice::new(5);
        while !flights.is_empty() {
            let one = dice.below(flights.len());
            let (i, land, mut leader, mut follower) = flights.swap_remove(one);
            land.send(i).expect("it waits");
            assert_eq!((leader.woken_value(), follower.woken_value()), (i, i));
        }
        assert!(group.is_empty());
    });
}

/// G5: `forget_unshared` leaves a flight alone that somebody follows, and only that.
#[test]
fn g05_forget_unshared_spares_a_flight_that_somebody_follows() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        assert!(!group.forget_unshared(&1), "there is none");

        let leader = Polled::pending(group.run(&1, pending()));
        let follower = Polled::pending(group.run(&1, pending()));
        assert!(!group.forget_unshared(&1));
        assert!(group.is_in_flight(&1));
        drop(follower);
        assert!(group.forget_unshared(&1), "its follower has gone");
        assert!(group.is_empty());
        assert!(!group.forget_unshared(&1));

        let newer = Polled::pending(group.run(&1, pending()));
        assert!(group.forget_unshared(&1), "nobody ever followed it");
        drop(leader);
        drop(newer);
        assert!(group.is_empty());
    });
}

/// G5: a flight that lost its only follower and was forgotten unshared still has a working leader.
#[test]
fn g05_forgotten_unshared_flight_gives_its_leader_the_value() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for had_a_follower in [false, true] {
            let (land, value) = oneshot::channel();
            let work = async { value.await.expect("sent") };
            let mut leader = Polled::pending(group.call(&1).run(work));
            if had_a_follower {
                drop(Polled::pending(group.run(&1, pending())));
            }
            assert!(group.forget_unshared(&1));
            land.send(4).expect("it waits");
            let outcome = leader.woken_value().expect("a value");
            assert_eq!((outcome.value, outcome.role), (4, Role::Led { followers: 0 }));
            assert!(group.is_empty());
        }
    });
}

/// Scenario 7, G5, G6: `forget` races landing; every caller gets a value of a flight it was in.
#[test]
fn g05_forget_that_races_landing_strands_nobody() {
    limited(|| {
        for round in 0..1_000_usize {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let key = bell.key(1);
            let start = Barrier::new(2);
            let (group, start, silent) = (&group, &start, &RingingKey::silent(1));
            thread::scope(|scope| {
                let leader = scope.spawn({
                    let key = &key;
                    move || {
                        group.call(silent).run_blocking(|| {
                            scope.spawn(move || assert_eq!(group.run_blocking(key, || 0), 1));
                            start.wait();
                            (0..round % 64).for_each(|_| std::hint::spin_loop());
                            1
                        })
                    }
                });
                bell.wait_for(1, group, 1);
                start.wait();
                let forgotten = match round % 2 {
                    0 => group.forget(silent),
                    _ => group.forget_unshared(silent),
                };
                assert!(!(forgotten && round % 2 == 1), "somebody follows it");
                let newer = group.run_blocking(silent, || 2);
                assert!(newer == 2 || !forgotten && newer == 1);
                let outcome = leader.join().expect("no panic").expect("a value");
                assert_eq!(outcome.value, 1);
                let Role::Led { followers } = outcome.role else {
                    panic!("it led");
                };
                assert!(followers >= 1);
            });
            assert!(group.is_empty());
        }
    });
}

/// Scenario 7, G6, G7: `forget` races abandoning; the follower takes over all the same.
#[test]
fn g07_forget_that_races_abandoning_strands_nobody() {
    limited(|| {
        for round in 0..1_000_usize {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let keys = [bell.key(1), bell.key(1)];
            let start = Barrier::new(2);
            let (group, start, silent) = (&group, &start, &RingingKey::silent(1));
            let took_over = AtomicBool::new(false);
            // Its future is dropped on another thread.
            let mut leader = Box::pin(group.run(silent, pending()));
            assert!(
                futures_lite::future::block_on(futures_lite::future::poll_once(&mut leader))
                    .is_none()
            );
            thread::scope(|scope| {
                for key in &keys {
                    let took_over = &took_over;
                    scope.spawn(move || {
                        let value = group.run_blocking(key, || {
                            assert!(!took_over.swap(true, SeqCst), "two took over");
                            1
                        });
                        assert_eq!(value, 1);
                    });
                }
                bell.wait_for(2, group, 1);
                scope.spawn(move || {
                    start.wait();
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    drop(leader);
                });
                start.wait();
                group.forget(silent);
            });
            assert!(took_over.load(SeqCst));
            assert!(group.is_empty());
        }
    });
}

/// Scenario 7, G1: under random forgetting every execution has a caller of its own, and nothing is
/// left.
#[test]
fn g04_random_forgetting_leaves_nothing() {
    limited(|| {
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        thread::scope(|scope| {
            for seed in 0..4 {
                let (group, executions) = (&group, &executions);
                scope.spawn(move || {
                    let mut dice = common::Dice::new(seed);
                    for i in 0..2_000 {
                        match dice.below(8) {
                            0 => _ = group.forget(&1),
                            1 => _ = group.forget_unshared(&1),
                            2..=4 => {
                                let work = executions.yielding(i);
                                let mut call = Polled::new(group.run(&1, work));
                                // One that leads is ready at its second poll; one that follows
                                // may go without an answer.
                                _ = call.poll().is_pending() && call.poll().is_pending();
                            }
                            _ => {
                                let work = || {
                                    let _running = executions.begin();
                                    i
                                };
                                group.run_blocking(&1, work);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(executions.running(), 0);
        assert!(group.is_empty());
    });
}
