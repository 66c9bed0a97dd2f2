//! How a leader that may be aborted learns that nobody wants its value any more.

use std::{
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
    task::Waker,
};

use crate::sync::{AtomicU32, Mutex, Ordering, lock};

/// Shared by the task of a spawned call, its handles, and the flight while the task leads it.
pub(crate) struct Alarm {
    waker: Mutex<Option<Waker>>,
    /// 1 when the last handle has been dropped.
    released: AtomicU32,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { waker: Mutex::new(None), released: AtomicU32::new(0) }
    }

    /// To be called before looking whether there is a reason to ring: what rings later wakes the task,
    /// and what rang before has changed what it sees.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut place = lock(&self.waker);
        if !place.as_ref().is_some_and(|old| old.will_wake(waker)) {
            let old = place.replace(waker.clone());
            drop(place);
            drop(old);
        }
    }

    pub(super) fn ring(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker
            && let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake()))
        {
            // As those of the events: who rings has other things to do yet. Dropping the payload could
            // panic again.
            forget(payload);
        }
    }

    pub(super) fn release(&self) {
        // Release: pairs with the Acquire below.
        self.released.store(1, Ordering::Release);
        self.ring();
    }

    pub(crate) fn is_released(&self) -> bool {
        // Acquire: the work's end comes after whatever the last handle's owner did, also where the handle is
        // not counted in the state word, as that of a task that follows.
        self.released.load(Ordering::Acquire) == 1
    }
}
