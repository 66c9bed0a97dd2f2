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

use super::{ResponseBody, ResponseFuture, execution::Waiting, layer::Shared, memory::Remembered};

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
/// is polled after it has returned.
#[derive(Clone)]
pub struct Coalesce<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Coalesce<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
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

impl<S: fmt::Debug> fmt::Debug for Coalesce<S> {
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
        let (parts, body) = request.into_parts();
        let judged = self.shared.policy.key_of(&parts, !body.is_end_stream());
        let request = Request::from_parts(parts, body);
        let key = match judged {
            Ok(key) => key,
            Err(why) => return ResponseFuture::alone(&self.shared, service, request, why),
        };
        let remembered = self.shared.memory.recall(&key);
        let waiting = Waiting { shared: Arc::clone(&self.shared), key, service, request };
        match remembered {
            None => ResponseFuture::fly(waiting.key.clone(), waiting),
            Some(Remembered::Varies(names)) => {
                ResponseFuture::fly(waiting.key.varied(&names), waiting)
            }
            Some(Remembered::Alone) => ResponseFuture::remembered(waiting),
        }
    }
}
