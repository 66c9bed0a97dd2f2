//! When flights began, for those who ask. Reading the clock costs more than a whole unshared call, so
//! flights are dated only in groups in which somebody has asked before.

use std::{
    // Not those of the models: they order nothing.
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Nanoseconds since the table was made; 0 if nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64);

impl Stamp {
    pub(crate) const NONE: Self = Self(0);
}

pub(super) struct Clock {
    origin: Instant,
    is_on: AtomicBool,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), is_on: AtomicBool::new(false) }
    }

    /// From here on flights are dated.
    pub(super) fn turn_on(&self) {
        // Relaxed: who does not see it yet leaves its flight undated, as one that began before.
        if !self.is_on.load(Ordering::Relaxed) {
            self.is_on.store(true, Ordering::Relaxed);
        }
    }

    #[inline(always)]
    pub(super) fn is_on(&self) -> bool {
        // Relaxed: as above.
        self.is_on.load(Ordering::Relaxed)
    }

    /// For a flight that begins now.
    #[inline(always)]
    pub(super) fn stamp(&self) -> Stamp {
        if self.is_on() { self.now() } else { Stamp::NONE }
    }

    #[cold]
    pub(super) fn now(&self) -> Stamp {
        // 584 years.
        Stamp((self.origin.elapsed().as_nanos() as u64).max(1))
    }

    /// `None` if the flight is not dated.
    pub(super) fn age(&self, began: Stamp) -> Option<Duration> {
        (began != Stamp::NONE).then(|| self.longest(began))
    }

    /// The age of a flight, or, if it is not dated, the greatest that it can have.
    pub(super) fn longest(&self, began: Stamp) -> Duration {
        self.origin.elapsed().saturating_sub(Duration::from_nanos(began.0))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn flights_are_dated_once_somebody_has_asked() {
        let clock = Clock::new();
        assert_eq!(clock.stamp(), Stamp::NONE);
        assert_eq!(clock.age(Stamp::NONE), None);
        clock.turn_on();
        let began = clock.stamp();
        assert_ne!(began, Stamp::NONE);
        assert!(clock.age(began).is_some_and(|age| age <= clock.longest(Stamp::NONE)));
    }
}
