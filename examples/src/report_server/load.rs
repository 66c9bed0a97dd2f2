//! The load: clients that send requests over real sockets, each one after the other.
//!
//! A load ends after a minute, when its last viewer has left, when it is stopped, or when another one replaces it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{self, Instant},
};

use super::{
    plan::{Plan, Way},
    traffic::Traffic,
};

/// A load that nobody stops ends after this time.
pub const LENGTH: Duration = Duration::from_secs(60);
/// A page that is reloaded, or that has lost its connection, is back within this time.
const ABSENCE: Duration = Duration::from_secs(3);
/// After an error, so that clients of a server that is gone do not spin.
const PAUSE: Duration = Duration::from_millis(200);

/// A client with a connection for each request in flight.
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
    /// The whole response, and the time from sending the request to the last byte of the response.
    pub async fn get(&self, uri: Uri) -> anyhow::Result<(Response<Bytes>, Duration)> {
        let sent = Instant::now();
        let (head, body) = self.0.get(uri).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok((Response::from_parts(head, body), sent.elapsed()))
    }
}

/// The load of one server: there is one at a time. Clones are handles of the same.
#[derive(Clone)]
pub struct Load {
    address: SocketAddr,
    traffic: Traffic,
    loads: Arc<Mutex<Loads>>,
    viewers: watch::Sender<usize>,
}

#[derive(Default)]
struct Loads {
    started: u64,
    running: Option<Running>,
}

/// A load that runs. It ends when this is dropped.
struct Running {
    number: u64,
    plan: Plan,
    end: Instant,
    traffic: Traffic,
    // Dropping the set aborts the clients, which disconnect, and the task that waits for the end.
    _tasks: JoinSet<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.traffic.end(self.plan.way);
    }
}

/// Somebody who sees what the load does, until this is dropped.
pub struct Viewer(watch::Sender<usize>);

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.send_modify(|viewers| *viewers -= 1);
    }
}

impl Load {
    /// For the server at `address`.
    pub fn new(address: SocketAddr, traffic: Traffic) -> Self {
        Self { address, traffic, loads: Arc::default(), viewers: watch::Sender::default() }
    }

    /// Starts a load in place of the one that runs.
    pub fn start(&self, plan: Plan) {
        let mut loads = self.loads();
        loads.running = None;
        loads.started += 1;
        let number = loads.started;
        let end = Instant::now() + LENGTH;
        self.traffic.begin(plan.clone());

        let (requests, uris) = (Requests::default(), Arc::<[Uri]>::from(plan.uris(self.address)));
        let mut tasks = JoinSet::new();
        for _ in 0..plan.clients {
            let (way, traffic) = (plan.way, self.traffic.clone());
            tasks.spawn(client(requests.clone(), Arc::clone(&uris), way, traffic));
        }
        let load = self.clone();
        tasks.spawn(async move {
            // Whichever comes first.
            let _ = time::timeout_at(end, abandoned(load.viewers.subscribe())).await;
            load.end(number);
        });
        let traffic = self.traffic.clone();
        loads.running = Some(Running { number, plan, end, traffic, _tasks: tasks });
    }

    /// Ends the load that runs.
    pub fn stop(&self) {
        self.loads().running = None;
    }

    /// The load that runs, and the time that is left to it.
    pub fn running(&self) -> Option<(Plan, Duration)> {
        let loads = self.loads();
        let Running { plan, end, .. } = loads.running.as_ref()?;
        Some((plan.clone(), *end - Instant::now()))
    }

    /// Counts a viewer in until the value is dropped.
    pub fn viewer(&self) -> Viewer {
        self.viewers.send_modify(|viewers| *viewers += 1);
        Viewer(self.viewers.clone())
    }

    /// Ends this one, unless another one has replaced it.
    fn end(&self, number: u64) {
        let mut loads = self.loads();
        if loads.running.as_ref().is_some_and(|running| running.number == number) {
            loads.running = None;
        }
    }

    fn loads(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when there were viewers and the last one has left. A load that has none yet, as its request overtook
/// theirs or came from a program, waits for the first one.
async fn abandoned(mut viewers: watch::Receiver<usize>) {
    const KEPT: &str = "the task that waits keeps a sender";
    loop {
        viewers.wait_for(|&viewers| viewers > 0).await.expect(KEPT);
        viewers.wait_for(|&viewers| viewers == 0).await.expect(KEPT);
        if time::timeout(ABSENCE, viewers.wait_for(|&viewers| viewers > 0)).await.is_err() {
            return;
        }
    }
}

async fn client(requests: Requests, uris: Arc<[Uri]>, way: Way, traffic: Traffic) {
    let mut rng = Rng::new();
    loop {
        let uri = uris[rng.usize(..uris.len())].clone();
        let mut failed = true;
        if let Ok((response, latency)) = requests.get(uri).await {
            traffic.measured(way, latency);
            failed = !response.status().is_success();
        }
        if failed {
            time::sleep(PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, io::ErrorKind, net::Ipv4Addr};

    use axum::{Router, body::Body, response::IntoResponse};
    use futures_util::stream;
    use tokio::{
        net::{TcpListener, TcpStream},
        sync::mpsc,
    };

    use super::*;

    const PLAN: Plan = Plan { way: Way::Plain, clients: 1, reports: 1 };
    /// The clock of these tests stands still while anything can run, so this is not needed by a fast machine.
    const CLOSE: Duration = Duration::from_millis(500);

    async fn listener() -> (TcpListener, Load) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let load = Load::new(listener.local_addr().unwrap(), Traffic::default());
        (listener, load)
    }

    /// Waits until the client has gone, whose request has no response.
    async fn disconnected(client: TcpStream) {
        let give_up = Instant::now() + 2 * LENGTH;
        loop {
            time::timeout_at(give_up, client.readable()).await.expect("a load has no end").unwrap();
            match client.try_read(&mut [0; 1_024]) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
    }

    fn is_close(time: Duration, to: Duration) -> bool {
        (to..to + CLOSE).contains(&time)
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_ends_after_a_minute() {
        let (listener, load) = listener().await;
        let _viewer = load.viewer();
        let start = Instant::now();
        load.start(PLAN);
        let (client, _) = listener.accept().await.unwrap();
        let (plan, left) = load.running().unwrap();
        assert_eq!(plan, PLAN);
        assert!(left <= LENGTH && left > LENGTH - CLOSE, "{left:?}");

        disconnected(client).await;
        assert!(is_close(start.elapsed(), LENGTH), "{:?}", start.elapsed());
        assert_eq!(load.running(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_load_ends_when_its_last_viewer_leaves() {
        let (listener, load) = listener().await;
        let viewers = [load.viewer(), load.viewer()];
        load.start(PLAN);
        let (client, _) = listener.accept().await.unwrap();

        let [first, last] = viewers;
        drop(first);
        time::sleep(3 * ABSENCE).await;
        assert!(load.running().is_some(), "it has a viewer");

        drop(last);
        time::sleep(ABSENCE / 2).await;
        let back = load.viewer();
        time::sleep(3 * ABSENCE).await;
        assert!(load.running().is_some(), "its page was reloaded");

        let left = Instant::now();
        drop(back);
        disconnected(client).await;
        assert!(is_close(left.elapsed(), ABSENCE), "{:?}", left.elapsed());
        assert_eq!(load.running(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_load_is_not_that_of_the_next() {
        let (_listener, load) = listener().await;
        let start = Instant::now();
        load.start(PLAN);
        let first = load.loads().started;
        time::sleep(LENGTH / 2).await;
        load.start(PLAN);
        // As if the end of the first had come while it was being replaced.
        load.end(first);
        time::sleep_until(start + LENGTH + CLOSE).await;
        assert!(load.running().is_some());
        time::sleep_until(start + LENGTH * 3 / 2 + CLOSE).await;
        assert_eq!(load.running(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn latency_ends_with_the_last_byte_at_the_client() {
        const HEAD: Duration = Duration::from_millis(200);
        const REST: Duration = Duration::from_secs(2);
        let (listener, load) = listener().await;
        let (requested, mut requests) = mpsc::unbounded_channel();
        let response = async move || {
            requested.send(()).unwrap();
            time::sleep(HEAD).await;
            let rest = stream::unfold(0, async |sent| {
                if sent == 1 {
                    time::sleep(REST).await;
                }
                (sent < 2).then(|| (Ok::<_, Infallible>("half"), sent + 1))
            });
            Body::from_stream(rest).into_response()
        };
        tokio::spawn(axum::serve(listener, Router::new().fallback(response)).into_future());

        load.start(PLAN);
        // A client sends its second request after it has measured the first.
        requests.recv().await.unwrap();
        requests.recv().await.unwrap();
        let latest = load.traffic.latest();
        let latency = latest[Way::Plain as usize].as_ref().unwrap().tally.percentile(50).unwrap();
        // Two digits of a latency are kept.
        let (least, most) =
            (0.98 * (HEAD + REST).as_secs_f64(), (HEAD + REST + CLOSE).as_secs_f64());
        assert!((least..most).contains(&latency.as_secs_f64()), "{latency:?}");
    }
}
