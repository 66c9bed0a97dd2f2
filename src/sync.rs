//! The primitives everything concurrent here is built from: `std`'s, or loom's under `--cfg loom`.
//!
//! The only file beside the table's backends that knows loom exists.

#[cfg(not(loom))]
pub(crate) use self::cell::UnsafeCell;
#[cfg(loom)]
pub(crate) use loom::sync::atomic::fence;
#[cfg(all(not(loom), feature = "moka"))]
pub(crate) use std::sync::atomic::fence;
#[cfg(not(loom))]
pub(crate) use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, OnceLock,
    atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering},
};

#[cfg(loom)]
pub(crate) use self::model::OnceLock;
#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
};

/// So many tasks are called under one lock, and then woken without it.
#[cfg(not(loom))]
pub(crate) const BATCH: usize = 16;
/// As few as can be, so that a model has more than fit.
#[cfg(loom)]
pub(crate) const BATCH: usize = 1;

/// Locks a mutex whose critical sections run none of the user's code, so poison means nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Waits on a condition variable; the flag says whether the time has come.
#[cfg(not(loom))]
pub(crate) fn wait_on<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<std::time::Instant>,
) -> (MutexGuard<'a, T>, bool) {
    match deadline {
        None => (condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()), false),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let (guard, timed_out) =
                condvar.wait_timeout(guard, left).unwrap_or_else(|poisoned| poisoned.into_inner());
            (guard, timed_out.timed_out())
        }
    }
}

/// loom has no time, except for a deadline that has passed.
#[cfg(loom)]
pub(crate) fn wait_on<'a, T>(
    condvar: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Option<std::time::Instant>,
) -> (MutexGuard<'a, T>, bool) {
    if has_passed(deadline) {
        return (guard, true);
    }
    (condvar.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner()), false)
}

/// Waits as a thread until it is notified; or `false` when the time has come.
#[cfg(not(loom))]
pub(crate) fn wait_until(
    listener: impl event_listener::Listener,
    deadline: Option<std::time::Instant>,
) -> bool {
    match deadline {
        None => {
            listener.wait();
            true
        }
        Some(deadline) => listener.wait_deadline(deadline).is_some(),
    }
}

/// loom has no time, except for a deadline that has passed.
#[cfg(loom)]
pub(crate) fn wait_until(
    listener: impl event_listener::Listener,
    deadline: Option<std::time::Instant>,
) -> bool {
    if has_passed(deadline) {
        return false;
    }
    listener.wait();
    true
}

/// Polls a future as a thread until it is ready; or `None` when the time has come.
#[cfg(not(loom))]
pub(crate) fn block_on<F: Future>(
    future: F,
    deadline: Option<std::time::Instant>,
) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let (parker, unparker) = parking::pair();
    let waker = std::task::Waker::from(unparker);
    let cx = &mut std::task::Context::from_waker(&waker);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(cx) {
            return Some(output);
        }
        match deadline {
            None => parker.park(),
            // Asked each time: a future that wakes itself again and again never parks the thread.
            Some(deadline) if std::time::Instant::now() >= deadline => return None,
            Some(deadline) => {
                parker.park_deadline(deadline);
            }
        }
    }
}

/// loom has no time, except for a deadline that has passed.
#[cfg(loom)]
pub(crate) fn block_on<F: Future>(
    future: F,
    deadline: Option<std::time::Instant>,
) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    loom::future::block_on(std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending if has_passed(deadline) => std::task::Poll::Ready(None),
        std::task::Poll::Pending => std::task::Poll::Pending,
    }))
}

/// The same in each run of a model, whose timeouts are zero.
#[cfg(loom)]
fn has_passed(deadline: Option<std::time::Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= std::time::Instant::now())
}

#[cfg(any(loom, not(feature = "tokio")))]
pub(crate) use self::no_timer::Timer;
/// What async calls tell the time by. The core has none of its own: it is tokio's.
#[cfg(all(not(loom), feature = "tokio"))]
pub(crate) use crate::tokio::Timer;

#[cfg(any(loom, not(feature = "tokio")))]
mod no_timer {
    use std::{
        task::{Context, Poll},
        time::Duration,
    };

    /// Without the feature no call gets as far as to need one. The models have no time that passes.
    pub(crate) struct Timer(());

    impl Timer {
        pub(crate) const EXISTS: bool = cfg!(loom);

        pub(crate) fn new(_: Duration) -> Self {
            if !Self::EXISTS {
                unreachable!("without a timer no call states a timeout");
            }
            Self(())
        }

        pub(crate) fn poll(&mut self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
}

/// A thread-local without a destructor. `std` reads it without a lazy-initialisation check when the
/// initialiser is `const`, which loom's macro cannot express.
macro_rules! plain_thread_local {
    (static $name:ident: $type:ty = $init:expr) => {
        #[cfg(not(loom))]
        std::thread_local! { static $name: $type = const { $init } }
        #[cfg(loom)]
        loom::thread_local! { static $name: $type = $init }
    };
}
pub(crate) use plain_thread_local;

#[cfg(not(loom))]
mod cell {
    //! `std`'s `UnsafeCell` with loom's face, which sees where each access begins and ends.

    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
mod model {
    //! What loom lacks: `std`'s `OnceLock`, with the one ordering std promises and no more.

    use loom::{
        cell::UnsafeCell,
        sync::atomic::{AtomicBool, Ordering},
    };

    pub(crate) struct OnceLock<T> {
        set: AtomicBool,
        value: UnsafeCell<Option<T>>,
    }

    #[allow(unsafe_code, reason = "the model of a std type; loom checks every access below")]
    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self { set: AtomicBool::new(false), value: UnsafeCell::new(None) }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            // Acquire: pairs with the Release in `set`; makes the value visible.
            if !self.set.load(Ordering::Acquire) {
                return None;
            }
            // SAFETY: the flag is set after the one write, and nothing writes again.
            self.value.with(|value| unsafe { (*value).as_ref() })
        }

        /// Two racing calls, which std allows, are a fault of the caller that loom reports.
        pub(crate) fn set(&self, value: T) -> Result<(), T> {
            if self.set.load(Ordering::Acquire) {
                return Err(value);
            }
            // SAFETY: only the one leader of a flight sets, and readers wait for the flag.
            self.value.with_mut(|cell| unsafe { *cell = Some(value) });
            self.set.store(true, Ordering::Release);
            Ok(())
        }

        pub(crate) fn take(&mut self) -> Option<T> {
            self.set.store(false, Ordering::Relaxed);
            // SAFETY: it is borrowed for this alone.
            self.value.with_mut(|cell| unsafe { (*cell).take() })
        }
    }

    // SAFETY: as for std's: a shared reference hands out `&T` and lets one thread move a `T` in.
    #[allow(unsafe_code, reason = "loom's UnsafeCell is not Sync by itself")]
    unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}
}
