//! A shard that gets more cells: growth, with the lock, against claims and releases without it, in the
//! old row and in the new one, and against whoever looks.

use std::{
    future::{self, Future},
    hash::BuildHasher,
    pin::Pin,
};

use loom::{future::block_on, thread};
use shardflight::{Entry, Role};

use crate::kit::{
    Crossing, Executions, Group, Hasher, KEY, Lead, check, pending, ready_at_the_second_poll,
};

/// The number of a key's cell among `2 ^ bits`: `KeyHash` once more. There are 4 cells before growth and
/// 32 after.
fn cell(key: u64, bits: u32) -> u64 {
    Hasher::default().hash_one(key).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - bits)
}

/// Keys other than `KEY`.
fn keys(is_it: impl Fn(u64) -> bool) -> impl Iterator<Item = u64> {
    (KEY + 1..).filter(move |&key| is_it(key))
}

/// In one cell with `KEY`, before and after.
fn close() -> u64 {
    keys(|key| cell(key, 5) == cell(KEY, 5)).next().unwrap()
}

/// In one cell with `KEY`, and in another one after.
fn neighbour() -> u64 {
    keys(|key| cell(key, 2) == cell(KEY, 2) && cell(key, 5) != cell(KEY, 5)).next().unwrap()
}

/// Of another cell than `KEY`, one more than it chains; and one of a third cell.
fn crowding() -> [u64; 6] {
    let [second, third] = [1, 2].map(|n| (cell(KEY, 2) + n) % 4);
    let mut chained = keys(|key| cell(key, 2) == second);
    let alone = keys(|key| cell(key, 2) == third).next().unwrap();
    std::array::from_fn(|i| if i < 5 { chained.next().unwrap() } else { alone })
}

/// A group of four cells.
fn group() -> Group {
    shardflight::Group::builder().hasher(Hasher::default()).shards(4).build()
}

/// Fills the chain of a cell, and puts a flight into the map: the group is about to grow.
fn crowd<'a>(group: &'a Group, others: &'a [u64; 6]) -> (Lead, Vec<Pin<Box<impl Future + 'a>>>) {
    let [chained @ .., _, alone] = others;
    let chain = chained.iter().map(|key| pending(group.run(key, future::pending())));
    (lead(group, *alone), chain.collect())
}

/// Begins a flight for which the chain has no place, so that all go to the map and there are more
/// cells; and ends it.
fn grow(group: &Group, others: &[u64; 6]) {
    drop(pending(group.run(&others[4], future::pending())));
}

fn lead(group: &Group, key: u64) -> Lead {
    match group.lead_or_join(&key) {
        Entry::Lead(lead) => lead,
        Entry::Join(_) => unreachable!("the key is free"),
    }
}

/// G1, G4: a key is claimed, in the old row or in the new one, and released, while the cells move; and
/// the next execution sees that one.
#[test]
fn g1_g4_growth_races_a_claim_and_its_release() {
    check(3, || {
        let (group, crowding) = (group(), crowding());
        let crowd = crowd(&group, &crowding);
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        executions.cross();
        grow(&group, &crowding);
        executions.cross();
        let value = group.run_blocking(&KEY, || executions.execute());
        assert!((1..=2).contains(&value));
        assert!((1..=2).contains(&other.join().unwrap()));
        drop(crowd);
        assert!(group.is_empty(), "G4");
        assert!(group.run_blocking(&KEY, || executions.execute()) > 1, "G1");
    });
}

/// G1, G2: two callers with one key, which may have come upon different rows, and whose flight stays.
#[test]
fn g1_g2_a_key_is_never_in_two_rows() {
    check(2, || {
        let (group, crowding) = (group(), crowding());
        let crowd = crowd(&group, &crowding);
        let executions = Executions::new();
        let others = [(); 2].map(|()| {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                executions.cross();
                let work = executions.stuck();
                pending(async move { group.run(&KEY, work).await })
            })
        });
        executions.cross();
        grow(&group, &crowding);
        let others = others.map(|other| other.join().unwrap());
        drop(crowd);
        assert_eq!(group.len(), 1, "G1");
        drop(others);
        assert!(group.is_empty(), "G4");
        assert_eq!(executions.execute(), 2, "G2");
    });
}

/// G2, G6: a flight is joined while it moves from one row to the other, and while it ends.
#[test]
fn g2_g6_growth_races_a_join() {
    check(2, || {
        let (group, crowding) = (group(), crowding());
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).run(ready_at_the_second_poll(7)));
        let crowd = crowd(&group, &crowding);
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                executions.cross();
                group.call(&KEY).run_blocking(|| executions.execute()).unwrap()
            })
        };
        let grower = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                executions.cross();
                grow(&group, &crowding);
            })
        };
        executions.cross();
        let led = block_on(leader).unwrap();
        let other = other.join().unwrap();
        grower.join().unwrap();
        match other.role {
            Role::Joined => {
                assert_eq!((led.role, other.value), (Role::Led { followers: 1 }, 7), "G2")
            }
            _ => assert_eq!((led.role, other.value), (Role::Led { followers: 0 }, 1), "G2"),
        }
        drop(crowd);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4, G10: a chain moves, to one cell and to two, and its flights end meanwhile or after.
#[test]
fn g1_g4_a_chain_moves_while_its_flights_end() {
    check(3, || {
        let (group, crowding) = (group(), crowding());
        let (executions, others) = (Executions::new(), Executions::new());
        let (close, neighbour) = (close(), neighbour());
        let first = pending(group.run(&KEY, executions.stuck()));
        let second = pending(group.run(&close, others.stuck()));
        let third = pending(group.run(&neighbour, ready_at_the_second_poll(3)));
        let crowd = crowd(&group, &crowding);
        let newcomer = {
            let (group, others) = (group.clone(), others.clone());
            thread::spawn(move || {
                others.cross();
                grow(&group, &crowding);
                group.run_blocking(&close, || others.execute())
            })
        };
        others.cross();
        assert!(group.is_in_flight(&KEY), "G1");
        drop(second);
        others.cross();
        drop(first);
        assert!(!group.is_in_flight(&KEY), "G4");
        assert_eq!(block_on(third), 3);
        assert!(newcomer.join().unwrap() > 1, "G1");
        drop(crowd);
        assert!(group.is_empty(), "G4");
        assert_eq!(group.run_blocking(&KEY, || executions.execute()), 2, "G1");
    });
}

/// G1, G4: flights in the map are counted in the new row: as long as one of a cell stays, no other of
/// its key begins there, and then the cell is empty.
#[test]
fn g1_g4_a_crowd_is_counted_in_the_new_row() {
    check(3, || {
        let (group, crowding) = (group(), crowding());
        let executions = Executions::new();
        let close = close();
        let stuck = pending(group.run(&KEY, executions.stuck()));
        let beside = pending(group.run(&close, ready_at_the_second_poll(2)));
        // It moves both to the map.
        drop(pending(group.run(&close, async { 3 })));
        let crowd = crowd(&group, &crowding);
        let newcomer = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                executions.cross();
                group.run_blocking(&KEY, || executions.execute())
            })
        };
        grow(&group, &crowding);
        executions.cross();
        assert_eq!(block_on(beside), 2);
        assert!(group.is_in_flight(&KEY), "G1");
        drop(stuck);
        assert!(newcomer.join().unwrap() > 1, "G1");
        drop(crowd);
        assert!(group.is_empty(), "G4");
        assert!(!group.is_in_flight(&KEY) && !group.is_in_flight(&close), "G4");
        assert_eq!(group.run_blocking(&KEY, || executions.execute()), 3, "G1");
    });
}

/// G4, G5: a flight is forgotten in the old row or in the new one; its leader leaves the next alone.
#[test]
fn g4_g5_growth_races_forget() {
    check(4, || {
        let (group, crowding) = (group(), crowding());
        let crowd = crowd(&group, &crowding);
        let old = pending(group.run(&KEY, ready_at_the_second_poll(1)));
        let crossing = Crossing::new();
        let other = {
            let (group, crossing) = (group.clone(), crossing.clone());
            thread::spawn(move || {
                crossing.cross();
                group.forget(&KEY);
                let next = pending(group.run(&KEY, ready_at_the_second_poll(2)));
                crossing.cross();
                assert!(group.is_in_flight(&KEY), "G5");
                block_on(next)
            })
        };
        crossing.cross();
        grow(&group, &crowding);
        assert_eq!(block_on(old), 1);
        assert_eq!(other.join().unwrap(), 2, "G5");
        drop(crowd);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G10: `in_flight` and `is_in_flight` while the cells move: what stays is seen, once.
#[test]
fn g1_g10_looking_at_flights_races_growth() {
    check(3, || {
        let (group, crowding) = (group(), crowding());
        let executions = Executions::new();
        let close = close();
        let stays = pending(group.run(&KEY, executions.stuck()));
        let crowd = crowd(&group, &crowding);
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                executions.cross();
                grow(&group, &crowding);
                assert_eq!(group.run_blocking(&close, || 2), 2);
            })
        };
        executions.cross();
        assert!(group.is_in_flight(&KEY), "G1");
        let found = group.in_flight();
        assert_eq!(found.iter().filter(|flight| flight.key == KEY).count(), 1, "{found:?}");
        other.join().unwrap();
        drop(crowd);
        assert_eq!(group.len(), 1);
        drop(stays);
        assert!(group.is_empty(), "G4");
        assert_eq!(group.run_blocking(&KEY, || executions.execute()), 2, "G1");
    });
}
