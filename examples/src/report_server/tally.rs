//! Responses counted by what they cost, and how long clients waited for them.

use std::time::{Duration, Instant};

use axum::response::Response;
use hdrhistogram::Histogram;
use shardflight::tower::Coalesced;

/// What a request cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An execution: it led one, or ran alone, or there is no layer in its way.
    Executed,
    /// Nothing of its own: it got the answer of an execution that was under way, or one that is kept.
    Joined,
    /// Nothing, and it was refused an answer.
    Refused,
}

impl Outcome {
    /// By what the layer says of the response, if it went through one.
    pub fn of(response: &Response) -> Self {
        match response.extensions().get() {
            Some(Coalesced::Refused(_)) => Self::Refused,
            Some(Coalesced::Joined) => Self::Joined,
            _ => Self::Executed,
        }
    }
}

/// What happened since `since`.
#[derive(Clone)]
pub struct Tally {
    pub since: Instant,
    pub executed: u64,
    pub joined: u64,
    pub refused: u64,
    /// Responses that are reports, and not errors. Without the layer and the cache each takes a query.
    pub reports: u64,
    /// Executions that are no request's own, but those of a cache.
    pub loads: u64,
    last: Instant,
    // As the clients of a load measured them, in microseconds.
    latencies: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        let (now, digits) = (Instant::now(), 2);
        let latencies = Histogram::new(digits).expect("a histogram has between 0 and 5 digits");
        let (executed, joined, refused, reports, loads) = Default::default();
        Self { since: now, executed, joined, refused, reports, loads, last: now, latencies }
    }
}

impl Tally {
    /// A response is on its way to its client.
    pub fn answered(&mut self, outcome: Outcome, report: bool) {
        let count = match outcome {
            Outcome::Executed => &mut self.executed,
            Outcome::Joined => &mut self.joined,
            Outcome::Refused => &mut self.refused,
        };
        *count += 1;
        self.reports += u64::from(report);
        self.last = Instant::now();
    }

    /// A client has got a whole response.
    pub fn measured(&mut self, latency: Duration) {
        self.latencies.record(latency.as_micros() as u64).expect("the histogram grows");
    }

    /// Adds all that `other` has; it is of another time.
    pub fn merge(&mut self, other: &Self) {
        self.executed += other.executed;
        self.joined += other.joined;
        self.refused += other.refused;
        self.reports += other.reports;
        self.loads += other.loads;
        self.since = self.since.min(other.since);
        self.last = self.last.max(other.last);
        self.latencies.add(&other.latencies).expect("the histogram grows");
    }

    pub fn requests(&self) -> u64 {
        self.executed + self.joined + self.refused
    }

    pub fn executions(&self) -> u64 {
        self.executed + self.loads
    }

    /// The time until the latest response.
    pub fn time(&self) -> Duration {
        self.last - self.since
    }

    /// The latency that `percent` of the requests did not exceed.
    pub fn percentile(&self, percent: u8) -> Option<Duration> {
        let micros = self.latencies.value_at_percentile(percent.into());
        (!self.latencies.is_empty()).then(|| Duration::from_micros(micros))
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use shardflight::tower::{Alone, Refusal};

    use super::*;

    #[test]
    fn what_a_request_cost_is_what_the_layer_says() {
        let of = |coalesced| Outcome::of(&axum::Extension::<Coalesced>(coalesced).into_response());
        assert_eq!(of(Coalesced::Joined), Outcome::Joined);
        assert_eq!(of(Coalesced::Led { followers: 3 }), Outcome::Executed);
        assert_eq!(of(Coalesced::Alone(Alone::Remembered)), Outcome::Executed);
        assert_eq!(of(Coalesced::Refused(Refusal::TooManyFollowers)), Outcome::Refused);
        assert_eq!(Outcome::of(&().into_response()), Outcome::Executed, "there is no layer");
    }

    #[test]
    fn merged_tallies_are_one_of_all_answers() {
        let (mut a, mut b) = (Tally::default(), Tally::default());
        for millis in 1..=50 {
            a.answered(Outcome::Joined, true);
            a.measured(Duration::from_millis(millis));
            b.answered(Outcome::Executed, true);
            b.measured(Duration::from_millis(50 + millis));
        }
        b.answered(Outcome::Refused, false);
        b.measured(Duration::from_millis(100));
        b.loads = 7;
        a.merge(&b);
        assert_eq!((a.executed, a.joined, a.refused, a.requests()), (50, 50, 1, 101));
        assert_eq!((a.executions(), a.reports), (57, 100));
        // Two digits of a latency are kept.
        let close = |got: Option<Duration>, millis: f64| {
            (got.unwrap().as_secs_f64() * 1_000. / millis - 1.).abs() < 0.03
        };
        assert!(close(a.percentile(50), 51.));
        assert!(close(a.percentile(99), 100.));
        assert_eq!(Tally::default().percentile(50), None);
    }
}
