//! Headers of responses that name one request: they stay with it, and an echo is each request's own.

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use shardflight::tower::{CoalesceLayer, Coalesced, HeaderRule, Policy, ResponseHeaderRule};
use tower::{Layer, ServiceExt};

use crate::{
    common::on_tokio,
    net::{Answer, Ask, Execution, Flights, Origin, Site, answers, get, numbered},
};

/// One leader and those that follow it, each with headers of its own.
async fn share(
    policy: Policy,
    answer: impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static,
    asks: Vec<Ask>,
) -> Vec<Answer> {
    let site = Site::new(policy, answer).await;
    let mut asked = Vec::new();
    for ask in &asks {
        asked.push(site.place(&site.http1(), ask.clone()).await);
    }
    assert_eq!(site.flights.joined.get(), asks.len() - 1);
    site.origin.gate.open();
    let answers = answers(asked).await;
    assert_eq!(answers[0].coalesced, Coalesced::Led { followers: asks.len() - 1 });
    assert!(answers.iter().all(|answer| answer.number() == 1), "{answers:?}");
    answers
}

fn values<'a>(answer: &'a Answer, name: &str) -> Vec<&'a str> {
    answer.headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect()
}

/// Sends these headers of the request back.
fn echo(names: &'static [&'static str]) -> impl Fn(Execution) -> Response<Body> + Clone {
    move |execution| {
        let sent = execution.request.headers().clone();
        let mut response = numbered(execution);
        for name in names {
            for value in sent.get_all(*name) {
                response.headers_mut().append(*name, value.clone());
            }
        }
        response
    }
}

/// These, whoever asks.
fn say(
    headers: &'static [(&'static str, &'static str)],
) -> impl Fn(Execution) -> Response<Body> + Clone {
    move |execution| {
        let mut response = numbered(execution);
        for (name, value) in headers {
            response.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        response
    }
}

#[test]
fn a_request_id_that_is_echoed_is_each_clients_own() {
    on_tokio(|| async {
        let ask =
            |id: &str| get("/").with("x-request-id", id).with("traceparent", format!("00-{id}"));
        let asks = vec![ask("a"), ask("b"), ask("c"), get("/")];
        let answers = share(Policy::new(), echo(&["x-request-id", "traceparent"]), asks).await;
        for (answer, id) in answers.iter().zip(["a", "b", "c"]) {
            assert_eq!(values(answer, "x-request-id"), [id]);
            assert_eq!(values(answer, "traceparent"), [format!("00-{id}")]);
        }
        // It sent none, so it gets none.
        assert!(values(&answers[3], "x-request-id").is_empty());

        // Several values are one echo, in their order, of as many as each sent.
        let several = vec![get("/").with("x-request-id", "a").with("x-request-id", "b"), ask("c")];
        let answers = share(Policy::new(), echo(&["x-request-id"]), several).await;
        assert_eq!(values(&answers[0], "x-request-id"), ["a", "b"]);
        assert_eq!(values(&answers[1], "x-request-id"), ["c"]);
    });
}

/// The service has made it up, or sends more than an echo: the leader keeps it, and nobody else sees it.
#[test]
fn a_request_id_that_the_service_makes_stays_with_the_request_that_was_executed() {
    on_tokio(|| async {
        let made = &[("x-request-id", "made"), ("x-kept", "1"), ("server-timing", "db;dur=5")];
        for id in [None, Some("made-not"), Some("mad")] {
            let ask = || id.map_or_else(|| get("/"), |id| get("/").with("x-request-id", id));
            let answers = share(Policy::new(), say(made), vec![ask(), ask(), ask()]).await;
            assert_eq!(values(&answers[0], "x-request-id"), ["made"]);
            for follower in &answers[1..] {
                assert!(values(follower, "x-request-id").is_empty(), "{follower:?}");
            }
            for answer in &answers {
                assert_eq!(answer.header("x-kept"), Some("1"));
                assert_eq!(answer.header("server-timing"), Some("db;dur=5"));
            }
        }
        // Two values, of which one is the client's.
        let answer = |execution| {
            let mut response = echo(&["x-request-id"])(execution);
            response.headers_mut().append("x-request-id", HeaderValue::from_static("made"));
            response
        };
        let ask = |id| get("/").with("x-request-id", id);
        let answers = share(Policy::new(), answer, vec![ask("a"), ask("b")]).await;
        assert_eq!(values(&answers[0], "x-request-id"), ["a", "made"]);
        assert!(values(&answers[1], "x-request-id").is_empty());
    });
}

/// All headers that requests are told apart by in logs, and none that are about something else.
#[test]
fn names_of_a_request_are_those_that_are_ignored_in_requests() {
    const NAMES: [&str; 8] = [
        "request-id",
        "correlation-id",
        "x-correlation-id",
        "x-trace-id",
        "b3",
        "x-amzn-trace-id",
        "cf-ray",
        "x-varnish",
    ];
    const OTHERS: [&str; 5] = ["via", "user-agent", "x-real-ip", "server-timing", "etag"];
    on_tokio(|| async {
        let answer = |execution| {
            let mut response = numbered(execution);
            for name in NAMES.into_iter().chain(OTHERS) {
                response.headers_mut().append(name, HeaderValue::from_static("leader"));
            }
            response
        };
        // Requests that differ in each of them share.
        let differing = |value| {
            let names = NAMES.into_iter();
            names.fold(get("/"), |ask, name| ask.with(name, value))
        };
        let answers = share(Policy::new(), answer, vec![differing("1"), differing("2")]).await;
        for name in NAMES {
            assert_eq!(answers[0].header(name), Some("leader"), "{name}");
            assert_eq!(answers[1].header(name), None, "{name}");
        }
        for name in OTHERS {
            assert_eq!(answers[1].header(name), Some("leader"), "{name}");
        }
    });
}

#[test]
fn the_policy_names_headers_that_stay_with_one_request() {
    on_tokio(|| async {
        let (ticket, id) =
            (HeaderName::from_static("x-ticket"), HeaderName::from_static("x-request-id"));
        let policy = Policy::new()
            .header(ticket.clone(), HeaderRule::Ignore)
            .response_header(ticket.clone(), ResponseHeaderRule::Own)
            .response_header(id, ResponseHeaderRule::Shared);
        let ask = |ticket: &str| get("/").with("x-ticket", ticket).with("x-request-id", ticket);
        let echoing = echo(&["x-ticket", "x-request-id"]);
        let answers = share(policy.clone(), echoing, vec![ask("a"), ask("b")]).await;
        assert_eq!(values(&answers[1], "x-ticket"), ["b"]);
        assert_eq!(values(&answers[1], "x-request-id"), ["a"]);

        // The last word counts.
        let policy = policy.response_header(ticket, ResponseHeaderRule::Shared);
        let answers = share(policy, echo(&["x-ticket"]), vec![ask("a"), ask("b")]).await;
        assert_eq!(values(&answers[1], "x-ticket"), ["a"]);
    });
}

/// A follower that takes an execution over is not the request that was executed.
#[test]
fn an_execution_that_was_taken_over_does_not_hand_on_the_name_of_the_request_that_went() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), echo(&["x-request-id"])).await;
        let ask = |id: &str| get("/").with("x-request-id", id);
        let leader = site.place(&site.http1(), ask("a")).await;
        let follower = site.place(&site.http1(), ask("b")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        assert_eq!(values(&follower.answer().await, "x-request-id"), ["b"]);
    });
}

/// Trailers are headers that come later.
#[test]
fn trailers_follow_the_same_rules() {
    on_tokio(|| async {
        let (origin, flights) = (Origin::default(), Flights::default());
        let service = origin.answering(|_| {
            let trailers = [("x-request-id", "leader"), ("x-sum", "1")];
            let trailers = trailers.map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_static(value))
            });
            let frames = [
                Frame::data(Bytes::from("a body")),
                Frame::trailers(trailers.into_iter().collect()),
            ];
            let frames = frames.map(Ok::<_, std::convert::Infallible>);
            Response::new(Body::new(StreamBody::new(futures_util::stream::iter(frames))))
        });
        let layer = CoalesceLayer::with_policy(Policy::new().streams(true));
        let service = layer.observer(flights.clone()).layer(service);
        let ask = || tokio::spawn(service.clone().oneshot(Request::from(get("/"))));
        let leader = ask();
        origin.begun.reaches(1).await;
        let follower = ask();
        flights.joined.reaches(1).await;
        origin.gate.open();
        for (asked, id) in [(leader, Some("leader")), (follower, None)] {
            let response = asked.await.expect("no panic").expect("a response");
            let body = response.into_body().collect().await.expect("a body");
            let trailers = body.trailers().expect("it has some");
            let got = trailers.get("x-request-id").map(|value| value.to_str().expect("text"));
            assert_eq!(got, id);
            assert_eq!(trailers.get("x-sum").expect("shared"), "1");
        }
    });
}
