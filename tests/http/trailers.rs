//! Trailers: they follow the body to everybody, and are judged as the head is. Those that are about a connection
//! stay with it.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use http_body_util::BodyExt;
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, Policy};
use tower::{Layer, ServiceExt};

use crate::{
    common::on_tokio,
    net::{Answer, Flights, Origin, Prepared, answers, get, piecewise},
};

/// What follows the body follows it everywhere. HTTP/1.1 has no place for trailers that were not
/// announced; there they are left out.
#[test]
fn trailers_reach_everybody() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        for is_empty in [false, true] {
            let (mut sender, body) = piecewise();
            prepared.add(body, &[]);
            let site = prepared.site(Policy::new().streams(true)).await;
            let (first, second) = (site.http2(), site.http2());
            let mut asked = Vec::new();
            for client in [&first, &first, &second, &site.http1()] {
                asked.push(site.place(client, get("/")).await);
            }
            if !is_empty {
                sender.send_data("body".into()).await.expect("it is read");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            sender.send_trailers(trailers.clone()).await.expect("it is read");
            drop(sender);
            let answers = answers(asked).await;
            assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 3 });
            for (i, answer) in answers.iter().enumerate() {
                assert_eq!(answer.text(), if is_empty { "" } else { "body" });
                let is_http2 = i < 3;
                assert_eq!(answer.trailers.as_ref(), is_http2.then_some(&trailers), "{i}");
            }
        }
    });
}

/// Where they are announced, and asked for, HTTP/1.1 has a place for them.
#[test]
fn trailers_that_were_announced_reach_everybody_over_http1() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[("trailer", "x-checksum")]);
        let site = prepared.site(Policy::new().streams(true)).await;
        let asking = get("/").with("te", "trailers");
        let mut asked = site.place_many(2, &asking).await;
        asked.push(site.place(&site.http1(), get("/")).await);
        sender.send_data("body".into()).await.expect("it is read");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("1"));
        sender.send_trailers(trailers.clone()).await.expect("it is read");
        drop(sender);
        let answers = answers(asked).await;
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 2 });
        let got = answers.iter().map(|answer| answer.trailers.as_ref());
        // Who has not asked for them gets none.
        assert_eq!(got.collect::<Vec<_>>(), [Some(&trailers), Some(&trailers), None]);
    });
}

fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_static(value));
    }
    map
}

/// Three requests over HTTP/2, of which the first is answered with these trailers, and the others with an empty
/// body if they are executed: the answers, and how many were executed.
async fn three(
    policy: Policy,
    head: &[(&'static str, &'static str)],
    trailers: &HeaderMap,
) -> (Vec<Answer>, usize) {
    let prepared = Prepared::default();
    let (mut sender, body) = piecewise();
    prepared.add(body, head);
    let site = prepared.site(policy.streams(true)).await;
    let client = site.http2();
    site.origin.gate.let_pass(0);
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(site.place(&client, get("/").with("x-a", "1")).await);
    }
    assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 2));
    site.origin.gate.open();
    sender.send_data("body".into()).await.expect("it is read");
    sender.send_trailers(trailers.clone()).await.expect("it is read");
    drop(sender);
    (answers(asked).await, site.origin.begun.get())
}

/// What would have kept the head from being shared keeps the response from it: the leader gets all of it, and the
/// followers nothing.
#[test]
fn trailers_that_forbid_sharing_are_the_leaders_alone() {
    let rows = [
        (("set-cookie", "session=alice"), ("x-set-cookie", "session=alice")),
        (("cache-control", "private"), ("cache-control", "public")),
        (("cache-control", "max-age=1, no-store"), ("cache-control", "max-age=1")),
        (("cache-control", "no-cache"), ("expires", "0")),
        (("vary", "*"), ("vary", "x-a")),
        (("vary", "a b"), ("vary", "x-a, user-agent")),
        (("grpc-status", "5"), ("grpc-status", "0")),
    ];
    on_tokio(move || async move {
        for (forbidden, allowed) in rows {
            let (forbidden, allowed) = (fields(&[forbidden]), fields(&[("x-sum", "1"), allowed]));
            let (answers, executions) = three(Policy::new(), &[], &forbidden).await;
            assert_eq!(executions, 3, "{forbidden:?}");
            let name = forbidden.keys().next().expect("there is one").clone();
            let alone = Coalesced::Alone(Alone::ResponseHeader(name));
            assert!(answers.iter().all(|answer| answer.coalesced == alone), "{answers:?}");
            assert_eq!(
                (answers[0].text(), answers[0].trailers.as_ref()),
                ("body", Some(&forbidden))
            );
            for follower in &answers[1..] {
                assert_ne!(follower.text(), "body");
                assert_eq!(follower.trailers, None, "{forbidden:?}");
            }

            let (answers, executions) = three(Policy::new(), &[], &allowed).await;
            assert_eq!(executions, 1, "the twin: {allowed:?}");
            for answer in answers {
                assert_eq!((answer.text(), answer.trailers.as_ref()), ("body", Some(&allowed)));
            }
        }
    });
}

/// The policy has the last word on them, too.
#[test]
fn the_policy_overrules_what_trailers_say() {
    on_tokio(|| async {
        let cookie = fields(&[("set-cookie", "theme=dark")]);
        for is_overruled in [true, false] {
            let policy = Policy::new().responses(move |_, standard| standard || is_overruled);
            let (answers, executions) = three(policy, &[], &cookie).await;
            assert_eq!(executions, if is_overruled { 1 } else { 3 });
            assert_eq!(answers[2].trailers.is_some(), is_overruled);
        }
    });
}

/// Trailers that vary on a header outside of the key.
#[test]
fn responses_vary_on_what_their_trailers_say() {
    on_tokio(|| async {
        for (vary, executions) in [("user-agent", 2), ("accept", 1)] {
            let prepared = Prepared::default();
            let (mut sender, body) = piecewise();
            prepared.add(body, &[]);
            let site = prepared.site(Policy::new().streams(true)).await;
            let client = site.http2();
            site.origin.gate.let_pass(0);
            let leader = site.place(&client, get("/").with("user-agent", "a")).await;
            let alike = site.place(&client, get("/").with("user-agent", "a")).await;
            let other = site.place(&client, get("/").with("user-agent", "b")).await;
            assert_eq!(site.flights.joined.get(), 2);
            site.origin.gate.open();
            sender.send_trailers(fields(&[("vary", vary)])).await.expect("it is read");
            drop(sender);
            let answers = answers([leader, alike, other]).await;
            assert_eq!(site.origin.begun.get(), executions, "{vary}");
            assert_eq!(answers[1].coalesced, Coalesced::Joined);
            assert_eq!(answers[2].text(), if executions == 2 { "2" } else { "" });
        }
    });
}

/// Trailers about a connection stay with the request that was executed: those that are known, those that the head
/// nominates, and those that the trailers do.
#[test]
fn followers_get_no_trailers_about_a_connection() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[("connection", "x-of-head")]);
        // hyper sends none of these over a socket; another server might.
        let trailers = fields(&[
            ("connection", "x-of-trailers"),
            ("keep-alive", "timeout=5"),
            ("proxy-authenticate", "basic"),
            ("x-of-head", "1"),
            ("x-of-trailers", "1"),
            ("x-sum", "1"),
        ]);
        sender.send_trailers(trailers.clone()).await.expect("there is room");
        drop(sender);
        let (leader, follower) = leader_and_follower(&prepared).await;
        assert_eq!(leader, Some(trailers));
        assert_eq!(follower, Some(fields(&[("x-sum", "1")])));

        let (mut sender, body) = piecewise();
        prepared.add(body, &[]);
        let trailers = fields(&[("keep-alive", "timeout=5")]);
        sender.send_trailers(trailers.clone()).await.expect("there is room");
        drop(sender);
        assert_eq!(leader_and_follower(&prepared).await, (Some(trailers), None));
    });
}

/// The trailers as they leave the layer.
async fn leader_and_follower(prepared: &Prepared) -> (Option<HeaderMap>, Option<HeaderMap>) {
    let (origin, flights) = (Origin::default(), Flights::default());
    let prepared = prepared.clone();
    let service = origin.answering(move |_| prepared.next().expect("one is prepared"));
    let layer = CoalesceLayer::with_policy(Policy::new().streams(true));
    let service = layer.observer(flights.clone()).layer(service);
    let ask = || tokio::spawn(service.clone().oneshot(Request::from(get("/"))));
    let leader = ask();
    origin.begun.reaches(1).await;
    let follower = ask();
    flights.joined.reaches(1).await;
    origin.gate.open();
    let mut trailers = Vec::new();
    for asked in [leader, follower] {
        let response = asked.await.expect("no panic").expect("a response");
        let whole = response.into_body().collect().await.expect("a body");
        trailers.push(whole.trailers().cloned());
    }
    let follower = trailers.pop().expect("two");
    (trailers.pop().expect("two"), follower)
}

/// A head that may be shared does not end what the trailers have shown.
#[test]
fn what_trailers_forbid_is_remembered_past_a_harmless_head() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[]);
        let site = prepared.site(Policy::new().streams(true)).await;
        sender.send_trailers(fields(&[("set-cookie", "a=1")])).await.expect("there is room");
        drop(sender);
        let why = Alone::ResponseHeader(header::SET_COOKIE);
        let client = site.http2();
        let coalesced = || async { client.send(get("/")).answer().await.coalesced };
        assert_eq!(coalesced().await, Coalesced::Alone(why));
        for _ in 0..3 {
            assert_eq!(coalesced().await, Coalesced::Alone(Alone::Remembered));
        }
    });
}

/// A call of gRPC that fails says so in its head if it has no body.
#[test]
fn a_failed_call_of_grpc_is_the_leaders_alone() {
    on_tokio(|| async {
        for (status, executions) in [("5", 3), ("0", 1)] {
            let prepared = Prepared::default();
            prepared.add(axum::body::Body::empty(), &[("grpc-status", status)]);
            let site = prepared.site(Policy::new()).await;
            site.origin.gate.let_pass(0);
            let asked = site.place_many(3, &get("/")).await;
            site.origin.gate.open();
            let answers = answers(asked).await;
            assert_eq!(site.origin.begun.get(), executions);
            let why = Alone::ResponseHeader(HeaderName::from_static("grpc-status"));
            assert_eq!(answers[0].coalesced == Coalesced::Alone(why), executions == 3);
        }
    });
}
