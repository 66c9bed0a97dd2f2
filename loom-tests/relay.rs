//! Work that outlives its leader: begun once, and dropped only when nobody is left to go on with it,
//! before the key is led again.

use std::time::Duration;

use loom::{future::block_on, sync::mpsc, thread};
use shardflight::CallError;

use crate::kit::{
    Executions, Group, KEY, check, group, group_after, pending, poll_once, spawn_run,
};

/// G1, G6, G7: the leader is dropped while a follower joins, waits or has yet to come. It goes on with
/// the leader's work, or comes after that was dropped.
fn leader_dropped(blocking: bool) {
    let group = group();
    let executions = Executions::new();
    let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
    let follower = spawn_run(&group, &executions, blocking);
    drop(leader);
    let value = follower.join().unwrap();
    assert_eq!(executions.execute(), value + 1, "an execution that nobody has the value of");
    assert!(group.is_empty(), "G4");
}

#[test]
fn g1_g7_a_task_goes_on_with_the_work() {
    check(4, || leader_dropped(false));
}

#[test]
fn g1_g7_a_thread_goes_on_with_the_work() {
    check(4, || leader_dropped(true));
}

/// G2, G7: with one follower certain to be there, whoever takes over, the work is not begun again. Of
/// the first two flights of a group, one lets the first that is woken take over and the other the
/// second.
fn leader_of_two_dropped(skip: u64, blocking: bool) {
    let group = group_after(skip);
    let executions = Executions::new();
    let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
    let waiting = pending(group.run(&KEY, executions.work()));
    let other = spawn_run(&group, &executions, blocking);
    drop(leader);
    assert_eq!(block_on(waiting), 1, "the work was begun again");
    // It may have come after the landing.
    assert!(other.join().unwrap() <= 2);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g2_g7_one_of_two_goes_on_with_the_work() {
    check(3, || leader_of_two_dropped(0, false));
}

#[test]
fn g2_g7_one_of_two_goes_on_with_the_work_in_the_other_order() {
    check(3, || leader_of_two_dropped(1, true));
}

/// G2, G7: handed over twice, the second time by a follower, with a third to whom it comes in the end.
#[test]
fn g2_g7_the_successor_hands_the_work_over_too() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(2)));
        let mut second = pending(group.run(&KEY, executions.work()));
        let last = pending(group.run(&KEY, executions.work()));
        let other = spawn_run(&group, &executions, false);
        drop(leader);
        // It leads now, or another does or has done.
        let _ = poll_once(second.as_mut());
        drop(second);
        assert_eq!(block_on(last), 1, "the work was begun again");
        assert!(other.join().unwrap() <= 2);
        assert!(group.is_empty(), "G4");
    });
}

/// A follower in a thread of its own that is about to leave; afterwards the thread calls anew, if
/// `again`. When this returns it follows for certain, and waits for its turn: neither costs a
/// preemption.
fn leaving(group: &Group, executions: &Executions, again: bool) -> thread::JoinHandle<()> {
    let (group, executions) = (group.clone(), executions.clone());
    let (follows, followed) = mpsc::channel();
    let leaving = thread::spawn(move || {
        let follower = pending(group.run(&KEY, executions.work()));
        follows.send(()).unwrap();
        thread::yield_now();
        drop(follower);
        if again {
            assert!(group.run_blocking(&KEY, || executions.execute()) <= 2);
        }
    });
    followed.recv().unwrap();
    leaving
}

/// G1: everybody leaves while the leader hands over. It drops the work before it passes the lead on,
/// also to one that comes in between.
#[test]
fn g1_the_last_follower_leaves_while_the_leader_hands_over() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let leaving = leaving(&group, &executions, true);
        drop(leader);
        leaving.join().unwrap();
        assert!(group.is_empty(), "G4");
        // Fails if the work is still somewhere.
        executions.execute();
    });
}

/// G1, G4: the last follower leaves a flight that nobody leads, with work in it. Whoever comes
/// meanwhile goes on with that work or comes after its end.
#[test]
fn g1_the_last_follower_leaves_work_behind() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let follower = pending(group.run(&KEY, executions.work()));
        drop(leader);
        let newcomer = spawn_run(&group, &executions, true);
        drop(follower);
        assert!(newcomer.join().unwrap() <= 2);
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// The same while the leader goes, with the newcomer in its thread.
#[test]
fn g1_the_leader_and_the_last_follower_leave_together() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let leaving = leaving(&group, &executions, false);
        drop(leader);
        assert!(group.run_blocking(&KEY, || executions.execute()) <= 2);
        leaving.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G2, G7: a flight is forgotten while its work is handed over: its follower goes on with that.
#[test]
fn g2_g7_forget_races_handing_over() {
    check(7, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let follower = pending(group.run(&KEY, executions.work()));
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || group.forget(&KEY))
        };
        drop(leader);
        assert_eq!(block_on(follower), 1, "the work was begun again");
        forgetter.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G4: forgotten, handed over and left by all: the work is dropped all the same.
#[test]
fn g4_forget_races_handing_over_and_leaving() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(1)));
        let leaving = leaving(&group, &executions, false);
        let forgetter = {
            let group = group.clone();
            thread::spawn(move || group.forget(&KEY))
        };
        drop(leader);
        leaving.join().unwrap();
        forgetter.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G2, G6, G7: a thread or a task that has no time for the work that it takes over passes it on to one that
/// has: the work is not begun again, and nobody waits for it in vain.
fn out_of_time(blocking: bool) {
    let group = group();
    let executions = Executions::new();
    let leader = pending(group.call(&KEY).relay(executions.interrupted(2)));
    let waiting = pending(group.run(&KEY, executions.work()));
    let hurried = {
        let (group, executions) = (group.clone(), executions.clone());
        thread::spawn(move || {
            let call = group.call(&KEY).timeout(Duration::ZERO);
            let answer = match blocking {
                true => call.run_blocking(|| executions.execute()),
                false => block_on(call.run(executions.work())),
            };
            answer.map(|outcome| outcome.value)
        })
    };
    drop(leader);
    assert_eq!(block_on(waiting), 1, "the work was begun again");
    // It has its own time for its own work, if it comes after the landing.
    assert!([Err(CallError::TimedOut), Ok(1), Ok(2)].contains(&hurried.join().unwrap()));
    assert!(group.is_empty(), "G4");
}

#[test]
fn g2_g7_a_thread_without_time_passes_the_work_on() {
    check(3, || out_of_time(true));
}

#[test]
fn g2_g7_a_task_without_time_passes_the_work_on() {
    check(3, || out_of_time(false));
}

/// G1, G4, G6: the same with nobody to pass it on to, and a handle that waits: the work is dropped before
/// the key is led again.
#[test]
fn g1_g6_the_last_that_has_no_time_drops_the_work() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(2)));
        let handle = group.join(&KEY).expect("it is in flight");
        let hurried = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).timeout(Duration::ZERO);
                call.run_blocking(|| executions.execute()).map(|outcome| outcome.value)
            })
        };
        drop(leader);
        let told = handle.wait();
        let answer = hurried.join().unwrap();
        // The work may have ended when the thread polled it, or the thread may have come when that was
        // gone: then it leads the flight with work of its own, or another.
        match answer {
            Ok(1) => assert_eq!(told, Ok(1)),
            Ok(2) => assert!([Ok(2), Err(CallError::Cancelled)].contains(&told)),
            _ => assert_eq!((answer, told), (Err(CallError::TimedOut), Err(CallError::Cancelled))),
        }
        executions.execute();
        assert!(group.is_empty(), "G4");
    });
}
