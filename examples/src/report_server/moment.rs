//! A moment of traffic, as the page is told of it.

use std::time::Duration;

use serde::Serialize;
use shardflight::StatsSnapshot;

use super::{
    plan::{Plan, Way},
    traffic::{InTheAir, Loaded},
};

/// What the charts have of each moment.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Counts moments since the server was started.
    pub number: u64,
    /// Seconds since then. Moments do not come at exact intervals.
    pub at_s: f64,
    pub requests_per_second: f64,
    pub executions_per_second: f64,
    /// As the clients of a load measured it: none for other requests.
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
    /// Seconds until that load ends.
    pub left_s: Option<f64>,
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

/// Reports and queries since the server was started. Without the layer and the cache each report takes a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Saved {
    pub reports: u64,
    pub queries: u64,
    /// Queries that were not needed.
    pub saved: u64,
}

impl Saved {
    pub fn new(reports: u64, queries: u64) -> Self {
        // Queries whose clients have gone may outnumber the reports.
        Self { reports, queries, saved: reports.saturating_sub(queries) }
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
    /// None if this way has not yet been run: only a load has numbers.
    pub ran: Option<Ran>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Ran {
    pub plan: Plan,
    pub requests: u64,
    pub executions: u64,
    pub refused: u64,
    pub requests_per_second: f64,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
}

impl Latest {
    pub fn new(way: Way, loaded: Option<&Loaded>) -> Self {
        Self { way, ran: loaded.map(Ran::new) }
    }
}

impl Ran {
    fn new(Loaded { plan, tally, .. }: &Loaded) -> Self {
        let seconds = tally.time().as_secs_f64();
        Self {
            plan: plan.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report_server::traffic::Traffic;

    #[test]
    fn saved_work_is_counted_in_queries() {
        assert_eq!(Saved::new(1_000, 4).saved, 996);
        assert_eq!(Saved::new(3, 4).saved, 0, "a query whose client has gone saved nothing");
    }

    #[test]
    fn a_row_has_numbers_if_and_only_if_a_load_ran() {
        let traffic = Traffic::default();
        let plan = Plan { way: Way::Shared, clients: 1, reports: 1 };
        traffic.begin(plan.clone());
        let rows = Way::ALL.into_iter().zip(traffic.latest());
        for (way, loaded) in rows {
            let row = serde_json::to_value(Latest::new(way, loaded.as_ref())).unwrap();
            let ran = row["ran"].as_object();
            assert_eq!(ran.is_some(), way == plan.way, "{row}");
            assert!(ran.is_none_or(|ran| ran["plan"]["clients"] == 1 && ran["requests"] == 0));
        }
    }
}
