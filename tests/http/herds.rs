//! How often a service that fails is executed, how long its callers wait, and which responses are failures.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, channel::Channel};
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, Policy, Refusal};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    common::on_paused_clock,
    net::{Origin, get},
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
