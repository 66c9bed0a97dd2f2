//! `ResponseFuture`: a request from its arrival to its response.

use std::{
    convert::identity,
    fmt, mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower::{Service, ServiceExt, util::Oneshot};

use super::{
    Alone, Coalesced, Key, Refusal, ResponseBody,
    answer::{Answer, Landed, Own},
    body::Whole,
    execution::{Execution, Waiting},
    failure::Failure,
    grpc::is_call,
    layer::{Reached, Shared},
    memory::Remembered,
    policy::Limits,
    report::Report,
    request_body::Reading,
    retry::Retry,
};
use crate::{
    CallError, Outcome, Panicked, Role,
    flight::{self, Ask, Enter, Entry, FlightId, Fly, Lead},
    panics::discard,
};

/// So often a request meets others again because the response varies on yet another header.
const VARIATIONS: u8 = 2;

type Finish = fn(flight::Answer<Landed>) -> flight::Answer<Landed>;
type Flight<S, B> = Fly<Reached, Boarding, Execution<S, B>, Finish>;

pin_project! {
    /// The response of [`Coalesce`](super::Coalesce).
    #[must_use = "futures do nothing unless they are polled"]
    pub struct ResponseFuture<S, B>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        stage: Stage<S, B>,
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<S, B>
    where
        S: Service<Request<B>>,
    {
        Flying { #[pin] call: Call<S, B> },
        Alone { #[pin] response: Oneshot<S, Request<B>>, why: Alone, report: Report },
        // Its response says whether that is still so.
        Remembered { #[pin] response: Oneshot<S, Request<B>>, shared: Arc<Shared>, key: Key },
        Reading { request: Reading<B>, service: Option<S>, shared: Arc<Shared> },
        Done,
    }
}

pin_project! {
    /// A request that shares.
    struct Call<S, B> {
        variations: u8,
        // So many flights that it waited for have failed.
        retries: u32,
        #[pin]
        flight: Flight<S, B>,
        // Since it follows.
        patience: Option<Pin<Box<Sleep>>>,
    }
}

/// How it comes to its flight.
struct Boarding {
    shared: Arc<Shared>,
    key: Key,
    ask: Ask,
}

impl Boarding {
    fn new(shared: Arc<Shared>, key: Key) -> Self {
        let Limits { max_followers, max_age, .. } = shared.policy.limits;
        // A limit that nothing exceeds needs no clock.
        let max_age = Some(max_age).filter(|age| *age != Duration::MAX);
        let ask = Ask { max_followers, max_age, ..Ask::DEFAULT };
        Self { shared, key, ask }
    }
}

impl Enter<Reached> for Boarding {
    fn begin(&self, lead: Pin<&mut Lead<Reached>>) -> Option<FlightId> {
        let core = &self.shared.reached.0;
        let (_, hash) = core.locate(&self.key);
        lead.begin(&self.shared.reached, hash, &self.key, &self.ask)
    }

    fn meet(&self, lead: Pin<&mut Lead<Reached>>) -> Entry<Reached> {
        lead.meet(self.shared.reached.clone(), &self.key, &self.ask)
    }
}

/// What a call comes to.
enum Ending<C: Body, E> {
    Response(Result<Response<ResponseBody<C>>, E>),
    /// To be executed without regard to others.
    Alone(Alone),
    /// To share with others: after a failure, with those that waited for it, too.
    Again(Key, Option<Retry>),
}

impl<S, B, C> ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<C>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    /// A request that has been judged.
    #[inline]
    pub(super) fn judged(
        shared: &Arc<Shared>,
        service: S,
        request: Request<B>,
        judged: Result<Key, Alone>,
    ) -> Self {
        Self { stage: Stage::judged(shared, service, request, judged) }
    }

    /// One whose key is known when its body has been read.
    pub(super) fn reading(shared: Arc<Shared>, service: S, request: Reading<B>) -> Self {
        Self { stage: Stage::Reading { request, service: Some(service), shared } }
    }
}

impl<S, B, C> Stage<S, B>
where
    S: Service<Request<B>, Response = Response<C>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    // Not inlined it would be moved once more than the future that it is a part of.
    #[inline(always)]
    fn judged(
        shared: &Arc<Shared>,
        service: S,
        request: Request<B>,
        judged: Result<Key, Alone>,
    ) -> Self {
        let key = match judged {
            Ok(key) => key,
            Err(why) => {
                let (response, report) = (service.oneshot(request), Report::new(shared, 0));
                return Self::Alone { response, why, report };
            }
        };
        let remembered = shared.memory.recall(&key);
        let waiting = Waiting { shared: Arc::clone(shared), key, service, request };
        match remembered {
            None => Self::fly(waiting.key.clone(), waiting),
            Some(Remembered::Varies(names)) => Self::fly(waiting.key.varied(&names), waiting),
            // For a key whose responses are not to be shared, as far as is known.
            Some(Remembered::Alone | Remembered::AloneAtTheEnd) => {
                let Waiting { shared, key, service, request } = waiting;
                Self::Remembered { response: service.oneshot(request), shared, key }
            }
        }
    }

    /// Shares with all requests that have the same key `varied`: that is the request's own, with the values of the
    /// headers, if any, that responses to it vary on.
    #[inline]
    fn fly(varied: Key, waiting: Waiting<S, B>) -> Self {
        let boarding = Boarding::new(Arc::clone(&waiting.shared), varied);
        let flight = Fly::new(boarding, Execution::new(waiting, None), identity as Finish);
        Self::Flying { call: Call { variations: 0, retries: 0, flight, patience: None } }
    }
}

impl<S, B, C> Future for ResponseFuture<S, B>
where
    S: Service<Request<B>, Response = Response<C>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    type Output = Result<Response<ResponseBody<C>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut stage = self.project().stage;
        loop {
            match stage.as_mut().project() {
                StageProj::Alone { response, why, report } => {
                    let (response, why) = (ready!(response.poll(cx)), why.clone());
                    report.alone(&why);
                    stage.set(Stage::Done);
                    let response = response?.map(ResponseBody::streamed);
                    return Poll::Ready(Ok(marked(response, Coalesced::Alone(why))));
                }
                StageProj::Remembered { response, shared, key } => {
                    let response = shared.learn(key, ready!(response.poll(cx)));
                    shared.report_alone(&Alone::Remembered, 0);
                    stage.set(Stage::Done);
                    let response = response?.map(ResponseBody::streamed);
                    return Poll::Ready(Ok(marked(response, Coalesced::Alone(Alone::Remembered))));
                }
                StageProj::Reading { request, service, shared } => {
                    let (request, judged) = ready!(request.as_mut().poll(cx));
                    let service = service.take().expect("a body is read once");
                    let judged = Stage::judged(shared, service, request, judged);
                    stage.set(judged);
                }
                StageProj::Done => panic!("the future of a response was polled after it returned"),
                StageProj::Flying { mut call } => match ready!(call.as_mut().poll(cx)) {
                    Ending::Response(response) => {
                        call.flight.enter().shared.report(&response, call.retries);
                        stage.set(Stage::Done);
                        return Poll::Ready(response);
                    }
                    Ending::Alone(why) => {
                        let retries = call.retries;
                        let Waiting { shared, service, request, .. } = call.take_back();
                        let (response, report) =
                            (service.oneshot(request), Report::new(&shared, retries));
                        stage.set(Stage::Alone { response, why, report });
                    }
                    Ending::Again(key, retry) => call.board(key, retry),
                },
            }
        }
    }
}

impl<S, B, C> Call<S, B>
where
    S: Service<Request<B>, Response = Response<C>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    C: Body<Data = Bytes> + Send + 'static,
    C::Error: Send + 'static,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending<C, S::Error>> {
        let flight = self.as_mut().project().flight;
        Poll::Ready(match catch_unwind(AssertUnwindSafe(|| flight.poll(cx))) {
            Ok(Poll::Pending) => return self.poll_patience(cx),
            Ok(Poll::Ready(Ok(Outcome { value, role }))) => self.arrive(value, role.into()),
            Ok(Poll::Ready(Err(error))) => match error {
                CallError::Panicked(panicked) => self.as_mut().refuse(Refusal::Panicked(panicked)),
                CallError::TooManyFollowers => self.as_mut().refuse(Refusal::TooManyFollowers),
                CallError::Reentrant => Ending::Alone(Alone::Reentrant),
                CallError::Cancelled | CallError::TimedOut => {
                    unreachable!("a request takes over, and has no time out in its call")
                }
            },
            // It goes where it would go without the layer; not to one that had taken the execution over.
            Err(payload) => match self.as_mut().execution().waiting() {
                None => resume_unwind(payload),
                Some(_) => {
                    let panicked = Panicked::from_payload(&*payload);
                    discard(payload);
                    self.refuse(Refusal::Panicked(panicked))
                }
            },
        })
    }

    /// Of one that waits for others. Who executes has all the time in the world, as without the layer.
    fn poll_patience(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ending<C, S::Error>> {
        let this = self.project();
        let Boarding { shared, key, .. } = this.flight.enter();
        let patience = shared.policy.limits.patience;
        let Some(followed) = this.flight.followed().filter(|_| patience != Duration::MAX) else {
            return Poll::Pending;
        };
        let sleep = this.patience.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(sleep.as_mut().poll(cx));
        // The first that loses its patience cuts the flight loose, the others find the one that it begins.
        let (table, hash) = shared.group.core().locate(key);
        table.forget_flight(hash, |other| other == key, followed);
        Poll::Ready(Ending::Again(key.clone(), None))
    }

    /// What the flight came to, for this request.
    #[inline]
    fn arrive(mut self: Pin<&mut Self>, landed: Landed, how: Coalesced) -> Ending<C, S::Error> {
        let was_executed = self.as_mut().execution().waiting().is_none();
        match landed {
            Landed::Shared(answer, own) if was_executed => {
                let extensions = own.take().unwrap_or_default();
                Ending::Response(Ok(marked(answer.into_own(extensions), how)))
            }
            // What is the other request's own goes before the answer is returned, here and below (see `panics`).
            Landed::Shared(answer, own) => {
                drop(own);
                self.share(answer, how)
            }
            Landed::Alone(why, own) if was_executed => own_response(own, why),
            Landed::Alone(why, own) => {
                drop(own);
                Ending::Alone(why)
            }
            Landed::Failed(failure, own) if was_executed => own_response(own, failure.why),
            Landed::Failed(failure, own) => {
                let ending = self.retry(*failure);
                drop(own);
                ending
            }
            Landed::Nothing => match self.as_mut().execution().missed() {
                Some(missed) => self.arrive(missed, Coalesced::Joined),
                // It has joined such a flight, and may have missed another one itself.
                None => {
                    let retry = self.as_mut().execution().retry();
                    Ending::Again(self.flight.enter().key.clone(), retry)
                }
            },
        }
    }

    /// After the failure of a flight that it waited for. All its followers come here at the same time: the
    /// first begins a new flight, and the others and newcomers join that.
    fn retry(mut self: Pin<&mut Self>, failure: Failure) -> Ending<C, S::Error> {
        if self.retries >= self.flight.enter().shared.policy.limits.retries {
            return self.refuse(failure.into_refusal());
        }
        *self.as_mut().project().retries += 1;
        match failure.retry.landed() {
            Some(missed) => self.arrive(missed, Coalesced::Joined),
            None => Ending::Again(self.flight.enter().key.clone(), Some(failure.retry)),
        }
    }

    /// The answer to another request.
    fn share(self: Pin<&mut Self>, mut answer: Box<Answer>, how: Coalesced) -> Ending<C, S::Error> {
        let this = self.project();
        let execution = this.flight.work().get_mut();
        let Waiting { shared, key, .. } = execution.waiting().expect("it was not executed");
        if answer.is_for(key) {
            return Ending::Response(Ok(marked(answer.for_follower(&shared.policy, key), how)));
        }
        let varies = mem::take(&mut answer.varies);
        drop(answer);
        *this.variations += 1;
        if *this.variations > VARIATIONS {
            return Ending::Alone(Alone::Varies);
        }
        Ending::Again(key.varied(&varies), None)
    }

    fn refuse(mut self: Pin<&mut Self>, refusal: Refusal) -> Ending<C, S::Error> {
        let waiting = self.as_mut().execution().waiting();
        let is_call = waiting.is_some_and(|waiting| is_call(waiting.request.headers()));
        let response = self.flight.enter().shared.policy.refuse(refusal.clone(), is_call);
        let whole = |data| ResponseBody::whole(Whole { data, trailers: None });
        Ending::Response(Ok(marked(response.map(whole), Coalesced::Refused(refusal))))
    }

    /// Begins anew, with the request that it has.
    fn board(mut self: Pin<&mut Self>, key: Key, retry: Option<Retry>) {
        let waiting = self.as_mut().take_back();
        let mut this = self.project();
        let boarding = Boarding::new(Arc::clone(&waiting.shared), key);
        this.flight.set(Fly::new(boarding, Execution::new(waiting, retry), identity as Finish));
        *this.patience = None;
    }

    fn take_back(self: Pin<&mut Self>) -> Waiting<S, B> {
        self.execution().take_back().expect("it was not executed")
    }

    fn execution(self: Pin<&mut Self>) -> &mut Execution<S, B> {
        self.project().flight.work().get_mut()
    }
}

/// The response to the request that was executed, which nobody else gets.
fn own_response<C: Body + Send + 'static, E: Send + 'static>(own: Own, why: Alone) -> Ending<C, E> {
    let response: Result<_, E> = own.take().expect("it is taken once");
    Ending::Response(response.map(|response| marked(response, Coalesced::Alone(why))))
}

#[inline]
fn marked<B>(mut response: Response<B>, how: Coalesced) -> Response<B> {
    response.extensions_mut().insert(how);
    response
}

impl From<Role> for Coalesced {
    fn from(role: Role) -> Self {
        match role {
            Role::Led { followers } => Self::Led { followers },
            Role::Joined => Self::Joined,
        }
    }
}

impl<S, B> fmt::Debug for ResponseFuture<S, B>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
