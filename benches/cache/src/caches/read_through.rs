//! `ReadThrough`, and its ways to look something up.

use std::{io, pin::pin, sync::Arc, time::Duration};

use kit::slots::ready;
use shardflight::{Stats, cache::ReadThrough};

use super::{Cache, SOFT_TTL, Settings, TTL, Times};
use crate::types::{Key, Value};

/// As a cache in front of something that fails would have it.
type Fallible<K, V> = ReadThrough<K, V, Arc<io::Error>>;

/// `get_blocking`.
pub(crate) struct Blocking<K, V>(Fallible<K, V>);

/// `get`, polled once.
pub(crate) struct Async<K, V>(Fallible<K, V>);

/// `get_if_present`, and `insert` if that finds nothing.
pub(crate) struct Present<K, V>(Fallible<K, V>);

fn fresh<K: Key, V: Value>(settings: &Settings) -> Fallible<K, V> {
    let Settings { capacity, times, hasher } = settings.clone();
    let builder = ReadThrough::builder_with_hasher(hasher).max_capacity(capacity);
    match times {
        Times::None => builder,
        Times::Ttl => builder.time_to_live(TTL),
        Times::SoftTtl => builder.time_to_live(TTL).soft_ttl(SOFT_TTL),
        Times::NegativeTtl => builder.time_to_live(TTL).negative_ttl(Duration::from_secs(1)),
        Times::TtlOf => builder.time_to_live_of(|_, _| Some(TTL)),
        Times::TtlAndStats => builder.time_to_live(TTL).observer(Stats::default()),
    }
    .build()
}

impl<K: Key, V: Value> Cache<K, V> for Blocking<K, V> {
    const NAME: &'static str = "ReadThrough get_blocking";

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        let Ok(value) = self.0.get_blocking(key, || Ok(load())) else { unreachable!("none fails") };
        value
    }
}

impl<K: Key, V: Value> Cache<K, V> for Async<K, V> {
    const NAME: &'static str = "ReadThrough get";

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        let Ok(value) = ready(pin!(self.0.get(key, async { Ok(load()) }))) else {
            unreachable!("none fails")
        };
        value
    }
}

impl<K: Key, V: Value> Cache<K, V> for Present<K, V> {
    const NAME: &'static str = "ReadThrough get_if_present (insert)";

    fn fresh(settings: &Settings) -> Self {
        Self(fresh(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        self.0.get_if_present(key).unwrap_or_else(|| {
            let value = load();
            self.0.insert(key, value.clone());
            value
        })
    }
}
