//! The contract of the map and of the table above it, with ordinary threads, against both backends:
//! what the models assume of theirs holds for the one of production.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::{
    End, Entered, FEW, FlightId, KeyHash, Map, Node, Shard, Slot, Stamp, Table, shards::Shards,
    single::Single,
};
use crate::flight::{Ask, state::Who};

/// Of a caller that leads, or is told of what it joined.
const TOLD: Ask = Ask { who: Who::Told, ..Ask::DEFAULT };

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
    what_is_inserted_is_found_again,
    keys_with_one_hash_are_told_apart,
    removal_is_by_what_the_caller_asks_for,
    a_lock_excludes_every_other_of_its_shard,
    a_panic_under_a_lock_changes_nothing_and_unlocks,
    flights_of_many_threads_have_different_ids,
    the_steps_of_a_flight_leave_the_table_empty,
    g1_few_cells_and_many_keys,
    g1_few_cells_that_become_many,
}

const HASH: KeyHash = KeyHash::NONE;

fn insert<M: Map<String, u8>>(map: &M, hash: KeyHash, key: &str) -> FlightId {
    let id = map.next_id();
    lock(map, hash).insert(key.to_owned(), Slot::new(hash, id, Stamp::NONE));
    id
}

fn lock<M: Map<String, u8>>(map: &M, hash: KeyHash) -> M::Shard<'_> {
    map.lock(hash.leading(map.shards().trailing_zeros()))
}

fn len<M: Map<String, u8>>(map: &M) -> usize {
    (0..map.shards()).map(|shard| map.lock(shard).len()).sum()
}

fn what_is_inserted_is_found_again<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    assert!(lock(&map, HASH).get(HASH, |_, _| true).is_none());
    let id = insert(&map, HASH, "a");
    let mut shard = lock(&map, HASH);
    assert_eq!(shard.get(HASH, |key, _| key == "a").unwrap().id(), id);
    assert_eq!(shard.len(), 1);
}

fn keys_with_one_hash_are_told_apart<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let ids: Vec<_> = ["a", "b", "c"].iter().map(|key| insert(&map, HASH, key)).collect();
    for (key, id) in ["a", "b", "c"].iter().zip(ids) {
        assert_eq!(lock(&map, HASH).get(HASH, |k, _| k == key).unwrap().id(), id);
    }
    assert_eq!(len(&map), 3);
}

fn removal_is_by_what_the_caller_asks_for<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    let a = insert(&map, HASH, "a");
    let b = insert(&map, HASH, "b");
    let removed = lock(&map, HASH).remove(HASH, |_, slot| slot.id() == b);
    assert!(matches!(removed, Some((key, slot)) if key == "b" && slot.id() == b));
    assert!(lock(&map, HASH).remove(HASH, |_, slot| slot.id() == b).is_none());
    let removed = lock(&map, HASH).remove(HASH, |key, _| key == "a");
    assert!(matches!(removed, Some((_, slot)) if slot.id() == a));
    assert_eq!(len(&map), 0);
}

fn a_lock_excludes_every_other_of_its_shard<M: Map<String, u8> + Sync>() {
    const ROUNDS: usize = 5_000;
    let map = M::new(4, 0);
    let inside = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let shard = lock(&map, HASH);
                    assert!(map.try_lock(HASH.leading(map.shards().trailing_zeros())).is_none());
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two at once");
                    thread::yield_now();
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(shard);
                }
            });
        }
    });
}

fn a_panic_under_a_lock_changes_nothing_and_unlocks<M: Map<String, u8>>() {
    let map = M::new(4, 0);
    insert(&map, HASH, "a");
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        lock(&map, HASH).remove(HASH, |_, _| resume_unwind(Box::new("eq")))
    }));
    assert!(panicked.is_err());
    assert_eq!(len(&map), 1);
}

fn flights_of_many_threads_have_different_ids<M: Map<String, u8> + Sync>() {
    let map = M::new(4, 0);
    let ids = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| -> Vec<_> { (0..500).map(|_| map.next_id().0).collect() }))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}

/// Leaders and followers of one key from four threads, with every way for a flight to end.
fn the_steps_of_a_flight_leave_the_table_empty<M: Map<String, u8> + Sync>()
where
    Table<String, u8, M>: Sync,
{
    const ROUNDS: usize = 1_000;
    let table: Table<String, u8, M> = Table::new(4, 0);
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (table, barrier) = (&table, &barrier);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    barrier.wait();
                    let mut node = pin!(Node::new());
                    let (id, own) = match table.enter(HASH, "a", &TOLD, node.as_mut()) {
                        Entered::Lead(id) => (id, None),
                        Entered::TakeOver(flight) => (flight.id(), Some(flight)),
                        // Told, one way or the other: the counts of those who stay do not matter.
                        Entered::Follow(..) => continue,
                        _ => unreachable!("nothing else was asked for"),
                    };
                    match (round + thread) % 3 {
                        0 => drop(table.close(HASH, id, Some(node), own, End::Landed)),
                        1 => table.abandon(HASH, id, Some(node), own),
                        _ => {
                            table.forget(HASH, |key| key == "a");
                            drop(table.close(HASH, id, Some(node), own, End::Landed));
                        }
                    }
                }
            });
        }
    });
    assert_eq!(table.len(), 0);
    assert!(table.detached.lock().unwrap().is_empty());
    assert_eq!(table.cells.crowded(), 0);
}

/// Two cells for the keys of four threads, each of which holds up to eight flights at once: claims,
/// chains, and moves to the map and back, with joins and abandonments in between.
fn g1_few_cells_and_many_keys<M: Map<String, u8> + Sync>()
where
    Table<String, u8, M>: Sync,
{
    // Never enough of them in the map for it to grow.
    let flights = Flights::<M>::of_keys(1, FEW);
    flights.of_four_threads(10_000, 8);
    assert_eq!(flights.table.cells.total(), 2);
}

/// The same with so many keys that the cells become more meanwhile, of one table after the other.
fn g1_few_cells_that_become_many<M: Map<String, u8> + Sync>()
where
    Table<String, u8, M>: Sync,
{
    const TABLES: usize = 100;
    let has_grown = || {
        let flights = Flights::<M>::of_keys(5, 256 * FEW);
        flights.of_four_threads(20, 16 * FEW as u32);
        flights.table.cells.total() > 1 << 5
    };
    let grown = (0..TABLES).filter(|_| has_grown()).count();
    assert!(grown > TABLES / 2, "{grown} of {TABLES}");
}

struct Flights<M> {
    table: Table<String, u8, M>,
    /// Of each key.
    leaders: Box<[AtomicUsize]>,
}

impl<M: Map<String, u8>> Flights<M> {
    fn of_keys(cell_bits: u32, keys: usize) -> Self {
        let leaders = (0..keys).map(|_| AtomicUsize::new(0)).collect();
        Self { table: Table::with_cells(2, cell_bits, 0), leaders }
    }

    /// Each makes so many rounds, with fewer than `depth` flights in each.
    fn of_four_threads(&self, rounds: u32, depth: u32)
    where
        Self: Sync,
    {
        thread::scope(|scope| {
            for thread in 1..=4 {
                scope.spawn(move || {
                    let mut random = Xorshift(thread);
                    for _ in 0..rounds {
                        let depth = random.below(depth);
                        self.nest(depth, &mut random);
                    }
                });
            }
        });
        assert_eq!(self.table.len(), 0, "G4");
        assert_eq!(self.table.cells.crowded(), 0, "G4: a cell counts what is no longer there");
    }

    /// Leads a flight of a random key, if nobody does, around `depth` others.
    fn nest(&self, depth: u32, random: &mut Xorshift) {
        let number = random.below(self.leaders.len() as u32);
        let (key, hash) = (number.to_string(), KeyHash::new(number.into()));
        let leaders = &self.leaders[number as usize];
        let mut node = pin!(Node::new());
        match self.table.enter(hash, key.as_str(), &TOLD, node.as_mut()) {
            Entered::Lead(id) => {
                assert_eq!(leaders.fetch_add(1, Ordering::Relaxed), 0, "G1: two leaders of {key}");
                if depth > 0 {
                    self.nest(depth - 1, random);
                }
                assert!(self.table.contains(hash, |k| *k == key));
                leaders.fetch_sub(1, Ordering::Relaxed);
                match random.below(3) {
                    0 => self.table.abandon(hash, id, Some(node), None),
                    _ => drop(self.table.close(hash, id, Some(node), None, End::Landed)),
                }
            }
            Entered::Follow(..) => {}
            Entered::TakeOver(_) => unreachable!("nobody here is able to"),
            _ => unreachable!("nothing else was asked for"),
        }
    }
}

/// Marsaglia, "Xorshift RNGs", 2003.
struct Xorshift(u32);

impl Xorshift {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}
