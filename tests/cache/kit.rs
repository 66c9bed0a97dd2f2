//! What these tests share: short names, loads, and values that tell when they are visited.

use std::{
    cell::RefCell,
    future::ready,
    panic::resume_unwind,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use shardflight::{
    Stats, StatsSnapshot,
    cache::{ReadThrough, ReadThroughBuilder},
};
use tokio::sync::oneshot;

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

/// The places where a cache calls its user's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    HashKey,
    EqKey,
    CloneKey,
    DropKey,
    CloneValue,
    DropValue,
    Weigh,
    TtlOf,
    Missed,
}

struct Trap {
    place: Place,
    /// Visits that pass before it shuts.
    spared: usize,
    action: Box<dyn FnOnce()>,
}

thread_local! {
    /// What to do at each place, once. Every test has a thread of its own.
    static TRAPS: RefCell<Vec<Trap>> = const { RefCell::new(Vec::new()) };
}

/// Has `action` done at a visit of `place`, after as many as are spared.
pub(crate) fn trap(place: Place, spared: usize, action: impl FnOnce() + 'static) {
    TRAPS.with_borrow_mut(|traps| traps.push(Trap { place, spared, action: Box::new(action) }));
}

/// As `panic!`, without the report on standard error: there are many.
pub(crate) fn explode_at(place: Place, spared: usize) {
    trap(place, spared, move || resume_unwind(Box::new(format!("in {place:?}"))));
}

pub(crate) fn visit(place: Place) {
    let action = TRAPS.with_borrow_mut(|traps| {
        let i = traps.iter().position(|trap| trap.place == place)?;
        match traps[i].spared {
            0 => Some(traps.remove(i).action),
            _ => {
                traps[i].spared -= 1;
                None
            }
        }
    });
    if let Some(action) = action {
        action();
    }
}

pub(crate) fn assert_all_visited() {
    let left: Vec<_> = TRAPS.with_borrow(|traps| traps.iter().map(|trap| trap.place).collect());
    assert!(left.is_empty(), "never visited: {left:?}");
}

/// Nothing of it shuts any more; says whether something was left.
pub(crate) fn disarm() -> bool {
    !TRAPS.take().is_empty()
}

#[derive(Debug)]
pub(crate) struct Key(pub(crate) u64);

impl std::hash::Hash for Key {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        visit(Place::HashKey);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        visit(Place::EqKey);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        visit(Place::CloneKey);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        visit(Place::DropKey);
    }
}

#[derive(Debug, PartialEq)]
pub(crate) struct Value(pub(crate) u64);

impl Clone for Value {
    fn clone(&self) -> Self {
        visit(Place::CloneValue);
        Self(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        visit(Place::DropValue);
    }
}

/// Tells of misses, which lie between a look and the flight.
struct Visits;

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
