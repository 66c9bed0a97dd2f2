//! The `OnceCell` recipe: a DashMap of `Arc<OnceCell>`, tokio's for tasks and std's `OnceLock` for
//! threads, with our hasher and 64 shards. Whose work filled the cell takes it out of the map.

use std::{
    borrow::Borrow,
    hash::Hash,
    sync::{Arc, OnceLock},
};

use ahash::RandomState;
use dashmap::DashMap;
use kit::contenders::{AsyncGroup, BlockingGroup};
use tokio::sync::OnceCell;

const SHARDS: usize = 64;

pub(crate) struct OnceCellRecipe<K, V> {
    cells: DashMap<K, Arc<OnceCell<V>>, RandomState>,
}

impl<K, V> AsyncGroup<K, V> for OnceCellRecipe<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(keys: usize) -> Self {
        let hasher = RandomState::new();
        Self { cells: DashMap::with_capacity_and_hasher_and_shard_amount(keys, hasher, SHARDS) }
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        let cell = Arc::clone(&self.cells.entry(key.to_owned()).or_default());
        let mut is_mine = false;
        let filled = cell.get_or_init(|| {
            is_mine = true;
            work
        });
        let value = filled.await.clone();
        if is_mine {
            self.cells.remove_if(key, |_, current| Arc::ptr_eq(current, &cell));
        }
        value
    }
}

pub(crate) struct OnceLockRecipe {
    cells: DashMap<u64, Arc<OnceLock<u64>>, RandomState>,
}

impl BlockingGroup for OnceLockRecipe {
    fn fresh() -> Self {
        Self { cells: DashMap::with_hasher_and_shard_amount(RandomState::new(), SHARDS) }
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        let cell = Arc::clone(&self.cells.entry(key).or_default());
        let mut is_mine = false;
        let value = *cell.get_or_init(|| {
            is_mine = true;
            work()
        });
        if is_mine {
            self.cells.remove_if(&key, |_, current| Arc::ptr_eq(current, &cell));
        }
        value
    }
}
