//! A coalescing reverse proxy in front of a real server.
//!
//! `cargo run --release -p examples --bin proxy -- --upstream http://127.0.0.1:3000`

mod check;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use clap::Parser;
use examples::{
    listen::{Listener, listen},
    proxy::{self, Origin, Upstream},
};
use shardflight::tower::{CoalesceLayer, Coalesced};
use tokio::signal;

/// A coalescing reverse proxy in front of a real server
#[derive(Parser)]
struct Args {
    /// The server behind: http://host:port or https://host:port
    #[arg(long, required_unless_present = "check")]
    upstream: Option<Origin>,
    /// Where to listen; 0 is any port that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The interface to listen on
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
    /// A line for each request: what it was, and whether it was shared
    #[arg(long)]
    log: bool,
    /// Instead: 200 clients ask a server of its own through it, and the exit code says whether that was
    /// asked once
    #[arg(long, conflicts_with = "upstream")]
    check: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let Some(origin) = args.upstream else { return check::check().await };
    let (listener, address) = listen(args.host, args.port)?;
    let layer = CoalesceLayer::with_policy(proxy::policy());
    let mut router = proxy::router(Upstream::new(origin)?, layer);
    if args.log {
        router = router.layer(from_fn(log));
    }
    println!("The proxy is http://{address}/; ctrl-c ends it");
    tokio::select! {
        served = serve(listener, router) => served,
        ended = signal::ctrl_c() => Ok(ended?),
    }
}

async fn serve(listener: Listener, router: Router) -> anyhow::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, service).await?)
}

async fn log(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    let status = response.status();
    match response.extensions().get::<Coalesced>() {
        Some(coalesced) => println!("{method} {uri}: {status}, {coalesced:?}"),
        None => println!("{method} {uri}: {status}"),
    }
    response
}
