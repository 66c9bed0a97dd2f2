//! The moment a flight lands: who joins in time, who leads anew, and what the leader counts.

use loom::{future::block_on, thread};
use shardflight::{OnCancel, Role};

use crate::kit::{Executions, KEY, check, group, poll_once, ready_at_the_second_poll};

/// G3: a caller that has a flight's value never gets it again, however slow its other followers are.
#[test]
fn g3_who_has_the_value_never_joins_that_flight_again() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        let first = block_on(group.run(&KEY, executions.work()));
        let second = block_on(group.run(&KEY, executions.work()));
        assert!(second > first, "a landed flight was joined: {first}, then {second}");
        other.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G3 with a follower that has not looked yet: it keeps the landed flight, the newcomer does not get
/// it.
#[test]
fn g3_a_newcomer_racing_the_landing_joins_in_time_or_leads_anew() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let newcomer = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.call(&KEY).run_blocking(|| executions.execute()).unwrap())
        };
        let led = block_on(group.call(&KEY).run(executions.work())).unwrap();
        let later = group.call(&KEY).run_blocking(|| executions.execute()).unwrap();
        assert_ne!(led.value, later.value);
        let newcomer = newcomer.join().unwrap();
        let leaders = [led, later, newcomer].iter().filter(|o| o.role != Role::Joined).count();
        assert_eq!(leaders as u64, executions.execute() - 1, "G2");
        assert!(group.is_empty(), "G4");
    });
}

/// G6: a follower that is dropped while it is notified neither holds the leader up nor takes
/// another's wake-up along.
#[test]
fn g6_a_follower_dropped_while_it_is_notified() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let leader = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        let follower = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        {
            let mut dropped = Box::pin(group.run(&KEY, executions.work()));
            let _ = poll_once(dropped.as_mut());
        }
        leader.join().unwrap();
        follower.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G2: the number of followers is the one at the instant the slot went: who leaves after that is
/// still counted, and nobody can come after that.
#[test]
fn g2_followers_are_counted_when_the_slot_goes() {
    check(5, || {
        let group = group();
        let leader = {
            let group = group.clone();
            thread::spawn(move || {
                block_on(group.call(&KEY).run(ready_at_the_second_poll(1))).unwrap().role
            })
        };
        let mut follower = Box::pin(group.call(&KEY).on_cancel(OnCancel::Fail).run(async { 2 }));
        let joined = poll_once(follower.as_mut()).is_pending();
        let left_late = joined && !group.is_in_flight(&KEY);
        drop(follower);
        let role = leader.join().unwrap();
        if left_late {
            assert_eq!(role, Role::Led { followers: 1 });
        }
        assert!(group.is_empty(), "G4");
    });
}
