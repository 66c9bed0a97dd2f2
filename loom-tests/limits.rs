//! `max_followers`: as many as there are places, no fewer, and no more.

use loom::{future::block_on, thread};
use shardflight::{CallError, Group, Handle};

use crate::kit::{Hasher, KEY, check, group, lead, pending};

/// A follower that may go to another thread, if there is a place.
fn follow(
    group: &Group<u64, u64, Hasher>,
) -> Result<(impl Future<Output = ()> + Send + use<>, Handle<u64>), CallError> {
    group.call(&KEY).max_followers(1).task(async { 2 })
}

/// G2: two race for one place: one gets it, and its answer.
#[test]
fn g2_two_race_for_one_place() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let other = {
            let group = group.clone();
            thread::spawn(move || follow(&group))
        };
        let followers = [follow(&group), other.join().unwrap()];
        assert_eq!(lead.land(1), 1);
        let (refused, followed): (Vec<_>, Vec<_>) = followers.into_iter().partition(Result::is_err);
        assert!(refused.len() == 1 && followed.len() == 1);
        for follower in followed {
            let (task, handle) = follower.expect("not refused");
            block_on(task);
            assert_eq!(handle.wait(), Ok(1));
        }
        assert!(group.is_empty(), "G4");
    });
}

/// G2: the place of one that goes is free at once: of two that want it, one gets it.
#[test]
fn g2_a_place_is_free_when_its_follower_has_gone() {
    check(6, || {
        let group = group();
        let lead = lead(&group);
        let first = pending(group.run(&KEY, async { 2 }));
        let other = {
            let group = group.clone();
            thread::spawn(move || follow(&group))
        };
        drop(first);
        let last = follow(&group);
        let other = other.join().unwrap();
        assert_eq!(u32::from(last.is_ok()) + u32::from(other.is_ok()), 1);
        assert_eq!(lead.land(1), 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G2, G4: who is refused is not counted, and a flight that ends meanwhile refuses nobody: then the
/// caller leads.
#[test]
fn g2_a_full_flight_lands() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let first = pending(group.run(&KEY, async { 2 }));
        let other = {
            let group = group.clone();
            thread::spawn(move || group.call(&KEY).max_followers(1).run_blocking(|| 3))
        };
        assert_eq!(lead.land(1), 1);
        assert_eq!(block_on(first), 1);
        match other.join().unwrap() {
            Ok(outcome) => assert_eq!(outcome.value, 3),
            Err(error) => assert_eq!(error, CallError::TooManyFollowers),
        }
        assert!(group.is_empty(), "G4");
    });
}
