//! A floor for many keys in flight: for each key a word of its own, one compare-exchange to come and
//! one to go, and nothing else. Not a singleflight: keys are not compared, and nobody can join.

use std::{
    borrow::Borrow,
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Relaxed},
};

use ahash::RandomState;

use super::AsyncGroup;

pub struct BareCells {
    cells: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl BareCells {
    fn exchange(&self, hash: u64, from: u64, to: u64) {
        let cell = &self.cells[hash as usize & (self.cells.len() - 1)];
        // Of two keys in one cell the second goes without: nothing depends on it.
        let _ = cell.compare_exchange(from, to, AcqRel, Relaxed);
    }
}

impl<K: 'static> AsyncGroup<K> for BareCells {
    fn with_capacity(keys: usize) -> Self {
        let cells = (0..(4 * keys).next_power_of_two()).map(|_| AtomicU64::new(0)).collect();
        Self { cells, hasher: RandomState::new() }
    }

    /// As many as a group has that was asked for no capacity.
    fn fresh() -> Self {
        <Self as AsyncGroup<K>>::with_capacity(1_024)
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        let hash = self.hasher.hash_one(key);
        self.exchange(hash, 0, 1);
        let value = work.await;
        self.exchange(hash, 1, 0);
        value
    }
}
