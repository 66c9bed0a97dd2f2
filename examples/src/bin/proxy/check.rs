//! Two hundred clients, one proxy, and a server that counts what it is asked.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header::VIA},
    response::{IntoResponse, Response},
    routing::get,
};
use examples::{
    listen::listen,
    proxy::{self, Upstream},
    report_server::load::Requests,
};
use futures_util::stream;
use shardflight::{FlightId, Observer, tower::CoalesceLayer};
use tokio::{sync::watch, task::JoinSet, time};

const CLIENTS: usize = 200;
/// For everything together.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server behind the proxy: it answers when all clients but the one that it sees have joined.
#[derive(Clone, Default)]
struct Slow {
    joined: Arc<watch::Sender<usize>>,
    asked: Arc<watch::Sender<usize>>,
}

/// Tells it of those that join.
impl Observer for Slow {
    fn joined(&self, _: FlightId) {
        self.joined.send_modify(|joined| *joined += 1);
    }
}

async fn answer(State(slow): State<Slow>, headers: HeaderMap) -> Response {
    slow.asked.send_modify(|asked| *asked += 1);
    let all = slow.joined.subscribe().wait_for(|&joined| joined + 1 == CLIENTS).await.map(|_| ());
    let [first, second] = match (all, headers.get("x-forwarded-for")) {
        (Ok(()), Some(client)) => {
            [client.to_str().unwrap_or_default().to_owned(), " asked\n".into()]
        }
        _ => return StatusCode::BAD_REQUEST.into_response(),
    };
    // In chunks, as servers do that begin before they know the end.
    let chunks = stream::iter([Ok::<_, Infallible>(first), Ok(second)]);
    ([("connection", "x-inside"), ("x-inside", "1")], Body::from_stream(chunks)).into_response()
}

pub(crate) async fn check() -> anyhow::Result<()> {
    let slow = Slow::default();
    let server = Router::new().route("/page", get(answer)).with_state(slow.clone());
    let server = serve(server)?;
    let layer = CoalesceLayer::with_policy(proxy::policy()).observer(slow.clone());
    let proxy = serve(proxy(server, layer)?)?;

    let asked = time::timeout(PATIENCE, ask(format!("http://{proxy}/page").parse()?));
    let wall = asked.await.context("the clients do not share: the server waits for them all")??;
    let times = *slow.asked.borrow();
    println!(
        "{CLIENTS} clients asked the proxy, which asked the server {times} time(s): {wall:.1?}"
    );
    ensure!(times == 1, "the proxy asked more than once");

    // Nobody listens where the listener has gone.
    let gone = listen(Ipv4Addr::LOCALHOST.into(), 0)?.1;
    let proxy = serve(self::proxy(gone, CoalesceLayer::with_policy(proxy::policy()))?)?;
    let (answer, _) = Requests::default().get(format!("http://{proxy}/").parse()?).await?;
    println!("A server that is not there: {}", answer.status());
    ensure!(answer.status() == StatusCode::BAD_GATEWAY);
    Ok(())
}

/// The proxy of the server at this address.
fn proxy(server: SocketAddr, layer: CoalesceLayer) -> anyhow::Result<Router> {
    let upstream = Upstream::new(format!("http://{server}").parse()?)?;
    Ok(proxy::router(upstream, layer))
}

/// On a port that is free, from now on.
fn serve(router: Router) -> anyhow::Result<SocketAddr> {
    let (listener, address) = listen(Ipv4Addr::LOCALHOST.into(), 0)?;
    tokio::spawn(super::serve(listener, router));
    Ok(address)
}

/// All clients at once; how long it took, if all got the same.
async fn ask(uri: Uri) -> anyhow::Result<Duration> {
    let (asked, requests) = (Instant::now(), Requests::default());
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (requests, uri) = (requests.clone(), uri.clone());
        clients.spawn(async move { requests.get(uri).await });
    }
    while let Some(answered) = clients.join_next().await {
        let (answer, _) = answered??;
        ensure!(answer.status().is_success(), "{}", answer.status());
        ensure!(answer.body() == "127.0.0.1 asked\n", "{:?}", answer.body());
        ensure!(answer.headers().contains_key(VIA), "the proxy does not say that it was there");
        ensure!(
            !answer.headers().contains_key("x-inside"),
            "a header of one connection came through"
        );
    }
    Ok(asked.elapsed())
}
