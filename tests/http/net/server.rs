//! A server of HTTP/1.1 and HTTP/2 for any service.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{Router, body::Body};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use shardflight::tower::Coalesced;
use tokio::net::TcpListener;
use tower::{BoxError, Service, ServiceExt, util::MapResponseLayer};

use super::Count;
use crate::common::OnDrop;

/// What the layer said of each response, by the number that the server puts into a header: an
/// extension does not go over the wire.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Coalesced>>>);

const LEDGER: &str = "x-ledger";

impl Ledger {
    pub(super) fn note<B>(&self, response: &mut Response<B>) {
        if let Some(coalesced) = response.extensions().get::<Coalesced>().cloned() {
            let mut said = self.0.lock().expect("nobody panics here");
            said.push(coalesced);
            response.headers_mut().insert(LEDGER, (said.len() - 1).into());
        }
    }

    pub(super) fn of(&self, headers: &HeaderMap) -> Coalesced {
        let place = headers.get(LEDGER).expect("every response says how it was come by");
        let place: usize = place.to_str().expect("digits").parse().expect("a number");
        self.0.lock().expect("nobody panics here")[place].clone()
    }
}

/// Serves HTTP/1.1 and HTTP/2 on one port of the loopback interface.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Requests that have come in, before any layer.
    pub(crate) arrived: Count,
    /// Those whose client went before there was a response.
    pub(crate) gone: Count,
    pub(super) ledger: Ledger,
}

impl Server {
    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (arrived, gone, ledger) = Default::default();
        (listener, Self { address, arrived, gone, ledger })
    }

    /// By axum's own server, which makes the routes of a router anew for each connection.
    pub(crate) async fn of_axum(router: Router) -> Self {
        let (listener, server) = Self::bind().await;
        let this = server.clone();
        let noted = MapResponseLayer::new(move |mut response: Response<Body>| {
            this.ledger.note(&mut response);
            response
        });
        tokio::spawn(axum::serve(listener, router.layer(noted)).into_future());
        server
    }

    pub(crate) async fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>, Future: Send> + Clone + Send + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let (listener, server) = Self::bind().await;
        let this = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Its client may be gone already.
                let _ = stream.set_nodelay(true);
                let (this, service) = (this.clone(), service.clone());
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (this, service) = (this.clone(), service.clone());
                    async move {
                        this.arrived.add();
                        let gone = OnDrop::new(|| {
                            this.gone.add();
                        });
                        let response = service.oneshot(request.map(Body::new)).await;
                        gone.defuse();
                        response.map(|mut response| {
                            this.ledger.note(&mut response);
                            response.map(Body::new)
                        })
                    }
                });
                tokio::spawn(async move {
                    let connection = auto::Builder::new(TokioExecutor::new());
                    // What becomes of it is for the client to see.
                    let _ = connection.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        server
    }
}
