//! The limits of a flight: how many follow it, how long they wait, how old it gets, and that the service
//! behind is asked whether it is ready.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use shardflight::tower::{CoalesceLayer, Coalesced, Policy, Refusal};
use tower::{
    Layer, Service, ServiceBuilder, ServiceExt, limit::ConcurrencyLimitLayer,
    load_shed::LoadShedLayer, util::BoxCloneSyncService,
};

use crate::{
    common::on_tokio,
    net::{Count, Execution, Origin, Site, answers, get, numbered, numbered_with, numbers},
};

/// Three may wait, with the leader; the fourth follower is told at once to come again.
#[test]
fn more_followers_than_may_wait_get_503_with_retry_after() {
    on_tokio(|| async {
        let site = Site::new(Policy::new().max_followers(3), numbered).await;
        let asked = site.place_many(4, &get("/")).await;
        for client in [site.http1(), site.http2()] {
            // It comes back while all others wait.
            let refused = client.send(get("/")).answer().await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.coalesced, Coalesced::Refused(Refusal::TooManyFollowers));
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.header("cache-control"), Some("no-store"));
            assert_eq!(refused.text(), format!("{}\n", Refusal::TooManyFollowers));
        }
        // There is room for others, and for another when one leaves.
        let other = site.place(&site.http1(), get("/other")).await;
        let mut asked = asked;
        asked.pop().expect("four").leave().await;
        site.flights.left.reaches(1).await;
        asked.push(site.place(&site.http1(), get("/")).await);
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 1, 1, 1]);
        assert_eq!(other.answer().await.number(), 2);
    });
}

/// `.refusal` makes the answers that the layer gives.
#[test]
fn the_policy_words_what_the_layer_refuses() {
    on_tokio(|| async {
        let policy = Policy::new().max_followers(0).refusal(|refusal| {
            let text = Bytes::from(format!("no: {refusal}"));
            Response::builder().status(429).header("retry-after", "7").body(text).expect("valid")
        });
        let site = Site::new(policy, numbered).await;
        let leader = site.place(&site.http1(), get("/")).await;
        let refused = site.http1().send(get("/")).answer().await;
        assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(refused.header("retry-after"), Some("7"));
        assert_eq!(refused.text(), format!("no: {}", Refusal::TooManyFollowers));
        assert_eq!(refused.coalesced, Coalesced::Refused(Refusal::TooManyFollowers));
        site.origin.gate.open();
        assert_eq!(leader.answer().await.number(), 1);
    });
}

/// Ten lose their patience with a stuck execution. One of them begins another, and the others join that;
/// who executes has all the time in the world.
#[test]
fn followers_without_patience_share_a_new_execution() {
    on_tokio(|| async {
        let policy = Policy::new().patience(Duration::from_millis(100));
        let site = Site::new(policy, numbered).await;
        let leader = site.place(&site.http1(), get("/")).await;
        let impatient = site.place_many(10, &get("/")).await;
        // All ten have come to something new.
        site.are_placed(11 + 10).await;
        // Two, but for a machine that is so busy that somebody has lost patience twice.
        assert!(site.origin.begun.get() < 6, "{} executions", site.origin.begun.get());
        site.origin.gate.open();
        let answers = answers(impatient).await;
        assert!(numbers(&answers).iter().all(|number| *number > 1), "{answers:?}");
        assert_eq!(leader.answer().await.number(), 1);
        let led = answers.iter().filter(|answer| answer.coalesced != Coalesced::Joined).count();
        assert_eq!(site.origin.begun.get(), 1 + led, "{answers:?}");
    });
}

/// Those that have patience wait, and for ever if there is no end to it.
#[test]
fn followers_with_patience_wait() {
    on_tokio(|| async {
        for patience in [Duration::from_secs(3600), Duration::MAX] {
            let site = Site::new(Policy::new().patience(patience), numbered).await;
            let asked = site.place_many(5, &get("/")).await;
            tokio::time::sleep(Duration::from_millis(60)).await;
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1; 5]);
        }
    });
}

/// An execution that is older than the policy allows is joined by nobody, and replaced: those who come
/// then meet at the new one.
#[test]
fn flights_that_are_too_old_are_replaced() {
    const AGE: Duration = Duration::from_millis(100);
    on_tokio(|| async {
        let site = Site::new(Policy::new().max_age(AGE), numbered).await;
        let old = site.place(&site.http1(), get("/")).await;
        tokio::time::sleep(AGE).await;
        let first = site.place(&site.http1(), get("/")).await;
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (2, 0));
        site.origin.gate.open();
        assert_eq!(numbers(&answers([old, first]).await), [1, 2]);

        let site = Site::new(Policy::new().max_age(Duration::ZERO), numbered).await;
        let asked = site.place_many(3, &get("/")).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 2, 3]);

        // The twin.
        let site = Site::new(Policy::new(), numbered).await;
        let mut asked = site.place_many(1, &get("/")).await;
        tokio::time::sleep(AGE).await;
        asked.extend(site.place_many(1, &get("/")).await);
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 1]);
    });
}

/// A service that may not be called before it has been asked whether it is ready, as tower's contract
/// says. Clones have not been asked.
#[derive(Debug)]
struct Strict<S> {
    inner: S,
    is_ready: bool,
    asked: Count,
}

impl<S: Clone> Clone for Strict<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), is_ready: false, asked: self.asked.clone() }
    }
}

impl<S, R> Service<R> for Strict<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.asked.add();
        self.inner.poll_ready(cx).map_ok(|()| self.is_ready = true)
    }

    fn call(&mut self, request: R) -> S::Future {
        assert!(std::mem::take(&mut self.is_ready), "it was not asked whether it is ready");
        self.inner.call(request)
    }
}

/// Each execution asks, of whatever kind it is: that of a leader, of one who runs alone by its own
/// headers, by what is remembered, and by the answer to another.
#[test]
fn the_service_is_asked_whether_it_is_ready_for_each_execution() {
    on_tokio(|| async {
        let (origin, asked) = (Origin::default(), Count::default());
        let answer = |execution: Execution| match execution.request.uri().path() {
            "/private" => numbered_with(&[("cache-control", "private")])(execution),
            "/vary" => numbered_with(&[("vary", "user-agent")])(execution),
            _ => numbered(execution),
        };
        let service = origin.answering(answer);
        let service = Strict { inner: service, is_ready: false, asked: asked.clone() };
        let site = Site::of(origin, Policy::new(), service).await;
        for (path, executions) in [("/", 1), ("/private", 3), ("/private", 3), ("/vary", 3)] {
            let (begun, ready) = (site.origin.begun.get(), asked.get());
            let mut requests = Vec::new();
            for value in ["1", "2", "3"] {
                requests.push(site.place(&site.http1(), get(path).with("user-agent", value)).await);
            }
            site.origin.gate.open();
            answers(requests).await;
            assert_eq!(site.origin.begun.get() - begun, executions, "{path}");
            assert_eq!(asked.get() - ready, executions, "{path}");
            site.origin.gate.let_pass(0);
        }
        site.origin.gate.open();
        site.http1().send(get("/").with("cookie", "a")).answer().await;
        assert_eq!(asked.get(), site.origin.begun.get());
    });
}

/// One permit is enough for a hundred that ask for the same: who follows takes none. Also if the answers
/// turn out to be for each alone: then they take turns.
#[test]
fn a_limit_of_one_execution_serves_a_hundred() {
    on_tokio(|| async {
        for (is_private, executions) in [(false, 2), (true, 102)] {
            let origin = Origin::default();
            let answer = move |execution| match is_private {
                true => numbered_with(&[("cache-control", "private")])(execution),
                false => numbered(execution),
            };
            let service = ServiceBuilder::new()
                .layer(ConcurrencyLimitLayer::new(1))
                .service(origin.answering(answer));
            let site = Site::of(origin, Policy::new(), service).await;
            let asked = site.place_many(100, &get("/")).await;
            assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 99));
            // Another key has to wait for the permit, and whoever asks for that waits with it.
            let other = site.http1().send(get("/other"));
            site.flights.led.reaches(2).await;
            let more = site.place(&site.http1(), get("/other")).await;
            assert_eq!(site.origin.begun.get(), 1);
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await).len(), 100);
            answers([other, more]).await;
            assert_eq!(site.origin.begun.get(), executions);
        }
    });
}

/// The leader goes while the service is not ready yet; its follower goes on waiting in its place.
#[test]
fn a_place_in_the_queue_for_readiness_is_handed_on() {
    on_tokio(|| async {
        let origin = Origin::default();
        let service = ServiceBuilder::new()
            .layer(ConcurrencyLimitLayer::new(1))
            .service(origin.answering(numbered));
        let site = Site::of(origin, Policy::new(), service).await;
        let busy = site.place(&site.http1(), get("/busy")).await;
        let leader = site.http1().send(get("/"));
        site.flights.led.reaches(2).await;
        let followers = site.place_many(3, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        assert_eq!(busy.answer().await.number(), 1);
        assert_eq!(numbers(&answers(followers).await), [2, 2, 2]);
        assert_eq!(site.origin.begun.get(), 2);
    });
}

/// What sheds load looks at executions: of a hundred requests for the same none is shed, and of another
/// key all are.
#[test]
fn a_layer_that_sheds_load_sheds_executions() {
    on_tokio(|| async {
        let origin = Origin::default();
        let service = ServiceBuilder::new()
            .layer(LoadShedLayer::new())
            .layer(ConcurrencyLimitLayer::new(1))
            .service(origin.answering(numbered));
        let site = Site::of(origin, Policy::new(), service).await;
        let asked = site.place_many(100, &get("/")).await;
        let client = site.http1();
        for _ in 0..3 {
            // An error of the service: the server closes the connection.
            client.send(get("/other")).breaks().await;
        }
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1; 100]);
        assert_eq!(client.send(get("/other")).answer().await.number(), 2);
    });
}

/// It is always ready, also if the service behind never is: a follower needs nothing of it.
#[test]
fn the_layer_is_ready_when_the_service_is_not() {
    on_tokio(|| async {
        let never = tower::service_fn(|_: Request<Body>| async {
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let never = BoxCloneSyncService::new(ConcurrencyLimitLayer::new(0).layer(never));
        let mut service = CoalesceLayer::new().layer(never.clone());
        let ready = ServiceExt::<Request<Body>>::ready(&mut service).await;
        assert!(ready.is_ok());
        let mut never = never;
        let ready = futures_lite::future::poll_once(ServiceExt::<Request<Body>>::ready(&mut never));
        assert!(ready.await.is_none(), "it was to be busy for ever");
    });
}
