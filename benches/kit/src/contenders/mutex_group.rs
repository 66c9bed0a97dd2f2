//! The contender: the algorithm of Go's `golang.org/x/sync/singleflight` for async callers, as a
//! good engineer would carry it over. One mutex over one map, one `Arc`ed call per key.
//!
//! Its hasher is shardflight's unless a row says otherwise, so that hashing is not what is compared.
//! Where Go has goroutines
//! that cannot be cancelled, a dropped (or panicking) leader forgets its key and wakes everybody,
//! and each of them tries again. That is the minimum: it does not hand the lead on within the
//! flight, does not tell panics from cancellations, notices no recursion, and has neither `Forget`
//! nor the `shared` flag of Go's result, which would cost it a little more.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::{BuildHasher, Hash},
    sync::{Arc, Mutex, OnceLock},
};

use ahash::RandomState;
use tokio::sync::Notify;

pub struct MutexGroup<K, V, S = RandomState> {
    calls: Mutex<HashMap<K, Arc<Call<V>>, S>>,
}

struct Call<V> {
    /// `None` inside: the leader went without a value.
    outcome: OnceLock<Option<V>>,
    done: Notify,
}

impl<V: Clone> Call<V> {
    async fn wait(&self) -> Option<V> {
        // Made before the look at the outcome: from here on `notify_waiters` reaches it even if it
        // has not been polled, so it needs no `enable`, which would lock once more.
        let notified = self.done.notified();
        if self.outcome.get().is_none() {
            notified.await;
        }
        self.outcome.get().cloned().flatten()
    }
}

enum Entered<'a, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash,
{
    Lead(Lead<'a, K, V, S, Q>),
    Follow(Arc<Call<V>>),
}

impl<K: Eq + Hash, V: Clone, S: BuildHasher + Default> MutexGroup<K, V, S> {
    pub fn with_capacity(keys: usize) -> Self {
        Self { calls: Mutex::new(HashMap::with_capacity_and_hasher(keys, S::default())) }
    }

    pub async fn run<Q, F>(&self, key: &Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = V>,
    {
        loop {
            match self.enter(key) {
                Entered::Lead(lead) => return lead.land(work.await),
                Entered::Follow(call) => {
                    if let Some(value) = call.wait().await {
                        return value;
                    }
                }
            }
        }
    }

    fn enter<'a, Q>(&'a self, key: &'a Q) -> Entered<'a, K, V, S, Q>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let mut calls = self.calls.lock().expect("nothing panics under it");
        // Not `entry`: it would make those who join copy their key, too.
        if let Some(call) = calls.get(key) {
            return Entered::Follow(Arc::clone(call));
        }
        let call = Arc::new(Call { outcome: OnceLock::new(), done: Notify::new() });
        calls.insert(key.to_owned(), Arc::clone(&call));
        Entered::Lead(Lead { group: self, key, call })
    }
}

/// Ends the call when it is dropped, with whatever outcome it has by then.
struct Lead<'a, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash,
{
    group: &'a MutexGroup<K, V, S>,
    key: &'a Q,
    call: Arc<Call<V>>,
}

impl<K, V, S, Q> Lead<'_, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash,
{
    fn land(self, value: V) -> V {
        self.call.outcome.get_or_init(|| Some(value.clone()));
        value
    }
}

impl<K, V, S, Q> Drop for Lead<'_, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash,
{
    fn drop(&mut self) {
        self.call.outcome.get_or_init(|| None);
        let calls = &self.group.calls;
        // Bound, so that key and call are dropped after the lock is released.
        let _removed = calls.lock().expect("nothing panics under it").remove_entry(self.key);
        self.call.done.notify_waiters();
    }
}
