//! What a contender does where they differ, found by asking it.

use std::{
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use kit::{
    contenders::AsyncGroup,
    slots::{Gate, begin, end, slots},
};

const KEY: &u64 = &7;

/// Who calls when a flight has landed, while one of its followers has yet to go on: does it get the
/// value that has landed?
pub(crate) fn serves_landed<G: AsyncGroup<u64>>() -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    let group = G::fresh();
    let gate = Gate::fresh();
    let mut calls = slots(2);
    for call in &mut calls {
        begin(call, || group.run(KEY, gate.passed()), cx);
    }
    gate.open();
    end(&mut calls[0], cx);

    let has_run = Arc::new(AtomicBool::new(false));
    let runs = Arc::clone(&has_run);
    let late = group.run(KEY, async move {
        runs.store(true, Relaxed);
        2
    });
    let late = pin!(late).poll(cx);
    late.is_ready() && !has_run.load(Relaxed)
}

/// When a leader is dropped: does a follower, polled again, run its own work and get its value?
pub(crate) fn takes_over<G: AsyncGroup<u64>>() -> bool {
    let cx = &mut Context::from_waker(Waker::noop());
    let group = G::fresh();
    let gate = Gate::fresh();
    let mut leader = slots(1);
    begin(&mut leader[0], || group.run(KEY, gate.passed()), cx);
    let mut follower = pin!(group.run(KEY, ready(2)));
    assert!(follower.as_mut().poll(cx).is_pending());
    leader[0].set(None);
    follower.poll(cx) == Poll::Ready(2)
}
