//! W1, W2 and W3: calls that nobody joins, with the work ready at once. The overhead of a call.

use std::{pin::pin, sync::Arc, sync::LazyLock, time::Instant};

use ahash::RandomState;
use dashmap::DashMap;
use shardflight::Group;

use crate::{
    contenders::{AsyncGroup, BlockingGroup, CondvarGroup, MutexGroup, WithStats},
    harness::{
        sample::{Contender, Parts, Session, Workload, per_op, timed},
        slots::ready,
        threads::{race, runtime},
    },
};

/// As it comes out of std: a `Mutex` around a `HashMap` with the default hasher.
type StdMutexGroup<K> = MutexGroup<K, u64, std::hash::RandomState>;

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W1 u64, async",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", one_thread::<Group<u64, u64>>),
            Contender::new("mutex", one_thread::<MutexGroup<u64, u64>>).goal(0.333),
            Contender::new("mutex, std's hasher", one_thread::<StdMutexGroup<u64>>).goal(0.333),
            Contender::new("with Stats", one_thread::<WithStats>),
            Contender::new("raw DashMap", floor).goal(1.2),
        ],
    });
    session.compare(&Workload {
        name: "W1 u64, blocking",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", one_blocking::<Group<u64, u64>>),
            Contender::new("mutex", one_blocking::<CondvarGroup<u64, u64, false>>).goal(0.333),
            Contender::new("mutex, counted", one_blocking::<CondvarGroup<u64, u64, true>>),
            Contender::new("with Stats", one_blocking::<WithStats>),
            Contender::new("raw DashMap", floor).goal(1.2),
        ],
    });
    session.compare(&Workload {
        name: "W2 32-byte String by &str",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", strings::<Group<String, u64>>),
            Contender::new("mutex", strings::<MutexGroup<String, u64>>).goal(0.45),
            Contender::new("mutex, std's hasher", strings::<StdMutexGroup<String>>).goal(0.45),
        ],
    });
    session.compare(&Workload {
        name: "W3 distinct keys, 2 threads",
        parts: &[""],
        ops: 10_000,
        contenders: vec![
            Contender::new("shardflight", two_threads::<Group<u64, u64>>),
            Contender::new("mutex", two_threads::<MutexGroup<u64, u64>>).goal(0.2),
            Contender::new("with Stats", two_threads::<WithStats>),
            Contender::new("raw DashMap", two_floors),
        ],
    });
    session.compare(&Workload {
        name: "W3 distinct keys, 64 tasks",
        parts: &[""],
        ops: 64 * 1_000,
        contenders: vec![
            Contender::new("shardflight", tasks::<Group<u64, u64>>),
            Contender::new("mutex", tasks::<MutexGroup<u64, u64>>),
        ],
    });
}

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
fn insert_remove(map: &DashMap<u64, u64, RandomState>, key: u64) -> u64 {
    map.insert(key, key);
    map.remove(&key).map_or(0, |(_, value)| value)
}

fn dashmap() -> DashMap<u64, u64, RandomState> {
    DashMap::with_hasher_and_shard_amount(RandomState::new(), 64)
}

fn one_thread<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    let group = G::fresh();
    timed(ops, |key| call(&group, key))
}

fn one_blocking<G: BlockingGroup>(ops: u64) -> Parts {
    let group = G::fresh();
    timed(ops, |key| call_blocking(&group, key))
}

fn floor(ops: u64) -> Parts {
    let map = dashmap();
    timed(ops, |key| insert_remove(&map, key))
}

fn strings<G: AsyncGroup<String>>(ops: u64) -> Parts {
    static KEYS: LazyLock<Vec<String>> =
        LazyLock::new(|| (0..1024).map(|i| format!("{i:032}")).collect());

    let group = G::fresh();
    let keys = &*KEYS;
    timed(ops, |i| call_str(&group, &keys[i as usize % keys.len()]))
}

/// No two threads or tasks ever have the same key.
fn distinct(who: usize, i: u64) -> u64 {
    (who as u64) << 32 | i
}

fn two_threads<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    let group = G::fresh();
    race(2, ops, |who, i| call(&group, distinct(who, i)))
}

fn two_floors(ops: u64) -> Parts {
    let map = dashmap();
    race(2, ops, |who, i| insert_remove(&map, distinct(who, i)))
}

fn tasks<G: AsyncGroup<u64>>(ops: u64) -> Parts {
    const TASKS: usize = 64;

    async fn wave<G: AsyncGroup<u64>>(group: &Arc<G>, calls: u64) {
        let tasks: Vec<_> = (0..TASKS)
            .map(|who| {
                let group = Arc::clone(group);
                tokio::spawn(async move {
                    for i in 0..calls {
                        std::hint::black_box(call(&*group, distinct(who, i)));
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
