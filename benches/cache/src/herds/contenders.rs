//! Who takes part in herds: as groups, whose key is another one each time its work has been done.

use std::{
    borrow::Borrow,
    convert::Infallible,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use ahash::RandomState;
use kit::contenders::{AsyncGroup, BlockingGroup};
use shardflight::cache::ReadThrough;

/// A cache that shares the loads of what it has not.
pub(super) trait Herd: Send + Sync + 'static {
    const WAKES_ONCE: bool = true;

    fn fresh() -> Self;

    fn get<F>(&self, key: &u64, load: F) -> impl Future<Output = u64> + Send
    where
        F: Future<Output = u64> + Send;
}

/// Room for what a sample leaves in a cache, so that nothing is evicted.
const CAPACITY: u64 = 10_000;

/// What is loaded once stays: so the next call is for another key.
pub(super) struct Renewed<C> {
    cache: C,
    key: AtomicU64,
}

impl<C: Herd> AsyncGroup<u64> for Renewed<C> {
    const WAKES_ONCE: bool = C::WAKES_ONCE;

    fn with_capacity(_: usize) -> Self {
        Self { cache: C::fresh(), key: AtomicU64::new(0) }
    }

    async fn run<'a, Q, F>(&'a self, _: &'a Q, work: F) -> u64
    where
        u64: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = u64>,
        F: Future<Output = u64> + Send + 'static,
    {
        let key = self.key.load(Relaxed);
        let load = async {
            let value = work.await;
            self.key.store(key + 1, Relaxed);
            value
        };
        self.cache.get(&key, load).await
    }
}

impl Herd for ReadThrough<u64, u64, ()> {
    fn fresh() -> Self {
        Self::builder().max_capacity(CAPACITY).build()
    }

    async fn get<F>(&self, key: &u64, load: F) -> u64
    where
        F: Future<Output = u64> + Send,
    {
        let Ok(value) = ReadThrough::get(self, key, async { Ok(load.await) }).await else {
            unreachable!("none fails")
        };
        value
    }
}

pub(super) struct MokaFutureHerd(moka::future::Cache<u64, u64, RandomState>);

impl Herd for MokaFutureHerd {
    /// Some are woken again by its lock of readers and writers.
    const WAKES_ONCE: bool = false;

    fn fresh() -> Self {
        let builder = moka::future::Cache::builder().max_capacity(CAPACITY);
        Self(builder.build_with_hasher(RandomState::new()))
    }

    async fn get<F>(&self, key: &u64, load: F) -> u64
    where
        F: Future<Output = u64> + Send,
    {
        self.0.get_with_by_ref(key, load).await
    }
}

pub(super) struct QuickHerd(
    quick_cache::sync::Cache<u64, u64, quick_cache::UnitWeighter, RandomState>,
);

impl Herd for QuickHerd {
    fn fresh() -> Self {
        Self(quick_cache::sync::Cache::with(
            CAPACITY as usize,
            CAPACITY,
            quick_cache::UnitWeighter,
            RandomState::new(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }

    async fn get<F>(&self, key: &u64, load: F) -> u64
    where
        F: Future<Output = u64> + Send,
    {
        let load = async { Ok::<_, Infallible>(load.await) };
        let Ok(value) = self.0.get_or_insert_async(key, load).await;
        value
    }
}

impl BlockingGroup for Renewed<ReadThrough<u64, u64, ()>> {
    fn fresh() -> Self {
        AsyncGroup::fresh()
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = self.cache.get_blocking(&key, || Ok(work())) else {
            unreachable!("none fails")
        };
        value
    }
}

impl BlockingGroup for Renewed<QuickHerd> {
    fn fresh() -> Self {
        AsyncGroup::fresh()
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        let Ok(value) = self.cache.0.get_or_insert_with(&key, || Ok::<_, Infallible>(work()));
        value
    }
}

pub(super) struct MokaHerd(moka::sync::Cache<u64, u64, RandomState>);

impl BlockingGroup for MokaHerd {
    fn fresh() -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(CAPACITY);
        Self(builder.build_with_hasher(RandomState::new()))
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        self.0.get_with(key, work)
    }
}
