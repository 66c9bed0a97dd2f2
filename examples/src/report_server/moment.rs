//! A moment of traffic, as the page is told of it.

use std::time::Duration;

use serde::Serialize;
use shardflight::StatsSnapshot;

use super::{
    load::Plan,
    tally::Tally,
    traffic::{InTheAir, Way},
};

/// What the charts have of each moment.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Counts moments since the server was started.
    pub number: u64,
    pub requests_per_second: f64,
    pub executions_per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    /// The load that was running.
    pub way: Option<Way>,
}

/// What the rest of the page shows of the last one.
#[derive(Clone, Debug, Serialize)]
pub struct Moment {
    pub point: Point,
    pub load: Option<Plan>,
    pub saved: Saved,
    pub air: Air,
    pub latest: Vec<Latest>,
    pub cache: Counted,
}

/// What became of look-ups in the cache since the server was started.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    pub look_ups: u64,
    /// None if there were none.
    pub hit_rate: Option<f64>,
    pub stale_hits: u64,
    pub loads: u64,
}

impl Counted {
    pub fn new(counted: &StatsSnapshot) -> Self {
        let StatsSnapshot { hits, stale_hits, misses, loads, .. } = *counted;
        let look_ups = hits + stale_hits + misses;
        Self { look_ups, hit_rate: counted.hit_rate(), stale_hits, loads }
    }
}

/// What was not executed since the server was started.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Saved {
    pub requests: u64,
    pub of: u64,
    /// What they would have taken, each at the mean time of a query.
    pub seconds: f64,
    pub query_ms: f64,
}

impl Saved {
    pub fn add(&mut self, tally: &Tally, query: Duration) {
        self.requests += tally.saved();
        self.of += tally.requests();
        self.seconds += tally.saved() as f64 * query.as_secs_f64();
        self.query_ms = millis(query);
    }
}

/// What is under way.
#[derive(Clone, Debug, Serialize)]
pub struct Air {
    pub requests: usize,
    pub executions: usize,
    pub targets: usize,
    /// Those that most wait for, by name.
    pub first: Vec<Target>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Target {
    pub way: Way,
    pub target: String,
    pub requests: usize,
    pub executions: usize,
    pub age_ms: f64,
}

impl Air {
    /// Rows that the page has room for.
    const SHOWN: usize = 5;

    pub fn new(all: &[InTheAir]) -> Self {
        let mut first: Vec<_> = all
            .iter()
            .take(Self::SHOWN)
            .map(|air| Target {
                way: air.way,
                target: air.target.clone(),
                requests: air.requests,
                executions: air.executions,
                age_ms: millis(air.age),
            })
            .collect();
        // So that they stay where they are, from moment to moment.
        first.sort_by(|a, b| a.target.cmp(&b.target));
        Self {
            requests: all.iter().map(|air| air.requests).sum(),
            executions: all.iter().map(|air| air.executions).sum(),
            targets: all.len(),
            first,
        }
    }
}

/// The latest load of one way.
#[derive(Clone, Debug, Serialize)]
pub struct Latest {
    pub way: Way,
    /// None if there was none, but requests of others.
    pub plan: Option<Plan>,
    pub requests: u64,
    pub executions: u64,
    pub refused: u64,
    pub requests_per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

impl Latest {
    pub fn new(way: Way, plan: Option<Plan>, tally: &Tally) -> Self {
        let seconds = tally.time().as_secs_f64();
        Self {
            way,
            plan,
            requests: tally.requests(),
            executions: tally.executions(),
            refused: tally.refused,
            requests_per_second: if seconds > 0. { tally.requests() as f64 / seconds } else { 0. },
            p50_ms: tally.percentile(50).map(millis),
            p99_ms: tally.percentile(99).map(millis),
        }
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.
}
