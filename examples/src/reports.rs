//! The service: a year's sales of one business in one region, summed up by SQLite for each request.

use std::{sync::Arc, time::Instant};

use anyhow::Context;
use rusqlite::Connection;
use serde::Serialize;

use crate::{
    database::Database,
    orders::{self, REGIONS},
};

/// What a report is about: the key of a [`shardflight::Group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub business: u32,
    pub region: &'static str,
}

/// One line of a report.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Month {
    pub month: String,
    pub orders: i64,
    pub customers: i64,
    pub cents: i64,
}

/// What a request gets: the value of a [`shardflight::Group`]. It is cloned for every follower, so
/// it is cheap to clone, and so is its error.
pub type Answer = Result<Arc<[Month]>, Arc<rusqlite::Error>>;

const TOTALS: &str = "
    SELECT strftime('%Y-%m', day) AS month, count(*), count(DISTINCT customer), sum(cents)
    FROM orders WHERE business = ?1 AND region = ?2
    GROUP BY month ORDER BY month";

/// The service. Clones are handles of the same one.
#[derive(Clone)]
pub struct Reports {
    database: Database,
}

/// Opens the service on a database of `rows` orders, which is made first if it is not there.
pub fn open(rows: u64, connections: usize) -> anyhow::Result<(Database, Reports)> {
    let path = orders::find(rows)?;
    let unusable = orders::unusable(&path);
    let database = Database::open(&path, connections).with_context(&unusable)?;
    let reports = Reports::new(database.clone());
    let start = Instant::now();
    for region in REGIONS {
        reports.report_blocking(Key { business: 1, region }).with_context(&unusable)?;
    }
    let each = start.elapsed() / REGIONS.len() as u32;
    println!("One report takes {each:.1?}; there are {connections} connections\n");
    Ok((database, reports))
}

impl Reports {
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// The report, for tasks.
    pub async fn report(&self, key: Key) -> Answer {
        self.report_and(key, || ()).await.map(|(report, ())| report)
    }

    /// The report, and what `begin` returned when its query began, which may be long after this was called.
    pub async fn report_and<T: Send + 'static>(
        &self,
        key: Key,
        begin: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(Arc<[Month]>, T), Arc<rusqlite::Error>> {
        let query = move |connection: &Connection| {
            let begun = begin();
            Ok((totals(connection, key)?.into(), begun))
        };
        self.database.query(query).await
    }

    /// The report, for threads.
    pub fn report_blocking(&self, key: Key) -> Answer {
        Ok(self.database.query_blocking(|connection| totals(connection, key))?.into())
    }
}

fn totals(connection: &Connection, key: Key) -> rusqlite::Result<Vec<Month>> {
    let mut statement = connection.prepare_cached(TOTALS)?;
    let months = statement.query_map((key.business, key.region), |row| {
        Ok(Month {
            month: row.get(0)?,
            orders: row.get(1)?,
            customers: row.get(2)?,
            cents: row.get(3)?,
        })
    })?;
    months.collect()
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashMap,
        task::{Context, Waker},
        thread,
    };

    use shardflight::{Group, Role};
    use tempfile::TempDir;

    use super::*;
    use crate::orders::BUSINESSES;

    const ROWS: u64 = 4_000;

    /// The directory is removed when it is dropped.
    fn small_service() -> (TempDir, Reports) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, ROWS, |_| ()).unwrap();
        let reports = Reports::new(Database::open(&path, 4).unwrap());
        (directory, reports)
    }

    /// What each request must be answered, asked for without a group.
    fn direct(reports: &Reports) -> HashMap<Key, Answer> {
        let keys = REGIONS.map(|region| Key { business: 1, region });
        keys.into_iter().map(|key| (key, reports.report_blocking(key))).collect()
    }

    #[test]
    fn every_order_is_in_one_report() {
        let (_directory, reports) = small_service();
        let mut orders = 0;
        for business in 0..BUSINESSES {
            for region in REGIONS {
                let report = reports.report_blocking(Key { business, region }).unwrap();
                orders += report.iter().map(|month| month.orders).sum::<i64>();
            }
        }
        assert_eq!(orders, ROWS as i64);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_thousand_tasks_with_a_group_execute_four_queries() {
        let (_directory, reports) = small_service();
        let direct = direct(&reports);
        let before = reports.database.queries();
        let group: Group<Key, Answer> = Group::new();

        // While all connections are taken no query can begin, so whoever asks joins what waits.
        let taken = reports.database.take_all();
        let mut calls = Vec::new();
        for &key in direct.keys().cycle().take(1_000) {
            let (reports, group) = (reports.clone(), group.clone());
            let mut call =
                Box::pin(async move { group.run(&key, reports.report(key)).await.unwrap() });
            let asked = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(asked.is_pending());
            calls.push((key, tokio::spawn(call)));
        }
        assert_eq!(group.len(), 4);
        assert_eq!(reports.database.queries(), before);

        reports.database.give_back_all(taken);
        for (key, call) in calls {
            assert_eq!(&call.await.unwrap(), direct[&key].as_ref().unwrap());
        }
        assert_eq!(reports.database.queries() - before, 4);
        assert!(group.is_empty());
    }

    #[test]
    fn threads_with_a_group_execute_one_query_for_each_leader() {
        let (_directory, reports) = small_service();
        let direct = direct(&reports);
        let before = reports.database.queries();
        let group: Group<Key, Answer> = Group::new();

        let roles: Vec<Role> = thread::scope(|scope| {
            let ask = |&key| {
                let (reports, group, direct) = (&reports, &group, &direct);
                scope.spawn(move || {
                    let call = group.call(&key).run_blocking(|| reports.report_blocking(key));
                    let outcome = call.unwrap();
                    assert_eq!(outcome.value.unwrap(), *direct[&key].as_ref().unwrap());
                    outcome.role
                })
            };
            let threads: Vec<_> = direct.keys().cycle().take(64).map(ask).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });

        let joined = roles.iter().filter(|&&role| role == Role::Joined).count();
        assert_eq!(reports.database.queries() - before, 64 - joined);
    }
}
