//! What the observer of a layer is told of each request: how it was answered, and why.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use futures_util::future::join_all;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use shardflight::{
    Answered, Observer, Stats,
    tower::{CoalesceLayer, HeaderRule, Policy},
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::net::{Ask, get};

/// Keeps what it is told, as text.
#[derive(Debug, Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Observer for Told {
    fn request(&self, answered: Answered<'_>, retries: u32) {
        let reason = answered.reason().map_or_else(String::new, |reason| format!(" {reason}"));
        let retries = if retries > 0 { format!(", retried {retries}") } else { String::new() };
        let followers = match answered {
            Answered::Led { followers } => format!(" {followers}"),
            _ => String::new(),
        };
        let told = format!("{}{followers}{reason}{retries}", answered.as_str());
        self.0.lock().expect("not poisoned").push(told);
    }
}

impl Told {
    /// In alphabetical order, since it was last asked.
    fn take(&self) -> Vec<String> {
        let mut told = std::mem::take(&mut *self.0.lock().expect("not poisoned"));
        told.sort();
        told
    }
}

/// Takes some time, so that requests meet.
fn service(
    answer: impl Fn(&Request<Body>) -> Result<Response<Body>, io::Error> + Clone + Send + Sync + 'static,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = io::Error, Future: Send>
+ Clone
+ Send
+ 'static {
    service_fn(move |request| {
        let answer = answer.clone();
        async move {
            sleep(Duration::from_millis(10)).await;
            answer(&request)
        }
    })
}

fn ok(_: &Request<Body>) -> Result<Response<Body>, io::Error> {
    Ok(Response::new(Body::from("an answer")))
}

fn with(
    name: &'static str,
    value: &'static str,
) -> impl Fn(&Request<Body>) -> Result<Response<Body>, io::Error> + Clone {
    move |request| {
        let mut response = ok(request)?;
        response.headers_mut().insert(name, HeaderValue::from_static(value));
        Ok(response)
    }
}

/// What is told of these requests, which come at the same time.
async fn told(
    policy: Policy,
    answer: impl Fn(&Request<Body>) -> Result<Response<Body>, io::Error> + Clone + Send + Sync + 'static,
    asks: impl IntoIterator<Item = Ask>,
) -> Vec<String> {
    let told = Told::default();
    let layer = CoalesceLayer::with_policy(policy).observer(told.clone());
    let service = layer.layer(service(answer));
    let asked = asks.into_iter().map(|ask| tokio::spawn(service.clone().oneshot(ask.into())));
    // What becomes of them is told.
    let _ = join_all(asked).await;
    told.take()
}

#[tokio::test(start_paused = true)]
async fn requests_that_share_are_told_apart() {
    let asks = || vec![get("/"); 4];
    assert_eq!(told(Policy::new(), ok, asks()).await, ["joined", "joined", "joined", "led 3"]);
    assert_eq!(told(Policy::new(), ok, [get("/")]).await, ["led 0"]);
}

/// Each is told once, also if it never came near a flight.
#[tokio::test(start_paused = true)]
async fn requests_that_run_alone_are_told_with_the_reason() {
    let private = Policy::new().requests(|_| false);
    let unlisted = Policy::new().unlisted(HeaderRule::Alone);
    let own = HeaderName::from_static("x-own");
    for (policy, ask, reason) in [
        (Policy::new(), get("/").method(Method::DELETE), "method"),
        (Policy::new(), get("/").body("a body"), "body"),
        (Policy::new(), get("/").with("authorization", "Bearer secret"), "header:authorization"),
        (Policy::new(), get("/").with("cookie", "secret"), "header:cookie"),
        (Policy::new(), get("/").with("cache-control", "no-cache"), "header:cache-control"),
        (Policy::new().header(own, HeaderRule::Alone), get("/").with("x-own", "1"), "header:x-own"),
        // A name that the client has made up is no label.
        (unlisted, get("/").with("x-made-up", "1"), "header"),
        (Policy::new(), get("/").with("host", "elsewhere.test"), "authority"),
        (private, get("/"), "policy"),
    ] {
        let expected = [format!("alone {reason}"), format!("alone {reason}")];
        assert_eq!(told(policy, ok, [ask.clone(), ask]).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn responses_that_are_for_one_alone_are_told_with_the_reason() {
    let asks = || vec![get("/"); 3];
    let all = |reason: &str| vec![format!("alone {reason}"); 3];
    let cookie = with("set-cookie", "secret");
    assert_eq!(told(Policy::new(), cookie, asks()).await, all("response_header:set-cookie"));
    let private = with("cache-control", "private");
    assert_eq!(told(Policy::new(), private, asks()).await, all("response_header:cache-control"));
    let not_found = |_: &Request<Body>| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::FORBIDDEN;
        Ok(response)
    };
    assert_eq!(told(Policy::new(), not_found, asks()).await, all("status:403"));
    assert_eq!(told(Policy::new().max_body(1), ok, asks()).await, all("too_large"));
    let stream = |_: &Request<Body>| {
        let body = futures_util::stream::iter([Ok::<_, io::Error>("a body")]);
        Ok(Response::new(Body::from_stream(body)))
    };
    assert_eq!(told(Policy::new(), stream, asks()).await, all("stream"));

    // What is remembered is told, too.
    let told = Told::default();
    let layer = CoalesceLayer::new().observer(told.clone());
    let service = layer.layer(service(with("set-cookie", "secret")));
    for _ in 0..2 {
        service.clone().oneshot(get("/").into()).await.expect("a response");
    }
    assert_eq!(told.take(), ["alone remembered", "alone response_header:set-cookie"]);
}

#[tokio::test(start_paused = true)]
async fn failures_and_refusals_are_told_with_the_reason() {
    let failing = |_: &Request<Body>| {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        Ok(response)
    };
    let asks = || vec![get("/"); 4];
    assert_eq!(
        told(Policy::new(), failing, asks()).await,
        [
            "alone status:503",
            "alone status:503, retried 1",
            "refused failed:503, retried 1",
            "refused failed:503, retried 1",
        ]
    );
    // An error of the service is told as well: of its own request, and of the others.
    assert_eq!(
        told(Policy::new().retries(0), |_| Err(io::Error::other("it")), asks()).await,
        ["alone error", "refused failed:502", "refused failed:502", "refused failed:502"]
    );
    let alone = get("/").with("cookie", "1");
    let error = told(Policy::new(), |_| Err(io::Error::other("it")), [alone]).await;
    assert_eq!(error, ["alone header:cookie"]);
    // The one that panicked has no answer.
    assert_eq!(
        told(Policy::new(), |_| panic!("it"), asks()).await,
        ["refused panicked", "refused panicked", "refused panicked"]
    );
    assert_eq!(
        told(Policy::new().max_followers(1), ok, asks()).await,
        ["joined", "led 1", "refused too_many_followers", "refused too_many_followers"]
    );
}

/// Where the layer is there twice, each layer tells of each request; here it is one.
#[tokio::test(start_paused = true)]
async fn a_request_that_meets_its_own_execution_is_told() {
    let told = Told::default();
    let layer = CoalesceLayer::new().observer(told.clone());
    let service = layer.layer(layer.layer(service(ok)));
    service.oneshot(get("/").into()).await.expect("a response");
    assert_eq!(told.take(), ["alone reentrant", "led 0"]);
}

/// Both of a pair, one of them without its type.
#[tokio::test(start_paused = true)]
async fn a_pair_of_observers_is_told_of_each_request() {
    let (one, other) = (Told::default(), Told::default());
    let untyped: Arc<dyn Observer> = Arc::new(other.clone());
    let layer = CoalesceLayer::new().observer((one.clone(), untyped));
    let service = layer.layer(service(ok));
    service.oneshot(get("/").into()).await.expect("a response");
    assert_eq!(one.take(), ["led 0"]);
    assert_eq!(other.take(), ["led 0"]);
}

/// An observer that panics costs no request its answer.
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_observer_changes_no_answer() {
    struct Broken;

    impl Observer for Broken {
        fn request(&self, _: Answered<'_>, _: u32) {
            panic!("request");
        }
    }

    let service = CoalesceLayer::new().observer(Broken).layer(service(ok));
    let alone = get("/").with("cookie", "1");
    let asked = [get("/"), get("/"), alone].map(|ask| service.clone().oneshot(ask.into()));
    for response in join_all(asked).await {
        assert_eq!(response.expect("a response").status(), StatusCode::OK);
    }
}

/// A retry that succeeds, and one after which each runs alone.
#[tokio::test(start_paused = true)]
async fn retries_are_told_with_how_the_request_was_answered_in_the_end() {
    for (set_cookie, expected) in [
        (false, ["alone status:500", "joined, retried 1", "led 1, retried 1"]),
        (
            true,
            [
                "alone response_header:set-cookie, retried 1",
                "alone response_header:set-cookie, retried 1",
                "alone status:500",
            ],
        ),
    ] {
        let executions = Arc::new(Mutex::new(0));
        let answer = move |request: &Request<Body>| {
            let mut executions = executions.lock().expect("not poisoned");
            *executions += 1;
            let mut response = ok(request)?;
            match *executions {
                1 => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
                _ if set_cookie => {
                    response.headers_mut().insert("set-cookie", HeaderValue::from_static("a"));
                }
                _ => {}
            }
            Ok(response)
        };
        assert_eq!(told(Policy::new(), answer, vec![get("/"); 3]).await, expected);
    }
}

/// The reason that nothing is shared can be seen.
#[tokio::test(start_paused = true)]
async fn requests_that_never_share_are_counted() {
    let stats = Arc::new(Stats::default());
    let service = CoalesceLayer::new().observer(stats.clone()).layer(service(ok));
    let ask = || get("/").with("authorization", "Bearer secret");
    let asked = (0..200).map(|_| service.clone().oneshot(ask().into()));
    join_all(asked).await;
    join_all((0..3).map(|_| service.clone().oneshot(get("/").into()))).await;

    let counted = stats.snapshot();
    assert_eq!(counted.requests_alone, 200);
    assert_eq!((counted.requests_led, counted.requests_joined), (1, 2));
    assert_eq!((counted.requests_refused, counted.requests_retried), (0, 0));
    let reasons = stats.reasons();
    assert_eq!(reasons.into_iter().collect::<Vec<_>>(), [("header:authorization".to_owned(), 200)]);
}

#[tokio::test(start_paused = true)]
async fn retries_and_refusals_are_counted() {
    let stats = Arc::new(Stats::default());
    let policy = Policy::new().retries(2);
    let layer = CoalesceLayer::with_policy(policy).observer(stats.clone());
    let service = layer.layer(service(|_| Err(io::Error::other("it"))));
    join_all((0..5).map(|_| service.clone().oneshot(get("/").into()))).await;
    let counted = stats.snapshot();
    // Three have led a flight that failed, two of them after a retry.
    assert_eq!((counted.requests_alone, counted.requests_refused), (3, 2));
    assert_eq!(counted.requests_retried, 4);
    let reasons = stats.reasons();
    assert_eq!((reasons["error"], reasons["failed:502"]), (3, 2));
}
