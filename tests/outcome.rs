//! The full answer: who led, who joined, and for how many.

#![cfg(not(loom))]

mod common;

use std::{io, sync::Arc, thread};

use common::{Doorbell, Polled, RingingKey, limited};
use shardflight::{Group, Outcome, Role};
use tokio::sync::oneshot;

/// Scenario 35: alone it is `Led { followers: 0 }`, for tasks and threads.
#[test]
fn s35_alone_one_leads_nobody() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let alone = Outcome { value: 3, role: Role::Led { followers: 0 } };
        let polled = futures_lite::future::block_on(group.call(&1).run(async { 3 }));
        assert_eq!(polled, Ok(alone));
        let outcome = group.call(&1).run_blocking(|| 3).expect("a value");
        assert_eq!(outcome, alone);
        assert!(!outcome.is_shared());
        assert_eq!(outcome.into_value(), 3);
    });
}

/// Scenario 35: over a flight of n followers there is one `Led { followers: n }` and n `Joined`.
#[test]
fn s35_flight_of_n_followers_has_one_led_and_n_joined() {
    limited(|| {
        for n in [1, 2, 3, 10, 1_000] {
            let group: Group<u64, u32> = Group::new();
            let (land, value) = oneshot::channel();
            let work = async { value.await.expect("sent") };
            let mut leader = Polled::pending(group.call(&1).run(work));
            let mut followers: Vec<_> = (0..n)
                .map(|_| Polled::pending(group.call(&1).run(async { unreachable!() })))
                .collect();
            land.send(3).expect("it waits");
            let led = leader.woken_value().expect("a value");
            assert_eq!(led, Outcome { value: 3, role: Role::Led { followers: n } });
            assert!(led.is_shared());
            for follower in &mut followers {
                let joined = follower.woken_value().expect("a value");
                assert_eq!(joined, Outcome { value: 3, role: Role::Joined });
                assert!(joined.is_shared());
            }
            assert!(group.is_empty());
        }
    });
}

/// Scenario 35: followers that left before the landing are not counted; one that is dropped between
/// the landing and its look is.
#[test]
fn s35_followers_are_counted_at_the_landing() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let left = Polled::pending(group.run(&1, async { 0 }));
        let not_yet = group.run(&1, async { 0 });
        let dropped_later = Polled::pending(group.run(&1, async { 0 }));
        drop(left);
        land.send(1).expect("it waits");
        let led = leader.woken_value().expect("a value");
        assert_eq!(led.role, Role::Led { followers: 1 });
        drop(dropped_later);
        drop(not_yet);

        // The only follower has left: it is as if there had never been one.
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        drop(Polled::pending(group.run(&1, async { 0 })));
        land.send(1).expect("it waits");
        let led = leader.woken_value().expect("a value");
        assert_eq!(led.role, Role::Led { followers: 0 });
        assert!(!led.is_shared());
        assert!(group.is_empty());
    });
}

/// Scenario 35: one that took over has led, for those who are left; the cancelled are not counted.
#[test]
fn s35_one_that_took_over_has_led() {
    limited(|| {
        let group: Group<u64, usize> = Group::new();
        let leader = Polled::pending(group.call(&1).run(std::future::pending()));
        let mut callers: Vec<_> =
            (0..4).map(|i| Some(Polled::pending(group.call(&1).run(async move { i })))).collect();
        drop(leader);
        let answers: Vec<_> = common::settle(&mut callers)
            .into_iter()
            .map(|(i, answer)| (i, answer.expect("a value")))
            .collect();
        assert_eq!(answers.len(), 4);
        for (i, outcome) in &answers {
            let expected = match *i == outcome.value {
                true => Role::Led { followers: 3 },
                false => Role::Joined,
            };
            assert_eq!(outcome.role, expected);
        }
        assert!(group.is_empty());
    });
}

/// Scenario 34, G2: followers get the leader's error itself, not a stand-in of it.
#[test]
fn s34_followers_get_the_leaders_own_error() {
    limited(|| {
        type Page = Result<String, Arc<io::Error>>;
        let group: Group<u64, Page> = Group::new();
        let error = Arc::new(io::Error::other("the disk is on fire"));
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let mut runs = Polled::pending(group.run(&1, async { Ok("mine".to_owned()) }));
        let mut calls = Polled::pending(group.call(&1).run(async { Ok("mine".to_owned()) }));
        land.send(Err(Arc::clone(&error))).expect("it waits");
        let answers = [
            leader.woken_value(),
            runs.woken_value(),
            calls.woken_value().expect("an error of the work is a value").value,
        ];
        for answer in answers {
            assert!(Arc::ptr_eq(&answer.expect_err("it failed"), &error));
        }
        assert!(group.is_empty());
    });
}

/// Scenario 34, G2: threads get it, too.
#[test]
fn s34_threads_get_the_leaders_own_value() {
    limited(|| {
        let group: Group<RingingKey, Arc<str>> = Group::new();
        let bell = Doorbell::new();
        let value: Arc<str> = "the value".into();
        let keys: Vec<_> = (0..4).map(|_| bell.key(1)).collect();
        let group = &group;
        thread::scope(|scope| {
            let mut followers = Vec::new();
            let led = group.run_blocking(&RingingKey::silent(1), || {
                for key in &keys {
                    followers.push(scope.spawn(|| group.run_blocking(key, || "mine".into())));
                }
                bell.wait_for(keys.len(), group, 1);
                Arc::clone(&value)
            });
            assert!(Arc::ptr_eq(&led, &value));
            for follower in followers {
                let joined = follower.join().expect("no panic");
                assert!(Arc::ptr_eq(&joined, &value));
            }
        });
        // Five callers had a copy each; the flight kept none.
        assert_eq!(Arc::strong_count(&value), 1);
    });
}
