//! `Kept`: what the cache holds for a key.

use std::{sync::Arc, time::Duration};

use super::{
    clock::{AtomicMoment, Moment},
    loads::Stamp,
};

/// What moka holds for a key: a value, or an error for the time of the
/// [`negative_ttl`](super::ReadThroughBuilder::negative_ttl), and how long it is good for.
///
/// It is what moka's weigher, listener and iterator get to see.
///
/// ```
/// use shardflight::cache::ReadThrough;
///
/// let pages: ReadThrough<String, String, std::num::ParseIntError> = ReadThrough::builder()
///     .settings(|moka| {
///         moka.max_capacity(1 << 20)
///             .weigher(|_, kept| kept.value().map_or(1, |page: &String| page.len() as u32))
///     })
///     .build();
/// # assert_eq!(pages.moka().entry_count(), 0);
/// ```
#[derive(Debug, Clone)]
pub struct Kept<V, E> {
    pub(super) answer: Result<V, E>,
    /// Of the load that has stored it.
    pub(super) stamp: Stamp,
    /// `None` of what nobody but moka dates: for that the clock need not be read. Apart from the rest, because moka
    /// copies it at each look, and several times.
    pub(super) dates: Option<Arc<Dated>>,
}

impl<V, E> Kept<V, E> {
    /// What was loaded or inserted; `None` if it is an error.
    pub fn value(&self) -> Option<&V> {
        self.answer.as_ref().ok()
    }

    /// The error that is held for a while; `None` if it is a value.
    pub fn error(&self) -> Option<&E> {
        self.answer.as_ref().err()
    }
}

/// How long an answer is good for, as far as moka does not see to it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dates {
    /// From here on it is to be refreshed.
    pub(super) stale_at: Moment,
    /// From here on it is not to be used, unless a load fails.
    pub(super) expires_at: Moment,
    /// How long its load took.
    pub(super) took: Duration,
    /// After so long moka may drop it.
    pub(super) keep_for: Duration,
}

/// The dates of an entry, and what becomes of it in its place. It goes with the entry.
#[derive(Debug)]
pub(super) struct Dated {
    pub(super) dates: Dates,
    paused_until: AtomicMoment,
}

impl Dated {
    pub(super) fn new(dates: Dates) -> Self {
        Self { dates, paused_until: AtomicMoment::new(Moment::FIRST) }
    }

    /// A refresh has failed: another is not tried before that.
    pub(super) fn pause_until(&self, moment: Moment) {
        self.paused_until.set(moment);
    }

    pub(super) fn is_paused(&self, now: Moment) -> bool {
        now < self.paused_until.get()
    }
}
