//! Threads that start together, each on its own core, and tokio runtimes made of such.

use std::{
    hint::{black_box, spin_loop},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use tokio::runtime::{Builder, Runtime};

use crate::{
    pin,
    rounds::{Parts, per_op},
};

/// Wall time per call over all threads; each makes `ops` of them.
pub fn race(threads: usize, ops: u64, op: impl Fn(usize, u64) -> u64 + Sync) -> Parts {
    let ready = AtomicUsize::new(0);
    let runner = |index: usize| {
        pin::to_core(index);
        for i in 0..ops / 16 {
            black_box(op(index, black_box(i)));
        }
        ready.fetch_add(1, Ordering::AcqRel);
        // Spinning, because waking from a barrier takes as long as many a call. But with more
        // threads than cores those that are still to come need the core.
        while ready.load(Ordering::Acquire) < threads {
            if threads > pin::cores() { thread::yield_now() } else { spin_loop() }
        }
        let start = Instant::now();
        for i in 0..ops {
            black_box(op(index, black_box(i)));
        }
        (start, Instant::now())
    };
    let spans: Vec<_> = thread::scope(|scope| {
        let runner = &runner;
        let threads: Vec<_> =
            (0..threads).map(|index| scope.spawn(move || runner(index))).collect();
        threads.into_iter().map(|thread| thread.join().expect("calls do not panic")).collect()
    });
    let start = spans.iter().map(|(start, _)| *start).min();
    let end = spans.iter().map(|(_, end)| *end).max();
    let took = end.expect("threads > 0") - start.expect("threads > 0");
    vec![per_op(took, ops * threads as u64)]
}

/// Two workers, each on its own core.
pub fn runtime() -> Runtime {
    let next = AtomicUsize::new(0);
    Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(move || pin::to_core(next.fetch_add(1, Ordering::Relaxed)))
        .build()
        .expect("two threads can be started")
}
