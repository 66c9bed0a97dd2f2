//! Callers without work: `join`, `lead_or_join`, and what they get, handles and the lead itself.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use common::{Dice, Executions, LIMIT, Polled, limited, panic_text};
use futures_lite::future::{block_on, yield_now};
use shardflight::{CallError, Entry, Group, Handle, Lead, OnCancel, Role};
use tokio::sync::oneshot;

/// The lead of a key that is free.
fn lead<V>(group: &Group<u64, V>, key: u64) -> Lead<u64, V> {
    match group.lead_or_join(&key) {
        Entry::Lead(lead) => lead,
        Entry::Join(handle) => panic!("the key is taken: {handle:?}"),
    }
}

/// A handle to a key that is in flight.
fn join<V>(group: &Group<u64, V>, key: u64) -> Handle<V> {
    group.join(&key).expect("in flight")
}

/// G2, G4: `join` finds a flight or nothing, and makes none.
#[test]
fn g04_join_makes_no_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        assert!(group.join(&1).is_none());
        assert!(group.is_empty());
        let leader = Polled::pending(group.run(&1, pending()));
        assert!(group.join(&2).is_none());
        let handle = join(&group, 1);
        drop(leader);
        assert!(group.is_empty());
        assert!(group.join(&1).is_none());
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
    });
}

/// G2: a handle of a flight that any kind of call leads gets its value, and counts as a follower.
#[test]
fn g02_handle_gets_the_value_of_whoever_leads() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let mut handle = Polled::pending(join(&group, 1));
        let (tell, told) = mpsc::channel();
        let thread = thread::spawn({
            let handle = join(&group, 1);
            move || tell.send(handle.wait())
        });
        land.send(3).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (3, Role::Led { followers: 2 }));
        assert_eq!(handle.woken_value(), Ok(3));
        assert_eq!(told.recv_timeout(LIMIT), Ok(Ok(3)));
        thread.join().expect("no panic").expect("the test listens");

        let mut joined = None;
        let led = group.call(&1).run_blocking(|| {
            joined = group.join(&1);
            4
        });
        assert_eq!(led.expect("a value").role, Role::Led { followers: 1 });
        assert_eq!(joined.expect("in flight").wait(), Ok(4));
        assert!(group.is_empty());
    });
}

/// G2: the lead as a value: who lands it serves all, and learns how many they were.
#[test]
fn g02_lead_lands_for_its_followers() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let alone = lead(&group, 1);
        assert!(group.is_in_flight(&1));
        assert_eq!(alone.land(1), 0);
        assert!(group.is_empty());

        let leads = lead(&group, 1);
        let mut runs = Polled::pending(group.run(&1, async { 0 }));
        let mut calls = Polled::pending(group.call(&1).run(async { 0 }));
        let Entry::Join(joins) = group.lead_or_join(&1) else { panic!("two leads") };
        let left = join(&group, 1);
        drop(left);
        assert_eq!(leads.land(2), 3);
        assert!(group.is_empty());
        assert_eq!(runs.woken_value(), 2);
        assert_eq!(calls.woken_value().expect("a value").role, Role::Joined);
        assert_eq!(joins.wait(), Ok(2));
    });
}

/// G7: a lead that is dropped is one that was cancelled: whoever has work takes over, and those who
/// have none wait for that one.
#[test]
fn g07_dropped_lead_is_taken_over() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let mut handle = Polled::pending(join(&group, 1));
        let (land, value) = oneshot::channel();
        let mut able = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        drop(leads);
        assert!(handle.poll().is_pending(), "somebody is left who can");
        let Entry::Join(newcomer) = group.lead_or_join(&1) else {
            panic!("the follower is about to take over")
        };
        assert!(able.poll().is_pending());
        land.send(5).expect("it waits");
        let outcome = able.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (5, Role::Led { followers: 2 }));
        assert_eq!(handle.woken_value(), Ok(5));
        assert_eq!(newcomer.wait(), Ok(5));
        assert!(group.is_empty());
    });
}

/// G7, G4: without anybody who can, the handles are told at once, and the key is free: when the lead
/// goes, when the last one able goes, and in threads.
#[test]
fn g07_handles_are_told_as_soon_as_nobody_can_lead() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let mut handles: Vec<_> = (0..3).map(|_| Polled::pending(join(&group, 1))).collect();
        let (tell, told) = mpsc::channel();
        let handle = join(&group, 1);
        let thread = thread::spawn(move || tell.send(handle.wait()));
        drop(leads);
        assert!(group.is_empty());
        for handle in &mut handles {
            assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        }
        assert_eq!(told.recv_timeout(LIMIT), Ok(Err(CallError::Cancelled)));
        thread.join().expect("no panic").expect("the test listens");

        let leader = Polled::pending(group.run(&1, pending()));
        let able = [(); 2].map(|()| Polled::pending(group.run(&1, async { 1 })));
        let mut handle = Polled::pending(join(&group, 1));
        drop(leader);
        let [one, other] = able;
        drop(one);
        assert!(handle.poll().is_pending(), "one is left");
        drop(other);
        assert!(group.is_empty());
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
    });
}

/// G7: one that asked for `OnCancel::Fail` cannot take over either.
#[test]
fn g07_handles_do_not_wait_for_those_who_only_want_to_be_told() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let told = group.call(&1).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(told.run(async { 0 }));
        let mut handle = Polled::pending(join(&group, 1));
        drop(leads);
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert!(group.is_empty());
    });
}

/// G7: a handle that goes affects nobody, also the last one of a flight.
#[test]
fn g07_dropped_handles_affect_nobody() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let handle = Polled::pending(join(&group, 1));
        let mut stays = Polled::pending(join(&group, 1));
        drop(handle);
        assert!(!stays.is_woken());
        let mut able = Polled::pending(group.run(&1, async { 6 }));
        drop(leads);
        drop(join(&group, 1));
        assert_eq!(able.woken_value(), 6);
        assert_eq!(stays.woken_value(), Ok(6));
        assert!(group.is_empty());
    });
}

/// Clones of a handle count once; each of them has the value, again and again, also after the flight.
#[test]
fn s41_clones_of_a_handle_count_once() {
    limited(|| {
        let group: Group<u64, Arc<str>> = Group::new();
        let leads = lead(&group, 1);
        let handle = join(&group, 1);
        let mut clones: Vec<_> = (0..5).map(|_| Polled::pending(handle.clone())).collect();
        let refused = group.call(&1).max_followers(1).run_blocking(|| unreachable!("refused"));
        assert_eq!(refused, Err(CallError::TooManyFollowers));
        drop(handle);
        clones.pop();
        let refused = group.call(&1).max_followers(1).run_blocking(|| unreachable!("refused"));
        assert_eq!(refused, Err(CallError::TooManyFollowers), "its clones are left");
        let value: Arc<str> = "value".into();
        assert_eq!(leads.land(Arc::clone(&value)), 1);
        for clone in &mut clones {
            assert!(Arc::ptr_eq(&clone.woken_value().expect("a value"), &value));
        }
    });
}

/// A place that the last clone gives up is free.
#[test]
fn s41_last_clone_gives_the_place_up() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let handle = join(&group, 1);
        let clone = handle.clone();
        drop((handle, clone));
        let follower = group.call(&1).max_followers(1);
        let mut follower = Polled::pending(follower.run(async { 0 }));
        assert_eq!(leads.land(1), 1);
        assert_eq!(follower.woken_value().expect("a value").value, 1);
    });
}

/// An answer stays: a handle that is polled again after it was ready gives it again, and a clone of it
/// that never waited has it at once.
#[test]
fn g02_handle_gives_its_answer_again() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let mut lands = Polled::pending(join(&group, 1));
        let never_waited = join(&group, 1);
        leads.land(7);
        assert_eq!(lands.woken_value(), Ok(7));
        assert_eq!(lands.poll(), Poll::Ready(Ok(7)));
        for _ in 0..3 {
            assert_eq!(never_waited.clone().wait(), Ok(7));
            assert_eq!(never_waited.clone().wait_timeout(Duration::ZERO), Ok(7));
        }
        assert_eq!(block_on(never_waited), Ok(7));

        let leads = lead(&group, 1);
        let mut cancelled = Polled::pending(join(&group, 1));
        drop(leads);
        assert_eq!(cancelled.woken_value(), Err(CallError::Cancelled));
        // That a newer flight lands is nothing to it.
        assert_eq!(group.run_blocking(&1, || 8), 8);
        assert_eq!(cancelled.poll(), Poll::Ready(Err(CallError::Cancelled)));
    });
}

/// A handle may be polled by one task and then by another: the last one is woken.
#[test]
fn s20_handle_moves_between_tasks() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let mut handle = join(&group, 1);
        assert!(block_on(futures_lite::future::poll_once(&mut handle)).is_none());
        let mut handle = Polled::pending(handle);
        assert_eq!(leads.land(1), 1);
        assert_eq!(handle.woken_value(), Ok(1));
        // Also from a task to a thread.
        let leads = lead(&group, 1);
        let mut handle = join(&group, 1);
        assert!(block_on(futures_lite::future::poll_once(&mut handle)).is_none());
        let thread = thread::spawn(move || handle.wait());
        leads.land(2);
        assert_eq!(thread.join().expect("no panic"), Ok(2));
    });
}

/// `wait_timeout` gives up its place when the time has come; for ever is for ever.
#[test]
fn wait_timeout_gives_up_when_the_time_has_come() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            assert_eq!(join(&group, 1).wait_timeout(timeout), Err(CallError::TimedOut));
        }
        let handle = join(&group, 1);
        let waits = handle.clone();
        let thread = thread::spawn(move || waits.wait_timeout(Duration::MAX));
        assert_eq!(handle.wait_timeout(Duration::from_millis(1)), Err(CallError::TimedOut));
        assert_eq!(leads.land(9), 1, "those who gave up have left");
        assert_eq!(thread.join().expect("no panic"), Ok(9));
    });
}

/// G8: a panic of the work reaches the handles as text.
#[test]
fn g08_panic_of_the_work_reaches_handles() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut handle = None;
        let text = panic_text(|| {
            group.run_blocking(&1, || {
                handle = group.join(&1);
                panic!("on purpose")
            })
        });
        assert_eq!(text, "on purpose");
        match handle.expect("in flight").wait() {
            Err(CallError::Panicked(panicked)) => assert_eq!(panicked.message(), "on purpose"),
            other => panic!("{other:?}"),
        }
        assert!(group.is_empty());
    });
}

/// G8: a panic that unwinds through the owner of a lead abandons the flight.
#[test]
fn g08_panic_of_the_owner_abandons_the_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let handle = join(&group, 1);
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            let _leads = leads;
            panic!("on purpose")
        }));
        assert!(unwound.is_err());
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        assert!(group.is_empty());
    });
}

/// G13: to take a handle inside the work is legal; to wait for it there is reported, as often as it is
/// tried, and outside it has the value.
#[test]
fn g13_handle_waited_for_inside_its_work_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut kept = None;
        let value = block_on(group.run(&1, async {
            let mut handle = join(&group, 1);
            assert_eq!((&mut handle).await, Err(CallError::Reentrant));
            yield_now().await;
            assert_eq!((&mut handle).await, Err(CallError::Reentrant));
            assert_eq!(handle.clone().wait(), Err(CallError::Reentrant));
            assert_eq!(handle.clone().wait_timeout(LIMIT), Err(CallError::Reentrant));
            let Entry::Join(other) = group.lead_or_join(&1) else { panic!("it is led") };
            group.run_blocking(&2, || {
                assert_eq!(other.wait(), Err(CallError::Reentrant), "a -> b -> a");
                0
            });
            kept = Some(handle);
            5
        }));
        assert_eq!(value, 5);
        assert_eq!(kept.expect("set").wait(), Ok(5));
        assert!(group.is_empty());
    });
}

/// G13: a lead that is taken and landed inside the work of another key is legal, and so is one of the
/// same key after `forget`.
#[test]
fn g13_lead_inside_other_work_is_legal() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let value = group.run_blocking(&1, || {
            let other = lead(&group, 2);
            // Nobody works on it here, so to wait is no recursion.
            assert_eq!(join(&group, 2).wait_timeout(Duration::ZERO), Err(CallError::TimedOut));
            other.land(2);
            assert!(group.forget(&1));
            let newer = lead(&group, 1);
            let handle = join(&group, 1);
            newer.land(3);
            handle.wait().expect("a value")
        });
        assert_eq!(value, 3);
        assert!(group.is_empty());
    });
}

/// G5: a lead whose flight was forgotten lands for those who joined before, and leaves the newer
/// flight alone; dropped, it does so, too.
#[test]
fn g05_forgotten_lead_lands_for_its_own() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for lands in [true, false] {
            let old = lead(&group, 1);
            let handle = join(&group, 1);
            assert!(!group.forget_unshared(&1), "a handle is a follower");
            assert!(group.forget(&1));
            let newer = lead(&group, 1);
            let newer_handle = join(&group, 1);
            if lands {
                assert_eq!(old.land(1), 1);
                assert_eq!(handle.wait(), Ok(1));
            } else {
                drop(old);
                assert_eq!(handle.wait(), Err(CallError::Cancelled));
            }
            assert!(group.is_in_flight(&1));
            assert_eq!(newer.land(2), 1);
            assert_eq!(newer_handle.wait(), Ok(2));
            assert!(group.is_empty());
        }
        let unshared = lead(&group, 1);
        assert!(group.forget_unshared(&1));
        assert_eq!(unshared.land(1), 0);
    });
}

/// Leads and handles borrow nothing: they go to other threads, and the group may go before them.
#[test]
fn g12_leads_and_handles_outlive_every_group_handle() {
    limited(|| {
        let group: Group<u64, String> = Group::new();
        let (leads, abandons) = (lead(&group, 1), lead(&group, 2));
        let (handle, cancelled) = (join(&group, 1), join(&group, 2));
        drop(group);
        let landing = thread::spawn(move || leads.land("value".to_owned()));
        assert_eq!(handle.wait().as_deref(), Ok("value"));
        assert_eq!(landing.join().expect("no panic"), 1);
        drop(abandons);
        assert_eq!(cancelled.wait(), Err(CallError::Cancelled));
    });
}

/// G11: a value that nobody waits for is dropped, not cloned; nor does a lead clone one for itself.
#[test]
fn g11_lead_clones_nothing() {
    struct Counted(Arc<AtomicUsize>);
    impl Clone for Counted {
        fn clone(&self) -> Self {
            self.0.fetch_add(1, SeqCst);
            Self(Arc::clone(&self.0))
        }
    }

    limited(|| {
        let group: Group<u64, Counted> = Group::new();
        let clones = Arc::new(AtomicUsize::new(0));
        lead(&group, 1).land(Counted(Arc::clone(&clones)));
        let leads = lead(&group, 1);
        let handle = join(&group, 1);
        leads.land(Counted(Arc::clone(&clones)));
        assert_eq!(clones.load(SeqCst), 0);
        assert!(handle.wait().is_ok());
        assert_eq!(clones.load(SeqCst), 1);
        assert_eq!(Arc::strong_count(&clones), 1, "the flight keeps no value");
    });
}

/// Scenario 38: more than 65,535 handles follow one flight.
#[test]
fn s38_more_than_65_535_handles() {
    limited(|| {
        const HANDLES: usize = 70_000;
        let group: Group<u64, u32> = Group::new();
        let leads = lead(&group, 1);
        let mut handles: Vec<_> = (0..HANDLES).map(|_| join(&group, 1)).collect();
        let waits: Vec<_> = handles.drain(..100).map(Polled::pending).collect();
        assert_eq!(leads.land(1), HANDLES);
        for mut handle in waits {
            assert_eq!(handle.woken_value(), Ok(1));
        }
        assert!(handles.into_iter().all(|handle| handle.wait() == Ok(1)));
    });
}

/// G1, G6: threads lead, land, abandon and wait at random, beside callers with work: one leads at a
/// time, everybody comes back, and a handle is told only if its flight was abandoned.
#[test]
fn g01_leads_of_many_threads_are_one_at_a_time() {
    limited(|| {
        const ROUNDS: usize = 3_000;
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        thread::scope(|scope| {
            for seed in 0..4 {
                let (group, executions) = (&group, &executions);
                scope.spawn(move || {
                    let mut dice = Dice::new(seed);
                    for round in 0..ROUNDS {
                        match (dice.below(4), group.lead_or_join(&1)) {
                            (0, Entry::Lead(lead)) => {
                                drop(executions.begin());
                                drop(lead);
                            }
                            (_, Entry::Lead(lead)) => {
                                let running = executions.begin();
                                common::spin();
                                drop(running);
                                lead.land(round);
                            }
                            (0, Entry::Join(handle)) => drop(handle),
                            (1, Entry::Join(handle)) => {
                                let told = block_on(handle);
                                assert!(matches!(told, Ok(_) | Err(CallError::Cancelled)));
                            }
                            (_, Entry::Join(handle)) => {
                                let told = handle.wait();
                                assert!(matches!(told, Ok(_) | Err(CallError::Cancelled)));
                            }
                        }
                    }
                });
            }
            scope.spawn(|| {
                for round in 0..ROUNDS {
                    block_on(group.run(&1, executions.yielding(round)));
                    group.run_blocking(&1, || {
                        let _running = executions.begin();
                        round
                    });
                }
            });
        });
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(group.is_empty());
    });
}

/// G6: a handle that registers at the moment at which its flight lands, or is given up, hears of it.
#[test]
fn g06_handle_that_comes_at_the_last_moment_is_not_lost() {
    limited(|| {
        for round in 0..3_000_usize {
            let group: Group<u64, u32> = Group::new();
            let leads = lead(&group, 1);
            let handle = join(&group, 1);
            thread::scope(|scope| {
                scope.spawn(move || {
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    match round % 2 {
                        0 => assert_eq!(leads.land(1), 1),
                        _ => drop(leads),
                    }
                });
                let answer = if round % 4 < 2 { handle.wait() } else { block_on(handle) };
                assert_eq!(answer, if round % 2 == 0 { Ok(1) } else { Err(CallError::Cancelled) });
            });
            assert!(group.is_empty());
        }
    });
}
