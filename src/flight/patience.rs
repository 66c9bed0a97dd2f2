//! How long a call waits for other calls' work as a future ([`Call::timeout`](crate::Call::timeout)).
//! Threads have a deadline instead.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use super::Flight;
use crate::{
    error::CallError,
    sync::{Arc, AtomicU32, Ordering, Timer},
};

/// The time that is left to a call. It begins when the call first has to wait, and goes on through
/// all that it waits for.
pub(crate) enum Patience {
    Unlimited,
    /// The call has not had to wait yet.
    Stated(Duration),
    Running(Timer),
}

impl Patience {
    /// # Panics
    ///
    /// If a limit is stated and this build has no timer.
    #[track_caller]
    pub(crate) fn of(timeout: Option<Duration>) -> Self {
        match timeout {
            None | Some(Duration::MAX) => Self::Unlimited,
            Some(_) if !Timer::EXISTS => panic!(
                "shardflight: `Call::timeout` of an async call needs the feature `tokio`, which has the timer"
            ),
            Some(timeout) => Self::Stated(timeout),
        }
    }

    pub(crate) fn is_limited(&self) -> bool {
        !matches!(self, Self::Unlimited)
    }

    /// Whether the time began to run. It does not run while a call does its own work.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        matches!(self, Self::Running(_))
    }

    /// For a call that has to wait: whether its time is over. If it is not, the task is woken when it is.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        match self {
            Self::Unlimited => false,
            Self::Stated(Duration::ZERO) => true,
            Self::Stated(timeout) => {
                *self = Self::Running(Timer::new(*timeout));
                self.is_over(cx)
            }
            Self::Running(timer) => matches!(timer.poll(cx), Poll::Ready(())),
        }
    }

    /// For a call that waits for nobody any more: its own work begins, which is not limited, or it returns, and a
    /// future that is kept must not be woken by a timer of it. Drops that timer, and the waker in it.
    pub(crate) fn stop(&mut self) {
        *self = Self::Unlimited;
    }
}

/// The time of a call with a handle, which learns when nobody keeps it any more.
pub(crate) struct Limit {
    pub(crate) patience: Patience,
    pub(crate) lapse: Arc<Lapse>,
}

impl Limit {
    /// `None` if there is no limit.
    pub(crate) fn new(patience: Patience) -> Option<Self> {
        patience.is_limited().then(|| Self { patience, lapse: Arc::new(Lapse(AtomicU32::new(0))) })
    }
}

/// Whether, and why, the task of a handle keeps its time no more although the flight goes on.
pub(crate) struct Lapse(AtomicU32);

#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Lapsed {
    /// It gave up.
    TimedOut = 1,
    /// It was dropped. The handle would wait for others, and nobody would tell it when to stop.
    Dropped = 2,
}

impl Lapse {
    /// To be called before the task leaves the flight: a handle that finds the flight dead then knows
    /// why.
    pub(crate) fn set<V>(&self, flight: &Flight<V>, why: Lapsed) {
        // Relaxed: a handle sees it by what comes after it here: the call, under the lock of the event that
        // it registers with (G6), or the task's change of the flight's state.
        self.0.store(why as u32, Ordering::Relaxed);
        flight.call_aside();
    }

    /// What the handle gets for it.
    pub(crate) fn error(&self) -> Option<CallError> {
        const TIMED_OUT: u32 = Lapsed::TimedOut as u32;
        const DROPPED: u32 = Lapsed::Dropped as u32;
        // Relaxed: as above.
        match self.0.load(Ordering::Relaxed) {
            TIMED_OUT => Some(CallError::TimedOut),
            DROPPED => Some(CallError::Cancelled),
            _ => None,
        }
    }
}
