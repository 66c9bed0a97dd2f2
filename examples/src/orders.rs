//! The database of orders: made once, whole or not at all, with the same rows everywhere.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rusqlite::Connection;
use tempfile::NamedTempFile;

use crate::progress::Progress;

/// Where orders come from.
pub const REGIONS: [&str; 4] = ["eu-west", "eu-north", "us-east", "ap-south"];
/// Businesses have the numbers `0..BUSINESSES`.
pub const BUSINESSES: u32 = 10;

/// And customers `0..CUSTOMERS`.
pub const CUSTOMERS: u32 = 20_000;

const SCHEMA: &str = "
    CREATE TABLE orders (
        business INTEGER NOT NULL,
        region   TEXT    NOT NULL,
        customer INTEGER NOT NULL,
        day      TEXT    NOT NULL,
        cents    INTEGER NOT NULL
    )";
const INSERT: &str = "
    INSERT INTO orders VALUES (?1, ?2, ?3, date('2025-01-01', ?4 || ' days'), ?5)";
const INDEXES: &str = "
    CREATE INDEX orders_by_business ON orders (business, region);
    CREATE INDEX orders_by_customer ON orders (customer)";

/// Where the database of `rows` orders is. It is made first if it is not there.
pub fn find(rows: u64) -> anyhow::Result<PathBuf> {
    // Beside the program, so in cargo's target directory: `cargo clean` removes it.
    let path = env::current_exe()?.with_file_name(format!("orders-by-customer-{rows}.sqlite"));
    if path.exists() {
        println!("The database is {}", path.display());
    } else {
        println!("Making {}, this once", path.display());
        let mut progress = Progress::start();
        create(&path, rows, |row| progress.show(format_args!("{row} of {rows} orders")))
            .with_context(|| format!("cannot make {}", path.display()))?;
    }
    Ok(path)
}

/// What to do about a database that is there and cannot be used.
pub fn unusable(path: &Path) -> impl Fn() -> String {
    move || format!("cannot use {}; delete it to have it made anew", path.display())
}

/// Makes a database of `rows` orders at `path`, and tells `progress` how many there are so far.
pub fn create(path: &Path, rows: u64, progress: impl FnMut(u64)) -> anyhow::Result<()> {
    let directory = path.parent().context("the path of the database names no file")?;
    // Under the final name there is only ever a whole database, however this run ends.
    let unfinished = NamedTempFile::with_prefix_in("unfinished-", directory)?;
    fill(unfinished.path(), rows, progress)?;
    unfinished.as_file().sync_all()?;
    unfinished.persist(path)?;
    Ok(())
}

fn fill(path: &Path, rows: u64, mut progress: impl FnMut(u64)) -> rusqlite::Result<()> {
    let mut database = Connection::open(path)?;
    // Nobody wants a half-made file back, so nothing is spent on being able to restore it.
    database.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    let transaction = database.transaction()?;
    transaction.execute_batch(SCHEMA)?;

    let mut insert = transaction.prepare(INSERT)?;
    let mut random = fastrand::Rng::with_seed(7);
    for row in 0..rows {
        insert.execute((
            random.u32(..BUSINESSES),
            REGIONS[random.usize(..REGIONS.len())],
            random.u32(..CUSTOMERS),
            random.u32(..365),
            random.u32(100..50_000),
        ))?;
        if row % 10_000 == 0 {
            progress(row);
        }
    }
    drop(insert);

    transaction.execute_batch(INDEXES)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use std::{fs, panic};

    use super::*;

    #[test]
    fn an_interrupted_run_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("orders.sqlite");
        let interrupted = panic::catch_unwind(|| create(&path, 100, |_| panic!("interrupted")));
        assert!(interrupted.is_err());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);

        create(&path, 100, |_| ()).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }
}
