//! `Lead::handle`: a lead's handle to its own flight, whatever becomes of the key meanwhile.

#![cfg(not(loom))]

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
};

use common::{OnDrop, Polled, limited};
use shardflight::{CallError, Entry, Group, Lead, Stats};

/// The lead of a key that is free.
fn lead(group: &Group<u64, u32>) -> Lead<u64, u32> {
    match group.lead_or_join(&1) {
        Entry::Lead(lead) => lead,
        Entry::Join(handle) => panic!("the key is taken: {handle:?}"),
    }
}

/// G6: its own flight is not looked up by key, so `forget` cannot come between the lead and its handle.
#[test]
fn g06_own_handle_is_there_while_another_thread_forgets() {
    limited(|| {
        const LEAST: u32 = 2_000;
        const LEAST_FORGOTTEN: u32 = 5;
        let group: Group<u64, u32> = Group::new();
        let is_done = AtomicBool::new(false);
        let forgotten = AtomicU32::new(0);
        thread::scope(|scope| {
            let _done = OnDrop::new(|| is_done.store(true, SeqCst));
            scope.spawn(|| {
                while !is_done.load(SeqCst) {
                    forgotten.fetch_add(u32::from(group.forget(&1)), SeqCst);
                }
            });
            let mut round = 0;
            while round < LEAST || forgotten.load(SeqCst) < LEAST_FORGOTTEN {
                let lead = lead(&group);
                if round % 8 == 0 {
                    // Where there are few cores.
                    thread::yield_now();
                }
                let handle = lead.handle();
                assert_eq!(lead.land(round), 1);
                assert_eq!(handle.wait(), Ok(round));
                round += 1;
            }
        });
        assert!(group.is_empty());
    });
}

/// G5, G6: a flight that was forgotten before anybody had joined has handles, too. It is not the next one.
#[test]
fn g05_own_handle_of_a_forgotten_flight_is_not_of_the_next_one() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let old = lead(&group);
        assert!(group.forget(&1));
        let new = lead(&group);
        let of_old = [old.handle(), old.handle()];
        let of_new = new.handle();
        assert_eq!(old.land(1), 2);
        assert!(of_old.into_iter().all(|handle| handle.wait() == Ok(1)));
        assert!(group.is_in_flight(&1));
        assert_eq!(new.land(2), 1);
        assert_eq!(of_new.wait(), Ok(2));
        assert!(group.is_empty());
    });
}

/// G2: it is counted as a follower, once for all its clones, until it is dropped.
#[test]
fn g02_own_handle_counts_as_a_follower() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let lead = lead(&group);
        let handle = lead.handle();
        let clone = handle.clone();
        drop(lead.handle());
        assert!(!group.forget_unshared(&1));
        let full = group.call(&1).max_followers(1).run_blocking(|| 2);
        assert_eq!(full, Err(CallError::TooManyFollowers));
        let joined = group.join(&1).expect("in flight");
        assert_eq!(lead.land(1), 2);
        assert!([handle, clone, joined].into_iter().all(|handle| handle.wait() == Ok(1)));
    });
}

/// G7: when the lead is dropped it waits for the follower that takes over. Without one it is told.
#[test]
fn g07_own_handle_of_a_lead_that_is_dropped() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let alone = lead(&group);
        let told = alone.handle();
        drop(alone);
        assert_eq!(told.wait(), Err(CallError::Cancelled));

        let followed = lead(&group);
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        let waits = followed.handle();
        drop(followed);
        assert_eq!(follower.woken_value(), 2);
        assert_eq!(waits.wait(), Ok(2));
        assert!(group.is_empty());
    });
}

/// An observer hears of it as of any handle.
#[test]
fn own_handles_are_told_to_observers() {
    limited(|| {
        let stats = Arc::new(Stats::default());
        let group: Group<u64, u32> = Group::builder().observer(Arc::clone(&stats)).build();
        let lead = lead(&group);
        let (answered, left) = (lead.handle(), lead.handle());
        drop(left);
        assert_eq!(lead.land(1), 1);
        assert_eq!(answered.wait(), Ok(1));
        let seen = stats.snapshot();
        assert_eq!((seen.led, seen.joined, seen.answered, seen.left), (1, 2, 1, 1));
        assert_eq!((seen.waiting(), seen.in_flight()), (0, 0));
    });
}
