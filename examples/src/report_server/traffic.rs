//! What becomes of requests: one middleware outside of the layer counts answers, one inside executions.

use std::{
    collections::{HashMap, hash_map::Entry},
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use serde::{Deserialize, Serialize};

use super::tally::{Outcome, Tally};

/// The ways to ask for a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// Without the layer.
    Plain,
    /// With it.
    Shared,
    /// With it, too, but the answers have cookies.
    Session,
    /// With a cache.
    Cached,
}

impl Way {
    pub const ALL: [Self; 4] = [Self::Plain, Self::Shared, Self::Session, Self::Cached];

    /// What its paths begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "/plain",
            Self::Shared => "",
            Self::Session => "/session",
            Self::Cached => "/cached",
        }
    }
}

/// All requests of one server. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    air: HashMap<Target, Air>,
    executions: u64,
    // Since it was last asked, and since the latest load of that way began.
    news: [Tally; Way::ALL.len()],
    latest: [Tally; Way::ALL.len()],
}

/// What is asked for: path and query, and the way, which is the path's beginning.
type Target = (Way, String);

/// The requests in progress for one target.
#[derive(Default)]
struct Air {
    requests: usize,
    executions: HashMap<u64, Instant>,
}

/// The same, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InTheAir {
    pub way: Way,
    pub target: String,
    pub requests: usize,
    pub executions: usize,
    /// How long the oldest execution has been under way.
    pub age: Duration,
}

impl Traffic {
    /// The requests that came in by this way are counted from zero again.
    pub fn begin(&self, way: Way) {
        self.counts().latest[way as usize] = Tally::default();
    }

    /// What was counted since this was last asked.
    pub fn news(&self) -> [Tally; Way::ALL.len()] {
        take(&mut self.counts().news)
    }

    /// What was counted since the latest load of each way began.
    pub fn latest(&self) -> [Tally; Way::ALL.len()] {
        self.counts().latest.clone()
    }

    /// Everything that is under way, with what most requests wait for first.
    pub fn in_the_air(&self) -> Vec<InTheAir> {
        let shown = |((way, target), air): (&Target, &Air)| InTheAir {
            way: *way,
            target: target.clone(),
            requests: air.requests,
            executions: air.executions.len(),
            age: air.executions.values().map(Instant::elapsed).max().unwrap_or_default(),
        };
        let mut all: Vec<_> = self.counts().air.iter().map(shown).collect();
        all.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.target.cmp(&b.target)));
        all
    }

    /// A request has come in.
    fn request(&self, target: Target) -> Requested {
        self.counts().air.entry(target.clone()).or_default().requests += 1;
        Requested { traffic: self.clone(), target, at: Instant::now() }
    }

    /// It is being worked on.
    fn execution(&self, target: Target) -> Execution {
        let mut counts = self.counts();
        let number = counts.executions;
        counts.executions += 1;
        let air = counts.air.entry(target.clone()).or_default();
        air.executions.insert(number, Instant::now());
        Execution { traffic: self.clone(), target, number }
    }

    /// The cache has begun to load what is asked for by this path.
    pub(super) fn load(&self, path: String) -> Execution {
        let execution = self.execution((Way::Cached, path));
        let (mut counts, way) = (self.counts(), Way::Cached as usize);
        counts.news[way].loads += 1;
        counts.latest[way].loads += 1;
        drop(counts);
        execution
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing under it leaves counts half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn change(&mut self, target: &Target, change: impl FnOnce(&mut Air)) {
        let Entry::Occupied(mut entry) = self.air.entry(target.clone()) else { return };
        change(entry.get_mut());
        if entry.get().requests == 0 && entry.get().executions.is_empty() {
            entry.remove();
        }
    }
}

/// A request that has come in; dropped when it is answered, or when its client is gone.
struct Requested {
    traffic: Traffic,
    target: Target,
    at: Instant,
}

impl Requested {
    fn answered(self, outcome: Outcome) {
        let (way, latency) = (self.target.0 as usize, self.at.elapsed());
        let mut counts = self.traffic.counts();
        counts.news[way].add(outcome, latency);
        counts.latest[way].add(outcome, latency);
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        self.traffic.counts().change(&self.target, |air| air.requests -= 1);
    }
}

/// Somebody is at work on an answer until this is dropped.
pub(super) struct Execution {
    traffic: Traffic,
    target: Target,
    number: u64,
}

impl Drop for Execution {
    fn drop(&mut self) {
        self.traffic.counts().change(&self.target, |air| {
            air.executions.remove(&self.number);
        });
    }
}

/// The middleware that goes outside of the layer.
pub async fn answers(
    State((traffic, way)): State<(Traffic, Way)>,
    request: Request,
    next: Next,
) -> Response {
    let requested = traffic.request((way, target(&request)));
    let response = next.run(request).await;
    requested.answered(match way {
        Way::Cached => Outcome::Joined,
        _ => Outcome::of(&response),
    });
    response
}

/// The middleware that goes inside.
pub async fn executions(
    State((traffic, way)): State<(Traffic, Way)>,
    request: Request,
    next: Next,
) -> Response {
    let _execution = traffic.execution((way, target(&request)));
    next.run(request).await
}

fn target(request: &Request) -> String {
    request.uri().path_and_query().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        (Way::Shared, "/report/eu-west".to_owned())
    }

    #[test]
    fn what_is_in_the_air_comes_down() {
        let traffic = Traffic::default();
        let requests = [traffic.request(target()), traffic.request(target())];
        let execution = traffic.execution(target());
        let other = traffic.request((Way::Plain, "/plain/report/eu-west".to_owned()));

        let air = traffic.in_the_air();
        let counts: Vec<_> = air.iter().map(|air| (air.requests, air.executions)).collect();
        assert_eq!(counts, [(2, 1), (1, 0)]);
        assert_eq!(air[0].target, "/report/eu-west");

        drop(other);
        drop(requests);
        assert_eq!(traffic.in_the_air().len(), 1, "its clients are gone, and it is at work");
        drop(execution);
        assert_eq!(traffic.in_the_air(), []);
    }

    #[test]
    fn an_answer_counts_and_a_client_that_is_gone_does_not() {
        let traffic = Traffic::default();
        traffic.request(target()).answered(Outcome::Executed);
        traffic.request(target()).answered(Outcome::Joined);
        drop(traffic.request(target()));

        let [plain, shared, ..] = traffic.news();
        assert_eq!(plain.requests(), 0);
        assert_eq!((shared.executed, shared.joined), (1, 1));
        assert_eq!(traffic.news()[1].requests(), 0, "told already");

        assert_eq!(traffic.latest()[1].requests(), 2);
        traffic.begin(Way::Shared);
        assert_eq!(traffic.latest()[1].requests(), 0);
    }
}
