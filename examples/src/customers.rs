//! The other service: what a customer has bought, for one of them or for many at once.

use std::{collections::HashMap, sync::Arc};

use rusqlite::{Connection, Row, params_from_iter};

use crate::database::Database;

/// The key of a [`shardflight::Group`].
pub type Id = u32;

/// One line of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Customer {
    pub orders: i64,
    pub cents: i64,
}

/// What a page gets for each id. An error is one of the whole query, and shared by all its ids.
pub type Answer = Result<Customer, Arc<rusqlite::Error>>;

const ONE: &str = "
    SELECT ?1, count(*), coalesce(sum(cents), 0) FROM orders WHERE customer = ?1";
const MANY: &str = "
    SELECT customer, count(*), sum(cents) FROM orders WHERE customer IN (:ids) GROUP BY customer";

/// The service. Clones are handles of the same one.
#[derive(Clone)]
pub struct Customers {
    database: Database,
}

impl Customers {
    pub fn new(database: Database) -> Self {
        Self { database }
    }

    /// A query for one.
    pub async fn one(&self, id: Id) -> Answer {
        Ok(self.database.query(move |connection| one(connection, id)).await?.1)
    }

    /// One query for all, with an answer for each: an id that is left out would be asked for again by
    /// whoever waits for it.
    pub async fn many(&self, ids: Vec<Id>) -> Vec<(Id, Answer)> {
        let asked = ids.clone();
        let found = self.database.query(move |connection| many(connection, &asked)).await;
        let found = found.map_err(Arc::new);
        let answer = |id| match &found {
            // Who has bought nothing has no row.
            Ok(found) => (id, Ok(found.get(&id).copied().unwrap_or_default())),
            Err(error) => (id, Err(Arc::clone(error))),
        };
        ids.into_iter().map(answer).collect()
    }
}

fn one(connection: &Connection, id: Id) -> rusqlite::Result<(Id, Customer)> {
    connection.prepare_cached(ONE)?.query_row([id], customer)
}

fn many(connection: &Connection, ids: &[Id]) -> rusqlite::Result<HashMap<Id, Customer>> {
    let sql = MANY.replace(":ids", &vec!["?"; ids.len()].join(", "));
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_map(params_from_iter(ids), customer)?.collect()
}

fn customer(row: &Row<'_>) -> rusqlite::Result<(Id, Customer)> {
    Ok((row.get(0)?, Customer { orders: row.get(1)?, cents: row.get(2)? }))
}

#[cfg(test)]
mod tests {
    use futures_lite::future;
    use shardflight::Group;
    use tempfile::TempDir;

    use super::*;
    use crate::orders;

    /// The directory is removed when it is dropped.
    fn small_service() -> (TempDir, Customers) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        orders::create(&path, 4_000, |_| ()).unwrap();
        let customers = Customers::new(Database::open(&path, 1).unwrap());
        (directory, customers)
    }

    #[tokio::test]
    async fn many_are_the_same_as_one_by_one() {
        let (_directory, customers) = small_service();
        let found = customers.many((0..200).collect()).await;
        assert_eq!(found.len(), 200);
        for (id, many) in found {
            assert_eq!(many.unwrap(), customers.one(id).await.unwrap());
        }
    }

    #[tokio::test]
    async fn two_pages_load_what_they_share_once() {
        let (_directory, customers) = small_service();
        let group: Group<Id, Answer> = Group::new();
        let taken = customers.database.take_all();
        let mut first = Box::pin(group.run_many(0..100, |ids| customers.many(ids)));
        assert!(future::poll_once(&mut first).await.is_none());
        let mut second = Box::pin(group.run_many(50..150, |ids| {
            assert!(ids.iter().all(|&id| id >= 100), "the others are under way");
            customers.many(ids)
        }));
        assert!(future::poll_once(&mut second).await.is_none());
        customers.database.give_back_all(taken);

        let (first, second) = future::zip(first, second).await;
        assert_eq!(customers.database.queries(), 2);
        for (id, answer) in first.iter().filter(|(id, _)| **id >= 50) {
            assert_eq!(answer.as_ref().unwrap(), second[id].as_ref().unwrap());
        }
        assert!(group.is_empty());
    }
}
