//! Everything at once, on few keys: no call gets what was outdated before it began.

use std::{
    future::Future,
    sync::{
        Arc, Barrier, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::Duration,
};

use shardflight::cache::{EarlyRefresh, ReadThrough, ReadThroughBuilder};

use crate::common::{Dice, limited, multi_thread, spin};

const KEYS: usize = 3;

/// What is cached: versions, of which an error carries one, too.
type Versions = ReadThrough<usize, u64, u64>;

#[derive(Default)]
struct Row {
    /// What loads read.
    version: AtomicU64,
    /// An invalidation for this one has returned.
    published: AtomicU64,
    /// An insert does not overlap another write: of two that overlap either may win.
    writes: RwLock<()>,
}

#[derive(Clone)]
struct World {
    cache: Versions,
    rows: Arc<[Row; KEYS]>,
}

impl World {
    fn new(builder: ReadThroughBuilder<usize, u64, u64>) -> Self {
        Self { cache: builder.build(), rows: Arc::default() }
    }

    fn published(&self, key: usize) -> u64 {
        self.rows[key].published.load(SeqCst)
    }

    /// What a load comes to; now and then it fails.
    fn read(&self, key: usize, fails: bool) -> Result<u64, u64> {
        let version = self.rows[key].version.load(SeqCst);
        if fails { Err(version) } else { Ok(version) }
    }

    fn load(&self, key: usize, dice: &mut Dice) -> impl Future<Output = Result<u64, u64>> + use<> {
        let (world, fails, naps) =
            (self.clone(), dice.below(4) == 0, [dice.below(3), dice.below(3)]);
        async move {
            for _ in 0..naps[0] {
                tokio::task::yield_now().await;
            }
            // As soon as it has begun.
            let version = world.read(key, fails);
            for _ in 0..naps[1] {
                tokio::task::yield_now().await;
            }
            version
        }
    }

    /// One write, and what makes it known.
    fn write(&self, dice: &mut Dice) {
        let key = dice.below(KEYS);
        let row = &self.rows[key];
        match dice.below(8) {
            0 => {
                let _writes: Vec<_> = self
                    .rows
                    .iter()
                    .map(|row| row.writes.read().unwrap_or_else(PoisonError::into_inner))
                    .collect();
                let versions: Vec<_> =
                    self.rows.iter().map(|row| row.version.fetch_add(1, SeqCst) + 1).collect();
                self.cache.invalidate_all();
                for (row, version) in self.rows.iter().zip(versions) {
                    row.published.fetch_max(version, SeqCst);
                }
            }
            1 | 2 => {
                let _write = row.writes.write().unwrap_or_else(PoisonError::into_inner);
                let version = row.version.fetch_add(1, SeqCst) + 1;
                self.cache.insert(&key, version);
                row.published.fetch_max(version, SeqCst);
            }
            _ => {
                let _write = row.writes.read().unwrap_or_else(PoisonError::into_inner);
                let version = row.version.fetch_add(1, SeqCst) + 1;
                self.cache.invalidate(&key);
                row.published.fetch_max(version, SeqCst);
            }
        }
    }

    /// One look, or one write, of a task.
    async fn step(&self, dice: &mut Dice) {
        let key = dice.below(KEYS);
        let load = self.load(key, dice);
        let patience = dice.below(4);
        let least = [0, 1, 2].map(|key| self.published(key));
        let answer = match dice.below(8) {
            0 => return self.write(dice),
            1 => self.cache.get_if_present(&key).map(Ok),
            2 => self.cache.get_spawning(&key, load).await.into(),
            3 => {
                let mut naps = dice.clone();
                let load = |keys: Vec<usize>| {
                    let (world, mut dice) = (self.clone(), naps.clone());
                    naps.below(2);
                    async move {
                        let mut found = Vec::new();
                        for key in keys {
                            // Some are left out.
                            if dice.below(8) > 0 {
                                found.push((key, world.load(key, &mut dice).await));
                            }
                        }
                        found
                    }
                };
                let keys = [key, (key + 1) % KEYS];
                let found = impatient(patience * 2, self.cache.get_many(keys, load)).await;
                for (key, answer) in found.unwrap_or_default() {
                    assert_not_outdated(answer, least[key]);
                }
                None
            }
            4 | 5 => impatient(patience, self.cache.get(&key, load)).await,
            _ => Some(self.cache.get(&key, load).await),
        };
        if let Some(answer) = answer {
            assert_not_outdated(answer, least[key]);
        }
    }

    /// The same of a thread.
    fn blocking_step(&self, dice: &mut Dice) {
        if dice.below(4) == 0 {
            return self.write(dice);
        }
        let (key, fails) = (dice.below(KEYS), dice.below(4) == 0);
        let least = self.published(key);
        let answer = self.cache.get_blocking(&key, || {
            let version = self.read(key, fails);
            spin();
            version
        });
        assert_not_outdated(answer, least);
    }

    /// Tasks and threads for so many steps each.
    fn run(&self, steps: u64) {
        let runtime = multi_thread();
        let start = Arc::new(Barrier::new(2));
        let tasks: Vec<_> = (0..12)
            .map(|seed| {
                let world = self.clone();
                runtime.spawn(async move {
                    let mut dice = Dice::new(seed);
                    for _ in 0..steps {
                        world.step(&mut dice).await;
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        thread::scope(|scope| {
            for seed in 100..102 {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let mut dice = Dice::new(seed);
                    (0..steps).for_each(|_| self.blocking_step(&mut dice));
                });
            }
        });
        for task in tasks {
            runtime.block_on(task).expect("nothing is outdated");
        }
        // Refreshes end by themselves.
        runtime.block_on(async {
            while self.cache.loading() > 0 {
                tokio::task::yield_now().await;
            }
        });
        for key in 0..KEYS {
            assert_not_outdated(
                self.cache.get_blocking(&key, || self.read(key, false)),
                self.published(key),
            );
        }
    }
}

fn assert_not_outdated(answer: Result<u64, u64>, least: u64) {
    let (Ok(version) | Err(version)) = answer;
    assert!(version >= least, "{answer:?} was outdated when {least} was published");
}

/// Gives up after a number of polls.
async fn impatient<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = std::pin::pin!(call);
    for _ in 0..polls {
        if let Poll::Ready(answer) =
            futures_lite::future::poll_once(call.as_mut()).await.map_or(Poll::Pending, Poll::Ready)
        {
            return Some(answer);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Values that stay until they are invalidated.
#[test]
fn invalidations_are_final_for_values_that_stay() {
    limited(|| World::new(ReadThrough::builder()).run(1_500));
}

/// Every value is refreshed all the time, and errors and old values are kept.
#[test]
fn invalidations_are_final_for_values_that_are_refreshed() {
    limited(|| {
        let builder = ReadThrough::builder()
            .soft_ttl(Duration::ZERO)
            .early_refresh(EarlyRefresh::XFetch { beta: 1.0 })
            .stale_if_error(Duration::from_secs(60))
            .max_age(Duration::from_micros(50));
        World::new(builder).run(1_500);
    });
}

/// Errors are kept, for so short a time that refreshes are put off and tried again.
#[test]
fn invalidations_are_final_for_errors_that_are_kept() {
    limited(|| {
        let builder = ReadThrough::builder()
            .time_to_live(Duration::from_micros(200))
            .soft_ttl(Duration::from_micros(50))
            .stale_if_error(Duration::from_secs(60))
            .negative_ttl(Duration::from_micros(100));
        World::new(builder).run(1_500);
    });
}
