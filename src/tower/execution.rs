//! A request from the service's readiness to its response, as the work of a flight.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Extensions, HeaderName, Request, Response, response};
use http_body::Body;
use tower::{Service, ServiceExt};

use super::{
    Alone, Key, ResponseBody,
    answer::{Answer, Landed},
    body::{Gathered, gather},
    judge::is_failure,
    layer::Shared,
    memory::Remembered,
};
use crate::flight::{FlightId, Job, Payload, Relay, relay};

/// What is only for the request that was executed.
pub(super) enum Own<C: Body, E> {
    /// Nothing yet, or no more.
    Nothing,
    /// Its response is shared, but for these.
    Extensions(Extensions),
    /// Its response, or its error, is nobody else's.
    All(Box<Result<Response<ResponseBody<C>>, E>>),
}

/// Where an execution leaves it. The execution may end in the task of another request.
type Slot<C, E> = Arc<Mutex<Own<C, E>>>;

/// How a request is executed: [`execute`], without the bounds of what it calls.
type Begin<S, B, C, E> = fn(Arc<Shared>, Key, S, Request<B>, Slot<C, E>) -> Relay<Landed>;

/// A request that is executed if it comes to lead.
pub(super) struct Execution<S, B, C: Body, E> {
    shared: Arc<Shared>,
    key: Key,
    begin: Begin<S, B, C, E>,
    /// Until it is begun.
    waiting: Option<(S, Request<B>)>,
    slot: Option<Slot<C, E>>,
}

impl<S, B, C> Execution<S, B, C, S::Error>
where
    S: Service<Request<B>, Response = Response<C>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    /// The key is the one under which things are remembered.
    pub(super) fn new(shared: Arc<Shared>, key: Key, service: S, request: Request<B>) -> Self {
        let begin: Begin<S, B, C, S::Error> = |shared, key, service, request, slot| {
            relay(execute(shared, key, service, request, slot))
        };
        Self { shared, key, begin, waiting: Some((service, request)), slot: None }
    }
}

impl<S, B, C: Body, E> Execution<S, B, C, E> {
    /// Whether the request was not executed.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// That of the request, under which things are remembered.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// What is there of a request that has not been executed.
    pub(super) fn take_back(&mut self) -> Option<(S, Request<B>)> {
        self.waiting.take()
    }

    /// What the execution left, if it was this request's.
    pub(super) fn take_own(&mut self) -> Option<Own<C, E>> {
        let slot = self.slot.take()?;
        let mut own = slot.lock().unwrap_or_else(PoisonError::into_inner);
        Some(mem::replace(&mut *own, Own::Nothing))
    }
}

// Nothing in it is ever pinned.
impl<S, B, C: Body, E> Unpin for Execution<S, B, C, E> {}

impl<S, B, C: Body, E> Job<Landed> for Execution<S, B, C, E> {
    fn start(mut self: Pin<&mut Self>) -> Option<Relay<Landed>> {
        let (service, request) = self.waiting.take().expect("a request leads once");
        let slot = Slot::new(Mutex::new(Own::Nothing));
        self.slot = Some(Arc::clone(&slot));
        let (shared, key) = (Arc::clone(&self.shared), self.key.clone());
        Some((self.begin)(shared, key, service, request, slot))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: FlightId,
        _: &mut Context<'_>,
    ) -> Poll<Result<Landed, Payload>> {
        unreachable!("it was handed to the flight")
    }

    /// What is the flight's goes with the lead. Here is only what was never begun.
    fn cancel(self: Pin<&mut Self>, _: FlightId) {}
}

async fn execute<S, B, C>(
    shared: Arc<Shared>,
    key: Key,
    service: S,
    request: Request<B>,
    slot: Slot<C, S::Error>,
) -> Landed
where
    S: Service<Request<B>, Response = Response<C>>,
    C: Body<Data = Bytes>,
{
    let leave = |own| *slot.lock().unwrap_or_else(PoisonError::into_inner) = own;
    let all = |result| leave(Own::All(Box::new(result)));
    let method = request.method().clone();
    let (head, body) = match service.oneshot(request).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            all(Err(error));
            return shared.lands_alone(&key, Alone::Failed);
        }
    };
    let judged = shared.policy.judge(&head);
    let length = match judged.and_then(|()| shared.policy.judge_body(&method, &head, &body)) {
        Ok(length) => length,
        Err(why) => {
            all(Ok(Response::from_parts(head, ResponseBody::streamed(body))));
            return shared.lands_alone(&key, why);
        }
    };
    let (why, body) = match gather(body, length, shared.policy.limits.max_body).await {
        Gathered::Whole(whole) => {
            let varies = shared.varies(&key, &head);
            let extensions = shared.policy.shared_extensions(&head.extensions);
            leave(Own::Extensions(head.extensions));
            let response::Parts { status, version, headers, .. } = head;
            let body = whole;
            return Landed::Shared(Answer {
                status,
                version,
                headers,
                extensions,
                body,
                varies,
                key,
            });
        }
        Gathered::TooLarge(body) => (Alone::TooLarge, body),
        Gathered::Broken(body) => (Alone::Failed, body),
    };
    all(Ok(Response::from_parts(head, body)));
    shared.lands_alone(&key, why)
}

impl Shared {
    /// Lets newcomers know before the followers are told.
    fn lands_alone(&self, key: &Key, why: Alone) -> Landed {
        let remember = self.policy.limits.remember;
        let so_long = match why {
            Alone::Failed => remember.min(FAILURE),
            Alone::Status(status) if is_failure(status) => remember.min(FAILURE),
            _ => remember,
        };
        self.memory.remember(key, Remembered::Alone, so_long);
        Landed::Alone(why)
    }

    /// What the response varies on beside its key. Newcomers know it before the followers are told.
    fn varies(&self, key: &Key, head: &response::Parts) -> Vec<HeaderName> {
        let names = self.policy.varies_on(&head.headers);
        if !names.is_empty() {
            let varies = Remembered::Varies(names.as_slice().into());
            self.memory.remember(key, varies, self.policy.limits.remember);
        }
        names
    }
}

/// A failure is remembered for so long at most.
const FAILURE: Duration = Duration::from_secs(1);
