//! Requests, counted: one middleware outside of the layer counts responses, one inside of it executions, and the
//! clients of a load measure how long their requests took.

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

use super::{
    plan::{Plan, Way},
    tally::{Outcome, Tally},
};

/// All requests of one server. Clones are handles of the same.
#[derive(Clone, Default)]
pub struct Traffic(Arc<Mutex<Counts>>);

#[derive(Default)]
struct Counts {
    air: HashMap<Target, Air>,
    executions: u64,
    // Since it was last asked.
    news: [Tally; Way::ALL.len()],
    // The latest load of each way.
    latest: [Option<Loaded>; Way::ALL.len()],
}

/// A load, and what was counted while it ran.
#[derive(Clone)]
pub struct Loaded {
    pub plan: Plan,
    pub tally: Tally,
    running: bool,
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
    /// A load begins, and is counted from zero.
    pub fn begin(&self, plan: Plan) {
        let way = plan.way as usize;
        self.counts().latest[way] = Some(Loaded { plan, tally: Tally::default(), running: true });
    }

    /// The load of this way has ended: later requests are not part of it.
    pub fn end(&self, way: Way) {
        if let Some(loaded) = &mut self.counts().latest[way as usize] {
            loaded.running = false;
        }
    }

    /// A client of a load has got a whole response.
    pub fn measured(&self, way: Way, latency: Duration) {
        self.counts().count(way, |tally| tally.measured(latency));
    }

    /// What was counted since this was last asked.
    pub fn news(&self) -> [Tally; Way::ALL.len()] {
        take(&mut self.counts().news)
    }

    /// The latest load of each way.
    pub fn latest(&self) -> [Option<Loaded>; Way::ALL.len()] {
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
        Requested { traffic: self.clone(), target }
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
        self.counts().count(Way::Cached, |tally| tally.loads += 1);
        execution
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing under it leaves counts half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// In the news, and in the load of this way, if one is running.
    fn count(&mut self, way: Way, mut count: impl FnMut(&mut Tally)) {
        count(&mut self.news[way as usize]);
        if let Some(loaded) = self.latest[way as usize].as_mut().filter(|loaded| loaded.running) {
            count(&mut loaded.tally);
        }
    }

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
}

impl Requested {
    /// `report`: whether the response is a report, and not an error.
    fn answered(self, outcome: Outcome, report: bool) {
        self.traffic.counts().count(self.target.0, |tally| tally.answered(outcome, report));
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
    let outcome = match way {
        Way::Cached => Outcome::Joined,
        _ => Outcome::of(&response),
    };
    requested.answered(outcome, response.status().is_success());
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
        traffic.request(target()).answered(Outcome::Executed, true);
        traffic.request(target()).answered(Outcome::Joined, false);
        drop(traffic.request(target()));

        let [plain, shared, ..] = traffic.news();
        assert_eq!(plain.requests(), 0);
        assert_eq!((shared.executed, shared.joined, shared.reports), (1, 1, 1));
        assert_eq!(traffic.news()[1].requests(), 0, "told already");
    }

    #[test]
    fn a_load_counts_what_came_while_it_ran() {
        let traffic = Traffic::default();
        let requests = |way: Way| {
            let latest = traffic.latest();
            latest[way as usize].as_ref().map(|loaded| loaded.tally.requests())
        };
        let answer = || traffic.request(target()).answered(Outcome::Executed, true);
        answer();
        assert_eq!(requests(Way::Shared), None, "there was no load");

        let plan = Plan { way: Way::Shared, clients: 1, reports: 1 };
        traffic.begin(plan.clone());
        assert_eq!(requests(Way::Shared), Some(0));
        answer();
        traffic.measured(Way::Shared, Duration::from_secs(1));
        traffic.end(Way::Shared);
        answer();
        traffic.measured(Way::Shared, Duration::from_secs(9));
        assert_eq!(requests(Way::Shared), Some(1));
        let slowest = traffic.latest()[1].as_ref().unwrap().tally.percentile(99).unwrap();
        assert!(slowest < Duration::from_secs(2), "{slowest:?}");
        assert_eq!(requests(Way::Plain), None);
        assert_eq!(traffic.news()[1].requests(), 3, "the news has all");

        traffic.begin(plan);
        assert_eq!(requests(Way::Shared), Some(0));
    }
}
