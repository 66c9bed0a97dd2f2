//! `Call`: one call with options, and its full answer.

use std::{
    borrow::Borrow,
    convert::identity,
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
    time::Duration,
};

use crate::{
    error::CallError,
    flight::{
        Ask, Caller, Fly, Handle, Limit, Patience, Relayed, Stated, Work, fly_blocking,
        state::OnCancel,
    },
    group::{Core, Owned},
    outcome::Outcome,
    spawn::{self, Terms},
    sync::Arc,
};

/// One call of a key, with options. Made by [`Group::call`](crate::Group::call).
///
/// Options belong to this call alone; others of the same flight have their own.
///
/// ```
/// # futures_lite::future::block_on(async {
/// use shardflight::{CallError, Group, Role};
///
/// let group: Group<u64, String> = Group::new();
/// match group.call(&7).run(async { "seven".to_owned() }).await {
///     Ok(outcome) => assert_eq!(outcome.role, Role::Led { followers: 0 }),
///     Err(CallError::Panicked(panicked)) => eprintln!("{}", panicked.message()),
///     Err(error) => eprintln!("{error}"),
/// }
/// # });
/// ```
#[must_use = "a call does nothing before it is run"]
pub struct Call<'a, K, V, S, Q: ?Sized> {
    core: &'a Arc<Core<K, V, S>>,
    key: &'a Q,
    on_cancel: OnCancel,
    ask: Ask,
    timeout: Option<Duration>,
    aborts_when_abandoned: bool,
}

impl<'a, K, V, S, Q: ?Sized> Call<'a, K, V, S, Q> {
    pub(crate) fn new(core: &'a Arc<Core<K, V, S>>, key: &'a Q) -> Self {
        let on_cancel = OnCancel::default();
        let (ask, timeout) = (Ask::DEFAULT, None);
        Self { core, key, on_cancel, ask, timeout, aborts_when_abandoned: false }
    }

    /// What this caller wants if it follows a leader that is cancelled. The default is to
    /// [take over](OnCancel::TakeOver).
    ///
    /// With [`OnCancel::Fail`] it gets [`CallError::Cancelled`] as soon as the leader it joined is
    /// cancelled, whoever takes over; if by the time it looks the flight has landed all the same,
    /// it gets the value. It still leads if it comes first, or finds a flight that nobody leads.
    ///
    /// A successor is a leader, too. If it has taken over half-done work ([`relay`](Self::relay)) and its
    /// [`timeout`](Self::timeout) ends, callers with `OnCancel::Fail` get `Cancelled`, although the work goes on
    /// with the next follower.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.on_cancel = on_cancel;
        self.ask.who = on_cancel.into();
        self
    }

    /// Asks for an execution that begins after this call: read-your-writes.
    ///
    /// A flight that is under way may have read what has been written since. So this caller does not
    /// join it, but leads or joins the *next* flight of the key, which begins as soon as the one under
    /// way has ended. At most one execution runs and one is pending for each key, however many fresh
    /// callers come. Those that are not fresh go on joining the one under way.
    ///
    /// A pending flight is not counted by [`len`](crate::Group::len);
    /// [`forget`](crate::Group::forget) of the one under way lets it begin at once.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// future::block_on(async {
    ///     let group: Group<&str, u32> = Group::new();
    ///     let old = group.run(&"key", async { future::yield_now().await; 1 });
    ///     let new = group.call(&"key").fresh().run(async { 2 });
    ///     let (old, new) = future::zip(old, new).await;
    ///     assert_eq!((old, new.unwrap().value), (1, 2));
    /// });
    /// ```
    pub fn fresh(mut self) -> Self {
        self.ask.fresh = true;
        self
    }

    /// Joins a flight only if fewer than `n` others follow it; otherwise the call is refused with
    /// [`CallError::TooManyFollowers`]. It may still lead. The default is no limit.
    ///
    /// The place of a follower that is dropped is free at once. Clones of a
    /// [`Handle`](crate::Handle) count as one.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::{CallError, Group};
    ///
    /// future::block_on(async {
    ///     let group: Group<&str, u32> = Group::new();
    ///     let mut leader = Box::pin(group.run(&"key", future::pending()));
    ///     assert!(future::poll_once(&mut leader).await.is_none());
    ///     let refused = group.call(&"key").max_followers(0).run(async { 1 }).await;
    ///     assert_eq!(refused, Err(CallError::TooManyFollowers));
    /// });
    /// ```
    pub fn max_followers(mut self, n: usize) -> Self {
        self.ask.max_followers = n;
        self
    }

    /// Joins a flight only if it began less than `age` ago; an older one is
    /// [forgotten](crate::Group::forget) and replaced, so that one stuck leader does not hold its key.
    /// The default is no limit. It is asked when this call joins, not while it waits.
    ///
    /// A flight begins when its first leader enters; a take-over does not make it younger. Groups date
    /// their flights from the first such call on, because reading the clock costs more than a whole
    /// unshared call; in such a group a call that does not find room in its cell allocates for its date. A
    /// flight that began before that is taken to be as old as the group.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    /// use std::time::Duration;
    ///
    /// future::block_on(async {
    ///     let group: Group<&str, u32> = Group::new();
    ///     let mut stuck = Box::pin(group.run(&"key", future::pending()));
    ///     assert!(future::poll_once(&mut stuck).await.is_none());
    ///     let answer = group.call(&"key").max_age(Duration::ZERO).run(async { 2 }).await;
    ///     assert_eq!(answer.unwrap().value, 2);
    /// });
    /// ```
    pub fn max_age(mut self, age: Duration) -> Self {
        self.ask.max_age = Some(age);
        self
    }

    /// Aborts the work of a spawned call (`spawn`, [`task`](Self::task)) when nobody wants its value any more: when the
    /// last clone of its handle and the last follower have been dropped.
    ///
    /// The task decides whether to abort when it is polled, not when the last handle is dropped. A caller of
    /// the key that arrives between the two joins the flight, keeps its work running, and gets its value.
    /// This holds for callers with work too: theirs is not run. If the old work is no longer wanted for that
    /// key, [`forget`](crate::Group::forget) the key after dropping the handle.
    ///
    /// Once the task has decided, no caller joins the flight. A caller with work waits until the old work has
    /// been dropped, and then runs its own (G1). [`Group::join`](crate::Group::join) finds no flight.
    /// [`Group::lead_or_join`](crate::Group::lead_or_join) does not wait: it forgets the flight that is being
    /// aborted and leads a new one.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), shardflight::CallError> {
    /// let group: Group<String, u32> = Group::new();
    /// let handle = group.call("key").abort_when_abandoned().spawn(std::future::pending())?;
    /// drop(handle);
    /// tokio::task::yield_now().await;
    /// assert!(group.is_empty());
    /// # Ok(()) }
    /// ```
    pub fn abort_when_abandoned(mut self) -> Self {
        self.aborts_when_abandoned = true;
        self
    }

    /// How long this call waits for other calls' work. When the time is over the call returns
    /// [`CallError::TimedOut`], and the other callers of the flight go on.
    ///
    /// The time begins when the call first has to wait. It covers all that the call waits for:
    ///
    /// - as a follower, the leader's value;
    /// - as a [fresh](Self::fresh) call, the end of the flight before its own;
    /// - as a successor, the half-done work of a cancelled leader that it takes over
    ///   ([`relay`](Self::relay)). When the time is over, that work goes to another follower. If nobody is
    ///   left to take it, it is dropped. For followers with [`OnCancel::Fail`] that is a cancelled leader: they
    ///   get [`CallError::Cancelled`].
    ///
    /// The call's own work is not limited. To limit that, put the runtime's timeout around the call, which
    /// drops it, or around the work.
    ///
    /// The limit holds for threads ([`run_blocking`](Self::run_blocking)), for async calls
    /// ([`run`](Self::run), `relay`) and for tasks ([`task`](Self::task), `spawn`). A task that gives up ends,
    /// and its handle gets [`CallError::TimedOut`]. If a task with a limit is dropped before it ends, for example
    /// because its runtime shuts down, nothing measures the time any more, and its handle gets
    /// [`CallError::Cancelled`] immediately. Async calls and tasks need a timer, which is tokio's: state
    /// no timeout for them without the feature `tokio`. A timer is made (one allocation) when the call has to
    /// wait.
    ///
    /// [`Duration::MAX`], the default, is no limit. A call with [`Duration::ZERO`] does not wait. Neither needs
    /// a timer.
    ///
    /// # Panics
    ///
    /// This method never does. What panics is:
    ///
    /// - without the feature `tokio`, the methods that make an async call or a task, if any timeout except
    ///   `Duration::MAX` was stated;
    /// - with it, the first poll that has to wait, outside a tokio runtime or in one without a timer, as
    ///   [`tokio::time::sleep`](https://docs.rs/tokio/latest/tokio/time/fn.sleep.html) does; `spawn` panics
    ///   itself if its runtime has no timer;
    /// - a later poll of a call that waits, if the runtime of that first poll has been shut down.
    ///
    /// A call that panics so leaves its flight. If it is a task, its handle gets [`CallError::Cancelled`] when the
    /// task is dropped, as executors do with tasks that panic.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::{CallError, Group};
    /// use std::time::Duration;
    ///
    /// let group: Group<&str, u32> = Group::new();
    /// let mut stuck = Box::pin(group.run(&"key", future::pending()));
    /// assert!(future::block_on(future::poll_once(&mut stuck)).is_none());
    /// let answer = group.call(&"key").timeout(Duration::from_millis(1)).run_blocking(|| 2);
    /// assert_eq!(answer, Err(CallError::TimedOut));
    /// ```
    ///
    /// In a task:
    ///
    /// ```
    /// use shardflight::{CallError, Group};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let group: Group<String, u32> = Group::new();
    /// let stuck = group.spawn("key".to_owned(), std::future::pending());
    /// let answer = group.call("key").timeout(Duration::from_secs(1)).run(async { 2 }).await;
    /// assert_eq!(answer, Err(CallError::TimedOut));
    /// # drop(stuck);
    /// # }
    /// ```
    pub fn timeout(mut self, patience: Duration) -> Self {
        self.timeout = Some(patience);
        self
    }

    /// Whether it needs one when it has to wait.
    #[cfg(feature = "tokio")]
    pub(crate) fn needs_timer(&self) -> bool {
        self.timeout.is_some_and(|timeout| ![Duration::ZERO, Duration::MAX].contains(&timeout))
    }
}

impl<'a, K, V, S, Q> Call<'a, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
{
    /// What an async call brings to its flight.
    #[track_caller]
    fn caller(self) -> Caller<'a, 'a, K, V, S, Q, Stated> {
        let asks = Stated { ask: self.ask, patience: Patience::of(self.timeout) };
        Caller { core: &**self.core, key: self.key, asks }
    }

    /// As [`Group::run`](crate::Group::run), with the options of this call.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::{CallError, Group, OnCancel};
    ///
    /// future::block_on(async {
    ///     let group: Group<String, u32> = Group::new();
    ///     let mut leader = Box::pin(group.call("key").run(future::pending()));
    ///     assert!(future::poll_once(&mut leader).await.is_none());
    ///
    ///     let follower = group.call("key").on_cancel(OnCancel::Fail);
    ///     let mut follower = std::pin::pin!(follower.run(async { 1 }));
    ///     assert!(future::poll_once(&mut follower).await.is_none());
    ///
    ///     drop(leader);
    ///     assert_eq!(follower.await, Err(CallError::Cancelled));
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As [`Group::run`](crate::Group::run): a dropped follower affects nobody, a dropped leader is
    /// followed by one that takes over.
    ///
    /// # Errors
    ///
    /// [`Panicked`](CallError::Panicked) if it followed and the leader's work panicked,
    /// [`Cancelled`](CallError::Cancelled) if it followed, the leader was cancelled and it had asked
    /// for [`OnCancel::Fail`], [`TooManyFollowers`](CallError::TooManyFollowers) if it had a limit
    /// ([`max_followers`](Self::max_followers)), [`TimedOut`](CallError::TimedOut) with a
    /// [`timeout`](Self::timeout), [`Reentrant`](CallError::Reentrant) if it was called, or is polled, inside the
    /// key's own work. An error of the work is not among them: it is the value.
    ///
    /// # Panics
    ///
    /// If this caller leads and its own work panics, with the original payload. If it states a
    /// [`timeout`](Self::timeout) and there is no timer.
    #[track_caller]
    pub fn run<F>(self, work: F) -> impl Future<Output = Result<Outcome<V>, CallError>>
    where
        F: Future<Output = V>,
    {
        Fly::new(self.caller(), Work::new(work), identity)
    }

    /// As [`run`](Self::run), but if this caller leads and is cancelled, its half-done work is not
    /// dropped: it is handed to the follower that takes over, which goes on with it instead of
    /// beginning its own.
    ///
    /// Over a flight whose leaders are cancelled one after the other the work is started once, and it
    /// is not dropped as long as one caller is left that can go on with it: those of `run`, `relay`,
    /// `run_blocking`, `run_many` and `spawn`, but neither those that asked for [`OnCancel::Fail`] nor
    /// handles. A thread that takes over blocks on it. With the feature `tokio`, work that was begun
    /// inside a tokio runtime is polled in the context of that runtime wherever it goes.
    ///
    /// The work is boxed when this caller leads, not when it follows.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// future::block_on(async {
    ///     let group: Group<&str, u32> = Group::new();
    ///     let work = async { future::yield_now().await; 1 };
    ///     let mut leader = Box::pin(group.call(&"key").relay(work));
    ///     assert!(future::poll_once(&mut leader).await.is_none());
    ///     let mut follower = Box::pin(group.run(&"key", async { unreachable!("there is work already") }));
    ///     assert!(future::poll_once(&mut follower).await.is_none());
    ///
    ///     drop(leader);
    ///     assert_eq!(follower.await, 1);
    /// });
    /// ```
    ///
    /// # Cancel safety
    ///
    /// Dropping a follower affects nobody. Dropping the leader passes its work on; if there is nobody
    /// to take it, it is dropped.
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// If the work panics while this caller leads, with the original payload. If it states a
    /// [`timeout`](Self::timeout) and there is no timer.
    #[track_caller]
    pub fn relay<F>(self, work: F) -> impl Future<Output = Result<Outcome<V>, CallError>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        Fly::new(self.caller(), Relayed::new(work), identity)
    }

    /// As [`Group::run_blocking`](crate::Group::run_blocking), with the options of this call.
    ///
    /// ```
    /// # use shardflight::{CallError, Group};
    /// let group: Group<u32, u32> = Group::new();
    /// let recursive = group.call(&1).run_blocking(|| {
    ///     assert_eq!(group.call(&1).run_blocking(|| 0), Err(CallError::Reentrant));
    ///     7
    /// });
    /// assert_eq!(recursive.unwrap().value, 7);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// If this caller leads and its own work panics, with the original payload.
    pub fn run_blocking<F>(self, work: F) -> Result<Outcome<V>, CallError>
    where
        F: FnOnce() -> V,
    {
        fly_blocking(self.core, self.key, self.ask, self.timeout, work)
    }

    /// Registers now, and returns the work as a task for an executor of the caller's choice, and a
    /// handle to its value. With the feature `tokio`, `spawn` does both.
    ///
    /// If a flight is under way the task joins it, keeps its work, and takes over if the leader is
    /// cancelled. With [`OnCancel::Fail`] the work is dropped then, and the handle is told. The handle
    /// may be dropped; the task outlives it, unless it is to be
    /// [aborted](Self::abort_when_abandoned). With a [`timeout`](Self::timeout) the task ends when its time is
    /// over, and the handle is told.
    ///
    /// A task may be polled inside the work that it follows, by an executor that runs in there. Do not await
    /// it there: it would wait for itself. Await the handle, which reports that.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// let group: Group<String, u32> = Group::new();
    /// let (task, handle) = group.call("key").task(async { 7 })?;
    /// assert!(group.is_in_flight("key"));
    /// smol::spawn(task).detach();
    /// assert_eq!(handle.wait(), Ok(7));
    /// # Ok::<(), shardflight::CallError>(())
    /// ```
    ///
    /// # Cancel safety
    ///
    /// A task that is dropped, polled or not, gives up what it has: the lead, or its place among the
    /// followers. Its handle goes on waiting for the flight as long as anybody is able to lead it; with a
    /// [`timeout`](Self::timeout) it gets [`Cancelled`](CallError::Cancelled) instead.
    ///
    /// # Errors
    ///
    /// [`TooManyFollowers`](CallError::TooManyFollowers) if the call allows no more.
    ///
    /// # Panics
    ///
    /// The task panics if its work does; the handle gets [`Panicked`](CallError::Panicked). This panics if a
    /// [`timeout`](Self::timeout) is stated and there is no timer.
    #[track_caller]
    pub fn task<F>(
        self,
        work: F,
    ) -> Result<(impl Future<Output = ()> + use<K, V, S, Q, F>, Handle<V>), CallError>
    where
        F: Future<Output = V>,
    {
        let Self { core, key, ask, timeout, aborts_when_abandoned, .. } = self;
        // First: panicking later would have to give up again what was registered.
        let patience = Patience::of(timeout);
        let (_, hash) = core.locate(key);
        let owned = Owned(Arc::clone(core));
        let entered = spawn::enter(&owned, hash, key, ask);
        let terms = Terms { aborts_when_abandoned, limit: Limit::new(patience) };
        spawn::board(owned, hash, entered, terms, work)
    }
}

impl<K, V, S, Q: ?Sized + fmt::Debug> fmt::Debug for Call<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("key", &self.key)
            .field("on_cancel", &self.on_cancel)
            .field("fresh", &self.ask.fresh)
            .field("max_followers", &self.ask.max_followers)
            .field("max_age", &self.ask.max_age)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
