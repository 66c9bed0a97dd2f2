//! Requests with a body, where the layer reads them: their content is in the key, and the service gets it as it
//! was.

use std::{borrow::Cow, io};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body_util::BodyExt;
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, HeaderRule, Policy};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    common::on_tokio,
    net::{Ask, Flights, Origin, Site, answers, get, piecewise},
    rows::{Row, alone, apart, by_default, case, check_all},
};

fn query(content: &'static str) -> Ask {
    get("/").method(Method::QUERY).body(content)
}

fn post(content: &'static str) -> Ask {
    get("/").method(Method::POST).body(content)
}

fn twice(ask: Ask) -> [Ask; 2] {
    [ask.clone(), ask]
}

fn rows() -> Vec<Row> {
    let kind = |kind: &str| query("a").with("content-type", kind);
    let posting = || Policy::new().method(Method::POST);
    let ignoring = || Policy::new().unlisted(HeaderRule::Ignore);
    let coded = |coding: &str| query("a").with("content-encoding", coding);
    let most = |bytes| Policy::new().max_request_body(bytes);
    let mut rows = vec![
        apart(
            "content",
            by_default([query("a"), query("b")]).reading(),
            by_default(twice(query("a"))).reading(),
        ),
        apart(
            "content or none",
            by_default([query("a"), get("/").method(Method::QUERY)]).reading(),
            by_default(twice(get("/").method(Method::QUERY))).reading(),
        ),
        apart(
            "content-type",
            by_default([kind("a/a"), kind("a/b")]).reading(),
            by_default(twice(kind("a/a"))).reading(),
        ),
        // They describe the content, and are in the key also where others are ignored.
        apart(
            "content-type, `.unlisted` Ignore",
            case(ignoring(), [kind("a/a"), kind("a/b")]).reading(),
            case(ignoring(), [kind("a/a").with("x-a", "1"), kind("a/a")]).reading(),
        ),
        apart(
            "content-encoding, `.unlisted` Ignore",
            case(ignoring(), [coded("br"), query("a")]).reading(),
            case(ignoring(), twice(coded("br"))).reading(),
        ),
        apart(
            "QUERY and POST",
            case(posting(), [query("a"), post("a")]).reading(),
            case(posting(), twice(post("a"))).reading(),
        ),
        alone(
            "QUERY, whose bodies are not read",
            Alone::Body,
            case(most(0), [get("/"), query("a")]),
            by_default(twice(query("a"))),
        ),
        alone(
            "POST, of which the policy says nothing",
            Alone::Method,
            by_default([get("/"), post("a")]).reading(),
            case(posting(), twice(post("a"))).reading(),
        ),
        alone(
            "GET with a body",
            Alone::Body,
            by_default([get("/"), get("/").body("a")]).reading(),
            by_default(twice(query("a"))).reading(),
        ),
        alone(
            "`.max_request_body`",
            Alone::Body,
            case(most(4), [get("/"), query("12345")]).reading(),
            case(most(5), twice(query("12345"))).reading(),
        ),
        alone(
            "`.max_request_body`, of unknown length",
            Alone::Body,
            case(most(4), [get("/"), query("12345").chunked()]).reading(),
            case(most(5), twice(query("12345").chunked())).reading(),
        ),
        alone(
            "`.max_request_body` of zero",
            Alone::Body,
            case(most(0), [get("/"), query("1")]).reading(),
            case(most(0), twice(get("/").method(Method::QUERY))).reading(),
        ),
        // The type of axum's bodies is known.
        apart(
            "content, by default",
            by_default([query("a"), query("b")]),
            by_default(twice(query("a"))),
        ),
        alone(
            "`.header`",
            Alone::Header(header::CONTENT_TYPE),
            case(
                Policy::new().header(header::CONTENT_TYPE, HeaderRule::Alone),
                [query("a"), kind("a/a")],
            )
            .reading(),
            by_default(twice(kind("a/a"))).reading(),
        ),
        // The length is said in another way.
        apart(
            "the same content in chunks",
            by_default([query("a").chunked(), query("b")]).reading(),
            by_default([query("a").chunked(), query("a")]).reading(),
        ),
    ];
    rows.extend(rows_of_functions());
    rows
}

/// `.content`: what a function makes of the content is in the key in its place.
fn rows_of_functions() -> Vec<Row> {
    let first = || Policy::new().content(|_, content| content.get(..1).map(Cow::Borrowed));
    let none = || {
        Policy::new()
            .content(|_, content| content.starts_with(b"a").then_some(Cow::Borrowed(content)))
    };
    let empty = || {
        Policy::new()
            .content(|_, content| Some(Cow::Owned(content.repeat(usize::from(content[0] == b'a')))))
    };
    let of_head = || {
        Policy::new()
            .content(|request, _| Some(request.headers.get("x-hash")?.as_bytes().to_vec().into()))
            .header(http::HeaderName::from_static("x-hash"), HeaderRule::Ignore)
    };
    let of_tenant = || {
        Policy::new()
            .key(|request| Some(request.headers.get("x-tenant")?.to_str().ok()?.to_owned()))
    };
    let hashed = |content, hash: &str| query(content).with("x-hash", hash);
    vec![
        apart(
            "`.content`",
            case(first(), [query("a1"), query("b1")]).reading(),
            case(first(), [query("a1"), query("a2")]).reading(),
        ),
        alone(
            "`.content` that is none",
            Alone::Policy,
            case(none(), [query("a"), query("b")]).reading(),
            case(none(), twice(query("a"))).reading(),
        ),
        alone(
            "`.content` that is empty",
            Alone::Policy,
            case(empty(), [query("a"), query("b")]).reading(),
            case(empty(), twice(query("a"))).reading(),
        ),
        apart(
            "`.content` of the head",
            case(of_head(), [hashed("a", "1"), hashed("a", "2")]).reading(),
            case(of_head(), [hashed("a", "1"), hashed("b", "1")]).reading(),
        ),
        alone(
            "`.content` of a head without it",
            Alone::Policy,
            case(of_head(), [hashed("a", "1"), query("a")]).reading(),
            case(of_head(), twice(hashed("a", "1"))).reading(),
        ),
        alone(
            "`.key` that is none",
            Alone::Policy,
            case(of_tenant(), [get("/").with("x-tenant", "1"), query("a")]).reading(),
            case(of_tenant(), twice(query("a").with("x-tenant", "1"))).reading(),
        ),
    ]
}

#[test]
fn requests_with_the_same_content_share() {
    on_tokio(|| async { check_all(rows(), Site::http1).await });
}

#[test]
fn requests_with_the_same_content_share_over_http2() {
    on_tokio(|| async { check_all(rows(), Site::http2).await });
}

/// What a service gets of a body: the data and the trailers, or the error.
async fn received(body: Body) -> String {
    match body.collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned();
            format!("{:?} {trailers:?}", whole.to_bytes())
        }
        Err(error) => format!("{error}"),
    }
}

/// How a body arrives: pieces, and then its end, trailers or an error.
#[derive(Debug, Clone, Copy)]
struct Arriving(&'static [&'static str], Last);

#[derive(Debug, Clone, Copy)]
enum Last {
    Nothing,
    Trailers,
    Error,
}

impl Arriving {
    fn request(self) -> Request<Body> {
        let (mut sender, body) = piecewise();
        tokio::spawn(async move {
            for piece in self.0 {
                sender.send_data((*piece).into()).await.expect("it is read");
            }
            match self.1 {
                Last::Nothing => {}
                Last::Trailers => {
                    let trailers = [(header::EXPIRES, HeaderValue::from_static("0"))];
                    let trailers = HeaderMap::from_iter(trailers);
                    sender.send_trailers(trailers).await.expect("it is read");
                }
                Last::Error => sender.abort(io::ErrorKind::ConnectionReset.into()),
            }
        });
        Request::builder().method(Method::QUERY).body(body).expect("a request")
    }
}

/// Whatever arrives, the service gets it as it would without the layer.
#[test]
fn the_service_gets_every_body_as_it_arrived() {
    let alone = || Coalesced::Alone(Alone::Body);
    let led = || Coalesced::Led { followers: 0 };
    let cases = [
        (Arriving(&["12345678"], Last::Nothing), led()),
        (Arriving(&["1", "", "2345", "678"], Last::Nothing), led()),
        (Arriving(&[], Last::Nothing), led()),
        (Arriving(&["123456789"], Last::Nothing), alone()),
        (Arriving(&["1234", "5678", "9", "0"], Last::Nothing), alone()),
        (Arriving(&["1234", "5678", "9", "0"], Last::Error), alone()),
        (Arriving(&["1234"], Last::Trailers), alone()),
        (Arriving(&[], Last::Trailers), alone()),
        (Arriving(&["123456789"], Last::Trailers), alone()),
        (Arriving(&["12", "34"], Last::Error), alone()),
        (Arriving(&[], Last::Error), alone()),
    ];
    on_tokio(move || async move {
        let echo = service_fn(|request: Request<Body>| async move {
            let text = received(request.into_body()).await;
            Ok::<_, io::Error>(Response::new(Body::from(text)))
        });
        let layer = CoalesceLayer::with_policy(Policy::new().max_request_body(8));
        let layered = layer.request_bodies(Body::new).layer(echo);
        for (arriving, expected) in cases {
            let bare = echo.oneshot(arriving.request()).await.expect("a response");
            let response = layered.clone().oneshot(arriving.request()).await.expect("a response");
            assert_eq!(response.extensions().get(), Some(&expected), "{arriving:?}");
            let text = received(Body::new(response.into_body())).await;
            assert_eq!(text, received(bare.into_body()).await, "{arriving:?}");
        }
    });
}

/// What is too large to be read is not held back until it is complete.
#[test]
fn a_body_that_is_too_large_reaches_the_service_as_it_comes() {
    on_tokio(|| async {
        let first = service_fn(|request: Request<Body>| async move {
            let mut body = request.into_body();
            let mut begun = 0;
            while begun < 9 {
                let frame = body.frame().await.expect("there is more").expect("it is read");
                begun += frame.into_data().expect("data").len();
            }
            Ok::<_, io::Error>(Response::new(Body::from(begun.to_string())))
        });
        let layer = CoalesceLayer::with_policy(Policy::new().max_request_body(8));
        let layered = layer.request_bodies(Body::new).layer(first);
        let (mut sender, body) = piecewise();
        let request = Request::builder().method(Method::QUERY).body(body).expect("a request");
        let answered = tokio::spawn(layered.oneshot(request));
        for piece in ["12345678", "9"] {
            sender.send_data(piece.into()).await.expect("it is read");
        }
        // The rest never comes.
        let response = answered.await.expect("no panic").expect("a response");
        assert_eq!(received(Body::new(response.into_body())).await, r#"b"9" None"#);
    });
}

/// Followers of a response that is not shared, or varies, still have their bodies.
#[test]
fn those_who_run_after_all_have_their_content() {
    on_tokio(|| async {
        for (name, value) in [("cache-control", "private"), ("vary", "user-agent")] {
            let (origin, flights) = (Origin::default(), Flights::default());
            let gated = origin.clone();
            let echo = service_fn(move |request: Request<Body>| {
                let origin = gated.clone();
                async move {
                    let (number, _running) = origin.begin();
                    origin.gate.pass(number).await;
                    let text = received(request.into_body()).await;
                    let mut response = Response::new(Body::from(text));
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                    Ok::<_, io::Error>(response)
                }
            });
            let layer = CoalesceLayer::new().request_bodies(Body::new).observer(flights.clone());
            let layered = layer.layer(echo);
            let ask = |agent| {
                let request = Request::from(query("content").with("user-agent", agent));
                tokio::spawn(layered.clone().oneshot(request))
            };
            let mut asked = vec![ask("a")];
            origin.begun.reaches(1).await;
            asked.extend([ask("b"), ask("c")]);
            flights.joined.reaches(2).await;
            origin.gate.open();
            for asked in asked {
                let response = asked.await.expect("no panic").expect("a response");
                let body = response.into_body().collect().await.expect("a body").to_bytes();
                assert_eq!(body, r#"b"content" None"#);
            }
            assert_eq!(origin.begun.get(), 3, "{name}");
        }
    });
}

/// A key begins after the whole body has arrived: two that arrive at the same time share.
#[test]
fn bodies_that_arrive_slowly_share() {
    on_tokio(|| async {
        let (origin, flights) = (Origin::default(), Flights::default());
        let layer = CoalesceLayer::new().request_bodies(Body::new).observer(flights.clone());
        let layered = layer.layer(origin.answering(crate::net::numbered));
        let mut senders = Vec::new();
        let mut asked = Vec::new();
        for _ in 0..2 {
            let (sender, body) = piecewise();
            senders.push(sender);
            let request = Request::builder().method(Method::QUERY).body(body).expect("a request");
            asked.push(tokio::spawn(layered.clone().oneshot(request)));
        }
        for piece in ["12", "34"] {
            for sender in &mut senders {
                sender.send_data(piece.into()).await.expect("it is read");
            }
        }
        drop(senders);
        flights.joined.reaches(1).await;
        origin.gate.open();
        for asked in asked {
            asked.await.expect("no panic").expect("a response");
        }
        assert_eq!(origin.begun.get(), 1);
    });
}

/// Over sockets, and by an axum router under axum's own server.
#[test]
fn a_router_of_axum_shares_queries() {
    on_tokio(|| async {
        let (origin, flights) = (Origin::default(), Flights::default());
        let gated = origin.clone();
        let search = move |content: Bytes| async move {
            let (number, _running) = gated.begin();
            gated.gate.pass(number).await;
            format!("{} by {number}", String::from_utf8_lossy(&content))
        };
        let layer = CoalesceLayer::with_policy(Policy::new().method(Method::POST));
        let router = axum::Router::new()
            .route("/", axum::routing::post(search))
            .layer(layer.observer(flights.clone()));
        let server = crate::net::Server::of_axum(router).await;
        let site = Site { origin, flights, server };
        let mut asked = Vec::new();
        for content in ["a", "b", "a"] {
            asked.push(site.place(&site.http1(), post(content)).await);
        }
        site.origin.gate.open();
        let answers = answers(asked).await;
        let texts: Vec<_> = answers.iter().map(|answer| answer.text()).collect();
        assert_eq!(texts, ["a by 1", "b by 2", "a by 1"]);
    });
}

/// The layer knows nothing of their type, unless it is told.
#[test]
fn bodies_of_other_types_run_alone_until_the_layer_is_told_how_to_give_them_back() {
    use http_body_util::{Full, combinators::UnsyncBoxBody};

    type Boxed = UnsyncBoxBody<Bytes, io::Error>;
    let request = || {
        let body = Full::new(Bytes::from("content")).map_err(|never| match never {});
        Request::builder().method(Method::QUERY).body(Boxed::new(body)).expect("a request")
    };
    on_tokio(move || async move {
        let echo = service_fn(|request: Request<Boxed>| async move {
            let whole = request.into_body().collect().await?;
            Ok::<_, io::Error>(Response::new(Body::from(whole.to_bytes())))
        });
        let untold = CoalesceLayer::new().layer(echo).oneshot(request()).await;
        let told = CoalesceLayer::new().request_bodies(Boxed::new).layer(echo);
        let told = told.oneshot(request()).await;
        let expected = [Coalesced::Alone(Alone::Body), Coalesced::Led { followers: 0 }];
        for (response, expected) in [untold, told].into_iter().zip(expected) {
            let response = response.expect("a response");
            assert_eq!(response.extensions().get(), Some(&expected));
            let body = response.into_body().collect().await.expect("a body");
            assert_eq!(body.to_bytes(), "content");
        }
    });
}
