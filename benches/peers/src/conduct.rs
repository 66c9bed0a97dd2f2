//! What a contender does where they differ, found by asking it.

use std::{
    future::ready,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
};

use kit::{
    contenders::AsyncGroup,
    slots::{Gate, begin, end, slots},
};

const KEY: &u64 = &7;

/// Of followers beside the one that is not polled.
pub(crate) const OTHERS: usize = 8;

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

/// A flight lands, and one of its followers is not polled. How many of the others go without the value, if
/// each is polled whenever it is woken? The most, over all places that the one can have among them.
pub(crate) fn held_up<G: AsyncGroup<u64>>() -> usize {
    (0..=OTHERS).map(held_up_by::<G>).max().expect("there are places")
}

fn held_up_by<G: AsyncGroup<u64>>(not_polled: usize) -> usize {
    let group = G::fresh();
    let gate = Gate::fresh();
    let mut leader = slots(1);
    let cx = &mut Context::from_waker(Waker::noop());
    begin(&mut leader[0], || group.run(KEY, gate.passed()), cx);
    let woken: Vec<Arc<Woken>> = (0..=OTHERS).map(|_| Arc::default()).collect();
    let wakers: Vec<Waker> = woken.iter().map(|woken| Waker::from(Arc::clone(woken))).collect();
    let mut followers = slots(1 + OTHERS);
    for (call, waker) in followers.iter_mut().zip(&wakers) {
        begin(call, || group.run(KEY, gate.passed()), &mut Context::from_waker(waker));
    }
    gate.open();
    end(&mut leader[0], cx);

    let mut waiting = OTHERS;
    let is_next = |at: &usize| *at != not_polled && woken[*at].0.swap(false, Relaxed);
    while let Some(at) = (0..=OTHERS).find(is_next) {
        let Some(follower) = followers[at].as_mut().as_pin_mut() else { continue };
        if follower.poll(&mut Context::from_waker(&wakers[at])).is_ready() {
            followers[at].set(None);
            waiting -= 1;
        }
    }
    waiting
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Relaxed);
    }
}
