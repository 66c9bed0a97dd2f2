//! quick_cache: a cache that coalesces its misses. Who gets the guard of `get_value_or_guard` runs the
//! work, inserts the value, and removes it again, so that nothing stays. With our hasher.

use std::{borrow::Borrow, hash::Hash};

use ahash::RandomState;
use kit::contenders::{AsyncGroup, BlockingGroup};
use quick_cache::{
    UnitWeighter,
    sync::{Cache, DefaultLifecycle, GuardResult},
};

pub(crate) struct QuickCache<K, V>(Cache<K, V, UnitWeighter, RandomState>);

impl<K: Eq + Hash, V: Clone> QuickCache<K, V> {
    /// With so much room that no value is evicted before it is removed.
    fn with_room(keys: usize) -> Self {
        let keys = 2 * keys.max(10_000);
        let (hasher, lifecycle) = (RandomState::new(), DefaultLifecycle::default());
        Self(Cache::with(keys, keys as u64, UnitWeighter, hasher, lifecycle))
    }
}

impl<K, V> AsyncGroup<K, V> for QuickCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(keys: usize) -> Self {
        Self::with_room(keys)
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        match self.0.get_value_or_guard_async(key).await {
            Ok(value) => value,
            Err(guard) => {
                let value = work.await;
                let inserted = guard.insert(value.clone());
                debug_assert!(inserted.is_ok(), "nobody else removes it");
                self.0.remove(key);
                value
            }
        }
    }
}

impl BlockingGroup for QuickCache<u64, u64> {
    fn fresh() -> Self {
        Self::with_room(0)
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        match self.0.get_value_or_guard(&key, None) {
            GuardResult::Value(value) => value,
            GuardResult::Guard(guard) => {
                let value = work();
                let inserted = guard.insert(value);
                debug_assert!(inserted.is_ok(), "nobody else removes it");
                self.0.remove(&key);
                value
            }
            GuardResult::Timeout => unreachable!("none was set"),
        }
    }
}
