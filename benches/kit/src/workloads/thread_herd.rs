//! W5 with OS threads: a thousand that block on one flight, from its landing until all have run.
//!
//! Once where the system puts them, as such herds are found, and once pinned: then a woken thread
//! often takes the core of the one that is waking the others, which costs as on a busy machine.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    contenders::BlockingGroup,
    pin,
    rounds::{Parts, per_op},
};

const KEY: u64 = 7;
/// Time for the last threads to go from "about to call" to sleep. It orders nothing: one that is
/// later still makes a call of its own.
const SETTLE: Duration = Duration::from_millis(30);

pub fn resume<G: BlockingGroup>(pinned: bool, followers: u64) -> Parts {
    if !pinned {
        pin::to_any_core();
    }
    let group = G::fresh();
    let about_to_call = AtomicUsize::new(0);
    let took = thread::scope(|scope| {
        let mut threads = Vec::with_capacity(followers as usize);
        let mut landing = Instant::now();
        group.run_blocking(KEY, || {
            for index in 0..followers as usize {
                let (group, about_to_call) = (&group, &about_to_call);
                let follower = move || {
                    if pinned {
                        pin::to_core(index);
                    }
                    about_to_call.fetch_add(1, Relaxed);
                    group.run_blocking(KEY, || 1);
                    Instant::now()
                };
                let thread =
                    thread::Builder::new().stack_size(64 * 1024).spawn_scoped(scope, follower);
                threads.push(thread.expect("the system allows a thousand threads"));
            }
            while about_to_call.load(Relaxed) < followers as usize {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(SETTLE);
            landing = Instant::now();
            1
        });
        let resumed =
            threads.into_iter().map(|thread| thread.join().expect("calls do not panic")).max();
        resumed.map_or(Duration::ZERO, |last| last - landing)
    });
    pin::to_core(0);
    vec![per_op(took, followers)]
}
