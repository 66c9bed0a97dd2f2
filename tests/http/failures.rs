//! Services that panic or return errors, executions that wait for themselves, and functions of the policy
//! that panic: nobody hangs, everybody has an end of their own, and the key is free afterwards.

use std::{
    convert::Infallible,
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use http::{HeaderName, Request, Response, StatusCode};
use http_body::Frame;
use shardflight::{
    FlightId, Observer,
    tower::{Alone, CoalesceLayer, Coalesced, HeaderRule, Policy, Refusal},
};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

use crate::{
    common::on_tokio,
    net::{
        Answer, Asked, Client, Execution, Origin, Server, Site, answers, get, numbered, numbers,
    },
};

/// What followers of a request that panicked get: a 500 that does not tell what the panic said.
fn assert_500(answer: &Answer, said: &str) {
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    match &answer.coalesced {
        Coalesced::Refused(why @ Refusal::Panicked(panicked)) => {
            assert_eq!(panicked.message(), said);
            assert_eq!(answer.text(), format!("{why}\n"));
            assert!(!answer.text().contains(said));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// One leader and four followers, and the same for those who come after.
async fn everybody_is_told(site: &Site, client_of: fn(&Site) -> Client, said: &str) {
    let leader = site.place(&client_of(site), get("/")).await;
    let followers = site.place_many(4, &get("/")).await;
    let begun = site.origin.begun.get();
    site.origin.gate.open();
    leader.breaks().await;
    for follower in answers(followers).await {
        assert_500(&follower, said);
    }
    // A panic is not what runs again for each that waited.
    assert_eq!(site.origin.begun.get(), begun);
    site.origin.gate.let_pass(0);
}

/// It is free if two that come now share with each other, and get their answer.
async fn is_free(site: &Site, number: usize) {
    let asked = site.place_many(2, &get("/")).await;
    site.origin.gate.open();
    let answers = answers(asked).await;
    assert_eq!(numbers(&answers), [number, number]);
    assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 1 });
}

fn panicking(execution: Execution) -> Response<Body> {
    assert!(execution.number > 2, "the handler");
    numbered(execution)
}

/// The panicking request's own connection ends as it does without the layer; followers are told.
#[test]
fn a_panic_of_the_handler_reaches_every_follower() {
    on_tokio(|| async {
        let without = Origin::default();
        without.gate.open();
        let bare = Server::start(without.answering(panicking)).await;
        Client::http1(&bare).send(get("/")).breaks().await;
        Client::http2(&bare).send(get("/")).breaks().await;

        let site = Site::new(Policy::new(), panicking).await;
        everybody_is_told(&site, Site::http1, "the handler").await;
        everybody_is_told(&site, Site::http2, "the handler").await;
        is_free(&site, 3).await;
    });
}

/// The follower that has taken it over did not panic: it is told, as the others are.
#[test]
fn a_panic_of_an_execution_that_was_taken_over_is_nobodys_own() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), panicking).await;
        let leader = site.place(&site.http1(), get("/")).await;
        let followers = site.place_many(4, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        for follower in answers(followers).await {
            assert_500(&follower, "the handler");
        }
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// Before it returns a future, and before it is called.
#[derive(Debug, Clone)]
struct Panics<S> {
    inner: S,
    when_asked: Arc<AtomicBool>,
    when_called: Arc<AtomicBool>,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Panics<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        assert!(!self.when_asked.load(SeqCst), "when asked");
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        assert!(!self.when_called.load(SeqCst), "when called");
        self.inner.call(request)
    }
}

#[test]
fn a_panic_when_it_is_asked_or_called_breaks_off_that_request_alone() {
    on_tokio(|| async {
        let (when_asked, when_called) =
            (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let origin = Origin::default();
        let service = Panics {
            inner: origin.answering(numbered),
            when_asked: when_asked.clone(),
            when_called: when_called.clone(),
        };
        let site = Site::of(origin, Policy::new(), service).await;
        for flag in [when_asked, when_called] {
            flag.store(true, SeqCst);
            site.http1().send(get("/")).breaks().await;
            site.http1().send(get("/").with("cookie", "a")).breaks().await;
            flag.store(false, SeqCst);
        }
        is_free(&site, 1).await;
    });
}

/// A body that panics when it is read.
struct Trap;

impl http_body::Body for Trap {
    type Data = bytes::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Infallible>>> {
        panic!("the body")
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(4)
    }
}

#[test]
fn a_panic_of_the_body_reaches_every_follower() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), |execution| match execution.number {
            1 => Response::new(Body::new(Trap)),
            _ => numbered(execution),
        });
        let site = site.await;
        everybody_is_told(&site, Site::http1, "the body").await;
        is_free(&site, 2).await;
    });
}

/// The service fails as often as the origin has begun fewer executions than this.
async fn failing_until(number: usize) -> Site {
    let origin = Origin::default();
    let this = origin.clone();
    let service = service_fn(move |request| {
        let origin = this.clone();
        async move {
            let (n, _running) = origin.begin();
            origin.gate.pass(n).await;
            match n < number {
                true => Err(io::Error::other("the service")),
                false => Ok(numbered(Execution { number: n, request })),
            }
        }
    });
    Site::of(origin, Policy::new(), service).await
}

/// An error belongs to the request that ran into it. Its followers meet in a retry, whose answer they share; if
/// that ends with an error, too, they are told.
#[test]
fn an_error_of_the_service_is_the_leaders_alone() {
    on_tokio(|| async {
        for (number, breaking, succeeding) in [(2, 1, 4), (4, 2, 0)] {
            let site = failing_until(number).await;
            let asked = site.place_many(5, &get("/")).await;
            site.origin.gate.open();
            let mut got = Vec::new();
            let mut broken = 0;
            for asked in asked {
                match asked.end().await {
                    Ok(answer) => got.push(answer),
                    Err(_) => broken += 1,
                }
            }
            assert_eq!((broken, site.origin.begun.get()), (breaking, 2));
            let (answered, told): (Vec<_>, Vec<_>) =
                got.into_iter().partition(|answer| answer.status == StatusCode::OK);
            assert_eq!(numbers(&answered), vec![2; succeeding]);
            let refused = Refusal::Failed { status: StatusCode::BAD_GATEWAY, retry_after: None };
            for answer in &told {
                assert_eq!(answer.coalesced, Coalesced::Refused(refused.clone()));
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
            }
            assert_eq!(told.len(), 5 - breaking - succeeding);
        }
    });
}

/// The one whose error it is has gone: it is nobody's.
#[test]
fn an_error_of_an_execution_that_was_taken_over_is_nobodys_own() {
    on_tokio(|| async {
        let site = failing_until(2).await;
        let leader = site.place(&site.http1(), get("/")).await;
        let followers = site.place_many(4, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(followers).await), [2; 4]);
    });
}

type Whole = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// An execution that asks its own service for what it is would wait for itself. It is executed instead, as it
/// would be without the layer; so is what meets the same layer twice.
#[test]
fn a_request_that_would_wait_for_itself_is_executed() {
    on_tokio(|| async {
        let (origin, itself) = (Origin::default(), Arc::new(OnceLock::<Whole>::new()));
        let (this, whole) = (origin.clone(), Arc::clone(&itself));
        let handler = service_fn(move |request: Request<Body>| {
            let (origin, whole) = (this.clone(), Arc::clone(&whole));
            async move {
                let (number, _running) = origin.begin();
                if request.headers().contains_key("x-asks") {
                    let service = whole.get().expect("set").clone();
                    let itself = service.oneshot(Request::from(get("/"))).await?;
                    let why = itself.extensions().get();
                    assert_eq!(why, Some(&Coalesced::Alone(Alone::Reentrant)));
                    return Ok(itself);
                }
                Ok::<_, Infallible>(numbered(Execution { number, request }))
            }
        });
        let policy = Policy::new().header(HeaderName::from_static("x-asks"), HeaderRule::Ignore);
        let layer = CoalesceLayer::with_policy(policy);
        let service = layer.layer(layer.layer(handler)).map_response(|r| r.map(Body::new));
        let service = Whole::new(service);
        itself.set(service.clone()).expect("once");
        let server = Server::start(service).await;
        let asks = get("/").with("x-asks", "1");
        let answer = Client::http1(&server).send(asks).answer().await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(origin.begun.get(), 2);
    });
}

/// One that is switched on, says so, and panics then.
#[derive(Debug, Clone, Default)]
struct Fuse(Arc<AtomicBool>);

impl Fuse {
    fn set(&self, is_on: bool) {
        self.0.store(is_on, SeqCst);
    }

    fn blow(&self) {
        assert!(!self.0.load(SeqCst), "the function");
    }
}

/// What is asked of each request is that request's affair: its connection ends, and nobody else's.
#[test]
fn a_panic_of_a_function_that_judges_requests_concerns_that_request_alone() {
    let policies: [fn(Fuse) -> Policy; 3] = [
        |fuse| {
            Policy::new().key(move |_| {
                fuse.blow();
                Some(String::new())
            })
        },
        |fuse| {
            Policy::new().target(move |uri| {
                fuse.blow();
                uri.path().to_owned()
            })
        },
        |fuse| {
            Policy::new().requests(move |_| {
                fuse.blow();
                true
            })
        },
    ];
    on_tokio(move || async move {
        for policy in policies {
            let fuse = Fuse::default();
            let site = Site::new(policy(fuse.clone()), numbered).await;
            let asked = site.place_many(2, &get("/")).await;
            fuse.set(true);
            site.http1().send(get("/")).breaks().await;
            fuse.set(false);
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1, 1]);
            site.origin.gate.let_pass(0);
            is_free(&site, 2).await;
        }
    });
}

/// It runs in the execution, and is as if the service had panicked.
#[test]
fn a_panic_of_the_function_that_judges_responses_reaches_every_follower() {
    on_tokio(|| async {
        let fuse = Fuse::default();
        let judge = fuse.clone();
        let policy = Policy::new().responses(move |_, standard| {
            judge.blow();
            standard
        });
        let site = Site::new(policy, numbered).await;
        fuse.set(true);
        everybody_is_told(&site, Site::http1, "the function").await;
        fuse.set(false);
        is_free(&site, 2).await;
    });
}

/// An extension whose clones panic from the second on: the first is the answer's, the others are those of
/// the followers.
#[derive(Debug)]
struct Fragile {
    fuse: Fuse,
}

impl Clone for Fragile {
    fn clone(&self) -> Self {
        self.fuse.blow();
        Self { fuse: self.fuse.clone() }
    }
}

#[test]
fn a_panic_of_an_extensions_clone_hangs_nobody() {
    on_tokio(|| async {
        let fuse = Fuse::default();
        let fragile = fuse.clone();
        let site = Site::new(Policy::new().extension::<Fragile>(), move |execution| {
            let mut response = numbered(execution);
            response.extensions_mut().insert(Fragile { fuse: fragile.clone() });
            response
        });
        let site = site.await;
        fuse.set(true);
        everybody_is_told(&site, Site::http1, "the function").await;
        fuse.set(false);
        is_free(&site, 2).await;
    });
}

/// Who is refused loses the connection, and those who wait get their answer.
#[test]
fn a_panic_of_the_function_that_words_refusals_concerns_the_refused_alone() {
    on_tokio(|| async {
        let fuse = Fuse::default();
        let words = fuse.clone();
        let policy = Policy::new().max_followers(1).refusal(move |_| {
            words.blow();
            Response::default()
        });
        let site = Site::new(policy, numbered).await;
        let asked = site.place_many(2, &get("/")).await;
        fuse.set(true);
        site.http1().send(get("/")).breaks().await;
        fuse.set(false);
        assert_eq!(site.http1().send(get("/")).answer().await.text(), "");
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 1]);
    });
}

/// An observer that panics at every event is not noticed.
#[test]
fn a_panic_of_the_observer_changes_nothing() {
    struct Broken;

    impl Observer for Broken {
        fn led(&self, _: FlightId) {
            panic!("led");
        }

        fn joined(&self, _: FlightId) {
            panic!("joined");
        }

        fn landed(&self, _: FlightId, _: usize, _: std::time::Duration) {
            panic!("landed");
        }

        fn answered(&self, _: FlightId, _: std::time::Duration) {
            panic!("answered");
        }

        fn around(&self, _: &[FlightId], _: &mut dyn FnMut()) {
            panic!("around");
        }
    }

    on_tokio(|| async {
        let origin = Origin::default();
        let flights = crate::net::Flights::default();
        let layer = CoalesceLayer::new().observer((flights.clone(), Broken));
        let server = Server::start(layer.layer(origin.answering(numbered))).await;
        let site = Site { origin, flights, server };
        let asked: Vec<Asked> = (0..5).map(|_| site.http1().send(get("/"))).collect();
        site.are_placed(5).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1; 5]);
    });
}
