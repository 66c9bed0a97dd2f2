//! `Call`: one call with options, and its full answer.

use std::{
    borrow::Borrow,
    fmt,
    future::Future,
    hash::{BuildHasher, Hash},
};

use crate::{
    error::CallError,
    flight::{Fly, fly_blocking, state::OnCancel, wait},
    group::Core,
    outcome::Outcome,
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
    core: &'a Core<K, V, S>,
    key: &'a Q,
    on_cancel: OnCancel,
}

impl<'a, K, V, S, Q: ?Sized> Call<'a, K, V, S, Q> {
    pub(crate) fn new(core: &'a Core<K, V, S>, key: &'a Q) -> Self {
        Self { core, key, on_cancel: OnCancel::default() }
    }

    /// What this caller wants if it follows a leader that is cancelled. The default is to
    /// [take over](OnCancel::TakeOver).
    ///
    /// With [`OnCancel::Fail`] it gets [`CallError::Cancelled`] as soon as the leader it joined is
    /// cancelled, whoever takes over; if by the time it looks the flight has landed all the same,
    /// it gets the value. It still leads if it comes first, or finds a flight that nobody leads.
    pub fn on_cancel(mut self, on_cancel: OnCancel) -> Self {
        self.on_cancel = on_cancel;
        self
    }
}

impl<'a, K, V, S, Q> Call<'a, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
{
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
    /// for [`OnCancel::Fail`], [`Reentrant`](CallError::Reentrant) if it was called from inside the
    /// key's own work. An error of the work is not among them: it is the value.
    ///
    /// # Panics
    ///
    /// If this caller leads and its own work panics, with the original payload.
    pub fn run<F>(self, work: F) -> impl Future<Output = Result<Outcome<V>, CallError>>
    where
        F: Future<Output = V>,
    {
        Fly::new(self.core, self.key, self.on_cancel, work, wait::<K, V>, std::convert::identity)
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
    /// As [`run`](Self::run).
    pub fn run_blocking<F>(self, work: F) -> Result<Outcome<V>, CallError>
    where
        F: FnOnce() -> V,
    {
        fly_blocking(self.core, self.key, self.on_cancel, work)
    }
}

impl<K, V, S, Q: ?Sized + fmt::Debug> fmt::Debug for Call<'_, K, V, S, Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("key", &self.key)
            .field("on_cancel", &self.on_cancel)
            .finish_non_exhaustive()
    }
}
