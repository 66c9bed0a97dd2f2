//! A short load in each way, over real sockets, and what it must have come to.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    body::{Body, Bytes},
    http::{
        Method, Request, Response, StatusCode,
        header::{CONTENT_TYPE, SET_COOKIE},
    },
};
use examples::{
    database::Database,
    measure::{HEADER, Row, Run},
    orders::REGIONS,
    report_server::{
        cached::RENEWED,
        load::Requests,
        plan::{Plan, Way},
    },
};
use http_body_util::BodyExt;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::{Value, json};
use tokio::{task::JoinSet, time};

const CLIENTS: usize = 200;
/// How long the page's events may take to show a load that has been started.
const PATIENCE: Duration = Duration::from_secs(20);
/// Two seconds of them.
const MOMENTS: usize = 8;

pub(crate) async fn check(database: &Database, address: SocketAddr) -> anyhow::Result<()> {
    let (plain, _) = burst("without the layer", Way::Plain, database, address).await?;
    let (shared, _) = burst("with the layer", Way::Shared, database, address).await?;
    let (session, answers) = burst("with it, Set-Cookie", Way::Session, database, address).await?;
    let (cached, _) = burst("with a cache", Way::Cached, database, address).await?;
    let (again, _) = burst("with a cache, again", Way::Cached, database, address).await?;
    invalidate(address).await?;
    let (anew, _) = burst("after an invalidation", Way::Cached, database, address).await?;
    println!("\n{HEADER}\n{plain}\n{shared}\n{session}\n{cached}\n{again}\n{anew}\n");

    ensure!(plain.queries() == CLIENTS, "without the layer each request has a query");
    ensure!(shared.queries() * 5 <= CLIENTS, "the layer did not share");
    ensure!(session.queries() == CLIENTS, "the layer shared an answer that has a cookie");
    let cookies: HashSet<_> =
        answers.iter().filter_map(|answer| answer.headers().get(SET_COOKIE)).collect();
    ensure!(cookies.len() == CLIENTS, "two clients have the same cookie");

    for row in [&cached, &again, &anew] {
        let most = REGIONS.len() * (1 + row.wall().div_duration_f64(RENEWED) as usize);
        ensure!(row.queries() <= most, "the cache loaded too often: {row}");
    }
    ensure!(cached.queries() >= REGIONS.len(), "the cache had reports before it was asked");
    ensure!(anew.queries() >= 1, "the cache still has a report that was invalidated");

    check_page("with the layer", Way::Shared, address).await?;
    let moment = check_page("with a cache", Way::Cached, address).await?;
    let rate = moment["cache"]["hit_rate"].as_f64().context("the page shows no hit rate")?;
    println!("and {:.2} % of the cache lookups were hits", rate * 100.);
    ensure!(rate > 0.5, "the page does not show that the cache is hit");
    Ok(())
}

/// What the page shows of a load of this way.
async fn check_page(name: &str, way: Way, address: SocketAddr) -> anyhow::Result<Value> {
    let moment =
        time::timeout(PATIENCE, page(way, address)).await.context("the page shows no load")??;
    let rate = |name: &str| moment["point"][name].as_f64().unwrap_or_default();
    let (requests, executions) = (rate("requests_per_second"), rate("executions_per_second"));
    println!(
        "The page, {name}, {CLIENTS} clients: {requests:.0} requests/s, {executions:.0} executions/s"
    );
    // A cache may load nothing for more than a second.
    let some = requests > 0. && (executions > 0. || way == Way::Cached);
    ensure!(some && requests > 4. * executions, "the page does not show that they share");
    ensure!(moment["point"]["p50_ms"].is_f64(), "the page shows no latency at the clients");
    let saved = |name: &str| moment["saved"][name].as_u64().unwrap_or_default();
    ensure!(saved("queries") >= CLIENTS as u64, "the page does not count queries");
    ensure!(saved("saved") == saved("reports") - saved("queries"), "the page saves no queries");
    // The bursts before were no loads, and are in no row.
    for row in moment["latest"].as_array().context("the page has no rows")? {
        let (of, requests) = (&row["way"], row["ran"]["requests"].as_u64());
        let as_it_ran = match requests {
            Some(requests) => *of != json!(Way::Plain) && requests > 0,
            None => *of != json!(way),
        };
        ensure!(as_it_ran, "a row is not that of its latest load: {row}");
    }
    Ok(moment)
}

/// One of the reports.
async fn invalidate(address: SocketAddr) -> anyhow::Result<()> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let uri = format!("http://{address}/cached/report/{}", REGIONS[0]);
    let request = Request::builder().method(Method::DELETE).uri(uri).body(Body::empty())?;
    let answer = client.request(request).await?;
    ensure!(answer.status() == StatusCode::NO_CONTENT, "the invalidation: {}", answer.status());
    Ok(())
}

/// A request of each client, all at once.
async fn burst(
    name: &'static str,
    way: Way,
    database: &Database,
    address: SocketAddr,
) -> anyhow::Result<(Row, Vec<Response<Bytes>>)> {
    let requests = Requests::default();
    let plan = Plan { way, clients: CLIENTS, reports: REGIONS.len() };
    let mut run = Run::start(name, CLIENTS, database);
    let mut clients = JoinSet::new();
    for uri in plan.uris(address).into_iter().cycle().take(CLIENTS) {
        let requests = requests.clone();
        clients.spawn(async move { requests.get(uri).await });
    }
    let mut answers = Vec::new();
    while let Some(answered) = clients.join_next().await {
        let (answer, latency) = answered??;
        ensure!(answer.status().is_success(), "{name}: {}", answer.status());
        run.answered(latency);
        answers.push(answer);
    }
    Ok((run.finish(), answers))
}

/// Starts a load as the page does, and waits for the event that shows it.
async fn page(way: Way, address: SocketAddr) -> anyhow::Result<Value> {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request = |method, path: &str, body| {
        let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
        request.header(CONTENT_TYPE, "application/json").body(Body::from(body))
    };
    let page = client.request(request(Method::GET, "/", String::new())?).await?;
    ensure!(page.status().is_success(), "the page: {}", page.status());
    let mut events = client.request(request(Method::GET, "/events", String::new())?).await?;

    let plan = json!({ "way": way, "clients": CLIENTS, "reports": REGIONS.len() });
    let started = client.request(request(Method::POST, "/load", plan.to_string())?).await?;
    ensure!(started.status().is_success(), "the load: {}", started.status());

    // Rates are those of a second: at first there is something else in them.
    let mut moments = 0;
    let mut unread = String::new();
    loop {
        let frame = events.frame().await.context("the events have ended")??;
        unread.push_str(str::from_utf8(frame.data_ref().context("not an event")?)?);
        while let Some((event, rest)) = unread.split_once("\n\n") {
            let moment = moment(event)?;
            unread = rest.to_owned();
            let Some(moment) = moment.filter(|moment| moment["load"] == plan) else { continue };
            moments += 1;
            if moments == MOMENTS {
                client.request(request(Method::DELETE, "/load", String::new())?).await?;
                return Ok(moment);
            }
        }
    }
}

fn moment(event: &str) -> anyhow::Result<Option<Value>> {
    let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
    match (field("event: "), field("data: ")) {
        (Some("moment"), Some(data)) => Ok(Some(serde_json::from_str(data)?)),
        _ => Ok(None),
    }
}
