//! `relay`: work that goes from a cancelled leader to the one that takes over, half done.

#![cfg(not(loom))]

mod common;

use std::{
    collections::HashMap,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use common::{
    Crowd, Dice, Doorbell, Executions, LIMIT, OnDrop, Polled, RingingKey, limited, on_tokio,
    panic_text, settle, waits_for,
};
use futures_lite::future::{block_on, poll_once, yield_now};
use shardflight::{CallError, Entry, Group, OnCancel, Role};
use tokio::sync::oneshot;

/// What a follower's own work is while there is another's.
async fn not_mine<T>() -> T {
    unreachable!("there is work already")
}

/// G7, G2: over a hundred leaders that are cancelled one after the other the work is started once,
/// never dropped, and its value is the last one's.
#[test]
fn g07_relayed_work_is_started_once_however_many_leaders_are_cancelled() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let work = waits_for(&executions, value);
        let mut leader = Polled::pending(group.call(&1).relay(work));
        for _ in 0..100 {
            let mut follower = Polled::pending(group.call(&1).relay(not_mine()));
            drop(leader);
            assert!(follower.is_woken());
            assert!(follower.poll().is_pending());
            assert_eq!((executions.started(), executions.running()), (1, 1));
            leader = follower;
        }
        land.send(7).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (7, Role::Led { followers: 0 }));
        assert_eq!(executions.running(), 0);
        assert!(group.is_empty());
    });
}

/// G7, G1: callers are dropped in any order, leaders and followers, until one is left: it has the
/// value of the one execution.
#[test]
fn g07_relayed_work_lasts_as_long_as_one_caller_is_left() {
    limited(|| {
        for seed in 0..200 {
            let group: Group<u64, u32> = Group::new();
            let executions = Executions::default();
            let mut dice = Dice::new(seed);
            let (land, value) = oneshot::channel();
            let first = group.call(&1).relay(waits_for(&executions, value));
            let mut callers = vec![Some(Polled::pending(first))];
            for _ in 0..8 {
                callers.push(Some(match dice.below(2) {
                    0 => Polled::pending(group.call(&1).relay(not_mine())),
                    _ => Polled::pending(group.call(&1).run(not_mine())),
                }));
            }
            while callers.len() > 1 {
                drop(callers.swap_remove(dice.below(callers.len())));
                // At times several go before anybody looks.
                if dice.below(3) > 0 {
                    assert!(settle(&mut callers).is_empty());
                }
                assert_eq!((executions.started(), executions.running()), (1, 1));
                assert_eq!(group.len(), 1);
            }
            assert!(settle(&mut callers).is_empty());
            land.send(7).expect("it waits");
            let outcomes = settle(&mut callers);
            let outcome = outcomes[0].1.as_ref().expect("a value");
            assert_eq!((outcome.value, outcome.role), (7, Role::Led { followers: 0 }));
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
    });
}

/// G11, G7: who only follows is a follower like any other: its own work never runs, and it gets the
/// value.
#[test]
fn g02_relay_follows_and_is_followed() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let mut follower = Polled::pending(group.call(&1).relay(not_mine()));
        land.send(1).expect("it waits");
        assert_eq!(leader.woken_value(), 1);
        assert_eq!(follower.woken_value().expect("a value").role, Role::Joined);

        let (land, value) = oneshot::channel();
        let executions = Executions::default();
        let work = waits_for(&executions, value);
        let mut leader = Polled::pending(group.call(&1).relay(work));
        let mut follower = Polled::pending(group.run(&1, not_mine()));
        land.send(2).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 1 }));
        assert_eq!(follower.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// G7: a plain leader's work is its own, also if those who follow it would relay theirs.
#[test]
fn g07_plain_work_is_not_relayed_and_the_follower_relays_its_own() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (plain, relayed) = (Executions::default(), Executions::default());
        let leader = Polled::pending(group.run(&1, plain.endless()));
        let (land, value) = oneshot::channel();
        let mut second = Polled::pending(group.call(&1).relay(waits_for(&relayed, value)));
        drop(leader);
        assert_eq!(plain.running(), 0);
        assert!(second.poll().is_pending());
        let mut third = Polled::pending(group.run(&1, not_mine()));
        drop(second);
        assert!(third.poll().is_pending());
        land.send(3).expect("it waits");
        assert_eq!(third.woken_value(), 3);
        assert_eq!((plain.started(), relayed.started()), (1, 1));
        assert!(group.is_empty());
    });
}

/// G7: a task that has not been spawned anywhere, and a batch, go on with another's work, too.
#[test]
fn g07_tasks_and_batches_go_on_with_relayed_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let leader = Polled::pending(group.call(&1).relay(waits_for(&executions, value)));
        let (task, handle) = group.call(&1).task(not_mine()).expect("no limit");
        let mut task = Polled::pending(task);
        let mut handle = Polled::pending(handle);
        drop(leader);
        assert!(task.poll().is_pending());
        land.send(4).expect("it waits");
        task.woken_value();
        assert_eq!(handle.woken_value(), Ok(4));

        let (land, value) = oneshot::channel();
        let leader = Polled::pending(group.call(&1).relay(waits_for(&executions, value)));
        let mut loads = Vec::new();
        let mut batch = Polled::pending(group.run_many([1, 2], |keys| {
            loads.push(keys.clone());
            async move { keys.into_iter().map(|key| (key, 20)).collect::<Vec<_>>() }
        }));
        drop(leader);
        assert!(batch.poll().is_pending());
        assert!(!group.is_in_flight(&2), "it has landed by itself");
        land.send(5).expect("it waits");
        assert_eq!(batch.woken_value(), HashMap::from([(1, 5), (2, 20)]));
        drop(batch);
        assert_eq!(loads, [[2]]);
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// G7, G12: a thread goes on with it, and blocks on it.
#[test]
fn g07_thread_goes_on_with_relayed_work() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let silent = RingingKey::silent(1);
        let leader = group.call(&silent).relay(waits_for(&executions, value));
        let leader = Polled::pending(leader);
        let keys = [bell.key(1), bell.key(1)];
        thread::scope(|scope| {
            let threads = keys.each_ref().map(|key| {
                scope.spawn(|| group.call(key).run_blocking(|| unreachable!("not its own")))
            });
            bell.wait_for(2, &group, 1);
            drop(leader);
            land.send(6).expect("it waits");
            let mut followers: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic").expect("a value"))
                .map(|outcome| (outcome.value, outcome.is_shared()))
                .collect();
            followers.sort_unstable();
            assert_eq!(followers, [(6, true), (6, true)]);
        });
        assert_eq!((executions.started(), executions.running()), (1, 0));
        assert!(group.is_empty());
    });
}

/// G7: those who asked for `OnCancel::Fail`, and handles, do not go on with it: without anybody else
/// it is dropped, and they are told. With somebody else it is not.
#[test]
fn g07_told_followers_and_handles_do_not_go_on_with_relayed_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for with_another in [false, true] {
            let executions = Executions::default();
            let (land, value) = oneshot::channel();
            let leader = Polled::pending(group.call(&1).relay(waits_for(&executions, value)));
            let told = group.call(&1).on_cancel(OnCancel::Fail);
            let mut told = Polled::pending(told.relay(not_mine()));
            let mut handle = Polled::pending(group.join(&1).expect("in flight"));
            let another = with_another.then(|| Polled::pending(group.run(&1, not_mine())));
            drop(leader);
            assert_eq!(told.woken_value(), Err(CallError::Cancelled));
            let Some(mut another) = another else {
                assert_eq!(executions.running(), 0);
                assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
                assert!(group.is_empty());
                continue;
            };
            assert!(handle.poll().is_pending() && another.poll().is_pending());
            land.send(7).expect("it waits");
            assert_eq!((another.woken_value(), handle.woken_value()), (7, Ok(7)));
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
    });
}

/// G7: one that asked for `OnCancel::Fail` and comes when nobody leads finds the work and goes on
/// with it.
#[test]
fn g07_newcomer_to_a_leaderless_flight_goes_on_with_relayed_work() {
    limited(|| {
        for on_cancel in [OnCancel::TakeOver, OnCancel::Fail] {
            let group: Group<u64, u32> = Group::new();
            let executions = Executions::default();
            let (land, value) = oneshot::channel();
            let leader = Polled::pending(group.call(&1).relay(waits_for(&executions, value)));
            let mut sleeps = Polled::pending(group.run(&1, not_mine()));
            drop(leader);
            let newcomer = group.call(&1).on_cancel(on_cancel).run(not_mine());
            let mut newcomer = Polled::pending(newcomer);
            land.send(8).expect("it waits");
            let outcome = newcomer.woken_value().expect("a value");
            assert_eq!((outcome.value, outcome.role), (8, Role::Led { followers: 1 }));
            assert_eq!(sleeps.woken_value(), 8);
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
    });
}

/// G1: when nobody is left the work is dropped, and only then is the key free: by the leader that is
/// cancelled alone, by the last follower of a flight that has the work in it, and the same for flights
/// that move to the map because of others.
#[test]
fn g01_relayed_work_is_dropped_before_the_key_is_free() {
    limited(|| {
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum Last {
            Leader,
            LeaderThatWasFollowed,
            Follower,
            FollowerThatLed,
        }
        for last in
            [Last::Leader, Last::LeaderThatWasFollowed, Last::Follower, Last::FollowerThatLed]
        {
            let group: Group<u64, u32> = Group::new();
            let (tell, told) = mpsc::channel();
            let watch = OnDrop::new({
                let group = group.clone();
                move || {
                    // G13: it is a part of the work.
                    let nested = block_on(group.call(&1).run(async { 0 }));
                    tell.send((group.is_in_flight(&1), nested)).expect("the test listens");
                }
            });
            let leader = Polled::pending(group.call(&1).relay(async move {
                let _watch = watch;
                std::future::pending().await
            }));
            match last {
                Last::Leader => drop(leader),
                Last::LeaderThatWasFollowed => {
                    drop(Polled::pending(group.run(&1, not_mine())));
                    drop(leader);
                }
                Last::Follower => {
                    let follower = Polled::pending(group.run(&1, not_mine()));
                    drop(leader);
                    assert!(told.try_recv().is_err(), "it is in the flight");
                    drop(follower);
                }
                Last::FollowerThatLed => {
                    let mut follower = Polled::pending(group.run(&1, not_mine()));
                    drop(leader);
                    assert!(follower.poll().is_pending());
                    drop(follower);
                }
            }
            let seen = told.try_recv().expect("it was dropped");
            assert_eq!(seen, (true, Err(CallError::Reentrant)), "{last:?}");
            assert!(group.is_empty());
        }
    });
}

/// G1, G7: a forgotten flight relays its work as well, and the newer one of the key is left alone.
#[test]
fn g05_forgotten_flight_relays_its_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for is_left in [true, false] {
            let executions = Executions::default();
            let (land, value) = oneshot::channel();
            let leader = Polled::pending(group.call(&1).relay(waits_for(&executions, value)));
            let mut follower = Polled::pending(group.run(&1, not_mine()));
            assert!(group.forget(&1));
            let newer = Polled::pending(group.run(&1, std::future::pending()));
            drop(leader);
            if is_left {
                assert!(follower.poll().is_pending());
                land.send(1).expect("it waits");
                assert_eq!(follower.woken_value(), 1);
            } else {
                drop(follower);
            }
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert_eq!(group.len(), 1);
            drop(newer);
            assert!(group.is_empty());
        }
    });
}

/// Scenario 15, G8: the work panics after it has changed hands: its payload is for who polls it, and
/// the text for all others.
#[test]
fn g08_panic_of_relayed_work_hits_whoever_polls_it() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (panic, told) = oneshot::channel::<()>();
        let leader = Polled::pending(group.call(&1).relay(async {
            told.await.expect("sent");
            panic!("on purpose")
        }));
        let mut polls = Polled::pending(group.call(&1).run(not_mine()));
        drop(leader);
        assert!(polls.poll().is_pending());
        let mut runs = Polled::pending(group.run(&1, not_mine()));
        let mut calls = Polled::pending(group.call(&1).relay(not_mine()));
        let mut handle = Polled::pending(group.join(&1).expect("in flight"));
        panic.send(()).expect("it waits");
        assert_eq!(panic_text(|| polls.poll()), "on purpose");
        assert_eq!(panic_text(|| runs.poll()), "on purpose");
        for error in [calls.woken_value().map(drop), handle.woken_value().map(drop)] {
            match error {
                Err(CallError::Panicked(panicked)) => assert_eq!(panicked.message(), "on purpose"),
                other => panic!("{other:?}"),
            }
        }
        assert!(group.is_empty());
        assert_eq!(group.run_blocking(&1, || 9), 9, "the next call starts afresh");
    });
}

/// Scenario 15, G8: the same in a thread, and in a batch, which panic as from work of their own.
#[test]
fn g08_panic_of_relayed_work_in_threads_and_batches() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let silent = RingingKey::silent(1);
        let panics = || {
            let (panic, told) = oneshot::channel::<()>();
            let work = async {
                told.await.expect("sent");
                panic!("on purpose")
            };
            (panic, Polled::pending(group.call(&silent).relay(work)))
        };

        let bell = Doorbell::new();
        let key = bell.key(1);
        let (panic, leader) = panics();
        thread::scope(|scope| {
            let thread = scope.spawn(|| panic_text(|| group.run_blocking(&key, || 0)));
            bell.wait_for(1, &group, 1);
            drop(leader);
            panic.send(()).expect("it waits");
            assert_eq!(thread.join().expect("caught"), "on purpose");
        });
        assert!(group.is_empty());

        let (panic, leader) = panics();
        let load = |_: Vec<RingingKey>| async { [] };
        let mut batch = Polled::pending(group.run_many([silent.clone()], load));
        drop(leader);
        assert!(batch.poll().is_pending());
        let mut follower = Polled::pending(group.run(&silent, not_mine()));
        panic.send(()).expect("it waits");
        assert_eq!(panic_text(|| batch.poll()), "on purpose");
        assert_eq!(panic_text(|| follower.poll()), "on purpose");
        assert!(group.is_empty());
    });
}

/// G8: a panic in the work's destructor unwinds through whoever drops it, and the lead is passed on
/// all the same: to one that came meanwhile.
#[test]
fn g08_panic_in_the_drop_of_relayed_work_still_passes_the_lead_on() {
    limited(|| {
        let group: Arc<Group<RingingKey, u32>> = Arc::default();
        let bell = Doorbell::new();
        let key = bell.key(1);
        let silent = RingingKey::silent(1);
        let (joined, follower) = mpsc::channel();
        let last = OnDrop::new({
            let group = Arc::clone(&group);
            move || {
                let follows = Arc::clone(&group);
                let thread = thread::spawn(move || follows.run_blocking(&key, || 5));
                bell.wait_for(1, &group, 1);
                joined.send(thread).expect("the test listens");
                panic!("in the destructor")
            }
        });
        let leader = Polled::pending(group.call(&silent).relay(async move {
            let _last = last;
            std::future::pending().await
        }));
        assert_eq!(panic_text(|| drop(leader)), "in the destructor");
        let follower = follower.try_recv().expect("it has joined");
        assert_eq!(follower.join().expect("no panic"), 5);
        assert!(group.is_empty());
    });
}

/// G8, G4: and if it is dropped by the last follower to leave, nothing is left behind, and the handle
/// is told.
#[test]
fn g08_panic_in_the_drop_of_work_that_nobody_took_leaves_nothing() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let last = OnDrop::new(|| panic!("in the destructor"));
        let leader = Polled::pending(group.call(&1).relay(async move {
            let _last = last;
            std::future::pending().await
        }));
        let follower = Polled::pending(group.run(&1, not_mine()));
        let mut handle = Polled::pending(group.join(&1).expect("in flight"));
        drop(leader);
        assert!(handle.poll().is_pending());
        assert_eq!(panic_text(|| drop(follower)), "in the destructor");
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert!(group.is_empty());
    });
}

/// G1: a caller of `lead_or_join` that finds work in a flight that nobody inside can lead any more
/// drops it before it leads. (It finds one only in the moment before that flight is buried; here the
/// work's own destructor looks.)
#[test]
fn g01_lead_or_join_from_the_drop_of_relayed_work_joins() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (tell, told) = mpsc::channel();
        let last = OnDrop::new({
            let group = group.clone();
            move || {
                let joins = matches!(group.lead_or_join(&1), Entry::Join(_));
                tell.send(joins).expect("the test listens");
            }
        });
        let leader = Polled::pending(group.call(&1).relay(async move {
            let _last = last;
            std::future::pending().await
        }));
        drop(leader);
        assert!(told.try_recv().expect("it was dropped"), "the key was still taken");
        assert!(group.is_empty());
    });
}

/// Scenarios 2 and 8, G1: tasks and threads that relay, run and give up at random on one key.
#[test]
fn g01_relays_under_stress_run_one_work_at_a_time() {
    on_tokio(|| async {
        const ROUNDS: usize = 1_000;
        let mut crowd = Crowd::default();
        crowd.tasks((0..6).map(Dice::new), |mut dice, group, executions| async move {
            for i in 0..ROUNDS {
                let work = executions.yielding(i);
                let mut call = pin!(group.call(&1).relay(work));
                for _ in 0..dice.below(5) {
                    if poll_once(&mut call).await.is_some() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
            assert!(group.call(&1).relay(executions.yielding(0)).await.is_ok());
        });
        crowd.threads(0..2, |_, group, executions| {
            for i in 0..ROUNDS {
                group.run_blocking(&1, || executions.spinning(i));
            }
        });
        let (group, executions) = crowd.come_back().await;
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(group.is_empty());
    });
}

/// G7: threads race to be the one that is left: whoever follows when the leader goes keeps the work
/// alive, or it is dropped; it never is in two hands, and never lost.
#[test]
fn g07_relayed_work_is_finished_or_dropped_but_never_lost() {
    limited(|| {
        let (mut finished, mut dropped) = (0, 0);
        for round in 0..2_000_usize {
            let group: Group<u64, u32> = Group::new();
            let executions = Executions::default();
            let own = AtomicUsize::new(0);
            let work = executions.yielding(1);
            let mut leader = Box::pin(group.call(&1).relay(work));
            assert!(block_on(poll_once(&mut leader)).is_none());
            let mut leaves = Box::pin(group.run(&1, not_mine()));
            assert!(block_on(poll_once(&mut leaves)).is_none());
            thread::scope(|scope| {
                scope.spawn(move || {
                    (0..round % 64).for_each(|_| std::hint::spin_loop());
                    drop(leader);
                    drop(leaves);
                });
                let value = group.run_blocking(&1, || {
                    own.fetch_add(1, SeqCst);
                    assert_eq!(executions.running(), 0, "G1: the other work is not gone");
                    2
                });
                assert_eq!(value == 2, own.load(SeqCst) == 1);
                *(if value == 1 { &mut finished } else { &mut dropped }) += 1;
            });
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
        assert!(finished > 0, "nobody ever joined in time, {dropped} were dropped");
    });
}

/// G12: with the feature `tokio`, work that was begun in a runtime finds its timers on a plain thread.
#[cfg(feature = "tokio")]
#[test]
fn g12_relayed_work_takes_its_runtime_to_a_thread() {
    limited(|| {
        let group: Arc<Group<RingingKey, u32>> = Arc::default();
        let bell = Doorbell::new();
        let runtime = common::multi_thread();
        let (begun, has_begun) = mpsc::channel();
        let (go, may_go) = oneshot::channel::<()>();
        let leader = runtime.spawn({
            let group = Arc::clone(&group);
            async move {
                let work = async move {
                    begun.send(()).expect("the test waits");
                    may_go.await.expect("sent");
                    // Made on the thread, without a runtime around it.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    tokio::spawn(async { 3 }).await.expect("no panic")
                };
                group.call(&RingingKey::silent(1)).relay(work).await
            }
        });
        has_begun.recv_timeout(LIMIT).expect("it begins");
        let key = bell.key(1);
        thread::scope(|scope| {
            let thread = scope.spawn(|| group.run_blocking(&key, || unreachable!("not its own")));
            bell.wait_for(1, &group, 1);
            leader.abort();
            assert!(runtime.block_on(leader).expect_err("aborted").is_cancelled());
            go.send(()).expect("the work lives");
            assert_eq!(thread.join().expect("no panic"), 3);
        });
        assert!(group.is_empty());
    });
}

/// G12: and so does its destructor, wherever it is dropped.
#[cfg(feature = "tokio")]
#[test]
fn g12_relayed_work_is_dropped_in_the_context_of_its_runtime() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let runtime = common::multi_thread();
        let (tell, told) = mpsc::channel();
        let work = async move {
            let _last = OnDrop::new(move || {
                let has_context = tokio::runtime::Handle::try_current().is_ok();
                tell.send(has_context).expect("the test listens");
            });
            std::future::pending().await
        };
        let context = runtime.enter();
        let call = Polled::pending(group.call(&1).relay(work));
        drop(context);
        drop(call);
        assert_eq!(told.try_recv(), Ok(true));
        assert!(group.is_empty());
    });
}

/// G7: work that is ready when it is handed over is not polled again after it has returned, and a
/// relay that leads at once needs nobody.
#[test]
fn g02_relay_alone_is_a_call_like_any_other() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut call = Polled::new(group.call(&1).relay(async { 1 }));
        let Poll::Ready(Ok(outcome)) = call.poll() else { panic!("it was to be ready") };
        assert_eq!((outcome.value, outcome.role), (1, Role::Led { followers: 0 }));
        let outcome = block_on(group.call(&1).relay(async {
            yield_now().await;
            2
        }));
        assert_eq!(outcome.expect("a value").value, 2);
        assert!(group.is_empty());
    });
}
