//! The leader's work panics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use loom::{future::block_on, thread};
use shardflight::{CallError, Role};

use crate::kit::{Executions, Group, KEY, check, group};

/// A panic without the hook, which would print for each of thousands of executions.
fn boom(executions: &Executions) -> u64 {
    executions.execute();
    resume_unwind(Box::new("boom"))
}

/// G8: the leader unwinds with its payload, followers learn its text, and who comes after it runs its
/// own work.
fn leader_panics(followers: &[bool]) {
    let group = group();
    let executions = Executions::new();
    let followers: Vec<_> = followers
        .iter()
        .map(|&blocking| {
            let (group, executions): (Group, _) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY);
                match blocking {
                    true => call.run_blocking(|| executions.execute()),
                    false => block_on(call.run(executions.work())),
                }
            })
        })
        .collect();
    let led =
        catch_unwind(AssertUnwindSafe(|| group.call(&KEY).run_blocking(|| boom(&executions))));
    match led {
        Err(payload) => assert_eq!(*payload.downcast::<&str>().unwrap(), "boom"),
        Ok(outcome) => assert_eq!(outcome.unwrap().role, Role::Joined),
    }
    for follower in followers {
        match follower.join().unwrap() {
            Err(CallError::Panicked(panicked)) => assert_eq!(panicked.message(), "boom"),
            Ok(_) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(group.is_empty(), "G4");
    assert_eq!(group.run_blocking(&KEY, || 7), 7, "G8");
}

#[test]
fn g8_a_task_learns_of_the_leaders_panic() {
    check(8, || leader_panics(&[false]));
}

#[test]
fn g8_a_thread_learns_of_the_leaders_panic() {
    check(8, || leader_panics(&[true]));
}

#[test]
fn g8_two_followers_learn_of_the_leaders_panic() {
    check(2, || leader_panics(&[false, true]));
}
