//! Feature `tokio`: calls that run as tasks of their own, work that keeps its runtime wherever it goes, and
//! the timer of async calls.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::{
    runtime,
    time::{Sleep, sleep},
};

use crate::{
    Call, CallError, Group, Handle,
    flight::Ask,
    group::Owned,
    spawn::{self, Terms},
    table::Given,
};

impl<K, V, S> Group<K, V, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
{
    /// Runs `work` as a task of its own, or joins the flight of the key: the counterpart of Go's
    /// `DoChan`.
    ///
    /// The call registers now, not when the handle is polled, and the work outlives every caller:
    /// dropping the handle affects nobody. If a flight is under way the task joins it, keeps its work,
    /// and takes over if the leader is cancelled. When the runtime shuts down its flights are
    /// abandoned, and callers elsewhere take over or are told.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group: Group<String, u32> = Group::new();
    /// let handle = group.spawn("key".to_owned(), async { 7 });
    /// assert!(group.is_in_flight("key"));
    /// assert_eq!(handle.await, Ok(7));
    /// # }
    /// ```
    ///
    /// For work that blocks, spawn a task that waits for a thread of the runtime:
    ///
    /// ```
    /// use shardflight::Group;
    /// use tokio::task::spawn_blocking;
    ///
    /// fn expensive() -> u64 {
    ///     49
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let group: Group<u64, u64> = Group::new();
    /// let handle = group.spawn(7, async { spawn_blocking(expensive).await.expect("no panic") });
    /// assert_eq!(handle.await, Ok(49));
    /// # }
    /// ```
    ///
    /// Such a thread cannot be stopped: do not combine it with
    /// [`abort_when_abandoned`](crate::Call::abort_when_abandoned), or a second execution may begin
    /// beside it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as [`tokio::spawn`](::tokio::spawn). If the work panics, so does the
    /// task, and the handle gets [`CallError::Panicked`].
    pub fn spawn<F>(&self, key: K, work: F) -> Handle<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        // First: panicking later would have to give up again what was registered.
        let runtime = runtime::Handle::current();
        let (_, hash) = self.core().locate(&key);
        let owned = Owned(self.core().clone());
        let mut key = Given(Some(key));
        let entered = spawn::enter(&owned, hash, &mut key, Ask::DEFAULT);
        let boarded = spawn::board(owned, hash, entered, Terms::NONE, work);
        let (task, handle) = boarded.expect("any number of followers is allowed");
        drop(runtime.spawn(task));
        // Here, and not when this returns: a handle that is being returned leaks if a destructor panics.
        drop(key);
        handle
    }
}

impl<K, V, S, Q> Call<'_, K, V, S, Q>
where
    K: Eq + Hash + Borrow<Q> + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    S: BuildHasher + Send + Sync + 'static,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K> + 'static,
{
    /// As [`Group::spawn`], with the options of this call: registers now and runs `work` as a task of
    /// its own, or joins.
    ///
    /// With [`OnCancel::Fail`](crate::OnCancel::Fail), if there is a flight to follow, the work is
    /// dropped and the handle is told if the leader is cancelled. With a [`timeout`](Self::timeout), the handle
    /// gets [`CallError::TimedOut`] if the task has waited that long for other calls' work; the task ends
    /// then. To limit the wait for the task's own work, use [`Handle::wait_timeout`], or the runtime's timeout
    /// around the handle.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), shardflight::CallError> {
    /// let group: Group<String, u32> = Group::new();
    /// let handle = group.call("key").max_followers(100).spawn(async { 7 })?;
    /// assert_eq!(handle.await, Ok(7));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::TooManyFollowers`] if the call allows no more.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, as [`tokio::spawn`](::tokio::spawn), and with a [`timeout`](Self::timeout) in
    /// one without a timer.
    #[track_caller]
    pub fn spawn<F>(self, work: F) -> Result<Handle<V>, CallError>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let runtime = runtime::Handle::current();
        if self.needs_timer() {
            // Panics here if there is none. The task would when it has to wait, which its caller hardly sees.
            drop(sleep(Duration::ZERO));
        }
        let (task, handle) = self.task(work)?;
        drop(runtime.spawn(task));
        Ok(handle)
    }
}

/// What async calls tell the time by. Boxed because few calls need one, and move before they do.
pub(crate) struct Timer(Pin<Box<Sleep>>);

impl Timer {
    pub(crate) const EXISTS: bool = true;

    /// # Panics
    ///
    /// Outside a runtime with a timer.
    pub(crate) fn new(timeout: Duration) -> Self {
        Self(Box::pin(sleep(timeout)))
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

pin_project! {
    /// Work that is polled, and dropped, in the context of the runtime that it was begun in, if there was one.
    pub(crate) struct InRuntime<F> {
        runtime: Option<runtime::Handle>,
        // Until it has returned, or is dropped.
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for InRuntime<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if this.future.is_some() {
                let _context = this.runtime.as_ref().map(|runtime| runtime.enter());
                this.future.set(None);
            }
        }
    }
}

impl<F> InRuntime<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { runtime: runtime::Handle::try_current().ok(), future: Some(future) }
    }
}

impl<F: Future> Future for InRuntime<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        let _context = this.runtime.as_ref().map(|runtime| runtime.enter());
        let polled =
            this.future.as_mut().as_pin_mut().expect("not polled after it returned").poll(cx);
        if polled.is_ready() {
            this.future.set(None);
        }
        polled
    }
}
