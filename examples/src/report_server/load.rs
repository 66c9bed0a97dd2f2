//! The load: clients that ask over real sockets, each for one report after the other.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::ensure;
use axum::{
    body::Bytes,
    http::{Response, Uri},
};
use fastrand::Rng;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time};

use super::traffic::{Traffic, Way};
use crate::orders::{BUSINESSES, REGIONS};

/// What a load is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub way: Way,
    pub clients: usize,
    /// How many different reports they ask for.
    pub reports: usize,
}

/// Each client takes two file descriptors, because the server is in the same process.
pub const CLIENTS: usize = 400;
pub const REPORTS: usize = REGIONS.len() * BUSINESSES as usize;

/// After an error, so that clients of a server that is gone do not spin.
const PAUSE: Duration = Duration::from_millis(200);

impl Plan {
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!((1..=CLIENTS).contains(&self.clients), "there can be 1 to {CLIENTS} clients");
        ensure!((1..=REPORTS).contains(&self.reports), "there can be 1 to {REPORTS} reports");
        Ok(())
    }

    /// What its clients ask the server at `address` for: the regions in turn, then the next business.
    pub fn uris(&self, address: SocketAddr) -> Vec<Uri> {
        let uri = |report| {
            let (business, region) = (report / REGIONS.len(), REGIONS[report % REGIONS.len()]);
            let prefix = self.way.prefix();
            let uri = format!("http://{address}{prefix}/report/{region}?business={business}");
            uri.parse().expect("a region needs no escaping")
        };
        (0..self.reports).map(uri).collect()
    }
}

/// A client with a connection for each request that is under way.
#[derive(Clone)]
pub struct Requests(Client<HttpConnector, Empty<Bytes>>);

impl Default for Requests {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(Client::builder(TokioExecutor::new()).build(connector))
    }
}

impl Requests {
    /// The whole response, and how long it took.
    pub async fn get(&self, uri: Uri) -> anyhow::Result<(Response<Bytes>, Duration)> {
        let asked = Instant::now();
        let (head, body) = self.0.get(uri).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((Response::from_parts(head, body), asked.elapsed()))
    }
}

/// The load of one server: there is one at a time. Clones are handles of the same.
#[derive(Clone)]
pub struct Load {
    address: SocketAddr,
    traffic: Traffic,
    loads: Arc<Mutex<Loads>>,
}

#[derive(Default)]
struct Loads {
    // Aborts its clients when it is dropped.
    running: Option<(Way, JoinSet<()>)>,
    // Of each way.
    latest: [Option<Plan>; Way::ALL.len()],
}

impl Load {
    /// For the server at `address`.
    pub fn new(address: SocketAddr, traffic: Traffic) -> Self {
        Self { address, traffic, loads: Arc::default() }
    }

    /// Starts one in place of the one that runs, whose clients disconnect.
    pub fn start(&self, plan: Plan) {
        let mut loads = self.loads();
        loads.running = None;
        self.traffic.begin(plan.way);
        let (requests, uris) = (Requests::default(), Arc::<[Uri]>::from(plan.uris(self.address)));
        let client = |_| client(requests.clone(), Arc::clone(&uris));
        loads.running = Some((plan.way, (0..plan.clients).map(client).collect()));
        let way = plan.way as usize;
        loads.latest[way] = Some(plan);
    }

    /// Its clients disconnect.
    pub fn stop(&self) {
        self.loads().running = None;
    }

    /// The one that runs.
    pub fn running(&self) -> Option<Plan> {
        let loads = self.loads();
        let (way, _) = loads.running.as_ref()?;
        loads.latest[*way as usize].clone()
    }

    /// The latest one of each way.
    pub fn latest(&self) -> [Option<Plan>; Way::ALL.len()] {
        self.loads().latest.clone()
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn client(requests: Requests, uris: Arc<[Uri]>) {
    let mut rng = Rng::new();
    loop {
        let uri = uris[rng.usize(..uris.len())].clone();
        let answered = requests.get(uri).await;
        if !answered.is_ok_and(|(response, _)| response.status().is_success()) {
            time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, net::Ipv4Addr};

    use super::*;

    #[test]
    fn all_reports_are_different() {
        let plan = Plan { way: Way::Plain, clients: 1, reports: REPORTS };
        plan.check().unwrap();
        let uris = plan.uris((Ipv4Addr::LOCALHOST, 3_000).into());
        assert_eq!(uris[5], "http://127.0.0.1:3000/plain/report/eu-north?business=1");
        assert_eq!(uris.iter().collect::<HashSet<_>>().len(), REPORTS);
        assert!(Plan { reports: REPORTS + 1, ..plan.clone() }.check().is_err());
        assert!(Plan { clients: 0, ..plan }.check().is_err());
    }
}
