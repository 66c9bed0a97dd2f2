//! `forget` against everything that can happen to a flight at the same time.

use loom::{future::block_on, thread};
use shardflight::{CallError, OnCancel, Role};

use crate::kit::{
    Crossing, Executions, KEY, check, group, pending, poll_once, ready_at_the_second_poll,
};

/// G5, G6: a flight is forgotten while it is joined and lands. Its followers get its value all the
/// same; the slot that `forget` and the landing fight over belongs to one of them; the next flight's
/// slot is not touched.
#[test]
fn g5_forget_races_join_and_landing() {
    check(2, || {
        let group = group();
        let follower = {
            let group = group.clone();
            thread::spawn(move || block_on(group.run(&KEY, async { 2 })))
        };
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || {
                group.forget(&KEY);
                // The next flight of the key, which the forgotten one must leave alone.
                let mut next = Box::pin(group.run(&KEY, std::future::pending()));
                match poll_once(next.as_mut()) {
                    std::task::Poll::Ready(value) => assert!(value == 1 || value == 2),
                    std::task::Poll::Pending => {}
                }
            })
        };
        let led = group.run_blocking(&KEY, || 1);
        assert!(led == 1 || led == 2);
        forgetter.join().unwrap();
        let followed = follower.join().unwrap();
        assert!(followed == 1 || followed == 2);
        assert!(group.is_empty(), "G4");
    });
}

/// G5: what was forgotten does not remove what came after it, and nobody joins it any more. The next
/// flight is followed, and so is in the map, where the forgotten one looks for itself.
#[test]
fn g5_a_forgotten_flight_leaves_the_next_one_and_its_follower_alone() {
    check(8, || {
        let group = group();
        let old = pending(group.run(&KEY, ready_at_the_second_poll(1)));
        let next = {
            let group = group.clone();
            thread::spawn(move || {
                group.forget(&KEY);
                let next = pending(group.run(&KEY, ready_at_the_second_poll(2)));
                let follower = pending(group.run(&KEY, async { 3 }));
                assert!(group.is_in_flight(&KEY));
                assert_eq!(block_on(next), 2);
                assert_eq!(block_on(follower), 2);
            })
        };
        assert_eq!(block_on(old), 1);
        next.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: the leader does not know that it has a follower, is forgotten, and is dropped: the
/// follower takes over all the same.
#[test]
fn g7_forget_races_abandoning() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = {
            let group = group.clone();
            thread::spawn(move || block_on(group.run(&KEY, async { 2 })))
        };
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || group.forget(&KEY))
        };
        drop(leader);
        assert_eq!(follower.join().unwrap(), 2);
        forgetter.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// `forget_unshared` never cuts off a follower: what it removed had none, and nobody can join what
/// it removed.
#[test]
fn g6_forget_unshared_races_join() {
    check(2, || {
        let group = group();
        let crossing = Crossing::new();
        let follower = {
            let (group, crossing) = (group.clone(), crossing.clone());
            thread::spawn(move || {
                let outcome = block_on(group.call(&KEY).run(async { 2 })).unwrap();
                crossing.cross();
                outcome
            })
        };
        let forgetter = {
            let (group, crossing) = (group.clone(), crossing.clone());
            thread::spawn(move || {
                crossing.cross();
                group.forget_unshared(&KEY)
            })
        };
        let work = || {
            crossing.cross();
            1
        };
        let first = group.call(&KEY).run_blocking(work).unwrap();
        let outcomes = [first, follower.join().unwrap()];
        let forgotten = forgetter.join().unwrap();
        assert!(outcomes.iter().all(|o| [1, 2].contains(&o.value)));
        // With a follower there was one flight, and it was shared.
        let is_shared = outcomes.iter().any(|o| o.role == Role::Joined);
        assert!(!(is_shared && forgotten), "a shared flight was forgotten");
        assert!(group.is_empty(), "G4");
    });
}

/// The same with a flight that is there from the start.
#[test]
fn g6_forget_unshared_leaves_what_is_joined() {
    check(8, || {
        let group = group();
        let leader = pending(group.call(&KEY).run(ready_at_the_second_poll(1)));
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || group.forget_unshared(&KEY))
        };
        let follower = pending(group.call(&KEY).run(ready_at_the_second_poll(2)));
        let (led, other) = (block_on(leader).unwrap(), block_on(follower).unwrap());
        let forgotten = forgetter.join().unwrap();
        assert_eq!((led.value, other.value), (1, if other.role == Role::Joined { 1 } else { 2 }));
        assert!(!(forgotten && other.role == Role::Joined), "a shared flight was forgotten");
        assert!(group.is_empty(), "G4");
    });
}

/// G4, G6: a leader is dropped and offers its work, while the only follower that could take it goes, and
/// so does one that could not. Of those two and the leader one ends the flight, and a handle is told.
#[test]
fn g6_the_work_of_a_forgotten_flight_is_offered_while_its_followers_leave() {
    check(2, || {
        let group = group();
        let leader = pending(group.call(&KEY).relay(std::future::pending()));
        let (of_able, of_told) = (group.clone(), group.clone());
        let able = pending(async move { of_able.run(&KEY, std::future::pending()).await });
        let told = pending(async move {
            let call = of_told.call(&KEY).on_cancel(OnCancel::Fail);
            call.run(std::future::pending()).await.map(|outcome| outcome.value)
        });
        let handle = group.join(&KEY).expect("it is in flight");
        assert!(group.forget(&KEY));
        let threads = [thread::spawn(move || drop(able)), thread::spawn(move || drop(told))];
        drop(leader);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
    });
}

/// G5, G6: all flights are forgotten while one is joined and lands, alone in its cell or in the map. Who comes
/// afterwards does not join it; who follows it gets its value.
#[test]
fn g5_forget_all_races_join_and_landing() {
    check(2, || {
        let group = group();
        let old = pending(group.run(&KEY, ready_at_the_second_poll(1)));
        let follower = {
            let group = group.clone();
            thread::spawn(move || block_on(group.run(&KEY, async { 2 })))
        };
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || {
                group.forget_all();
                let next = group.run_blocking(&KEY, || 3);
                assert_ne!(next, 1, "it was forgotten");
            })
        };
        assert_eq!(block_on(old), 1);
        forgetter.join().unwrap();
        let followed = follower.join().unwrap();
        assert!([1, 2, 3].contains(&followed));
        assert!(group.is_empty(), "G4");
    });
}

/// G5, G10: a flight that moves from its cell to the map, because another key is joined there, is not missed.
#[test]
fn g5_forget_all_races_a_flight_that_moves() {
    check(3, || {
        let group = group();
        let old = pending(group.run(&KEY, ready_at_the_second_poll(1)));
        let other = {
            let group = group.clone();
            thread::spawn(move || {
                let leader = pending(group.run(&3, ready_at_the_second_poll(3)));
                let follower = pending(group.run(&3, ready_at_the_second_poll(4)));
                assert_eq!(block_on(leader), 3);
                block_on(follower)
            })
        };
        assert!(group.forget_all() >= 1);
        assert!(!group.is_in_flight(&KEY));
        assert_eq!(group.run_blocking(&KEY, || 2), 2);
        assert_eq!(block_on(old), 1);
        assert!([3, 4].contains(&other.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G4: of a chain in a cell all flights are forgotten.
#[test]
fn g5_forget_all_takes_whole_chains() {
    check(2, || {
        let group = group();
        let calls = [1, 2, 3, 7].map(|key| {
            let group = group.clone();
            pending(async move { group.run(&key, std::future::pending()).await })
        });
        assert_eq!(group.forget_all(), 4);
        assert!(group.is_empty(), "G4");
        drop(calls);
        assert!(group.is_empty(), "G4");
    });
}
