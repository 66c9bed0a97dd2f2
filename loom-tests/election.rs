//! Callers that arrive together: one leads, all get the value, nothing stays behind.

use loom::{future::block_on, thread};
use shardflight::{Outcome, Role};

use crate::kit::{Executions, Group, KEY, check, group, pending};

#[derive(Clone, Copy)]
enum Kind {
    Async,
    Blocking,
}
use Kind::{Async, Blocking};

fn call(group: &Group, kind: Kind, executions: &Executions) -> Outcome<u64> {
    match kind {
        Async => block_on(group.call(&KEY).run(executions.work())),
        Blocking => group.call(&KEY).run_blocking(|| executions.execute()),
    }
    .expect("nobody is cancelled and nothing panics")
}

/// G1, G2, G4: however they interleave, executions never overlap, every caller gets the value of one
/// that completed, and each leader counts exactly the callers that joined it.
fn arrive_together<const N: usize>(kinds: [Kind; N]) {
    let group = group();
    let executions = Executions::new();
    let mut outcomes = Vec::new();
    let others: Vec<_> = kinds[1..]
        .iter()
        .map(|&kind| {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || call(&group, kind, &executions))
        })
        .collect();
    outcomes.push(call(&group, kinds[0], &executions));
    outcomes.extend(others.into_iter().map(|other| other.join().unwrap()));

    assert!(group.is_empty(), "G4");
    for led in &outcomes {
        if let Role::Led { followers } = led.role {
            let joined = outcomes.iter().filter(|o| o.role == Role::Joined && o.value == led.value);
            assert_eq!(joined.count(), followers, "G2: {outcomes:?}");
        }
    }
    let executed = executions.execute() - 1;
    let led = outcomes.iter().filter(|o| matches!(o.role, Role::Led { .. })).count();
    assert_eq!(led as u64, executed, "G2: one execution for each leader: {outcomes:?}");
    assert!(outcomes.iter().all(|o| (1..=executed).contains(&o.value)), "G2: {outcomes:?}");
}

#[test]
fn g1_g2_g4_two_tasks() {
    check(8, || arrive_together([Async, Async]));
}

#[test]
fn g1_g2_g4_two_threads() {
    check(8, || arrive_together([Blocking, Blocking]));
}

#[test]
fn g1_g2_g4_a_task_and_a_thread() {
    check(8, || arrive_together([Async, Blocking]));
}

#[test]
fn g1_g2_g4_three_tasks() {
    check(2, || arrive_together([Async, Async, Async]));
}

#[test]
fn g1_g2_g4_three_threads() {
    check(2, || arrive_together([Blocking, Blocking, Blocking]));
}

#[test]
fn g1_g2_g4_two_tasks_and_a_thread() {
    check(2, || arrive_together([Async, Blocking, Async]));
}

/// G10: keys have nothing to do with each other, also in one shard.
#[test]
fn g10_another_key_is_led_while_this_one_is_stuck() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let stuck = pending(group.run(&KEY, executions.stuck()));
        let other = {
            let group = group.clone();
            thread::spawn(move || group.run_blocking(&2, || 2))
        };
        assert_eq!(block_on(group.run(&2, async { 2 })), 2);
        assert_eq!(other.join().unwrap(), 2);
        assert_eq!(group.len(), 1);
        drop(stuck);
        assert!(group.is_empty(), "G4");
    });
}
