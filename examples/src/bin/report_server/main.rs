//! The reports over HTTP, with the layer, with a cache, and without, and a live page that shows the difference.
//!
//! `cargo run --release -p examples --bin report_server`

mod check;

use std::net::{IpAddr, Ipv4Addr};

use axum::Router;
use clap::Parser;
use examples::{
    listen::{Listener, listen},
    report_server, reports,
};
use tokio::signal;

/// The reports over HTTP, with the layer, with a cache, and without, and a live page that shows the difference
#[derive(Parser)]
struct Args {
    /// Where to listen; 0 is any port that is free
    #[arg(long, default_value_t = 3000)]
    port: u16,
    /// The interface to listen on
    #[arg(long, default_value_t = Ipv4Addr::LOCALHOST.into())]
    host: IpAddr,
    /// Orders in the database: the more, the longer a report takes
    #[arg(long, default_value_t = 1_000_000)]
    rows: u64,
    /// Connections to the database: queries that can run at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Instead of serving: a short load on a free port, and an exit code that says whether it was shared
    #[arg(long)]
    check: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // Each client of the load needs two; what the system allows by default is little.
    let _ = rlimit::increase_nofile_limit(4_096);
    let port = if args.check { 0 } else { args.port };
    let (listener, address) = listen(args.host, port)?;
    let (database, _) = reports::open(args.rows, args.connections.into())?;
    let router = report_server::router(database.clone(), address);
    if args.check {
        tokio::spawn(serve(listener, router));
        return check::check(&database, address).await;
    }
    println!(
        "The page is http://{address}/, a report http://{address}/report/eu-west; ctrl-c ends it"
    );
    tokio::select! {
        served = serve(listener, router) => served,
        // The page's events have no end that could be waited for.
        ended = signal::ctrl_c() => Ok(ended?),
    }
}

async fn serve(listener: Listener, router: Router) -> anyhow::Result<()> {
    Ok(axum::serve(listener, router).await?)
}
