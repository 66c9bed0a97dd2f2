//! Requests: all at once, or at a steady rate, whether or not those before them have been answered.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_lite::future::poll_once;
use tokio::{
    task::{JoinError, JoinSet},
    time,
};

use super::editions::keys;
use crate::{measure::Run, reports::Key};

/// Requests come in so often, a few at a time.
const TICK: Duration = Duration::from_millis(5);

/// How many requests come, and how long.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub per_second: u32,
    pub time: Duration,
}

impl Pace {
    pub fn requests(self) -> usize {
        (f64::from(self.per_second) * self.time.as_secs_f64()) as usize
    }
}

/// An answer that has come.
pub struct Answered<T> {
    pub latency: Duration,
    /// Whether it was not there at once.
    pub waited: bool,
    pub answer: T,
}

type Requests<T> = JoinSet<Result<Answered<T>, Arc<rusqlite::Error>>>;
type Done<T> = Result<Result<Answered<T>, Arc<rusqlite::Error>>, JoinError>;

/// So many at once. `ask` is called when a request comes, `look` with what it got.
pub async fn at_once<T, F>(
    requests: usize,
    run: &mut Run<'_>,
    ask: impl Fn(Key) -> F,
    mut look: impl FnMut(Answered<T>),
) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, Arc<rusqlite::Error>>> + Send + 'static,
    T: Send + 'static,
{
    let mut tasks = Requests::new();
    keys().take(requests).for_each(|key| begin(&mut tasks, ask(key)));
    while let Some(done) = tasks.join_next().await {
        end(done, run, &mut look)?;
    }
    Ok(())
}

/// The same at a steady rate.
pub async fn steadily<T, F>(
    pace: Pace,
    run: &mut Run<'_>,
    ask: impl Fn(Key) -> F,
    mut look: impl FnMut(Answered<T>),
) -> anyhow::Result<()>
where
    F: Future<Output = Result<T, Arc<rusqlite::Error>>> + Send + 'static,
    T: Send + 'static,
{
    let mut tasks = Requests::new();
    let mut keys = keys().take(pace.requests()).peekable();
    // Those that come too late come together.
    let mut ticks = time::interval(TICK);
    let each = (f64::from(pace.per_second) * TICK.as_secs_f64()).ceil() as usize;
    while keys.peek().is_some() {
        ticks.tick().await;
        keys.by_ref().take(each).for_each(|key| begin(&mut tasks, ask(key)));
        while let Some(done) = tasks.try_join_next() {
            end(done, run, &mut look)?;
        }
    }
    while let Some(done) = tasks.join_next().await {
        end(done, run, &mut look)?;
    }
    Ok(())
}

fn begin<T, F>(tasks: &mut Requests<T>, request: F)
where
    F: Future<Output = Result<T, Arc<rusqlite::Error>>> + Send + 'static,
    T: Send + 'static,
{
    let asked = Instant::now();
    tasks.spawn(async move {
        let mut request = pin!(request);
        let at_once = poll_once(&mut request).await;
        let waited = at_once.is_none();
        let answer = match at_once {
            Some(answer) => answer?,
            None => request.await?,
        };
        Ok(Answered { latency: asked.elapsed(), waited, answer })
    });
}

fn end<T>(
    done: Done<T>,
    run: &mut Run<'_>,
    look: &mut impl FnMut(Answered<T>),
) -> anyhow::Result<()> {
    let answered = done??;
    run.answered(answered.latency);
    look(answered);
    Ok(())
}
