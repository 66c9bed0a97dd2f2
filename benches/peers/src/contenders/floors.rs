//! Floors: the parts that a singleflight is made of, alone. None of them is one: nobody joins, or
//! everybody does, whatever the key.

use std::{
    borrow::Borrow,
    collections::HashMap,
    future::poll_fn,
    hash::Hash,
    sync::{
        Mutex,
        atomic::{
            AtomicU64,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    task::{Poll, Waker},
    thread::{self, Thread},
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

/// Wakers in a vector under a mutex: the first to come leads, and wakes all that came after it.
pub(crate) struct BareWakers {
    /// `None` while nobody leads.
    waiting: Mutex<Option<Vec<Waker>>>,
    value: AtomicU64,
}

impl<K: 'static> AsyncGroup<K> for BareWakers {
    fn with_capacity(_keys: usize) -> Self {
        Self { waiting: Mutex::new(None), value: AtomicU64::new(0) }
    }

    async fn run<'a, Q, F>(&'a self, _key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        let mut has_waited = false;
        let leads = poll_fn(|cx| {
            if has_waited {
                return Poll::Ready(false);
            }
            let mut waiting = self.waiting.lock().expect("nothing panics under it");
            match &mut *waiting {
                Some(wakers) => {
                    wakers.push(cx.waker().clone());
                    has_waited = true;
                    Poll::Pending
                }
                None => {
                    *waiting = Some(Vec::new());
                    Poll::Ready(true)
                }
            }
        });
        if !leads.await {
            return self.value.load(Acquire);
        }
        let value = work.await;
        self.value.store(value, Release);
        let wakers = self.waiting.lock().expect("nothing panics under it").take();
        wakers.into_iter().flatten().for_each(Waker::wake);
        value
    }
}

/// Parked threads in a vector under a mutex, likewise.
pub(crate) struct BareThreads {
    waiting: Mutex<Option<Vec<Thread>>>,
    /// 0 while nobody has landed.
    value: AtomicU64,
}

impl BlockingGroup for BareThreads {
    fn fresh() -> Self {
        Self { waiting: Mutex::new(None), value: AtomicU64::new(0) }
    }

    fn run_blocking(&self, _key: u64, work: impl FnOnce() -> u64) -> u64 {
        let mut waiting = self.waiting.lock().expect("nothing panics under it");
        if let Some(threads) = &mut *waiting {
            threads.push(thread::current());
            drop(waiting);
            while self.value.load(Acquire) == 0 {
                thread::park();
            }
            return self.value.load(Acquire);
        }
        *waiting = Some(Vec::new());
        drop(waiting);
        let value = work();
        self.value.store(value, Release);
        let threads = self.waiting.lock().expect("nothing panics under it").take();
        threads.into_iter().flatten().for_each(|thread| thread.unpark());
        value
    }
}
