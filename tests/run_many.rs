//! `run_many`: batches of keys, each of them a flight.

#![cfg(not(loom))]

mod common;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::{pending, ready},
    iter,
    pin::pin,
    sync::Barrier,
    task::Poll,
    thread,
};

use common::{
    Dice, Doorbell, Executions, Polled, RingingKey, limited, on_tokio, panic_text, settle,
};
use futures_lite::future::{block_on, poll_once, yield_now};
use shardflight::{CallError, Entry, Group, OnCancel, Role};
use tokio::sync::oneshot;

type Pairs = Vec<(u64, u64)>;

/// What the loads here return for a key.
fn tenfold(keys: Vec<u64>) -> Pairs {
    keys.into_iter().map(|key| (key, 10 * key)).collect()
}

/// A load that never comes to be.
async fn no_load(keys: Vec<u64>) -> Pairs {
    unreachable!("{keys:?} are in flight")
}

fn map<const N: usize>(pairs: [(u64, u64); N]) -> HashMap<u64, u64> {
    HashMap::from(pairs)
}

fn sorted(mut keys: Vec<u64>) -> Vec<u64> {
    keys.sort_unstable();
    keys
}

/// Scenario 40, G2: all keys are loaded by one call, one that is listed twice once.
#[test]
fn s40_keys_are_loaded_once_and_together() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let loads = RefCell::new(Vec::new());
        let load = |keys: Vec<u64>| {
            loads.borrow_mut().push(sorted(keys.clone()));
            ready(tenfold(keys))
        };
        let found = block_on(group.run_many([1, 2, 1, 3, 2, 1], load));
        assert_eq!(found, map([(1, 10), (2, 20), (3, 30)]));
        assert_eq!(loads.take(), [[1, 2, 3]]);
        assert!(group.is_empty());
    });
}

/// Without keys there is no load, and nothing happens before the first poll.
#[test]
fn g04_nothing_to_load_and_nothing_polled() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        assert_eq!(block_on(group.run_many([], no_load)), map([]));
        let keys = iter::once_with(|| -> u64 { unreachable!("it is not polled") });
        drop(group.run_many(keys, no_load));
        assert!(group.is_empty());
    });
}

/// Each key is a flight of its own: single calls and handles join it, and batches join single calls.
#[test]
fn g02_batches_and_single_calls_meet() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (land_1, value) = oneshot::channel();
        let mut leads_1 = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let Entry::Lead(lead_2) = group.lead_or_join(&2) else { panic!("the key is free") };
        let (land, loaded) = oneshot::channel::<Pairs>();
        let mut loads = Some(loaded);
        let mut batch = Polled::pending(group.run_many([1, 2, 3, 4], |keys| {
            assert_eq!(sorted(keys), [3, 4]);
            let loaded = loads.take().expect("loaded once");
            async { loaded.await.expect("sent") }
        }));
        assert_eq!(group.len(), 4);
        let mut follows_3 = Polled::pending(group.call(&3).run(async { 0 }));
        let follows_4 = group.join(&4).expect("in flight");
        let mut all = Polled::pending(group.run_many([4, 3, 2, 1], no_load));

        assert_eq!(lead_2.land(2), 2);
        assert!(batch.poll().is_pending());
        land.send(vec![(4, 4), (3, 3)]).expect("it waits");
        assert!(batch.poll().is_pending(), "one key is to come");
        // Keys land by themselves, whatever the rest of the batch waits for.
        assert_eq!(group.len(), 1);
        assert_eq!(follows_3.woken_value().expect("a value").role, Role::Joined);
        assert_eq!(follows_4.wait(), Ok(4));
        land_1.send(1).expect("it waits");
        let role = leads_1.woken_value().expect("a value").role;
        assert_eq!(role, Role::Led { followers: 2 });
        let expected = map([(1, 1), (2, 2), (3, 3), (4, 4)]);
        assert_eq!(batch.woken_value(), expected);
        assert_eq!(all.woken_value(), expected);
        assert!(group.is_empty());
    });
}

/// A key that the load leaves out is absent, and abandoned: who follows with work takes over, and the
/// others are told. What it returns beyond its keys is dropped, and so is what it returns twice.
#[test]
fn g07_key_that_is_left_out_is_abandoned() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let mut batch = Polled::pending(group.run_many([1, 2, 3], |_| async {
            yield_now().await;
            vec![(2, 20), (9, 90), (2, 21)]
        }));
        let mut takes_over = Polled::pending(group.run(&1, async { 11 }));
        let told = group.call(&1).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(told.run(async { 0 }));
        let handle = group.join(&3).expect("in flight");
        let other = Polled::pending(group.run(&9, pending()));
        assert_eq!(batch.woken_value(), map([(2, 20)]));
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(takes_over.woken_value(), 11);
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        assert!(group.is_in_flight(&9), "that was not the batch's");
        drop(other);
        assert!(group.is_empty());
    });
}

/// A joined key whose leader is cancelled is led by another call of the load, beside the first.
#[test]
fn g07_joined_key_whose_leader_is_cancelled_is_loaded() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let cancelled = Polled::pending(group.run(&1, pending()));
        let loads = RefCell::new(Vec::new());
        let mut batch = Polled::pending(group.run_many([1, 2], |keys| {
            let (land, loaded) = oneshot::channel::<Pairs>();
            loads.borrow_mut().push((keys, land));
            async { loaded.await.expect("sent") }
        }));
        drop(cancelled);
        assert!(batch.is_woken() && batch.poll().is_pending());
        let mut follower = Polled::pending(group.run(&1, async { unreachable!("the batch is") }));
        let [(first, land_2), (second, land_1)] =
            loads.take().try_into().expect("the first does not wait for the second, nor it for it");
        assert_eq!((&first[..], &second[..]), (&[2][..], &[1][..]));
        land_1.send(vec![(1, 10)]).expect("it waits");
        assert!(batch.poll().is_pending());
        assert_eq!(follower.woken_value(), 10);
        land_2.send(vec![(2, 20)]).expect("it waits");
        assert_eq!(batch.woken_value(), map([(1, 10), (2, 20)]));
        assert!(group.is_empty());
    });
}

/// If somebody else takes a joined key over, the batch goes on following.
#[test]
fn g07_joined_key_that_another_takes_over_is_not_loaded() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let cancelled = Polled::pending(group.run(&1, pending()));
        let mut batch = Polled::pending(group.run_many([1], no_load));
        drop(cancelled);
        assert_eq!(block_on(group.run(&1, async { 11 })), 11);
        assert_eq!(batch.woken_value(), map([(1, 11)]));
        assert!(group.is_empty());
    });
}

/// Cancelling a batch drops what it loads before any of its keys is free or passed on, and those who
/// follow take over.
#[test]
fn g01_cancelled_load_is_dropped_before_its_keys_are_passed_on() {
    struct Watch<'a>(&'a Group<u64, u64>, &'a Cell<usize>);
    impl Drop for Watch<'_> {
        fn drop(&mut self) {
            self.1.set(self.0.len());
        }
    }

    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let executions = Executions::default();
        let in_flight = Cell::new(0);
        let batch = Polled::pending(group.run_many([1, 2, 3], |_| {
            let watch = (Watch(&group, &in_flight), executions.begin());
            async {
                let _watch = watch;
                pending::<Pairs>().await
            }
        }));
        let followers = [&1, &2].map(|key| Polled::pending(group.run(key, executions.yielding(7))));
        drop(batch);
        assert_eq!(in_flight.get(), 3);
        assert_eq!(executions.running(), 0);
        let values = settle(&mut followers.map(Some));
        assert_eq!(values.len(), 2);
        assert!(group.is_empty());
    });
}

/// G7: a batch that is dropped leaves the flights that it joined as they were.
#[test]
fn g07_cancelled_batch_leaves_what_it_joined() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        drop(Polled::pending(group.run_many([1, 2], |_| pending::<Pairs>())));
        assert_eq!(group.len(), 1);
        land.send(1).expect("it waits");
        let outcome = leader.woken_value().expect("a value");
        assert_eq!(outcome.role, Role::Led { followers: 0 });
        assert!(group.is_empty());
    });
}

/// How a load panics.
#[derive(Debug, Clone, Copy)]
enum Panics {
    AtOnce,
    InTheFuture,
    InTheIterator,
}

/// Scenarios 16 and 40, G8: a load of two keys panics, at once, in its future, or in what that returns:
/// the caller unwinds with the payload, followers of both keys learn the text, and neither is stuck.
#[test]
fn s40_load_that_panics_leaves_no_key_stuck() {
    limited(|| {
        for panics in [Panics::AtOnce, Panics::InTheFuture, Panics::InTheIterator] {
            let group: Group<RingingKey, u64> = Group::new();
            let bell = Doorbell::new();
            let keys = [1, 2].map(|id| bell.key(id));
            let answers = thread::scope(|scope| {
                let mut followers = Vec::new();
                let mut follow = || {
                    for key in &keys {
                        let call = || group.call(key).run_blocking(|| 0);
                        followers.push(scope.spawn(call));
                    }
                    for id in [1, 2] {
                        bell.wait_for(1, &group, id);
                    }
                };
                let text = panic_text(|| {
                    block_on(group.run_many([1, 2].map(RingingKey::silent), |_| {
                        follow();
                        assert!(!matches!(panics, Panics::AtOnce), "on purpose");
                        async move {
                            yield_now().await;
                            assert!(!matches!(panics, Panics::InTheFuture), "on purpose");
                            let first = iter::once((RingingKey::silent(1), 10));
                            first.chain(iter::from_fn(|| panic!("on purpose")))
                        }
                    }))
                });
                assert_eq!(text, "on purpose");
                assert!(group.is_empty(), "{panics:?}");
                followers.into_iter().map(|f| f.join().expect("no panic")).collect::<Vec<_>>()
            });
            for answer in answers {
                match answer {
                    Err(CallError::Panicked(panicked)) => {
                        assert_eq!(panicked.message(), "on purpose");
                    }
                    other => panic!("{other:?}"),
                }
            }
            let found = block_on(group.run_many([1, 2].map(RingingKey::silent), |keys| {
                ready(keys.into_iter().map(|key| (key, 5)).collect::<Vec<_>>())
            }));
            assert_eq!(found.len(), 2);
        }
    });
}

/// G8: a joined key whose leader panics panics here, too, as in `run`; what the batch led is passed on.
#[test]
fn g08_panic_of_a_joined_key_is_one_of_the_batch() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let mut panics = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic!("on purpose")
        }));
        let mut batch = Polled::pending(group.run_many([1, 2], |_| pending::<Pairs>()));
        let mut takes_over = Polled::pending(group.run(&2, async { 3 }));
        assert_eq!(panic_text(|| panics.poll()), "on purpose");
        assert_eq!(panic_text(|| batch.poll()), "on purpose");
        drop(batch);
        assert_eq!(takes_over.woken_value(), 3);
        assert!(group.is_empty());
    });
}

/// G8: the second call of a load may panic, too.
#[test]
fn g08_panic_of_a_later_load_leaves_no_key_stuck() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let cancelled = Polled::pending(group.run(&1, pending()));
        let mut loads = 0;
        let mut batch = Polled::pending(group.run_many([1, 2], |_| {
            loads += 1;
            assert!(loads < 2, "on purpose");
            pending::<Pairs>()
        }));
        let mut follows_2 = Polled::pending(group.run(&2, async { 3 }));
        drop(cancelled);
        assert_eq!(panic_text(|| batch.poll()), "on purpose");
        assert!(!group.is_in_flight(&1));
        drop(batch);
        assert_eq!(follows_2.woken_value(), 3);
        assert!(group.is_empty());
    });
}

/// Scenario 40, G6: two batches that overlap half, in opposite order, wait for each other's keys and
/// load their own: no deadlock.
#[test]
fn s40_batches_that_overlap_half_do_not_deadlock() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let executions = Executions::default();
        let load = |keys| executions.yielding(tenfold(keys));
        let mut one = Polled::pending(group.run_many([1, 2, 3, 4], load));
        let mut other = Polled::pending(group.run_many([6, 5, 4, 3], load));
        assert!(other.is_woken());
        assert!(other.poll().is_pending());
        assert!(!group.is_in_flight(&5));
        assert_eq!(one.woken_value(), map([(1, 10), (2, 20), (3, 30), (4, 40)]));
        assert_eq!(other.woken_value(), map([(3, 30), (4, 40), (5, 50), (6, 60)]));
        assert_eq!(executions.started(), 2);
        assert!(group.is_empty());
    });
}

/// Scenario 40: the same with threads that begin together.
#[test]
fn s40_batches_of_threads_that_overlap_half_do_not_deadlock() {
    limited(|| {
        for round in 0..1_000 {
            let group: Group<u64, u64> = Group::new();
            let start = Barrier::new(2);
            let batch = |keys: [u64; 4]| {
                start.wait();
                let found = block_on(group.run_many(keys, |keys| async move {
                    if round % 2 == 0 {
                        yield_now().await;
                    }
                    tenfold(keys)
                }));
                assert_eq!(found, keys.map(|key| (key, 10 * key)).into());
            };
            thread::scope(|scope| {
                scope.spawn(|| batch([1, 2, 3, 4]));
                batch([4, 3, 2, 5]);
            });
            assert!(group.is_empty());
        }
    });
}

/// Scenario 27, G13: a load that asks for one of its own keys, by a batch or by a call, is reported, and
/// so is a -> b -> a, however the calls are made; other keys are legal.
#[test]
fn g13_recursion_through_batches_is_reported() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let reentrant = || Err(CallError::Reentrant);
        let found = block_on(group.run_many([1, 2], |keys| {
            assert_eq!(group.call(&1).run_blocking(|| 0), reentrant(), "in the closure");
            let group = &group;
            async move {
                for key in &keys {
                    assert_eq!(group.call(key).run(async { 0 }).await, reentrant());
                    assert_eq!(group.call(key).relay(async { 0 }).await, reentrant());
                    assert_eq!(group.call(key).fresh().run(async { 0 }).await, reentrant());
                }
                yield_now().await;
                let other = group.run_many([3], |keys| async move {
                    assert_eq!(group.call(&2).run(async { 0 }).await, reentrant());
                    group.run_blocking(&4, || {
                        assert_eq!(group.call(&1).run_blocking(|| 0), reentrant());
                        assert_eq!(group.call(&3).run_blocking(|| 0), reentrant());
                        0
                    });
                    tenfold(keys)
                });
                assert_eq!(other.await, map([(3, 30)]));
                // Nobody waits here.
                let handle = group.join(&1).expect("it is legal");
                assert_eq!(handle.wait(), Err(CallError::Reentrant));
                assert!(matches!(group.lead_or_join(&2), Entry::Join(_)));
                tenfold(keys)
            }
        }));
        assert_eq!(found, map([(1, 10), (2, 20)]));
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: from `run_many` it is a panic that says so; the keys that the batch had led already
/// are passed on.
#[test]
fn g13_recursive_batch_panics_with_a_text_that_says_so() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let expected = CallError::Reentrant.to_string();
        let nested = || {
            group.run_blocking(&1, || {
                block_on(group.run_many([2, 1], |keys| ready(tenfold(keys)))).len() as u64
            })
        };
        assert_eq!(panic_text(nested), expected);
        assert!(group.is_empty());
        let nested =
            || {
                block_on(group.run_many([1], |_| async {
                    tenfold(vec![group.run_many([1], no_load).await[&1]])
                }))
            };
        assert_eq!(panic_text(nested), expected);
        let nested = || {
            block_on(group.run_many([1], |_| async {
                group.run_many([2], |_| async { [(2, group.run(&1, async { 0 }).await)] }).await
            }))
        };
        assert_eq!(panic_text(nested), expected, "a -> b -> a");
        assert!(group.is_empty());
        assert_eq!(group.run_blocking(&1, || 4), 4);
    });
}

/// Scenario 27, G13: what a load's destructor does is a part of its work as well.
#[test]
fn g13_recursion_from_the_drop_of_a_load_is_reported() {
    struct Calls<'a>(&'a Group<u64, u64>, &'a RefCell<Vec<bool>>);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            let answer = self.0.call(&1).run_blocking(|| 0);
            self.1.borrow_mut().push(answer == Err(CallError::Reentrant));
        }
    }

    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let reported = RefCell::default();
        let load = |ends: bool| {
            let calls = Calls(&group, &reported);
            async move {
                let _calls = calls;
                if !ends {
                    pending::<()>().await;
                }
                vec![(1, 1)]
            }
        };
        drop(Polled::pending(group.run_many([1], |_| load(false))));
        assert_eq!(reported.take(), [true]);
        assert_eq!(block_on(group.run_many([1], |_| load(true))), map([(1, 1)]));
        assert_eq!(reported.take(), [true]);
        assert!(group.is_empty());
    });
}

/// A batch may forget what it loads: its keys are free, and those who followed before have the values.
#[test]
fn g05_forgotten_batch_lands_for_its_own() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let mut batch = Polled::pending(group.run_many([1, 2], |keys| async {
            yield_now().await;
            assert!(group.forget(&1));
            let newer = group.call(&1).run(async { 11 }).await.expect("another flight");
            assert_eq!(newer.role, Role::Led { followers: 0 });
            tenfold(keys)
        }));
        let handle = group.join(&1).expect("in flight");
        assert_eq!(batch.woken_value(), map([(1, 10), (2, 20)]));
        assert_eq!(handle.wait(), Ok(10));
        assert!(group.is_empty());
    });
}

/// Scenario 8, G1, G2, G4: batches of random keys and single calls, of which some give up: one execution
/// of each key at a time, every batch has all its keys, and nothing is left.
#[test]
fn g01_batches_under_stress_run_one_work_of_each_key_at_a_time() {
    const KEYS: usize = 5;

    /// Executions by key.
    type Watched = [Executions; KEYS];

    async fn load(keys: Vec<u64>, executions: &Watched, leave_out: bool) -> Pairs {
        let running: Vec<_> = keys.iter().map(|key| executions[*key as usize].begin()).collect();
        yield_now().await;
        drop(running);
        let mut pairs = tenfold(keys);
        if leave_out {
            pairs.pop();
        }
        pairs
    }

    on_tokio(|| async {
        let group: Group<u64, u64> = Group::new();
        let executions: Watched = Default::default();
        let mut callers = Vec::new();
        for seed in 0..8 {
            let (group, executions) = (group.clone(), executions.clone());
            callers.push(tokio::spawn(async move {
                let mut dice = Dice::new(seed);
                for _ in 0..800 {
                    let keys = [(); 3].map(|()| dice.below(KEYS) as u64);
                    let [key, ..] = keys;
                    match dice.below(4) {
                        0 => {
                            let work = executions[key as usize].yielding(10 * key);
                            assert_eq!(
                                group.call(&key).relay(work).await.expect("a value").value,
                                10 * key
                            );
                        }
                        1 => {
                            let load = |keys| load(keys, &executions, true);
                            let mut batch = pin!(group.run_many(keys, load));
                            for _ in 0..dice.below(4) {
                                if poll_once(&mut batch).await.is_some() {
                                    break;
                                }
                                tokio::task::yield_now().await;
                            }
                        }
                        _ => {
                            let load = |keys| load(keys, &executions, false);
                            let found = group.run_many(keys, load).await;
                            assert_eq!(found, keys.map(|key| (key, 10 * key)).into());
                        }
                    }
                }
            }));
        }
        for caller in callers {
            caller.await.expect("no caller fails");
        }
        for executions in executions {
            assert_eq!((executions.running(), executions.peak()), (0, 1));
        }
        assert!(group.is_empty());
    });
}

/// Many keys at once: it takes time in proportion, and every one lands.
#[test]
fn g10_large_batches_land() {
    limited(|| {
        const KEYS: u64 = 50_000;
        let group: Group<u64, u64> = Group::new();
        let mut one = Polled::pending(group.run_many(0..KEYS, |keys| async {
            yield_now().await;
            tenfold(keys)
        }));
        let mut follows = Polled::pending(group.run_many((0..KEYS).rev(), no_load));
        assert_eq!(group.len(), KEYS as usize);
        let found = one.woken_value();
        assert_eq!(found.len(), KEYS as usize);
        assert!(found.iter().all(|(key, value)| *value == 10 * key));
        let Poll::Ready(followed) = follows.poll() else { panic!("it was to be ready") };
        assert_eq!(found, followed);
        assert!(group.is_empty());
    });
}
