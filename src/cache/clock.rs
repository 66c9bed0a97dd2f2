//! The time, in nanoseconds since a cache was made: tokio's, if there is one, so that tests can stop it.

use std::{
    // Not that of the models: it orders nothing.
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

#[cfg(not(feature = "tokio"))]
use std::time::Instant;
#[cfg(feature = "tokio")]
use tokio::time::Instant;

/// An instant, or one that never comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    pub(super) const NEVER: Self = Self(u64::MAX);
    pub(super) const FIRST: Self = Self(0);

    /// `NEVER` if it is too late to be told.
    pub(super) fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(nanos(time)))
    }

    pub(super) fn before(self, time: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(time)))
    }

    /// Zero if that is later.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// One that is set again.
#[derive(Debug)]
pub(super) struct AtomicMoment(AtomicU64);

impl AtomicMoment {
    pub(super) fn new(moment: Moment) -> Self {
        Self(AtomicU64::new(moment.0))
    }

    pub(super) fn get(&self) -> Moment {
        // Relaxed, both: it is meant by itself.
        Moment(self.0.load(Ordering::Relaxed))
    }

    pub(super) fn set(&self, moment: Moment) {
        self.0.store(moment.0, Ordering::Relaxed);
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { origin: Instant::now() }
    }

    pub(super) fn now(&self) -> Moment {
        Moment::FIRST.after(self.origin.elapsed())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What is too late to be told never comes, and what is too early was the beginning.
    #[test]
    fn moments_saturate() {
        let hour = Duration::from_secs(3_600);
        let later = Moment::FIRST.after(hour);
        assert!(Moment::FIRST < later && later < Moment::NEVER);
        assert_eq!((later.since(Moment::FIRST), later.before(hour)), (hour, Moment::FIRST));
        assert_eq!(later.before(Duration::MAX), Moment::FIRST);
        assert_eq!(later.after(Duration::MAX), Moment::NEVER);
        assert_eq!(Moment::NEVER.after(hour), Moment::NEVER);
        assert_eq!(Moment::FIRST.since(later), Duration::ZERO);
        assert_eq!(Moment::NEVER.since(Moment::FIRST), Duration::from_nanos(u64::MAX));
    }

    #[test]
    fn a_clock_begins_at_the_first_moment_and_goes_on() {
        let clock = Clock::new();
        let first = clock.now();
        assert!(first.since(Moment::FIRST) < Duration::from_secs(60));
        while clock.now() == first {
            std::thread::yield_now();
        }
        assert!(clock.now() > first);
    }

    /// Tests of users stop it.
    #[cfg(feature = "tokio")]
    #[test]
    fn a_clock_is_tokios() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let clock = Clock::new();
            assert_eq!(clock.now(), Moment::FIRST);
            tokio::time::advance(Duration::from_secs(5)).await;
            assert_eq!(clock.now().since(Moment::FIRST), Duration::from_secs(5));
        });
    }
}
