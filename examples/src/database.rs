//! The database as a service has it: a few connections, for which queries queue.

use std::{
    future::pending,
    panic::resume_unwind,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use async_channel::{Receiver, Sender};
use rusqlite::{Connection, OpenFlags};
use tokio::task::spawn_blocking;

/// Clones are handles of the same one.
#[derive(Clone)]
pub struct Database {
    // The connections that are not in use. Who takes one out puts it back.
    idle: (Sender<Connection>, Receiver<Connection>),
    queries: Arc<AtomicUsize>,
}

impl Database {
    /// Opens the database at `path` with so many connections.
    pub fn open(path: &Path, connections: usize) -> rusqlite::Result<Self> {
        let idle = async_channel::bounded(connections);
        // Each connection is used by one thread at a time, so SQLite needs no mutex of its own.
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        for _ in 0..connections {
            give_back(&idle.0, Connection::open_with_flags(path, flags)?);
        }
        Ok(Self { idle, queries: Arc::default() })
    }

    /// For tasks.
    pub async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> T + Send + 'static,
    ) -> T {
        let connection = self.idle.1.recv().await.expect("this keeps a sender");
        let database = self.clone();
        // A query that has begun runs to its end and gives its connection back, even if the caller
        // has gone by then.
        let queried = spawn_blocking(move || database.run(connection, query));
        match queried.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime is shutting down, and so will this task be.
            Err(_) => pending().await,
        }
    }

    /// For threads.
    pub fn query_blocking<T>(&self, query: impl FnOnce(&Connection) -> T) -> T {
        let connection = self.idle.1.recv_blocking().expect("this keeps a sender");
        self.run(connection, query)
    }

    /// How many queries were begun so far.
    pub fn queries(&self) -> usize {
        self.queries.load(Relaxed)
    }

    fn run<T>(&self, connection: Connection, query: impl FnOnce(&Connection) -> T) -> T {
        self.queries.fetch_add(1, Relaxed);
        let answer = query(&connection);
        give_back(&self.idle.0, connection);
        answer
    }

    /// While all connections are taken no query can begin.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<Connection> {
        std::iter::from_fn(|| self.idle.1.try_recv().ok()).collect()
    }

    #[cfg(test)]
    pub(crate) fn give_back_all(&self, taken: Vec<Connection>) {
        taken.into_iter().for_each(|connection| give_back(&self.idle.0, connection));
    }
}

fn give_back(idle: &Sender<Connection>, connection: Connection) {
    idle.try_send(connection).expect("there is room for every connection");
}
