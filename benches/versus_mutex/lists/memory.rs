//! What calls take from the heap.

use std::mem::forget;

use dashmap::DashMap;
use kit::{
    contenders::{AsyncGroup, MutexGroup},
    count_alloc::count,
    workloads::memory::{allocations, bytes_in_flight, bytes_per_key, made},
};
use shardflight::Group;

use crate::{
    options::Options,
    session::{Contender, Session, Workload},
    table::Figure,
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
            Contender::new("shardflight", |ops| made(ops, Group::<u64, u64>::fresh)),
            Contender::new("mutex", |ops| made(ops, MutexGroup::<u64, u64>::fresh)),
            Contender::new("DashMap::new", |ops| made(ops, DashMap::<u64, u64>::new)),
        ],
    });
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
