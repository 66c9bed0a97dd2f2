//! Where followers with work wait: a list that runs through their own futures, and a count of threads.
//!
//! Called in batches of one here, so that two who wait are two batches.

use loom::{cell::UnsafeCell, future::block_on, thread};
use shardflight::{Entry, Group, OnCancel};

use crate::kit::{
    Crossing, Executions, Hasher, KEY, Lead, check, group, group_after, lead, pending,
    ready_at_the_second_poll, spawn_run,
};

fn land(lead: Lead) -> thread::JoinHandle<usize> {
    thread::spawn(move || lead.land(7))
}

/// G6: a follower that comes with another waker while it is called is called by one of the two, and
/// knows that it was.
#[test]
fn g6_a_new_waker_while_the_flight_lands() {
    check(8, || {
        let group = group();
        let lead = lead(&group);
        let follower = pending(group.run(&KEY, async { 0 }));
        let landing = land(lead);
        assert_eq!(block_on(follower), 7);
        assert_eq!(landing.join().unwrap(), 1);
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: the same of one that is to take over.
#[test]
fn g6_a_new_waker_while_the_leader_goes() {
    check(8, || {
        let group = group();
        let lead = lead(&group);
        let follower = pending(group.run(&KEY, ready_at_the_second_poll(8)));
        let leaving = thread::spawn(move || drop(lead));
        assert_eq!(block_on(follower), 8);
        leaving.join().unwrap();
        assert!(group.is_empty(), "G4");
    });
}

/// G6: followers leave the list at its beginning, in the middle or at its end, each at the very moment
/// when it is called; the others are called all the same.
fn one_of_three_leaves(i: usize) {
    let group = group();
    let lead = lead(&group);
    let mut followers: Vec<_> = (0..3).map(|_| pending(group.run(&KEY, async { 0 }))).collect();
    let landing = land(lead);
    drop(followers.remove(i));
    let last = followers.pop().unwrap();
    assert_eq!(block_on(last), 7);
    assert_eq!(block_on(followers.pop().unwrap()), 7);
    assert!(landing.join().unwrap() >= 2);
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_the_first_of_three_leaves_while_they_are_called() {
    check(4, || one_of_three_leaves(0));
}

#[test]
fn g6_the_second_of_three_leaves_while_they_are_called() {
    check(4, || one_of_three_leaves(1));
}

#[test]
fn g6_the_last_of_three_leaves_while_they_are_called() {
    check(4, || one_of_three_leaves(2));
}

/// G6, G7: all are called because of one that is to be told. Another comes back to the end of the list
/// meanwhile, and neither takes what is meant for the third nor keeps the caller for ever.
#[test]
fn g6_one_comes_back_while_others_are_called() {
    check(2, || {
        let group = group();
        let lead = lead(&group);
        let first = {
            let group = group.clone();
            pending(async move { group.run(&KEY, ready_at_the_second_poll(8)).await })
        };
        let told = pending(group.call(&KEY).on_cancel(OnCancel::Fail).run(async { 0 }));
        let second = pending(group.run(&KEY, ready_at_the_second_poll(8)));
        let other = thread::spawn(move || block_on(first));
        drop(lead);
        assert_eq!(block_on(second), 8);
        // The flight may have landed by now.
        let _ = block_on(told);
        assert_eq!(other.join().unwrap(), 8);
        assert!(group.is_empty(), "G4");
    });
}

/// G6, G7: of two threads one is called, or both, and either may take the call. Of the first two flights
/// of a group, the second has one called.
fn two_threads(skip: u64) {
    let group = group_after(skip);
    let executions = Executions::new();
    let leader = pending(group.run(&KEY, executions.stuck()));
    let threads = [(); 2].map(|()| spawn_run(&group, &executions, true));
    drop(leader);
    for thread in threads {
        assert!(thread.join().unwrap() > 1);
    }
    assert!(group.is_empty(), "G4");
}

#[test]
fn g6_two_threads_and_one_call() {
    check(2, || two_threads(1));
}

#[test]
fn g6_two_threads_and_two_calls() {
    check(2, || two_threads(0));
}

/// G6, G7: a thread takes the call, whoever was there first, and the task gets the value.
#[test]
fn g7_a_thread_is_called_before_a_task() {
    check(3, || {
        let group = group();
        let lead = lead(&group);
        let task = pending(group.run(&KEY, ready_at_the_second_poll(8)));
        let thread = {
            let group = group.clone();
            thread::spawn(move || group.run_blocking(&KEY, || 9))
        };
        drop(lead);
        let value = block_on(task);
        let of_thread = thread.join().unwrap();
        // Otherwise the thread came when it was over.
        assert!(value == of_thread || (value, of_thread) == (8, 9), "G2: {value} and {of_thread}");
        assert!(group.is_empty(), "G4");
    });
}

/// A value that notices if it is cloned while somebody has it already.
struct Value {
    it: UnsafeCell<u64>,
    crossing: Crossing,
}

// SAFETY: loom checks each access; that is what it is here for.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Send for Value {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Sync for Value {}

impl Value {
    fn new(it: u64) -> Self {
        Self { it: UnsafeCell::new(it), crossing: Crossing::new() }
    }

    /// Its only owner's.
    #[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
    fn add_one(&self) -> u64 {
        self.it.with_mut(|it| {
            // SAFETY: loom checks that nobody else is in here.
            unsafe {
                *it += 1;
                *it
            }
        })
    }
}

impl Clone for Value {
    #[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
    fn clone(&self) -> Self {
        self.it.with(|it| {
            self.crossing.cross();
            // SAFETY: loom checks that nobody changes it meanwhile.
            Self::new(unsafe { *it })
        })
    }
}

/// The last to take the value gets the original, after all others have made their copies.
#[test]
fn g2_the_last_to_take_gets_the_original() {
    check(5, || {
        let group = Group::<u64, Value>::builder().hasher(Hasher::default()).shards(2).build();
        let Entry::Lead(lead) = group.lead_or_join(&KEY) else { unreachable!("the key is free") };
        let take = |group: &Group<u64, Value, Hasher>| {
            block_on(group.call(&KEY).run(async { Value::new(6) })).unwrap().value.add_one()
        };
        let second = pending(group.call(&KEY).run(std::future::pending()));
        let other = {
            let group = group.clone();
            thread::spawn(move || take(&group))
        };
        let followers = lead.land(Value::new(7));
        assert_eq!(block_on(second).unwrap().value.add_one(), 8);
        // It came in time to follow, or it has led since.
        assert_eq!(other.join().unwrap(), if followers == 2 { 8 } else { 7 });
        assert!(group.is_empty(), "G4");
    });
}
