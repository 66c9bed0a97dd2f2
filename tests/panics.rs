//! Works that panic: the leader unwinds with its payload, followers get its text, the key is free.

#![cfg(not(loom))]

mod common;

use std::{
    error::Error,
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::Barrier,
    task::{Context, Poll},
    thread,
};

use common::{
    Doorbell, Executions, NotText, Polled, RingingKey, limited, on_tokio, panic_text, text,
};
use futures_lite::future::yield_now;
use shardflight::{CallError, Group, Role};

/// The text that a follower gets of a payload that is not text.
const NO_TEXT: &str = "the work panicked with a payload that is not text";

/// Scenario 15, G8: the leader unwinds with the original payload, whatever it is.
#[test]
fn g08_leader_unwinds_with_the_original_payload() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic_any(NotText(7))
        }));
        let payload = catch_unwind(AssertUnwindSafe(|| leader.poll())).expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&NotText(7)));

        let blocking = || group.run_blocking(&1, || panic_any(NotText(8)));
        let payload = catch_unwind(AssertUnwindSafe(blocking)).expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&NotText(8)));
        assert!(group.is_empty());
    });
}

/// Scenario 15, G8: followers learn the text of `&str` and `String` payloads, and a fixed sentence
/// for others: as a panic from `run`, as an error from `call`.
#[test]
fn g08_followers_get_the_text_of_the_panic() {
    fn check(panic: fn(), expected: &str) {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic();
            0
        }));
        let mut runs = Polled::pending(group.run(&1, executions.yielding(1)));
        let mut calls = Polled::pending(group.call(&1).run(executions.yielding(1)));
        assert!(catch_unwind(AssertUnwindSafe(|| leader.poll())).is_err());
        assert!(group.is_empty());

        assert!(runs.is_woken() && calls.is_woken());
        assert_eq!(panic_text(|| runs.poll()), expected);
        let error = calls.woken_value().expect_err("the leader panicked");
        let CallError::Panicked(panicked) = &error else {
            panic!("{error:?}");
        };
        assert_eq!(panicked.message(), expected);
        let source = error.source().expect("the panic");
        assert!(source.to_string().contains(expected));
        assert_eq!(executions.started(), 0);
    }

    limited(|| {
        check(|| panic!("a literal"), "a literal");
        let formatted: fn() = || panic!("{} and {}", "one", 2);
        check(formatted, "one and 2");
        check(|| panic_any(NotText(1)), NO_TEXT);
    });
}

/// Scenario 15, G8: threads that follow, too, and all come back.
#[test]
fn g08_every_thread_that_follows_a_panic_comes_back() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let keys: Vec<_> = (0..6).map(|_| bell.key(1)).collect();
        let group = &group;
        thread::scope(|scope| {
            let mut followers = Vec::new();
            let led = panic_text(|| {
                group.run_blocking(&RingingKey::silent(1), || {
                    for (i, key) in keys.iter().enumerate() {
                        followers.push(scope.spawn(move || match i % 2 {
                            0 => panic_text(|| group.run_blocking(key, || 1)),
                            _ => match group.call(key).run_blocking(|| 1) {
                                Err(CallError::Panicked(p)) => p.message().to_owned(),
                                other => panic!("{other:?}"),
                            },
                        }));
                    }
                    bell.wait_for(keys.len(), group, 1);
                    panic!("in the work of {}", keys.len());
                })
            });
            assert_eq!(led, "in the work of 6");
            for follower in followers {
                assert_eq!(follower.join().expect("it comes back"), "in the work of 6");
            }
        });
        assert_eq!(group.run_blocking(&RingingKey::silent(1), || 5), 5);
        assert!(group.is_empty());
    });
}

/// Scenarios 12, 15 and 29, G8: after a panic the next caller runs its own work; tasks on tokio.
#[test]
fn g08_next_call_after_a_panic_starts_afresh() {
    on_tokio(|| async {
        let group: Group<RingingKey, u32> = Group::new();
        for round in 0..100 {
            let bell = Doorbell::new();
            let (panic, told) = tokio::sync::oneshot::channel::<()>();
            let (started, has_started) = tokio::sync::oneshot::channel();
            let leader = tokio::spawn({
                let group = group.clone();
                async move {
                    let work = async {
                        started.send(()).expect("the test waits");
                        told.await.expect("sent");
                        panic!("round {round}")
                    };
                    group.run(&RingingKey::silent(1), work).await
                }
            });
            has_started.await.expect("the leader's work begins");
            let followers: Vec<_> = (0..4)
                .map(|_| {
                    let (group, key) = (group.clone(), bell.key(1));
                    tokio::spawn(async move { group.run(&key, async { 1 }).await })
                })
                .collect();
            bell.wait_for(4, &group, 1);
            panic.send(()).expect("it waits");
            for task in followers.into_iter().chain([leader]) {
                let payload = task.await.expect_err("it panics").into_panic();
                assert_eq!(text(&*payload), format!("round {round}"));
            }
            let outcome =
                group.call(&RingingKey::silent(1)).run(async { round }).await.expect("a value");
            assert_eq!(outcome.value, round);
            assert_eq!(outcome.role, Role::Led { followers: 0 });
        }
        assert!(group.is_empty());
    });
}

/// Scenario 16, G8: work that panics before it has waited for anything.
#[test]
fn g08_work_that_panics_at_once_frees_the_key() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for _ in 0..100 {
            let mut call = Polled::new(group.run(&1, async { panic!("at the first poll") }));
            assert_eq!(panic_text(|| call.poll()), "at the first poll");
            assert!(group.is_empty(), "before the future is dropped");
            let blocking = || group.run_blocking(&1, || panic!("at the call"));
            assert_eq!(panic_text(blocking), "at the call");
            assert!(group.is_empty());
        }
        assert_eq!(Polled::new(group.run(&1, async { 3 })).poll(), Poll::Ready(3));
    });
}

/// Scenario 16, G8: the same with callers that arrive meanwhile: each gets the panic of the flight
/// it joined or runs its own work.
#[test]
fn g08_callers_that_race_a_panic_all_come_back() {
    limited(|| {
        for _ in 0..300 {
            let group: Group<u64, u32> = Group::new();
            let start = Barrier::new(4);
            thread::scope(|scope| {
                for caller in 0..4 {
                    let (group, start) = (&group, &start);
                    scope.spawn(move || {
                        start.wait();
                        let answer = catch_unwind(AssertUnwindSafe(|| match caller % 2 {
                            0 => group.run_blocking(&1, || panic!("on purpose")),
                            _ => group.run_blocking(&1, || 1),
                        }));
                        match answer {
                            Ok(value) => assert_eq!(value, 1),
                            Err(payload) => assert_eq!(text(&*payload), "on purpose"),
                        }
                    });
                }
            });
            assert!(group.is_empty());
        }
    });
}

/// G8: a follower that took over and panics is the leader that the rest hear of.
#[test]
fn g08_panic_of_one_that_took_over_reaches_the_rest() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.call(&1).run(pending()));
        let work = || async { panic_any(NotText(3)) };
        let mut callers: Vec<_> =
            (0..3).map(|_| Polled::pending(group.call(&1).run(work()))).collect();
        drop(leader);
        let mut led = 0;
        let mut told = 0;
        while let Some(i) = callers.iter().position(Polled::is_woken) {
            match catch_unwind(AssertUnwindSafe(|| callers[i].poll())) {
                Err(payload) => {
                    assert_eq!(payload.downcast_ref(), Some(&NotText(3)));
                    led += 1;
                }
                Ok(Poll::Ready(answer)) => {
                    let Err(CallError::Panicked(panicked)) = answer else {
                        panic!("{answer:?}");
                    };
                    assert_eq!(panicked.message(), NO_TEXT);
                    told += 1;
                }
                Ok(Poll::Pending) => continue,
            }
            drop(callers.swap_remove(i));
        }
        assert_eq!((led, told), (1, 2));
        assert!(group.is_empty());
    });
}

/// G8, G4: work whose destructor panics when it is cancelled still passes the lead on.
#[test]
fn g08_panic_in_the_drop_of_cancelled_work_passes_the_lead_on() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in the destructor");
        }
    }

    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, async {
            let _bomb = Bomb;
            pending().await
        }));
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        assert_eq!(panic_text(|| drop(leader)), "in the destructor");
        assert_eq!(follower.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// G8, G4: nor does a destructor that panics when the work has returned leave the key stuck: to the
/// flight it is a panic of the work.
#[test]
fn g08_panic_in_the_drop_of_returned_work_is_a_panic_of_the_work() {
    /// A future that is ready at its second poll and then explodes.
    struct Bomb(bool);
    impl Future for Bomb {
        type Output = u32;
        fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u32> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(1);
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "in the destructor");
        }
    }

    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, Bomb(false)));
        let mut follower = Polled::pending(group.call(&1).run(async { 2 }));
        assert_eq!(panic_text(|| leader.poll()), "in the destructor");
        let answer = follower.woken_value();
        assert!(matches!(answer, Err(CallError::Panicked(_))), "{answer:?}");
        assert!(group.is_empty());
    });
}
