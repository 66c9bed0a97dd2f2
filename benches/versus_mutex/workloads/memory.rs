//! What calls take from the heap: allocations of leaders, shared flights and followers, and bytes
//! per key in flight (W8).

use std::{
    borrow::Borrow,
    cell::OnceCell,
    future::pending,
    hash::Hash,
    task::{Context, Waker},
};

use shardflight::Group;

use crate::{
    contenders::{AsyncGroup, MutexGroup},
    harness::{
        count_alloc::count,
        options::Options,
        sample::Session,
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
