//! Pools whose waiting threads run other jobs, as rayon's do: the ways to call a group that are safe there.

#![cfg(not(loom))]

mod common;

use std::{
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use common::limited;
use rayon::{ThreadPool, ThreadPoolBuilder, prelude::*};
use shardflight::{CallError, Entry, Group, Handle};

const KEYS: u64 = 4;
const ROUNDS: usize = 50;

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).build().expect("threads")
}

/// Work in parts that others steal, and that run other jobs while they wait for each other.
fn in_parts(depth: u32, executions: &AtomicUsize) -> u64 {
    if depth == 0 {
        executions.fetch_add(1, SeqCst);
        return 1;
    }
    let part = || in_parts(depth - 1, executions);
    let (left, right) = rayon::join(part, part);
    left + right
}

const DEPTH: u32 = 5;
const PARTS: usize = 1 << DEPTH;

/// Each key is asked for more often than there are threads, one after the other.
fn asked() -> Vec<u64> {
    (0..16 * KEYS).map(|i| i % KEYS).collect()
}

/// G13: a job that a waiting thread of the pool runs on top of the work is on its stack: it would wait for
/// what lies below it, and is told so.
#[test]
fn g13_job_that_runs_on_top_of_the_work_is_told() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let answer = Arc::new(Mutex::new(None));
        let pool = pool(1);
        pool.install(|| {
            let led = group.run_blocking(&1, || {
                let (group, told) = (group.clone(), Arc::clone(&answer));
                // A job of somebody else's.
                rayon::spawn(move || {
                    let joined = group.call(&1).run_blocking(|| 2).map(|outcome| outcome.value);
                    *told.lock().expect("no panic") = Some(joined);
                });
                while answer.lock().expect("no panic").is_none() {
                    rayon::yield_now();
                }
                1
            });
            assert_eq!(led, 1);
        });
        let answer = answer.lock().expect("no panic").take();
        assert_eq!(answer, Some(Err(CallError::Reentrant)));
        assert!(group.is_empty());
    });
}

/// G6: calls on plain threads, of work that runs in the pool.
#[test]
fn g06_plain_threads_share_work_that_runs_in_a_pool() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (pool, executions) = (pool(3), AtomicUsize::new(0));
        let in_pool = || pool.install(|| in_parts(DEPTH, &executions));
        for _ in 0..ROUNDS {
            let together = Barrier::new(8);
            thread::scope(|scope| {
                for caller in 0..8 {
                    let (group, together) = (&group, &together);
                    scope.spawn(move || {
                        together.wait();
                        let value = group.run_blocking(&(caller % 2), in_pool);
                        assert_eq!(value, PARTS as u64);
                    });
                }
            });
            assert!(group.is_empty());
        }
        assert!(executions.load(SeqCst) <= ROUNDS * 8 * PARTS);
    });
}

/// A job leads, or takes a handle out of the pool.
fn meet(group: &Group<u64, u64>, key: u64, executions: &AtomicUsize) -> Handle<u64> {
    match group.lead_or_join(&key) {
        Entry::Lead(lead) => {
            let handle = lead.handle();
            lead.land(in_parts(DEPTH, executions));
            handle
        }
        Entry::Join(handle) => handle,
    }
}

/// G6: jobs that never wait for a flight, whose handles are waited for outside of the pool.
#[test]
fn g06_jobs_lead_or_take_a_handle_out_of_the_pool() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (pool, executions) = (pool(3), AtomicUsize::new(0));
        for _ in 0..ROUNDS {
            thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        let met: Vec<_> = pool.install(|| {
                            let keys = asked().into_par_iter().with_max_len(1);
                            keys.map(|key| meet(&group, key, &executions)).collect()
                        });
                        assert!(met.into_iter().all(|met| met.wait() == Ok(PARTS as u64)));
                    });
                }
            });
            assert!(group.is_empty());
        }
    });
}

/// G6: jobs that lead, or run their work alone.
#[test]
fn g06_jobs_that_never_follow_never_wait() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (pool, executions) = (pool(3), AtomicUsize::new(0));
        let refused = AtomicUsize::new(0);
        let lead_or_run_alone = |key: u64| {
            let work = || in_parts(DEPTH, &executions);
            match group.call(&key).max_followers(0).run_blocking(work) {
                Ok(outcome) => outcome.value,
                Err(CallError::TooManyFollowers | CallError::Reentrant) => {
                    refused.fetch_add(1, SeqCst);
                    work()
                }
                Err(error) => panic!("a leader gets no other error: {error}"),
            }
        };
        for _ in 0..ROUNDS {
            pool.install(|| {
                let keys = asked().into_par_iter().with_max_len(1);
                keys.for_each(|key| assert_eq!(lead_or_run_alone(key), PARTS as u64));
            });
            assert!(group.is_empty());
        }
        assert!(refused.load(SeqCst) > 0);
        assert_eq!(executions.load(SeqCst), ROUNDS * asked().len() * PARTS);
    });
}
