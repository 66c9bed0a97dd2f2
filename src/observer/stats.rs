//! `Stats`: an observer that counts.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{Answered, Observer};
use crate::{CallError, flight::FlightId};

/// Counts the events of one group, or of several that are to be counted together.
///
/// ```
/// use shardflight::{Group, Stats};
/// use std::sync::Arc;
///
/// let stats = Arc::new(Stats::default());
/// let pages: Group<String, u32> = Group::builder().observer(stats.clone()).build();
/// pages.run_blocking("/", || 1);
/// pages.run_blocking("/", || 2);
///
/// let counted = stats.snapshot();
/// assert_eq!((counted.led, counted.landed), (2, 2));
/// assert_eq!(counted.saved(), 0); // they did not overlap
/// assert_eq!(counted.in_flight(), 0);
/// ```
///
/// The counters lie side by side, so that callers on different cores write to the same one or two
/// cache lines, as the calls of a group otherwise do not. Where a call takes well under a microsecond
/// and many threads make them, that is what they wait for.
#[derive(Debug, Default)]
pub struct Stats {
    led: AtomicU64,
    joined: AtomicU64,
    taken_over: AtomicU64,
    landed: AtomicU64,
    panicked: AtomicU64,
    cancelled: AtomicU64,
    answered: AtomicU64,
    left: AtomicU64,
    forgotten: AtomicU64,
    refused: AtomicU64,
    waited: AtomicU64,
    hits: AtomicU64,
    stale_hits: AtomicU64,
    misses: AtomicU64,
    refreshes: AtomicU64,
    loads: AtomicU64,
    failed_loads: AtomicU64,
    requests_led: AtomicU64,
    requests_joined: AtomicU64,
    requests_alone: AtomicU64,
    requests_refused: AtomicU64,
    requests_retried: AtomicU64,
    /// Of those that ran alone or were refused.
    reasons: Mutex<BTreeMap<String, u64>>,
}

/// What [`Stats`] have counted. The fields are the events of [`Observer`], which see.
///
/// ```
/// use shardflight::{Group, Stats};
/// use std::sync::Arc;
///
/// let stats = Arc::new(Stats::default());
/// let group: Group<u64, u64> = Group::builder().observer(stats.clone()).build();
/// let before = stats.snapshot();
/// group.run_blocking(&1, || 1);
/// assert_eq!(stats.snapshot().led - before.led, 1);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StatsSnapshot {
    /// Flights begun.
    pub led: u64,
    /// Callers that came to a flight that there was already.
    pub joined: u64,
    /// Those of them that became its leader.
    pub taken_over: u64,
    /// Flights whose work returned.
    pub landed: u64,
    /// Flights whose work panicked.
    pub panicked: u64,
    /// Leaders that were dropped.
    pub cancelled: u64,
    /// Followers that got what their flight came to.
    pub answered: u64,
    /// Followers that went without.
    pub left: u64,
    /// Flights cut loose.
    pub forgotten: u64,
    /// Calls refused when they came.
    pub refused: u64,
    /// How long the followers that got an answer waited, all together.
    pub waited: Duration,
    /// Look-ups in a cache that found what they wanted.
    pub hits: u64,
    /// Those that found something old, and got it.
    pub stale_hits: u64,
    /// Those that found nothing, or waited for a refresh.
    pub misses: u64,
    /// Loads begun for a key that had a value.
    pub refreshes: u64,
    /// Loads that returned a value.
    pub loads: u64,
    /// Loads that returned an error.
    pub failed_loads: u64,
    /// HTTP requests that were executed, and that others could share.
    pub requests_led: u64,
    /// HTTP requests that were answered by the execution of another request.
    pub requests_joined: u64,
    /// HTTP requests that were executed for themselves alone. [`Stats::reasons`] says why.
    pub requests_alone: u64,
    /// HTTP requests that the layer answered without an execution. [`Stats::reasons`] says why.
    pub requests_refused: u64,
    /// HTTP requests, among all of these, that waited for a flight that failed and then for another one.
    pub requests_retried: u64,
}

impl Stats {
    /// What has been counted until now. While calls are in progress the numbers are not all of the same
    /// instant.
    pub fn snapshot(&self) -> StatsSnapshot {
        // Relaxed, everywhere here: each number is meant by itself.
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StatsSnapshot {
            led: of(&self.led),
            joined: of(&self.joined),
            taken_over: of(&self.taken_over),
            landed: of(&self.landed),
            panicked: of(&self.panicked),
            cancelled: of(&self.cancelled),
            answered: of(&self.answered),
            left: of(&self.left),
            forgotten: of(&self.forgotten),
            refused: of(&self.refused),
            waited: Duration::from_nanos(of(&self.waited)),
            hits: of(&self.hits),
            stale_hits: of(&self.stale_hits),
            misses: of(&self.misses),
            refreshes: of(&self.refreshes),
            loads: of(&self.loads),
            failed_loads: of(&self.failed_loads),
            requests_led: of(&self.requests_led),
            requests_joined: of(&self.requests_joined),
            requests_alone: of(&self.requests_alone),
            requests_refused: of(&self.requests_refused),
            requests_retried: of(&self.requests_retried),
        }
    }

    /// Why HTTP requests ran alone or were refused, and how many did for each reason. [`Answered`] lists the
    /// reasons.
    ///
    /// ```
    /// use shardflight::{Answered, Observer, Stats};
    ///
    /// let stats = Stats::default(); // of a layer
    /// stats.request(Answered::Alone { reason: "header:authorization" }, 0);
    /// assert_eq!(stats.reasons()["header:authorization"], 1);
    /// ```
    pub fn reasons(&self) -> BTreeMap<String, u64> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count_reason(&self, reason: &str) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        match reasons.get_mut(reason) {
            Some(count) => *count += 1,
            None => {
                reasons.insert(reason.to_owned(), 1);
            }
        }
    }
}

impl StatsSnapshot {
    /// Executions saved: calls that were answered by the work of another.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::{Group, Stats};
    /// use std::sync::Arc;
    ///
    /// future::block_on(async {
    ///     let stats = Arc::new(Stats::default());
    ///     let group: Group<&str, u32> = Group::builder().observer(stats.clone()).build();
    ///     let call = || group.run(&"key", async { future::yield_now().await; 1 });
    ///     future::zip(call(), future::zip(call(), call())).await;
    ///     assert_eq!(stats.snapshot().saved(), 2);
    /// });
    /// ```
    pub fn saved(&self) -> u64 {
        self.answered
    }

    /// Flights that have a leader now.
    ///
    /// ```
    /// use shardflight::{Entry, Group, Stats};
    /// use std::sync::Arc;
    ///
    /// let stats = Arc::new(Stats::default());
    /// let group: Group<&str, u32> = Group::builder().observer(stats.clone()).build();
    /// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
    /// assert_eq!(stats.snapshot().in_flight(), 1);
    /// lead.land(1);
    /// assert_eq!(stats.snapshot().in_flight(), 0);
    /// ```
    pub fn in_flight(&self) -> u64 {
        let ended = self.landed + self.panicked + self.cancelled;
        (self.led + self.taken_over).saturating_sub(ended)
    }

    /// Callers that follow now.
    ///
    /// ```
    /// use shardflight::{Entry, Group, Stats};
    /// use std::sync::Arc;
    ///
    /// let stats = Arc::new(Stats::default());
    /// let group: Group<&str, u32> = Group::builder().observer(stats.clone()).build();
    /// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
    /// let handle = lead.handle();
    /// assert_eq!(stats.snapshot().waiting(), 1);
    /// lead.land(1);
    /// assert_eq!(handle.wait(), Ok(1));
    /// assert_eq!(stats.snapshot().waiting(), 0);
    /// ```
    pub fn waiting(&self) -> u64 {
        self.joined.saturating_sub(self.answered + self.left + self.taken_over)
    }

    /// Of a cache's look-ups the part that did not wait for a load, between 0 and 1; `None` if there were
    /// none.
    ///
    /// ```
    /// use shardflight::StatsSnapshot;
    ///
    /// assert_eq!(StatsSnapshot::default().hit_rate(), None);
    /// ```
    pub fn hit_rate(&self) -> Option<f64> {
        let hits = self.hits + self.stale_hits;
        let looked_up = hits + self.misses;
        (looked_up > 0).then(|| hits as f64 / looked_up as f64)
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Observer for Stats {
    fn led(&self, _: FlightId) {
        count(&self.led);
    }

    fn joined(&self, _: FlightId) {
        count(&self.joined);
    }

    fn taken_over(&self, _: FlightId) {
        count(&self.taken_over);
    }

    fn landed(&self, _: FlightId, _: usize, _: Duration) {
        count(&self.landed);
    }

    fn panicked(&self, _: FlightId, _: usize, _: Duration) {
        count(&self.panicked);
    }

    fn cancelled(&self, _: FlightId) {
        count(&self.cancelled);
    }

    fn answered(&self, _: FlightId, waited: Duration) {
        count(&self.answered);
        // 584 years.
        self.waited.fetch_add(waited.as_nanos() as u64, Ordering::Relaxed);
    }

    fn left(&self, _: FlightId, _: Duration) {
        count(&self.left);
    }

    fn forgotten(&self, _: FlightId) {
        count(&self.forgotten);
    }

    fn refused(&self, _: &CallError) {
        count(&self.refused);
    }

    fn hit(&self) {
        count(&self.hits);
    }

    fn stale_hit(&self) {
        count(&self.stale_hits);
    }

    fn missed(&self) {
        count(&self.misses);
    }

    fn refreshing(&self) {
        count(&self.refreshes);
    }

    fn loaded(&self, _: Duration) {
        count(&self.loads);
    }

    fn load_failed(&self, _: Duration) {
        count(&self.failed_loads);
    }

    fn request(&self, answered: Answered<'_>, retries: u32) {
        count(match answered {
            Answered::Led { .. } => &self.requests_led,
            Answered::Joined => &self.requests_joined,
            Answered::Alone { .. } => &self.requests_alone,
            Answered::Refused { .. } => &self.requests_refused,
        });
        if retries > 0 {
            count(&self.requests_retried);
        }
        if let Some(reason) = answered.reason() {
            self.count_reason(reason);
        }
    }
}
