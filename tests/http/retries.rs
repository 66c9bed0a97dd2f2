//! Executions that fail: their followers share one retry, and are told what failed if that fails too. A
//! service that fails is asked as seldom as one that is healthy.

use std::{
    cell::RefCell,
    convert::Infallible,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use axum::body::Body;
use futures_util::future::join_all;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, channel::Channel};
use shardflight::{
    FlightId, Observer,
    tower::{Alone, CoalesceLayer, Coalesced, Policy, Refusal, ResponseBody},
};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    common::{Polled, on_paused_clock, on_tokio},
    net::{Answer, Asked, Execution, Origin, Site, answers, get, numbered, numbers},
};

/// How an execution ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Status(u16),
    /// An error of the service.
    Error,
    /// Five bytes of ten.
    BreaksOff,
    /// Ten bytes, of which the header declares nine.
    WrongLength,
    Panic,
}

impl End {
    fn response(self) -> Result<Response<Body>, io::Error> {
        let mut response = Response::new(Body::from("ten bytes."));
        match self {
            Self::Status(status) => {
                *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            }
            Self::Error => return Err(io::Error::other("the service")),
            Self::BreaksOff => {
                let (mut sender, body) = Channel::<_, io::Error>::new(1);
                sender.try_send(http_body::Frame::data("bytes".into())).expect("there is room");
                sender.abort(io::ErrorKind::ConnectionReset.into());
                *response.body_mut() = Body::new(body);
                response.headers_mut().insert("content-length", HeaderValue::from_static("10"));
            }
            Self::WrongLength => {
                response.headers_mut().insert("content-length", HeaderValue::from_static("9"));
            }
            Self::Panic => panic!("the service"),
        }
        Ok(response)
    }

    /// What followers get.
    fn status(self) -> StatusCode {
        match self {
            Self::Status(status) => StatusCode::from_u16(status).expect("a status"),
            Self::Panic => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Error | Self::BreaksOff | Self::WrongLength => StatusCode::BAD_GATEWAY,
        }
    }
}

const TAKES: Duration = Duration::from_millis(200);

/// What became of requests for one page, a thousand in a second, whose executions take 200 ms.
#[derive(Debug, Default)]
struct Herd {
    executions: usize,
    most_at_a_time: usize,
    /// Requests that got the response to their own execution.
    executed: usize,
    joined: usize,
    refused: usize,
    panicked: usize,
    longest: Duration,
}

async fn herd(policy: Policy, end: End, requests: usize) -> Herd {
    let origin = Origin::default();
    let (this, most) = (origin.clone(), Arc::<AtomicUsize>::default());
    let seen = Arc::clone(&most);
    let service = service_fn(move |_: Request<Body>| {
        let (origin, seen) = (this.clone(), seen.clone());
        async move {
            let (number, _running) = origin.begin();
            let now = number - origin.over.get();
            seen.fetch_max(now, SeqCst);
            sleep(TAKES).await;
            end.response()
        }
    });
    let service = CoalesceLayer::with_policy(policy).layer(service);
    let mut clients = JoinSet::new();
    for _ in 0..requests {
        let asked = Instant::now();
        let response = service.clone().oneshot(Request::from(get("/")));
        clients.spawn(async move {
            let response = response.await;
            (response, asked.elapsed())
        });
        sleep(Duration::from_millis(1)).await;
    }
    let mut herd = Herd::default();
    while let Some(client) = clients.join_next().await {
        let Ok((response, took)) = client else {
            herd.panicked += 1;
            continue;
        };
        herd.longest = herd.longest.max(took);
        let Ok(response) = response else {
            herd.executed += 1;
            continue;
        };
        match response.extensions().get().expect("every response has it") {
            Coalesced::Joined => herd.joined += 1,
            Coalesced::Led { .. } | Coalesced::Alone(_) => herd.executed += 1,
            Coalesced::Refused(refusal) => {
                assert_eq!(refusal.status(), end.status());
                assert_eq!(response.status(), end.status());
                herd.refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    herd.executions = origin.begun.get();
    herd.most_at_a_time = most.load(SeqCst);
    herd
}

/// The timers of tokio tick in milliseconds.
const TICK: Duration = Duration::from_millis(2);

/// Ten seconds of failures, and two of each other kind.
#[test]
fn a_service_that_fails_is_executed_by_one_request_at_a_time() {
    let kinds = [429, 408, 500].map(End::Status).into_iter();
    let kinds = kinds.chain([End::Error, End::BreaksOff, End::WrongLength]).map(|end| (end, 2));
    for (end, seconds) in kinds.chain([(End::Status(503), 10)]) {
        on_paused_clock(move || async move {
            let requests = seconds * 1000;
            let herd = herd(Policy::new(), end, requests).await;
            assert!(herd.executions <= 10 * seconds, "{end:?}: {herd:?}");
            assert!(herd.most_at_a_time <= 2, "{end:?}: {herd:?}");
            assert_eq!(herd.executed, herd.executions, "{end:?}: each leader has its own");
            assert_eq!(herd.executed + herd.refused, requests, "{end:?}: {herd:?}");
            // The rest of the execution that it joined, and one more.
            assert!(herd.longest <= 2 * TAKES + TICK, "{end:?}: {herd:?}");
        });
    }
}

/// What the other tests of a herd are compared with: a service that is healthy, one whose failures are shared, and
/// one that panics, whose followers are told immediately.
#[test]
fn a_service_that_is_healthy_or_panics_is_executed_by_one_request_at_a_time() {
    const REQUESTS: usize = 2_000;
    let shared = Policy::new().status(StatusCode::SERVICE_UNAVAILABLE, true);
    let rows = [
        (End::Status(200), Policy::new(), false),
        (End::Status(503), shared, false),
        (End::Panic, Policy::new(), true),
    ];
    for (end, policy, panics) in rows {
        on_paused_clock(move || async move {
            let herd = herd(policy, end, REQUESTS).await;
            assert!(herd.executions <= 11 && herd.most_at_a_time == 1, "{end:?}: {herd:?}");
            assert!(herd.longest <= TAKES + TICK, "{end:?}: {herd:?}");
            let others = REQUESTS - herd.executions;
            let (joined, refused) = if panics { (0, others) } else { (others, 0) };
            assert_eq!((herd.joined, herd.refused), (joined, refused), "{end:?}: {herd:?}");
            assert_eq!(herd.panicked, if panics { herd.executions } else { 0 });
        });
    }
}

/// However many retries there are, a request waits for no more than these, and nobody executes beside another.
#[test]
fn a_request_waits_for_one_execution_and_its_retries() {
    const REQUESTS: usize = 2_000;
    for retries in [0, 1, 3] {
        on_paused_clock(move || async move {
            let policy = Policy::new().retries(retries);
            let herd = herd(policy, End::Status(503), REQUESTS).await;
            assert!(herd.executions <= 20 && herd.most_at_a_time <= 2, "{retries}: {herd:?}");
            let executions = 1 + retries;
            assert!(herd.longest <= executions * TAKES + TICK, "{retries}: {herd:?}");
            assert!(herd.longest > retries * TAKES, "{retries}: {herd:?}");
            assert_eq!(herd.executed + herd.refused, REQUESTS, "{retries}: {herd:?}");
        });
    }
}

/// Which statuses are failures by default: a second request that waits for one is executed after the first, not
/// beside it.
#[tokio::test(start_paused = true)]
async fn failures_are_408_429_and_all_of_500_to_599() {
    for code in 200..=599 {
        let status = StatusCode::from_u16(code).expect("a status");
        let is_failure = async |policy: Policy| {
            let origin = Origin::default();
            let this = origin.clone();
            let service = service_fn(move |_: Request<Body>| {
                let origin = this.clone();
                async move {
                    let (_, _running) = origin.begin();
                    sleep(TAKES).await;
                    End::Status(code).response()
                }
            });
            let service = CoalesceLayer::with_policy(policy.retries(0)).layer(service);
            let ask = || service.clone().oneshot(Request::from(get("/")));
            let (_, follower) = tokio::join!(ask(), ask());
            let follower = follower.expect("a response");
            let refused = Refusal::Failed { status, retry_after: None };
            let is_failure = follower.extensions().get() == Some(&Coalesced::Refused(refused));
            assert_eq!(origin.begun.get() == 1, is_failure, "{code}");
            is_failure
        };
        let unshared = || Policy::new().status(status, false);
        let expected = matches!(code, 408 | 429 | 500..=599);
        assert_eq!(is_failure(unshared()).await, expected, "{code}");
        assert!(!is_failure(unshared().failure(status, false)).await, "{code}");
        assert!(
            is_failure(unshared().failure(status, false).failure(status, true)).await,
            "{code}"
        );
    }
}

/// Private in every way, and with headers that must not be seen by others.
fn failed(execution: &Execution, retry_after: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("secret of {}", execution.number)));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    let headers = response.headers_mut();
    for (name, value) in [
        ("retry-after", retry_after),
        ("set-cookie", "session=1"),
        ("cache-control", "private"),
        ("x-secret", "1"),
        ("vary", "*"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The first executions up to this number fail.
fn failing_until(number: usize) -> impl Fn(Execution) -> Response<Body> + Clone {
    move |execution| {
        if execution.number < number { failed(&execution, "7") } else { numbered(execution) }
    }
}

fn assert_own_failure(answer: &Answer, number: usize) {
    let why = Alone::Status(StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.coalesced, Coalesced::Alone(why));
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.text(), format!("secret of {number}"));
    assert_eq!(answer.header("x-secret"), Some("1"));
    assert_eq!(answer.header("set-cookie"), Some("session=1"));
}

/// A response of the follower's own, of which only two things are the failure's.
fn assert_told(answer: &Answer, status: StatusCode, retry_after: Option<&'static str>) {
    let refusal =
        Refusal::Failed { status, retry_after: retry_after.map(HeaderValue::from_static) };
    assert_eq!(answer.coalesced, Coalesced::Refused(refusal.clone()));
    assert_eq!(answer.status, status);
    assert_eq!(answer.header("retry-after"), retry_after);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.text(), format!("{refusal}\n"));
    for name in ["set-cookie", "x-secret", "vary"] {
        assert_eq!(answer.header(name), None);
    }
}

async fn placed(site: &Site, clients: usize) -> Vec<Asked> {
    site.place_many(clients, &get("/")).await
}

#[test]
fn followers_of_a_failure_share_one_retry_and_so_do_newcomers() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), failing_until(2)).await;
        let mut asked = placed(&site, 5).await;
        site.origin.gate.let_pass(1);
        // The leader has its own failure while the others wait for the retry.
        assert_own_failure(&asked.remove(0).answer().await, 1);
        site.are_placed(5 + 4).await;
        assert_eq!((site.origin.begun.get(), site.flights.led.get()), (2, 2));
        asked.extend(placed(&site, 3).await);
        site.origin.gate.open();
        let answers = answers(asked).await;
        assert_eq!(numbers(&answers), [2; 7]);
        let led = answers.iter().filter(|one| one.coalesced == Coalesced::Led { followers: 6 });
        assert_eq!((led.count(), site.origin.begun.get()), (1, 2));
    });
}

/// The leader of the retry has its own failure; the other followers of the first get the retry's status and
/// `Retry-After`. Newcomers have waited for one failure so far, and share a retry again.
#[test]
fn followers_of_a_failed_retry_are_told_and_newcomers_try_again() {
    on_tokio(|| async {
        for date in [false, true] {
            let retry_after = if date { "Wed, 21 Oct 2026 07:28:00 GMT" } else { "7" };
            let site = Site::new(Policy::new(), move |execution| match execution.number {
                1 => failed(&execution, "1"),
                2 => failed(&execution, retry_after),
                _ => numbered(execution),
            });
            let site = site.await;
            let mut asked = placed(&site, 5).await;
            site.origin.gate.let_pass(1);
            assert_own_failure(&asked.remove(0).answer().await, 1);
            site.are_placed(5 + 4).await;
            let newcomers = placed(&site, 3).await;
            site.origin.gate.let_pass(2);
            let (mut own, mut told) = (0, 0);
            for answer in answers(asked).await {
                if matches!(answer.coalesced, Coalesced::Alone(_)) {
                    assert_own_failure(&answer, 2);
                    own += 1;
                } else {
                    assert_told(&answer, StatusCode::SERVICE_UNAVAILABLE, Some(retry_after));
                    told += 1;
                }
            }
            assert_eq!((own, told), (1, 3));
            site.are_placed(5 + 4 + 3 + 3).await;
            site.origin.gate.open();
            assert_eq!(numbers(&answers(newcomers).await), [3; 3]);
            assert_eq!(site.origin.begun.get(), 3);
        }
    });
}

#[tokio::test(start_paused = true)]
async fn the_policy_says_how_often_followers_try_again() {
    for (retries, told, succeeded, executions) in
        [(0, 4, 0, 1), (1, 3, 0, 2), (2, 0, 3, 3), (3, 0, 3, 3)]
    {
        let origin = Origin::default();
        let this = origin.clone();
        let service = service_fn(move |request: Request<Body>| {
            let origin = this.clone();
            async move {
                let (number, _running) = origin.begin();
                sleep(TAKES).await;
                Ok::<_, Infallible>(failing_until(3)(Execution { number, request }))
            }
        });
        let service = CoalesceLayer::with_policy(Policy::new().retries(retries)).layer(service);
        let asked = (0..5).map(|_| service.clone().oneshot(Request::from(get("/"))));
        let mut counted = [0; 3];
        for response in join_all(asked).await {
            let response = response.expect("infallible");
            counted[match response.extensions().get().expect("every response has it") {
                Coalesced::Refused(_) => 0,
                Coalesced::Led { .. } | Coalesced::Joined => 1,
                _ => 2,
            }] += 1;
        }
        // Each failed flight has a leader that gets the failure.
        assert_eq!(counted, [told, succeeded, 5 - told - succeeded], "{retries} retries");
        assert_eq!(origin.begun.get(), executions, "{retries} retries");
    }
}

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

/// What is not a failure, whatever its status, is as it was: each follower runs by itself, and the key is
/// remembered.
#[test]
fn a_status_that_is_no_failure_releases_its_followers() {
    on_tokio(|| async {
        let policy = Policy::new().failure(StatusCode::SERVICE_UNAVAILABLE, false);
        let site = Site::new(policy, failing_until(usize::MAX)).await;
        let asked = placed(&site, 4).await;
        site.origin.gate.open();
        for answer in answers(asked).await {
            let number = answer.text().rsplit(' ').next().expect("it is numbered");
            assert_own_failure(&answer, number.parse().expect("a number"));
        }
        assert_eq!(site.origin.begun.get(), 4);
        let next = site.http1().send(get("/")).answer().await;
        assert_eq!(next.coalesced, Coalesced::Alone(Alone::Remembered));
    });
}

/// A policy that shares failures shares them, except one that is private: that is a failure all the same.
#[test]
fn a_failure_that_is_shared_is_no_reason_to_try_again() {
    on_tokio(|| async {
        for is_private in [false, true] {
            let policy = Policy::new().status(StatusCode::SERVICE_UNAVAILABLE, true);
            let site = Site::new(policy, move |execution| {
                let mut response = failed(&execution, "7");
                if !is_private {
                    for name in ["set-cookie", "cache-control", "vary"] {
                        response.headers_mut().remove(name);
                    }
                }
                response
            });
            let site = site.await;
            let mut asked = placed(&site, 4).await;
            site.origin.gate.open();
            let leader = asked.remove(0).answer().await;
            let followers = answers(asked).await;
            assert_eq!(leader.text(), "secret of 1");
            if is_private {
                assert!(matches!(leader.coalesced, Coalesced::Alone(Alone::ResponseHeader(_))));
                let told = |one: &&Answer| matches!(one.coalesced, Coalesced::Refused(_));
                assert_eq!(followers.iter().filter(told).count(), 2, "{followers:?}");
                assert_eq!(site.origin.begun.get(), 2);
            } else {
                assert_eq!(leader.coalesced, Coalesced::Led { followers: 3 });
                for follower in followers {
                    assert_eq!(follower.coalesced, Coalesced::Joined);
                    assert_eq!(follower.text(), "secret of 1");
                }
                assert_eq!(site.origin.begun.get(), 1);
            }
        }
    });
}

/// The policy's own words, which pass the failure's `Retry-After` on.
#[test]
fn the_policy_words_what_followers_of_a_failure_are_told() {
    on_tokio(|| async {
        let policy = Policy::new().retries(0).refusal(|refusal| {
            let mut response = Response::new(format!("no: {}", refusal.status()).into());
            *response.status_mut() = StatusCode::IM_A_TEAPOT;
            let retry_after = refusal.retry_after().expect("the failure had one");
            response.headers_mut().insert(header::RETRY_AFTER, retry_after);
            response
        });
        let site = Site::new(policy, failing_until(usize::MAX)).await;
        let mut asked = placed(&site, 2).await;
        site.origin.gate.open();
        let follower = asked.pop().expect("two").answer().await;
        assert_eq!(follower.status, StatusCode::IM_A_TEAPOT);
        assert_eq!(follower.header("retry-after"), Some("7"));
        assert_eq!(follower.text(), "no: 503 Service Unavailable");
    });
}

/// The client of the retry goes: a follower goes on with the half-done retry. If that fails it is nobody's, and
/// those that are left are told.
#[test]
fn a_retry_whose_leader_goes_is_taken_over() {
    on_tokio(|| async {
        for succeeds in [true, false] {
            let until = if succeeds { 2 } else { usize::MAX };
            let site = Site::new(Policy::new(), failing_until(until)).await;
            let leader = site.place(&site.http1(), get("/")).await;
            let first = site.place(&site.http1(), get("/")).await;
            site.origin.gate.let_pass(1);
            leader.answer().await;
            // Alone with it, the first follower leads the retry.
            site.are_placed(3).await;
            let others = placed(&site, 3).await;
            first.leave().await;
            site.flights.taken_over.reaches(1).await;
            assert_eq!(site.origin.begun.get(), 2);
            site.origin.gate.let_pass(2);
            if succeeds {
                assert_eq!(numbers(&answers(others).await), [2; 3]);
            } else {
                // They have joined one flight that failed, and meet in a third.
                site.are_placed(3 + 3 + 3).await;
                assert_eq!(site.origin.begun.get(), 3);
                site.origin.gate.open();
                let told = answers(others).await.into_iter();
                let told = told.filter(|one| matches!(one.coalesced, Coalesced::Refused(_)));
                assert_eq!((told.count(), site.origin.begun.get()), (2, 3));
            }
        }
    });
}

/// A key that failed is shared by the next ones that come together, whatever the policy says of remembering.
#[test]
fn a_failure_is_not_remembered() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), failing_until(usize::MAX)).await;
        for _ in 0..3 {
            let joined = site.flights.joined.get();
            site.origin.gate.let_pass(site.origin.begun.get());
            let asked = placed(&site, 2).await;
            assert_eq!(site.flights.joined.get(), joined + 1);
            site.origin.gate.open();
            answers(asked).await;
        }
    });
}

/// A service whose answers were private is asked by each request for itself. When it begins to fail, that ends
/// within a second; one failure among private answers changes nothing for longer.
#[tokio::test(start_paused = true)]
async fn a_key_that_is_remembered_is_shared_a_second_after_it_begins_to_fail() {
    for fails_with_error in [false, true] {
        let is_failing = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_failing);
        let service = service_fn(move |_: Request<Body>| {
            let mut response = Response::new(Body::from("an answer"));
            let headers = response.headers_mut();
            headers.insert(header::SET_COOKIE, HeaderValue::from_static("a=1"));
            let response = match seen.load(SeqCst) {
                true if fails_with_error => End::Error.response(),
                true => End::Status(500).response(),
                false => Ok(response),
            };
            std::future::ready(response)
        });
        let service = CoalesceLayer::new().layer(service);
        // Whether a request runs alone because of what is remembered.
        let is_remembered = async || {
            let response = service.clone().oneshot(Request::from(get("/"))).await;
            let Ok(response) = response else { return None };
            let how = response.extensions().get::<Coalesced>().expect("every response has it");
            Some(*how == Coalesced::Alone(Alone::Remembered))
        };
        assert_eq!(is_remembered().await, Some(false));
        // A failure, and a private answer after it: remembered for ten seconds from then on.
        is_failing.store(true, SeqCst);
        is_remembered().await;
        is_failing.store(false, SeqCst);
        assert_eq!(is_remembered().await, Some(true));
        advance(Duration::from_secs(9)).await;
        assert_eq!(is_remembered().await, Some(true));
        // Failures from now on. They shorten it once, and do not renew it.
        is_failing.store(true, SeqCst);
        is_remembered().await;
        advance(Duration::from_millis(900)).await;
        is_remembered().await;
        advance(Duration::from_millis(200)).await;
        is_failing.store(false, SeqCst);
        assert_eq!(is_remembered().await, Some(false));
    }
}

/// The leader of an execution that breaks off sees that as without the layer, and each follower gets a whole
/// response.
#[tokio::test(start_paused = true)]
async fn failures_without_a_status_are_502_for_followers() {
    for end in [End::Error, End::BreaksOff, End::WrongLength] {
        let service = service_fn(move |_: Request<Body>| async move {
            sleep(TAKES).await;
            end.response()
        });
        let service = CoalesceLayer::with_policy(Policy::new().retries(0)).layer(service);
        let ask = || service.clone().oneshot(Request::from(get("/")));
        let (leader, follower) = tokio::join!(ask(), ask());
        match (end, leader) {
            (End::Error, leader) => {
                assert_eq!(leader.expect_err("its own").to_string(), "the service")
            }
            (_, leader) => {
                let leader = leader.expect("a response");
                let why = leader.extensions().get();
                assert_eq!(why, Some(&Coalesced::Alone(Alone::Failed)));
            }
        }
        let follower = follower.expect("no error of another");
        assert_eq!(follower.status(), StatusCode::BAD_GATEWAY, "{end:?}");
        let refused = Refusal::Failed { status: StatusCode::BAD_GATEWAY, retry_after: None };
        let body = follower.into_body().collect().await.expect("whole").to_bytes();
        assert_eq!(body, format!("{refused}\n"));
    }
}
