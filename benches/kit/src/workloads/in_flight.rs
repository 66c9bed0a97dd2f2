//! W8: calls while up to a million keys are in flight.
//!
//! A *wave* begins n calls and then ends them. With the capacity asked for, both contenders keep
//! their tables; without, shardflight gives memory back after each wave and grows again in the next,
//! and the mutex version's map stays as large as it ever was. A *turnover* ends the oldest of n calls
//! in flight and begins one with a new key.

use std::{
    task::{Context, Waker},
    time::Instant,
};

use crate::{
    contenders::AsyncGroup,
    rounds::per_op,
    slots::{Gate, begin, end, slots},
};

/// So that small sizes are timed for long enough, and warm.
fn repetitions(size: usize) -> usize {
    (100_000 / size).max(1)
}

pub fn wave<G: AsyncGroup<u64>>(size: usize, capacity: usize) -> f64 {
    let group = G::with_capacity(capacity);
    let gate = Gate::fresh();
    let keys: Vec<u64> = (0..size as u64).collect();
    let mut calls = slots(size);
    let cx = &mut Context::from_waker(Waker::noop());

    let mut wave = || {
        gate.shut();
        for (call, key) in calls.iter_mut().zip(&keys) {
            begin(call, || group.run(key, gate.passed()), cx);
        }
        gate.open();
        for call in &mut calls {
            end(call, cx);
        }
    };
    // The first one also gets the memory from the system.
    wave();
    let start = Instant::now();
    for _ in 0..repetitions(size) {
        wave();
    }
    per_op(start.elapsed(), (size * repetitions(size)) as u64)
}

pub fn turnover<G: AsyncGroup<u64>>(size: usize) -> f64 {
    let group = G::fresh();
    let gate = Gate::fresh();
    let keys: Vec<u64> = (0..2 * size as u64).collect();
    let (first, second) = keys.split_at(size);
    let mut calls = slots(size);
    let cx = &mut Context::from_waker(Waker::noop());

    for (call, key) in calls.iter_mut().zip(first) {
        begin(call, || group.run(key, gate.passed()), cx);
    }
    // Two sets of keys by turns: what begins is never what has just ended.
    let sets = [second, first];
    let mut turn = |time: usize| {
        for (call, key) in calls.iter_mut().zip(sets[time % 2]) {
            gate.open();
            end(call, cx);
            gate.shut();
            begin(call, || group.run(key, gate.passed()), cx);
        }
    };
    turn(0);
    let start = Instant::now();
    for time in 1..=repetitions(size) {
        turn(time);
    }
    per_op(start.elapsed(), (size * repetitions(size)) as u64)
}
