//! moka: a cache that coalesces its misses. `entry_by_ref(..).or_insert_with(..)` tells who ran the
//! work, and that one invalidates the key, so that nothing stays. With our hasher.

use std::{borrow::Borrow, hash::Hash};

use ahash::RandomState;
use kit::contenders::{AsyncGroup, BlockingGroup};

/// No value is evicted before it is invalidated.
fn room(keys: usize) -> u64 {
    2 * keys.max(10_000) as u64
}

pub(crate) struct Moka<K, V>(moka::future::Cache<K, V, RandomState>);

impl<K, V> AsyncGroup<K, V> for Moka<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Some are woken again by its lock of readers and writers.
    const WAKES_ONCE: bool = false;

    fn with_capacity(keys: usize) -> Self {
        let builder = moka::future::Cache::builder().max_capacity(room(keys));
        Self(builder.initial_capacity(keys).build_with_hasher(RandomState::new()))
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        let entry = self.0.entry_by_ref(key).or_insert_with(work).await;
        if entry.is_fresh() {
            self.0.invalidate(key).await;
        }
        entry.into_value()
    }
}

pub(crate) struct MokaSync(moka::sync::Cache<u64, u64, RandomState>);

impl BlockingGroup for MokaSync {
    fn fresh() -> Self {
        let builder = moka::sync::Cache::builder().max_capacity(room(0));
        Self(builder.build_with_hasher(RandomState::new()))
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        let entry = self.0.entry_by_ref(&key).or_insert_with(work);
        if entry.is_fresh() {
            self.0.invalidate(&key);
        }
        entry.into_value()
    }
}
