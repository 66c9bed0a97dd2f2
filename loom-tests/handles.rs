//! Those that wait without being able to lead, and leads that are values: nobody waits for what cannot
//! come, and nobody is left out of what comes.

use loom::{future::block_on, thread};
use shardflight::{CallError, Entry, Handle};

use crate::kit::{Executions, Group, KEY, check, group, lead, pending, poll_once};

type Answer = Result<u64, CallError>;

/// Waits for it in a thread of its own: as a task, or as the thread itself.
fn wait(handle: Handle<u64>, blocking: bool) -> thread::JoinHandle<Answer> {
    thread::spawn(move || if blocking { handle.wait() } else { block_on(handle) })
}

/// Joins in a thread of its own, and waits there.
fn join(group: &Group, blocking: bool) -> thread::JoinHandle<Option<Answer>> {
    let group = group.clone();
    thread::spawn(move || {
        let handle = group.join(&KEY)?;
        Some(if blocking { handle.wait() } else { block_on(handle) })
    })
}

/// G2, G3, G6: `join` races landing: the value, or nothing to join.
#[test]
fn g3_g6_join_races_landing() {
    check(7, || {
        let group = group();
        let lead = lead(&group);
        let joined = join(&group, true);
        let followers = lead.land(1);
        let answer = joined.join().unwrap();
        assert_eq!(answer, (followers == 1).then_some(Ok(1)));
        assert!(group.is_empty(), "G4");
    });
}

/// The same with a call that leads from its cell, and does not know of the handle.
#[test]
fn g3_g6_join_races_the_landing_of_a_call() {
    check(6, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.interrupted(1)));
        let joined = join(&group, false);
        assert_eq!(block_on(leader), 1);
        assert!([None, Some(Ok(1))].contains(&joined.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: `join` races the end of a lead that is dropped: told at once, or nothing to join.
fn join_races_abandoning(blocking: bool) {
    let group = group();
    let lead = lead(&group);
    let joined = join(&group, blocking);
    drop(lead);
    assert!([None, Some(Err(CallError::Cancelled))].contains(&joined.join().unwrap()));
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_join_as_a_task_races_abandoning() {
    check(5, || join_races_abandoning(false));
}

#[test]
fn g6_join_as_a_thread_races_abandoning() {
    check(5, || join_races_abandoning(true));
}

/// G6: two handles wait in two threads, for a lead that ends in this one: neither is left waiting.
fn two_handles(land: bool) {
    let group = group();
    let lead = lead(&group);
    let handle = group.join(&KEY).expect("in flight");
    let clone = wait(handle.clone(), false);
    let other = wait(group.join(&KEY).expect("in flight"), true);
    let answer = if land {
        // The clone counts as the handle that it is of.
        assert_eq!(lead.land(1), 2);
        Ok(1)
    } else {
        drop(lead);
        Err(CallError::Cancelled)
    };
    assert_eq!(clone.join().unwrap(), answer);
    assert_eq!(other.join().unwrap(), answer);
    assert_eq!(block_on(handle), answer);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_two_handles_wait_for_a_lead_that_lands() {
    check(2, || two_handles(true));
}

#[test]
fn g6_two_handles_wait_for_a_lead_that_is_dropped() {
    check(2, || two_handles(false));
}

/// G6, G7: beside one that is able to lead a handle waits for that one's value; it takes none of its
/// wake-ups.
#[test]
fn g7_a_handle_gets_the_value_of_who_takes_over() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let handle = wait(group.join(&KEY).expect("in flight"), true);
        let follower = pending(group.run(&KEY, executions.work()));
        drop(execution);
        drop(lead);
        assert_eq!(block_on(follower), 2);
        assert_eq!(handle.join().unwrap(), Ok(2));
        assert!(group.is_empty(), "G4");
    });
}

/// G6: the last that is able to lead leaves a flight that nobody leads, and a handle waits: it is told.
#[test]
fn g6_the_last_that_could_lead_leaves_a_handle_waiting() {
    check(3, || {
        let group = group();
        let lead = lead(&group);
        let handle = wait(group.join(&KEY).expect("in flight"), false);
        let follower = pending(group.run(&KEY, async { 2 }));
        drop(lead);
        drop(follower);
        assert_eq!(handle.join().unwrap(), Err(CallError::Cancelled));
        assert!(group.is_empty(), "G4");
    });
}

/// The same while the lead is dropped in another thread: whoever is second tells it.
#[test]
fn g6_the_lead_and_the_last_that_could_have_it_go_together() {
    check(3, || {
        let group = group();
        let lead = lead(&group);
        let handle = group.join(&KEY).expect("in flight");
        let follower = pending(group.run(&KEY, async { 2 }));
        let abandoning = thread::spawn(move || drop(lead));
        drop(follower);
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        abandoning.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// The same when the handle comes last, between the two or after them.
#[test]
fn g6_join_races_the_last_that_could_lead() {
    check(6, || {
        let group = group();
        let lead = lead(&group);
        let follower = pending(group.run(&KEY, async { 2 }));
        drop(lead);
        let joined = join(&group, true);
        drop(follower);
        assert!([None, Some(Err(CallError::Cancelled))].contains(&joined.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// A handle goes while its flight ends: it is counted out, or was counted, once.
fn handle_goes(land: bool) {
    let group = group();
    let lead = lead(&group);
    let leaving = group.join(&KEY).expect("in flight");
    let follower = pending(group.run(&KEY, async { 2 }));
    let leaving = thread::spawn(move || drop(leaving));
    if land {
        assert!([1, 2].contains(&lead.land(1)));
        assert_eq!(block_on(follower), 1);
    } else {
        drop(lead);
        assert_eq!(block_on(follower), 2);
    }
    leaving.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g2_a_handle_is_dropped_while_its_flight_lands() {
    check(6, || handle_goes(true));
}

#[test]
fn g7_a_handle_is_dropped_while_its_flight_is_taken_over() {
    check(5, || handle_goes(false));
}

/// What `lead_or_join` came to: an execution of its own, or the answer of another's.
fn lead_or_join(group: &Group, executions: &Executions) -> Answer {
    match group.lead_or_join(&KEY) {
        Entry::Lead(lead) => {
            let value = executions.execute();
            lead.land(value);
            Ok(value)
        }
        Entry::Join(handle) => handle.wait(),
    }
}

fn spawn_lead_or_join(group: &Group, executions: &Executions) -> thread::JoinHandle<Answer> {
    let (group, executions) = (group.clone(), executions.clone());
    thread::spawn(move || lead_or_join(&group, &executions))
}

/// G1, G2, G3: `lead_or_join` races landing: that value, or an execution afterwards.
#[test]
fn g1_g3_lead_or_join_races_landing() {
    check(6, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let other = spawn_lead_or_join(&group, &executions);
        drop(execution);
        let followers = lead.land(1);
        assert_eq!(other.join().unwrap(), Ok(if followers == 1 { 1 } else { 2 }));
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G2: it meets itself.
#[test]
fn g1_g2_lead_or_join_races_itself_and_a_call() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let other = spawn_lead_or_join(&group, &executions);
        let call = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        let mut values = [
            lead_or_join(&group, &executions).unwrap(),
            other.join().unwrap().unwrap(),
            call.join().unwrap(),
        ];
        values.sort_unstable();
        let executed = executions.execute() - 1;
        assert_eq!((values[0], values[2]), (1, executed));
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G6: `lead_or_join` races abandoning: told, or an execution afterwards.
#[test]
fn g1_g6_lead_or_join_races_abandoning() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let other = spawn_lead_or_join(&group, &executions);
        drop(execution);
        drop(lead);
        assert!([Ok(2), Err(CallError::Cancelled)].contains(&other.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G7: a follower is about to take over: `lead_or_join` waits for that one, or comes after it.
#[test]
fn g1_g7_lead_or_join_races_the_takeover() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let follower = pending(group.run(&KEY, executions.work()));
        let other = spawn_lead_or_join(&group, &executions);
        drop(execution);
        drop(lead);
        assert_eq!(block_on(follower), 2);
        let answer = other.join().unwrap();
        assert!([Ok(2), Ok(3)].contains(&answer), "{answer:?}");
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4, G6: `lead_or_join` finds a flight that everybody has just left, with a handle inside.
#[test]
fn g1_g4_lead_or_join_races_the_last_that_could_lead() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let lead = lead(&group);
        let follower = pending(group.run(&KEY, executions.work()));
        let handle = wait(group.join(&KEY).expect("in flight"), true);
        drop(lead);
        let other = spawn_lead_or_join(&group, &executions);
        drop(follower);
        let answer = other.join().unwrap();
        assert!([Ok(1), Err(CallError::Cancelled)].contains(&answer), "{answer:?}");
        // It saw that nobody could lead, or that one did after all.
        assert!([answer, Err(CallError::Cancelled)].contains(&handle.join().unwrap()));
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4: it finds work that was handed over and left, and cannot go on with it.
#[test]
fn g1_lead_or_join_finds_relayed_work() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let mut follower = Box::pin(group.run(&KEY, executions.work()));
        assert!(poll_once(follower.as_mut()).is_pending());
        drop(leader);
        let other = spawn_lead_or_join(&group, &executions);
        drop(follower);
        let answer = other.join().unwrap();
        assert!([Ok(2), Err(CallError::Cancelled)].contains(&answer), "{answer:?}");
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G2, G7: nor does it take that from a follower that can.
#[test]
fn g2_g7_lead_or_join_leaves_relayed_work_to_a_follower() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let follower = pending(group.run(&KEY, executions.work()));
        let other = spawn_lead_or_join(&group, &executions);
        drop(leader);
        assert_eq!(block_on(follower), 1, "the work was begun again");
        let answer = other.join().unwrap();
        assert!([Ok(1), Ok(2)].contains(&answer), "{answer:?}");
        assert!(group.is_empty(), "G4");
    });
}
