//! The server's application, and what may stand in front of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::{Json, Router, routing::get};
use serde::Serialize;
use shardflight::tower::CoalesceLayer;
use tokio::{sync::Semaphore, task::spawn_blocking, time::sleep};
use tower::layer::layer_fn;

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Front {
    /// The application and nothing else: what the others are compared with.
    Nothing,
    /// The same: what differs is noise.
    NothingAgain,
    /// A layer whose service passes everything on: axum boxes and clones it like any other.
    Idle,
    /// The layer with its default policy.
    Coalesce,
}

impl Front {
    pub(crate) const ALL: [Self; 4] =
        [Self::Nothing, Self::NothingAgain, Self::Idle, Self::Coalesce];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "no layer",
            Self::NothingAgain => "no layer, again: the noise",
            Self::Idle => "a layer that does nothing",
            Self::Coalesce => "CoalesceLayer",
        }
    }
}

/// How often a handler was called.
pub(crate) type Executions = Arc<AtomicU64>;

/// Each route takes anything as its last segment: what makes requests distinct.
pub(crate) fn app(front: Front, executions: &Executions) -> Router {
    let counted = || {
        let executions = Arc::clone(executions);
        move || _ = executions.fetch_add(1, Relaxed)
    };
    let (text, json, more_json) = (counted(), counted(), counted());
    let (wait, compute) = (counted(), counted());
    let database = Arc::new(Semaphore::new(DATABASE_CONNECTIONS));
    let router = Router::new()
        .route(
            "/text/{id}",
            get(async move || {
                text();
                "Hello, World!"
            }),
        )
        .route(
            "/json/{id}",
            get(async move || {
                json();
                Json(articles(25))
            }),
        )
        .route(
            "/more-json/{id}",
            get(async move || {
                more_json();
                Json(articles(100))
            }),
        )
        .route(
            "/wait/{id}",
            get(async move || {
                wait();
                query(&database).await;
                Json(articles(25))
            }),
        )
        .route(
            "/compute/{id}",
            get(async move || {
                compute();
                let primes = spawn_blocking(|| primes_below(20_000)).await;
                primes.expect("it does not panic").to_string()
            }),
        );
    match front {
        Front::Nothing | Front::NothingAgain => router,
        Front::Idle => router.layer(layer_fn(idle::Idle)),
        Front::Coalesce => router.layer(CoalesceLayer::new()),
    }
}

const DATABASE_CONNECTIONS: usize = 4;

/// A query that takes 2 ms, once there is a connection for it.
async fn query(database: &Semaphore) {
    let _connection = database.acquire().await;
    sleep(Duration::from_millis(2)).await;
}

/// About a millisecond of computing.
fn primes_below(limit: u32) -> usize {
    let is_prime = |n: &u32| (2..).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (2..limit).filter(is_prime).count()
}

#[derive(Serialize)]
struct Article {
    id: u32,
    title: &'static str,
    author: &'static str,
    price: f64,
    is_in_stock: bool,
    tags: [&'static str; 3],
}

/// 25 of them are 4 KiB of JSON.
fn articles(count: u32) -> Vec<Article> {
    let article = |id| Article {
        id,
        title: "A title of about forty bytes, as they are",
        author: "First and Last Name",
        price: f64::from(id) * 1.25,
        is_in_stock: id % 3 != 0,
        tags: ["one", "another", "a third"],
    };
    (1_000..1_000 + count).map(article).collect()
}

mod idle {
    //! A service around a service.

    use std::task::{Context, Poll};

    use tower::Service;

    #[derive(Clone)]
    pub(super) struct Idle<S>(pub(super) S);

    impl<S: Service<R>, R> Service<R> for Idle<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.poll_ready(cx)
        }

        fn call(&mut self, request: R) -> S::Future {
            self.0.call(request)
        }
    }
}
