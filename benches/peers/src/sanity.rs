//! Nobody wins by being wrong: callers that overlap share one execution and its value, and nothing
//! is kept for those that come later.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed},
        },
    },
    task::{Context, Poll, Waker},
    thread,
};

use futures_util::FutureExt;
use kit::{
    contenders::{AsyncGroup, BlockingGroup},
    slots::{Gate, begin, end, slots},
};

use crate::{
    conduct::{OTHERS, held_up},
    contenders::{PRESENTED, async_groups, blocking_groups},
};

const CALLERS: usize = 50;

/// Work that counts, and lands what it counted to.
fn counted(
    executions: &Arc<AtomicU64>,
    gate: &'static Gate,
) -> impl Future<Output = u64> + Send + use<> {
    let executions = Arc::clone(executions);
    async move {
        let execution = executions.fetch_add(1, Relaxed) + 1;
        gate.passed().await;
        execution
    }
}

fn tasks_share<G: AsyncGroup<String>>(name: &str) {
    let cx = &mut Context::from_waker(Waker::noop());
    let executions = Arc::default();
    let group = G::fresh();
    for herd in 1..=3 {
        let gate = Gate::fresh();
        let mut calls = slots(CALLERS);
        for call in &mut calls {
            begin(call, || group.run("key", counted(&executions, gate)), cx);
        }
        gate.open();
        for call in &mut calls {
            assert_eq!(end(call, cx), herd, "{name}");
        }
        assert_eq!(executions.load(Relaxed), herd, "{name}");
    }
}

#[test]
fn the_page_presents_everybody() {
    let tasks = async_groups!(u64, u64, |G, name| (size_of::<G>(), name));
    let threads = blocking_groups!(|G, name| (size_of::<G>(), name));
    for (_, name) in tasks.into_iter().chain(threads) {
        assert!(PRESENTED.iter().any(|presented| presented.name == name), "{name}");
    }
}

#[test]
fn overlapping_tasks_share_one_execution_and_later_ones_do_not() {
    async_groups!(String, u64, |G, name| tasks_share::<G>(name));
}

fn unshared_calls_run<G: AsyncGroup<u64>>(name: &str) {
    let cx = &mut Context::from_waker(Waker::noop());
    let executions = Arc::default();
    let gate = Gate::fresh();
    gate.open();
    let group = G::fresh();
    for call in 1..=1_000 {
        let mut future = Box::pin(group.run(&7, counted(&executions, gate)));
        assert_eq!(future.as_mut().poll(cx), Poll::Ready(call), "{name}");
    }
}

#[test]
fn calls_that_follow_each_other_run_each() {
    async_groups!(u64, u64, |G, name| unshared_calls_run::<G>(name));
}

/// A claim of ours about others, and of the page.
#[test]
fn a_follower_that_is_not_polled_holds_up_nobody_here() {
    let held_up = async_groups!(u64, u64, |G, name| (name, held_up::<G>()));
    for (name, held_up) in held_up {
        let expected = match name {
            "singleflight-async" | "asyncband" | "moka + invalidate" => OTHERS,
            _ => 0,
        };
        assert_eq!(held_up, expected, "{name}");
    }
}

async fn on_two_workers<G: AsyncGroup<u64>>(name: &str) {
    let executions = Arc::default();
    let gate = Gate::fresh();
    let group = Arc::new(G::fresh());
    let mut leader = Box::pin(group.run(&7, counted(&executions, gate)));
    assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let joined = Arc::new(AtomicU64::new(0));
    let follow = |_| {
        let (group, joined) = (Arc::clone(&group), Arc::clone(&joined));
        let work = counted(&executions, gate);
        tokio::spawn(async move {
            let mut call = Box::pin(group.run(&7, work));
            let mut has_joined = false;
            std::future::poll_fn(|cx| {
                let polled = call.as_mut().poll(cx);
                if !std::mem::replace(&mut has_joined, true) {
                    assert!(polled.is_pending());
                    joined.fetch_add(1, Relaxed);
                }
                polled
            })
            .await
        })
    };
    let followers: Vec<_> = (0..CALLERS).map(follow).collect();
    while joined.load(Relaxed) < CALLERS as u64 {
        tokio::task::yield_now().await;
    }
    gate.open();
    assert_eq!(leader.await, 1, "{name}");
    for follower in followers {
        assert_eq!(follower.await.unwrap(), 1, "{name}");
    }
    assert_eq!(executions.load(Relaxed), 1, "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_of_a_runtime_are_woken() {
    for herd in async_groups!(u64, u64, |G, name| on_two_workers::<G>(name).boxed()) {
        herd.await;
    }
}

/// Threads cannot be seen to wait, so who comes too late runs its own work, and that is tried until
/// somebody came in time.
fn threads_share<G: BlockingGroup>(name: &str) {
    const THREADS: usize = 4;
    const HERDS: usize = 1_000;

    let group = G::fresh();
    let (begun, ended, running) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let call = |wait: &(dyn Fn() + Sync)| {
        let before = ended.load(Acquire);
        let value = group.run_blocking(7, || {
            assert_eq!(running.fetch_add(1, AcqRel), 0, "{name}: one at a time");
            let execution = begun.fetch_add(1, AcqRel) + 1;
            wait();
            running.fetch_sub(1, AcqRel);
            ended.fetch_add(1, AcqRel);
            execution
        });
        assert!(value >= before, "{name}: {value} is of before the call");
    };
    let shares = |_| {
        let before = begun.load(Acquire);
        let in_flight = Barrier::new(THREADS);
        thread::scope(|scope| {
            scope.spawn(|| {
                call(&|| {
                    in_flight.wait();
                    thread::yield_now();
                });
            });
            for _ in 1..THREADS {
                scope.spawn(|| {
                    in_flight.wait();
                    call(&|| ());
                });
            }
        });
        begun.load(Acquire) - before < THREADS as u64
    };
    assert!((0..HERDS).any(shares), "{name}");

    let before = begun.load(Acquire);
    for _ in 0..100 {
        call(&|| ());
    }
    assert_eq!(begun.load(Acquire) - before, 100, "{name}");
}

#[test]
fn overlapping_threads_share_one_execution_and_later_ones_do_not() {
    blocking_groups!(|G, name| threads_share::<G>(name));
}
