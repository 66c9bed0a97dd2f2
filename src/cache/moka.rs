//! The store of production: moka, and what is said of it in public.

use std::{
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    time::{Duration, Instant},
};

use ahash::RandomState;
use moka::{
    Expiry,
    sync::{Cache, CacheBuilder},
};

use super::{Kept, ReadThrough, ReadThroughBuilder};

pub(super) type Store<K, T, S> = Cache<K, T, S>;

/// A moka cache for [`ReadThrough::over`].
pub type Configured<K, V, E, S = RandomState> = Cache<K, Kept<V, E>, S>;

/// moka's own settings, of a cache to be.
pub type Settings<K, V, E> = CacheBuilder<K, Kept<V, E>, Cache<K, Kept<V, E>>>;

impl<K, V, E, S> ReadThroughBuilder<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// How much the cache holds: so many values or, if moka has a weigher, of so much weight. The default is
    /// no limit. It is one of moka's [`settings`](Self::settings), in short.
    pub fn max_capacity(self, capacity: u64) -> Self {
        self.settings(|moka| moka.max_capacity(capacity))
    }

    /// Settings of moka: weigher, listener, time to idle, eviction policy, name, and whatever else it has.
    ///
    /// A [`time_to_live`](Self::time_to_live) is better set here than there: moka would drop at its end what
    /// [`stale_if_error`](Self::stale_if_error) wants to keep. An `expire_after` is replaced if values have
    /// [times of their own](Self::time_to_live_of), or errors are [kept](Self::negative_ttl).
    ///
    /// moka calls an eviction listener while the key is locked: it must not use the `ReadThrough` with that
    /// key, which would wait for itself.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::time::Duration;
    ///
    /// let pages: ReadThrough<String, String, String> = ReadThrough::builder()
    ///     .settings(|moka| moka.name("pages").time_to_idle(Duration::from_secs(600)))
    ///     .build();
    /// assert_eq!(pages.moka().name(), Some("pages"));
    /// ```
    pub fn settings(mut self, change: impl FnOnce(Settings<K, V, E>) -> Settings<K, V, E>) -> Self {
        self.cache = change(self.cache);
        self
    }

    /// Makes the cache. Whatever moka can see to it is told: what it drops by itself need not be dated.
    pub fn build(self) -> ReadThrough<K, V, E, S> {
        self.made_by(|settings, hasher, lifetimes| {
            let do_differ = lifetimes.ttl_of.is_some() || lifetimes.negative_ttl.is_some();
            let settings = match lifetimes.ttl.map(|ttl| lifetimes.keep_for(ttl)) {
                _ if do_differ => {
                    settings.expire_after(ByDates { others: lifetimes.ttl, kept: PhantomData })
                }
                Some(ttl) if ttl <= LONGEST => settings.time_to_live(ttl),
                _ => settings,
            };
            let store = settings.build_with_hasher(hasher);
            lifetimes.ttl = lifetimes.ttl.or(store.policy().time_to_live());
            store
        })
    }
}

impl<K, V, E, S> ReadThroughBuilder<K, V, E, S, Configured<K, V, E, S>>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// Puts the rest around the cache.
    pub fn build(self) -> ReadThrough<K, V, E, S> {
        self.made_by(|store, _, lifetimes| {
            lifetimes.has_own_end = lifetimes.ttl.is_some();
            lifetimes.ttl = lifetimes.ttl.or(store.policy().time_to_live());
            store
        })
    }
}

/// moka takes no longer ones than a thousand years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// Each entry has its own time.
struct ByDates<V, E> {
    /// Of those that have no dates.
    others: Option<Duration>,
    kept: PhantomData<fn() -> (V, E)>,
}

impl<K, V, E> Expiry<K, Kept<V, E>> for ByDates<V, E> {
    fn expire_after_create(&self, _: &K, kept: &Kept<V, E>, _: Instant) -> Option<Duration> {
        let time = kept.dates.as_ref().map_or(self.others, |dated| Some(dated.dates.keep_for));
        time.filter(|time| *time <= LONGEST)
    }

    fn expire_after_update(
        &self,
        key: &K,
        kept: &Kept<V, E>,
        now: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(key, kept, now)
    }
}

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Default + Send + Sync + 'static,
{
    /// Starts building one over a moka cache that has been configured already.
    ///
    /// Whatever it was told holds. What moka cannot be told any more, like a [time to
    /// live](ReadThroughBuilder::time_to_live), is seen to at each look: then a value that has expired is not
    /// found, but stays in memory until moka evicts it.
    ///
    /// Nobody else should write to the cache. What is inserted, or invalidated, past the `ReadThrough` does
    /// not concern loads that are under way. The group of loads has a hasher of its own, of the same type.
    ///
    /// ```
    /// use moka::sync::Cache;
    /// use shardflight::cache::{Configured, ReadThrough};
    /// use std::time::Duration;
    ///
    /// let cache: Configured<String, u64, String> = Cache::builder()
    ///     .max_capacity(100)
    ///     .time_to_idle(Duration::from_secs(60))
    ///     .build_with_hasher(ahash::RandomState::new());
    /// let numbers = ReadThrough::over(cache).negative_ttl(Duration::from_secs(1)).build();
    /// assert_eq!(numbers.get_blocking("seven", || Ok(7)), Ok(7));
    /// ```
    pub fn over(
        cache: Configured<K, V, E, S>,
    ) -> ReadThroughBuilder<K, V, E, S, Configured<K, V, E, S>> {
        ReadThroughBuilder::new(cache, S::default())
    }
}

impl<K, V, E, S> ReadThrough<K, V, E, S> {
    /// The moka cache behind this: for its numbers, its iterator,
    /// [`run_pending_tasks`](Cache::run_pending_tasks).
    ///
    /// An invalidation that is made there is not final: a load under way stores its value all the same.
    ///
    /// ```
    /// # use shardflight::cache::ReadThrough;
    /// let names: ReadThrough<u64, String, String> = ReadThrough::builder().build();
    /// names.insert(&7, "Seven".to_owned());
    /// names.moka().run_pending_tasks();
    /// assert_eq!(names.moka().entry_count(), 1);
    /// ```
    pub fn moka(&self) -> &Configured<K, V, E, S> {
        &self.core.store
    }
}
