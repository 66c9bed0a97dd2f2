//! Many requests, one execution: over HTTP/1.1 and HTTP/2, and what the followers get.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{Router, body::Body, routing};
use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use shardflight::tower::{CoalesceLayer, Coalesced, Policy};

use crate::{
    common::on_tokio,
    net::{Execution, Flights, Origin, Server, Site, answers, get, numbered},
};

/// The answers of one execution, of which one request says that it was its own.
fn assert_one_execution(answers: &[crate::net::Answer], number: usize) {
    let followers = answers.len() - 1;
    let led = |coalesced: &Coalesced| *coalesced == Coalesced::Led { followers };
    assert_eq!(answers.iter().filter(|answer| led(&answer.coalesced)).count(), 1);
    let joined = answers.iter().filter(|answer| answer.coalesced == Coalesced::Joined).count();
    assert_eq!(joined, followers);
    assert!(answers.iter().all(|answer| answer.number() == number), "{answers:?}");
}

/// Where the articles end: five clients ask an axum server for the same report at once.
#[test]
fn five_clients_of_an_axum_server_share_one_execution() {
    on_tokio(|| async {
        let (origin, flights) = (Origin::default(), Flights::default());
        let report = {
            let origin = origin.clone();
            move || async move {
                let (number, _running) = origin.begin();
                origin.gate.pass(number).await;
                number.to_string()
            }
        };
        let app = Router::new()
            .route("/report", routing::get(report))
            .layer(CoalesceLayer::new().observer(flights.clone()));
        let site = Site { server: Server::of_axum(app).await, origin, flights };

        let asked = site.place_many(5, &get("/report")).await;
        site.origin.gate.open();
        assert_one_execution(&answers(asked).await, 1);
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// All of them on connections of their own, and there at once.
#[test]
fn a_thousand_clients_share_one_execution() {
    on_tokio(|| async {
        // A client and its connection at the server's side take a file descriptor each.
        let limit = rlimit::increase_nofile_limit(4096).expect("a limit");
        assert!(limit >= 2_200, "{limit} file descriptors are not enough for this test");
        let site = Site::new(Policy::new(), numbered).await;
        let asked: Vec<_> = (0..1_000).map(|_| site.http1().send(get("/report"))).collect();
        site.are_placed(1_000).await;
        site.origin.gate.open();
        assert_one_execution(&answers(asked).await, 1);
        assert_eq!((site.origin.begun.get(), site.server.arrived.get()), (1, 1_000));
    });
}

/// Nothing is kept: each round has an execution of its own, on connections that stay.
#[test]
fn http1_connections_are_kept_alive_over_shared_answers() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let clients: Vec<_> = (0..3).map(|_| site.http1()).collect();
        for round in 1..=4 {
            let mut asked = Vec::new();
            for client in &clients {
                asked.push(site.place(client, get("/")).await);
            }
            site.origin.gate.let_pass(round);
            assert_one_execution(&answers(asked).await, round);
        }
        assert_eq!(site.origin.begun.get(), 4);
        assert!(clients.iter().all(|client| client.connections.get() == 1));
    });
}

/// A connection of HTTP/2 carries the leader and its followers, beside those of HTTP/1.1.
#[test]
fn http2_streams_and_http1_connections_share_one_execution() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let http2 = site.http2();
        let mut asked = vec![site.place(&http2, get("/")).await];
        asked.extend((0..99).map(|_| http2.send(get("/"))));
        asked.extend((0..50).map(|_| site.http1().send(get("/"))));
        site.are_placed(150).await;
        site.origin.gate.let_pass(1);
        assert_one_execution(&answers(asked).await, 1);
        assert_eq!(http2.connections.get(), 1);

        // The other way round: a leader of HTTP/1.1.
        let mut asked = vec![site.place(&site.http1(), get("/")).await];
        asked.extend((0..20).map(|_| http2.send(get("/"))));
        site.are_placed(150 + 21).await;
        site.origin.gate.open();
        assert_one_execution(&answers(asked).await, 2);
        assert_eq!((site.origin.begun.get(), http2.connections.get()), (2, 1));
    });
}

/// Followers get the status, the headers (each value of each) and the body, byte for byte; what is about
/// the connection of the request that was executed stays there.
#[test]
fn followers_get_the_response_as_it_is() {
    on_tokio(|| async {
        let answer = |_| {
            let mut response = Response::new(Body::from(vec![0, 159, 146, 150, b'\r', b'\n']));
            *response.status_mut() = StatusCode::NOT_FOUND;
            let headers = response.headers_mut();
            for link in ["</a>; rel=next", "</b>; rel=prev"] {
                headers.append("link", HeaderValue::from_static(link));
            }
            headers.insert("etag", HeaderValue::from_static("\"1\""));
            headers.insert("cache-control", HeaderValue::from_static("public, max-age=60"));
            headers.insert("connection", HeaderValue::from_static("x-hop"));
            headers.insert("x-hop", HeaderValue::from_static("here"));
            headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
            response
        };
        let site = Site::new(Policy::new(), answer).await;
        let asked = site.place_many(3, &get("/")).await;
        site.origin.gate.open();
        let answers = answers(asked).await;
        let (leader, followers) = answers.split_first().expect("three");
        assert_eq!(leader.header("x-hop"), Some("here"));
        assert_eq!(leader.header("keep-alive"), Some("timeout=5"));
        for follower in followers {
            assert_eq!(follower.coalesced, Coalesced::Joined);
            assert_eq!((follower.status, &follower.body), (leader.status, &leader.body));
            for name in ["etag", "cache-control", "content-length"] {
                assert_eq!(follower.headers.get(name), leader.headers.get(name), "{name}");
            }
            let links: Vec<_> = follower.headers.get_all("link").iter().collect();
            assert_eq!(links, ["</a>; rel=next", "</b>; rel=prev"]);
            assert_eq!((follower.header("x-hop"), follower.header("keep-alive")), (None, None));
        }
        assert_eq!(leader.body[..], [0, 159, 146, 150, b'\r', b'\n']);
        assert_eq!(leader.status, StatusCode::NOT_FOUND);
    });
}

/// An answer in HTTP/1.0 ends the connection that it goes over. That is the leader's affair: those of the
/// followers are kept alive.
#[test]
fn the_version_of_the_leaders_answer_is_not_its_followers() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), |execution| {
            let is_first = execution.number == 1;
            let mut response = numbered(execution);
            if is_first {
                *response.version_mut() = Version::HTTP_10;
            }
            response
        });
        let site = site.await;
        let clients = [site.http1(), site.http1()];
        for round in 1..=2 {
            let mut asked = Vec::new();
            for client in &clients {
                asked.push(site.place(client, get("/")).await);
            }
            site.origin.gate.let_pass(round);
            assert_one_execution(&answers(asked).await, round);
        }
        let connections = clients.map(|client| client.connections.get());
        assert_eq!(connections, [2, 1]);
    });
}

/// As hyper's client has the body of an answer to HEAD over HTTP/2: at its end, and with the length that
/// was declared.
struct Ended;

impl http_body::Body for Ended {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(5_000_000)
    }
}

/// An answer to HEAD has the length of a body that it has not: it is shared as it is, also if that body
/// would be over the limit.
#[test]
fn answers_to_head_are_shared_with_their_length() {
    on_tokio(|| async {
        for body in [Body::empty, || Body::new(Ended)] {
            let answer = move |Execution { number, request }| {
                assert_eq!(request.method(), Method::HEAD);
                let mut response = Response::new(body());
                let length = HeaderValue::from_static("5000000");
                response.headers_mut().insert("content-length", length);
                response.headers_mut().insert("x-number", number.into());
                response
            };
            let site = Site::new(Policy::new(), answer).await;
            let asked = site.place_many(2, &get("/").method(Method::HEAD)).await;
            site.origin.gate.open();
            let answers = answers(asked).await;
            assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 1 });
            assert_eq!(answers[1].coalesced, Coalesced::Joined);
            for answer in &answers {
                assert_eq!(answer.header("content-length"), Some("5000000"));
                assert_eq!((answer.header("x-number"), answer.text()), (Some("1"), ""));
            }
        }
    });
}
