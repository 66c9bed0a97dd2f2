//! What calls take of their callers' memory: the sizes of futures and handles, as the docs state them.
//! What is on the heap beside them is in `allocations`: nothing.

#![cfg(all(not(loom), target_pointer_width = "64"))]

use std::{
    future::{Future, poll_fn},
    hash::RandomState,
    task::Poll,
};

use shardflight::{Call, Group, Handle, Lead};

/// Work of so many bytes.
fn work<const BYTES: usize>() -> impl Future<Output = u64> {
    let held = [0_u8; BYTES];
    poll_fn(move |_| Poll::Ready(held.len() as u64))
}

/// It is a follower's as well: which of the two it becomes is not known when it is made.
#[test]
fn future_of_run_takes_144_bytes_with_small_work_and_the_larger_work_besides() {
    let group: Group<u64, u64> = Group::new();
    assert_eq!(size_of_val(&group.run(&1, work::<8>())), 144);
    assert_eq!(size_of_val(&group.run(&1, work::<64>())), 144 + 64);
    assert_eq!(size_of_val(&group.run(&1, work::<1024>())), 144 + 1024);
}

#[test]
fn future_of_run_holds_the_key_but_no_value() {
    let group: Group<String, u64> = Group::new();
    assert_eq!(size_of_val(&group.run("key", work::<8>())), 144 + 16);
    let group: Group<u64, [u64; 1_000]> = Group::new();
    assert_eq!(size_of_val(&group.run(&1, async { [0; 1_000] })), 144);
}

#[test]
fn future_of_a_call_takes_48_bytes_more_for_its_options() {
    let group: Group<u64, u64> = Group::new();
    assert_eq!(size_of_val(&group.call(&1).run(work::<8>())), 192);
    assert_eq!(size_of_val(&group.call(&1).relay(work::<8>())), 192);
    let (task, _) = group.call(&1).task(work::<8>()).unwrap();
    // That it may be limited in time costs a word.
    assert_eq!(size_of_val(&task), 160);
}

#[test]
fn handles_and_leads_are_a_few_words() {
    assert_eq!(size_of::<Group<u64, u64>>(), 8);
    assert_eq!(size_of::<Handle<u64>>(), 16);
    assert_eq!(size_of::<Lead<u64, u64>>(), 48);
    assert_eq!(size_of::<Call<'_, u64, u64, RandomState, u64>>(), 72);
}
