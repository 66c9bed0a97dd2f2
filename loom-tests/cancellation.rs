//! Callers that asked to be told when their leader is cancelled.

use loom::{future::block_on, thread};
use shardflight::{CallError, OnCancel, Role};

use crate::kit::{Executions, KEY, check, group, poll_once};

/// G7: told, and never leading a flight it follows; if it came too late to follow, it leads its own.
#[test]
fn g7_on_cancel_fail_is_told() {
    check(8, || {
        let group = group();
        let executions = Executions::new();
        let mut leader = Box::pin(group.run(&KEY, executions.stuck()));
        assert!(poll_once(leader.as_mut()).is_pending());
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

/// G6, G7: one that is told and one that takes over, of the same leader: neither takes the other's
/// wake-up.
#[test]
fn g7_one_is_told_and_the_other_takes_over() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let mut leader = Box::pin(group.run(&KEY, executions.stuck()));
        assert!(poll_once(leader.as_mut()).is_pending());
        let told = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).on_cancel(OnCancel::Fail);
                block_on(call.run(executions.work()))
            })
        };
        let mut successor = Box::pin(group.run(&KEY, executions.work()));
        assert!(poll_once(successor.as_mut()).is_pending());
        drop(leader);
        assert!(block_on(successor) > 1);
        match told.join().unwrap() {
            Err(CallError::Cancelled) | Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(group.is_empty(), "G4");
    });
}
