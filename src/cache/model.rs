//! The store of the models: a log of what was done to each key, with moka's face as far as it is used.
//!
//! A look reads how long the log is without any order, and so may miss what was done last, unless something
//! else has told it: like moka's readers, which take no lock. That an invalidation is seen must be the doing of
//! the crate.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
};

use super::{ReadThrough, ReadThroughBuilder};
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

pub(super) struct Store<K, T, S> {
    log: Mutex<Vec<Change<K, T>>>,
    length: AtomicU64,
    _hasher: S,
}

enum Change<K, T> {
    Put(K, T),
    /// Of what was put at this place of the log.
    Removed(usize),
}

impl<K: Eq + Hash, T: Clone, S> Store<K, T, S> {
    pub(super) fn get<Q: ?Sized + Eq>(&self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
    {
        // Relaxed: see above.
        let seen = self.length.load(Ordering::Relaxed) as usize;
        let log = lock(&self.log);
        latest(&log[..seen], key).map(|(_, value)| value.clone())
    }

    pub(super) fn contains_key<Q: ?Sized + Eq>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub(super) fn insert(&self, key: K, value: T) {
        self.append(&mut lock(&self.log), Change::Put(key, value));
    }

    pub(super) fn invalidate<Q: ?Sized + Eq>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut log = lock(&self.log);
        if let Some(place) = latest(&log, key).map(|(place, _)| place) {
            self.append(&mut log, Change::Removed(place));
        }
    }

    /// moka compares dates, which leaves a doubt about what is stored at the same instant. So nothing is
    /// removed here: that it is not found must be the doing of others.
    pub(super) fn invalidate_all(&self) {}

    fn append(&self, log: &mut Vec<Change<K, T>>, change: Change<K, T>) {
        log.push(change);
        // Relaxed: as above.
        self.length.store(log.len() as u64, Ordering::Relaxed);
    }
}

/// What was put last under the key, unless it was removed, and its place.
fn latest<'l, K, T, Q>(log: &'l [Change<K, T>], key: &Q) -> Option<(usize, &'l T)>
where
    K: Borrow<Q>,
    Q: ?Sized + Eq,
{
    let puts = log.iter().enumerate().filter_map(|(place, change)| match change {
        Change::Put(k, value) if k.borrow() == key => Some((place, value)),
        _ => None,
    });
    let last = puts.last()?;
    let is_removed = |change: &Change<K, T>| matches!(change, Change::Removed(p) if *p == last.0);
    (!log.iter().any(is_removed)).then_some(last)
}

impl<K, T, S> Store<K, T, S> {
    fn new(hasher: S) -> Self {
        Self { log: Mutex::new(Vec::new()), length: AtomicU64::new(0), _hasher: hasher }
    }

    pub(super) fn entry_count(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }
}

/// There are none.
#[derive(Debug)]
pub struct Settings<K, V, E>(PhantomData<(K, V, E)>);

impl<K, V, E> Default for Settings<K, V, E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K, V, E, S> ReadThroughBuilder<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// Makes the cache.
    pub fn build(self) -> ReadThrough<K, V, E, S> {
        self.made_by(|_, hasher, _| Store::new(hasher))
    }
}

impl<K, V, E, S> ReadThrough<K, V, E, S> {
    /// Whether nothing is left of any load.
    pub fn is_idle(&self) -> bool {
        self.core.loads.is_idle()
    }
}
