//! `Coalesce`, the service.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower::Service;

#[cfg(feature = "axum")]
use super::request_body::read_known;
use super::{
    KnownBodies, Replayed, ResponseBody, ResponseFuture,
    judge::Content,
    layer::Shared,
    request_body::{content_of, is_known, read},
};

/// A service whose concurrent requests for the same thing share one execution. Made by
/// [`CoalesceLayer`](super::CoalesceLayer).
///
/// ```
/// use http::{Request, Response};
/// use shardflight::tower::CoalesceLayer;
/// use std::{convert::Infallible, sync::atomic::{AtomicUsize, Ordering::Relaxed}};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// static EXECUTIONS: AtomicUsize = AtomicUsize::new(0);
/// let report = service_fn(|_: Request<String>| async {
///     EXECUTIONS.fetch_add(1, Relaxed);
///     tokio::task::yield_now().await; // the expensive query
///     Ok::<_, Infallible>(Response::new("the report".to_owned()))
/// });
/// let report = CoalesceLayer::new().layer(report);
///
/// let ask = || report.clone().oneshot(Request::get("/report").body(String::new()).unwrap());
/// let (one, other) = tokio::join!(ask(), ask());
/// assert_eq!(one.unwrap().status(), other.unwrap().status());
/// assert_eq!(EXECUTIONS.load(Relaxed), 1);
/// # }
/// ```
///
/// # Backpressure
///
/// It is always ready. An *execution* waits until the service behind is, and only then calls it; so a
/// request that joins another takes none of its capacity, and a thousand of them need one permit of a
/// `ConcurrencyLimit` behind this layer. What sheds load belongs behind it, too, if it is to look at
/// executions, and in front of it, if at requests.
///
/// # Cancel safety
///
/// Dropping the response's future, as servers do when a client disconnects, affects nobody else. If it was
/// the one whose request is executed, another of the flight goes on with the same execution where it
/// stopped; if there is no other it is dropped, as it would be without the layer.
///
/// # Errors
///
/// Those of the service behind, to the request that was executed. The requests that waited for it share a new
/// execution. If that fails too, they are answered with
/// [`Refusal::Failed`](super::Refusal::Failed), which is no error.
///
/// # Panics
///
/// The response's future panics if the service does that executes its own request. Others get
/// [`Refusal::Panicked`](super::Refusal::Panicked). It panics, too, where it waits for another request outside
/// a tokio runtime with a timer, unless the [patience](super::Policy::patience) is without limit; and if it
/// is polled after it has returned. The body of a response that broke off while it was gathered panics in a tokio
/// runtime without a timer, unless the patience is without limit.
#[derive(Clone)]
pub struct Coalesce<S, R = KnownBodies> {
    inner: S,
    shared: Arc<Shared>,
    bodies: R,
}

impl<S, R> Coalesce<S, R> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, bodies: R) -> Self {
        Self { inner, shared, bodies }
    }

    /// The service behind.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service behind.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service behind.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S: fmt::Debug, R> fmt::Debug for Coalesce<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("inner", &self.inner)
            .field("policy", &self.shared.policy)
            .finish_non_exhaustive()
    }
}

impl<S, B, C> Service<Request<B>> for Coalesce<S>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body + Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    type Response = Response<ResponseBody<C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        // A clone, which nobody has asked whether it is ready: whoever executes it does.
        let service = self.inner.clone();
        let (mut parts, body) = request.into_parts();
        let shared = &self.shared;
        let content = content_of(&body, is_known(&body), &shared.policy);
        let judged = match shared.policy.key_of(&mut parts, content) {
            #[cfg(feature = "axum")]
            Ok(key) if content == Content::Read => {
                let request = read_known(shared, key, parts, body);
                return ResponseFuture::reading(Arc::clone(shared), service, request);
            }
            judged => judged,
        };
        ResponseFuture::judged(shared, service, Request::from_parts(parts, body), judged)
    }
}

impl<S, B, C> Service<Request<B>> for Coalesce<S, Replayed<B>>
where
    S: Service<Request<B>, Response = Response<C>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Send,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    type Response = Response<ResponseBody<C>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture<S, B> {
        let service = self.inner.clone();
        let shared = &self.shared;
        let (mut parts, body) = request.into_parts();
        let content = content_of(&body, true, &shared.policy);
        let judged = match shared.policy.key_of(&mut parts, content) {
            Ok(key) if content == Content::Read => {
                let request = read(shared, key, parts, body, self.bodies.rebuild);
                return ResponseFuture::reading(Arc::clone(shared), service, request);
            }
            judged => judged,
        };
        ResponseFuture::judged(shared, service, Request::from_parts(parts, body), judged)
    }
}
