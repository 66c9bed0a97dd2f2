//! Expiry under load: a short time to live passes, again and again, while clients keep asking.

use std::time::Duration;

use moka::future::Cache;
use shardflight::{Group, cache::ReadThrough};

use super::{
    editions::{Editions, keys},
    table::Table,
    traffic::{Answered, Pace, steadily},
    ways::Way,
};
use crate::{measure::Run, orders::REGIONS};

/// How old reports may get.
const TTL: Duration = Duration::from_millis(500);
/// How old if the database does not keep up.
const LAST: Duration = Duration::from_secs(60);

fn ways() -> [Way; 3] {
    [
        Way::Moka(Cache::builder().time_to_live(TTL).build()),
        Way::Group(Group::new()),
        Way::Both(ReadThrough::builder().soft_ttl(TTL).time_to_live(LAST).build()),
    ]
}

pub async fn expiry(pace: Pace, editions: &Editions) -> anyhow::Result<Table> {
    let Pace { per_second, time } = pace;
    let mut table = Table::new(
        format!("Expiry under load: {per_second} requests/s for {time:?}, reports good for {TTL:?}"),
        &["waited", "oldest"],
        "Where moka is alone, whoever comes when a report has expired waits for its query. With both the old
report is the answer while a task loads the new one: nobody waits, and reports are older by that query at
most. The group alone keeps nothing: all wait, and there is always a query under way.",
    );
    for way in ways() {
        // A cold start is another scene.
        for key in keys().take(REGIONS.len()) {
            way.get(key, editions.clone().load(key)).await?;
        }
        let ask = |key| {
            let (way, editions) = (way.clone(), editions.clone());
            async move {
                let edition = way.get(key, editions.load(key)).await?;
                Ok(edition.began.elapsed())
            }
        };
        let (mut waits, mut oldest) = (0, Duration::ZERO);
        let look = |answered: Answered<Duration>| {
            waits += usize::from(answered.waited);
            oldest = oldest.max(answered.answer);
        };
        let mut run = Run::start(way.name(), pace.requests(), &editions.database);
        steadily(pace, &mut run, ask, look).await?;
        let row = run.finish();
        if let Way::Both(_) = way {
            table.promise(waits == 0, || format!("{waits} requests waited for a refresh"));
            // Each is good for so long after its query has ended, and the next one begins after that.
            let most = REGIONS.len() * (1 + row.wall().div_duration_f64(TTL) as usize);
            let queries = row.queries();
            table.promise(queries <= most, || format!("{queries} queries, instead of {most}"));
        }
        table.lines.push((row, vec![waits.to_string(), format!("{oldest:.0?}")]));
    }
    Ok(table)
}
