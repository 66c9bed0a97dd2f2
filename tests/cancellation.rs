//! Callers that go before their answer: what the others notice of it, which is nothing.

#![cfg(not(loom))]

mod common;

use std::{
    cell::RefCell,
    future::pending,
    sync::{Arc, Barrier, Mutex, mpsc},
    task::{Context, Poll, Waker},
    thread,
};

use common::{
    Dice, Doorbell, Executions, LIMIT, OnDrop, Polled, RingingKey, Wakes, limited, on_tokio, settle,
};
use shardflight::{CallError, Group, OnCancel, Role};
use tokio::sync::oneshot;

/// Scenario 5, G7: a flight that loses a follower stays joinable, and its value reaches the rest.
#[test]
fn g07_dropped_follower_affects_nobody() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async {
            let _running = executions.begin();
            value.await.expect("sent")
        }));
        let goes = Polled::pending(group.run(&1, executions.yielding(0)));
        let mut stays = Polled::pending(group.run(&1, executions.yielding(0)));
        drop(goes);
        assert!(!leader.is_woken() && !stays.is_woken());
        let mut joins = Polled::pending(group.run(&1, executions.yielding(0)));

        land.send(5).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!(outcome.role, Role::Led { followers: 2 });
        assert_eq!((stays.woken_value(), joins.woken_value()), (5, 5));
        assert_eq!(executions.started(), 1);
        assert!(group.is_empty());
    });
}

/// Scenario 17, G6, G7: poll A, poll B, drop A: B completes with its own work.
#[test]
fn g07_follower_of_a_dropped_leader_completes() {
    limited(|| {
        let group: Group<u64, &str> = Group::new();
        let a = Polled::pending(group.run(&1, pending()));
        let mut b = Polled::pending(group.call(&1).run(async { "b" }));
        drop(a);
        let outcome = b.woken_value().expect("a value");
        assert_eq!(outcome.value, "b");
        assert_eq!(outcome.role, Role::Led { followers: 0 });
        assert!(group.is_empty());
    });
}

/// Scenario 17, G6: the same for a thread that waits.
#[test]
fn g07_blocking_follower_of_a_dropped_leader_completes() {
    limited(|| {
        let group: Group<RingingKey, &str> = Group::new();
        let bell = Doorbell::new();
        let silent = RingingKey::silent(1);
        let a = Polled::pending(group.run(&silent, pending()));
        let key = bell.key(1);
        thread::scope(|scope| {
            let b = scope.spawn(|| group.call(&key).run_blocking(|| "b"));
            bell.wait_for(1, &group, 1);
            drop(a);
            let outcome = b.join().expect("no panic").expect("a value");
            assert_eq!(outcome.value, "b");
            assert_eq!(outcome.role, Role::Led { followers: 0 });
        });
        assert!(group.is_empty());
    });
}

/// G7, G2: of many followers of a dropped leader one takes over, with its own work; the others get
/// its value, and newcomers join the same flight meanwhile.
#[test]
fn g07_dropped_leader_is_followed_by_exactly_one() {
    limited(|| {
        for followers in 1..=40 {
            let group: Group<u64, usize> = Group::new();
            let executions = Executions::default();
            let leader = Polled::pending(group.run(&1, executions.endless()));
            let mut callers: Vec<_> = (0..followers)
                .map(|i| {
                    let work = executions.yielding(i);
                    Some(Polled::pending(group.call(&1).run(work)))
                })
                .collect();
            drop(leader);
            assert!(group.is_in_flight(&1));
            // The work of whoever takes over yields once, so a newcomer finds it running.
            for caller in callers.iter_mut().flatten().filter(|c| c.is_woken()) {
                assert!(caller.poll().is_pending());
            }
            callers.push(Some(Polled::pending(group.call(&1).run(async { 99 }))));
            assert_eq!(group.len(), 1);

            let outcomes: Vec<_> = settle(&mut callers)
                .into_iter()
                .map(|(i, outcome)| (i, outcome.expect("a value")))
                .collect();
            assert_eq!(outcomes.len(), followers + 1);
            let leads: Vec<_> =
                outcomes.iter().filter(|(_, outcome)| outcome.role != Role::Joined).collect();
            assert_eq!(leads.len(), 1);
            let (leader, outcome) = leads[0];
            assert_eq!(outcome.role, Role::Led { followers });
            assert!(outcomes.iter().all(|(_, o)| o.value == *leader));
            assert_eq!((executions.started(), executions.peak()), (2, 1));
            assert!(group.is_empty());
        }
    });
}

/// Scenario 19, G6: whoever is woken to take over and dropped before it is polled, the next is
/// woken, down to the last.
#[test]
fn g06_lead_is_passed_on_when_the_chosen_successor_is_dropped() {
    limited(|| {
        for seed in 0..50 {
            let group: Group<u64, usize> = Group::new();
            let mut dice = Dice::new(seed);
            let leader = Polled::pending(group.run(&1, pending()));
            let mut callers: Vec<_> =
                (0..20).map(|i| Polled::pending(group.run(&1, async move { i }))).collect();
            drop(leader);
            while callers.len() > 1 {
                let woken: Vec<_> = (0..callers.len()).filter(|i| callers[*i].is_woken()).collect();
                assert!(!woken.is_empty(), "{} wait for nobody", callers.len());
                drop(callers.swap_remove(woken[dice.below(woken.len())]));
                assert!(group.is_in_flight(&1));
            }
            let mut last = callers.pop().expect("one is left");
            assert!(last.woken_value() < 20);
            assert!(group.is_empty());
        }
    });
}

/// Scenario 19, G6: a chosen successor that is dropped has left before its own work is: whatever that
/// work's destructor waits for, the next one leads meanwhile.
#[test]
fn g06_dropped_successor_leaves_before_its_work_is_dropped() {
    struct WaitsForTheNext(mpsc::Receiver<()>);
    impl Drop for WaitsForTheNext {
        fn drop(&mut self) {
            self.0.recv_timeout(LIMIT).expect("the next one leads");
        }
    }

    limited(|| {
        // Which of the two is chosen changes from round to round.
        for _ in 0..50 {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let (key, silent) = (bell.key(1), RingingKey::silent(1));
            let (begun, has_begun) = mpsc::channel();
            let leader = Polled::pending(group.run(&silent, pending()));
            let waits = WaitsForTheNext(has_begun);
            let dropped = Polled::pending(group.run(&silent, async {
                let _waits = waits;
                pending().await
            }));
            thread::scope(|scope| {
                let next = scope.spawn(|| {
                    group.run_blocking(&key, || {
                        begun.send(()).expect("it is waited for");
                        1
                    })
                });
                bell.wait_for(1, &group, 1);
                drop(leader);
                drop(dropped);
                assert_eq!(next.join().expect("no panic"), 1);
            });
            assert!(group.is_empty());
        }
    });
}

/// The same where the next one is a task. Threads are woken before tasks, so a thread would be woken
/// by the cancelled leader already.
#[test]
fn g06_dropped_successor_wakes_the_next_task_before_its_work_is_dropped() {
    limited(|| {
        let mut alone = 0;
        // In some rounds both are woken.
        for _ in 0..50 {
            let group: Group<u64, u32> = Group::new();
            let next = RefCell::new(None);
            let leader = Polled::pending(group.run(&1, pending()));
            let last = OnDrop::new(|| {
                let mut next = next.borrow_mut();
                let next: &mut Polled<'_, u32> = next.as_mut().expect("it follows");
                assert_eq!(next.woken_value(), 2);
            });
            let dropped = Polled::pending(group.run(&1, async {
                let _last = last;
                pending().await
            }));
            *next.borrow_mut() = Some(Polled::pending(group.run(&1, async { 2 })));
            drop(leader);
            assert!(dropped.is_woken());
            alone += u32::from(next.borrow().as_ref().is_some_and(|next| !next.is_woken()));
            drop(dropped);
            assert!(group.is_empty());
        }
        assert!(alone > 0);
    });
}

/// Scenario 19, G4: if the last of them is dropped, too, nothing is left.
#[test]
fn g04_flight_whose_successors_are_all_dropped_leaves_nothing() {
    limited(|| {
        for order in 0..20 {
            let group: Group<u64, u32> = Group::new();
            let mut dice = Dice::new(order);
            let mut callers: Vec<_> =
                (0..5).map(|_| Polled::pending(group.run(&1, pending()))).collect();
            while !callers.is_empty() {
                assert!(group.is_in_flight(&1));
                let one = dice.below(callers.len());
                drop(callers.remove(one));
            }
            assert!(group.is_empty());
        }
    });
}

/// Scenario 24, G7: 300 leaders of one flight are cancelled in a row, with 16 followers at any time;
/// each is followed by exactly one.
#[test]
fn g07_300_cancelled_leaders_in_a_row_are_each_followed_by_one() {
    limited(|| {
        const CANCELLED: usize = 300;
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let leading = Mutex::new(None);
        let call = |i: usize| {
            let (group, leading, work) = (&group, &leading, executions.endless());
            Some(Polled::pending(group.run(&1, async move {
                *leading.lock().expect("no panic") = Some(i);
                work.await
            })))
        };
        let mut callers: Vec<_> = (0..=16).map(call).collect();
        for _ in 0..CANCELLED {
            let leader = leading.lock().expect("no panic").take();
            callers[leader.expect("somebody leads")] = None;
            assert!(settle(&mut callers).is_empty());
            callers.push(call(callers.len()));
        }
        assert_eq!(executions.started(), CANCELLED + 1);
        assert_eq!((executions.running(), executions.peak()), (1, 1));
        drop(callers);
        assert!(group.is_empty());
    });
}

/// Scenario 19, G6: a follower that was woken and is not polled for long holds up the lead only if
/// it is the one to take it: the others who were woken decide without it.
#[test]
fn g06_lead_does_not_wait_for_a_woken_follower_that_is_not_polled() {
    limited(|| {
        let mut held = 0;
        for round in 0..100 {
            let group: Group<u64, usize> = Group::new();
            let executions = Executions::default();
            let leader = Polled::pending(group.run(&1, executions.endless()));
            let mut callers: Vec<_> = (0..20)
                .map(|_| Some(Polled::pending(group.run(&1, executions.endless()))))
                .collect();
            drop(leader);
            let woken: Vec<_> = (0..callers.len())
                .filter(|i| callers[*i].as_ref().is_some_and(Polled::is_woken))
                .collect();
            if woken.len() > 1 {
                let not_polled = callers.swap_remove(woken[round % woken.len()]);
                assert!(settle(&mut callers).is_empty());
                assert_eq!((executions.started(), executions.running()), (2, 1));
                held += 1;
                drop(not_polled);
            }
            drop(callers);
            assert!(group.is_empty());
        }
        assert!(held > 50, "only {held} rounds woke more than one");
    });
}

/// G7: a caller that asked for it is told at once that its leader was cancelled; the others take
/// over.
#[test]
fn g07_on_cancel_fail_is_told_and_the_others_take_over() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let leader = Polled::pending(group.call(&1).run(executions.endless()));
        let fail = || group.call(&1).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(fail().run(executions.yielding(1)));
        let mut takes_over = Polled::pending(group.call(&1).run(executions.yielding(2)));
        drop(leader);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert!(takes_over.is_woken());
        assert!(takes_over.poll().is_pending(), "its work yields once");

        // It follows the second leader, whose cancellation alone is told to it.
        let mut later = Polled::pending(fail().run(executions.yielding(3)));
        let outcome = takes_over.woken_value().expect("a value");
        assert_eq!(outcome.role, Role::Led { followers: 1 });
        let outcome = later.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Joined));
        assert_eq!(executions.started(), 2);
        assert!(group.is_empty());
    });
}

/// G7, G4: followers that all asked to be told end an abandoned flight; the next call begins anew.
#[test]
fn g07_flight_of_followers_that_cannot_lead_ends_with_its_leader() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let mut told: Vec<_> = (0..3)
            .map(|_| {
                let call = group.call(&1).on_cancel(OnCancel::Fail);
                Polled::pending(call.run(async { 1 }))
            })
            .collect();
        drop(leader);
        assert!(group.is_empty(), "nobody inside can lead");
        let next = Polled::pending(group.run(&1, pending()));
        for told in &mut told {
            assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        }
        assert!(group.is_in_flight(&1), "they removed the newer flight");
        drop(next);
        assert!(group.is_empty());
    });
}

/// G7, G4: when the last follower that could lead leaves an abandoned flight, the flight is over,
/// whatever those do that were told.
#[test]
fn g07_flight_ends_when_the_last_that_could_lead_leaves() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let able = Polled::pending(group.run(&1, pending()));
        let call = group.call(&1).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(call.run(async { 1 }));
        drop(leader);
        assert!(group.is_in_flight(&1));
        drop(able);
        assert!(group.is_empty());
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
    });
}

/// G7: one that asked to be told of a cancellation leads like any other if it comes first, or finds
/// a flight that nobody leads.
#[test]
fn g07_on_cancel_fail_leads_where_nobody_does() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let fail = || group.call(&1).on_cancel(OnCancel::Fail);
        let first = Polled::pending(fail().run(pending()));
        let mut follower = Polled::pending(group.run(&1, async { 1 }));
        drop(first);
        let mut newcomer = Polled::new(fail().run(async { 2 }));
        let Poll::Ready(Ok(outcome)) = newcomer.poll() else {
            panic!("it was to lead at once");
        };
        assert_eq!(outcome.role, Role::Led { followers: 1 });
        assert_eq!(follower.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// G7: a blocking caller is told, too.
#[test]
fn g07_blocking_on_cancel_fail_is_told() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let silent = RingingKey::silent(1);
        let leader = Polled::pending(group.run(&silent, pending()));
        let key = bell.key(1);
        thread::scope(|scope| {
            let told = scope.spawn(|| {
                let call = group.call(&key).on_cancel(OnCancel::Fail);
                call.run_blocking(|| unreachable!("it is not to lead"))
            });
            bell.wait_for(1, &group, 1);
            drop(leader);
            let answer = told.join().expect("no panic");
            assert_eq!(answer, Err(CallError::Cancelled));
        });
        assert!(group.is_empty());
    });
}

/// Scenario 20, G6: the waker of the last poll is the one that is woken.
#[test]
fn g06_replaced_waker_is_the_one_that_is_woken() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let mut follower = Box::pin(group.run(&1, pending()));
        let wakes: Vec<_> = (0..3).map(|_| Arc::new(Wakes::default())).collect();
        for wakes in &wakes {
            let waker = Waker::from(Arc::clone(wakes));
            let polled = follower.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        land.send(1).expect("it waits");
        assert_eq!(leader.woken_value(), 1);
        let counts: Vec<_> = wakes.iter().map(|wakes| wakes.count()).collect();
        assert_eq!(counts, [0, 0, 1]);
    });
}

/// Scenario 20, G6: a follower that moves to another task, with another waker, while the flight
/// lands is not lost.
#[test]
fn g06_waker_replaced_while_the_flight_lands_is_woken() {
    limited(|| {
        for _ in 0..1_000 {
            let group: Group<u64, u32> = Group::new();
            let (land, value) = oneshot::channel();
            let leader = Box::pin(group.run(&1, async { value.await.expect("sent") }));
            let mut leader = leader;
            assert!(poll_with(&mut leader, Waker::noop()).is_pending());
            let mut follower = Box::pin(group.run(&1, pending()));
            assert!(poll_with(&mut follower, Waker::noop()).is_pending());
            let start = Barrier::new(2);
            land.send(3).expect("it waits");
            thread::scope(|scope| {
                scope.spawn(|| {
                    start.wait();
                    assert_eq!(poll_with(&mut leader, Waker::noop()), Poll::Ready(3));
                });
                start.wait();
                // `block_on` sleeps until it is woken through its own waker.
                assert_eq!(futures_lite::future::block_on(&mut follower), 3);
            });
        }
    });
}

fn poll_with<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Scenario 21, G6: a follower that joins at the moment of the landing gets the value or leads; it
/// never waits for a notification that is already over.
#[test]
fn g06_landing_between_check_and_registration_is_not_lost() {
    limited(|| {
        for round in 0..3_000_usize {
            let group: Group<u64, u32> = Group::new();
            let start = Barrier::new(2);
            thread::scope(|scope| {
                scope.spawn(|| {
                    group.run_blocking(&1, || {
                        start.wait();
                        // Shifts the landing through the other's joining.
                        (0..round % 64).for_each(|_| std::hint::spin_loop());
                        1
                    })
                });
                start.wait();
                let value = futures_lite::future::block_on(group.run(&1, async { 2 }));
                assert!(value == 1 || value == 2);
            });
            assert!(group.is_empty());
        }
    });
}

/// Scenario 21, G6: the same with a leader that is cancelled at that moment.
#[test]
fn g06_abandoning_between_check_and_registration_is_not_lost() {
    limited(|| {
        for round in 0..3_000_usize {
            let group: Group<u64, u32> = Group::new();
            let start = Barrier::new(2);
            let mut leader = Box::pin(group.run(&1, pending()));
            assert!(poll_with(&mut leader, Waker::noop()).is_pending());
            thread::scope(|scope| {
                let group = &group;
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    drop(leader);
                });
                start.wait();
                if round % 2 == 0 {
                    assert_eq!(group.run_blocking(&1, || 2), 2);
                } else {
                    assert_eq!(futures_lite::future::block_on(group.run(&1, async { 2 })), 2);
                }
            });
            assert!(group.is_empty());
        }
    });
}

/// G6, G7: tasks that give up at random moments never strand the others.
#[test]
fn g07_random_cancellations_strand_nobody() {
    on_tokio(|| async {
        let group: Group<usize, usize> = Group::new();
        let executions: Vec<_> = (0..3).map(|_| Executions::default()).collect();
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (group, executions) = (group.clone(), executions.clone());
                tokio::spawn(async move {
                    let mut dice = Dice::new(task);
                    for i in 0..1_000 {
                        let key = dice.below(executions.len());
                        let mut call = Box::pin(group.run(&key, executions[key].yielding(i)));
                        for _ in 0..dice.below(4) {
                            if futures_lite::future::poll_once(&mut call).await.is_some() {
                                break;
                            }
                            tokio::task::yield_now().await;
                        }
                    }
                    // Everybody who stays gets an answer.
                    for (key, executions) in executions.iter().enumerate() {
                        group.run(&key, executions.yielding(0)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no task fails");
        }
        for executions in executions {
            assert_eq!((executions.running(), executions.peak()), (0, 1));
        }
        assert!(group.is_empty());
    });
}

/// Scenario 18: a leader that is never polled again, and not dropped, holds its followers; after
/// `forget` the key is free.
#[test]
fn s18_stuck_leader_holds_the_key_until_it_is_forgotten() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let stuck = Polled::pending(group.run(&1, pending()));
        let mut waits = Polled::pending(group.run(&1, async { 1 }));
        assert!(waits.poll().is_pending());
        assert!(group.forget(&1));
        let mut next = Polled::new(group.run(&1, async { 2 }));
        assert_eq!(next.poll(), Poll::Ready(2));
        assert!(waits.poll().is_pending(), "it goes on following");
        drop(stuck);
        assert_eq!(waits.woken_value(), 1);
        assert!(group.is_empty());
    });
}
