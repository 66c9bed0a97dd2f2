//! The limits that a call may set: `max_followers`, `max_age`, and `timeout` of threads.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use common::{Dice, Doorbell, Executions, Polled, RingingKey, limited, settle};
use futures_lite::future::{block_on, poll_once};
use shardflight::{CallError, Entry, Group, Lead, OnCancel, Role};
use tokio::sync::oneshot;

/// More than any test takes.
const HOUR: Duration = Duration::from_secs(3_600);

/// The lead of a key that is free.
fn lead<V>(group: &Group<u64, V>) -> Lead<u64, V> {
    match group.lead_or_join(&1) {
        Entry::Lead(lead) => lead,
        Entry::Join(handle) => panic!("the key is taken: {handle:?}"),
    }
}

/// Returns when that much time has passed since.
fn pass(time: Duration, since: Instant) {
    while since.elapsed() <= time {
        thread::yield_now();
    }
}

/// Scenario 41: over the cap a call is refused, with an error and at once, in all its forms; those who
/// set none are not.
#[test]
fn s41_call_over_the_cap_is_refused() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let lead = lead(&group);
        let refused = || Err(CallError::TooManyFollowers);
        let call = |n| group.call(&1).max_followers(n);
        for followers in 0..4 {
            assert_eq!(block_on(call(followers).run(async { 0 })), refused());
            assert_eq!(block_on(call(followers).relay(async { 0 })), refused());
            assert_eq!(call(followers).run_blocking(|| 0), refused());
            assert_eq!(call(followers).task(async { 0 }).err(), refused().err());
            std::mem::forget(group.join(&1));
        }
        let mut fits = Polled::pending(call(5).run(async { 0 }));
        let mut unlimited = Polled::pending(group.run(&1, async { 0 }));
        assert_eq!(lead.land(7), 6);
        let outcome = fits.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (7, Role::Joined));
        assert_eq!(unlimited.woken_value(), 7);
        assert!(group.is_empty());
    });
}

/// Scenario 41: it may still lead: a key that is free, or a flight that nobody leads.
#[test]
fn s41_call_with_a_cap_may_lead() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let call = || group.call(&1).max_followers(0);
        assert_eq!(call().run_blocking(|| 1).expect("it leads").value, 1);
        let leader = Polled::pending(group.run(&1, pending()));
        let mut crowd =
            [(); 3].map(|()| Some(Polled::pending(group.run(&1, async { unreachable!() }))));
        drop(leader);
        let outcome = block_on(call().run(async { 2 })).expect("it leads");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 3 }));
        assert_eq!(settle(&mut crowd).len(), 3);
        assert!(group.is_empty());
    });
}

/// Scenario 41: a follower that leaves frees its place at once, whatever it is; and so does one that
/// takes over.
#[test]
fn s41_follower_that_leaves_frees_its_place() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let is_full = |n| {
            let call = group.call(&1).max_followers(n);
            block_on(poll_once(call.run(pending()))).is_some()
        };
        let leader = Polled::pending(group.run(&1, pending()));
        let able = Polled::pending(group.run(&1, async { 1 }));
        let told = group.call(&1).on_cancel(OnCancel::Fail);
        let told = Polled::pending(told.run(async { 2 }));
        let handle = group.join(&1).expect("in flight");
        let (task, task_handle) = group.call(&1).task(async { 3 }).expect("no limit");
        assert!(is_full(4) && !is_full(5));
        drop(handle);
        assert!(is_full(3) && !is_full(4));
        drop(told);
        assert!(is_full(2) && !is_full(3));
        drop(task);
        assert!(is_full(1) && !is_full(2));
        drop(able);
        assert!(is_full(0) && !is_full(1));
        let mut takes_over = Polled::pending(group.run(&1, pending()));
        assert!(is_full(1));
        drop(leader);
        assert!(takes_over.poll().is_pending());
        assert!(is_full(0) && !is_full(1), "it leads now");
        drop((takes_over, task_handle));
        assert!(group.is_empty());
    });
}

/// Scenario 41: a call that is refused changes nothing: a flight that nobody has joined stays so.
#[test]
fn s41_refused_call_leaves_the_flight_as_it_was() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        for _ in 0..3 {
            let refused = block_on(group.call(&1).max_followers(0).run(async { 0 }));
            assert_eq!(refused, Err(CallError::TooManyFollowers));
        }
        land.send(1).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!(outcome.role, Role::Led { followers: 0 });
        assert!(group.is_empty());
    });
}

/// Scenario 41: threads come, go and are refused: there never are more than the cap allows, and in the
/// end every place is free again.
#[test]
fn s41_count_of_followers_is_exact_under_races() {
    limited(|| {
        const CAP: usize = 2;
        const ROUNDS: usize = 20_000;
        let group: Group<u64, u32> = Group::new();
        let lead = lead(&group);
        let (following, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(4);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (group, following, refused, start) = (&group, &following, &refused, &start);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    start.wait();
                    for _ in 0..ROUNDS {
                        let call = group.call(&1).max_followers(CAP);
                        let call = match dice.below(2) {
                            0 => call.on_cancel(OnCancel::Fail),
                            _ => call,
                        };
                        let mut call = Box::pin(call.run(pending()));
                        match block_on(poll_once(&mut call)) {
                            None => {
                                // After it has joined, and before it leaves.
                                assert!(following.fetch_add(1, SeqCst) < CAP);
                                thread::yield_now();
                                following.fetch_sub(1, SeqCst);
                            }
                            Some(answer) => {
                                assert_eq!(answer, Err(CallError::TooManyFollowers));
                                refused.fetch_add(1, SeqCst);
                            }
                        }
                    }
                });
            }
        });
        assert!(refused.load(SeqCst) > 0, "nobody was refused");
        let calls =
            [(); CAP].map(|()| Polled::pending(group.call(&1).max_followers(CAP).run(async { 0 })));
        assert_eq!(lead.land(1), CAP);
        drop(calls);
        assert!(group.is_empty());
    });
}

/// Scenario 41: the same while leaders land and are cancelled: who is not refused comes back with a
/// value of its flight.
#[test]
fn s41_capped_callers_of_short_flights_are_served_or_refused() {
    limited(|| {
        const ROUNDS: usize = 5_000;
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let refused = AtomicUsize::new(0);
        thread::scope(|scope| {
            for seed in 0..4 {
                let (group, executions, refused) = (&group, &executions, &refused);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for i in 0..ROUNDS {
                        let call = group.call(&1).max_followers(1);
                        let answer = match dice.below(3) {
                            0 => block_on(poll_once(call.run(executions.yielding(i)))),
                            1 => Some(block_on(call.run(executions.yielding(i)))),
                            _ => Some(call.run_blocking(|| executions.spinning(i))),
                        };
                        match answer {
                            None => {}
                            Some(Ok(outcome)) => match outcome.role {
                                Role::Led { followers } => assert!(followers <= 1),
                                Role::Joined => {}
                            },
                            Some(Err(error)) => {
                                assert_eq!(error, CallError::TooManyFollowers);
                                refused.fetch_add(1, SeqCst);
                            }
                        }
                    }
                });
            }
        });
        assert!(refused.load(SeqCst) > 0, "nobody was refused");
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(group.is_empty());
    });
}

/// Scenario 18: a leader that was polled once and then never again, and is not dropped, is replaced by
/// the first call that asks for an age; also one that began before anybody asked.
#[test]
fn s18_stuck_leader_is_replaced_by_the_first_call_that_asks_for_an_age() {
    limited(|| {
        for is_followed in [false, true] {
            let group: Group<u64, u32> = Group::new();
            let stuck = Polled::pending(group.run(&1, pending()));
            let began = Instant::now();
            let age = Duration::from_millis(1);
            let mut follows = is_followed.then(|| Polled::pending(group.run(&1, async { 3 })));
            pass(age, began);
            let outcome = block_on(group.call(&1).max_age(age).run(async { 2 }));
            let outcome = outcome.expect("a value");
            assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 0 }));
            // It was forgotten, not ended: it goes on for those who follow it.
            if let Some(follows) = &mut follows {
                assert!(follows.poll().is_pending());
                drop(stuck);
                assert_eq!(follows.woken_value(), 3);
            }
            assert!(group.is_empty());
        }
    });
}

/// A flight that is younger is joined, by all kinds of calls; and one of age zero joins nothing.
#[test]
fn young_flight_is_joined() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let old = Polled::pending(group.run(&1, pending()));
        // An hour: the group is younger than that, and so is all that is in it.
        let mut joins = Polled::pending(group.call(&1).max_age(HOUR).run(async { 1 }));
        let mut replaces = Polled::new(group.call(&1).max_age(Duration::ZERO).run(async { 2 }));
        assert!(matches!(replaces.poll(), Poll::Ready(Ok(outcome)) if outcome.value == 2));
        drop(old);
        assert_eq!(joins.woken_value().expect("a value").role, Role::Led { followers: 0 });

        // What begins now is dated, in every place that a flight can begin in.
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let mut joins = Polled::pending(group.call(&1).max_age(HOUR).run(async { 0 }));
        let (task, handle) = group.call(&1).max_age(HOUR).task(async { 0 }).expect("no limit");
        land.send(3).expect("it waits");
        assert_eq!(leader.woken_value(), 3);
        assert_eq!(joins.woken_value().expect("a value").role, Role::Joined);
        block_on(task);
        assert_eq!(handle.wait(), Ok(3));

        let lead = lead(&group);
        let mut joins = Polled::pending(group.call(&1).max_age(HOUR).relay(async { 0 }));
        assert_eq!(lead.land(4), 1);
        assert_eq!(joins.woken_value().expect("a value").value, 4);
        assert!(group.is_empty());
    });
}

/// As `max_age` says: in a group in which nobody has asked before, a flight is taken to be as old as
/// the group. Once somebody has asked, flights have ages of their own.
#[test]
fn flights_are_as_old_as_their_group_until_somebody_asks() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let made = Instant::now();
        let age = Duration::from_millis(20);
        let mut replaced = 0;
        // On a busy machine a flight may be older before it is looked at: then it is not judged.
        for attempt in 0.. {
            assert!(attempt < 1_000, "the machine is too busy");
            pass(age, made);
            let young = Polled::pending(group.run(&1, pending()));
            let began = Instant::now();
            let call = group.call(&1).max_age(age);
            let answer = block_on(poll_once(call.run(async { 1 })));
            let is_young = began.elapsed() < age;
            replaced += usize::from(answer.is_some());
            drop(young);
            if attempt == 0 {
                assert!(answer.is_some(), "nobody knows how young it is");
            } else if is_young {
                assert!(answer.is_none(), "it is younger than {age:?}");
                break;
            }
        }
        assert!(replaced > 0);
        assert!(group.is_empty());
    });
}

/// A flight that was dated is replaced when it is older, and a take-over does not make it younger.
#[test]
fn take_over_does_not_make_a_flight_younger() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        // The first that asks.
        assert!(block_on(group.call(&2).max_age(HOUR).run(async { 0 })).is_ok());
        let leader = Polled::pending(group.run(&1, pending()));
        let began = Instant::now();
        let age = Duration::from_millis(1);
        let mut takes_over = Polled::pending(group.run(&1, pending()));
        pass(age, began);
        drop(leader);
        assert!(takes_over.poll().is_pending());
        let mut joins = Polled::pending(group.call(&1).max_age(HOUR).run(async { 3 }));
        let outcome = group.call(&1).max_age(age).run_blocking(|| 2).expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 0 }));
        assert!(group.is_empty());
        drop(takes_over);
        assert_eq!(joins.woken_value().expect("a value").value, 3);
        assert!(group.is_empty());
    });
}

/// G10: an age that one key asks for replaces nothing of another that meets it in its cell.
#[test]
fn g10_age_is_asked_of_one_key() {
    limited(|| {
        // With a single cell for each shard and many keys, they meet in cells and in the map.
        let group: Group<u64, u64> = Group::builder().shards(2).build();
        let keys: Vec<u64> = (0..5_000).collect();
        for is_dated in [false, true] {
            let leaders: Vec<_> =
                keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
            for key in keys.iter().step_by(100) {
                let joins = group.call(key).max_age(HOUR);
                assert!(block_on(poll_once(joins.run(async { 1 }))).is_none());
                let replaces = group.call(key).max_age(Duration::ZERO);
                let outcome = block_on(replaces.run(async { 2 })).expect("a value");
                assert_eq!(outcome.role, Role::Led { followers: 0 }, "{key}, {is_dated}");
            }
            assert_eq!(group.len(), keys.len() - keys.len() / 100);
            drop(leaders);
            assert!(group.is_empty());
        }
    });
}

/// G13: a call that asks for an age replaces the work that it is part of, if that is older: as after
/// `forget` it is legal. If it is not, it is a recursion.
#[test]
fn g13_age_inside_the_own_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let value = group.run_blocking(&1, || {
            let recursion = group.call(&1).max_age(HOUR).run_blocking(|| 0);
            assert_eq!(recursion, Err(CallError::Reentrant));
            let newer = group.call(&1).max_age(Duration::ZERO).run_blocking(|| 2);
            newer.expect("another flight").value + 1
        });
        assert_eq!(value, 3);
        assert!(group.is_empty());
    });
}

/// A thread that follows gives up when its time has come, and leaves: the leader does not count it, and
/// the flight is nobody's that had only it.
#[test]
fn thread_gives_up_when_its_time_has_come() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        for timeout in [Duration::ZERO, Duration::from_millis(2)] {
            for on_cancel in [OnCancel::TakeOver, OnCancel::Fail] {
                let began = Instant::now();
                let call = group.call(&1).on_cancel(on_cancel).timeout(timeout);
                assert_eq!(call.run_blocking(|| 0), Err(CallError::TimedOut));
                assert!(began.elapsed() >= timeout);
            }
        }
        land.send(1).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!(outcome.role, Role::Led { followers: 0 });

        let leader = Polled::pending(group.run(&1, pending()));
        let sleeps = Polled::pending(group.run(&1, async { 2 }));
        drop(leader);
        // It leads what nobody leads, and then there is nothing to wait for.
        let led = group.call(&1).timeout(Duration::ZERO).run_blocking(|| 3);
        assert_eq!(led.expect("a value").value, 3);
        drop(sleeps);
        assert!(group.is_empty());
    });
}

/// Its own work is not limited, nor is it when it takes over; and `Duration::MAX` is no limit.
#[test]
fn timeout_does_not_limit_work() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let silent = RingingKey::silent(1);
        let long = Duration::from_millis(5);
        let outcome = group.call(&silent).timeout(Duration::ZERO).run_blocking(|| {
            pass(long, Instant::now());
            1
        });
        assert_eq!(outcome.expect("a value").value, 1);

        let bell = Doorbell::new();
        for timeout in [Duration::MAX, HOUR] {
            let key = bell.key(1);
            let leader = Polled::pending(group.run(&silent, pending()));
            thread::scope(|scope| {
                let takes_over =
                    scope.spawn(|| group.call(&key).timeout(timeout).run_blocking(|| 2));
                bell.wait_for(1, &group, 1);
                drop(leader);
                let outcome = takes_over.join().expect("no panic").expect("a value");
                assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 0 }));
            });
        }
        assert!(group.is_empty());
    });
}

/// G6, G7: threads whose time comes just when the leader lands or is cancelled strand nobody: who does
/// not give up has a value, and the lead does not get lost with one that does.
#[test]
fn g07_threads_that_give_up_strand_nobody() {
    limited(|| {
        let gave_up = AtomicUsize::new(0);
        for round in 0..1_500_u32 {
            let group: Group<u64, u32> = Group::new();
            let executions = Executions::default();
            let mut leader = Box::pin(group.run(&1, executions.yielding(1)));
            assert!(block_on(poll_once(&mut leader)).is_none());
            thread::scope(|scope| {
                let (group, executions, gave_up) = (&group, &executions, &gave_up);
                for timeout in [Duration::from_micros(u64::from(round % 100)), Duration::MAX] {
                    scope.spawn(move || {
                        let answer = group.call(&1).timeout(timeout).run_blocking(|| {
                            let _running = executions.begin();
                            2
                        });
                        match answer {
                            Ok(outcome) => assert!((1..=2).contains(&outcome.value)),
                            Err(error) => {
                                assert_eq!(error, CallError::TimedOut);
                                assert_ne!(timeout, Duration::MAX);
                                gave_up.fetch_add(1, SeqCst);
                            }
                        }
                    });
                }
                pass(Duration::from_micros(u64::from(round % 150)), Instant::now());
                match round % 3 {
                    0 => assert_eq!(block_on(leader), 1),
                    _ => drop(leader),
                }
            });
            assert_eq!((executions.running(), executions.peak()), (0, 1));
            assert!(group.is_empty());
        }
        assert!(gave_up.load(SeqCst) > 0, "nobody gave up");
    });
}
