//! The handle that a lead gives out to its own flight: whatever becomes of the slot meanwhile, it gets
//! what the lead comes to.

use loom::thread;
use shardflight::{CallError, Entry};

use crate::kit::{Executions, KEY, check, group, lead, pending, poll_once};

/// G5, G6: the flight is forgotten while its lead makes a handle, before anybody has joined or after:
/// the handle gets its answer, and the next flight of the key is another one.
fn own_handle_races_forget(land: bool) {
    let group = group();
    let lead = lead(&group);
    let forgetting = {
        let group = group.clone();
        thread::spawn(move || {
            group.forget(&KEY);
            let Entry::Lead(next) = group.lead_or_join(&KEY) else {
                unreachable!("the flight was forgotten, or has ended")
            };
            assert_eq!(next.land(2), 0, "G5");
        })
    };
    let handle = lead.handle();
    if land {
        assert_eq!(lead.land(1), 1);
        assert_eq!(handle.wait(), Ok(1));
    } else {
        drop(lead);
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
    }
    forgetting.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g5_g6_own_handle_of_a_lead_that_lands_races_forget() {
    check(4, || own_handle_races_forget(true));
}

#[test]
fn g5_g6_own_handle_of_a_lead_that_is_dropped_races_forget() {
    check(4, || own_handle_races_forget(false));
}

/// G2, G6: the first handle of the lead and the first follower come together: both are of one flight, and
/// counted. The lead lands in another thread while the handle waits here.
#[test]
fn g2_g6_own_handle_races_join() {
    check(3, || {
        let group = group();
        let lead = lead(&group);
        let joining = {
            let group = group.clone();
            thread::spawn(move || group.join(&KEY))
        };
        let handle = lead.handle();
        let joined = joining.join().unwrap().expect("it is led until below");
        let landing = thread::spawn(move || lead.land(1));
        assert_eq!(handle.wait(), Ok(1));
        assert_eq!(landing.join().unwrap(), 2);
        assert_eq!(joined.wait(), Ok(1));
        assert!(group.is_empty(), "G4");
    });
}

/// G2, G6: the flight is forgotten before, between or after two handles: they are of one flight.
#[test]
fn g2_g6_two_own_handles_race_forget() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let forgetting = {
            let group = group.clone();
            thread::spawn(move || assert!(group.forget(&KEY), "it is led until below"))
        };
        let handles = [lead.handle(), lead.handle()];
        forgetting.join().unwrap();
        assert_eq!(lead.land(1), 2);
        assert!(handles.into_iter().all(|handle| handle.wait() == Ok(1)));
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G2: a lead that came to a flight which everybody had left, and that knows it: its own handle gets its
/// value.
#[test]
fn g2_own_handle_of_a_lead_that_was_taken_over() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let mut follower = Box::pin(group.run(&KEY, executions.work()));
        assert!(poll_once(follower.as_mut()).is_pending());
        drop(leader);
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || match group.lead_or_join(&KEY) {
                Entry::Lead(lead) => {
                    let handle = lead.handle();
                    let value = executions.execute();
                    assert_eq!(lead.land(value), 1);
                    assert_eq!(handle.wait(), Ok(value));
                }
                Entry::Join(handle) => assert_eq!(handle.wait(), Err(CallError::Cancelled)),
            })
        };
        drop(follower);
        other.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}
