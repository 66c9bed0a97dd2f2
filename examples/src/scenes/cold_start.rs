//! A cold start: the first requests of the day, all at once, and then the same again.

use super::{editions::Editions, table::Table, traffic::at_once, ways::Way};
use crate::{measure::Run, orders::REGIONS};

pub async fn cold_start(requests: usize, editions: &Editions) -> anyhow::Result<Table> {
    let mut table = Table::new(
        format!("A cold start: {requests} requests for four reports, and then the same again"),
        &["then again"],
        "A cold cache is filled by one query for each report in all three ways. What comes after is a
query again where there is no cache.",
    );
    for way in Way::all() {
        let ask = |key| {
            let (way, editions) = (way.clone(), editions.clone());
            async move { way.get(key, editions.load(key)).await }
        };
        let mut first = Run::start(way.name(), requests, &editions.database);
        at_once(requests, &mut first, ask, drop).await?;
        let first = first.finish();
        let mut again = Run::start(way.name(), requests, &editions.database);
        at_once(requests, &mut again, ask, drop).await?;
        let (queries, again) = (first.queries(), again.finish().queries());
        if let Way::Both(_) = way {
            let reports = REGIONS.len().min(requests);
            table.promise(queries == reports, || {
                format!("{queries} queries for {reports} reports that nobody had asked for")
            });
            table.promise(again == 0, || format!("{again} queries for what was in the cache"));
        }
        table.lines.push((first, vec![again.to_string()]));
    }
    Ok(table)
}
