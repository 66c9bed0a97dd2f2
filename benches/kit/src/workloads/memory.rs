//! What calls take from the heap: allocations and bytes of leaders, shared flights and followers,
//! and bytes per key in flight (W8); and what it takes to make a group.

use std::{
    borrow::Borrow,
    cell::OnceCell,
    future::pending,
    hash::Hash,
    hint::black_box,
    task::{Context, Waker},
};

use crate::{
    contenders::AsyncGroup,
    count_alloc::count,
    rounds::{Parts, timed},
    slots::{Gate, begin, end, slots},
};

/// Of one flight, in a group that has room for it.
pub fn allocations<G, K, Q>(key: &Q, followers: usize) -> f64
where
    G: AsyncGroup<K>,
    K: Borrow<Q>,
    Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
{
    let group = G::fresh();
    let gate = Gate::fresh();
    let mut leader = slots(1);
    let mut follower = slots(followers);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut flight = || {
        gate.shut();
        begin(&mut leader[0], || group.run(key, gate.passed()), cx);
        for call in &mut follower {
            begin(call, || group.run(key, gate.passed()), cx);
        }
        gate.open();
        end(&mut leader[0], cx);
        for call in &mut follower {
            end(call, cx);
        }
    };
    flight();
    count(flight).allocations as f64
}

/// What group, table and flights hold. Not the futures, whose place is the caller's choice.
pub fn bytes_per_key<G: AsyncGroup<u64>>(size: usize, capacity: usize) -> f64 {
    let group = OnceCell::new();
    let gate = Gate::fresh();
    let keys: Vec<u64> = (0..size as u64).collect();
    let mut calls = slots(size);
    let cx = &mut Context::from_waker(Waker::noop());
    let counted = count(|| {
        let group = group.get_or_init(|| G::with_capacity(capacity));
        for (call, key) in calls.iter_mut().zip(&keys) {
            begin(call, || group.run(key, gate.passed()), cx);
        }
    });
    counted.bytes as f64 / size as f64
}

/// Of flights with so many followers each, in a group that was made before, and is empty.
pub fn bytes_in_flight<G: AsyncGroup<u64>>(flights: usize, followers: usize) -> f64 {
    let group = G::fresh();
    let keys: Vec<u64> = (0..flights as u64).collect();
    let mut leaders = slots(flights);
    let mut calls = slots(flights * followers);
    let cx = &mut Context::from_waker(Waker::noop());
    let counted = count(|| {
        for (call, key) in leaders.iter_mut().zip(&keys) {
            begin(call, || group.run(key, pending()), cx);
        }
        for (call, key) in calls.iter_mut().zip(keys.iter().cycle()) {
            begin(call, || group.run(key, pending()), cx);
        }
    });
    counted.bytes as f64
}

/// Makes a group, or a map, and drops it.
pub fn made<T>(ops: u64, make: fn() -> T) -> Parts {
    timed(ops, |_| make_and_drop(make))
}

#[inline(never)]
fn make_and_drop<T>(make: fn() -> T) -> u64 {
    drop(black_box(make()));
    0
}
