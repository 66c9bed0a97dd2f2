//! The service behind the layer, whose executions wait at a gate, and counts that can be waited for.

use std::convert::Infallible;

use axum::body::Body;
use http::{HeaderValue, Request, Response};
use tokio::sync::watch;
use tower::{Service, service_fn};

use crate::common::OnDrop;

/// Counts what happens, and can be waited for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count(pub(super) watch::Sender<usize>);

impl Count {
    /// One more: the how many-th it is.
    pub(crate) fn add(&self) -> usize {
        let mut now = 0;
        self.0.send_modify(|count| {
            *count += 1;
            now = *count;
        });
        now
    }

    pub(crate) fn get(&self) -> usize {
        *self.0.borrow()
    }

    pub(crate) async fn reaches(&self, n: usize) {
        self.0.subscribe().wait_for(|count| *count >= n).await.expect("its sender is here");
    }
}

/// Lets executions pass in the order in which they began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(watch::Sender<usize>);

impl Gate {
    /// For everybody, from now on.
    pub(crate) fn open(&self) {
        self.let_pass(usize::MAX);
    }

    /// For the first `n` executions.
    pub(crate) fn let_pass(&self, n: usize) {
        self.0.send_replace(n);
    }

    pub(crate) async fn pass(&self, number: usize) {
        self.0.subscribe().wait_for(|open| *open >= number).await.expect("its sender is here");
    }
}

/// A request that has come through to the origin.
#[derive(Debug)]
pub(crate) struct Execution {
    /// The first is 1.
    pub(crate) number: usize,
    pub(crate) request: Request<Body>,
}

/// Makes the answers, at a gate that is closed until the test opens it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    pub(crate) begun: Count,
    /// Have answered, or were dropped.
    pub(crate) over: Count,
    pub(crate) gate: Gate,
}

impl Origin {
    /// To be called first in an execution: its number, and what is to be kept until it is over.
    pub(crate) fn begin(&self) -> (usize, OnDrop<impl FnOnce() + use<>>) {
        let over = self.over.clone();
        let last = OnDrop::new(move || {
            over.add();
        });
        (self.begun.add(), last)
    }

    /// The service, each of whose executions answers when the gate lets it pass.
    pub(crate) fn answering(
        &self,
        answer: impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static,
    ) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static {
        let origin = self.clone();
        service_fn(move |request| {
            let (origin, answer) = (origin.clone(), answer.clone());
            async move {
                let (number, _running) = origin.begin();
                origin.gate.pass(number).await;
                Ok(answer(Execution { number, request }))
            }
        })
    }
}

/// The execution's number as the body, with a length.
pub(crate) fn numbered(execution: Execution) -> Response<Body> {
    Response::new(Body::from(execution.number.to_string()))
}

/// What every response says: a number as the body, with these headers.
pub(crate) fn numbered_with(
    headers: &'static [(&'static str, &'static str)],
) -> impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static {
    move |execution| {
        let mut response = numbered(execution);
        for (name, value) in headers {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }
}
