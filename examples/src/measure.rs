//! What the requests of one run cost: queries, wall time, and what most of them waited.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{database::Database, progress::Progress};

/// A run under way.
pub struct Run<'a> {
    name: &'static str,
    requests: usize,
    database: &'a Database,
    queries_before: usize,
    start: Instant,
    latencies: Vec<Duration>,
    progress: Progress,
}

impl<'a> Run<'a> {
    /// Starts the clock.
    pub fn start(name: &'static str, requests: usize, database: &'a Database) -> Self {
        Self {
            name,
            requests,
            database,
            queries_before: database.queries(),
            latencies: Vec::with_capacity(requests),
            progress: Progress::start(),
            start: Instant::now(),
        }
    }

    /// Counts one request, answered after `latency`.
    pub fn answered(&mut self, latency: Duration) {
        self.latencies.push(latency);
        let (name, requests, answered) = (self.name, self.requests, self.latencies.len());
        let queries = self.queries();
        self.progress
            .show(format_args!("{name}: {answered} of {requests} answered, {queries} queries"));
    }

    /// Stops the clock.
    pub fn finish(mut self) -> Row {
        let wall = self.start.elapsed();
        self.latencies.sort_unstable();
        Row {
            name: self.name,
            requests: self.latencies.len(),
            queries: self.queries(),
            wall,
            p50: percentile(&self.latencies, 50),
            p99: percentile(&self.latencies, 99),
        }
    }

    fn queries(&self) -> usize {
        self.database.queries() - self.queries_before
    }
}

/// The smallest latency that `percent` of all do not exceed; zero if there are none.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

/// A run that is over, as a line of the table under [`HEADER`].
pub struct Row {
    name: &'static str,
    requests: usize,
    queries: usize,
    wall: Duration,
    p50: Duration,
    p99: Duration,
}

impl Row {
    /// How many the database was asked.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// How long it took.
    pub fn wall(&self) -> Duration {
        self.wall
    }
}

/// The names of the columns.
pub const HEADER: &str =
    "                          requests     queries      wall       p50       p99";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, requests, queries, wall, p50, p99 } = self;
        write!(f, "{name:<24}{requests:>10}{queries:>12}{wall:>10.1?}{p50:>10.1?}{p99:>10.1?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<_> = (1..=1_000).map(Duration::from_millis).collect();
        assert_eq!(percentile(&sorted, 50), Duration::from_millis(500));
        assert_eq!(percentile(&sorted, 99), Duration::from_millis(990));
        assert_eq!(percentile(&sorted[..1], 99), Duration::from_millis(1));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
