//! The service: a year's sales of one business in one region, summed up by SQLite for each request.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_channel::{Receiver, Sender};
use rusqlite::{Connection, OpenFlags};
use tokio::task::spawn_blocking;

/// What a report is about: the key of a [`shardflight::Group`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub business: u32,
    pub region: &'static str,
}

/// One line of a report.
#[derive(Debug, PartialEq, Eq)]
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
    // The connections that are not in use. Who takes one out puts it back.
    idle: (Sender<Connection>, Receiver<Connection>),
    executions: Arc<AtomicUsize>,
}

impl Reports {
    /// Opens the database at `path` with so many connections; requests queue for them.
    pub fn open(path: &Path, connections: usize) -> rusqlite::Result<Self> {
        let idle = async_channel::bounded(connections);
        // Each connection is used by one thread at a time, so SQLite needs no mutex of its own.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        for _ in 0..connections {
            give_back(&idle.0, Connection::open_with_flags(path, flags)?);
        }
        let executions = Arc::default();
        Ok(Self { idle, executions })
    }

    /// The report, for tasks.
    pub async fn report(&self, key: Key) -> Answer {
        let connection = self.idle.1.recv().await.expect("this service keeps a sender");
        let service = self.clone();
        // A query that has begun runs to its end and gives its connection back, even if the caller
        // has gone by then.
        let query = spawn_blocking(move || service.query(connection, key));
        query.await.expect("a query does not panic")
    }

    /// The report, for threads.
    pub fn report_blocking(&self, key: Key) -> Answer {
        let connection = self.idle.1.recv_blocking().expect("this service keeps a sender");
        self.query(connection, key)
    }

    /// How many queries were begun so far.
    pub fn executions(&self) -> usize {
        self.executions.load(Relaxed)
    }

    fn query(&self, connection: Connection, key: Key) -> Answer {
        self.executions.fetch_add(1, Relaxed);
        let totals = totals(&connection, key);
        give_back(&self.idle.0, connection);
        Ok(totals?.into())
    }
}

fn give_back(idle: &Sender<Connection>, connection: Connection) {
    idle.try_send(connection).expect("there is room for every connection");
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
        iter,
        task::{Context, Waker},
        thread,
    };

    use shardflight::{Group, Role};
    use tempfile::TempDir;

    use super::*;
    use crate::orders::{self, BUSINESSES, REGIONS};

    const ROWS: u64 = 4_000;

    /// The directory is removed when it is dropped.
    fn small_service() -> (TempDir, Reports) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, ROWS, |_| ()).unwrap();
        let reports = Reports::open(&path, 4).unwrap();
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
        let before = reports.executions();
        let group: Group<Key, Answer> = Group::new();

        // While all connections are taken no query can begin, so whoever asks joins what waits.
        let taken: Vec<_> = iter::from_fn(|| reports.idle.1.try_recv().ok()).collect();
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
        assert_eq!(reports.executions(), before);

        for connection in taken {
            give_back(&reports.idle.0, connection);
        }
        for (key, call) in calls {
            assert_eq!(&call.await.unwrap(), direct[&key].as_ref().unwrap());
        }
        assert_eq!(reports.executions() - before, 4);
        assert!(group.is_empty());
    }

    #[test]
    fn threads_with_a_group_execute_one_query_for_each_leader() {
        let (_directory, reports) = small_service();
        let direct = direct(&reports);
        let before = reports.executions();
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
        assert_eq!(reports.executions() - before, 64 - joined);
    }
}
