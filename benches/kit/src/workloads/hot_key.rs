//! W6: one hot key with a leader in flight, which threads join and leave in a loop.

use std::{
    future::pending,
    pin::pin,
    task::{Context, Waker},
};

use crate::{contenders::AsyncGroup, rounds::Parts, threads::race};

const KEY: u64 = 7;

/// Polls once, to join, and drops.
#[inline(never)]
fn join_and_leave<G: AsyncGroup<u64>>(group: &G) -> u64 {
    let call = pin!(group.run(&KEY, pending()));
    let polled = call.poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    0
}

pub fn hot<G: AsyncGroup<u64>>(threads: usize, ops: u64) -> Parts {
    let group = G::fresh();
    let mut leader = pin!(group.run(&KEY, pending()));
    let polled = leader.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    race(threads, ops, |_, _| join_and_leave(&group))
}
