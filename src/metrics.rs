//! Feature `metrics`: an observer that reports to the recorder of the `metrics` crate.

use std::{fmt, time::Duration};

use metrics::{Counter, Gauge, Histogram, Unit, counter, gauge, histogram};

#[cfg(feature = "tower")]
use crate::Answered;
use crate::{CallError, FlightId, Observer};

/// Reports the flights of a group to the recorder of the [`metrics`](::metrics) crate.
///
/// | name | kind | what |
/// |---|---|---|
/// | `shardflight_flights_led_total` | counter | flights started |
/// | `shardflight_flights_landed_total` | counter | flights whose work returned |
/// | `shardflight_flights_panicked_total` | counter | flights whose work panicked |
/// | `shardflight_flights_cancelled_total` | counter | leaders that were dropped before their work returned |
/// | `shardflight_flights_taken_over_total` | counter | followers that became the leader of their flight |
/// | `shardflight_flights_forgotten_total` | counter | flights whose key was freed before they ended |
/// | `shardflight_calls_joined_total` | counter | callers that joined an existing flight |
/// | `shardflight_calls_answered_total` | counter | calls that were answered by the execution of another call |
/// | `shardflight_calls_left_total` | counter | followers that left without a result |
/// | `shardflight_calls_refused_total` | counter | calls refused; `reason` is `reentrant` or `too_many_followers` |
/// | `shardflight_flights_in_flight` | gauge | flights in progress |
/// | `shardflight_flight_followers` | histogram | followers of a flight that landed or panicked |
/// | `shardflight_flight_seconds` | histogram | duration of a flight |
/// | `shardflight_wait_seconds` | histogram | how long a follower waited for its answer |
///
/// And with the feature `moka`, of a [cache](crate::cache::ReadThrough):
///
/// | name | kind | what |
/// |---|---|---|
/// | `shardflight_cache_hits_total` | counter | lookups that found a current value or a cached error |
/// | `shardflight_cache_stale_hits_total` | counter | lookups that were answered with a stale value |
/// | `shardflight_cache_misses_total` | counter | lookups that found no value, or waited for a refresh |
/// | `shardflight_cache_refreshes_total` | counter | loads that refresh an existing value |
/// | `shardflight_cache_loads_total` | counter | loads that returned a value |
/// | `shardflight_cache_failed_loads_total` | counter | loads that returned an error |
/// | `shardflight_cache_load_seconds` | histogram | duration of a load, failed or not |
///
/// And with the feature `tower`, of a [layer](crate::tower::CoalesceLayer):
///
/// | name | kind | what |
/// |---|---|---|
/// | `shardflight_http_requests_total` | counter | requests answered; `answered` is `led`, `joined` (another request was executed), `alone` or `refused`, and `reason` says why a request ran alone or was refused |
/// | `shardflight_http_retries_total` | counter | failed flights after which a request waited for another one |
///
/// `reason` is one of the words that [`Answered`](crate::Answered) lists, and empty for `led` and `joined`. Its values
/// do not depend on what clients send, so there are few.
///
/// All of them have the label `group`. What each event means is told by [`Observer`].
///
/// ```
/// use shardflight::{Group, MetricsObserver};
///
/// // After the recorder has been installed.
/// let pages: Group<String, u32> =
///     Group::builder().observer(MetricsObserver::new("pages")).build();
/// assert_eq!(pages.run_blocking("/", || 1), 1);
/// ```
///
/// The metrics are looked up once, when this is made: make it after the recorder has been installed, or
/// what is observed goes nowhere. Only `shardflight_http_requests_total` is looked up for each request that ran
/// alone or was refused, because of its reason.
pub struct MetricsObserver {
    led: Counter,
    landed: Counter,
    panicked: Counter,
    cancelled: Counter,
    taken_over: Counter,
    forgotten: Counter,
    joined: Counter,
    answered: Counter,
    left: Counter,
    refused_reentrant: Counter,
    refused_full: Counter,
    in_flight: Gauge,
    followers: Histogram,
    flight_seconds: Histogram,
    wait_seconds: Histogram,
    #[cfg(feature = "moka")]
    cache: cache::CacheMetrics,
    #[cfg(feature = "tower")]
    http: http::HttpMetrics,
}

impl MetricsObserver {
    /// For the group of this name, which becomes the label `group`. Groups of one name are reported
    /// together.
    pub fn new(group: impl Into<String>) -> Self {
        describe();
        let group = group.into();
        let counter = |name: &'static str| counter!(name, "group" => group.clone());
        let histogram = |name: &'static str| histogram!(name, "group" => group.clone());
        let refused =
            |reason: &'static str| counter!(REFUSED, "group" => group.clone(), "reason" => reason);
        Self {
            led: counter(LED),
            landed: counter(LANDED),
            panicked: counter(PANICKED),
            cancelled: counter(CANCELLED),
            taken_over: counter(TAKEN_OVER),
            forgotten: counter(FORGOTTEN),
            joined: counter(JOINED),
            answered: counter(ANSWERED),
            left: counter(LEFT),
            refused_reentrant: refused("reentrant"),
            refused_full: refused("too_many_followers"),
            in_flight: gauge!(IN_FLIGHT, "group" => group.clone()),
            followers: histogram(FOLLOWERS),
            flight_seconds: histogram(FLIGHT_SECONDS),
            wait_seconds: histogram(WAIT_SECONDS),
            #[cfg(feature = "moka")]
            cache: cache::CacheMetrics::new(counter, histogram),
            #[cfg(feature = "tower")]
            http: http::HttpMetrics::new(group.clone()),
        }
    }

    fn ended(&self, followers: usize, age: Duration) {
        self.in_flight.decrement(1.0);
        self.followers.record(followers as f64);
        self.flight_seconds.record(age);
    }
}

const LED: &str = "shardflight_flights_led_total";
const LANDED: &str = "shardflight_flights_landed_total";
const PANICKED: &str = "shardflight_flights_panicked_total";
const CANCELLED: &str = "shardflight_flights_cancelled_total";
const TAKEN_OVER: &str = "shardflight_flights_taken_over_total";
const FORGOTTEN: &str = "shardflight_flights_forgotten_total";
const JOINED: &str = "shardflight_calls_joined_total";
const ANSWERED: &str = "shardflight_calls_answered_total";
const LEFT: &str = "shardflight_calls_left_total";
const REFUSED: &str = "shardflight_calls_refused_total";
const IN_FLIGHT: &str = "shardflight_flights_in_flight";
const FOLLOWERS: &str = "shardflight_flight_followers";
const FLIGHT_SECONDS: &str = "shardflight_flight_seconds";
const WAIT_SECONDS: &str = "shardflight_wait_seconds";

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};

    describe_counter!(LED, "flights started");
    describe_counter!(LANDED, "flights whose work returned");
    describe_counter!(PANICKED, "flights whose work panicked");
    describe_counter!(CANCELLED, "leaders that were dropped before their work returned");
    describe_counter!(TAKEN_OVER, "followers that became the leader of their flight");
    describe_counter!(FORGOTTEN, "flights whose key was freed before they ended");
    describe_counter!(JOINED, "callers that joined an existing flight");
    describe_counter!(ANSWERED, "calls that were answered by the execution of another call");
    describe_counter!(LEFT, "followers that left without a result");
    describe_counter!(REFUSED, "calls refused");
    describe_gauge!(IN_FLIGHT, "flights in progress");
    describe_histogram!(FOLLOWERS, "followers of a flight that landed or panicked");
    describe_histogram!(FLIGHT_SECONDS, Unit::Seconds, "duration of a flight");
    describe_histogram!(WAIT_SECONDS, Unit::Seconds, "how long a follower waited for its answer");
}

impl Observer for MetricsObserver {
    fn led(&self, _: FlightId) {
        self.led.increment(1);
        self.in_flight.increment(1.0);
    }

    fn joined(&self, _: FlightId) {
        self.joined.increment(1);
    }

    fn taken_over(&self, _: FlightId) {
        self.taken_over.increment(1);
        self.in_flight.increment(1.0);
    }

    fn landed(&self, _: FlightId, followers: usize, age: Duration) {
        self.landed.increment(1);
        self.ended(followers, age);
    }

    fn panicked(&self, _: FlightId, followers: usize, age: Duration) {
        self.panicked.increment(1);
        self.ended(followers, age);
    }

    fn cancelled(&self, _: FlightId) {
        self.cancelled.increment(1);
        self.in_flight.decrement(1.0);
    }

    fn answered(&self, _: FlightId, waited: Duration) {
        self.answered.increment(1);
        self.wait_seconds.record(waited);
    }

    fn left(&self, _: FlightId, _: Duration) {
        self.left.increment(1);
    }

    fn forgotten(&self, _: FlightId) {
        self.forgotten.increment(1);
    }

    fn refused(&self, why: &CallError) {
        match why {
            CallError::Reentrant => self.refused_reentrant.increment(1),
            _ => self.refused_full.increment(1),
        }
    }

    #[cfg(feature = "moka")]
    fn hit(&self) {
        self.cache.hits.increment(1);
    }

    #[cfg(feature = "moka")]
    fn stale_hit(&self) {
        self.cache.stale_hits.increment(1);
    }

    #[cfg(feature = "moka")]
    fn missed(&self) {
        self.cache.misses.increment(1);
    }

    #[cfg(feature = "moka")]
    fn refreshing(&self) {
        self.cache.refreshes.increment(1);
    }

    #[cfg(feature = "moka")]
    fn loaded(&self, took: Duration) {
        self.cache.loads.increment(1);
        self.cache.load_seconds.record(took);
    }

    #[cfg(feature = "moka")]
    fn load_failed(&self, took: Duration) {
        self.cache.failed_loads.increment(1);
        self.cache.load_seconds.record(took);
    }

    #[cfg(feature = "tower")]
    fn request(&self, answered: Answered<'_>, retries: u32) {
        self.http.request(answered, retries);
    }
}

#[cfg(feature = "moka")]
mod cache {
    //! What a cache has beside the flights of its loads.

    use metrics::{Counter, Histogram, Unit, describe_counter, describe_histogram};

    pub(super) struct CacheMetrics {
        pub(super) hits: Counter,
        pub(super) stale_hits: Counter,
        pub(super) misses: Counter,
        pub(super) refreshes: Counter,
        pub(super) loads: Counter,
        pub(super) failed_loads: Counter,
        pub(super) load_seconds: Histogram,
    }

    impl CacheMetrics {
        pub(super) fn new(
            counter: impl Fn(&'static str) -> Counter,
            histogram: impl Fn(&'static str) -> Histogram,
        ) -> Self {
            describe();
            Self {
                hits: counter(HITS),
                stale_hits: counter(STALE_HITS),
                misses: counter(MISSES),
                refreshes: counter(REFRESHES),
                loads: counter(LOADS),
                failed_loads: counter(FAILED_LOADS),
                load_seconds: histogram(LOAD_SECONDS),
            }
        }
    }

    const HITS: &str = "shardflight_cache_hits_total";
    const STALE_HITS: &str = "shardflight_cache_stale_hits_total";
    const MISSES: &str = "shardflight_cache_misses_total";
    const REFRESHES: &str = "shardflight_cache_refreshes_total";
    const LOADS: &str = "shardflight_cache_loads_total";
    const FAILED_LOADS: &str = "shardflight_cache_failed_loads_total";
    const LOAD_SECONDS: &str = "shardflight_cache_load_seconds";

    fn describe() {
        describe_counter!(HITS, "lookups that found a current value or a cached error");
        describe_counter!(STALE_HITS, "lookups that were answered with a stale value");
        describe_counter!(MISSES, "lookups that found no value, or waited for a refresh");
        describe_counter!(REFRESHES, "loads that refresh an existing value");
        describe_counter!(LOADS, "loads that returned a value");
        describe_counter!(FAILED_LOADS, "loads that returned an error");
        describe_histogram!(LOAD_SECONDS, Unit::Seconds, "duration of a load, failed or not");
    }
}

#[cfg(feature = "tower")]
mod http {
    //! What a layer has beside the flights of its requests.

    use metrics::{Counter, counter, describe_counter};

    use crate::Answered;

    pub(super) struct HttpMetrics {
        group: String,
        led: Counter,
        joined: Counter,
        retries: Counter,
    }

    impl HttpMetrics {
        pub(super) fn new(group: String) -> Self {
            describe();
            let (led, joined) = (
                requests(&group, Answered::Led { followers: 0 }),
                requests(&group, Answered::Joined),
            );
            Self { led, joined, retries: counter!(RETRIES, "group" => group.clone()), group }
        }

        pub(super) fn request(&self, answered: Answered<'_>, retries: u32) {
            match answered {
                Answered::Led { .. } => self.led.increment(1),
                Answered::Joined => self.joined.increment(1),
                _ => requests(&self.group, answered).increment(1),
            }
            if retries > 0 {
                self.retries.increment(retries.into());
            }
        }
    }

    fn requests(group: &str, answered: Answered<'_>) -> Counter {
        counter!(
            REQUESTS,
            "group" => group.to_owned(),
            "answered" => answered.as_str(),
            "reason" => answered.reason().unwrap_or_default().to_owned(),
        )
    }

    const REQUESTS: &str = "shardflight_http_requests_total";
    const RETRIES: &str = "shardflight_http_retries_total";

    fn describe() {
        describe_counter!(REQUESTS, "HTTP requests answered, by how and why");
        describe_counter!(RETRIES, "failed flights after which a request waited for another one");
    }
}

impl fmt::Debug for MetricsObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsObserver").finish_non_exhaustive()
    }
}
