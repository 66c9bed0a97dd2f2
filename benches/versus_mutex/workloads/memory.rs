//! What calls take from the heap: allocations of leaders, shared flights and followers, and bytes
//! per key in flight (W8).

use std::{
    borrow::Borrow,
    cell::OnceCell,
    future::pending,
    hash::Hash,
    hint::black_box,
    mem::forget,
    task::{Context, Waker},
};

use dashmap::DashMap;
use shardflight::Group;

use crate::{
    contenders::{AsyncGroup, MutexGroup},
    harness::{
        count_alloc::count,
        options::Options,
        sample::{Contender, Session, Workload, timed},
        slots::{Gate, begin, end, slots},
        table::Figure,
    },
};

pub(crate) fn measure(session: &mut Session) {
    let Session { options, table, .. } = session;
    if options.wants("allocations") {
        let text = "a key of 32 bytes, not one fewer";
        // (own, mutex) for herds of 0, 1 and 101 followers.
        let counts = [0, 1, 101].map(|followers| {
            (
                allocations::<Group<u64, u64>, u64, u64>(&7, followers),
                allocations::<MutexGroup<u64, u64>, u64, u64>(&7, followers),
            )
        });
        table.add_figure(Figure {
            what: "allocations, unshared call, u64",
            own: counts[0].0,
            mutex: counts[0].1,
            goal: Some(0.0),
        });
        table.add_figure(Figure {
            what: "allocations, unshared call, String by &str",
            own: allocations::<Group<String, u64>, String, str>(text, 0),
            mutex: allocations::<MutexGroup<String, u64>, String, str>(text, 0),
            goal: Some(1.0),
        });
        table.add_figure(Figure {
            what: "allocations, made shared by the first follower",
            own: counts[1].0 - counts[0].0,
            mutex: counts[1].1 - counts[0].1,
            goal: Some(2.0),
        });
        table.add_figure(Figure {
            what: "allocations, each further follower",
            own: (counts[2].0 - counts[1].0) / 100.0,
            mutex: (counts[2].1 - counts[1].1) / 100.0,
            goal: Some(0.0),
        });
    }
    for figure in bytes(options) {
        table.add_figure(figure);
    }
    if options.wants("memory of groups and flights") {
        for figure in bytes_of_parts() {
            table.add_figure(figure);
        }
    }
    session.compare(&Workload {
        name: "memory, a group made and dropped",
        parts: &[""],
        ops: 200,
        contenders: vec![
            Contender::new("shardflight", |ops| timed(ops, |_| made(Group::<u64, u64>::fresh))),
            Contender::new("mutex", |ops| timed(ops, |_| made(MutexGroup::<u64, u64>::fresh))),
            Contender::new("DashMap::new", |ops| timed(ops, |_| made(DashMap::<u64, u64>::new))),
        ],
    });
}

#[inline(never)]
fn made<T>(make: fn() -> T) -> u64 {
    drop(black_box(make()));
    0
}

/// What each of a thousand flights takes, and each of their followers. Not the futures.
fn bytes_of_parts() -> [Figure; 4] {
    const FLIGHTS: usize = 1_000;
    let own = |followers| bytes_in_flight::<Group<u64, u64>>(FLIGHTS, followers);
    let mutex = |followers| bytes_in_flight::<MutexGroup<u64, u64>>(FLIGHTS, followers);
    let figure = |what, own, mutex| Figure { what, own, mutex, goal: None };
    let per_flight = |bytes: f64| bytes / FLIGHTS as f64;
    let empty = |make: fn()| count(make).bytes as f64;
    [
        figure(
            "heap bytes of an empty group",
            empty(|| forget(Group::<u64, u64>::fresh())),
            empty(|| forget(MutexGroup::<u64, u64>::fresh())),
        ),
        figure("heap bytes per unshared call", per_flight(own(0)), per_flight(mutex(0))),
        figure("heap bytes per flight with a follower", per_flight(own(1)), per_flight(mutex(1))),
        figure(
            "heap bytes per further follower",
            per_flight(own(11) - own(1)) / 10.0,
            per_flight(mutex(11) - mutex(1)) / 10.0,
        ),
    ]
}

/// In a group that was made before, and is empty.
fn bytes_in_flight<G: AsyncGroup<u64>>(flights: usize, followers: usize) -> f64 {
    let group = G::with_capacity(0);
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

/// Of one flight, in a group that has room for it.
fn allocations<G, K, Q>(key: &Q, followers: usize) -> f64
where
    G: AsyncGroup<K>,
    K: Borrow<Q>,
    Q: ?Sized + Eq + Hash + Sync + ToOwned<Owned = K>,
{
    let group = G::fresh();
    let gate = Gate::default();
    let mut leader = slots(1);
    let mut follower = slots(followers);
    let cx = &mut Context::from_waker(Waker::noop());
    let mut flight = || {
        gate.shut();
        begin(&mut leader[0], || group.run(key, gate.passed()), cx);
        for call in &mut follower {
            begin(call, || group.run(key, pending()), cx);
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

fn bytes(options: &Options) -> Vec<Figure> {
    let sizes = [
        ("W8 heap bytes per key, 1e5 in flight", 100_000, 0),
        ("W8 heap bytes per key, 1e6 in flight", 1_000_000, 0),
        ("W8 heap bytes per key, 1e6 asked for", 1_000_000, 1_000_000),
    ];
    let measured = if options.short { 1 } else { 3 };
    sizes[..measured]
        .iter()
        .filter(|(what, ..)| options.wants(what))
        .map(|&(what, size, capacity)| Figure {
            what,
            own: bytes_per_key::<Group<u64, u64>>(size, capacity),
            mutex: bytes_per_key::<MutexGroup<u64, u64>>(size, capacity),
            goal: (size == 1_000_000).then_some(56.0),
        })
        .collect()
}

/// What group, table and flights hold. Not the futures, whose place is the caller's choice.
fn bytes_per_key<G: AsyncGroup<u64>>(size: usize, capacity: usize) -> f64 {
    let group = OnceCell::new();
    let gate = Gate::default();
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
