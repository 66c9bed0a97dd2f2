//! Responses that a test has prepared, and bodies that it sends piece by piece.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response};
use http_body_util::channel::{Channel, Sender};
use shardflight::tower::Policy;

use super::{Execution, Site, numbered};

pub(crate) type Piecewise = Sender<Bytes, io::Error>;

/// A body that the test sends piece by piece. There is room for one that has not been read.
pub(crate) fn piecewise() -> (Piecewise, Body) {
    let (sender, body) = Channel::new(1);
    (sender, Body::new(body))
}

/// Executions answer with these, one after the other, and then with their number.
#[derive(Clone, Default)]
pub(crate) struct Prepared(Arc<Mutex<VecDeque<Response<Body>>>>);

impl Prepared {
    pub(crate) fn add(&self, body: Body, headers: &[(&'static str, &'static str)]) {
        let mut response = Response::new(body);
        for (name, value) in headers {
            response.headers_mut().insert(*name, HeaderValue::from_static(value));
        }
        self.0.lock().expect("not poisoned").push_back(response);
    }

    pub(crate) fn next(&self) -> Option<Response<Body>> {
        self.0.lock().expect("not poisoned").pop_front()
    }

    /// A site that answers with them immediately.
    pub(crate) async fn site(&self, policy: Policy) -> Site {
        let this = self.clone();
        let site = Site::new(policy, move |execution: Execution| {
            this.next().unwrap_or_else(|| numbered(execution))
        });
        let site = site.await;
        site.origin.gate.open();
        site
    }
}
