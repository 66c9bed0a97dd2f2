//! A thousand requests for four reports arrive at once: each for itself, then through a `Group`. And three
//! scenes for a cache: moka alone, the group alone, and both.
//!
//! `cargo run --release -p examples --bin stampede`

use std::{
    sync::{RwLock, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::Parser;
use examples::{
    database::Database,
    measure::{HEADER, Row, Run},
    orders::REGIONS,
    reports::{self, Answer, Key, Reports},
    scenes::{self, Editions, Pace},
};
use shardflight::Group;
use tokio::{runtime::Runtime, task::JoinSet};

/// What the service has for all requests together.
const CONNECTIONS: usize = 4;
/// What asks where there is no runtime.
const THREADS: usize = 64;
/// What clients ask for in the scenes that go on for a while.
const PACE: Pace = Pace { per_second: 2_000, time: Duration::from_secs(3) };

/// A thousand requests for four reports arrive at once: each for itself, then through a group; then
/// scenes for a cache, with moka alone, the group alone, and both
#[derive(Parser)]
struct Args {
    /// Orders in the database: the more, the longer a query takes
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Requests of tasks, under tokio; those of threads are always 64
    #[arg(long, default_value_t = 1_000)]
    requests: usize,
}

/// What every request has at hand.
#[derive(Clone)]
struct App {
    database: Database,
    reports: Reports,
    group: Group<Key, Answer>,
}

// The four ways to ask. This is all there is to sharing:

async fn alone(app: App, key: Key) -> Answer {
    app.reports.report(key).await
}

async fn shared(app: App, key: Key) -> Answer {
    app.group.run(&key, app.reports.report(key)).await
}

fn alone_blocking(app: &App, key: Key) -> Answer {
    app.reports.report_blocking(key)
}

fn shared_blocking(app: &App, key: Key) -> Answer {
    app.group.run_blocking(&key, || app.reports.report_blocking(key))
}

fn main() -> anyhow::Result<()> {
    let Args { rows, requests } = Args::parse();
    let (database, reports) = reports::open(rows, CONNECTIONS)?;
    let app = App { database, reports, group: Group::new() };

    let runtime = Runtime::new()?;
    let table = [
        runtime.block_on(ask_by_tasks("tasks, each for itself", requests, &app, alone))?,
        runtime.block_on(ask_by_tasks("tasks, with a group", requests, &app, shared))?,
        ask_by_threads("threads, each for itself", THREADS, &app, alone_blocking)?,
        ask_by_threads("threads, with a group", THREADS, &app, shared_blocking)?,
    ];

    println!("\n{HEADER}");
    for row in table {
        println!("{row}");
    }
    println!();

    let editions = Editions::new(app.database, app.reports);
    runtime.block_on(async {
        let scene = scenes::cold_start(requests, &editions).await?;
        println!("{scene}");
        scene.check()?;
        let scene = scenes::expiry(PACE, &editions).await?;
        println!("{scene}");
        scene.check()?;
        let scene = scenes::storm(PACE, &editions).await?;
        println!("{scene}");
        scene.check()
    })
}

/// What is asked for: one business, its regions in turn, over and over.
fn keys() -> impl Iterator<Item = Key> {
    REGIONS.into_iter().cycle().map(|region| Key { business: 1, region })
}

/// All requests at once, each a task of its own.
async fn ask_by_tasks<F>(
    name: &'static str,
    requests: usize,
    app: &App,
    ask: impl Fn(App, Key) -> F,
) -> anyhow::Result<Row>
where
    F: Future<Output = Answer> + Send + 'static,
{
    let mut run = Run::start(name, requests, &app.database);
    let mut tasks = JoinSet::new();
    for key in keys().take(requests) {
        let (asked, answer) = (Instant::now(), ask(app.clone(), key));
        tasks.spawn(async move { answer.await.map(|_| asked.elapsed()) });
    }
    while let Some(latency) = tasks.join_next().await {
        run.answered(latency??);
    }
    Ok(run.finish())
}

/// All requests at once, each a thread of its own. No runtime is involved.
fn ask_by_threads(
    name: &'static str,
    requests: usize,
    app: &App,
    ask: fn(&App, Key) -> Answer,
) -> anyhow::Result<Row> {
    let (sender, latencies) = mpsc::channel();
    // Threads take a while to start. They wait here until all have, or until that has failed.
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write();
        for key in keys().take(requests) {
            let (gate, sender) = (&gate, sender.clone());
            let request = move || {
                drop(gate.read());
                let asked = Instant::now();
                // Nobody listens any more if another request has failed.
                let _ = sender.send(ask(app, key).map(|_| asked.elapsed()));
            };
            let thread = thread::Builder::new().spawn_scoped(scope, request);
            thread.context("cannot start a thread for each request")?;
        }
        drop(sender);
        let mut run = Run::start(name, requests, &app.database);
        drop(closed);
        for latency in latencies {
            run.answered(latency?);
        }
        Ok(run.finish())
    })
}
