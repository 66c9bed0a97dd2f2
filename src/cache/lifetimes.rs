//! How long answers are good for, and when they are to be refreshed.

use std::{fmt, time::Duration};

use super::{clock::Moment, kept::Dates};

/// When a value is refreshed before its time has come, so that a fleet of servers that loaded it together
/// does not refresh it together, and one server not all of its values.
/// [`ReadThroughBuilder::early_refresh`](super::ReadThroughBuilder::early_refresh)
///
/// Early against the [`soft_ttl`](super::ReadThroughBuilder::soft_ttl), where there is one, else against the
/// end of the value's time to live. Values without either are not refreshed.
///
/// ```
/// use shardflight::cache::{EarlyRefresh, ReadThrough};
/// use std::{convert::Infallible, time::Duration};
///
/// // Between 50 and 60 seconds after it was loaded.
/// let rates: ReadThrough<String, f64, Infallible> = ReadThrough::builder()
///     .time_to_live(Duration::from_secs(60))
///     .early_refresh(EarlyRefresh::Jitter(Duration::from_secs(10)))
///     .build();
/// # drop(rates);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum EarlyRefresh {
    /// Each value at a moment that is drawn when it is stored, evenly from the last so much of its time.
    Jitter(Duration),
    /// Each look draws whether it refreshes, the likelier the nearer the end and the longer the load took:
    /// XFetch of Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention"
    /// (PVLDB 8, 2015). The paper shows that 1 is a good `beta`; more refreshes earlier. A `beta` that is
    /// not positive never does.
    ///
    /// A look before the end refreshes if `took * beta * -ln(random)` is more than the time that is left.
    XFetch {
        /// How much earlier than the time that the load took, on average.
        beta: f64,
    },
}

/// The rules of a cache.
pub(super) struct Lifetimes<K, V> {
    pub(super) ttl: Option<Duration>,
    pub(super) ttl_of: Option<TtlOf<K, V>>,
    pub(super) soft_ttl: Option<Duration>,
    pub(super) early: Option<EarlyRefresh>,
    pub(super) stale_if_error: Option<Duration>,
    pub(super) negative_ttl: Option<Duration>,
    /// Whether values that have the cache's time to live expire by their dates; otherwise moka does that.
    pub(super) has_own_end: bool,
}

pub(super) type TtlOf<K, V> = Box<dyn Fn(&K, &V) -> Option<Duration> + Send + Sync>;

/// What an answer is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    Fresh,
    /// To be used, and to be refreshed.
    Due,
    /// To be used although it is old: its refresh has just failed.
    Paused,
    /// To be used if a load fails.
    Spare,
    Over,
}

impl<K, V> Default for Lifetimes<K, V> {
    fn default() -> Self {
        Self {
            ttl: None,
            ttl_of: None,
            soft_ttl: None,
            early: None,
            stale_if_error: None,
            negative_ttl: None,
            has_own_end: false,
        }
    }
}

impl<K, V> Lifetimes<K, V> {
    /// Whether each value is dated.
    fn date_all(&self) -> bool {
        self.soft_ttl.is_some()
            || self.early.is_some()
            || self.stale_if_error.is_some()
            || self.has_own_end
    }

    /// Whether it matters how long a load takes.
    pub(super) fn depend_on_load(&self) -> bool {
        matches!(self.early, Some(EarlyRefresh::XFetch { .. }))
    }

    /// How long a value that expires after `ttl` is kept.
    pub(super) fn keep_for(&self, ttl: Duration) -> Duration {
        ttl.saturating_add(self.stale_if_error.unwrap_or_default())
    }

    /// Of a value that is stored at `now`, which is asked for if need be. `None` if moka sees to it alone.
    pub(super) fn of_value(
        &self,
        key: &K,
        value: &V,
        took: Duration,
        now: impl FnOnce() -> Moment,
    ) -> Option<Dates> {
        let own = self.ttl_of.as_ref().and_then(|ttl_of| ttl_of(key, value));
        if own.is_none() && !self.date_all() {
            return None;
        }
        let (now, ttl) = (now(), own.or(self.ttl));
        let expires_at = ttl.map_or(Moment::NEVER, |ttl| now.after(ttl));
        let soft = self.soft_ttl.map_or(Moment::NEVER, |ttl| now.after(ttl));
        let stale_at = self.jittered(now, soft.min(expires_at));
        let keep_for = ttl.map_or(Duration::MAX, |ttl| self.keep_for(ttl));
        Some(Dates { stale_at, expires_at, paused_until: Moment::FIRST, took, keep_for })
    }

    /// Of an error, if it is kept.
    pub(super) fn of_error(&self, now: impl FnOnce() -> Moment) -> Option<Dates> {
        let ttl = self.negative_ttl?;
        let expires_at = now().after(ttl);
        Some(Dates {
            stale_at: expires_at,
            expires_at,
            paused_until: Moment::FIRST,
            took: Duration::ZERO,
            keep_for: ttl,
        })
    }

    /// Of a value whose refresh has failed: it is not tried again for as long as errors are kept.
    pub(super) fn of_paused(&self, dates: &Dates, now: impl FnOnce() -> Moment) -> Option<Dates> {
        let (now, pause) = (now(), self.negative_ttl?);
        let end = dates.expires_at.after(self.stale_if_error.unwrap_or_default());
        let paused_until = now.after(pause).min(end);
        Some(Dates { paused_until, keep_for: end.since(now), ..*dates })
    }

    /// Of something that has dates.
    pub(super) fn judge(&self, dates: &Dates, is_error: bool, now: Moment) -> Age {
        let spare = self.stale_if_error.filter(|_| !is_error).unwrap_or_default();
        match () {
            () if now < dates.paused_until => Age::Paused,
            () if now < dates.stale_at && !self.early_by_chance(dates, now) => Age::Fresh,
            () if now < dates.expires_at => Age::Due,
            () if now < dates.expires_at.after(spare) => Age::Spare,
            () => Age::Over,
        }
    }

    fn jittered(&self, now: Moment, end: Moment) -> Moment {
        match self.early {
            Some(EarlyRefresh::Jitter(most)) if end != Moment::NEVER => {
                end.before(most.min(end.since(now)).mul_f64(fastrand::f64()))
            }
            _ => end,
        }
    }

    /// XFetch.
    #[inline]
    fn early_by_chance(&self, dates: &Dates, now: Moment) -> bool {
        let Some(EarlyRefresh::XFetch { beta }) = self.early else { return false };
        if dates.stale_at == Moment::NEVER {
            return false;
        }
        let scale = dates.took.as_secs_f64() * beta;
        let left = dates.stale_at.since(now).as_secs_f64();
        // Most looks come too early for any draw.
        left <= scale * FARTHEST && left < scale * -(1.0 - fastrand::f64()).ln()
    }
}

/// More than `-ln` of what is drawn, of which the least is 2^-53.
const FARTHEST: f64 = 37.0;

impl<K, V> fmt::Debug for Lifetimes<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifetimes")
            .field("time_to_live", &self.ttl)
            .field("has_time_to_live_of", &self.ttl_of.is_some())
            .field("soft_ttl", &self.soft_ttl)
            .field("early_refresh", &self.early)
            .field("stale_if_error", &self.stale_if_error)
            .field("negative_ttl", &self.negative_ttl)
            .finish_non_exhaustive()
    }
}
