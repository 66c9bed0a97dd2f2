//! Feature `tracing`: an observer that gives each lead of a flight a span.

use std::{
    collections::HashMap,
    fmt,
    // Not those of the models: whoever observes orders nothing.
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ahash::RandomState;
use tracing::{Span, debug, debug_span, field::Empty};

use crate::{Answered, CallError, FlightId, Observer};

/// Gives each led flight of a group a span of the [`tracing`](::tracing) crate, in which the leader's
/// work is polled, and says of followers which flight they follow.
///
/// The span is named `flight`, its target is `shardflight` and its level `DEBUG`. Its parent is the
/// leader's current span. It closes when the flight ends; who takes over begins another of the same
/// flight.
///
/// | field | what |
/// |---|---|
/// | `group` | the name that the group was given |
/// | `flight` | the number of the flight, in a process |
/// | `took_over` | whether this leader had joined the flight |
/// | `outcome` | in the end: `landed`, `panicked` or `cancelled` |
/// | `followers` | in the end, unless it is `cancelled`: how many get to know |
///
/// Followers record events of the same target and level, with `group` and `flight`, in their own
/// current span: `joined`, and later `answered` or `left` with how long they `waited`. When they join,
/// that span is also said to follow from the flight's, if it has one by then. The other events are
/// `forgotten`, and `refused` with the reason.
///
/// Each HTTP request that a layer answers (the module `tower`) records an event `request` in the span of the
/// request, with `group`, `answered` (`led`, `joined`, `alone` or `refused`), `reason` where there is one
/// ([`Answered`]), and `retries`.
///
/// ```
/// use shardflight::{Group, TracingObserver};
///
/// let pages: Group<String, u32> =
///     Group::builder().observer(TracingObserver::new("pages")).build();
/// let page = pages.run_blocking("/", || {
///     tracing::info!("inside of the span of the flight");
///     1
/// });
/// assert_eq!(page, 1);
/// ```
///
/// What [`run_many`](crate::Group::run_many) loads has a span for each key, which closes as the key
/// lands, but is polled in that of one of them: log lines do not list thousands.
pub struct TracingObserver {
    group: String,
    /// Of the flights that are led, unless nobody is interested. By id, so that flights which begin at
    /// once, on different threads, seldom wait for one another. In an `Arc`, because to clone or drop a span
    /// calls the subscriber, which must not happen under a lock (G9).
    spans: [Mutex<Spans>; PARTS],
}

type Spans = HashMap<FlightId, Arc<Span>, RandomState>;

const PARTS: usize = 16;

impl TracingObserver {
    /// For the group of this name, which is shown in the field `group`.
    pub fn new(group: impl Into<String>) -> Self {
        Self { group: group.into(), spans: Default::default() }
    }

    fn part(&self, flight: FlightId) -> MutexGuard<'_, Spans> {
        // Threads count their own ids, in blocks that begin alike.
        let part = (flight.0 ^ flight.0 >> 16) as usize % PARTS;
        self.spans[part].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, flight: FlightId, took_over: bool) {
        let span = debug_span!(
            target: "shardflight",
            "flight",
            group = %self.group,
            flight = flight.0,
            took_over,
            outcome = Empty,
            followers = Empty,
        );
        if !span.is_disabled() {
            let earlier = self.part(flight).insert(flight, Arc::new(span));
            drop(earlier);
        }
    }

    fn span(&self, flight: FlightId) -> Option<Arc<Span>> {
        self.part(flight).get(&flight).cloned()
    }

    fn end(&self, flight: FlightId, outcome: &'static str, followers: Option<usize>) {
        let span = self.part(flight).remove(&flight);
        if let Some(span) = span {
            span.record("outcome", outcome);
            if let Some(followers) = followers {
                span.record("followers", followers);
            }
        }
    }
}

impl Observer for TracingObserver {
    fn led(&self, flight: FlightId) {
        self.begin(flight, false);
    }

    fn joined(&self, flight: FlightId) {
        debug!(target: "shardflight", group = %self.group, flight = flight.0, "joined");
        if let Some(span) = self.span(flight) {
            Span::current().follows_from(&*span);
        }
    }

    fn taken_over(&self, flight: FlightId) {
        self.begin(flight, true);
    }

    fn landed(&self, flight: FlightId, followers: usize, _: Duration) {
        self.end(flight, "landed", Some(followers));
    }

    fn panicked(&self, flight: FlightId, followers: usize, _: Duration) {
        self.end(flight, "panicked", Some(followers));
    }

    fn cancelled(&self, flight: FlightId) {
        self.end(flight, "cancelled", None);
    }

    fn answered(&self, flight: FlightId, waited: Duration) {
        debug!(target: "shardflight", group = %self.group, flight = flight.0, ?waited, "answered");
    }

    fn left(&self, flight: FlightId, waited: Duration) {
        debug!(target: "shardflight", group = %self.group, flight = flight.0, ?waited, "left");
    }

    fn forgotten(&self, flight: FlightId) {
        debug!(target: "shardflight", group = %self.group, flight = flight.0, "forgotten");
    }

    fn refused(&self, why: &CallError) {
        debug!(target: "shardflight", group = %self.group, reason = %why, "refused");
    }

    fn request(&self, answered: Answered<'_>, retries: u32) {
        debug!(
            target: "shardflight",
            group = %self.group,
            answered = answered.as_str(),
            reason = answered.reason(),
            retries,
            "request"
        );
    }

    fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
        match flights.first().and_then(|first| self.span(*first)) {
            Some(span) => span.in_scope(part),
            None => part(),
        }
    }
}

impl fmt::Debug for TracingObserver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracingObserver").field("group", &self.group).finish_non_exhaustive()
    }
}
