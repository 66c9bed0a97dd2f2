//! Spawned calls: tasks that may be aborted when nobody wants their value, or run out of time, and the
//! handles to them.

use std::time::Duration;

use loom::{future::block_on, thread};
use shardflight::{CallError, Entry, Handle, OnCancel};

use crate::kit::{Executions, Group, InTurn, KEY, check, group, lead, pending, poll_once};

/// A call that is aborted when it is abandoned: its task runs in a thread of its own.
fn spawn(
    group: &Group,
    work: impl Future<Output = u64> + Send + 'static,
) -> (thread::JoinHandle<()>, Handle<u64>) {
    let (task, handle) = group.call(&KEY).abort_when_abandoned().task(work).unwrap();
    (thread::spawn(move || block_on(task)), handle)
}

/// G4, G6: the last handle goes while the task begins, runs or waits: the work is dropped, or never
/// begun.
#[test]
fn g4_the_last_handle_is_dropped() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let (task, handle) = spawn(&group, executions.stuck());
        drop(handle);
        task.join().unwrap();
        assert!(group.is_empty(), "G4");
        // Fails if the work is still somewhere.
        executions.execute();
    });
}

/// G6: two clones go in two threads: one of them is the last.
#[test]
fn g4_two_clones_of_the_last_handle_are_dropped() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let (task, handle) = spawn(&group, executions.stuck());
        let clone = handle.clone();
        let other = thread::spawn(move || drop(clone));
        drop(handle);
        other.join().unwrap();
        task.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G6: the last handle goes while the task comes with another waker. The task sees that it is gone, or is woken by
/// the new waker.
#[test]
fn g6_a_task_comes_with_another_waker_while_its_last_handle_goes() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let call = group.call(&KEY).abort_when_abandoned();
        let (task, handle) = call.task(executions.stuck()).unwrap();
        let task = pending(task);
        let dropping = thread::spawn(move || drop(handle));
        block_on(task);
        dropping.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// The same, begun, and about to be polled by its executor in this thread. Nobody holds its handle any
/// more, so it dies if it is not joined in time.
fn abandoned(
    group: &Group,
    work: impl Future<Output = u64>,
) -> std::pin::Pin<Box<impl Future<Output = ()>>> {
    let (task, handle) = group.call(&KEY).abort_when_abandoned().task(work).unwrap();
    let task = pending(task);
    drop(handle);
    task
}

/// G1, G7: a newcomer races the abort. It joins in time and gets the value, or waits until the work
/// has been dropped and runs its own. What it asked for on cancellation is no matter: it never shares
/// the fate of a flight that nobody wanted.
fn newcomer_races_the_abort(on_cancel: OnCancel) {
    let group = group();
    let executions = Executions::new();
    let task = abandoned(&group, executions.interrupted(1));
    let newcomer = {
        let (group, executions) = (group.clone(), executions.clone());
        thread::spawn(move || {
            let call = group.call(&KEY).on_cancel(on_cancel);
            block_on(call.run(async {
                assert!(group.join(&KEY).is_some(), "G7: its flight is not dying any more");
                executions.execute()
            }))
        })
    };
    block_on(task);
    let outcome = newcomer.join().unwrap().expect("G7: not told of another's end");
    assert!([1, 2].contains(&outcome.value));
    assert!(group.is_empty(), "G4");
    // Fails if the work is still somewhere.
    executions.execute();
}

#[test]
fn g1_g7_a_newcomer_races_the_abort() {
    check(4, || newcomer_races_the_abort(OnCancel::TakeOver));
}

#[test]
fn g1_g7_a_newcomer_that_would_be_told_races_the_abort() {
    check(3, || newcomer_races_the_abort(OnCancel::Fail));
}

/// G1, G6: a fresh caller waits for the end of the aborted one, and begins.
#[test]
fn g1_g6_a_fresh_caller_races_the_abort() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let task = abandoned(&group, executions.stuck());
        let fresh = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || {
                let call = group.call(&KEY).fresh();
                call.run_blocking(|| executions.execute()).unwrap().value
            })
        };
        block_on(task);
        assert_eq!(fresh.join().unwrap(), 2);
        assert!(group.is_empty(), "G4");
    });
}

/// G7: `join` races the abort: it comes in time and gets the value, or there is no flight to join. It
/// never joins one that is dying.
#[test]
fn g7_join_races_the_abort() {
    check(6, || {
        let group = group();
        let executions = Executions::new();
        let task = abandoned(&group, executions.interrupted(1));
        let joined = {
            let group = group.clone();
            thread::spawn(move || group.join(&KEY).map(Handle::wait))
        };
        block_on(task);
        assert!([None, Some(Ok(1))].contains(&joined.join().unwrap()));
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G7: so does `lead_or_join`, which leads a flight of its own instead. It does not wait for the work
/// that dies: for others that flight is forgotten (the exception of G1).
#[test]
fn g5_g7_lead_or_join_races_the_abort() {
    check(6, || {
        let group = group();
        let executions = Executions::new();
        let task = abandoned(&group, executions.interrupted(1));
        let other = {
            let group = group.clone();
            thread::spawn(move || match group.lead_or_join(&KEY) {
                Entry::Join(handle) => handle.wait(),
                Entry::Lead(lead) => {
                    assert!(group.is_in_flight(&KEY), "G5");
                    lead.land(2);
                    Ok(2)
                }
            })
        };
        block_on(task);
        let answer = other.join().unwrap();
        assert!([Ok(1), Ok(2)].contains(&answer), "{answer:?}");
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G4, G6: the last that wants the value is no handle but a follower, with or without work.
fn follower_leaves_last(workless: bool) {
    let group = group();
    let executions = Executions::new();
    let (task, handle) = spawn(&group, executions.stuck());
    if workless {
        let joined = group.join(&KEY).expect("in flight");
        drop(handle);
        drop(joined);
    } else {
        let follower = pending(group.run(&KEY, executions.work()));
        drop(handle);
        drop(follower);
    }
    task.join().unwrap();
    assert!(group.is_empty(), "G4");
    executions.execute();
}

#[test]
fn g4_the_last_follower_leaves_an_abandoned_task() {
    check(3, || follower_leaves_last(false));
}

#[test]
fn g4_the_last_joined_handle_leaves_an_abandoned_task() {
    check(3, || follower_leaves_last(true));
}

/// G6: as long as somebody follows, the value comes, whatever becomes of the handle.
#[test]
fn g6_a_follower_keeps_an_abandoned_task() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let call = group.call(&KEY).abort_when_abandoned();
        let (task, handle) = call.task(executions.interrupted(1)).unwrap();
        let joined = group.join(&KEY).expect("in flight");
        let dropping = thread::spawn(move || drop(handle));
        block_on(task);
        assert_eq!(joined.wait(), Ok(1));
        dropping.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G4, G7: a task that follows another's flight leaves it when its handle goes.
#[test]
fn g7_a_task_that_follows_is_abandoned() {
    check(7, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let (task, handle) = spawn(&group, executions.work());
        drop(handle);
        // It ends without waiting for the flight.
        task.join().unwrap();
        drop(execution);
        assert_eq!(lead.land(1), 0);
        assert_eq!(executions.execute(), 2, "G2: it never led");
        assert!(group.is_empty(), "G4");
    });
}

/// G7: the work of a task that follows is dropped after all that the owner of its last handle did.
#[test]
fn g7_unused_work_ends_after_what_the_owner_of_the_handle_did() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let place = InTurn::new();
        let (task, handle) = spawn(&group, place.touched_when_dropped());
        place.touch();
        drop(handle);
        task.join().unwrap();
        assert_eq!(lead.land(1), 0);
        assert!(group.is_empty(), "G4");
    });
}

/// G7: so does work that was begun, after what a follower did that came and left while it was abandoned.
#[test]
fn g7_aborted_work_ends_after_what_the_last_follower_did() {
    check(4, || {
        let group = group();
        let place = InTurn::new();
        let task = abandoned(&group, place.touched_when_dropped());
        let leaving = {
            let (group, place) = (group.clone(), place.clone());
            thread::spawn(move || {
                if let Some(handle) = group.join(&KEY) {
                    place.touch();
                    drop(handle);
                }
            })
        };
        block_on(task);
        leaving.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G4: the same while the lead is dropped, and the task is about to take over or has done so.
#[test]
fn g4_a_task_that_takes_over_is_abandoned() {
    check(2, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let (task, handle) = spawn(&group, executions.stuck());
        let abandoning = thread::spawn(move || {
            drop(execution);
            drop(lead);
        });
        drop(handle);
        task.join().unwrap();
        abandoning.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G4, G6: the last that follows it leaves while it takes over and asks to be told of that.
#[test]
fn g4_a_task_takes_over_while_its_last_follower_leaves() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let (lead, execution) = (lead(&group), executions.begin());
        let call = group.call(&KEY).abort_when_abandoned();
        let (task, handle) = call.task(executions.stuck()).unwrap();
        let follower = group.join(&KEY).expect("in flight");
        drop(execution);
        drop(lead);
        let leaving = thread::spawn(move || drop(follower));
        let task = pending(task);
        drop(handle);
        block_on(task);
        leaving.join().unwrap();
        assert!(group.is_empty(), "G4");
        executions.execute();
    });
}

/// G2, G6: a task that followed takes over, and nobody follows it but its own handle, which is not
/// counted: it gets the value all the same.
fn handle_of_who_takes_over(aborts: bool) {
    let group = group();
    let executions = Executions::new();
    let (lead, execution) = (lead(&group), executions.begin());
    let call = group.call(&KEY);
    let call = if aborts { call.abort_when_abandoned() } else { call };
    let (task, handle) = call.task(executions.work()).unwrap();
    let task = thread::spawn(move || block_on(task));
    drop(execution);
    drop(lead);
    assert_eq!(handle.wait(), Ok(2));
    task.join().unwrap();
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_the_handle_of_a_task_that_takes_over() {
    check(3, || handle_of_who_takes_over(false));
}

#[test]
fn g6_the_handle_of_a_task_that_may_be_aborted_and_takes_over() {
    check(3, || handle_of_who_takes_over(true));
}

/// G6: a task that is dropped unpolled, while another wants the value: that one is told at once.
#[test]
fn g6_a_task_is_dropped_while_its_handle_waits() {
    check(4, || {
        let group = group();
        let (task, handle) = group.call(&KEY).task(async { 1 }).unwrap();
        let task = thread::spawn(move || drop(task));
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        task.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G6: a task that follows is dropped while the flight lands: its handle, which nobody else is counted
/// for, gets the value all the same.
#[test]
fn g6_a_task_that_follows_is_dropped_while_the_flight_lands() {
    check(6, || {
        let group = group();
        let lead = lead(&group);
        let (task, handle) = group.call(&KEY).task(async { 2 }).unwrap();
        let task = thread::spawn(move || drop(task));
        assert!(lead.land(1) <= 1);
        assert_eq!(handle.wait(), Ok(1));
        task.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G6: a task that follows runs out of time while its handle begins to wait, which learns why.
fn out_of_time(blocking: bool) {
    let group = group();
    let lead = lead(&group);
    let call = group.call(&KEY).timeout(Duration::ZERO);
    let (task, handle) = call.task(async { 2 }).unwrap();
    let waiting = thread::spawn(move || match blocking {
        true => handle.wait(),
        false => block_on(handle),
    });
    block_on(task);
    assert_eq!(waiting.join().unwrap(), Err(CallError::TimedOut));
    assert_eq!(lead.land(1), 0, "G4: it is gone");
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_a_task_that_runs_out_of_time_tells_its_handle() {
    check(4, || out_of_time(false));
}

#[test]
fn g6_a_task_that_runs_out_of_time_tells_a_thread() {
    check(4, || out_of_time(true));
}

/// G2, G6: the flight lands meanwhile.
#[test]
fn g2_g6_a_task_runs_out_of_time_while_the_flight_lands() {
    check(3, || {
        let group = group();
        let lead = lead(&group);
        let call = group.call(&KEY).timeout(Duration::ZERO);
        let (task, handle) = call.task(async { 2 }).unwrap();
        let landing = thread::spawn(move || lead.land(1));
        block_on(task);
        assert!([Ok(1), Err(CallError::TimedOut)].contains(&block_on(handle)));
        landing.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G1, G6: it has taken work over that it has no time for, and nobody else is there: the handle is told of
/// the time, not of the end of the flight.
#[test]
fn g1_g6_a_task_without_time_for_the_work_tells_its_handle() {
    check(3, || {
        let group = group();
        let executions = Executions::new();
        let leader = pending(group.call(&KEY).relay(executions.interrupted(2)));
        let call = group.call(&KEY).timeout(Duration::ZERO);
        let (task, handle) = call.task(executions.work()).unwrap();
        let task = thread::spawn(move || block_on(task));
        drop(leader);
        let told = handle.wait();
        task.join().unwrap();
        // The task may have had all it needed, or have come when that work was gone, and have led.
        assert!([Ok(1), Ok(2), Err(CallError::TimedOut)].contains(&told), "{told:?}");
        executions.execute();
        assert!(group.is_empty(), "G4");
    });
}

/// A call whose time is limited, and does not come to its end in a model.
fn limited<F: Future<Output = u64>>(
    group: &Group,
    work: F,
) -> (impl Future<Output = ()> + use<F>, Handle<u64>) {
    group.call(&KEY).timeout(Duration::from_secs(1)).task(work).unwrap()
}

/// G6: a task with a limit is dropped, unpolled or while it waits, and its handle begins to wait. The leader
/// never ends: the handle is told.
fn limited_task_is_dropped(polled: bool) {
    let group = group();
    let lead = lead(&group);
    let (task, handle) = limited(&group, async { 2 });
    let mut task = Box::pin(task);
    if polled {
        assert!(poll_once(task.as_mut()).is_pending());
    }
    let task = thread::spawn(move || drop(task));
    assert_eq!(handle.wait(), Err(CallError::Cancelled));
    task.join().unwrap();
    assert_eq!(lead.land(1), 0, "G4: it is gone");
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_a_task_with_a_limit_is_dropped_unpolled() {
    check(4, || limited_task_is_dropped(false));
}

#[test]
fn g6_a_task_with_a_limit_is_dropped_while_it_follows() {
    check(4, || limited_task_is_dropped(true));
}

/// G2, G6: the same while the flight lands.
#[test]
fn g2_g6_a_task_with_a_limit_is_dropped_while_the_flight_lands() {
    check(4, || {
        let group = group();
        let lead = lead(&group);
        let (task, handle) = limited(&group, async { 2 });
        let task = pending(task);
        let dropping = thread::spawn(move || drop(task));
        assert!(lead.land(1) <= 1);
        assert!([Ok(1), Err(CallError::Cancelled)].contains(&handle.wait()));
        dropping.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: it leads, and a follower that is never polled has the lead after it: the handle does not wait for that.
#[test]
fn g6_g7_a_task_with_a_limit_is_dropped_as_a_leader() {
    check(4, || {
        let group = group();
        let executions = Executions::new();
        let (task, handle) = limited(&group, executions.stuck());
        let task = pending(task);
        let follower = pending(group.run(&KEY, executions.work()));
        let dropping = thread::spawn(move || drop(task));
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        dropping.join().unwrap();
        assert_eq!(block_on(follower), 2);
        assert!(group.is_empty(), "G4");
    });
}
