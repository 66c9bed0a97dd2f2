//! Calls from 1, 2, 4 and so on up to as many threads as there are cores: see `docs/scale.md`.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use super::{
    calls::{dashmap, distinct, insert_remove},
    hot_key::hot,
    zipf::KEYS,
};
use crate::{contenders::AsyncGroup, pin::cores, rounds::Parts, threads::race};

/// All powers of two below, and all cores.
pub fn threads() -> impl Iterator<Item = usize> {
    let cores = cores();
    (0..).map(|bit| 1 << bit).take_while(move |&n| n < cores).chain([cores])
}

fn on_each_number_of_threads(race: impl FnMut(usize) -> Parts) -> Parts {
    threads().flat_map(race).collect()
}

/// Which key a thread calls with, by its number and that of the call.
pub type Key = fn(who: usize, i: u64) -> u64;

pub const NEW_KEY: Key = distinct;
pub const OWN_KEY: Key = |who, i| distinct(who, i % 16);
/// Each begins elsewhere in the list.
pub const ZIPF_KEY: Key = |who, i| KEYS[(who * 7919 + i as usize) % KEYS.len()];

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

pub fn calls<G: AsyncGroup<u64>>(ops: u64, key: Key) -> Parts {
    on_each_number_of_threads(|threads| {
        let group = G::fresh();
        race(threads, ops, |who, i| call(&group, key(who, i)))
    })
}

pub fn floor(ops: u64, key: Key) -> Parts {
    on_each_number_of_threads(|threads| {
        let map = dashmap();
        race(threads, ops, |who, i| insert_remove(&map, key(who, i)))
    })
}

pub fn joins<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    on_each_number_of_threads(|threads| hot::<G>(threads, ops))
}
