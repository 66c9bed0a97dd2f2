//! The store of the models: one mutex around a list, with moka's face as far as it is used.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
};

use super::{ReadThrough, ReadThroughBuilder};
use crate::sync::{Mutex, lock};

pub(super) struct Store<K, T, S> {
    entries: Mutex<Vec<(K, T)>>,
    _hasher: S,
}

impl<K: Eq + Hash, T: Clone, S> Store<K, T, S> {
    pub(super) fn get<Q: ?Sized + Eq>(&self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
    {
        let entries = lock(&self.entries);
        let found = entries.iter().find(|(k, _)| k.borrow() == key);
        found.map(|(_, value)| value.clone())
    }

    pub(super) fn contains_key<Q: ?Sized + Eq>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        lock(&self.entries).iter().any(|(k, _)| k.borrow() == key)
    }

    pub(super) fn insert(&self, key: K, value: T) {
        let mut entries = lock(&self.entries);
        entries.retain(|(k, _)| *k != key);
        entries.push((key, value));
    }

    pub(super) fn invalidate<Q: ?Sized + Eq>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        lock(&self.entries).retain(|(k, _)| k.borrow() != key);
    }

    /// moka compares dates, which leaves a doubt about what is stored at the same instant. So nothing is
    /// removed here: that it is not found must be the doing of others.
    pub(super) fn invalidate_all(&self) {}
}

impl<K, T, S> Store<K, T, S> {
    pub(super) fn entry_count(&self) -> u64 {
        lock(&self.entries).len() as u64
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
        self.made_by(|_, hasher, _| Store { entries: Mutex::new(Vec::new()), _hasher: hasher })
    }
}
