//! moka by itself: with nothing around it, and with its own ways to share loads.

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use ahash::RandomState;
use kit::slots::ready;
use moka::Expiry;

use super::{Cache, Settings, TTL, Times};
use crate::types::{Key, Value};

/// `get`, and `insert` if that finds nothing.
pub(crate) struct MokaGet<K, V>(moka::sync::Cache<K, V, RandomState>);

/// The same, to tell noise.
pub(crate) struct MokaAgain<K, V>(moka::sync::Cache<K, V, RandomState>);

pub(crate) struct MokaGetWith<K, V>(moka::sync::Cache<K, V, RandomState>);

pub(crate) struct MokaFuture<K, V>(moka::future::Cache<K, V, RandomState>);

/// Builders of both modules are set alike, but have no type in common.
macro_rules! build {
    ($builder:expr, $settings:expr) => {{
        let Settings { capacity, times, hasher } = $settings.clone();
        let builder = $builder.max_capacity(capacity);
        let builder = match times {
            Times::None => builder,
            Times::Ttl | Times::SoftTtl | Times::TtlAndStats => builder.time_to_live(TTL),
            Times::NegativeTtl | Times::TtlOf => builder.expire_after(Constant),
        };
        builder.build_with_hasher(hasher)
    }};
}

struct Constant;

impl<K, V> Expiry<K, V> for Constant {
    fn expire_after_create(&self, _: &K, _: &V, _: Instant) -> Option<Duration> {
        Some(TTL)
    }
}

fn sync<K: Key, V: Value>(settings: &Settings) -> moka::sync::Cache<K, V, RandomState> {
    build!(moka::sync::Cache::builder(), settings)
}

#[inline(always)]
fn get_or_insert<K: Key, V: Value>(
    cache: &moka::sync::Cache<K, V, RandomState>,
    key: &K::Look,
    load: impl FnOnce() -> V,
) -> V {
    cache.get(key).unwrap_or_else(|| {
        let value = load();
        cache.insert(key.to_owned(), value.clone());
        value
    })
}

impl<K: Key, V: Value> Cache<K, V> for MokaGet<K, V> {
    const NAME: &'static str = "moka get (insert)";

    fn fresh(settings: &Settings) -> Self {
        Self(sync(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        get_or_insert(&self.0, key, load)
    }
}

impl<K: Key, V: Value> Cache<K, V> for MokaAgain<K, V> {
    const NAME: &'static str = "the same, again: the noise";

    fn fresh(settings: &Settings) -> Self {
        Self(sync(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        get_or_insert(&self.0, key, load)
    }
}

impl<K: Key, V: Value> Cache<K, V> for MokaGetWith<K, V> {
    const NAME: &'static str = "moka get_with";

    fn fresh(settings: &Settings) -> Self {
        Self(sync(settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        self.0.get_with_by_ref(key, load)
    }
}

impl<K: Key, V: Value> Cache<K, V> for MokaFuture<K, V> {
    const NAME: &'static str = "moka future get_with";

    fn fresh(settings: &Settings) -> Self {
        Self(build!(moka::future::Cache::builder(), settings))
    }

    #[inline]
    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V {
        ready(pin!(self.0.get_with_by_ref(key, async { load() })))
    }
}
