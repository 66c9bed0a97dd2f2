//! `forget`, `forget_unshared` and `forget_all`: a flight cut loose goes on, and the key is free.

#![cfg(not(loom))]

mod common;

use std::{
    collections::BTreeSet,
    future::pending,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Barrier, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
};

use common::{Doorbell, Executions, Polled, RingingKey, limited, on_tokio, panic_text, settle};
use shardflight::{CallError, Entry, FlightId, Group, Observer, OnCancel, Role};
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

/// G5: `forget_all` says how many flights there were, wherever they are: alone in a cell, followed, led by hand.
#[test]
fn g05_forget_all_says_how_many_there_were() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        assert_eq!(group.forget_all(), 0);
        let keys: Vec<u64> = (0..1_000).collect();
        let leaders: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        let followers: Vec<_> =
            keys[..100].iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        let Entry::Lead(lead) = group.lead_or_join(&5_000) else { panic!("the key is free") };
        assert_eq!(group.forget_all(), 1_001);
        assert_eq!((group.len(), group.forget_all()), (0, 0), "they are gone already");
        assert!(group.is_empty());
        drop((leaders, followers, lead));
        assert!(group.is_empty());
    });
}

/// G5: forgotten flights land for their own callers and leave alone those that began afterwards.
#[test]
fn g05_flights_that_were_all_forgotten_land_for_those_who_follow_them() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (land_1, value_1) = oneshot::channel();
        let (land_2, value_2) = oneshot::channel();
        let mut solo = Polled::pending(group.call(&1).run(async { value_1.await.expect("sent") }));
        let mut shared =
            Polled::pending(group.call(&2).run(async { value_2.await.expect("sent") }));
        let mut follower = Polled::pending(group.call(&2).run(async { unreachable!() }));
        assert_eq!(group.forget_all(), 2);
        let (land, value) = oneshot::channel();
        let mut newer = Polled::pending(group.call(&2).run(async { value.await.expect("sent") }));
        assert_eq!(group.run_blocking(&1, || 11), 11, "it does not join the forgotten");
        land_1.send(1).expect("it waits");
        land_2.send(2).expect("it waits");
        let outcome = solo.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (1, Role::Led { followers: 0 }));
        let outcome = shared.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 1 }));
        assert_eq!(follower.woken_value().expect("a value").value, 2);
        assert!(group.is_in_flight(&2));
        land.send(22).expect("it waits");
        let outcome = newer.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (22, Role::Led { followers: 0 }));
        assert!(group.is_empty());
    });
}

/// G7: flights that nobody leads are forgotten, too, and taken over from inside, before and afterwards.
#[test]
fn g07_leaderless_flights_are_all_forgotten() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let leaders = [1, 2].map(|key| {
            let group = group.clone();
            Polled::pending(async move { group.run(&key, pending()).await })
        });
        let mut able = Polled::pending(group.run(&1, async { 1 }));
        let told = group.call(&2).on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(told.run(async { 2 }));
        let mut other = Polled::pending(group.run(&2, async { 3 }));
        let [first, second] = leaders;
        drop(first);
        assert_eq!(group.forget_all(), 2);
        assert!(group.is_empty());
        assert_eq!(able.woken_value(), 1);
        drop(second);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(other.woken_value(), 3);
        assert!(group.is_empty());
    });
}

/// Pending flights are not counted; they begin at once, in the place of those that were forgotten.
#[test]
fn g06_pending_flights_begin_when_all_are_forgotten() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let executions = Executions::default();
        let keys = [1, 2, 3];
        let old: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, executions.endless()))).collect();
        let mut fresh: Vec<_> = keys
            .iter()
            .flat_map(|key| [(key, 10), (key, 20)])
            .map(|(key, n)| {
                Some(Polled::pending(group.call(key).fresh().run(executions.yielding(*key + n))))
            })
            .collect();
        assert_eq!((executions.started(), group.len()), (3, 3));
        assert_eq!(group.forget_all(), 3);
        assert_eq!(group.len(), 3, "those that were pending");
        let answers = settle(&mut fresh);
        assert_eq!(answers.len(), 6);
        for (i, answer) in answers {
            assert_eq!(answer.expect("a value").value, keys[i / 2] + 10);
        }
        assert_eq!((executions.started(), executions.running()), (6, 3));
        assert!(group.is_empty());
        drop(old);
        assert!(group.is_empty());
    });
}

/// Keys of which all have one hash, so that their flights meet in one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alike(u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

/// Notes what it is told was forgotten.
#[derive(Debug, Default)]
struct Forgotten(Mutex<Vec<FlightId>>);

impl Observer for Forgotten {
    fn forgotten(&self, flight: FlightId) {
        self.0.lock().unwrap().push(flight);
    }
}

/// G10: flights of keys with equal hashes, in a chain and in the map; the observer is told of each once.
#[test]
fn g05_all_are_forgotten_where_keys_have_one_hash() {
    limited(|| {
        for flights in 0..12 {
            let told = Arc::new(Forgotten::default());
            let group: Group<Alike, u64> = Group::builder().observer(Arc::clone(&told)).build();
            let keys: Vec<_> = (0..flights).map(Alike).collect();
            let leaders: Vec<_> =
                keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
            let followers: Vec<_> = keys
                .iter()
                .step_by(3)
                .map(|key| Polled::pending(group.run(key, async { key.0 })))
                .collect();
            let ids: BTreeSet<_> =
                group.in_flight().iter().map(|flight| flight.flight.to_string()).collect();
            assert_eq!(ids.len(), keys.len());
            assert_eq!(group.forget_all(), keys.len());
            assert!(group.is_empty());
            let told: Vec<_> = told.0.lock().unwrap().iter().map(FlightId::to_string).collect();
            assert_eq!(told.len(), keys.len());
            assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), ids);
            for key in &keys {
                assert_eq!(group.run_blocking(key, || 7), 7);
            }
            drop(leaders);
            for mut follower in followers {
                assert!(follower.woken_value() < flights);
            }
            assert!(group.is_empty());
        }
    });
}

/// G9: the observer and the `Drop` of keys are called under no lock: they may use the group.
#[test]
fn g09_user_code_may_use_the_group_while_all_are_forgotten() {
    static GROUP: OnceLock<Group<Uses, u64>> = OnceLock::new();
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    static TOLD: AtomicUsize = AtomicUsize::new(0);
    static ARMED: AtomicBool = AtomicBool::new(false);

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct Uses(u64);
    /// Not while it is used itself.
    fn use_all() -> bool {
        if !ARMED.swap(false, SeqCst) {
            return false;
        }
        let group = GROUP.get().expect("there from the beginning");
        // Everything visits every shard.
        assert!(group.len() <= 100 && group.in_flight().len() <= 100);
        assert_eq!(group.run_blocking(&Uses(1_000), || 7), 7);
        group.forget_all();
        ARMED.store(true, SeqCst);
        true
    }
    impl Drop for Uses {
        fn drop(&mut self) {
            DROPS.fetch_add(use_all().into(), SeqCst);
        }
    }
    struct Told;
    impl Observer for Told {
        fn forgotten(&self, _: FlightId) {
            TOLD.fetch_add(use_all().into(), SeqCst);
        }
    }

    limited(|| {
        let group = GROUP.get_or_init(|| Group::builder().observer(Told).build());
        let keys: Vec<_> = (0..100).map(Uses).collect();
        let leaders: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        let followers: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, async { 1 }))).collect();
        ARMED.store(true, SeqCst);
        let forgotten = group.forget_all();
        ARMED.store(false, SeqCst);
        assert!((1..=100).contains(&forgotten));
        assert!(group.is_empty());
        assert!(DROPS.load(SeqCst) > 0 && TOLD.load(SeqCst) > 0);
        drop(leaders);
        for mut follower in followers {
            assert_eq!(follower.woken_value(), 1);
        }
        assert!(group.is_empty());
    });
}

/// G8: a key whose `Drop` panics while all are forgotten strands nobody, in no flight that meets it in its shard.
#[test]
fn g08_panic_in_drop_of_a_key_strands_nobody_when_all_are_forgotten() {
    thread_local! { static BOMB: std::cell::Cell<bool> = const { std::cell::Cell::new(false) } }
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Bomb(u64);
    impl Hash for Bomb {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }
    impl Drop for Bomb {
        fn drop(&mut self) {
            if BOMB.take() {
                std::panic::resume_unwind(Box::new("the key"));
            }
        }
    }

    limited(|| {
        let group: Group<Bomb, u64> = Group::new();
        let keys: Vec<_> = (0..4).map(Bomb).collect();
        let leaders: Vec<_> =
            keys.iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        let mut followers: Vec<_> =
            keys.iter().map(|key| Some(Polled::pending(group.run(key, async { key.0 })))).collect();
        // Those of the others have no need of a key of their own.
        let mut fresh: Vec<_> = keys
            .iter()
            .filter(|key| key.0 % 2 == 1)
            .map(|key| Some(Polled::pending(group.call(key).fresh().run(async { key.0 + 10 }))))
            .collect();
        BOMB.set(true);
        assert_eq!(panic_text(|| group.forget_all()), "the key");
        // What it did not get at.
        group.forget_all();
        assert_eq!(settle(&mut fresh).len(), 2);
        drop(leaders);
        assert_eq!(settle(&mut followers).len(), 4);
        assert!(group.is_empty());
    });
}

/// G3: after `forget_all` has returned no call joins what began before, whatever else goes on.
#[test]
fn g03_no_call_joins_what_began_before_all_were_forgotten() {
    on_tokio(|| async {
        let group: Group<u64, u64> = Group::new();
        // What works read, and that of which all older flights have been forgotten.
        let (version, forgotten) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let tasks: Vec<_> = (0..8)
            .map(|seed| {
                let group = group.clone();
                let (version, forgotten) = (Arc::clone(&version), Arc::clone(&forgotten));
                tokio::spawn(async move {
                    let mut dice = common::Dice::new(seed);
                    for _ in 0..1_000 {
                        if dice.below(8) == 0 {
                            let now = version.fetch_add(1, SeqCst) + 1;
                            group.forget_all();
                            forgotten.fetch_max(now, SeqCst);
                        }
                        let key = dice.below(3) as u64;
                        let least = forgotten.load(SeqCst);
                        let work = async {
                            let read = version.load(SeqCst);
                            tokio::task::yield_now().await;
                            read
                        };
                        assert!(group.run(&key, work).await >= least);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("nothing is outdated");
        }
        assert!(group.is_empty());
    });
}
