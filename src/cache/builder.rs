//! `ReadThroughBuilder`: the settings of a cache to be.

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use ahash::RandomState;

use super::{
    EarlyRefresh, Kept, ReadThrough,
    backend::{Settings, Store},
    clock::Clock,
    lifetimes::Lifetimes,
    loads::Loads,
    read_through::Core,
};
use crate::{Group, GroupBuilder, Observer, sync::Arc};

/// Settings of a [`ReadThrough`] to be. Made by [`ReadThrough::builder`], or by `ReadThrough::over` a cache that
/// is configured already.
///
/// How long a value is good for:
///
/// ```text
/// loaded                soft_ttl               time_to_live          + stale_if_error
///   │ fresh                │ stale                 │ spare                  │
///   ├──────────────────────┼───────────────────────┼────────────────────────┤
///   │ is the answer        │ is the answer, and    │ is the answer only     │
///   │                      │ is being refreshed    │ if the load fails      │
/// ```
///
/// ```
/// use shardflight::cache::{EarlyRefresh, ReadThrough};
/// use std::{sync::Arc, time::Duration};
///
/// let pages: ReadThrough<String, Arc<str>, Arc<std::io::Error>> = ReadThrough::builder()
///     .max_capacity(10_000)
///     .time_to_live(Duration::from_secs(300))
///     .soft_ttl(Duration::from_secs(60))
///     .early_refresh(EarlyRefresh::Jitter(Duration::from_secs(10)))
///     .stale_if_error(Duration::from_secs(3_600))
///     .negative_ttl(Duration::from_secs(1))
///     .build();
/// # assert_eq!(pages.loading(), 0);
/// ```
#[must_use]
pub struct ReadThroughBuilder<K, V, E, S = RandomState, C = Settings<K, V, E>> {
    pub(super) cache: C,
    hasher: S,
    lifetimes: Lifetimes<K, V>,
    max_age: Option<Duration>,
    group: GroupBuilder<K, Result<V, E>>,
}

impl<K, V, E> ReadThrough<K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Starts building a cache. Without settings it is one without limits, whose values stay.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    ///
    /// let names: ReadThrough<u64, String, String> = ReadThrough::builder().max_capacity(100).build();
    /// # assert_eq!(names.loading(), 0);
    /// ```
    pub fn builder() -> ReadThroughBuilder<K, V, E> {
        ReadThrough::builder_with_hasher(RandomState::new())
    }
}

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// The same with a hasher of the caller's, for moka and the [`Group`] alike.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::hash::RandomState;
    ///
    /// let names: ReadThrough<u64, String, String, RandomState> =
    ///     ReadThrough::builder_with_hasher(RandomState::new()).build();
    /// # assert_eq!(names.loading(), 0);
    /// ```
    pub fn builder_with_hasher(hasher: S) -> ReadThroughBuilder<K, V, E, S> {
        ReadThroughBuilder::new(Settings::default(), hasher)
    }
}

impl<K, V, E, S, C> ReadThroughBuilder<K, V, E, S, C>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    pub(super) fn new(cache: C, hasher: S) -> Self {
        let (lifetimes, group) = (Lifetimes::default(), Group::builder());
        Self { cache, hasher, lifetimes, max_age: None, group }
    }

    /// A value is good for so long after it was loaded or inserted. The default is for as long as moka keeps it.
    ///
    /// As long as no other time is set moka sees to it alone, and a look-up does not read the clock.
    pub fn time_to_live(mut self, ttl: Duration) -> Self {
        self.lifetimes.ttl = Some(ttl);
        self
    }

    /// A value that says itself how long it is good for: a token with an expiry, a response with a `max-age`.
    /// Where `ttl_of` returns `None` the [`time_to_live`](Self::time_to_live) holds. It is asked once for each
    /// value, when that is stored. [`stale_if_error`](Self::stale_if_error) comes on top of it: of what must not be
    /// used beyond its end subtract that here.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// #[derive(Clone)]
    /// struct Token {
    ///     secret: String,
    ///     expires_in: Duration,
    /// }
    ///
    /// // Each is used until half a minute before its end.
    /// let tokens: ReadThrough<String, Token, Infallible> = ReadThrough::builder()
    ///     .time_to_live_of(|_, token: &Token| {
    ///         Some(token.expires_in.saturating_sub(Duration::from_secs(30)))
    ///     })
    ///     .build();
    ///
    /// # futures_lite::future::block_on(async {
    /// async fn fetch_token(_audience: &str) -> Result<Token, Infallible> {
    ///     Ok(Token { secret: "hunter2".to_owned(), expires_in: Duration::from_secs(3_600) })
    /// }
    /// let Ok(token) = tokens.get("billing", fetch_token("billing")).await;
    /// assert_eq!(token.secret, "hunter2");
    /// # });
    /// ```
    pub fn time_to_live_of(
        mut self,
        ttl_of: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.lifetimes.ttl_of = Some(Box::new(ttl_of));
        self
    }

    /// Stale-while-revalidate: so long after it was loaded a value is still the answer, at once, but the first
    /// look-up that finds it begins to load a new one. The [time to live](Self::time_to_live), if there is one,
    /// should be longer: between the two no look-up of a key that is asked for ever waits, if it is one by
    /// `get_spawning`; with [`get`](ReadThrough::get) one of them does.
    pub fn soft_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.soft_ttl = Some(ttl);
        self
    }

    /// The same for each value by itself, like [`time_to_live_of`](Self::time_to_live_of). Where `ttl_of` returns
    /// `None` the [`soft_ttl`](Self::soft_ttl) holds.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::{convert::Infallible, time::Duration};
    ///
    /// #[derive(Clone)]
    /// struct Token {
    ///     expires_in: Duration,
    /// }
    ///
    /// // Each is replaced when seven tenths of its time are over.
    /// let tokens: ReadThrough<String, Token, Infallible> = ReadThrough::builder()
    ///     .time_to_live_of(|_, token: &Token| Some(token.expires_in))
    ///     .soft_ttl_of(|_, token: &Token| Some(token.expires_in.mul_f64(0.7)))
    ///     .build();
    /// # drop(tokens);
    /// ```
    pub fn soft_ttl_of(
        mut self,
        ttl_of: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.lifetimes.soft_ttl_of = Some(Box::new(ttl_of));
        self
    }

    /// Refreshes values a little before their time, each at another moment. The default is not to.
    pub fn early_refresh(mut self, early: EarlyRefresh) -> Self {
        self.lifetimes.early = Some(early);
        self
    }

    /// For so long after its [time to live](Self::time_to_live) a value is still the answer if a load of its key
    /// fails: RFC 5861's `stale-if-error`. The default is not at all.
    ///
    /// Each call tries to load first, unless errors are [kept](Self::negative_ttl): then the old value is the
    /// answer for that time, and only then somebody tries again. A load that panics has no answer at all.
    pub fn stale_if_error(mut self, time: Duration) -> Self {
        self.lifetimes.stale_if_error = Some(time);
        self
    }

    /// Keeps errors for so long, so that a key that fails is not tried by each caller. A second or less is
    /// usual: it is how long a failure that is over is still believed. The default is not at all: errors go
    /// to all who share the load, and the next call loads again.
    ///
    /// Where there is an old value that may be used, this is how long after a failure it is not refreshed.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.lifetimes.negative_ttl = Some(ttl);
        self
    }

    /// A load that is older is not waited for by those who come: [`Call::max_age`](crate::Call::max_age). The
    /// default is no limit.
    ///
    /// Loads are better given a timeout of their own. This is for those that have none: callers of a key
    /// whose load hangs would all hang.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Tells `observer` of look-ups and loads, and of the flights of the loads.
    ///
    /// ```
    /// use shardflight::{Stats, cache::ReadThrough};
    /// use std::sync::Arc;
    ///
    /// let stats = Arc::new(Stats::default());
    /// let names: ReadThrough<u64, String, String> =
    ///     ReadThrough::builder().observer(stats.clone()).build();
    /// for _ in 0..4 {
    ///     names.get_blocking(&7, || Ok("Seven".to_owned()))?;
    /// }
    /// let counted = stats.snapshot();
    /// assert_eq!((counted.loads, counted.hits, counted.hit_rate()), (1, 3, Some(0.75)));
    /// # Ok::<(), String>(())
    /// ```
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.group = self.group.observer(observer);
        self
    }

    /// Puts the rest around the store.
    pub(super) fn made_by(
        self,
        make: impl FnOnce(C, S, &mut Lifetimes<K, V>) -> Store<K, Kept<V, E>, S>,
    ) -> ReadThrough<K, V, E, S> {
        let Self { cache, hasher, mut lifetimes, max_age, group } = self;
        let store = make(cache, hasher.clone(), &mut lifetimes);
        let group = group.hasher(hasher.clone()).build();
        let watch = group.core().table().watch().cloned();
        let (loads, clock) = (Loads::new(), Clock::new());
        let core = Core { store, group, loads, lifetimes, clock, hasher, max_age, watch };
        ReadThrough { core: Arc::new(core) }
    }
}

impl<K, V, E, S, C> fmt::Debug for ReadThroughBuilder<K, V, E, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThroughBuilder")
            .field("lifetimes", &self.lifetimes)
            .field("max_age", &self.max_age)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}
