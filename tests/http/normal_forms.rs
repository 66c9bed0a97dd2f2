//! `HeaderRule::Normalized`: requests share by the normal form of a header, and the service sees that form.

use axum::body::Body;
use http::{HeaderValue, Method, Response, header::ACCEPT_ENCODING};
use shardflight::tower::{Alone, Coalesced, HeaderRule, Policy};

use crate::{
    common::on_tokio,
    net::{Ask, Execution, Site, answers, get},
    rows::{Row, alone, apart, by_default, case, check_all},
};

fn coding(accepted: &str) -> Option<HeaderValue> {
    let accepts = |coding| accepted.split(',').any(|one| one.trim() == coding);
    ["br", "gzip"].into_iter().find(|coding| accepts(*coding)).map(HeaderValue::from_static)
}

fn policy() -> Policy {
    Policy::new().header(ACCEPT_ENCODING, HeaderRule::Normalized(coding))
}

fn accepting(codings: &str) -> Ask {
    get("/").with("accept-encoding", codings)
}

fn rows() -> Vec<Row> {
    let pair = || [accepting("gzip, br"), accepting("br, gzip;q=1, zstd")];
    let with_more = |more: &str| accepting("gzip").with("accept-encoding", more);
    vec![
        apart("accept-encoding", by_default(pair()), case(policy(), pair())),
        apart(
            "another normal form",
            case(policy(), [accepting("gzip"), accepting("gzip, br")]),
            case(policy(), [accepting("gzip"), accepting("zstd, gzip")]),
        ),
        apart(
            "what is refused by a weight",
            case(policy(), [accepting("br"), accepting("br;q=0")]),
            case(policy(), [get("/"), accepting("br;q=0")]),
        ),
        // None is none, whoever removed it.
        apart(
            "none",
            case(policy(), [get("/"), accepting("br")]),
            case(policy(), [get("/"), accepting("zstd")]),
        ),
        apart(
            "the second of two lines",
            case(policy(), [with_more("zstd"), with_more("br")]),
            case(policy(), [with_more("br"), accepting("br")]),
        ),
        alone(
            "what is no text",
            Alone::Header(ACCEPT_ENCODING),
            case(policy(), [get("/"), accepting("br\u{e9}")]),
            case(policy(), [accepting("br"), accepting("br")]),
        ),
        apart(
            "`.unlisted`",
            case(
                Policy::new().unlisted(HeaderRule::Normalized(coding)),
                [get("/").with("x-a", "br"), get("/").with("x-b", "br")],
            ),
            case(
                Policy::new().unlisted(HeaderRule::Normalized(coding)),
                [get("/").with("x-a", "br"), get("/").with("x-a", "gzip,br").with("x-b", "zstd")],
            ),
        ),
    ]
}

#[test]
fn requests_share_by_the_normal_form_of_a_header() {
    on_tokio(|| async { check_all(rows(), Site::http1).await });
}

/// What the service has seen of the header.
fn seen(execution: Execution) -> Response<Body> {
    let lines = execution.request.headers().get_all(ACCEPT_ENCODING).iter();
    let lines: Vec<_> = lines.map(|line| line.to_str().expect("text")).collect();
    let mut response = Response::new(Body::from(lines.join(" and ")));
    // Those who share have the same normal form, whatever they sent.
    response.headers_mut().insert("vary", HeaderValue::from_static("accept-encoding"));
    response
}

/// So the coding of the response is one that every follower accepts.
#[test]
fn the_service_sees_the_normal_form() {
    on_tokio(|| async {
        let site = Site::new(policy(), seen).await;
        let lines = accepting("gzip").with("accept-encoding", "br");
        let mut asked = site.place_many(1, &accepting("gzip, br")).await;
        asked.extend(site.place_many(1, &lines).await);
        asked.extend(site.place_many(1, &accepting("br")).await);
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 2));
        // Another, which accepts nothing that is known.
        asked.push(site.place(&site.http1(), accepting("zstd")).await);
        site.origin.gate.open();
        let answers = answers(asked).await;
        let texts: Vec<_> = answers.iter().map(|answer| answer.text()).collect();
        assert_eq!(texts, ["br", "br", "br", ""]);
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 2 });
    });
}

/// A request that does not share reaches the service as it was.
#[test]
fn the_service_sees_what_was_sent_where_nothing_is_shared() {
    on_tokio(|| async {
        let site = Site::new(policy(), seen).await;
        site.origin.gate.open();
        let lines = accepting("gzip").with("accept-encoding", "br");
        for ask in [lines.clone().with("cookie", "a"), lines.method(Method::POST)] {
            let answer = site.http1().send(ask).answer().await;
            assert_eq!(answer.text(), "gzip and br");
        }
    });
}
