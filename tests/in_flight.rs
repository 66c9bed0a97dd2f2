//! `Group::in_flight`: every flight that `len` counts, with its age and its followers.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    hash::{Hash, Hasher},
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use common::{Polled, limited, panic_text};
use shardflight::{Group, InFlight, Stats};

/// Keys of which all have one hash, so that their flights meet in one cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Alike(u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

fn by_key<K: Ord + Hash + Clone, V>(group: &Group<K, V>) -> Vec<InFlight<K>> {
    let mut found = group.in_flight();
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// Wherever a flight is: in a cell by itself, in a chain, in the map alone, shared or forgotten.
#[test]
fn every_flight_is_listed_once_wherever_it_is() {
    limited(|| {
        let group: Group<Alike, u64> = Group::new();
        let keys: Vec<_> = (0..9).map(Alike).collect();
        let mut leaders = Vec::new();
        // One in the cell, up to four in the chain, then all in the map.
        for key in &keys {
            leaders.push(Polled::pending(group.run(key, pending())));
            let found = by_key(&group);
            assert_eq!(found.len(), leaders.len());
            assert_eq!(found.len(), group.len());
            for (flight, key) in found.iter().zip(&keys) {
                assert_eq!((&flight.key, flight.followers, flight.is_led), (key, 0, true));
            }
        }
        let followers: Vec<_> =
            (0..3).map(|_| Polled::pending(group.run(&keys[4], async { 1 }))).collect();
        let handle = group.join(&keys[4]).expect("it is in flight");
        assert_eq!(by_key(&group)[4].followers, 4);
        assert!(group.forget(&keys[0]));
        assert_eq!(by_key(&group).len(), 8);
        let id = by_key(&group)[3].flight;
        drop(leaders.remove(4));
        let flight = by_key(&group).swap_remove(3);
        assert_eq!((flight.flight, flight.followers, flight.is_led), (id, 4, false));
        drop((leaders, followers, handle));
        assert_eq!(group.in_flight(), []);
        assert!(group.is_empty());
    });
}

/// Flights that began before anybody asked have no age; later ones have, wherever they are.
#[test]
fn flights_are_dated_from_the_first_time_on() {
    limited(|| {
        let group: Group<Alike, u64> = Group::new();
        let keys: Vec<_> = (0..9).map(Alike).collect();
        let old = Polled::pending(group.run(&keys[0], pending()));
        assert_eq!(group.in_flight()[0].age, None);
        let before = Instant::now();
        let leaders: Vec<_> =
            keys[1..].iter().map(|key| Polled::pending(group.run(key, pending()))).collect();
        let follower = Polled::pending(group.run(&keys[1], async { 1 }));
        let after = Instant::now();
        let least = after.elapsed();
        let found = by_key(&group);
        let most = before.elapsed();
        assert_eq!(found[0].age, None);
        for flight in &found[1..] {
            let age = flight.age.expect("it is dated");
            assert!((least..=most).contains(&age), "{age:?}");
        }
        drop((old, leaders, follower));
        assert!(group.is_empty());
    });
}

/// With an observer flights are dated from the beginning; a take-over does not make one younger.
#[test]
fn observed_groups_date_all_flights() {
    limited(|| {
        let group: Group<u64, u64> = Group::builder().observer(Stats::default()).build();
        let leader = Polled::pending(group.run(&1, pending()));
        let begun = Instant::now();
        let mut follower = Polled::pending(group.run(&1, pending()));
        drop(leader);
        assert!(follower.poll().is_pending());
        let age = begun.elapsed();
        let flight = &group.in_flight()[0];
        assert!(flight.is_led && flight.age.is_some_and(|it| it >= age));
        drop(follower);
    });
}

/// What waits behind a flight is not listed, as it is not counted; a forgotten flight is gone.
#[test]
fn pending_flights_are_not_listed() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let old = Polled::pending(group.run(&1, pending()));
        let fresh = Polled::pending(group.call(&1).fresh().run(pending()));
        let running = group.in_flight();
        assert_eq!(running.len(), 1);
        assert!(group.forget(&1));
        let next = group.in_flight();
        assert_eq!(next.len(), 1);
        assert_ne!(next[0].flight, running[0].flight);
        drop((old, fresh));
        assert!(group.in_flight().is_empty());
    });
}

/// G8: a key whose `Clone` panics, under the lock, leaves nothing stuck: alone, in a chain, in the map.
#[test]
fn g08_a_key_whose_clone_panics_leaves_the_table_as_it_was() {
    static PANICS: AtomicBool = AtomicBool::new(false);

    #[derive(PartialEq, Eq)]
    struct Fragile(u64);
    impl Hash for Fragile {
        fn hash<H: Hasher>(&self, state: &mut H) {
            0.hash(state);
        }
    }
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(!PANICS.load(SeqCst), "no clones");
            Self(self.0)
        }
    }

    limited(|| {
        let group: Group<Fragile, u64> = Group::new();
        let keys: Vec<_> = (0..9).map(Fragile).collect();
        let mut leaders = Vec::new();
        for key in &keys {
            leaders.push(Polled::pending(group.run(key, pending())));
            PANICS.store(true, SeqCst);
            assert_eq!(panic_text(|| group.in_flight().len()), "no clones");
            PANICS.store(false, SeqCst);
            assert_eq!(group.in_flight().len(), leaders.len());
        }
        drop(leaders);
        assert!(group.is_empty());
    });
}

/// Calls go on while others look: a flight that stays is seen each time, and once.
#[test]
fn g10_looking_disturbs_nobody() {
    limited(|| {
        let group: Group<Alike, u64> = Group::new();
        let stays = Polled::pending(group.run(&Alike(100), pending()));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            let callers: Vec<_> = (0..3)
                .map(|i| {
                    let group = &group;
                    scope.spawn(move || {
                        for n in 0..5_000 {
                            assert_eq!(group.run_blocking(&Alike(i), || n), n);
                        }
                    })
                })
                .collect();
            let looker = scope.spawn(|| {
                while !done.load(SeqCst) {
                    let found = group.in_flight();
                    assert!(found.len() <= 4, "{found:?}");
                    assert_eq!(found.iter().filter(|it| it.key == Alike(100)).count(), 1);
                    assert!(found.iter().all(|it| it.age.is_none_or(|age| age < Duration::MAX)));
                }
            });
            for caller in callers {
                caller.join().expect("nothing goes wrong");
            }
            done.store(true, SeqCst);
            looker.join().expect("nothing goes wrong");
        });
        drop(stays);
        assert!(group.is_empty());
    });
}
