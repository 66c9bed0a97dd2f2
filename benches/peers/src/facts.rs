//! What is counted and not timed: allocations, bytes, clones (W7), and how contenders behave.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    task::{Context, Waker},
};

use kit::{
    contenders::AsyncGroup,
    count_alloc::count,
    slots::{Gate, begin, end, slots},
    workloads::memory::{allocations, bytes_per_key},
};

use crate::{conduct, contenders::async_groups};

/// A row for each group that tasks can share.
pub(crate) struct Facts {
    pub(crate) rows: Vec<Fact>,
    pub(crate) keys: usize,
}

pub(crate) struct Fact {
    pub(crate) name: &'static str,
    pub(crate) memory: Memory,
    pub(crate) clones: Clones,
    pub(crate) serves_landed: bool,
    pub(crate) takes_over: bool,
    /// Followers without a value beside one that is not polled.
    pub(crate) held_up: usize,
}

pub(crate) struct Memory {
    /// Allocations of an unshared call, with a `u64` and with a `String` key.
    pub(crate) unshared: f64,
    pub(crate) unshared_string: f64,
    /// What the first follower adds, and each later one.
    pub(crate) first_follower: f64,
    pub(crate) later_follower: f64,
    /// The future of a call, with the work in it: a reference.
    pub(crate) future: usize,
    /// What a later follower holds of the heap while it waits.
    pub(crate) heap: f64,
    pub(crate) per_key: f64,
}

pub(crate) struct Clones {
    pub(crate) unshared: f64,
    /// Of a flight with one follower, and for each of a hundred.
    pub(crate) one_follower: f64,
    pub(crate) each_follower: f64,
}

const HERD: usize = 100;

impl Facts {
    pub(crate) fn count(short: bool) -> Self {
        let keys = if short { 100_000 } else { 1_000_000 };
        let conduct = async_groups!(u64, u64, |G, _name| (
            conduct::serves_landed::<G>(),
            conduct::takes_over::<G>(),
            conduct::held_up::<G>()
        ));
        let clones = async_groups!(u64, Page, |G, _name| clones::<G>());
        let strings = async_groups!(String, u64, |G, _name| {
            allocations::<G, String, str>("a key of 32 bytes, not one fewer", 0)
        });
        let memory = async_groups!(u64, u64, |G, name| (name, memory::<G>(keys)));
        let rows = memory.into_iter().zip(strings).zip(clones).zip(conduct);
        let row = |((((name, memory), unshared_string), clones), conduct)| {
            let (serves_landed, takes_over, held_up) = conduct;
            let memory = Memory { unshared_string, ..memory };
            Fact { name, memory, clones, serves_landed, takes_over, held_up }
        };
        Self { rows: rows.map(row).collect(), keys }
    }
}

fn memory<G: AsyncGroup<u64>>(keys: usize) -> Memory {
    let [none, one, many] = [0, 1, 1 + HERD].map(|size| allocations::<G, u64, u64>(&7, size));
    let group = G::fresh();
    Memory {
        unshared: none,
        unshared_string: f64::NAN,
        first_follower: one - none,
        later_follower: (many - one) / HERD as f64,
        future: size_of_val(&group.run(&7, Gate::fresh().passed())),
        heap: waiting_bytes::<G>(),
        per_key: bytes_per_key::<G>(keys, keys),
    }
}

/// As the mean of as many as fit into one growth of a list, which some keep.
fn waiting_bytes<G: AsyncGroup<u64>>() -> f64 {
    const FOLLOWERS: usize = 1 << 14;
    let cx = &mut Context::from_waker(Waker::noop());
    let (group, gate) = (G::fresh(), Gate::fresh());
    let mut calls = slots(2 * FOLLOWERS);
    let (first, later) = calls.split_at_mut(FOLLOWERS);
    for call in first {
        begin(call, || group.run(&7, gate.passed()), cx);
    }
    let counted = count(|| {
        for call in later {
            begin(call, || group.run(&7, gate.passed()), cx);
        }
    });
    counted.bytes as f64 / FOLLOWERS as f64
}

static CLONES: AtomicU64 = AtomicU64::new(0);

/// 64 KiB that count how often they are cloned.
pub(crate) struct Page(Vec<u8>);

impl Clone for Page {
    fn clone(&self) -> Self {
        CLONES.fetch_add(1, Relaxed);
        Self(self.0.clone())
    }
}

fn clones<G: AsyncGroup<u64, Page>>() -> Clones {
    let of_herd = |followers: usize| {
        let cx = &mut Context::from_waker(Waker::noop());
        let group = G::fresh();
        let mut calls = slots(1 + followers);
        let gate = Gate::fresh();
        CLONES.store(0, Relaxed);
        for call in &mut calls {
            begin(call, || group.run(&7, load(gate)), cx);
        }
        gate.open();
        let pages: Vec<Page> = calls.iter_mut().map(|call| end(call, cx)).collect();
        assert!(pages.iter().all(|page| page.0.len() == 64 * 1024));
        CLONES.load(Relaxed) as f64
    };
    Clones {
        unshared: of_herd(0),
        one_follower: of_herd(1),
        each_follower: of_herd(HERD) / HERD as f64,
    }
}

async fn load(gate: &'static Gate) -> Page {
    gate.passed().await;
    Page(vec![1; 64 * 1024])
}
