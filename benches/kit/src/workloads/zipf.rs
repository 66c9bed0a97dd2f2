//! W4: tasks that ask for popular and for rare keys, with work that yields once.

use std::{
    pin::pin,
    sync::{Arc, LazyLock},
    time::Instant,
};

use crate::{
    contenders::AsyncGroup,
    rounds::{Parts, per_op},
    slots::poll,
    threads::runtime,
};

/// Zipf(1.0) out of 10,000 keys, drawn once: every contender gets the same.
pub(super) static KEYS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    const KEYS: u32 = 10_000;
    let cumulated: Vec<f64> = (1..=KEYS)
        .scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        })
        .collect();
    let total = cumulated[cumulated.len() - 1];
    let mut state = 0_u64;
    (0..1 << 16)
        .map(|_| {
            // The linear congruential generator of MMIX; its high bits are good enough here.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let drawn = (state >> 32) as f64 / 2_f64.powi(32) * total;
            cumulated.partition_point(|&sum| sum < drawn) as u64
        })
        .collect()
});

pub fn tasks<G: AsyncGroup<u64>>(tasks: usize, ops: u64) -> Parts {
    async fn wave<G: AsyncGroup<u64>>(group: &Arc<G>, tasks: usize, calls: usize) {
        let keys = &*KEYS;
        let tasks: Vec<_> = (0..tasks)
            .map(|who| {
                let group = Arc::clone(group);
                tokio::spawn(async move {
                    for i in who * calls..(who + 1) * calls {
                        let key = keys[i % keys.len()];
                        let mut call = pin!(group.run(&key, async move {
                            tokio::task::yield_now().await;
                            key
                        }));
                        std::future::poll_fn(|cx| poll(call.as_mut(), cx)).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("calls do not panic");
        }
    }

    let group = Arc::new(G::fresh());
    let calls = ops as usize / tasks;
    // Spawned from outside, so that both workers take from one queue: what a worker spawns is its
    // own until the other one has woken up and steals.
    runtime().block_on(async {
        wave(&group, tasks, calls / 16).await;
        let start = Instant::now();
        wave(&group, tasks, calls).await;
        vec![per_op(start.elapsed(), (calls * tasks) as u64)]
    })
}
