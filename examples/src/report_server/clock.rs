//! Four times a second: what the traffic was since the last time. A minute of it is kept.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{self, Instant, MissedTickBehavior},
};

use super::{
    cached::Cached,
    load::Load,
    moment::{Air, Latest, Moment, Point, Saved, millis},
    plan::Way,
    tally::Tally,
    traffic::Traffic,
};
use crate::database::Database;

const MOMENT: Duration = Duration::from_millis(250);
/// A minute, with both its ends.
const KEPT: usize = 241;
/// Rates and percentiles are those of a second: of one moment they would jump about.
const SECOND: usize = 4;

/// The last minute, and what comes next. Clones are handles of the same.
#[derive(Clone)]
pub struct Moments {
    points: Arc<Mutex<VecDeque<Point>>>,
    now: watch::Receiver<Option<Arc<Moment>>>,
}

impl Moments {
    /// Starts the clock; it goes until all handles are gone.
    pub fn start(traffic: Traffic, load: Load, database: Database, cached: Cached) -> Self {
        let (sender, now) = watch::channel(None);
        let moments = Self { points: Arc::default(), now };
        let points = Arc::clone(&moments.points);
        let mut clock = Clock::new(traffic, load, database, cached);
        tokio::spawn(async move {
            let mut interval = time::interval(MOMENT);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval.tick().await;
            loop {
                interval.tick().await;
                let moment = clock.tick();
                push(&mut lock(&points), moment.point.clone(), KEPT);
                if sender.send(Some(Arc::new(moment))).is_err() {
                    return;
                }
            }
        });
        moments
    }

    /// Those of the last minute, the oldest first.
    pub fn points(&self) -> Vec<Point> {
        lock(&self.points).iter().cloned().collect()
    }

    /// The next one; `None` if there will be none.
    pub async fn next(&mut self) -> Option<Arc<Moment>> {
        self.now.changed().await.ok()?;
        self.now.borrow_and_update().clone()
    }
}

fn lock(points: &Mutex<VecDeque<Point>>) -> MutexGuard<'_, VecDeque<Point>> {
    points.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the latest `at_most`.
fn push<T>(queue: &mut VecDeque<T>, value: T, at_most: usize) {
    if queue.len() == at_most {
        queue.pop_front();
    }
    queue.push_back(value);
}

struct Clock {
    traffic: Traffic,
    load: Load,
    database: Database,
    cached: Cached,
    start: Instant,
    number: u64,
    reports: u64,
    // Of the database, before the server was started.
    queries: usize,
    // All ways together, a tally for each moment.
    second: VecDeque<Tally>,
}

impl Clock {
    fn new(traffic: Traffic, load: Load, database: Database, cached: Cached) -> Self {
        let (start, queries, second) = (Instant::now(), database.queries(), VecDeque::new());
        Self { traffic, load, database, cached, start, number: 0, reports: 0, queries, second }
    }

    fn tick(&mut self) -> Moment {
        self.number += 1;
        let mut news = Tally::default();
        self.traffic.news().iter().for_each(|tally| news.merge(tally));
        self.reports += news.reports;
        let queries = (self.database.queries() - self.queries) as u64;
        push(&mut self.second, news, SECOND);

        let (load, left) = self.load.running().unzip();
        let latest = Way::ALL.into_iter().zip(self.traffic.latest());
        Moment {
            point: self.point(load.as_ref().map(|plan| plan.way)),
            load,
            left_s: left.map(|left| left.as_secs_f64()),
            saved: Saved::new(self.reports, queries),
            air: Air::new(&self.traffic.in_the_air()),
            latest: latest.map(|(way, loaded)| Latest::new(way, loaded.as_ref())).collect(),
            cache: self.cached.counted(),
        }
    }

    fn point(&self, way: Option<Way>) -> Point {
        let mut second = Tally::default();
        self.second.iter().for_each(|tally| second.merge(tally));
        // A tally begins when the one before it was taken.
        let seconds = second.since.elapsed().as_secs_f64();
        Point {
            number: self.number,
            at_s: self.start.elapsed().as_secs_f64(),
            requests_per_second: second.requests() as f64 / seconds,
            executions_per_second: second.executions() as f64 / seconds,
            p50_ms: second.percentile(50).map(millis),
            p99_ms: second.percentile(99).map(millis),
            way,
        }
    }
}
