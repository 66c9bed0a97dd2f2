//! shardflight with an observer: what it costs to have one.

use std::{borrow::Borrow, hash::Hash};

use shardflight::{Group, Stats};

use super::{AsyncGroup, BlockingGroup};

pub struct WithStats(Group<u64, u64>);

impl AsyncGroup<u64> for WithStats {
    fn with_capacity(keys: usize) -> Self {
        Self(Group::builder().capacity(keys).observer(Stats::default()).build())
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = u64> + Send
    where
        u64: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = u64>,
        F: Future<Output = u64> + Send + 'static,
    {
        self.0.run(key, work)
    }
}

impl BlockingGroup for WithStats {
    fn fresh() -> Self {
        <Self as AsyncGroup<u64>>::with_capacity(0)
    }

    #[inline]
    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        self.0.run_blocking(&key, work)
    }
}
