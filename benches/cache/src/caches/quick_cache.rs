//! quick_cache: it has no times, keeps no log of look-ups, and shares loads.

use std::{convert::Infallible, pin::pin};

use ahash::RandomState;
use kit::slots::ready;
use quick_cache::{
    UnitWeighter,
    sync::{Cache as QuickCache, DefaultLifecycle},
};

use super::{Cache, Settings};
use crate::types::{Key, Value};

type Quick<K, V> = QuickCache<K, V, UnitWeighter, RandomState>;

/// `get`, and `insert` if that finds nothing.
pub(crate) struct QuickGet<K, V>(Quick<K, V>);

pub(crate) struct QuickGetOrInsertWith<K, V>(Quick<K, V>);

pub(crate) struct QuickAsync<K, V>(Quick<K, V>);

fn fresh<K: Key, V: Value>(settings: &Settings) -> Quick<K, V> {
    let Settings { capacity, hasher, .. } = settings.clone();
    let lifecycle = DefaultLifecycle::default();
    Quick::with(capacity as usize, capacity, UnitWeighter, hasher, lifecycle)
}

impl<K: Key, V: Value> Cache<K, V> for QuickGet<K, V> {
    const NAME: &'static str = "quick_cache get (insert)";
    const KNOWS_TIME: bool = false;

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        self.0.get(key).unwrap_or_else(|| {
            let value = load();
            self.0.insert(key.to_owned(), value.clone());
            value
        })
    }
}

impl<K: Key, V: Value> Cache<K, V> for QuickGetOrInsertWith<K, V> {
    const NAME: &'static str = "quick_cache get_or_insert_with";
    const KNOWS_TIME: bool = false;

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        let Ok(value) = self.0.get_or_insert_with(key, || Ok::<_, Infallible>(load()));
        value
    }
}

impl<K: Key, V: Value> Cache<K, V> for QuickAsync<K, V> {
    const NAME: &'static str = "quick_cache get_or_insert_async";
    const KNOWS_TIME: bool = false;

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        let load = async { Ok::<_, Infallible>(load()) };
        let Ok(value) = ready(pin!(self.0.get_or_insert_async(key, load)));
        value
    }
}
