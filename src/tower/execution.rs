//! A request from the service's readiness to its response, as the work of a flight.

use std::{
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, response};
use http_body::Body;
use tower::{Service, ServiceExt};

use super::{
    Alone, Key, ResponseBody,
    answer::{Answer, Landed, Own},
    body::{Gathered, gather},
    failure::Failure,
    grpc::GRPC_STATUS,
    layer::Shared,
    memory::Remembered,
    policy::Limits,
    retry::Retry,
};
use crate::{
    flight::{FlightId, Job, Payload, Relay, relay},
    panics::DroppedFirst,
};

/// How a request is executed: [`execute`], without the bounds of what it calls.
type Begin<S, B> = fn(Waiting<S, B>, Option<Retry>) -> Relay<Landed>;

/// A request that is executed if it comes to lead.
pub(super) struct Execution<S, B> {
    begin: Begin<S, B>,
    /// Until it is begun.
    waiting: Option<Waiting<S, B>>,
    /// Of the flight that failed, if this is tried again.
    retry: Option<Retry>,
}

/// A request that was not executed.
pub(super) struct Waiting<S, B> {
    pub(super) shared: Arc<Shared>,
    /// That of the request, under which things are remembered. The flight's has the values of more headers,
    /// perhaps.
    pub(super) key: Key,
    pub(super) service: S,
    pub(super) request: Request<B>,
}

impl<S, B> Execution<S, B> {
    pub(super) fn new<C>(waiting: Waiting<S, B>, retry: Option<Retry>) -> Self
    where
        S: Service<Request<B>, Response = Response<C>> + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Send + 'static,
        B: Send + 'static,
        C: Body<Data = Bytes> + Send + 'static,
        C::Error: Send + 'static,
    {
        let begin = |waiting, retry: Option<Retry>| {
            let Waiting::<S, B> { shared, key, service, request } = waiting;
            let execution = execute(shared, key, service.oneshot(request));
            match retry {
                None => relay(execution),
                Some(retry) => relay(async move {
                    let landed = execution.await;
                    retry.store(&landed);
                    // Before it is returned (see `panics`).
                    drop(retry);
                    landed
                }),
            }
        };
        Self { begin, waiting: Some(waiting), retry }
    }

    /// If it is tried again and was not executed.
    pub(super) fn retry(&self) -> Option<Retry> {
        self.retry.clone()
    }

    /// What this request waited for, if a retry of that has landed without it.
    pub(super) fn missed(&self) -> Option<Landed> {
        self.retry.as_ref()?.landed()
    }

    /// If the request was not executed.
    pub(super) fn waiting(&self) -> Option<&Waiting<S, B>> {
        self.waiting.as_ref()
    }

    /// The same.
    pub(super) fn take_back(&mut self) -> Option<Waiting<S, B>> {
        self.waiting.take()
    }
}

// Nothing in it is ever pinned.
impl<S, B> Unpin for Execution<S, B> {}

impl<S, B> Job<Landed> for Execution<S, B> {
    fn start(mut self: Pin<&mut Self>) -> Option<Relay<Landed>> {
        if self.missed().is_some() {
            return Some(relay(ready(Landed::Nothing)));
        }
        let waiting = self.waiting.take().expect("a request leads once");
        Some((self.begin)(waiting, self.retry.take()))
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

    /// It may have to run alone.
    fn dismiss(self: Pin<&mut Self>) {}
}

/// What it is given is moved again until it is on the heap; so it is little.
async fn execute<C, E>(
    shared: Arc<Shared>,
    key: Key,
    response: impl Future<Output = Result<Response<C>, E>>,
) -> Landed
where
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
    E: Send + 'static,
{
    let own = Own::of::<Result<Response<ResponseBody<C>>, E>>;
    let (head, body) = match DroppedFirst::new(response).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            return Landed::Failed(Box::new(Failure::without_response()), own(Err(error)));
        }
    };
    let judged = shared.policy.judge(&head);
    let length = match judged.and_then(|()| shared.policy.judge_body(&key, &head, &body)) {
        Ok(length) => length,
        Err(why) => {
            let failure = shared.policy.failure_of(&head, None, &why);
            let response = Response::from_parts(head, ResponseBody::streamed(body));
            return shared.lands(&key, why, Remembered::Alone, failure, own(Ok(response)));
        }
    };
    let Limits { max_body, patience, .. } = shared.policy.limits;
    let (why, body) = match gather(body, length, max_body, patience != Duration::MAX).await {
        Gathered::Whole(body) => {
            if body.trailers.is_some()
                && let Err(why) = shared.policy.judge_with(&head, body.trailers.as_ref())
            {
                let failure = shared.policy.failure_of(&head, body.trailers.as_ref(), &why);
                let own = own(Ok(Response::from_parts(head, ResponseBody::whole(body))));
                return shared.lands(&key, why, Remembered::AloneAtTheEnd, failure, own);
            }
            let varies = shared.varies(&key, &head, body.trailers.as_ref());
            let shared_extensions = shared.policy.shared_extensions(&head.extensions);
            let response::Parts { status, version, headers, extensions, .. } = head;
            // Hardly any response has some.
            let own = if extensions.is_empty() { Own::NOTHING } else { Own::of(extensions) };
            let extensions = shared_extensions;
            let answer = Answer { status, version, headers, extensions, body, varies, key };
            return Landed::Shared(Box::new(answer), own);
        }
        Gathered::TooLarge(body) => (Alone::TooLarge, body),
        Gathered::Broken(body) => (Alone::Failed, body),
    };
    let failure = shared.policy.failure_of(&head, None, &why);
    let own = own(Ok(Response::from_parts(head, body)));
    shared.lands(&key, why, Remembered::Alone, failure, own)
}

impl Shared {
    /// With what is for the request that was executed. Lets newcomers know before the followers are told.
    fn lands(
        &self,
        key: &Key,
        why: Alone,
        remembered: Remembered,
        failure: Option<Failure>,
        own: Own,
    ) -> Landed {
        match failure {
            Some(failure) => Landed::Failed(Box::new(failure), own),
            None => {
                self.memory.remember(key, remembered, self.time_alone(&why));
                Landed::Alone(why, own)
            }
        }
    }

    /// From a response that was for its own request because those before it were. A service that has changed
    /// its mind is shared again at once, and one that has not is not asked again and again.
    pub(super) fn learn<C: Body, E>(
        &self,
        key: &Key,
        response: Result<Response<C>, E>,
    ) -> Result<Response<C>, E> {
        let (head, body) = match response {
            Ok(response) => response.into_parts(),
            Err(error) => {
                self.memory.shorten(key, FAILURE);
                return Err(error);
            }
        };
        let judged = self.policy.judge(&head);
        match judged.and_then(|()| self.policy.judge_body(key, &head, &body)) {
            // The head of such a response never said why.
            Ok(_) if self.memory.is_alone_at_the_end(key) => {}
            Ok(_) => self.memory.forget(key),
            Err(why) if self.policy.failure_of(&head, None, &why).is_some() => {
                self.memory.shorten(key, FAILURE);
            }
            Err(why) => self.memory.remember(key, Remembered::Alone, self.time_alone(&why)),
        }
        Ok(Response::from_parts(head, body))
    }

    fn time_alone(&self, why: &Alone) -> Duration {
        let remember = self.policy.limits.remember;
        match why {
            // The next call may succeed, by another deadline perhaps.
            Alone::ResponseHeader(name) if *name == GRPC_STATUS => remember.min(FAILURE),
            _ => remember,
        }
    }

    /// What the response varies on beside its key. Newcomers know it before the followers are told.
    fn varies(
        &self,
        key: &Key,
        head: &response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> Vec<HeaderName> {
        let names = self.policy.varies_on(&head.headers, trailers);
        if !names.is_empty() {
            let varies = Remembered::Varies(names.as_slice().into());
            self.memory.remember(key, varies, self.policy.limits.remember);
        }
        names
    }
}

/// How long a key may still run alone after a failure, which says nothing about sharing: so a service that
/// fails is soon asked by one request at a time, and one that fails now and then is not waited for in vain.
const FAILURE: Duration = Duration::from_secs(1);
