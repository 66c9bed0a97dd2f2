//! Floors: the parts that a singleflight is made of, alone. None of them is one: nobody joins. Those of
//! herds are in `kit`.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{
        Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Relaxed},
        },
    },
};

use ahash::RandomState;
use dashmap::DashMap;
use kit::contenders::{AsyncGroup, BlockingGroup};

/// A sharded map: the key goes in before the work and out after it.
pub(crate) struct BareDashMap<K>(DashMap<K, u64, RandomState>);

impl<K: Eq + Hash + Send + Sync + 'static> AsyncGroup<K> for BareDashMap<K> {
    fn with_capacity(keys: usize) -> Self {
        Self(DashMap::with_capacity_and_hasher_and_shard_amount(keys, RandomState::new(), 64))
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        self.0.insert(key.to_owned(), 1);
        let value = work.await;
        self.0.remove(key);
        value
    }
}

impl BlockingGroup for BareDashMap<u64> {
    fn fresh() -> Self {
        <Self as AsyncGroup<u64>>::fresh()
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        self.0.insert(key, 1);
        let value = work();
        self.0.remove(&key);
        value
    }
}

/// One map under one mutex, likewise.
pub(crate) struct BareMutexMap<K>(Mutex<HashMap<K, u64, RandomState>>);

impl<K: Eq + Hash + Send + Sync + 'static> AsyncGroup<K> for BareMutexMap<K> {
    fn with_capacity(keys: usize) -> Self {
        Self(Mutex::new(HashMap::with_capacity_and_hasher(keys, RandomState::new())))
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        self.0.lock().expect("nothing panics under it").insert(key.to_owned(), 1);
        let value = work.await;
        self.0.lock().expect("nothing panics under it").remove(key);
        value
    }
}

impl BlockingGroup for BareMutexMap<u64> {
    fn fresh() -> Self {
        <Self as AsyncGroup<u64>>::fresh()
    }

    fn run_blocking(&self, key: u64, work: impl FnOnce() -> u64) -> u64 {
        self.0.lock().expect("nothing panics under it").insert(key, 1);
        let value = work();
        self.0.lock().expect("nothing panics under it").remove(&key);
        value
    }
}

/// The work and nothing else.
pub(crate) struct WorkAlone;

impl<K: 'static> AsyncGroup<K> for WorkAlone {
    fn with_capacity(_keys: usize) -> Self {
        Self
    }

    async fn run<'a, Q, F>(&'a self, _key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        work.await
    }
}

/// Who comes and who goes is counted in one word, by compare-exchange.
pub(crate) struct BareCount(AtomicU64);

struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicU64) -> Self {
        count.fetch_update(AcqRel, Relaxed, |count| Some(count + 1)).expect("always some");
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_update(AcqRel, Relaxed, |count| Some(count - 1)).expect("always some");
    }
}

impl<K: 'static> AsyncGroup<K> for BareCount {
    fn with_capacity(_keys: usize) -> Self {
        Self(AtomicU64::new(0))
    }

    async fn run<'a, Q, F>(&'a self, _key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        let _counted = Counted::new(&self.0);
        work.await
    }
}
