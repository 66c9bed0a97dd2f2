//! What the contenders have in common, so that each workload is written once for all of them.

mod bare_cells;
mod bare_herd;
mod condvar_group;
mod mutex_group;
mod with_stats;

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
};

use shardflight::Group;

pub use self::{
    bare_cells::BareCells,
    bare_herd::{BareHerd, Parked, Seats, Wakers},
    condvar_group::CondvarGroup,
    mutex_group::MutexGroup,
    with_stats::WithStats,
};

/// A call's work is `'static`, because some contenders box it.
pub trait AsyncGroup<K, V = u64>: Sized + Send + Sync + 'static {
    /// Whether a follower is woken when it can go on, and only then.
    const WAKES_ONCE: bool = true;

    fn with_capacity(keys: usize) -> Self;

    fn fresh() -> Self {
        Self::with_capacity(0)
    }

    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static;
}

impl<K, V> AsyncGroup<K, V> for Group<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(keys: usize) -> Self {
        Self::builder().capacity(keys).build()
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        Group::run(self, key, work)
    }
}

impl<K, V, S> AsyncGroup<K, V> for MutexGroup<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Default + Send + Sync + 'static,
{
    fn with_capacity(keys: usize) -> Self {
        MutexGroup::with_capacity(keys)
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        MutexGroup::run(self, key, work)
    }
}

pub trait BlockingGroup: Send + Sync {
    fn fresh() -> Self;

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64;
}

impl BlockingGroup for Group<u64, u64> {
    fn fresh() -> Self {
        Self::new()
    }

    #[inline]
    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        Group::run_blocking(self, &key, work)
    }
}

impl<const COUNTED: bool> BlockingGroup for CondvarGroup<u64, u64, COUNTED> {
    fn fresh() -> Self {
        Self::default()
    }

    #[inline]
    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        CondvarGroup::run(self, &key, work)
    }
}
