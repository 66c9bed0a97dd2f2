//! The reports over HTTP, with the layer, with a cache, and without, and a page that shows what they do.

pub mod cached;
mod clock;
mod endpoints;
pub mod load;
mod moment;
mod page;
pub mod plan;
mod tally;
mod traffic;

use std::net::SocketAddr;

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{MethodRouter, delete, get, post},
};
use shardflight::tower::CoalesceLayer;

use self::{cached::Cached, clock::Moments, load::Load, plan::Way, traffic::Traffic};
use crate::{database::Database, reports::Reports};

/// Everything, for the server at `address`, to which its own load connects. Needs a tokio runtime.
pub fn router(database: Database, address: SocketAddr) -> Router {
    let traffic = Traffic::default();
    let load = Load::new(address, traffic.clone());
    let reports = Reports::new(database.clone());
    let cached = Cached::new(reports.clone(), traffic.clone());
    let moments = Moments::start(traffic.clone(), load.clone(), database, cached.clone());
    Router::new()
        .route("/", get(page::page))
        .route("/events", get(page::events).with_state((moments, load.clone())))
        .route("/load", post(page::start_load).delete(page::stop_load).with_state(load))
        .merge(cached_reports(traffic.clone()).with_state(cached))
        .merge(shared_reports(traffic).with_state(reports))
}

/// A report that is kept. What is executed inside is seen by the cache.
fn cached_reports(traffic: Traffic) -> Router<Cached> {
    let asked = get(cached::report)
        .layer(from_fn_with_state((traffic, Way::Cached), traffic::answers))
        .delete(cached::invalidate);
    Router::new()
        .route("/cached/report/{region}", asked)
        .route("/cached/report", delete(cached::invalidate_all))
}

/// The same report in three ways.
fn shared_reports(traffic: Traffic) -> Router<Reports> {
    let inside = |way, endpoint: MethodRouter<Reports>| {
        endpoint.layer(from_fn_with_state((traffic.clone(), way), traffic::executions))
    };
    let outside = |way, endpoint: MethodRouter<Reports>| {
        endpoint.layer(from_fn_with_state((traffic.clone(), way), traffic::answers))
    };

    let plain = inside(Way::Plain, get(endpoints::report));
    // This is all there is to sharing:
    let shared = inside(Way::Shared, get(endpoints::report)).layer(CoalesceLayer::new());
    let session = inside(Way::Session, get(endpoints::session)).layer(CoalesceLayer::new());

    Router::new()
        .route("/plain/report/{region}", outside(Way::Plain, plain))
        .route("/report/{region}", outside(Way::Shared, shared))
        .route("/session/report/{region}", outside(Way::Session, session))
}
