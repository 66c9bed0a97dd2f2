//! A storm of invalidations: the data change again and again while clients ask.

use std::{ops::Range, time::Duration};

use fastrand::Rng;
use tokio::{task::JoinSet, time};

use super::{
    editions::{Changes, Editions, keys},
    table::Table,
    traffic::{Answered, Pace, steadily},
    ways::Way,
};
use crate::{measure::Run, orders::REGIONS, reports::Key};

/// Milliseconds between two changes of a report.
const PAUSE: Range<u64> = 20..400;

pub async fn storm(pace: Pace, editions: &Editions) -> anyhow::Result<Table> {
    let Pace { per_second, time } = pace;
    let mut table = Table::new(
        format!(
            "A storm of invalidations: {per_second} requests/s for {time:?}, each report changes every {} to {} ms",
            PAUSE.start, PAUSE.end,
        ),
        &["changes", "stale", "left stale"],
        "An answer is stale if its query began before a change whose invalidation had returned when the
request began. Where moka is alone, a query that is overtaken by an invalidation puts its report into the
cache all the same, and whoever asks gets that, until the next change, or for good if there is none: the last
column is how many of the four reports were still stale when all was over. With both an invalidation is final,
and so there is a query for each.",
    );
    for way in Way::all() {
        let changes = &editions.changes;
        let ask = |key| {
            let (way, editions, owed) = (way.clone(), editions.clone(), changes.settled(key));
            async move {
                let edition = way.get(key, editions.load(key)).await?;
                Ok(edition.number < owed)
            }
        };
        let mut stale = 0;
        let look = |answered: Answered<bool>| stale += usize::from(answered.answer);

        let mut run = Run::start(way.name(), pace.requests(), &editions.database);
        let mut writers = JoinSet::new();
        for (seed, key) in keys().take(REGIONS.len()).enumerate() {
            let (way, editions) = (way.clone(), editions.clone());
            let pauses = Rng::with_seed(seed as u64);
            writers.spawn(async move { change(key, pauses, time, &way, &editions.changes).await });
        }
        steadily(pace, &mut run, ask, look).await?;
        let changed = writers.join_all().await.into_iter().sum::<usize>();
        let row = run.finish();

        let mut left_stale = 0;
        for key in keys().take(REGIONS.len()) {
            let edition = way.get(key, editions.clone().load(key)).await?;
            left_stale += usize::from(edition.number < changes.latest(key));
        }
        if !matches!(way, Way::Moka(_)) {
            let name = way.name();
            table.promise(stale == 0, || format!("{stale} stale answers with {name}"));
            table.promise(left_stale == 0, || format!("{left_stale} stay stale with {name}"));
        }
        let more = [changed, stale, left_stale].map(|number| number.to_string());
        table.lines.push((row, more.into()));
    }
    Ok(table)
}

/// Changes a report, over and over: how often.
async fn change(
    key: Key,
    mut pauses: Rng,
    how_long: Duration,
    way: &Way,
    changes: &Changes,
) -> usize {
    let (start, mut changed) = (time::Instant::now(), 0);
    while start.elapsed() < how_long {
        time::sleep(Duration::from_millis(pauses.u64(PAUSE))).await;
        let number = changes.change(key);
        way.invalidate(key).await;
        changes.settle(key, number);
        changed += 1;
    }
    changed
}
