//! The contract of the map, with ordinary threads, against both backends: what the models assume of
//! theirs holds for the one of production.

use std::{
    collections::HashSet,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    Entered, FlightId, KeyHash, Map, Slot, Table, Verdict, shards::Shards, single::Single,
};
use crate::flight::state::OnCancel;

/// Runs each contract against each backend.
macro_rules! contracts {
    ($($name:ident),+ $(,)?) => {
        mod production {
            $(#[test] fn $name() { super::$name::<super::Shards<String, u8>>(); })+
        }
        mod model {
            $(#[test] fn $name() { super::$name::<super::Single<String, u8>>(); })+
        }
    };
}

contracts! {
    a_vacant_key_is_inserted_once_and_found_again,
    keys_with_one_hash_are_told_apart,
    removal_is_by_what_the_caller_asks_for,
    a_look_keeps_or_removes,
    what_runs_inside_a_step_excludes_every_other_of_its_shard,
    a_panic_in_a_step_changes_nothing_and_unlocks,
    flights_of_many_threads_have_different_ids,
    the_steps_of_a_flight_leave_the_table_empty,
}

fn insert<M: Map<String, u8>>(map: &M, hash: KeyHash, key: &str) -> FlightId {
    map.enter(hash, key, |_| panic!("{key} was there"), |id| id)
}

fn a_vacant_key_is_inserted_once_and_found_again<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let hash = KeyHash::new(1);
    let id = insert(&map, hash, "a");
    assert_eq!(map.enter(hash, "a", |slot| slot.id(), |_| panic!("it is there")), id);
    assert_eq!((map.len(), map.try_len()), (1, Some(1)));
}

fn keys_with_one_hash_are_told_apart<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let hash = KeyHash::new(1);
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|key| insert(&map, hash, key)).collect();
    for (key, id) in ["a", "b", "c"].iter().zip(ids) {
        assert_eq!(map.enter(hash, *key, |slot| slot.id(), |_| panic!("it is there")), id);
    }
    assert_eq!(map.len(), 3);
}

fn removal_is_by_what_the_caller_asks_for<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let hash = KeyHash::new(1);
    let a = insert(&map, hash, "a");
    let b = insert(&map, hash, "b");
    let removed = map.remove(hash, |_, slot| slot.id() == b, |slot| slot.id());
    assert!(matches!(removed, Some((key, _, id)) if key == "b" && id == b));
    assert!(map.remove(hash, |_, slot| slot.id() == b, |_| ()).is_none());
    assert!(map.remove(hash, |key, _| key == "a", |slot| assert_eq!(slot.id(), a)).is_some());
    assert_eq!(map.len(), 0);
}

fn a_look_keeps_or_removes<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let hash = KeyHash::new(1);
    insert(&map, hash, "a");
    let is_a = |key: &String, _: &Slot<u8>| key == "a";
    assert!(matches!(map.look(hash, is_a, |_| Verdict::Keep(1)), Some((1, None))));
    assert!(matches!(map.look(hash, is_a, |_| Verdict::Remove(2)), Some((2, Some(_)))));
    assert!(map.look(hash, is_a, |_| Verdict::Keep(3)).is_none());
}

fn what_runs_inside_a_step_excludes_every_other_of_its_shard<M: Map<String, u8> + Sync>() {
    const ROUNDS: usize = 2_000;
    let map = M::new(4, 0);
    let (inside, changes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let exclusively = || {
        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two steps at once");
        thread::yield_now();
        inside.fetch_sub(1, Ordering::Relaxed);
    };
    let hash = KeyHash::new(1);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let inserted = map.enter(
                        hash,
                        "a",
                        |_| {
                            exclusively();
                            false
                        },
                        |_| {
                            exclusively();
                            true
                        },
                    );
                    let removed = map.remove(hash, |key, _| key == "a", |_| exclusively());
                    changes.fetch_add(usize::from(inserted), Ordering::Relaxed);
                    changes.fetch_sub(usize::from(removed.is_some()), Ordering::Relaxed);
                    map.look(
                        hash,
                        |key, _| key == "a",
                        |_| {
                            exclusively();
                            Verdict::Keep(())
                        },
                    );
                }
            });
        }
    });
    assert_eq!(changes.into_inner(), map.len());
}

fn a_panic_in_a_step_changes_nothing_and_unlocks<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let hash = KeyHash::new(1);
    insert(&map, hash, "a");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        map.look(hash, |_, _| std::panic::resume_unwind(Box::new("eq")), |_| Verdict::Remove(()))
    }));
    assert!(panicked.is_err());
    assert_eq!(map.len(), 1);
}

fn flights_of_many_threads_have_different_ids<M: Map<String, u8> + Sync>() {
    let map = M::new(4, 0);
    let ids = thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let map = &map;
                scope.spawn(move || -> Vec<_> {
                    let hash = KeyHash::new(thread);
                    (0..500).map(|i| insert(map, hash, &format!("{thread} {i}")).0).collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
    assert_eq!(map.len(), 2_000);
}

/// Leaders and followers of one key from four threads, with every way for a flight to end.
fn the_steps_of_a_flight_leave_the_table_empty<M: Map<String, u8> + Sync>()
where
    Table<String, u8, M>: Sync,
{
    const ROUNDS: usize = 1_000;
    let table: Table<String, u8, M> = Table::new(4, 0);
    let barrier = Barrier::new(4);
    let hash = KeyHash::new(1);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (table, barrier) = (&table, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    let (id, own) = match table.enter(hash, "a", OnCancel::Fail) {
                        Entered::Lead(id) => (id, None),
                        Entered::TakeOver(flight) => (flight.id(), Some(flight)),
                        // Told, one way or the other: the counts of those who stay do not matter.
                        Entered::Follow(..) => continue,
                        Entered::Reentrant => unreachable!("nothing runs inside a flight"),
                    };
                    match (round + thread) % 3 {
                        0 => drop(table.close(hash, id, own)),
                        1 => table.abandon(hash, id, own),
                        _ => {
                            table.forget(hash, "a");
                            drop(table.close(hash, id, own));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(table.len(), 0);
    assert!(table.detached.lock().unwrap().is_empty());
}
