//! Executions that fail: their followers share one retry, and are told what failed if that fails too.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use futures_util::future::join_all;
use http::{HeaderValue, Request, Response, StatusCode, header};
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, Policy, Refusal};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    common::on_tokio,
    net::{Answer, Asked, Execution, Origin, Site, answers, get, numbered, numbers},
};

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
pub(super) fn failing_until(number: usize) -> impl Fn(Execution) -> Response<Body> + Clone {
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
                sleep(Duration::from_millis(200)).await;
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
