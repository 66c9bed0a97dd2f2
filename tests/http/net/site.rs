//! An origin behind a layer of its own, and an observer that counts.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use shardflight::{
    FlightId, Observer,
    tower::{CoalesceLayer, Policy},
};
use tower::{BoxError, Layer, Service};

use super::{Ask, Asked, Client, Count, Execution, Origin, Server};

/// Counts what becomes of the flights.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flights {
    pub(crate) led: Count,
    pub(crate) joined: Count,
    pub(crate) taken_over: Count,
    pub(crate) left: Count,
}

impl Observer for Flights {
    fn led(&self, _: FlightId) {
        self.led.add();
    }

    fn joined(&self, _: FlightId) {
        self.joined.add();
    }

    fn taken_over(&self, _: FlightId) {
        self.taken_over.add();
    }

    fn left(&self, _: FlightId, _: Duration) {
        self.left.add();
    }
}

/// An origin behind a layer of its own.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) origin: Origin,
    pub(crate) flights: Flights,
    pub(crate) server: Server,
}

impl Site {
    pub(crate) async fn new(
        policy: Policy,
        answer: impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let origin = Origin::default();
        let service = origin.answering(answer);
        Self::of(origin, policy, service).await
    }

    /// One whose layer reads the bodies of requests.
    pub(crate) async fn reading(
        policy: Policy,
        answer: impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> Self {
        let (origin, flights) = (Origin::default(), Flights::default());
        let layer = CoalesceLayer::with_policy(policy).request_bodies(Body::new);
        let layer = layer.observer(flights.clone());
        let server = Server::start(layer.layer(origin.answering(answer))).await;
        Self { origin, flights, server }
    }

    /// One whose service is not just an answer.
    pub(crate) async fn of<S, B>(origin: Origin, policy: Policy, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Error: Into<BoxError> + Send + 'static,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static,
    {
        let flights = Flights::default();
        let layer = CoalesceLayer::with_policy(policy).observer(flights.clone());
        let server = Server::start(layer.layer(service)).await;
        Self { origin, flights, server }
    }

    pub(crate) fn http1(&self) -> Client {
        Client::http1(&self.server)
    }

    pub(crate) fn http2(&self) -> Client {
        Client::http2(&self.server)
    }

    /// Returns when the request has either begun an execution or joined one, as all before it have.
    pub(crate) async fn place(&self, client: &Client, ask: Ask) -> Asked {
        let before = self.placed();
        let asked = client.send(ask);
        self.are_placed(before + 1).await;
        asked
    }

    /// So many clients of HTTP/1.1, each with a connection, that send this, one after the other.
    pub(crate) async fn place_many(&self, clients: usize, ask: &Ask) -> Vec<Asked> {
        let mut asked = Vec::new();
        for _ in 0..clients {
            asked.push(self.place(&self.http1(), ask.clone()).await);
        }
        asked
    }

    /// How often a request has begun an execution or joined one.
    pub(crate) fn placed(&self) -> usize {
        self.origin.begun.get() + self.flights.joined.get()
    }

    pub(crate) async fn are_placed(&self, n: usize) {
        let (mut begun, mut joined) =
            (self.origin.begun.0.subscribe(), self.flights.joined.0.subscribe());
        while *begun.borrow_and_update() + *joined.borrow_and_update() < n {
            tokio::select! {
                changed = begun.changed() => changed.expect("its sender is here"),
                changed = joined.changed() => changed.expect("its sender is here"),
            }
        }
    }
}
