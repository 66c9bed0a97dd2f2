//! A reverse proxy that asks the server behind it once for all who ask the same at the same time.
//!
//! Not for servers that answer by their client's address, because they see that of one who shares; and
//! connections cannot be upgraded through it.

mod hops;
mod upstream;

use std::net::SocketAddr;

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, Version},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};
use shardflight::tower::{CoalesceLayer, Policy};

use self::hops::{Hop, forwarded, strip};
pub use self::upstream::{Origin, Upstream};

/// What a proxy shares, beside what everybody does: servers send pages in chunks, without saying how long
/// they are.
pub fn policy() -> Policy {
    Policy::new().streams(true)
}

/// The proxy, which needs to be told where its clients are: `into_make_service_with_connect_info`.
pub fn router(upstream: Upstream, layer: CoalesceLayer) -> Router {
    let hop = Hop::new();
    Router::new()
        .fallback(forward)
        .with_state((upstream, hop.clone()))
        .layer(layer)
        // A request that has gone in a circle would wait for itself in there.
        .layer(from_fn_with_state(hop, no_circles))
}

/// The execution: whoever shares it gets what the server answered to this request.
async fn forward(
    State((upstream, hop)): State<(Upstream, Hop)>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    mut request: Request<Body>,
) -> Response {
    let version = request.version();
    let headers = request.headers_mut();
    // First, because `Connection` may name what is added here.
    strip(headers);
    forwarded(client.ip(), headers);
    hop.mark(version, headers);

    match upstream.ask(request).await.context("the server behind this proxy cannot be asked") {
        Ok(mut response) => {
            let version = response.version();
            let headers = response.headers_mut();
            strip(headers);
            hop.mark(version, headers);
            *response.version_mut() = Version::HTTP_11;
            response
        }
        Err(error) => {
            // The client need not know where it is.
            eprintln!("{error:#}");
            (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response()
        }
    }
}

async fn no_circles(State(hop): State<Hop>, request: Request, next: Next) -> Response {
    if hop.has_passed(request.headers()) {
        return (StatusCode::LOOP_DETECTED, "This proxy forwards to itself.\n").into_response();
    }
    next.run(request).await
}
