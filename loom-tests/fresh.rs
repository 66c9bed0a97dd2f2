//! Callers that want an execution that begins after their call: one runs, one is pending at most.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use loom::{
    future::block_on,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use crate::kit::{
    Executions, Group, KEY, Lead, check, group, lead, pending, poll_once, ready_at_the_second_poll,
};

/// What the works read and callers write before they ask. Relaxed: only the crate orders it.
#[derive(Clone)]
struct Version(Arc<AtomicU64>);

impl Version {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(0)))
    }

    fn write(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Starts a fresh caller in a thread of its own: a task, or the thread itself.
fn spawn(group: &Group, executions: &Executions, blocking: bool) -> thread::JoinHandle<u64> {
    let (group, executions) = (group.clone(), executions.clone());
    thread::spawn(move || {
        let call = group.call(&KEY).fresh();
        let answer = match blocking {
            true => call.run_blocking(|| executions.execute()),
            false => block_on(call.run(executions.work())),
        };
        answer.expect("nobody is cancelled").value
    })
}

/// G1, G4, G6: one comes while the flight under way lands. It waits for that and is let begin.
fn fresh_races_landing(blocking: bool) {
    let group = group();
    let executions = Executions::new();
    let (lead, execution) = (lead(&group), executions.begin());
    let fresh = spawn(&group, &executions, blocking);
    drop(execution);
    lead.land(1);
    assert_eq!(fresh.join().unwrap(), 2, "no value of its own");
    assert!(group.is_empty(), "G4");
}

#[test]
fn g1_g6_a_fresh_task_races_the_landing() {
    check(5, || fresh_races_landing(false));
}

#[test]
fn g1_g6_a_fresh_thread_races_the_landing() {
    check(5, || fresh_races_landing(true));
}

/// G1, G4: the same with a flight that is in its cell and that nobody but the fresh caller joins.
#[test]
fn g1_g6_a_fresh_task_races_the_landing_of_a_call() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.interrupted(1)));
        let fresh = spawn(&group, &executions, false);
        assert_eq!(block_on(leader), 1);
        assert_eq!(fresh.join().unwrap(), 2);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G2, G6: two that come during one flight share the next one; a third may be too late for that.
#[test]
fn g1_g2_fresh_callers_share_one_pending_flight() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let first = pending(group.call(&KEY).fresh().run(executions.work()));
        let second = pending(group.call(&KEY).fresh().run(executions.work()));
        let third = spawn(&group, &executions, true);
        let landing = thread::spawn(move || {
            drop(execution);
            assert_eq!(lead.land(1), 0, "a fresh caller joined what was under way");
        });
        assert_eq!(block_on(first).unwrap().value, 2);
        assert_eq!(block_on(second).unwrap().value, 2);
        assert!([2, 3].contains(&third.join().unwrap()));
        landing.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// The subject itself: whatever a caller wrote before its call, the execution whose value it gets has
/// seen, also if another began it.
#[test]
fn g2_a_fresh_value_is_no_older_than_the_call() {
    check(3, || {
        let group = group();
        let version = Version::new();
        let lead = lead(&group);
        let first = pending(group.call(&KEY).fresh().run({
            let version = version.clone();
            async move { version.read() }
        }));
        let writer = {
            let (group, version) = (group.clone(), version.clone());
            thread::spawn(move || {
                version.write();
                group.call(&KEY).fresh().run_blocking(|| version.read()).unwrap().value
            })
        };
        lead.land(0);
        assert!(block_on(first).unwrap().value <= 1);
        assert_eq!(writer.join().unwrap(), 1, "older than the call");
        assert!(group.is_empty(), "G4");
    });
}

/// G2: a fresh caller races a follower that takes over. It may lead in its place if nothing has been
/// begun; work that was, and was handed over, is not fresh.
fn fresh_races_the_takeover(relay: bool) {
    let group = group();
    let version = Version::new();
    let read = || {
        let version = version.clone();
        async move {
            let read = version.read();
            ready_at_the_second_poll(read).await
        }
    };
    // One of the two.
    let relayed = relay.then(|| pending(group.call(&KEY).relay(read())));
    let plain = (!relay).then(|| pending(group.run(&KEY, read())));
    let follower = pending(group.run(&KEY, read()));
    drop((relayed, plain));
    let writer = {
        let (group, version) = (group.clone(), version.clone());
        thread::spawn(move || {
            version.write();
            block_on(group.call(&KEY).fresh().run(async move { version.read() })).unwrap().value
        })
    };
    let followed = block_on(follower);
    assert!(followed == 0 || !relay, "the work was begun again");
    assert_eq!(writer.join().unwrap(), 1, "older than the call");
    assert!(group.is_empty(), "G4");
}

#[test]
fn g2_a_fresh_caller_races_the_takeover() {
    check(3, || fresh_races_the_takeover(false));
}

#[test]
fn g2_a_fresh_caller_never_goes_on_with_relayed_work() {
    check(3, || fresh_races_the_takeover(true));
}

/// G4: the pending flight's leader is dropped while the one under way lands.
#[test]
fn g4_the_pending_leader_goes_while_the_flight_lands() {
    check(7, || {
        let group = group();
        let lead = lead(&group);
        let fresh = pending(group.call(&KEY).fresh().run(async { 2 }));
        let landing = thread::spawn(move || lead.land(1));
        drop(fresh);
        assert_eq!(landing.join().unwrap(), 0);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G6, G7: the same with one that follows it: that leads the pending flight, and begins when it
/// may.
#[test]
fn g6_g7_a_pending_flight_is_taken_over_while_the_one_before_lands() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let fresh = pending(group.call(&KEY).fresh().run(executions.work()));
        let second = pending(group.call(&KEY).fresh().run(executions.work()));
        let landing = thread::spawn(move || {
            drop(execution);
            lead.land(1)
        });
        drop(fresh);
        assert_eq!(block_on(second).unwrap().value, 2);
        landing.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G4, G6: the flight under way is abandoned, and its last follower leaves it; who of them ends it
/// lets the pending one begin.
#[test]
fn g1_g6_the_flight_before_a_pending_one_dies() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let follower = pending(group.run(&KEY, executions.work()));
        let fresh = pending(group.call(&KEY).fresh().run(executions.work()));
        let abandoning = thread::spawn(move || {
            drop(execution);
            drop(lead);
        });
        drop(follower);
        assert_eq!(block_on(fresh).unwrap().value, 2);
        abandoning.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G7: abandoned with a follower that takes over: the pending flight waits for that one, too.
#[test]
fn g1_g7_the_flight_before_a_pending_one_is_taken_over() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let follower = pending(group.run(&KEY, executions.interrupted(1)));
        let fresh = spawn(&group, &executions, true);
        drop(execution);
        drop(lead);
        // The fresh caller may have led that flight, which nobody had begun again yet.
        let answers = (block_on(follower), fresh.join().unwrap());
        assert!([(2, 2), (2, 3), (3, 2)].contains(&answers), "{answers:?}");
        assert!(group.is_empty(), "G4");
    });
}

/// G5, G6: the flight under way is forgotten while it lands: the pending one begins, and is no matter
/// of the landing.
#[test]
fn g5_g6_forget_races_landing_before_a_pending_flight() {
    check(7, || {
        let group = group();
        let lead = lead(&group);
        let fresh = pending(group.call(&KEY).fresh().run(async { 2 }));
        let forgetter = {
            let group = group.clone();
            // A second time would forget the pending one, which then goes on all the same.
            thread::spawn(move || group.forget(&KEY))
        };
        lead.land(1);
        assert_eq!(block_on(fresh).unwrap().value, 2);
        forgetter.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G5: forgotten for certain: landing leaves the flight in its place alone, which others have joined.
#[test]
fn g5_landing_leaves_the_promoted_flight_alone() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let fresh = pending(group.call(&KEY).fresh().run(ready_at_the_second_poll(2)));
        assert!(group.forget(&KEY));
        let landing = thread::spawn(move || lead.land(1));
        let follower = pending(group.run(&KEY, async { 3 }));
        assert!(group.is_in_flight(&KEY), "G5");
        assert_eq!(block_on(fresh).unwrap().value, 2);
        assert_eq!(block_on(follower), 2);
        landing.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G3: who is not fresh joins what is under way, never what is pending; when that has begun it is
/// what is under way.
#[test]
fn g1_g3_an_ordinary_newcomer_never_joins_a_pending_flight() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let fresh = pending(group.call(&KEY).fresh().run(executions.work()));
        let follower = pending(group.run(&KEY, executions.work()));
        let newcomer = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || group.run_blocking(&KEY, || executions.execute()))
        };
        let landing = thread::spawn(move || {
            drop(execution);
            lead.land(1)
        });
        assert_eq!(block_on(follower), 1);
        assert_eq!(block_on(fresh).unwrap().value, 2);
        let value = newcomer.join().unwrap();
        let followers = landing.join().unwrap();
        assert_eq!(followers == 2, value == 1);
        assert!(value <= 3);
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G8: a panic of the flight under way ends it, too.
#[test]
fn g6_g8_a_panic_lets_the_pending_flight_begin() {
    check(5, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, {
            let work = executions.interrupted(1);
            async move {
                work.await;
                panic!("no value")
            }
        }));
        let fresh = spawn(&group, &executions, false);
        assert!(catch_unwind(AssertUnwindSafe(|| block_on(leader))).is_err());
        assert_eq!(fresh.join().unwrap(), 2);
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G6, G7: the flight before a pending one is ended by another thread. A caller that is not fresh finds
/// the first, and has its value; or it finds the second, takes it over, and has nothing to wait for, whether
/// the leader of that has been called yet or not.
fn newcomer_takes_over_what_was_pending(end: impl FnOnce(&Group, Lead) + Send + 'static) {
    let group = group();
    let lead = lead(&group);
    let fresh = pending(group.call(&KEY).fresh().run(async { 2 }));
    let ending = {
        let group = group.clone();
        thread::spawn(move || end(&group, lead))
    };
    let mut newcomer = Box::pin(group.run(&KEY, async { 3 }));
    let first = poll_once(newcomer.as_mut());
    drop(fresh);
    match first {
        // Landed since it joined.
        Poll::Ready(value) => assert_eq!(value, 1),
        Poll::Pending => match poll_once(newcomer.as_mut()) {
            Poll::Ready(value) => assert!([1, 3].contains(&value)),
            Poll::Pending => assert_eq!(block_on(newcomer), 1, "it waited to begin"),
        },
    }
    ending.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_g7_landing_lets_begin_what_a_newcomer_takes_over() {
    check(4, || newcomer_takes_over_what_was_pending(|_, lead| _ = lead.land(1)));
}

#[test]
fn g6_g7_forget_lets_begin_what_a_newcomer_takes_over() {
    check(4, || {
        newcomer_takes_over_what_was_pending(|group, lead| {
            group.forget(&KEY);
            lead.land(1);
        });
    });
}

#[test]
fn g6_g7_forget_all_lets_begin_what_a_newcomer_takes_over() {
    check(4, || {
        newcomer_takes_over_what_was_pending(|group, lead| {
            group.forget_all();
            lead.land(1);
        });
    });
}
