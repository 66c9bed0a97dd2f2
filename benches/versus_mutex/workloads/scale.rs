//! Calls from 1, 2, 4 and so on up to as many threads as there are cores: see `docs/scale.md`.

use std::{
    future::pending,
    hint::black_box,
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use ahash::RandomState;
use dashmap::DashMap;
use shardflight::Group;

use super::zipf::KEYS;
use crate::{
    contenders::{AsyncGroup, MutexGroup},
    harness::{
        pin::cores,
        sample::{Contender, Parts, Session, Workload},
        threads::race,
    },
};

pub(crate) fn measure(session: &mut Session) {
    let parts: Vec<&'static str> =
        threads(cores()).map(|n| &*format!("{n:>3} threads").leak()).collect();
    let parts: &'static [&'static str] = parts.leak();
    let rounds = 2 * session.options.rounds();
    let mut compare = |name, contenders| {
        let workload = Workload { name, parts, ops: 10_000, contenders };
        session.compare_rounds(&workload, rounds);
    };
    compare(
        "scale, keys never seen before",
        vec![
            Contender::new("shardflight", |ops| calls::<Group<u64, u64>>(ops, new_key)),
            Contender::new("mutex", |ops| calls::<MutexGroup<u64, u64>>(ops, new_key)),
            Contender::new("raw DashMap", |ops| floor(ops, new_key)),
        ],
    );
    compare(
        "scale, 16 keys of each thread's own",
        vec![
            Contender::new("shardflight", |ops| calls::<Group<u64, u64>>(ops, own_key)),
            Contender::new("mutex", |ops| calls::<MutexGroup<u64, u64>>(ops, own_key)),
            Contender::new("raw DashMap", |ops| floor(ops, own_key)),
        ],
    );
    compare(
        "scale, Zipf keys",
        vec![
            Contender::new("shardflight", |ops| calls::<Group<u64, u64>>(ops, zipf_key)),
            Contender::new("mutex", |ops| calls::<MutexGroup<u64, u64>>(ops, zipf_key)),
        ],
    );
    compare(
        "scale, join and leave one flight",
        vec![
            Contender::new("shardflight", joins::<Group<u64, u64>>),
            Contender::new("mutex", joins::<MutexGroup<u64, u64>>),
        ],
    );
}

/// All powers of two below, and all cores.
fn threads(cores: usize) -> impl Iterator<Item = usize> {
    (0..).map(|bit| 1 << bit).take_while(move |&n| n < cores).chain([cores])
}

fn on_each_number_of_threads(race: impl FnMut(usize) -> Parts) -> Parts {
    threads(cores()).flat_map(race).collect()
}

fn new_key(who: usize, i: u64) -> u64 {
    (who as u64) << 32 | i
}

fn own_key(who: usize, i: u64) -> u64 {
    (who as u64) << 32 | (i % 16)
}

fn zipf_key(who: usize, i: u64) -> u64 {
    // Each begins elsewhere in the list.
    KEYS[(who * 7919 + i as usize) % KEYS.len()]
}

#[inline(never)]
fn call<G: AsyncGroup<u64>>(group: &G, key: u64) -> u64 {
    ready_or_not(pin!(group.run(&key, async move { key })))
}

/// Two threads may have the same key: then the later one waits, and here it does not.
#[inline(always)]
fn ready_or_not<F: Future<Output = u64>>(call: Pin<&mut F>) -> u64 {
    match call.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => 0,
    }
}

#[inline(never)]
fn insert_remove(map: &DashMap<u64, u64, RandomState>, key: u64) -> u64 {
    map.insert(key, key);
    map.remove(&key).map_or(0, |(_, value)| value)
}

fn calls<G: AsyncGroup<u64>>(ops: u64, key: fn(usize, u64) -> u64) -> Parts {
    on_each_number_of_threads(|threads| {
        let group = G::fresh();
        race(threads, ops, |who, i| call(&group, key(who, i)))
    })
}

fn floor(ops: u64, key: fn(usize, u64) -> u64) -> Parts {
    on_each_number_of_threads(|threads| {
        let map = DashMap::with_hasher_and_shard_amount(RandomState::new(), 64);
        race(threads, ops, |who, i| insert_remove(&map, key(who, i)))
    })
}

const HOT: &u64 = &7;

fn joins<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    on_each_number_of_threads(|threads| {
        let group = G::fresh();
        let mut leader = pin!(group.run(HOT, pending()));
        assert!(leader.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        race(threads, ops, |_, _| black_box(call_hot(&group)))
    })
}

#[inline(never)]
fn call_hot<G: AsyncGroup<u64>>(group: &G) -> u64 {
    ready_or_not(pin!(group.run(HOT, pending())))
}
