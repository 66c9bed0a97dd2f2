//! The leader is cancelled and somebody takes over: exactly one, and never two executions at once.

use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use crate::kit::{Executions, KEY, check, group, group_after, pending, poll_once, spawn_run};

/// G1, G6, G7: the leader is dropped while a follower joins, waits or has yet to come.
fn leader_dropped(blocking: bool) {
    let group = group();
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let follower = spawn_run(&group, &executions, blocking);
    drop(leader);
    // 1 is the drop of the cancelled work.
    assert!(follower.join().unwrap() > 1);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g7_a_task_takes_over() {
    check(8, || leader_dropped(false));
}

#[test]
fn g7_a_thread_takes_over() {
    check(8, || leader_dropped(true));
}

/// G1, G6, G7: with two followers, one certain to be there before the leader goes. Of the first two
/// flights of a group, one lets the first that is woken take over and the other the second.
fn leader_of_two_dropped(skip: u64, blocking: bool) {
    let group = group_after(skip);
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let waiting = pending(group.run(&KEY, executions.work()));
    let other = spawn_run(&group, &executions, blocking);
    drop(leader);
    assert!(block_on(waiting) > 1);
    assert!(other.join().unwrap() > 1);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g7_one_of_two_tasks_takes_over() {
    check(4, || leader_of_two_dropped(0, false));
}

#[test]
fn g7_one_of_two_tasks_takes_over_in_the_other_order() {
    check(4, || leader_of_two_dropped(1, false));
}

#[test]
fn g7_a_task_or_a_thread_takes_over() {
    check(4, || leader_of_two_dropped(0, true));
}

#[test]
fn g7_a_task_or_a_thread_takes_over_in_the_other_order() {
    check(4, || leader_of_two_dropped(1, true));
}

/// G6, G7: the follower chosen to take over is dropped itself; the other is chosen. Both are certain
/// to follow before the leader goes, in both orders.
fn successor_dropped(skip: u64) {
    let group = group_after(skip);
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let chosen = pending(group.run(&KEY, executions.work()));
    let other = spawn_run(&group, &executions, false);
    drop(leader);
    drop(chosen);
    assert!(other.join().unwrap() > 1);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_the_chosen_successor_is_dropped() {
    check(4, || successor_dropped(0));
}

#[test]
fn g6_the_chosen_successor_is_dropped_in_the_other_order() {
    check(4, || successor_dropped(1));
}

/// G6: the same while the leader goes at the same time.
#[test]
fn g6_leader_and_successor_are_dropped_at_once() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let other = spawn_run(&group, &executions, false);
        let dropped = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let mut dropped = Box::pin(group.run(&KEY, executions.work()));
                let _ = poll_once(dropped.as_mut());
            })
        };
        drop(leader);
        assert!(other.join().unwrap() > 1);
        dropped.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1: a newcomer leads, executes and goes between a follower's look at the state and its change of it. The
/// state is as it was then, and the follower takes over all the same. It sees that execution, too.
#[test]
fn g1_a_follower_that_takes_over_sees_an_execution_since_it_looked() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = pending(group.run(&KEY, executions.work()));
        drop(leader);
        let in_between = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let mut newcomer = Box::pin(group.run(&KEY, executions.stuck()));
                // Ready if it has followed the follower.
                let _ = poll_once(newcomer.as_mut());
            })
        };
        assert!(block_on(follower) > 1);
        in_between.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G7: a newcomer arrives while a follower is about to take over. One of them leads.
#[test]
fn g7_a_newcomer_races_the_takeover() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = spawn_run(&group, &executions, false);
        drop(leader);
        let newcomer = group.run_blocking(&KEY, || executions.execute());
        let follower = follower.join().unwrap();
        let executed = executions.execute() - 1;
        assert!(newcomer > 1 && follower > 1);
        assert!(executed == newcomer.max(follower), "G2");
        assert!(group.is_empty(), "G4");
    });
}

/// G4: the last follower leaves while the leader goes; whoever is second removes the slot, and a
/// newcomer that finds it before that leads it out.
#[test]
fn g4_the_last_follower_leaves_while_the_leader_goes() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let mut follower = Box::pin(group.run(&KEY, executions.work()));
                let _ = poll_once(follower.as_mut());
            })
        };
        drop(leader);
        follower.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

#[test]
fn g4_a_newcomer_finds_the_flight_that_everybody_left() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = pending(group.run(&KEY, executions.work()));
        let newcomer = spawn_run(&group, &executions, true);
        drop(leader);
        drop(follower);
        assert!(newcomer.join().unwrap() > 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G1: the newcomer of the last model, looked at from its side: as long as it waits or leads, the key
/// is in flight, so nobody else can open a second flight. `follower_first` says who goes first.
fn newcomer_is_in_flight(follower_first: bool) {
    let group = group();
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let follower = pending(group.run(&KEY, executions.work()));
    let (waiting, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let newcomer = {
        let (group, waiting, seen) = (group.clone(), waiting.clone(), seen.clone());
        thread::spawn(move || {
            let newcomer = pending(group.run(&KEY, std::future::pending()));
            waiting.store(true, Ordering::Release);
            while !seen.load(Ordering::Acquire) {
                thread::yield_now();
            }
            drop(newcomer);
        })
    };
    if follower_first {
        drop(follower);
        drop(leader);
    } else {
        drop(leader);
        drop(follower);
    }
    while !waiting.load(Ordering::Acquire) {
        thread::yield_now();
    }
    assert!(group.is_in_flight(&KEY), "G1: a second flight could be opened");
    seen.store(true, Ordering::Release);
    newcomer.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g1_who_leads_a_dead_flight_out_keeps_the_key() {
    check(3, || newcomer_is_in_flight(false));
}

#[test]
fn g1_who_comes_while_the_last_goes_keeps_the_key() {
    check(3, || newcomer_is_in_flight(true));
}

/// G6, G7: the lead is given up twice. The second time the flight's followers are those that the
/// first time left over, one of them between a wake-up and its next look.
#[test]
fn g7_the_successor_is_cancelled_too() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let mut second = pending(group.run(&KEY, executions.stuck()));
        let other = spawn_run(&group, &executions, false);
        drop(leader);
        // It leads now, or the other does or has done.
        let _ = poll_once(second.as_mut());
        drop(second);
        assert!(other.join().unwrap() > 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G6: up to two of three followers decline, and one of those that were woken is not polled until
/// the others have their answer: it delays nobody.
fn one_of_three_is_not_polled(skip: u64) {
    let group = group_after(skip);
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let idle = pending(group.run(&KEY, executions.work()));
    let waiting = pending(group.run(&KEY, executions.work()));
    let other = spawn_run(&group, &executions, false);
    drop(leader);
    assert!(block_on(waiting) > 1);
    assert!(other.join().unwrap() > 1);
    drop(idle);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_one_of_three_is_not_polled_when_one_declines() {
    check(3, || one_of_three_is_not_polled(0));
}

#[test]
fn g6_one_of_three_is_not_polled_when_two_decline() {
    check(3, || one_of_three_is_not_polled(2));
}
