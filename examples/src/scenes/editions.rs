//! Reports that change: each edition has a number, and with every change the next one begins.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Instant,
};

use crate::{
    database::Database,
    orders::REGIONS,
    reports::{Key, Month, Reports},
};

/// A report as it was when its query began.
#[derive(Clone, Debug)]
pub struct Edition {
    pub number: u64,
    pub began: Instant,
    pub report: Arc<[Month]>,
}

pub type Answer = Result<Edition, Arc<rusqlite::Error>>;

/// What is asked for: one business, its regions in turn, over and over.
pub fn keys() -> impl Iterator<Item = Key> {
    REGIONS.into_iter().cycle().map(|region| Key { business: 1, region })
}

/// The service, and how often its data have changed. Clones are handles of the same.
#[derive(Clone)]
pub struct Editions {
    pub(super) database: Database,
    reports: Reports,
    pub(super) changes: Arc<Changes>,
}

impl Editions {
    pub fn new(database: Database, reports: Reports) -> Self {
        Self { database, reports, changes: Arc::default() }
    }

    /// A query for the edition that is the latest when the query begins.
    pub async fn load(self, key: Key) -> Answer {
        let changes = self.changes;
        let begin = move || (changes.latest(key), Instant::now());
        let (report, (number, began)) = self.reports.report_and(key, begin).await?;
        Ok(Edition { number, began, report })
    }
}

/// The number of each report.
#[derive(Debug, Default)]
pub struct Changes([Change; REGIONS.len()]);

#[derive(Debug, Default)]
struct Change {
    latest: AtomicU64,
    settled: AtomicU64,
}

impl Changes {
    /// What a query that begins now finds.
    pub fn latest(&self, key: Key) -> u64 {
        self.of(key).latest.load(SeqCst)
    }

    /// The data have changed: the number of the new edition.
    pub fn change(&self, key: Key) -> u64 {
        self.of(key).latest.fetch_add(1, SeqCst) + 1
    }

    /// The invalidation that came after this change has returned.
    pub fn settle(&self, key: Key, number: u64) {
        self.of(key).settled.fetch_max(number, SeqCst);
    }

    /// The oldest edition that a request that begins now may get.
    pub fn settled(&self, key: Key) -> u64 {
        self.of(key).settled.load(SeqCst)
    }

    fn of(&self, key: Key) -> &Change {
        let i = REGIONS.into_iter().position(|region| region == key.region);
        &self.0[i.expect("a key has one of these regions")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_queries_at_once_and_owed_to_requests_when_it_is_settled() {
        let changes = Changes::default();
        let [key, other] = [0, 1].map(|i| Key { business: 1, region: REGIONS[i] });
        let number = changes.change(key);
        assert_eq!((changes.latest(key), changes.settled(key)), (1, 0));
        changes.settle(key, number);
        assert_eq!((changes.latest(key), changes.settled(key)), (1, 1));
        assert_eq!((changes.latest(other), changes.settled(other)), (0, 0));
    }
}
