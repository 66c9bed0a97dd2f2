//! What these tests share: short names, loads, and caches that tell when their user's code is visited.

use std::{
    future::ready,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use shardflight::{
    Stats, StatsSnapshot,
    cache::{ReadThrough, ReadThroughBuilder},
};
use tokio::sync::oneshot;

pub(crate) use crate::common::traps::{
    Key, Place, Value, assert_all_visited, disarm, explode_at, trap, visit,
};
use crate::common::{LIMIT, Polled};

pub(crate) type Answer = Result<u64, &'static str>;
pub(crate) type Cache = ReadThrough<u64, u64, &'static str>;

pub(crate) fn builder() -> ReadThroughBuilder<u64, u64, &'static str> {
    ReadThrough::builder()
}

/// With the numbers of what it does.
pub(crate) fn counted(builder: ReadThroughBuilder<u64, u64, &'static str>) -> (Cache, Arc<Stats>) {
    let stats = Arc::new(Stats::default());
    (builder.observer(Arc::clone(&stats)).build(), stats)
}

/// How many look-ups were hits, stale hits and misses.
pub(crate) fn looks(stats: &Stats) -> [u64; 3] {
    let StatsSnapshot { hits, stale_hits, misses, .. } = stats.snapshot();
    [hits, stale_hits, misses]
}

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// A load that returns what it is sent.
pub(crate) async fn sent<T>(value: oneshot::Receiver<T>) -> T {
    value.await.expect("sent")
}

/// The load of a caller that must not need one.
pub(crate) async fn unwanted<T>() -> T {
    unreachable!("it is there, or somebody else loads it")
}

pub(crate) async fn after<T>(time: Duration, answer: T) -> T {
    tokio::time::sleep(time).await;
    answer
}

/// The answer of a call that has to wait for nobody.
pub(crate) fn at_once<T>(call: impl Future<Output = T>) -> T {
    match Polled::new(call).poll() {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits"),
    }
}

/// What `get` answers at once with a load that does not wait.
pub(crate) fn get(cache: &Cache, answer: Answer) -> Answer {
    at_once(cache.get(&1, ready(answer)))
}

/// Waits for what another thread is about to do, or what moka's own clock brings.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "it never came");
        std::thread::yield_now();
    }
}

/// Tells of misses, which lie between a look and the flight.
pub(crate) struct Visits;

impl shardflight::Observer for Visits {
    fn missed(&self) {
        visit(Place::Missed);
    }
}

/// A cache all of whose places can be trapped.
pub(crate) type Watched = ReadThrough<Key, Value, &'static str>;

pub(crate) fn watched_builder() -> ReadThroughBuilder<Key, Value, &'static str> {
    ReadThrough::builder()
        .observer(Visits)
        .settings(|moka| {
            moka.weigher(|_, _| {
                visit(Place::Weigh);
                1
            })
        })
        .time_to_live_of(|_, _| {
            visit(Place::TtlOf);
            None
        })
}

pub(crate) fn watched() -> Watched {
    watched_builder().build()
}
