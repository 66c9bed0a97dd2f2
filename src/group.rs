//! `Group`, a namespace of keys, and `GroupBuilder`: the everyday face of the crate.

use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    panic::{RefUnwindSafe, UnwindSafe, resume_unwind},
    // Not that of the models: it waits for nothing of theirs.
    sync::LazyLock,
};

use ahash::RandomState;

use crate::{
    call::Call,
    entry::{Entry, Lead},
    error::CallError,
    flight::{Answer, Ask, Caller, Fly, Handle, Permit, Plain, Work, fly_blocking, state::Who},
    observer::{Observer, Watch},
    sync::Arc,
    table::{Entered, KeyHash, Reach, Table},
};

/// A namespace of keys. Concurrent calls with the same key share one execution; nothing is kept
/// afterwards.
///
/// The first caller of a key *leads*: its work runs. Those that come while it runs *follow*: they
/// wait and get a clone of its value. When the value is there the key is free again, so no caller
/// ever gets an answer that was finished before it asked.
///
/// A `Group` is a handle: clones are cheap and share the same flights. Keep one per kind of answer,
/// in a struct, behind a [`LazyLock`](std::sync::LazyLock), wherever. For fallible work let the
/// value be a `Result`; an error type that is not `Clone` goes into an [`Arc`](std::sync::Arc).
///
/// The caller's code never runs under a lock of the group and may call it again, with one exception: as in every map,
/// a key's `Eq`, `Borrow` and `ToOwned` (which is `Clone` for most keys) may run under one. They must not call the
/// group.
///
/// ```
/// use shardflight::Group;
/// use std::sync::Arc;
///
/// # futures_lite::future::block_on(async {
/// async fn load_page(url: &str) -> Result<String, Arc<std::io::Error>> {
///     Ok(format!("the page at {url}"))
/// }
///
/// let pages: Group<String, Result<String, Arc<std::io::Error>>> = Group::new();
/// let url = "https://example.org/";
/// let page = pages.run(url, load_page(url)).await.unwrap();
/// assert_eq!(page, "the page at https://example.org/");
/// assert!(pages.is_empty());
/// # });
/// ```
pub struct Group<K, V, S = RandomState> {
    core: Arc<Core<K, V, S>>,
}

/// What the handles of a group share.
pub(crate) struct Core<K, V, S> {
    table: Table<K, V>,
    hasher: S,
}

impl<K: Eq + Hash, V, S: BuildHasher> Core<K, V, S> {
    /// Where the key's flight is found. The only place that calls the user's `Hash` (G9).
    #[inline]
    pub(crate) fn locate<Q: ?Sized + Hash>(&self, key: &Q) -> (&Table<K, V>, KeyHash) {
        (&self.table, KeyHash::new(self.hasher.hash_one(key)))
    }
}

impl<K, V, S> Core<K, V, S> {
    pub(crate) fn table(&self) -> &Table<K, V> {
        &self.table
    }
}

/// The way to the table for what may outlive its caller.
pub(crate) struct Owned<K, V, S>(pub(crate) Arc<Core<K, V, S>>);

impl<K, V, S> Clone for Owned<K, V, S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Eq + Hash, V, S> Reach for Owned<K, V, S> {
    type K = K;
    type V = V;

    fn table(&self) -> &Table<K, V> {
        &self.0.table
    }
}

impl<K: Eq + Hash, V> Group<K, V> {
    /// A group with the default hasher, 64 shards (more on machines with more than 16 cores) and 4,096
    /// cells. It takes 41 KiB, and as long to make and drop as fourteen empty `DashMap`s: make one for
    /// each kind of answer, not for each request.
    ///
    /// A call that nobody joins allocates its owned key and nothing else, unless it is the fifth in flight in its
    /// cell. The first follower of a flight adds about 250 bytes on the heap, those that come later none. Where
    /// the map of shared flights has to grow, both allocate for that, too: see the
    /// [guide](crate::guide#what-allocates).
    ///
    /// ```
    /// let group: shardflight::Group<String, u64> = shardflight::Group::new();
    /// assert!(group.is_empty());
    /// ```
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Starts building a group with settings of its own.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// let group: Group<String, u64> = Group::builder().shards(256).capacity(10_000).build();
    /// # assert!(group.is_empty());
    /// ```
    pub fn builder() -> GroupBuilder<K, V> {
        GroupBuilder {
            hasher: RandomState::new(),
            shards: *DEFAULT_SHARDS,
            capacity: 0,
            observer: None,
            _group: PhantomData,
        }
    }
}

impl<K, V, S> Group<K, V, S> {
    pub(crate) fn core(&self) -> &Arc<Core<K, V, S>> {
        &self.core
    }
}

impl<K: Eq + Hash, V, S: BuildHasher> Group<K, V, S> {
    /// A group that hashes keys with `hasher`.
    ///
    /// One that maps many keys to one hash makes calls slower, as in every hash map, but never
    /// mixes their answers up and never makes one key wait for another's work.
    ///
    /// ```
    /// use shardflight::Group;
    /// use std::hash::RandomState;
    ///
    /// let group: Group<String, u64, RandomState> = Group::with_hasher(RandomState::new());
    /// # assert!(group.is_empty());
    /// ```
    pub fn with_hasher(hasher: S) -> Self {
        Group::builder().hasher(hasher).build()
    }

    /// Whether a call with this key would join a flight now. By the time the answer is used it may
    /// have changed.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// let group = shardflight::Group::<String, bool>::new();
    /// let seen = group.run("key", async { group.is_in_flight("key") }).await;
    /// assert!(seen);
    /// assert!(!group.is_in_flight("key"));
    /// # });
    /// ```
    pub fn is_in_flight<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (table, hash) = self.core.locate(key);
        table.contains(hash, |k| k.borrow() == key)
    }

    /// Follows the key's flight, if there is one, without offering any work.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// let group: Group<String, u32> = Group::new();
    /// assert!(group.join("key").is_none());
    /// ```
    ///
    /// A flight that is being [aborted](crate::Call::abort_when_abandoned) is none.
    pub fn join<Q>(&self, key: &Q) -> Option<Handle<V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (table, hash) = self.core.locate(key);
        let (flight, ticket) = table.follow(hash, |k| k.borrow() == key)?;
        Some(Handle::new(flight, ticket, table.watched()))
    }

    /// Leads the key's flight, or follows the one that is under way: for work that is neither a future
    /// nor a closure, like that of an actor, a callback, or a stream.
    ///
    /// ```
    /// use shardflight::{Entry, Group, Lead};
    /// use std::{sync::mpsc, thread};
    ///
    /// // An actor that answers when it is done.
    /// let (orders, inbox) = mpsc::channel::<(Lead<u64, u64>, u64)>();
    /// let actor = thread::spawn(move || {
    ///     for (lead, n) in inbox {
    ///         lead.land(n * n);
    ///     }
    /// });
    ///
    /// let squares: Group<u64, u64> = Group::new();
    /// match squares.lead_or_join(&12) {
    ///     Entry::Lead(lead) => {
    ///         let answer = lead.handle();
    ///         orders.send((lead, 12)).unwrap();
    ///         assert_eq!(answer.wait(), Ok(144));
    ///     }
    ///     Entry::Join(answer) => println!("{:?}", answer.wait()),
    /// }
    /// # drop(orders);
    /// # actor.join().unwrap();
    /// ```
    ///
    /// If nobody leads the flight because its leader was cancelled, and a follower is about to take
    /// over, this joins. If the flight is being aborted
    /// ([`abort_when_abandoned`](crate::Call::abort_when_abandoned)) it is
    /// [forgotten](Self::forget), and this leads a new one.
    pub fn lead_or_join<Q>(&self, key: &Q) -> Entry<K, V, S>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        let (table, hash) = self.core.locate(key);
        let owned = Owned(Arc::clone(&self.core));
        let ask = Ask { who: Who::Permit, nests: true, ..Ask::DEFAULT };
        let permit = match table.open(hash, key, &ask, false) {
            Entered::Lead(id) => Permit::new(owned, hash, id, None),
            Entered::TakeOver(flight) => {
                let mut permit = Permit::taken_over(owned, hash, flight);
                // It could not go on with it.
                permit.drop_relay();
                permit
            }
            Entered::Follow(flight, ticket) => {
                return Entry::Join(Handle::new(flight, ticket, table.watched()));
            }
            Entered::Pending(_) | Entered::Full | Entered::Reentrant | Entered::Gone(_) => {
                unreachable!("nothing of this was asked for")
            }
        };
        Entry::Lead(Lead::new(permit))
    }

    /// Cuts the key's flight loose: the next call starts a new one. Returns whether there was one.
    ///
    /// The flight itself goes on: its leader and those who already follow it get its value, and if
    /// its leader is cancelled, one of them takes over. Use it when an answer under way is known to
    /// be outdated, or when a leader hangs. Until the old flight has ended, two executions of the
    /// key can run at once.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// future::block_on(async {
    ///     let group: Group<&str, u32> = Group::new();
    ///     let mut old = std::pin::pin!(group.run(&"key", future::pending()));
    ///     assert!(future::poll_once(&mut old).await.is_none());
    ///
    ///     assert!(group.forget(&"key"));
    ///     assert_eq!(group.run(&"key", async { 2 }).await, 2);
    ///     assert!(!group.forget(&"key"));
    /// });
    /// ```
    pub fn forget<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (table, hash) = self.core.locate(key);
        table.forget(hash, |k| k.borrow() == key)
    }

    /// As [`forget`](Self::forget), but only if nobody follows the flight: what others already wait
    /// for stays joinable. Returns whether a flight was forgotten.
    ///
    /// Unlike `ForgetUnshared` of the copy inside Go's standard library it returns `false` for a key that is not in flight.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use shardflight::Group;
    ///
    /// let group: Group<&str, bool> = Group::new();
    /// assert!(!group.forget_unshared(&"key"));
    /// assert!(group.run(&"key", async { group.forget_unshared(&"key") }).await);
    /// # });
    /// ```
    pub fn forget_unshared<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (table, hash) = self.core.locate(key);
        table.forget_unshared(hash, |k| k.borrow() == key)
    }

    /// Step 6 for a flight that is as old as this.
    #[cfg(any(feature = "moka", loom))]
    pub(crate) fn forget_older<Q>(&self, key: &Q, age: std::time::Duration) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (table, hash) = self.core.locate(key);
        table.forget_older(hash, |k| k.borrow() == key, age)
    }

    /// [Forgets](Self::forget) every flight there is: no call that begins after this returns joins one that
    /// had begun before it was called. Returns how many there were.
    ///
    /// Use it when everything under way is known to be outdated. It visits shards and cells one after the
    /// other, as [`len`](Self::len) does; flights that begin meanwhile may be forgotten, too.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// future::block_on(async {
    ///     let group: Group<u32, u32> = Group::new();
    ///     let old = |key| Box::pin(group.run(key, future::pending()));
    ///     let (mut one, mut two) = (old(&1), old(&2));
    ///     assert!(future::poll_once(&mut one).await.is_none());
    ///     assert!(future::poll_once(&mut two).await.is_none());
    ///
    ///     assert_eq!(group.forget_all(), 2);
    ///     assert_eq!(group.run(&1, async { 7 }).await, 7);
    /// });
    /// ```
    pub fn forget_all(&self) -> usize {
        self.core.table.forget_all()
    }

    /// The number of keys in flight. It visits shards and cells one after the other, which takes
    /// time in proportion to their number (see [`GroupBuilder::capacity`]); under concurrent calls
    /// the sum may be one that never was at any instant. Forgotten flights do not count.
    ///
    /// ```
    /// let group: shardflight::Group<String, usize> = shardflight::Group::new();
    /// assert_eq!(group.run_blocking("key", || group.len()), 1);
    /// assert_eq!(group.len(), 0);
    /// ```
    pub fn len(&self) -> usize {
        self.core.table.len()
    }

    /// Whether no key is in flight, with the reservations of [`len`](Self::len). Visits shards and
    /// cells until it finds a flight.
    pub fn is_empty(&self) -> bool {
        self.core.table.is_empty()
    }
}

impl<K, V, S> Group<K, V, S>
where
    K: Eq + Hash,
    V: Clone,
    S: BuildHasher,
{
    /// Runs `work`, or waits for the work of a call with the same key that is already running.
    ///
    /// Exactly one of the callers that overlap runs its work; the others' is never polled. The value
    /// of an unshared call is moved, a shared one is cloned once for each caller at most. Async and
    /// [blocking](Self::run_blocking) callers share flights.
    ///
    /// Nothing happens before the first poll. Needs no runtime.
    ///
    /// On 64-bit systems the future takes 144 bytes with work of 8 bytes and a `u64` key, plus what the
    /// work and an owned key are larger, rounded up to 16: most of it is where others find the flight, or
    /// where a follower waits. It holds no value, and an unshared call has nothing else but its owned key.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// future::block_on(async {
    ///     let group: Group<String, usize> = Group::new();
    ///     let slow = async { future::yield_now().await; 1 };
    ///     let (a, b) = future::zip(
    ///         group.run("key", slow),
    ///         group.run("key", async { unreachable!("somebody else is at it") }),
    ///     )
    ///     .await;
    ///     assert_eq!((a, b), (1, 1));
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping the future of a follower affects nobody else. Dropping the leader's drops its work;
    /// then one of the followers takes over with its own, and the others go on waiting. What must
    /// not be lost when its caller goes belongs in its own task.
    ///
    /// A leader that is kept but no longer polled holds up its followers. In `select!` with `&mut call`, do not
    /// await a second call of the same key while the first is kept: if the first leads, the second waits for
    /// it, and the task that would poll it waits for the second. The [guide](crate::guide#a-call-that-is-kept)
    /// says what to do.
    ///
    /// # Panics
    ///
    /// If the work panics, the leader unwinds with the original payload and every follower with its text in a
    /// `String`; the next call starts afresh. The panic hook runs once, when the work panics: followers resume
    /// that panic without the hook. If the call comes from inside the key's own work, or
    /// is awaited there, it would wait for itself, and panics instead. [`call`](Self::call) turns the followers' panic
    /// and the recursion into [`CallError`]s.
    ///
    /// Recursion is what happens on one stack. Through another task or thread it cannot be seen, and
    /// waits forever. The other way round, work that runs an executor of its own (`block_on`) has that
    /// executor's other tasks on its stack; calls of theirs with the same key are taken for recursion.
    pub fn run<Q, F>(&self, key: &Q, work: F) -> impl Future<Output = V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = V>,
    {
        let caller = Caller { core: &*self.core, key, asks: Plain };
        Fly::new(caller, Work::new(work), value_or_panic::<V>)
    }

    /// [`run`](Self::run) for threads: calls `work`, or blocks until the flight of the key has an
    /// answer.
    ///
    /// Do not call it from inside async code with work that may take long: it blocks the executor's
    /// thread. If that thread is the only one that could poll the flight's leader, it never returns;
    /// use the runtime's `spawn_blocking`.
    ///
    /// Do not call it inside a work-stealing pool such as rayon's either: a thread of the pool that waits for a
    /// part of the work runs other jobs meanwhile, and one of those that waits for the same flight never
    /// returns, or gets [`CallError::Reentrant`]. The [guide](crate::guide#work-stealing-pools) has the safe ways.
    ///
    /// ```
    /// let group: shardflight::Group<u32, String> = shardflight::Group::new();
    /// assert_eq!(group.run_blocking(&7, || "seven".to_owned()), "seven");
    /// ```
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    pub fn run_blocking<Q, F>(&self, key: &Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: FnOnce() -> V,
    {
        value_or_panic(fly_blocking(&*self.core, key, Plain, None, work))
    }

    /// A call with options and a full answer: how the value came about, and errors instead of
    /// panics for followers.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// use shardflight::{Group, OnCancel};
    ///
    /// let group: Group<String, u32> = Group::new();
    /// let outcome = group.call("key").on_cancel(OnCancel::Fail).run(async { 5 }).await?;
    /// assert_eq!(outcome.value, 5);
    /// assert!(!outcome.is_shared());
    /// # Ok::<(), shardflight::CallError>(()) }).unwrap();
    /// ```
    pub fn call<'a, Q>(&'a self, key: &'a Q) -> Call<'a, K, V, S, Q>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        Call::new(&self.core, key)
    }
}

/// The everyday answer: what a panic of one's own work would do, a panic of the leader's does.
#[inline]
fn value_or_panic<V>(answer: Answer<V>) -> V {
    match answer {
        Ok(outcome) => outcome.value,
        Err(error) => unwind(&error),
    }
}

#[cold]
pub(crate) fn unwind(error: &CallError) -> ! {
    match error {
        // As a `String`, the payload of a formatted panic. The panic hook has reported the leader's panic;
        // its followers, of which there may be a thousand, resume it without the hook.
        CallError::Panicked(panicked) => resume_unwind(Box::new(panicked.message().to_owned())),
        error => panic!("{error}"),
    }
}

impl<K, V, S> Clone for Group<K, V, S> {
    fn clone(&self) -> Self {
        Self { core: Arc::clone(&self.core) }
    }
}

impl<K: Eq + Hash, V, S: BuildHasher + Default> Default for Group<K, V, S> {
    fn default() -> Self {
        Self::with_hasher(S::default())
    }
}

/// A panic leaves nothing half done: it ends its flight, and no other.
impl<K, V, S: RefUnwindSafe> UnwindSafe for Group<K, V, S> {}
impl<K, V, S: RefUnwindSafe> RefUnwindSafe for Group<K, V, S> {}

/// Never blocks: while a shard is locked, the number of flights is left out.
impl<K: Eq + Hash, V, S> fmt::Debug for Group<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut group = f.debug_struct("Group");
        match self.core.table.try_len() {
            Some(len) => group.field("len", &len).finish(),
            None => group.finish_non_exhaustive(),
        }
    }
}

/// Settings of a [`Group`] to be. Made by [`Group::builder`].
///
/// ```
/// use shardflight::Group;
/// use std::hash::RandomState;
///
/// let group: Group<u64, String, RandomState> =
///     Group::builder().hasher(RandomState::new()).shards(128).capacity(1_000).build();
/// assert!(group.is_empty());
/// ```
#[must_use]
pub struct GroupBuilder<K, V, S = RandomState> {
    hasher: S,
    shards: usize,
    capacity: usize,
    observer: Option<Watch>,
    _group: PhantomData<fn() -> (K, V)>,
}

/// Far beyond what helps, and 128 MiB of empty shards.
const MAX_SHARDS: usize = 1 << 20;

/// Asked for once: Linux reads files to count the cores, which takes longer than all else in `build`.
static DEFAULT_SHARDS: LazyLock<usize> = LazyLock::new(|| {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // dashmap's own default is four for each core. More of them meet less often, also on few cores.
    (4 * cores).next_power_of_two().clamp(64, MAX_SHARDS)
});

impl<K: Eq + Hash, V, S: BuildHasher> GroupBuilder<K, V, S> {
    /// Hashes keys with `hasher` instead of [`ahash::RandomState`].
    pub fn hasher<H: BuildHasher>(self, hasher: H) -> GroupBuilder<K, V, H> {
        let Self { shards, capacity, observer, .. } = self;
        GroupBuilder { hasher, shards, capacity, observer, _group: PhantomData }
    }

    /// How many independently locked parts the table has, for shared calls and for those that do not
    /// find a place without a lock. Rounded up to a power of two and to at least 2. An empty one
    /// takes 128 bytes on x86-64.
    ///
    /// # Panics
    ///
    /// If `shards` is more than 1,048,576.
    pub fn shards(mut self, shards: usize) -> Self {
        assert!(shards <= MAX_SHARDS, "shards must be at most {MAX_SHARDS}, not {shards}");
        self.shards = shards.next_power_of_two().max(2);
        self
    }

    /// How many keys are expected to be *in flight at once*. 0 is the default.
    ///
    /// A group has four to eight cells of 8 bytes for each of them, at least 4,096 and at most 2^26,
    /// and begins and ends calls that nobody joins in these. Calls that find too many others in their
    /// cell, and shared ones, go to a map behind the shards' locks, which grows as needed and gives
    /// room back when a wave of keys has passed. Where many calls find their cell full there will be
    /// more cells, up to 2^26; these stay until the group is dropped. A capacity is a matter of speed
    /// alone: any number of keys can be in flight.
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// Tells `observer` what becomes of the group's flights. A pair `(a, b)` is two observers; another
    /// call of this replaces them.
    ///
    /// ```
    /// use shardflight::{Group, Stats};
    /// use std::sync::Arc;
    ///
    /// let stats = Arc::new(Stats::default());
    /// let group: Group<String, u64> = Group::builder().observer(stats.clone()).build();
    /// group.run_blocking("key", || 7);
    /// assert_eq!(stats.snapshot().landed, 1);
    /// ```
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Watch::new(observer));
        self
    }

    /// Makes the group.
    ///
    /// # Panics
    ///
    /// If there is no memory for the capacity, as in [`Vec::with_capacity`].
    pub fn build(self) -> Group<K, V, S> {
        let table = Table::new(self.shards, self.capacity).watched_by(self.observer);
        Group { core: Arc::new(Core { table, hasher: self.hasher }) }
    }
}

impl<K, V, S> fmt::Debug for GroupBuilder<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("shards", &self.shards)
            .field("capacity", &self.capacity)
            .field("is_observed", &self.observer.is_some())
            .finish_non_exhaustive()
    }
}
