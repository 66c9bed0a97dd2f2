//! One sample: clients that ask in a closed loop, each its next request when the last is answered.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use kit::rounds::{Parts, per_op};
use tokio::{runtime::Builder, task::JoinSet, time::sleep};

use crate::{
    app::Front,
    client::{Client, Protocol},
    server::Server,
    workloads::Workload,
};

/// What a sample's parts are. The times are in nanoseconds.
pub(crate) const MEDIAN: usize = 0;
pub(crate) const P99: usize = 1;
/// Of the server's thread, for a request.
pub(crate) const CPU: usize = 2;
/// Of handlers, for a request.
pub(crate) const EXECUTIONS: usize = 3;
/// From one answer to the next, over all clients.
pub(crate) const TIME: usize = 4;

const CLIENTS_CORE: usize = 1;

/// Of `time`, after some that is not counted.
pub(crate) fn sample(
    front: Front,
    protocol: Protocol,
    workload: &'static Workload,
    time: Duration,
) -> anyhow::Result<Parts> {
    kit::pin::to_any_core();
    let server = Server::start(front)?;
    kit::pin::to_core(CLIENTS_CORE);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let progress = Arc::new(Progress::default());
        let mut clients = JoinSet::new();
        for client in Client::connect(protocol, server.address).await? {
            clients.spawn(ask(client, workload, Arc::clone(&progress)));
        }
        sleep(time / 10).await;
        let before = server.usage().await?;
        let answered_before = progress.answered.load(Relaxed);
        progress.records.store(true, Relaxed);
        sleep(time).await;
        let after = server.usage().await?;
        let answered = progress.answered.load(Relaxed) - answered_before;
        progress.ends.store(true, Relaxed);

        let mut latencies = Vec::new();
        while let Some(of_client) = clients.join_next().await {
            latencies.extend(of_client??);
        }
        let (in_all, answered_in_all) =
            (server.usage().await?.executions, progress.answered.load(Relaxed));
        let latencies = Percentiles::over(latencies);
        Ok(vec![
            latencies.at(50),
            latencies.at(99),
            per_op(after.cpu - before.cpu, answered),
            in_all as f64 / answered_in_all as f64,
            per_op(after.at - before.at, answered),
        ])
    })
}

#[derive(Default)]
struct Progress {
    next: AtomicU64,
    answered: AtomicU64,
    records: AtomicBool,
    ends: AtomicBool,
}

/// How long it took for each answer.
async fn ask(
    mut client: Client,
    workload: &'static Workload,
    progress: Arc<Progress>,
) -> anyhow::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while !progress.ends.load(Relaxed) {
        let number = progress.next.fetch_add(1, Relaxed);
        let start = Instant::now();
        client.get(workload, number).await?;
        progress.answered.fetch_add(1, Relaxed);
        if progress.records.load(Relaxed) {
            latencies.push(start.elapsed());
        }
    }
    Ok(latencies)
}

struct Percentiles(Vec<Duration>);

impl Percentiles {
    fn over(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// In nanoseconds.
    fn at(&self, per_cent: usize) -> f64 {
        match self.0.len() {
            0 => f64::NAN,
            count => self.0[(count - 1) * per_cent / 100].as_nanos() as f64,
        }
    }
}
