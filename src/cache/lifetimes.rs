//! How long answers are good for, and when they are to be refreshed.

use std::{fmt, time::Duration};

use super::{clock::Moment, kept::Dates};

/// When a value is refreshed before its time has come, so that a fleet of servers that loaded it together
/// does not refresh it together, and one server not all of its values.
/// [`ReadThroughBuilder::early_refresh`](super::ReadThroughBuilder::early_refresh)
///
/// Early against the [`soft_ttl`](super::ReadThroughBuilder::soft_ttl), where there is one, else against the
/// end of the value's time to live: then a refresh may begin so late that the value ends before it is there, and
/// callers wait. Values without either are not refreshed.
///
/// ```
/// use shardflight::cache::{EarlyRefresh, ReadThrough};
/// use std::{convert::Infallible, time::Duration};
///
/// // Between 50 and 60 seconds after it was loaded.
/// let rates: ReadThrough<String, f64, Infallible> = ReadThrough::builder()
///     .time_to_live(Duration::from_secs(90))
///     .soft_ttl(Duration::from_secs(60))
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
    pub(super) soft_ttl_of: Option<TtlOf<K, V>>,
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
            soft_ttl_of: None,
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
        let of = |ttl_of: &Option<TtlOf<K, V>>| ttl_of.as_ref().and_then(|of| of(key, value));
        let (own, own_soft) = (of(&self.ttl_of), of(&self.soft_ttl_of));
        if own.is_none() && own_soft.is_none() && !self.date_all() {
            return None;
        }
        let (now, ttl) = (now(), own.or(self.ttl));
        let expires_at = ttl.map_or(Moment::NEVER, |ttl| now.after(ttl));
        let soft = own_soft.or(self.soft_ttl).map_or(Moment::NEVER, |ttl| now.after(ttl));
        let stale_at = self.jittered(now, soft.min(expires_at));
        let keep_for = ttl.map_or(Duration::MAX, |ttl| self.keep_for(ttl));
        Some(Dates { stale_at, expires_at, took, keep_for })
    }

    /// Of an error, if it is kept.
    pub(super) fn of_error(&self, now: impl FnOnce() -> Moment) -> Option<Dates> {
        let ttl = self.negative_ttl?;
        let expires_at = now().after(ttl);
        let (stale_at, took) = (expires_at, Duration::ZERO);
        Some(Dates { stale_at, expires_at, took, keep_for: ttl })
    }

    /// Of something that has dates.
    pub(super) fn judge(&self, dates: &Dates, is_error: bool, now: Moment) -> Age {
        let spare = self.stale_if_error.filter(|_| !is_error).unwrap_or_default();
        match () {
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
            .field("has_soft_ttl_of", &self.soft_ttl_of.is_some())
            .field("early_refresh", &self.early)
            .field("stale_if_error", &self.stale_if_error)
            .field("negative_ttl", &self.negative_ttl)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const NANO: Duration = Duration::from_nanos(1);
    const DRAWS: u32 = 10_000;

    fn at(seconds: u32) -> Moment {
        Moment::FIRST.after(S * seconds)
    }

    fn of_value(lifetimes: &Lifetimes<u64, u64>, took: Duration) -> Dates {
        lifetimes.of_value(&1, &1, took, || at(100)).expect("it is dated")
    }

    /// Each age begins exactly at its date.
    #[test]
    fn a_value_has_its_ages_one_after_the_other() {
        let lifetimes: Lifetimes<u64, u64> = Lifetimes {
            ttl: Some(20 * S),
            soft_ttl: Some(10 * S),
            stale_if_error: Some(5 * S),
            ..Lifetimes::default()
        };
        let dates = of_value(&lifetimes, S);
        assert_eq!((dates.stale_at, dates.expires_at), (at(110), at(120)));
        assert_eq!((dates.keep_for, dates.took), (25 * S, S));
        let ages = [Age::Fresh, Age::Due, Age::Spare, Age::Over];
        for (i, end) in [at(110), at(120), at(125)].into_iter().enumerate() {
            assert_eq!(lifetimes.judge(&dates, false, end.before(NANO)), ages[i]);
            assert_eq!(lifetimes.judge(&dates, false, end), ages[i + 1]);
        }
        assert_eq!(lifetimes.judge(&dates, false, Moment::NEVER), Age::Over);
    }

    /// The clock is not read for what moka sees to alone.
    #[test]
    fn what_nobody_but_moka_dates_has_no_dates() {
        let mut lifetimes: Lifetimes<u64, u64> = Lifetimes::default();
        let no_clock = || unreachable!("the clock is read");
        assert_eq!(lifetimes.of_value(&1, &1, S, no_clock), None);
        lifetimes.ttl = Some(S);
        lifetimes.negative_ttl = Some(2 * S);
        lifetimes.ttl_of = Some(Box::new(|_, _| None));
        assert_eq!(lifetimes.of_value(&1, &1, S, no_clock), None);
        lifetimes.has_own_end = true;
        assert_eq!(of_value(&lifetimes, S).expires_at, at(101));
    }

    #[test]
    fn an_error_is_fresh_for_its_time_and_then_over() {
        let mut lifetimes: Lifetimes<u64, u64> =
            Lifetimes { stale_if_error: Some(5 * S), ..Lifetimes::default() };
        assert_eq!(lifetimes.of_error(|| unreachable!("it is not kept")), None);
        lifetimes.negative_ttl = Some(2 * S);
        lifetimes.early = Some(EarlyRefresh::XFetch { beta: f64::INFINITY });
        let dates = lifetimes.of_error(|| at(100)).expect("it is kept");
        assert_eq!(dates.keep_for, 2 * S);
        assert_eq!(lifetimes.judge(&dates, true, at(102).before(NANO)), Age::Fresh);
        assert_eq!(lifetimes.judge(&dates, true, at(102)), Age::Over);
    }

    /// Within the window, all over it, and never before the value was stored.
    #[test]
    fn jitter_stays_in_its_window() {
        for (window, first) in [(10, 150), (0, 160), (60, 100), (1_000, 100)] {
            let lifetimes: Lifetimes<u64, u64> = Lifetimes {
                ttl: Some(90 * S),
                soft_ttl: Some(60 * S),
                early: Some(EarlyRefresh::Jitter(window * S)),
                ..Lifetimes::default()
            };
            let width = at(160).since(at(first)).as_secs_f64();
            let mut sum = 0.0;
            for _ in 0..DRAWS {
                let dates = of_value(&lifetimes, S);
                assert!((at(first)..=at(160)).contains(&dates.stale_at), "{dates:?}");
                assert_eq!(dates.expires_at, at(190));
                sum += at(160).since(dates.stale_at).as_secs_f64();
            }
            // A hundredth of the width is more than three standard deviations.
            let mean = sum / f64::from(DRAWS);
            assert!((mean - width / 2.0).abs() <= width / 50.0, "{mean} of {width}");
        }
        let endless: Lifetimes<u64, u64> =
            Lifetimes { early: Some(EarlyRefresh::Jitter(S)), ..Lifetimes::default() };
        assert_eq!(of_value(&endless, S).stale_at, Moment::NEVER);
    }

    /// How much earlier than the end a look refreshes: `took * beta` on average, if every moment is looked at once.
    #[test]
    fn xfetch_is_early_by_the_time_of_a_load() {
        for (took, beta) in [(4, 1.0), (2, 3.0), (10, 0.5)] {
            let lifetimes: Lifetimes<u64, u64> = Lifetimes {
                ttl: Some(1_000 * S),
                early: Some(EarlyRefresh::XFetch { beta }),
                ..Lifetimes::default()
            };
            let dates = of_value(&lifetimes, took * S);
            let due = |left: f64| {
                let now = dates.stale_at.before(Duration::from_secs_f64(left));
                let due = |_: &u32| lifetimes.judge(&dates, false, now) == Age::Due;
                (0..DRAWS).filter(due).count() as f64 / f64::from(DRAWS)
            };
            // Of what is drawn, `-ln` of a number between 0 and 1, the mean is the integral of this over the time
            // that is left. Between 0 and ten times the mean, in steps of a tenth.
            let scale = f64::from(took) * beta;
            let mean: f64 = (0..100).map(|i| due(scale * (f64::from(i) + 0.5) / 10.0) / 10.0).sum();
            assert!((0.95..1.05).contains(&mean), "{mean} times {scale}");
            assert_eq!(due(scale * 40.0), 0.0);
        }
    }

    #[test]
    fn xfetch_without_sense_is_never_early() {
        let early = |beta: f64, took: Duration| {
            let lifetimes: Lifetimes<u64, u64> = Lifetimes {
                ttl: Some(S),
                early: Some(EarlyRefresh::XFetch { beta }),
                ..Lifetimes::default()
            };
            let dates = of_value(&lifetimes, took);
            let nearly = dates.stale_at.before(NANO);
            (0..100).filter(|_| lifetimes.judge(&dates, false, nearly) == Age::Due).count()
        };
        for beta in [0.0, -0.0, -1.0, f64::MIN, f64::NEG_INFINITY, f64::NAN] {
            for took in [Duration::ZERO, S, Duration::MAX] {
                assert_eq!(early(beta, took), 0, "{beta} {took:?}");
            }
        }
        for beta in [1.0, f64::MAX, f64::INFINITY] {
            assert_eq!(early(beta, Duration::ZERO), 0, "{beta}");
            assert!(early(beta, Duration::MAX) > 90, "{beta}");
        }
    }
}
