//! The cells before the map: claims and releases without the lock against whoever looks, joins,
//! overflows and forgets with it.

use std::hash::{BuildHasher, Hash};

use loom::{
    alloc::Track,
    cell::UnsafeCell,
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use shardflight::Role;

use crate::kit::{
    Crossing, Executions, Group, Hasher, KEY, check, group, group_of, pending, poll_once,
    ready_at_the_second_poll,
};

/// In one cell with `KEY`, and with the same bits of the hash beside the pointer.
const TWIN: u64 = 3;
/// In one cell with `KEY`, with other bits.
const NEIGHBOUR: u64 = 2;
/// In the other cell.
const STRANGER: u64 = 5;
/// With `KEY`, one more than a cell chains. All have other bits than `KEY` but `TWIN`.
const OTHERS: [u64; 4] = [NEIGHBOUR, TWIN, 7, 8];

/// The cell of a key, and the bits of its hash that the word keeps: `KeyHash` once more.
fn place(key: u64) -> (u32, u32) {
    let hash = Hasher::default().hash_one(key);
    let hash = (hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32;
    (hash >> 31, hash & 0b11)
}

#[test]
fn the_keys_meet_as_the_models_need_it() {
    let (cell, bits) = place(KEY);
    assert_eq!(place(TWIN), (cell, bits));
    assert_ne!(place(STRANGER).0, cell);
    for other in OTHERS {
        assert_eq!(place(other).0, cell);
        assert_eq!(place(other).1 == bits, other == TWIN);
    }
}

/// A key in memory that loom guards: a comparison that races its end, or does not see its beginning,
/// fails the model, and so does a key that is never dropped.
struct Guarded {
    number: u64,
    memory: UnsafeCell<()>,
    /// To be interrupted at while it is compared, by whoever drops it.
    touched: Crossing,
    _lives: Track<()>,
}

// SAFETY: loom checks at each access that no other overlaps it; that is what it is here for.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Sync for Guarded {}
// SAFETY: numbers, and what loom watches over.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Send for Guarded {}

impl Guarded {
    fn new(number: u64) -> Self {
        let memory = UnsafeCell::new(());
        memory.with_mut(|_| ());
        Self { number, memory, touched: Crossing::new(), _lives: Track::new(()) }
    }
}

impl Clone for Guarded {
    fn clone(&self) -> Self {
        self.memory.with(|_| ());
        Self::new(self.number)
    }
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        let compare = || {
            self.touched.cross();
            other.touched.cross();
            self.number == other.number
        };
        self.memory.with(|_| other.memory.with(|_| compare()))
    }
}
impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.touched.cross();
        self.memory.with_mut(|_| ());
    }
}

/// A key that notices what its group is doing: while anybody holds the lock, the group's `Debug`
/// leaves its length out, and its `len` waits.
struct Watching {
    number: u64,
    group: Group<Watching>,
    copied_under_a_lock: Arc<AtomicBool>,
}

impl Watching {
    fn new(number: u64, group: &Group<Self>) -> Self {
        let copied_under_a_lock = Arc::new(AtomicBool::new(false));
        Self { number, group: group.clone(), copied_under_a_lock }
    }
}

impl Clone for Watching {
    fn clone(&self) -> Self {
        let is_locked = !format!("{:?}", self.group).contains("len");
        self.copied_under_a_lock.store(is_locked, Ordering::Relaxed);
        let (group, copied) = (self.group.clone(), self.copied_under_a_lock.clone());
        Self { number: self.number, group, copied_under_a_lock: copied }
    }
}

impl PartialEq for Watching {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}
impl Eq for Watching {}

impl Hash for Watching {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl Drop for Watching {
    /// Waits for the lock: for ever, if the one who drops it holds it.
    fn drop(&mut self) {
        let _ = self.group.len();
    }
}

/// G1, G10: two keys begin at once, and both lead.
fn begin_at_once(other_key: u64) {
    let group = group();
    let (executions, others, crossing) = (Executions::new(), Executions::new(), Crossing::new());
    let other = {
        let (group, others, crossing) = (group.clone(), others.clone(), crossing.clone());
        thread::spawn(move || {
            let work = || {
                crossing.cross();
                others.execute()
            };
            group.call(&other_key).run_blocking(work).unwrap()
        })
    };
    crossing.cross();
    let led = block_on(group.call(&KEY).run(executions.work())).unwrap();
    assert_eq!((led.value, led.role), (1, Role::Led { followers: 0 }), "G10");
    let other = other.join().unwrap();
    assert_eq!((other.value, other.role), (1, Role::Led { followers: 0 }), "G10");
    assert!(group.is_empty(), "G4");
    assert!(!group.is_in_flight(&KEY) && !group.is_in_flight(&other_key), "G4");
}

#[test]
fn g1_g10_two_keys_of_a_cell_begin_at_once() {
    check(8, || begin_at_once(NEIGHBOUR));
}

#[test]
fn g1_g10_two_keys_with_the_same_bits_begin_at_once() {
    check(8, || begin_at_once(TWIN));
}

#[test]
fn g1_g10_two_keys_of_two_cells_begin_at_once() {
    check(8, || begin_at_once(STRANGER));
}

/// G1, G2: of three that begin at once two meet in a flight, while the third comes to their cell.
#[test]
fn g1_g2_two_meet_while_a_neighbour_comes() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let neighbour = {
            let group = group.clone();
            thread::spawn(move || group.call(&NEIGHBOUR).run_blocking(|| 7).unwrap())
        };
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.call(&KEY).run_blocking(|| executions.execute()).unwrap())
        };
        let first = group.call(&KEY).run_blocking(|| executions.execute()).unwrap();
        let (other, neighbour) = (other.join().unwrap(), neighbour.join().unwrap());
        assert_eq!((neighbour.value, neighbour.role), (7, Role::Led { followers: 0 }), "G10");
        let joined = [&first, &other].iter().filter(|o| o.role == Role::Joined).count();
        assert_eq!(executions.execute(), 3 - joined as u64, "G2");
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4: three of a cell, so that a chain is taken apart at its head and behind it.
#[test]
fn g1_g4_a_chain_is_taken_apart_in_any_order() {
    check(4, || {
        let group = group();
        let (executions, others) = (Executions::new(), Executions::new());
        let first = pending(group.run(&KEY, executions.stuck()));
        let second = pending(group.run(&NEIGHBOUR, others.stuck()));
        let third = pending(group.run(&TWIN, ready_at_the_second_poll(3)));
        let newcomer = {
            let (group, others) = (group.clone(), others.clone());
            thread::spawn(move || group.run_blocking(&NEIGHBOUR, || others.execute()))
        };
        drop(first);
        assert!(!group.is_in_flight(&KEY), "G4");
        drop(second);
        assert_eq!(block_on(third), 3);
        assert!(newcomer.join().unwrap() > 1, "G1");
        assert!(group.is_empty(), "G4");
        assert_eq!(group.run_blocking(&KEY, || executions.execute()), 2, "G1");
    });
}

/// G1, G4: a key's claim, and its way behind the lock, against the release of another.
#[test]
fn g4_a_claim_races_a_release() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let crossing = Crossing::new();
        let old = pending(group.run(&KEY, executions.stuck()));
        let neighbour = {
            let (group, executions, crossing) =
                (group.clone(), executions.clone(), crossing.clone());
            thread::spawn(move || {
                crossing.cross();
                let neighbour = pending(group.run(&NEIGHBOUR, ready_at_the_second_poll(2)));
                crossing.cross();
                assert!(group.is_in_flight(&NEIGHBOUR), "G1");
                let led = group.run_blocking(&KEY, || executions.execute());
                assert_eq!(block_on(neighbour), 2);
                led
            })
        };
        crossing.cross();
        drop(old);
        crossing.cross();
        assert!(neighbour.join().unwrap() > 1, "G1: began before the cancelled work was gone");
        assert!(group.is_empty(), "G4");
    });
}

/// G1: what an execution did is seen by the next of its key, also if in between somebody looked at the
/// flight, so that it ended under the lock.
#[test]
fn g1_a_look_hides_no_execution() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        for _ in 0..2 {
            executions.cross();
            assert!(!group.is_in_flight(&NEIGHBOUR));
        }
        executions.cross();
        let value = group.run_blocking(&KEY, || executions.execute());
        assert!((1..=2).contains(&value));
        assert!((1..=2).contains(&other.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G1: who saw a key in flight, and then free, sees what was done in between.
#[test]
fn g1_a_key_seen_free_has_been_executed() {
    check(8, || {
        let group = group();
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        executions.cross();
        if group.is_in_flight(&KEY) {
            executions.cross();
            if !group.is_in_flight(&KEY) {
                assert_eq!(executions.execute(), 2);
            }
        }
        assert_eq!(other.join().unwrap(), 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G1: a key stays as long as somebody compares it, and is dropped once, by whoever ends its flight.
/// The keys of one cell are all compared, and one of them is joined.
fn compare(key: u64, beside: u64) {
    let group = group_of::<Guarded>();
    let keys = [key, beside].map(Guarded::new);
    let executions = Executions::new();
    let other = {
        let (group, executions) = (group.clone(), executions.clone());
        thread::spawn(move || {
            let key = Guarded::new(KEY);
            group.run_blocking(&key, || executions.execute())
        })
    };
    let [joined, looked_for] = &keys;
    executions.cross();
    assert!(!group.is_in_flight(looked_for));
    executions.cross();
    let value = match joined.number {
        KEY => block_on(group.run(joined, executions.work())),
        _ => group.run_blocking(joined, || 1),
    };
    assert!((1..=2).contains(&value));
    assert!((1..=2).contains(&other.join().unwrap()));
    assert!(group.is_empty(), "G4");
}

#[test]
fn g1_a_key_stays_while_a_joiner_compares_it() {
    check(5, || compare(KEY, TWIN));
}

#[test]
fn g1_a_key_stays_while_a_neighbour_compares_it() {
    check(5, || compare(TWIN, NEIGHBOUR));
}

/// G9: who loses the race for an empty cell has copied its key already, and drops no copy under the
/// lock.
#[test]
fn g9_no_key_is_dropped_under_the_lock() {
    check(4, || {
        let group = group_of();
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                group.run_blocking(&Watching::new(KEY, &group), || executions.execute())
            })
        };
        executions.cross();
        assert_eq!(group.run_blocking(&Watching::new(NEIGHBOUR, &group), || 2), 2);
        assert_eq!(other.join().unwrap(), 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4: one more than a chain holds: all move to the map, and those that end meanwhile find
/// themselves there or not.
#[test]
fn g1_g4_a_cell_overflows_while_its_flights_end() {
    check(3, || {
        let group = group();
        let (executions, others) = (Executions::new(), Executions::new());
        let twin = pending(group.run(&TWIN, others.stuck()));
        let chain = [&NEIGHBOUR, &7, &8].map(|key| pending(group.run(key, std::future::pending())));
        let newcomer = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        executions.cross();
        drop(twin);
        executions.cross();
        drop(chain);
        executions.cross();
        let value = group.run_blocking(&KEY, || executions.execute());
        assert!((1..=2).contains(&value));
        assert_eq!(group.run_blocking(&TWIN, || others.execute()), 2, "G1");
        assert!((1..=2).contains(&newcomer.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G1: as long as one flight is in the map, no other of its key begins in the cell, whatever else of
/// the cell ends.
#[test]
fn g1_a_crowd_ends_while_a_flight_of_it_stays() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let stuck = pending(group.run(&KEY, executions.stuck()));
        let neighbour = pending(group.run(&NEIGHBOUR, ready_at_the_second_poll(2)));
        let joined = pending(group.run(&NEIGHBOUR, async { 3 }));
        let newcomer = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        assert_eq!(block_on(neighbour), 2);
        assert_eq!(block_on(joined), 2);
        executions.cross();
        assert_eq!(group.run_blocking(&NEIGHBOUR, || 4), 4, "G3");
        drop(stuck);
        assert!(newcomer.join().unwrap() > 1, "G1");
        assert!(group.is_empty(), "G4");
    });
}

/// G4: when a crowd has gone, its cell is empty as before: the next flight begins without the lock.
#[test]
fn g4_a_cell_is_empty_again_when_its_crowd_has_gone() {
    check(4, || {
        let group = group_of::<Watching>();
        let keys = OTHERS.map(|key| Watching::new(key, &group));
        let [a, b, c, d] = &keys;
        let chain = [a, b, c, d].map(|key| pending(group.run(key, std::future::pending())));
        let newcomer = {
            let group = group.clone();
            thread::spawn(move || group.run_blocking(&Watching::new(KEY, &group), || 1))
        };
        drop(chain);
        assert_eq!(newcomer.join().unwrap(), 1);
        let key = Watching::new(KEY, &group);
        assert_eq!(group.run_blocking(&key, || 2), 2);
        assert!(!key.copied_under_a_lock.load(Ordering::Relaxed), "the cell was not empty");
        assert!(group.is_empty(), "G4");
    });
}

/// G1: the execution after a crowd sees those that were in it.
#[test]
fn g1_an_execution_after_a_crowd_sees_those_before() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let crowd = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let mut led = Box::pin(group.run(&KEY, executions.stuck()));
                let _ = poll_once(led.as_mut());
                let mut followed = Box::pin(group.run(&KEY, std::future::pending()));
                let _ = poll_once(followed.as_mut());
                drop(followed);
                drop(led);
            })
        };
        executions.cross();
        assert!((1..=2).contains(&group.run_blocking(&KEY, || executions.execute())));
        crowd.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G2: joining one flight moves all of its cell, while the others end or are joined.
#[test]
fn g2_a_join_moves_the_flights_beside_it() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let behind = pending(group.run(&NEIGHBOUR, executions.stuck()));
        let led = pending(group.call(&KEY).run(ready_at_the_second_poll(1)));
        let before = pending(group.run(&TWIN, ready_at_the_second_poll(3)));
        let joiner = {
            let group = group.clone();
            thread::spawn(move || group.call(&KEY).run_blocking(|| 2).unwrap())
        };
        drop(behind);
        assert_eq!(group.run_blocking(&NEIGHBOUR, || executions.execute()), 2, "G1");
        assert_eq!(block_on(before), 3);
        let led = block_on(led).unwrap();
        let joiner = joiner.join().unwrap();
        match joiner.role {
            Role::Joined => assert_eq!((joiner.value, led.role), (1, Role::Led { followers: 1 })),
            role => {
                assert_eq!((joiner.value, role, led.role), (2, role, Role::Led { followers: 0 }))
            }
        }
        assert!(group.is_empty(), "G4");
    });
}

/// G5: forgetting one flight of a cell leaves the others alone, wherever they are by then.
fn forget_races_neighbours(unshared: bool) {
    let group = group();
    let executions = Executions::new();
    let stays = pending(group.run(&TWIN, executions.stuck()));
    let old = pending(group.run(&KEY, ready_at_the_second_poll(1)));
    let other = {
        let (group, executions) = (group.clone(), executions.clone());
        thread::spawn(move || {
            match unshared {
                true => group.forget_unshared(&KEY),
                false => group.forget(&KEY),
            };
            let next = pending(group.run(&KEY, ready_at_the_second_poll(2)));
            assert!(group.is_in_flight(&KEY), "G5");
            assert!(group.run_blocking(&TWIN, || executions.execute()) > 1, "G1");
            assert_eq!(block_on(next), 2, "G5: a forgotten flight was joined");
        })
    };
    drop(stays);
    assert_eq!(group.run_blocking(&NEIGHBOUR, || 4), 4);
    assert_eq!(block_on(old), 1);
    other.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g5_forget_races_release_and_claim_of_a_neighbour() {
    check(3, || forget_races_neighbours(false));
}

#[test]
fn g5_forget_unshared_races_release_and_claim_of_a_neighbour() {
    check(3, || forget_races_neighbours(true));
}

/// G1: a flight that is in flight all the time is seen all the time, while it moves.
#[test]
fn g1_a_flight_that_moves_is_never_missed() {
    check(5, || {
        let group = group();
        let crossing = Crossing::new();
        let stuck = pending(group.run(&KEY, std::future::pending()));
        let neighbour = pending(group.run(&NEIGHBOUR, std::future::pending()));
        let watcher = {
            let (group, crossing) = (group.clone(), crossing.clone());
            thread::spawn(move || {
                crossing.cross();
                assert!((1..=2).contains(&group.len()));
                crossing.cross();
                assert!(group.is_in_flight(&KEY));
                crossing.cross();
                assert!(!group.is_empty());
            })
        };
        crossing.cross();
        let joined = pending(group.run(&NEIGHBOUR, std::future::pending()));
        crossing.cross();
        drop(neighbour);
        drop(joined);
        crossing.cross();
        watcher.join().unwrap();
        assert_eq!(group.len(), 1);
        drop(stuck);
        assert!(group.is_empty(), "G4");
    });
}

/// G7: the lead of a flight in a crowded cell is passed on while a neighbour comes and goes.
#[test]
fn g7_the_lead_is_passed_on_beside_a_neighbour() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let waiting = pending(group.run(&KEY, executions.work()));
        let crossing = Crossing::new();
        let neighbour = {
            let (group, crossing) = (group.clone(), crossing.clone());
            thread::spawn(move || {
                let neighbour = pending(group.run(&TWIN, ready_at_the_second_poll(3)));
                crossing.cross();
                assert!(group.is_in_flight(&TWIN));
                assert_eq!(block_on(neighbour), 3);
            })
        };
        crossing.cross();
        drop(leader);
        crossing.cross();
        assert_eq!(block_on(waiting), 2, "G7");
        assert_eq!(group.run_blocking(&KEY, || executions.execute()), 3, "G1");
        neighbour.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G10: `in_flight` reads nodes while their leaders come and go, alone in the cell and in a chain;
/// loom checks each access. A flight that stays is seen, once.
#[test]
fn g10_looking_at_all_flights_races_their_ends() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let stays = pending(group.run(&KEY, executions.stuck()));
        let other = {
            let group = group.clone();
            thread::spawn(move || block_on(group.run(&NEIGHBOUR, ready_at_the_second_poll(2))))
        };
        let found = group.in_flight();
        assert_eq!(found.iter().filter(|flight| flight.key == KEY).count(), 1, "{found:?}");
        assert!(found.len() <= 2, "{found:?}");
        drop(stays);
        group.in_flight();
        assert_eq!(other.join().unwrap(), 2);
        assert!(group.is_empty(), "G4");
    });
}
