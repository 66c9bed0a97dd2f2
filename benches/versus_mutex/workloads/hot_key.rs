//! W6: one hot key with a leader in flight, which threads join and leave in a loop.

use std::{
    future::pending,
    pin::pin,
    task::{Context, Waker},
};

use shardflight::Group;

use crate::{
    contenders::{AsyncGroup, MutexGroup},
    harness::{
        sample::{Contender, Parts, Session, Workload},
        threads::race,
    },
};

pub(crate) fn measure(session: &mut Session) {
    session.compare(&Workload {
        name: "W6 join and leave, 1 thread",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", hot::<Group<u64, u64>, 1>),
            Contender::new("mutex", hot::<MutexGroup<u64, u64>, 1>),
        ],
    });
    session.compare(&Workload {
        name: "W6 join and leave, 2 threads",
        parts: &[""],
        ops: 20_000,
        contenders: vec![
            Contender::new("shardflight", hot::<Group<u64, u64>, 2>),
            Contender::new("mutex", hot::<MutexGroup<u64, u64>, 2>).goal(1.0),
        ],
    });
}

const KEY: u64 = 7;

/// Polls once, to join, and drops.
#[inline(never)]
fn join_and_leave<G: AsyncGroup<u64>>(group: &G) -> u64 {
    let call = pin!(group.run(&KEY, pending()));
    let polled = call.poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    0
}

fn hot<G: AsyncGroup<u64>, const THREADS: usize>(ops: u64) -> Parts {
    let group = G::fresh();
    let mut leader = pin!(group.run(&KEY, pending()));
    let polled = leader.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    race(THREADS, ops, |_, _| join_and_leave(&group))
}
