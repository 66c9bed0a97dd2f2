//! W5: many followers on one flight: what joining, landing and resuming costs for each, and the
//! same end to end on tokio.

use std::{
    future::{pending, poll_fn, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    contenders::AsyncGroup,
    rounds::{Parts, per_op},
    slots::{Gate, begin, end, slots},
    threads::runtime,
};

/// What `phases` measures, each for one follower.
pub const PHASES: [&str; 4] = ["join", "land+wake", "resume", "all"];

static KEY: u64 = 7;

/// Counts instead of scheduling anything.
#[derive(Default)]
struct Wakes(AtomicU64);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Not `fetch_add`: all is on one thread, and its lock prefix would be half of what is timed.
        self.0.store(self.0.load(Relaxed) + 1, Relaxed);
    }
}

/// In herds of so many followers.
pub fn phases<G: AsyncGroup<u64>>(size: u64, ops: u64) -> Parts {
    // Each has its own, as tasks have: there are those who keep equal wakers but once.
    let wakes: Vec<_> = (0..size).map(|_| Arc::new(Wakes::default())).collect();
    let wakers: Vec<_> = wakes.iter().cloned().map(Waker::from).collect();
    let cx = &mut Context::from_waker(Waker::noop());
    let gate = Gate::fresh();
    let group = G::fresh();
    let mut leader = slots(1);
    let mut followers = slots(size as usize);

    let mut herd = || {
        gate.shut();
        begin(&mut leader[0], || group.run(&KEY, gate.passed()), cx);
        let start = Instant::now();
        for (follower, waker) in followers.iter_mut().zip(&wakers) {
            begin(follower, || group.run(&KEY, pending()), &mut Context::from_waker(waker));
        }
        let joined = Instant::now();
        gate.open();
        end(&mut leader[0], cx);
        let landed = Instant::now();
        for (follower, waker) in followers.iter_mut().zip(&wakers) {
            end(follower, &mut Context::from_waker(waker));
        }
        [joined - start, landed - joined, landed.elapsed()]
    };
    herd();
    wakes.iter().for_each(|wakes| wakes.0.store(0, Relaxed));

    let herds = ops / size;
    let mut took = [Duration::ZERO; 3];
    for _ in 0..herds {
        for (sum, phase) in took.iter_mut().zip(herd()) {
            *sum += phase;
        }
    }
    let woken = |wakes: &Wakes| {
        let wakes = wakes.0.load(Relaxed);
        wakes == herds || !G::WAKES_ONCE && wakes > herds
    };
    assert!(wakes.iter().all(|wakes| woken(wakes)), "{}", std::any::type_name::<G>());
    let mut parts: Parts = took.map(|sum| per_op(sum, ops)).into();
    parts.push(parts.iter().sum());
    parts
}

struct Herd<G> {
    group: G,
    tasks: u64,
    joined: AtomicU64,
    complete: Notify,
}

pub fn on_tokio<G: AsyncGroup<u64>>(tasks: u64) -> Parts {
    let herd = Arc::new(Herd {
        group: G::fresh(),
        tasks,
        joined: AtomicU64::new(0),
        complete: Notify::new(),
    });
    let runtime = runtime();
    // From a worker, as the main thread would compete with them for the two cores.
    let lead = runtime.spawn(lead(herd));
    let took = runtime.block_on(lead).expect("calls do not panic");
    vec![per_op(took, tasks)]
}

async fn lead<G: AsyncGroup<u64>>(herd: Arc<Herd<G>>) -> Duration {
    let start = Instant::now();
    let complete = Arc::clone(&herd);
    let mut leader = pin!(herd.group.run(&KEY, async move {
        complete.complete.notified().await;
        1
    }));
    poll_fn(|cx| {
        assert!(leader.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    let tasks: Vec<_> = (0..herd.tasks).map(|_| tokio::spawn(follow(Arc::clone(&herd)))).collect();
    leader.await;
    for task in tasks {
        task.await.expect("calls do not panic");
    }
    start.elapsed()
}

/// The last one to join lets the leader land.
async fn follow<G: AsyncGroup<u64>>(herd: Arc<Herd<G>>) -> u64 {
    // Not `pending`: who waits for an async lock of its group is taken to have joined, and may then
    // come too late and lead.
    let mut call = pin!(herd.group.run(&KEY, ready(1)));
    let mut has_joined = false;
    poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() && !std::mem::replace(&mut has_joined, true) {
            let before = herd.joined.fetch_add(1, Relaxed);
            if before + 1 == herd.tasks {
                herd.complete.notify_one();
            }
        }
        polled
    })
    .await
}
