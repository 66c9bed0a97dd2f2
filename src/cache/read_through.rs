//! `ReadThrough`: a cache whose misses share their loads.

use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Duration,
};

use ahash::RandomState;

use super::{
    Kept,
    backend::Store,
    clock::{Clock, Moment},
    kept::{Dated, Dates},
    lifetimes::{Age, Lifetimes},
    loads::{Load, Loads, Stamp, Watch as Watching},
};
use crate::{
    Call, CallError, Group, Observer, Outcome,
    group::unwind,
    observer::{self, Watch},
    panics::DroppedFirst,
    sync::{Arc, Ordering, fence},
};

/// A cache in front of something slow: a look-up that finds nothing loads the value, once for all who ask
/// for it at the same time. See the [module](super) for what it promises.
///
/// `K` is the key, `V` the value, and `E` what a load fails with; of loads that cannot fail
/// [`Infallible`](std::convert::Infallible). Values and errors are cloned for each caller; what is not cheap
/// to clone goes into an [`Arc`](std::sync::Arc). A `ReadThrough` is a handle: clones are cheap and share all.
///
/// The caller's code never runs under a lock of the cache, with one exception: as in every map, a key's `Eq`, `Borrow`
/// and `ToOwned` (which is `Clone` for most keys) may run under one. They must not use the cache.
///
/// ```
/// use shardflight::cache::ReadThrough;
/// use std::{sync::Arc, time::Duration};
///
/// # futures_lite::future::block_on(async {
/// async fn select(id: u64) -> Result<Arc<str>, Arc<std::io::Error>> {
///     Ok(format!("user {id}").into()) // the expensive query
/// }
///
/// let users: ReadThrough<u64, Arc<str>, Arc<std::io::Error>> = ReadThrough::builder()
///     .max_capacity(10_000)
///     .time_to_live(Duration::from_secs(60))
///     .build();
/// assert_eq!(&*users.get(&7, select(7)).await?, "user 7"); // a query
/// assert_eq!(&*users.get(&7, select(7)).await?, "user 7"); // none
/// users.invalidate(&7); // after an update
/// # Ok::<(), Arc<std::io::Error>>(()) }).unwrap();
/// ```
pub struct ReadThrough<K, V, E, S = RandomState> {
    pub(super) core: Arc<Core<K, V, E, S>>,
}

/// What the handles share.
pub(super) struct Core<K, V, E, S> {
    pub(super) store: Store<K, Kept<V, E>, S>,
    pub(super) group: Group<K, Result<V, E>, S>,
    pub(super) loads: Loads,
    pub(super) lifetimes: Lifetimes<K, V>,
    pub(super) clock: Clock,
    pub(super) hasher: S,
    pub(super) max_age: Option<Duration>,
    pub(super) watch: Option<Watch>,
}

/// What a look-up comes to before anything is loaded.
pub(super) enum Looked<V, E> {
    Answer(Result<V, E>),
    /// A value that somebody ought to refresh, and the load that it is of.
    Due(V, Stamp),
    Nothing,
}

/// A load that has begun.
pub(super) struct Loading<'l> {
    load: Load<'l>,
    /// If anybody wants to know how long it takes.
    began: Option<Moment>,
}

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// The key's value from the cache, or else from `load`, which all share that ask meanwhile, async and
    /// [blocking](Self::get_blocking) callers alike.
    ///
    /// A value that `load` returns is kept. An error goes to all who share the load, and is kept only for the
    /// [`negative_ttl`](super::ReadThroughBuilder::negative_ttl), if there is one; where there is an older
    /// value that may still be used ([`soft_ttl`](super::ReadThroughBuilder::soft_ttl),
    /// [`stale_if_error`](super::ReadThroughBuilder::stale_if_error)), all get that instead.
    ///
    /// If the value is to be refreshed, one caller does so and waits for its load; all others get the old value
    /// at once. So that nobody has to wait, use `get_spawning` (feature `tokio`).
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::convert::Infallible;
    ///
    /// # futures_lite::future::block_on(async {
    /// let squares: ReadThrough<u64, u64, Infallible> = ReadThrough::builder().max_capacity(100).build();
    /// let Ok(square) = squares.get(&12, async { Ok(144) }).await;
    /// assert_eq!(square, 144);
    /// let Ok(square) = squares.get(&12, async { unreachable!("it is there") }).await;
    /// assert_eq!(square, 144);
    /// # });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`Group::run`]: dropping a caller that waits affects nobody; dropping the one that loads drops its
    /// load, and another takes over with its own. A value is kept before anybody gets it.
    ///
    /// # Errors
    ///
    /// Those of the load.
    ///
    /// # Panics
    ///
    /// If the load panics, for all callers that share it, as in [`Group::run`]; the panic hook runs once, and the next
    /// call loads anew. If the load
    /// itself asks for its own key, and that is not in the cache.
    pub async fn get<Q, F>(&self, key: &Q, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = Result<V, E>>,
    {
        match self.core.look_up(key) {
            Looked::Answer(answer) => {
                // Before the answer is returned, here and below (see `panics`).
                drop(load);
                answer
            }
            looked => self.core.fetch(key, looked, load).await,
        }
    }

    /// [`get`](Self::get) for threads: blocks while the value is being loaded.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::{fs, io, path::Path, sync::Arc};
    ///
    /// let files: ReadThrough<String, Arc<str>, Arc<io::Error>> =
    ///     ReadThrough::builder().max_capacity(1_000).build();
    /// let read = |path: &str| fs::read_to_string(path).map(Into::into).map_err(Arc::new);
    /// let manifest = files.get_blocking("Cargo.toml", || read("Cargo.toml"))?;
    /// assert!(manifest.contains("shardflight"));
    /// # Ok::<(), Arc<io::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the load.
    ///
    /// # Panics
    ///
    /// As [`get`](Self::get).
    pub fn get_blocking<Q, F>(&self, key: &Q, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: FnOnce() -> Result<V, E>,
    {
        let core = &*self.core;
        let work = |due| match core.begin(key, due) {
            Ok(loading) => core.keep(key, loading, load()),
            Err(answer) => {
                drop(load);
                answer
            }
        };
        match core.look_up(key) {
            Looked::Answer(answer) => {
                drop(work);
                answer
            }
            Looked::Due(value, of) => {
                let call = core.call(key).max_followers(0);
                core.refreshed(value, call.run_blocking(|| work(Some(of))))
            }
            Looked::Nothing => core.loaded(core.call(key).run_blocking(|| work(None))),
        }
    }

    /// The key's value, if it is in the cache; nothing is loaded. An error that is kept is no value.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::convert::Infallible;
    ///
    /// let squares: ReadThrough<u64, u64, Infallible> = ReadThrough::builder().max_capacity(100).build();
    /// assert_eq!(squares.get_if_present(&12), None);
    /// squares.insert(&12, 144);
    /// assert_eq!(squares.get_if_present(&12), Some(144));
    /// ```
    pub fn get_if_present<Q>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let core = &*self.core;
        let watch = core.loads.watch();
        // Taken apart at once, as in `look_up`.
        let found = core.store.get(key).map(|Kept { answer, stamp, dates }| {
            (core.age(stamp, dates.as_deref(), answer.is_err(), &watch), answer)
        });
        match found {
            Some((Age::Fresh, Ok(value))) => {
                core.tell(|observer| observer.hit());
                Some(value)
            }
            Some((Age::Due | Age::Paused, Ok(value))) => {
                core.tell(|observer| observer.stale_hit());
                Some(value)
            }
            _ => {
                core.tell(|observer| observer.missed());
                None
            }
        }
    }

    /// Puts a value into the cache, as if it had been loaded just now. Of loads of the key that are under way
    /// nothing is kept: after this has returned no call gets what they return but those that wait for
    /// them already.
    ///
    /// It is not a promise to find the value again: like any value it may be evicted. If a load, an invalidation or
    /// another insertion overlaps this call, that may win, or neither.
    ///
    /// ```
    /// # use shardflight::cache::ReadThrough;
    /// let names: ReadThrough<u64, String, String> = ReadThrough::builder().max_capacity(100).build();
    /// names.insert(&7, "Seven".to_owned());
    /// assert_eq!(names.get_if_present(&7).as_deref(), Some("Seven"));
    /// ```
    ///
    /// # Panics
    ///
    /// If code of the caller's does that is run for it, like moka's weigher or a
    /// [`time_to_live_of`](super::ReadThroughBuilder::time_to_live_of). The key is not stuck then.
    pub fn insert<Q>(&self, key: &Q, value: V)
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let core = &*self.core;
        let load = core.loads.begin(core.hash(key));
        let stamp = load.stamp();
        if !core.put_value(key, load, value, Duration::ZERO) {
            // Something newer is to be stored, or is there. What is older must go all the same.
            core.remove_unless_newer(key, stamp);
        }
        core.forget(key);
    }

    /// Removes the key's value, for good: no call that begins after this has returned gets a value whose load
    /// began before it was called, neither from the cache nor from a load that is still under way.
    /// Callers that wait for such a load already do get its value. A load begins when its future is polled for
    /// the first time: work that has been going on before, like a task that it waits for, is not noticed.
    ///
    /// Call it after what it is about has been written, not before.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::cache::ReadThrough;
    /// use std::convert::Infallible;
    ///
    /// future::block_on(async {
    ///     let rows: ReadThrough<&str, u32, Infallible> = ReadThrough::builder().build();
    ///     let before = async { future::yield_now().await; Ok(1) };
    ///     let mut early = Box::pin(rows.get(&"row", before));
    ///     assert!(future::poll_once(&mut early).await.is_none()); // it is being loaded
    ///     rows.invalidate(&"row"); // it has just been changed
    ///
    ///     let Ok(late) = rows.get(&"row", async { Ok(2) }).await;
    ///     assert_eq!(early.await, Ok(1));
    ///     assert_eq!((late, rows.get_if_present(&"row")), (2, Some(2)));
    /// });
    /// ```
    pub fn invalidate<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let core = &*self.core;
        // In this order: see `loads`.
        core.loads.void(core.hash(key));
        core.store.invalidate(key);
        core.forget(key);
    }

    /// As [`invalidate`](Self::invalidate), for all keys. Takes time in proportion to the shards and cells of
    /// a [`Group`], not to the number of values; moka drops those by and by.
    ///
    /// ```
    /// # use shardflight::cache::ReadThrough;
    /// let names: ReadThrough<u64, String, String> = ReadThrough::builder().build();
    /// names.insert(&7, "Seven".to_owned());
    /// names.invalidate_all();
    /// assert_eq!(names.get_if_present(&7), None);
    /// ```
    pub fn invalidate_all(&self) {
        let core = &*self.core;
        core.loads.void_all();
        core.store.invalidate_all();
        // SeqCst: as in `forget`.
        fence(Ordering::SeqCst);
        core.group.forget_all();
    }

    /// How many keys are being loaded: [`Group::len`].
    ///
    /// ```
    /// # use shardflight::cache::ReadThrough;
    /// let squares: ReadThrough<u64, u64, String> = ReadThrough::builder().build();
    /// assert_eq!(squares.loading(), 0);
    /// ```
    pub fn loading(&self) -> usize {
        self.core.group.len()
    }
}

impl<K, V, E, S> Core<K, V, E, S> {
    #[inline]
    pub(super) fn tell(&self, event: impl FnOnce(&dyn Observer)) {
        if let Some(watch) = &self.watch {
            observer::tell_of_no_flight(watch, event);
        }
    }
}

impl<K, V, E, S> Core<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    fn hash<Q: ?Sized + Hash>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    /// L1 to L3, and what it is good for.
    #[inline]
    fn find<Q>(&self, key: &Q) -> Option<(Age, Kept<V, E>)>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let watch = self.loads.watch();
        let kept = self.store.get(key)?;
        let age = self.age(kept.stamp, kept.dates.as_deref(), kept.answer.is_err(), &watch);
        (age != Age::Over).then_some((age, kept))
    }

    /// L3, and what it is good for.
    #[inline(always)]
    fn age(&self, stamp: Stamp, dated: Option<&Dated>, is_error: bool, watch: &Watching) -> Age {
        match dated {
            _ if !self.loads.vouch_for(stamp, watch) => Age::Over,
            None => Age::Fresh,
            Some(dated) => {
                let now = self.clock.now();
                match self.lifetimes.judge(&dated.dates, is_error, now) {
                    Age::Due | Age::Spare if dated.is_paused(now) => Age::Paused,
                    age => age,
                }
            }
        }
    }

    /// What a caller gets without a load. Of one that is to refresh nothing has been told yet.
    ///
    /// It is nearly all that a cache does, so what is found is taken apart at once, without `find`: to be copied
    /// as a whole once more would take as long as all the rest of this.
    #[inline(always)]
    pub(super) fn look_up<Q>(&self, key: &Q) -> Looked<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let watch = self.loads.watch();
        match self.store.get(key) {
            Some(Kept { answer: Ok(value), stamp, dates }) => {
                match self.age(stamp, dates.as_deref(), false, &watch) {
                    Age::Fresh => {
                        self.tell(|observer| observer.hit());
                        Looked::Answer(Ok(value))
                    }
                    age => self.not_fresh(key, age, value, stamp),
                }
            }
            Some(Kept { answer: Err(error), stamp, dates }) => {
                match self.age(stamp, dates.as_deref(), true, &watch) {
                    Age::Fresh => {
                        self.tell(|observer| observer.hit());
                        Looked::Answer(Err(error))
                    }
                    _ => self.nothing(),
                }
            }
            None => self.nothing(),
        }
    }

    /// Of a value. Not inlined, so that one that is fresh need not make room for it.
    #[inline(never)]
    fn not_fresh<Q>(&self, key: &Q, age: Age, value: V, stamp: Stamp) -> Looked<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        match age {
            Age::Due if !self.group.is_in_flight(key) || self.forget_older(key) => {
                Looked::Due(value, stamp)
            }
            Age::Due | Age::Paused => {
                self.tell(|observer| observer.stale_hit());
                Looked::Answer(Ok(value))
            }
            _ => self.nothing(),
        }
    }

    fn nothing(&self) -> Looked<V, E> {
        self.tell(|observer| observer.missed());
        Looked::Nothing
    }

    /// I3.
    fn forget<Q>(&self, key: &Q)
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        // SeqCst: pairs with that in `begin`. Either the flight is found here, or it finds what was done before.
        fence(Ordering::SeqCst);
        self.group.forget(key);
    }

    /// Frees the key of a load that is too old. Says whether there was one.
    #[cold]
    pub(super) fn forget_older<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        self.max_age.is_some_and(|age| self.group.forget_older(key, age))
    }

    /// A call of the key's flight.
    pub(super) fn call<'c, Q>(&'c self, key: &'c Q) -> Call<'c, K, Result<V, E>, S, Q>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let call = self.group.call(key);
        match self.max_age {
            None => call,
            Some(age) => call.max_age(age),
        }
    }

    /// Of a caller that had nothing.
    fn loaded(&self, answer: Result<Outcome<Result<V, E>>, CallError>) -> Result<V, E> {
        match answer {
            Ok(outcome) => outcome.value,
            Err(error) => unwind(&error),
        }
    }

    /// Of one that had a value, and was to refresh it unless somebody else does.
    fn refreshed(
        &self,
        value: V,
        answer: Result<Outcome<Result<V, E>>, CallError>,
    ) -> Result<V, E> {
        match answer {
            Err(CallError::TooManyFollowers | CallError::Reentrant) => {
                self.tell(|observer| observer.stale_hit());
                Ok(value)
            }
            answer => {
                self.tell(|observer| observer.missed());
                drop(value);
                self.loaded(answer)
            }
        }
    }

    /// What a look did not find. One place to wait at, so that a call that finds its value is small.
    pub(super) async fn fetch<Q, F>(&self, key: &Q, looked: Looked<V, E>, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = Result<V, E>>,
    {
        match looked {
            Looked::Answer(answer) => {
                drop(load);
                answer
            }
            Looked::Due(value, of) => {
                let work = self.load(key, Some(of), load);
                self.refreshed(value, self.call(key).max_followers(0).run(work).await)
            }
            Looked::Nothing => self.loaded(self.call(key).run(self.load(key, None, load)).await),
        }
    }

    /// The work of a flight.
    pub(super) async fn load<Q, F>(&self, key: &Q, due: Option<Stamp>, load: F) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = Result<V, E>>,
    {
        match self.begin(key, due) {
            Ok(loading) => self.keep(key, loading, DroppedFirst::new(load).await),
            Err(answer) => {
                drop(load);
                answer
            }
        }
    }

    /// M3 and B1, in a flight: what another has loaded since this caller looked need not be loaded again.
    /// `due` is the load of the value that it is to refresh: chance is not asked twice whether it is.
    pub(super) fn begin<Q>(&self, key: &Q, due: Option<Stamp>) -> Result<Loading<'_>, Result<V, E>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        // SeqCst: pairs with that in `forget`.
        fence(Ordering::SeqCst);
        // Mostly it is not there, and what moka does about a look that finds nothing it has done once.
        if self.store.contains_key(key) {
            match self.find(key) {
                Some((Age::Fresh, kept)) if due != Some(kept.stamp) => return Err(kept.answer),
                Some((Age::Paused, kept)) => return Err(kept.answer),
                Some((Age::Fresh | Age::Due, _)) => self.tell(|observer| observer.refreshing()),
                _ => {}
            }
        }
        let is_timed = self.watch.is_some() || self.lifetimes.depend_on_load();
        let began = is_timed.then(|| self.clock.now());
        Ok(Loading { load: self.loads.begin(self.hash(key)), began })
    }

    /// What a load has come to: keeps it, and returns what the callers get.
    pub(super) fn keep<Q>(
        &self,
        key: &Q,
        loading: Loading<'_>,
        answer: Result<V, E>,
    ) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let Loading { load, began } = loading;
        let took = began.map_or(Duration::ZERO, |began| self.clock.now().since(began));
        match answer {
            Ok(value) => {
                self.tell(|observer| observer.loaded(took));
                self.put_value(key, load, value.clone(), took);
                Ok(value)
            }
            Err(error) => {
                self.tell(|observer| observer.load_failed(took));
                self.fall_back(key, load, error)
            }
        }
    }

    /// A load has failed: there may be an old value, or another has been inserted meanwhile.
    #[cold]
    fn fall_back<Q>(&self, key: &Q, load: Load<'_>, error: E) -> Result<V, E>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        if let Some((_, Kept { answer: Ok(value), dates, .. })) = self.find(key) {
            if let (Some(dated), Some(pause)) = (dates, self.lifetimes.negative_ttl) {
                dated.pause_until(self.clock.now().after(pause));
            }
            drop(error);
            return Ok(value);
        }
        if let dates @ Some(_) = self.lifetimes.of_error(|| self.clock.now()) {
            self.put(key, key.to_owned(), load, Err(error.clone()), dates);
        }
        Err(error)
    }

    /// Whether it was stored, if perhaps not for long.
    fn put_value<Q>(&self, key: &Q, load: Load<'_>, value: V, took: Duration) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let owned = key.to_owned();
        let dates = self.lifetimes.of_value(&owned, &value, took, || self.clock.now());
        self.put(key, owned, load, Ok(value), dates)
    }

    /// B3 to B6.
    fn put<Q>(
        &self,
        key: &Q,
        owned: K,
        load: Load<'_>,
        answer: Result<V, E>,
        dates: Option<Dates>,
    ) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let stamp = load.stamp();
        let Some(storing) = load.begin_to_store() else { return false };
        let kept = Kept { answer, stamp, dates: dates.map(Dated::new).map(Into::into) };
        // moka calls the user's code.
        let stored = catch_unwind(AssertUnwindSafe(|| self.store.insert(owned, kept)));
        storing.end(|| self.remove_unless_newer(key, stamp));
        if let Err(payload) = stored {
            resume_unwind(payload);
        }
        true
    }

    /// What moka does not show may be there, and is removed.
    fn remove_unless_newer<Q>(&self, key: &Q, stamp: Stamp)
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        if self.store.get(key).is_none_or(|kept| kept.stamp <= stamp) {
            self.store.invalidate(key);
        }
    }
}

impl<K, V, E, S> Clone for ReadThrough<K, V, E, S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

/// Never blocks. Of moka only the number of its entries, as far as it knows.
impl<K: Eq + Hash, V, E, S> fmt::Debug for ReadThrough<K, V, E, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("entries", &self.core.store.entry_count())
            .field("lifetimes", &self.core.lifetimes)
            .field("loads", &self.core.group)
            .finish_non_exhaustive()
    }
}
