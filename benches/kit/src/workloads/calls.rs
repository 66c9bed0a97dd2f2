//! W1, W2 and W3: calls that nobody joins, with the work ready at once. The overhead of a call.

use std::{future::poll_fn, hint::black_box, pin::pin, sync::Arc, sync::LazyLock, time::Instant};

use ahash::RandomState;
use dashmap::DashMap;

use crate::{
    contenders::{AsyncGroup, BlockingGroup},
    rounds::{Parts, per_op, timed},
    slots::{poll, ready},
    threads::{race, runtime},
};

// Each measured operation is one function that is not inlined, of the same shape for everybody:
// otherwise what the compiler makes of the loop around it decides.

#[inline(never)]
fn call<G: AsyncGroup<u64>>(group: &G, key: u64) -> u64 {
    ready(pin!(group.run(&key, async move { key })))
}

#[inline(never)]
fn call_str<G: AsyncGroup<String>>(group: &G, key: &str) -> u64 {
    ready(pin!(group.run(key, async move { 1 })))
}

#[inline(never)]
fn call_blocking<G: BlockingGroup>(group: &G, key: u64) -> u64 {
    group.run_blocking(key, || key)
}

/// What a sharded table must do at least.
#[inline(never)]
pub(super) fn insert_remove(map: &DashMap<u64, u64, RandomState>, key: u64) -> u64 {
    map.insert(key, key);
    map.remove(&key).map_or(0, |(_, value)| value)
}

pub(super) fn dashmap() -> DashMap<u64, u64, RandomState> {
    DashMap::with_hasher_and_shard_amount(RandomState::new(), 64)
}

pub fn one_thread<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    let group = G::fresh();
    timed(ops, |key| call(&group, key))
}

pub fn one_blocking<G: BlockingGroup>(ops: u64) -> Parts {
    let group = G::fresh();
    timed(ops, |key| call_blocking(&group, key))
}

pub fn floor(ops: u64) -> Parts {
    let map = dashmap();
    timed(ops, |key| insert_remove(&map, key))
}

pub fn strings<G: AsyncGroup<String>>(ops: u64) -> Parts {
    static KEYS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..1024).map(|i| format!("{i:032}")).collect());

    let group = G::fresh();
    let keys = &*KEYS;
    timed(ops, |i| call_str(&group, &keys[i as usize % keys.len()]))
}

/// No two threads or tasks ever have the same key.
pub(super) fn distinct(who: usize, i: u64) -> u64 {
    (who as u64) << 32 | i
}

pub fn threads<G: AsyncGroup<u64>>(threads: usize, ops: u64) -> Parts {
    let group = G::fresh();
    race(threads, ops, |who, i| call(&group, distinct(who, i)))
}

pub fn threads_floor(threads: usize, ops: u64) -> Parts {
    let map = dashmap();
    race(threads, ops, |who, i| insert_remove(&map, distinct(who, i)))
}

pub fn tasks<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    const TASKS: usize = 64;

    async fn wave<G: AsyncGroup<u64>>(group: &Arc<G>, calls: u64) {
        let tasks: Vec<_> = (0..TASKS)
            .map(|who| {
                let group = Arc::clone(group);
                tokio::spawn(async move {
                    for i in 0..calls {
                        let key = black_box(distinct(who, i));
                        let mut call = pin!(group.run(&key, async move { key }));
                        black_box(poll_fn(|cx| poll(call.as_mut(), cx)).await);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("calls do not panic");
        }
    }

    let group = Arc::new(G::fresh());
    let calls = ops / TASKS as u64;
    // Spawned from outside, so that both workers take from one queue: what a worker spawns is its
    // own until the other one has woken up and steals.
    runtime().block_on(async {
        wave(&group, calls / 16).await;
        let start = Instant::now();
        wave(&group, calls).await;
        vec![per_op(start.elapsed(), calls * TASKS as u64)]
    })
}
