//! Wakers that panic, or do more than to schedule: what is the executor's fault stays its own.

#![cfg(not(loom))]

mod common;

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use common::{Polled, limited};
use shardflight::Group;

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("no room in the queue");
    }
}

/// Polls a caller that follows with such a waker, and runs `then` while it waits.
fn with_a_follower_whose_waker_panics(group: &Group<u64, u32>, then: impl FnOnce()) {
    let mut follower = Box::pin(group.run(&1, async { 0 }));
    let waker = Waker::from(Arc::new(Panics));
    assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    then();
}

/// G6, G8: the leader gets its value, and so do those who wait behind the one with the waker.
#[test]
fn g06_waker_that_panics_keeps_nobody_from_the_value() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, async {
            futures_lite::future::yield_now().await;
            7
        }));
        with_a_follower_whose_waker_panics(&group, || {
            let mut behind = Polled::pending(group.run(&1, async { 0 }));
            assert_eq!(leader.poll(), Poll::Ready(7));
            assert_eq!(behind.woken_value(), 7);
        });
        assert!(group.is_empty());
    });
}

/// G6, G7: the lead gets past it.
#[test]
fn g06_waker_that_panics_keeps_nobody_from_taking_over() {
    limited(|| {
        for _ in 0..50 {
            let group: Group<u64, u32> = Group::new();
            let leader = Polled::pending(group.run(&1, std::future::pending()));
            with_a_follower_whose_waker_panics(&group, || {
                let mut behind =
                    [(); 3].map(|()| Some(Polled::pending(group.run(&1, async { 7 }))));
                drop(leader);
                let values: Vec<_> =
                    common::settle(&mut behind).into_iter().map(|(_, value)| value).collect();
                assert_eq!(values, [7, 7, 7]);
            });
        }
    });
}

struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the last of it");
    }
}

/// G4, G8: a follower that goes is gone, whatever becomes of its waker.
#[test]
fn g08_waker_that_panics_when_it_is_dropped_leaves_no_follower_behind() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let mut follower = Box::pin(group.run(&1, async { 0 }));
        let waker = Waker::from(Arc::new(PanicsWhenDropped));
        assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(common::panic_text(move || drop(follower)), "the last of it");
        assert_eq!(group.in_flight()[0].followers, 0);
        drop(leader);
        assert!(group.is_empty());
    });
}

/// A future that has ended does not touch the group any more.
#[test]
fn g04_future_polled_after_its_end_says_so() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut returned = pin!(group.run(&1, async { 7 }));
        let mut panicked = pin!(group.run(&2, async { panic!("the work") }));
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(returned.as_mut().poll(cx), Poll::Ready(7));
        assert_eq!(common::panic_text(|| panicked.as_mut().poll(cx)), "the work");
        for future in [returned.as_mut() as std::pin::Pin<&mut dyn Future<Output = u32>>, panicked]
        {
            let mut future = future;
            let text = common::panic_text(|| future.as_mut().poll(cx));
            assert_eq!(text, "the future of a call was polled after it returned");
        }
        assert!(group.is_empty());
    });
}
