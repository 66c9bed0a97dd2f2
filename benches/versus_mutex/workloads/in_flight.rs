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

use shardflight::Group;

use crate::{
    contenders::{AsyncGroup, BareCells, MutexGroup},
    harness::{
        sample::{Contender, Parts, Session, Workload, per_op},
        slots::{Gate, begin, end, slots},
        table::{Figure, Spread},
    },
};

/// Keys in flight. The short form leaves the last out.
const SIZES: [usize; 3] = [1_000, 100_000, 1_000_000];
const PARTS: [&str; 3] = ["1e3", "1e5", "1e6"];

pub(crate) fn measure(session: &mut Session) {
    let rounds = session.options.rounds();
    let sizes = if session.options.short { 2 } else { 3 };
    let workload = |name, own: fn(u64) -> Parts, mutex: fn(u64) -> Parts| Workload {
        name,
        parts: &PARTS[..sizes],
        ops: SIZES[sizes - 1] as u64,
        contenders: vec![Contender::new("shardflight", own), Contender::new("mutex", mutex)],
    };

    let mut warm = workload(
        "W8 wave of keys",
        |up_to| sample(up_to, |size| wave::<Group<u64, u64>>(size, size)),
        |up_to| sample(up_to, |size| wave::<MutexGroup<u64, u64>>(size, size)),
    );
    warm.contenders.push(Contender::new("floor: two compare-exchange", |up_to| {
        sample(up_to, |size| wave::<BareCells>(size, size))
    }));
    if !session.options.short {
        // The goal is about a million keys.
        warm.contenders[1].goal = Some(0.45);
    }
    if let Some(measured) = session.compare_rounds(&warm, rounds) {
        let growth = |contender: usize| {
            let rounds = measured.of[contender].iter();
            Spread::over(rounds.map(|parts| parts[sizes - 1] / parts[0])).median
        };
        session.table.add_figure(Figure {
            what: ["", "W8 wave, time 1e5 / 1e3", "W8 wave, time 1e6 / 1e3"][sizes - 1],
            own: growth(0),
            mutex: growth(1),
            goal: (!session.options.short).then_some(3.0),
        });
    }
    session.compare_rounds(
        &workload(
            "W8 wave, no capacity asked for",
            |up_to| sample(up_to, |size| wave::<Group<u64, u64>>(size, 0)),
            |up_to| sample(up_to, |size| wave::<MutexGroup<u64, u64>>(size, 0)),
        ),
        rounds,
    );
    session.compare_rounds(
        &workload(
            "W8 turnover, keys in flight",
            |up_to| sample(up_to, turnover::<Group<u64, u64>>),
            |up_to| sample(up_to, turnover::<MutexGroup<u64, u64>>),
        ),
        rounds,
    );
}

fn sample(up_to: u64, one: fn(usize) -> f64) -> Parts {
    SIZES.into_iter().filter(|&size| size as u64 <= up_to).map(one).collect()
}

/// So that small sizes are timed for long enough, and warm.
fn repetitions(size: usize) -> usize {
    (SIZES[1] / size).max(1)
}

fn wave<G: AsyncGroup<u64>>(size: usize, capacity: usize) -> f64 {
    let group = G::with_capacity(capacity);
    let gate = Gate::default();
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

fn turnover<G: AsyncGroup<u64>>(size: usize) -> f64 {
    let group = G::fresh();
    let gate = Gate::default();
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
