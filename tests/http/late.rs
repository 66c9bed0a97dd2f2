//! Followers of a failure that wake up only after the retry has landed: they share it all the same.

use std::{
    cell::RefCell, convert::Infallible, rc::Rc, sync::mpsc, task::Poll, thread, time::Duration,
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode};
use shardflight::{
    FlightId, Observer,
    tower::{CoalesceLayer, Coalesced, Policy, Refusal, ResponseBody},
};
use tower::{Layer, Service, ServiceExt};

use super::retries::failing_until;
use crate::{
    common::Polled,
    net::{Origin, get, numbered},
};

/// The request as a future that is polled by hand: its response's status, number and how it was obtained.
fn by_hand<S>(service: &S) -> Polled<'static, (StatusCode, Coalesced)>
where
    S: Service<Request<Body>, Response = Response<ResponseBody<Body>>, Error = Infallible>
        + Clone
        + 'static,
{
    let response = service.clone().oneshot(Request::from(get("/")));
    Polled::new(async move {
        let response = response.await.expect("infallible");
        (response.status(), response.extensions().get::<Coalesced>().expect("it has it").clone())
    })
}

fn value<T>(polled: &mut Polled<'_, T>) -> T {
    match polled.poll() {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("it is not ready"),
    }
}

/// A follower that is polled only when the retry has landed gets what the others got, and executes nothing. It does
/// not wait for what newcomers have begun meanwhile, either.
#[test]
fn a_follower_that_wakes_up_after_the_retry_shares_it_all_the_same() {
    for until in [2, usize::MAX] {
        let origin = Origin::default();
        let policy = Policy::new().patience(Duration::MAX);
        let service = origin.answering(failing_until(until));
        let service = CoalesceLayer::with_policy(policy).layer(service);
        let [mut leader, mut first, mut late, mut later] = [(); 4].map(|()| by_hand(&service));
        for request in [&mut leader, &mut first, &mut late, &mut later] {
            assert!(request.poll().is_pending());
        }
        origin.gate.let_pass(2);
        assert_eq!(value(&mut leader).0, StatusCode::SERVICE_UNAVAILABLE);
        // It leads the retry, which ends immediately.
        let (status, how) = value(&mut first);
        let (late, mut newcomer) = (value(&mut late), by_hand(&service));
        assert_eq!(origin.begun.get(), 2);
        assert!(newcomer.poll().is_pending());
        let others = [late, value(&mut later)];
        if until == 2 {
            assert_eq!((status, how), (StatusCode::OK, Coalesced::Led { followers: 0 }));
            assert_eq!(others, [(); 2].map(|()| (StatusCode::OK, Coalesced::Joined)));
        } else {
            assert!(matches!(how, Coalesced::Alone(_)), "{how:?}");
            let status = StatusCode::SERVICE_UNAVAILABLE;
            let refused =
                Refusal::Failed { status, retry_after: Some(HeaderValue::from_static("7")) };
            assert_eq!(others, [(); 2].map(|()| (status, Coalesced::Refused(refused.clone()))));
        }
        // What was kept for them is for nobody else.
        assert_eq!(origin.begun.get(), 3);
    }
}

type Hook = RefCell<Option<Box<dyn FnOnce()>>>;

thread_local! {
    /// Runs when a [`Trigger`] is dropped.
    static WHEN_DROPPED: Hook = const { RefCell::new(None) };
    /// Runs when a flight has begun.
    static WHEN_LED: Hook = const { RefCell::new(None) };
}

fn run(hook: &'static thread::LocalKey<Hook>) {
    if let Some(hook) = hook.take() {
        hook();
    }
}

/// A body that nobody reads.
struct Trigger;

impl Drop for Trigger {
    fn drop(&mut self) {
        run(&WHEN_DROPPED);
    }
}

impl http_body::Body for Trigger {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<bytes::Bytes>, Infallible>>> {
        panic!("it is nobody's")
    }
}

struct Hooked;

impl Observer for Hooked {
    fn led(&self, _: FlightId) {
        run(&WHEN_LED);
    }
}

/// The retry lands after a follower has looked for its result, and before that follower enters the group. It leads
/// a flight then, but executes nothing; and a newcomer that joins it does not get a result from before.
#[test]
fn a_retry_that_lands_while_a_follower_boards_is_shared_with_it_and_with_no_newcomer() {
    let origin = Origin::default();
    let service = origin.answering(|execution| match execution.number {
        1 => {
            let mut response = Response::new(Body::new(Trigger));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        _ => numbered(execution),
    });
    let policy = Policy::new().patience(Duration::MAX);
    let service = CoalesceLayer::with_policy(policy).observer(Hooked).layer(service);
    let [mut gone, mut first, mut late] = [(); 3].map(|()| by_hand(&service));
    for request in [&mut gone, &mut first, &mut late] {
        assert!(request.poll().is_pending());
    }
    // The response that fails is nobody's: the last follower to leave the flight drops it.
    drop(gone);
    origin.gate.let_pass(1);
    let first_takes_over = first.is_woken();
    let (taking, other) = if first_takes_over { (first, late) } else { (late, first) };
    let (mut taking, mut other) = (taking, other);
    assert!(taking.poll().is_pending());
    assert_eq!(origin.begun.get(), 2);

    let taken = Rc::new(RefCell::new(None));
    let (seen, gate) = (Rc::clone(&taken), origin.gate.clone());
    WHEN_DROPPED.set(Some(Box::new(move || {
        gate.let_pass(2);
        *seen.borrow_mut() = Some(value(&mut taking));
    })));
    // On a thread of its own: on this one it would wait for itself.
    let ((has_joined, joined), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel::<()>());
    let newcomer = service.clone();
    let (begun, gate) = (origin.begun.clone(), origin.gate.clone());
    let newcomer = thread::spawn(move || {
        goes_on.recv().expect("a flight has begun");
        let mut newcomer = by_hand(&newcomer);
        assert!(newcomer.poll().is_pending());
        has_joined.send(()).expect("it is waited for");
        goes_on.recv().expect("the flight has landed");
        // It was empty.
        assert!(newcomer.is_woken() && newcomer.poll().is_pending());
        assert_eq!(begun.get(), 3);
        gate.open();
        assert_eq!(value(&mut newcomer), (StatusCode::OK, Coalesced::Led { followers: 0 }));
    });
    let go = go_on.clone();
    WHEN_LED.set(Some(Box::new(move || {
        go.send(()).expect("the newcomer is there");
        joined.recv().expect("it joins");
    })));
    let late = value(&mut other);
    assert_eq!(taken.take(), Some((StatusCode::OK, Coalesced::Led { followers: 0 })));
    assert_eq!(late, (StatusCode::OK, Coalesced::Joined));
    assert_eq!(origin.begun.get(), 2);
    go_on.send(()).expect("the newcomer is there");
    newcomer.join().expect("it gets a result of its own");
}
