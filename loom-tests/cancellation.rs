//! Callers that asked to be told when their leader is cancelled.

use loom::{future::block_on, thread};
use shardflight::{CallError, OnCancel, Role};

use crate::kit::{Executions, InTurn, KEY, check, group, pending};

/// G7: told, and never leading a flight it follows; if it came too late to follow, it leads its own.
#[test]
fn g7_on_cancel_fail_is_told() {
    check(6, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let told = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).on_cancel(OnCancel::Fail);
                call.run_blocking(|| executions.execute())
            })
        };
        drop(leader);
        match told.join().unwrap() {
            Err(CallError::Cancelled) => {}
            Ok(outcome) => assert_eq!(outcome.role, Role::Led { followers: 0 }),
            Err(error) => panic!("{error}"),
        }
        assert!(group.is_empty(), "G4");
    });
}

/// G7: who is told sees what the cancelled work did, wherever its first look falls into the abandonment.
#[test]
fn g7_who_is_told_sees_what_the_cancelled_work_did() {
    check(3, || {
        let group = group();
        let place = InTurn::new();
        let leader = pending(group.run(&KEY, place.touched_when_dropped()));
        let told = {
            let (group, place) = (group.clone(), place.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).on_cancel(OnCancel::Fail);
                let answer = block_on(call.run(async { 1 }));
                // If it led, it came after the leader.
                place.touch();
                answer
            })
        };
        drop(leader);
        match told.join().unwrap() {
            Err(CallError::Cancelled) => {}
            Ok(outcome) => assert_eq!(outcome.role, Role::Led { followers: 0 }),
            Err(error) => panic!("{error}"),
        }
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: one that is told and one that takes over, of the same leader: neither takes the other's
/// wake-up.
#[test]
fn g7_one_is_told_and_the_other_takes_over() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let told = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).on_cancel(OnCancel::Fail);
                block_on(call.run(executions.work()))
            })
        };
        let successor = pending(group.run(&KEY, executions.work()));
        drop(leader);
        assert!(block_on(successor) > 1);
        match told.join().unwrap() {
            Err(CallError::Cancelled) | Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(group.is_empty(), "G4");
    });
}

/// G6: between the cancelled leader and the one that takes over there are one that is told and one
/// that leaves: neither keeps the wake-up that the third needs.
#[test]
fn g6_one_is_told_one_leaves_and_one_takes_over() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let told = pending(group.call(&KEY).on_cancel(OnCancel::Fail).run(executions.work()));
        let leaving = pending(group.run(&KEY, executions.work()));
        let successor = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        drop(leader);
        drop(leaving);
        assert!(matches!(block_on(told), Err(CallError::Cancelled) | Ok(_)));
        assert!(successor.join().unwrap() > 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G6: who declines the lead wakes one more, and that may be one that cannot use it. It passes the
/// wake-up on, so nobody depends on a follower that is not polled.
#[test]
fn g6_a_wake_up_that_reaches_one_that_is_told_is_passed_on() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let idle = pending(group.run(&KEY, executions.work()));
        let successor = pending(group.run(&KEY, executions.work()));
        let told = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).on_cancel(OnCancel::Fail);
                call.run_blocking(|| executions.execute())
            })
        };
        drop(leader);
        assert!(block_on(successor) > 1);
        assert!(matches!(told.join().unwrap(), Err(CallError::Cancelled) | Ok(_)));
        drop(idle);
        assert!(group.is_empty(), "G4");
    });
}
