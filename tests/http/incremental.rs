//! `Incremental: ?1` (RFC 10036): messages that are to be forwarded as they arrive.

use axum::body::Body;
use http::HeaderName;
use shardflight::tower::{Alone, Coalesced, HeaderRule, Policy};

use crate::{
    common::on_tokio,
    net::{Prepared, Site, answers, get, numbers, piecewise},
    rows::{Row, alone, apart, by_default, case, check_all},
};

fn incremental() -> HeaderName {
    HeaderName::from_static("incremental")
}

fn rows() -> Vec<Row> {
    let saying = |value: &str| get("/").with("incremental", value);
    let why = || Alone::Header(incremental());
    let mut rows: Vec<_> = [("?1", "?0"), ("?1;a=1", "1"), (" ?1 ", "?1, ?1"), ("?1; b", "?1x")]
        .into_iter()
        .map(|(value, not_true)| {
            let twin = by_default([saying(not_true), saying(not_true)]);
            alone(
                format!("incremental: {value}"),
                why(),
                by_default([get("/"), saying(value)]),
                twin,
            )
        })
        .collect();
    let ignoring = Policy::new().header(incremental(), HeaderRule::Ignore);
    let pair = || [get("/"), saying("?1")];
    rows.push(alone("incremental, `.header`", why(), by_default(pair()), case(ignoring, pair())));
    rows.push(apart(
        "what is not true is in the key",
        by_default([get("/"), saying("?0")]),
        by_default([saying("?0"), saying("?0")]),
    ));
    rows
}

#[test]
fn incremental_requests_run_alone() {
    on_tokio(|| async { check_all(rows(), Site::http1).await });
}

/// The first piece is with the client while the handler still has the second, also where the length is known or
/// streams are shared.
#[test]
fn incremental_responses_pass_through_as_they_come() {
    on_tokio(|| async {
        // No function overrules it.
        let overruling = Policy::new().responses(|_, _| true);
        for policy in [Policy::new(), Policy::new().streams(true), overruling] {
            let prepared = Prepared::default();
            let (mut sender, body) = piecewise();
            prepared.add(body, &[("incremental", "?1"), ("content-length", "4")]);
            let site = prepared.site(policy).await;
            site.origin.gate.let_pass(0);
            let leader = site.http1();
            let leader = tokio::spawn(async move { leader.open(get("/")).await });
            site.are_placed(1).await;
            let followers = site.place_many(3, &get("/")).await;
            site.origin.gate.open();
            let followers = answers(followers).await;
            assert_eq!(numbers(&followers), [2, 3, 4]);
            let alone = Coalesced::Alone(Alone::ResponseHeader(incremental()));
            assert!(followers.iter().all(|follower| follower.coalesced == alone), "{followers:?}");

            let mut leader = leader.await.expect("no panic").expect("a response");
            assert_eq!(leader.coalesced, alone);
            for piece in ["12", "34"] {
                sender.send_data(piece.into()).await.expect("it is read");
                assert_eq!(leader.piece().await, piece);
            }
        }
    });
}

/// The twin: what is no true boolean is ignored.
#[test]
fn responses_that_are_not_incremental_are_shared() {
    on_tokio(|| async {
        for value in ["?0", "?1, ?1", "true"] {
            let prepared = Prepared::default();
            prepared.add(Body::from("1"), &[("incremental", value)]);
            let site = prepared.site(Policy::new()).await;
            site.origin.gate.let_pass(0);
            let asked = site.place_many(3, &get("/")).await;
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1, 1, 1], "{value}");
        }
    });
}
