//! How a leader that may be aborted learns that nobody wants its value any more.

use std::{sync::PoisonError, task::Waker};

use crate::{
    panics::contain,
    sync::{AtomicU32, Mutex, Ordering, lock},
};

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

    /// To be called, by the task alone, before looking whether there is a reason to ring: what rings later
    /// wakes the task, and what rang before has changed what it sees.
    pub(crate) fn register(&self, waker: &Waker) {
        let is_there = lock(&self.waker).as_ref().is_some_and(|old| old.will_wake(waker));
        if !is_there {
            // Cloned and dropped under no lock (G9): either may drop the last handle, which rings.
            let waker = waker.clone();
            let old = lock(&self.waker).replace(waker);
            drop(old);
        }
    }

    pub(super) fn ring(&self) {
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            // As those of the events: the caller that rings has other things to do yet.
            contain(|| waker.wake());
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

/// Of a task that is gone. The last one to keep the alarm is often a caller that has nothing to do with that
/// task: a panic of its waker must not cost that caller its answer.
impl Drop for Alarm {
    fn drop(&mut self) {
        let waker = self.waker.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        contain(|| drop(waker));
    }
}
