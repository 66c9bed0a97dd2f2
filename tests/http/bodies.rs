//! Bodies: which are gathered to be shared, which pass through as they come, and what becomes of those
//! that are too large, slow or broken.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, Policy};
use tower::{Layer, ServiceExt};

use crate::{
    common::on_tokio,
    net::{Flights, Origin, Prepared, answers, get, numbers, piecewise},
};

const LARGE: usize = 100_000;

/// As long as that, and each byte tells its place.
fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i % 251) as u8).collect()
}

/// One leader, whose body is prepared, and three followers: their answers.
async fn of_a_leader_and_three(
    prepared: &Prepared,
    policy: Policy,
) -> (crate::net::Answer, Vec<crate::net::Answer>) {
    let site = prepared.site(policy).await;
    site.origin.gate.let_pass(0);
    let leader = site.place(&site.http1(), get("/")).await;
    let followers = site.place_many(3, &get("/")).await;
    assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 3));
    site.origin.gate.open();
    (leader.answer().await, answers(followers).await)
}

/// The body says how long it is, or only the header does: one byte over the limit, and the followers run
/// alone; with that byte allowed they share.
#[test]
fn a_body_whose_length_is_over_the_limit_is_the_leaders_alone() {
    on_tokio(|| async {
        let known = || (Body::from(large()), vec![]);
        let declared = || {
            let (mut sender, body) = piecewise();
            tokio::spawn(async move {
                for piece in large().chunks(7_001) {
                    sender.send_data(Bytes::copy_from_slice(piece)).await.expect("it is read");
                }
            });
            (body, vec![("content-length", "100000")])
        };
        let bodies: [&(dyn Fn() -> (Body, Vec<_>) + Sync); 2] = [&known, &declared];
        for make in bodies {
            let prepared = Prepared::default();
            let (body, headers) = make();
            prepared.add(body, &headers);
            let policy = Policy::new().max_body(LARGE - 1);
            let (leader, followers) = of_a_leader_and_three(&prepared, policy).await;
            assert_eq!(leader.body, large());
            assert_eq!(leader.coalesced, Coalesced::Alone(Alone::TooLarge));
            assert_eq!(numbers(&followers), [2, 3, 4]);
            let alone = Coalesced::Alone(Alone::TooLarge);
            assert!(followers.iter().all(|follower| follower.coalesced == alone), "{followers:?}");

            let (body, headers) = make();
            prepared.add(body, &headers);
            let policy = Policy::new().max_body(LARGE);
            let (leader, followers) = of_a_leader_and_three(&prepared, policy).await;
            assert_eq!(leader.coalesced, Coalesced::Led { followers: 3 });
            assert!(followers.iter().all(|follower| follower.body == large()));
            assert_eq!(leader.body, large());
        }
    });
}

/// It shows at the head: the followers are not kept until as much as the limit has come.
#[test]
fn a_length_over_the_limit_releases_the_followers_before_there_is_any_of_it() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[("content-length", "11")]);
        let site = prepared.site(Policy::new().max_body(10)).await;
        site.origin.gate.let_pass(0);
        let leader = site.place(&site.http1(), get("/")).await;
        let followers = site.place_many(3, &get("/")).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(followers).await), [2, 3, 4]);
        sender.send_data("01234567890".into()).await.expect("it is read");
        drop(sender);
        assert_eq!(leader.answer().await.text(), "01234567890");
    });
}

/// The default limit is a mebibyte.
#[test]
fn a_mebibyte_is_shared_and_no_more() {
    on_tokio(|| async {
        for (length, is_shared) in [(1 << 20, true), ((1 << 20) + 1, false)] {
            let prepared = Prepared::default();
            prepared.add(Body::from(vec![7; length]), &[]);
            let (leader, followers) = of_a_leader_and_three(&prepared, Policy::new()).await;
            assert_eq!(leader.body, vec![7; length]);
            for follower in followers {
                assert_eq!(follower.body == leader.body, is_shared, "{length}");
            }
        }
    });
}

/// With `.streams(true)` it shows only while it is gathered that there is too much. The leader misses
/// nothing of it, and the followers do not wait for the rest.
#[test]
fn a_stream_that_turns_out_too_large_is_the_leaders_alone() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[]);
        let site = prepared.site(Policy::new().streams(true).max_body(10)).await;
        let leader = site.http1();
        let leader = tokio::spawn(async move { leader.open(get("/")).await });
        site.are_placed(1).await;
        let followers = site.place_many(3, &get("/")).await;
        for piece in ["12345", "67890"] {
            sender.send_data(piece.into()).await.expect("it is read");
        }
        // There is room for this when the others have been read, which are within the limit.
        sender.send_data("x".into()).await.expect("it is read");
        let followers = answers(followers).await;
        assert_eq!(numbers(&followers), [2, 3, 4]);
        let alone = Coalesced::Alone(Alone::TooLarge);
        assert!(followers.iter().all(|follower| follower.coalesced == alone), "{followers:?}");

        let leader = leader.await.expect("no panic").expect("a response");
        assert_eq!(leader.coalesced, alone);
        let rest = tokio::spawn(async move {
            for piece in ["y", "z"] {
                sender.send_data(piece.into()).await.expect("it is read");
            }
        });
        assert_eq!(leader.whole().await.expect("it does not break").text(), "1234567890xyz");
        rest.await.expect("it is read");
    });
}

/// The twin: ten bytes of unknown length are within the limit, and shared, but not by default.
#[test]
fn streams_are_shared_if_the_policy_says_so() {
    on_tokio(|| async {
        for is_shared in [true, false] {
            let prepared = Prepared::default();
            let (mut sender, body) = piecewise();
            prepared.add(body, &[]);
            tokio::spawn(async move {
                for piece in ["12345", "", "67890"] {
                    sender.send_data(piece.into()).await.expect("it is read");
                }
            });
            let policy = Policy::new().streams(is_shared).max_body(10);
            let (leader, followers) = of_a_leader_and_three(&prepared, policy).await;
            assert_eq!(leader.text(), "1234567890");
            if is_shared {
                assert!(followers.iter().all(|follower| follower.text() == "1234567890"));
                assert_eq!(leader.coalesced, Coalesced::Led { followers: 3 });
            } else {
                assert_eq!(numbers(&followers), [2, 3, 4]);
                assert_eq!(leader.coalesced, Coalesced::Alone(Alone::Stream));
            }
        }
    });
}

/// The first piece is with the client while the handler still has the second: nothing is held back. Also
/// not events if streams are shared.
#[test]
fn streams_pass_through_as_they_come() {
    let events = ("content-type", "text/event-stream");
    let more = ("content-type", "Text/Event-Stream; charset=utf-8");
    let cases = [
        (Policy::new(), ("content-type", "text/plain")),
        (Policy::new(), events),
        (Policy::new().streams(true), events),
        (Policy::new().streams(true), more),
    ];
    on_tokio(|| async {
        for (policy, kind) in cases {
            let prepared = Prepared::default();
            let (mut sender, body) = piecewise();
            prepared.add(body, &[kind]);
            let site = prepared.site(policy).await;
            site.origin.gate.let_pass(0);
            let leader = site.http1();
            let leader = tokio::spawn(async move { leader.open(get("/")).await });
            site.are_placed(1).await;
            let followers = site.place_many(3, &get("/")).await;
            site.origin.gate.open();
            // Followers do not wait for a body that may have no end.
            let followers = answers(followers).await;
            assert_eq!(numbers(&followers), [2, 3, 4]);
            let alone = Coalesced::Alone(Alone::Stream);
            assert!(followers.iter().all(|follower| follower.coalesced == alone), "{followers:?}");

            let mut leader = leader.await.expect("no panic").expect("a response");
            assert_eq!(leader.coalesced, alone);
            for piece in ["data: 1\n\n", "data: 2\n\n"] {
                sender.send_data(piece.into()).await.expect("it is read");
                assert_eq!(leader.piece().await, piece);
            }
            drop(sender);
            assert_eq!(leader.whole().await.expect("it does not break").text(), "");
        }
    });
}

/// A body of known length that comes slowly is shared whole, also with those who come when half of it is
/// there.
#[test]
fn a_slow_body_is_shared_whole() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        let (mut sender, body) = piecewise();
        prepared.add(body, &[("content-length", "10")]);
        let site = prepared.site(Policy::new()).await;
        let mut asked = site.place_many(2, &get("/")).await;
        for piece in ["01", "234", "5"] {
            sender.send_data(piece.into()).await.expect("it is read");
        }
        // The head was judged when the first piece was taken, which made room for the second.
        asked.push(site.place(&site.http1(), get("/")).await);
        asked.push(site.place(&site.http2(), get("/")).await);
        assert_eq!(site.flights.joined.get(), 3);
        sender.send_data("6789".into()).await.expect("it is read");
        drop(sender);
        let answers = answers(asked).await;
        assert!(answers.iter().all(|answer| answer.text() == "0123456789"), "{answers:?}");
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 3 });
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// The leader's client sees that its body broke off, as it would without the layer. The followers share a
/// retry, and the key is as free as before.
#[test]
fn a_body_that_breaks_off_is_the_leaders_alone() {
    on_tokio(|| async {
        for is_short in [false, true] {
            let prepared = Prepared::default();
            let (mut sender, body) = piecewise();
            prepared.add(body, &[("content-length", "10")]);
            let site = prepared.site(Policy::new().remember(std::time::Duration::ZERO)).await;
            let leader = site.place(&site.http1(), get("/")).await;
            let followers = site.place_many(3, &get("/")).await;
            sender.send_data("01234".into()).await.expect("it is read");
            match is_short {
                // It ends, and is shorter than it said.
                true => drop(sender),
                false => sender.abort(io::ErrorKind::ConnectionReset.into()),
            }
            let followers = answers(followers).await;
            assert_eq!(numbers(&followers), [2, 2, 2]);
            leader.breaks().await;

            let (led, joined) = (site.flights.led.get(), site.flights.joined.get());
            site.origin.gate.let_pass(0);
            let next = site.place_many(2, &get("/")).await;
            assert_eq!((site.flights.led.get(), site.flights.joined.get()), (led + 1, joined + 1));
            site.origin.gate.open();
            assert_eq!(numbers(&answers(next).await), [3, 3]);
        }
    });
}

/// It says one length, and its headers another. No server gets that to a client in one piece, so it is not
/// for others. (Built for debugging, hyper panics over it; so there is no socket here.)
#[test]
fn a_body_of_another_length_than_declared_is_the_leaders_alone() {
    on_tokio(|| async {
        for declared in ["10", "9", "11"] {
            let (origin, flights) = (Origin::default(), Flights::default());
            let service = origin.answering(move |_| {
                let mut response = Response::new(Body::from("0123456789"));
                let declared = HeaderValue::from_static(declared);
                response.headers_mut().insert("content-length", declared);
                response
            });
            let service = CoalesceLayer::new().observer(flights.clone()).layer(service);
            let ask = || tokio::spawn(service.clone().oneshot(Request::from(get("/"))));
            let leader = ask();
            origin.begun.reaches(1).await;
            let follower = ask();
            flights.joined.reaches(1).await;
            origin.gate.open();
            let is_shared = declared == "10";
            for asked in [leader, follower] {
                let response = asked.await.expect("no panic").expect("a response");
                let coalesced = response.extensions().get();
                assert_eq!(coalesced != Some(&Coalesced::Alone(Alone::Failed)), is_shared);
                let body = response.into_body().collect().await.expect("a body");
                assert_eq!(body.to_bytes(), "0123456789");
            }
            assert_eq!(origin.begun.get(), if is_shared { 1 } else { 2 });
        }
    });
}

/// Nothing is something, too.
#[test]
fn an_empty_body_is_shared() {
    on_tokio(|| async {
        let prepared = Prepared::default();
        prepared.add(Body::empty(), &[]);
        let (leader, followers) = of_a_leader_and_three(&prepared, Policy::new().max_body(0)).await;
        assert_eq!(leader.coalesced, Coalesced::Led { followers: 3 });
        assert!(followers.iter().all(|follower| follower.body.is_empty()));
    });
}
