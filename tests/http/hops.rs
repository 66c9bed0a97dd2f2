//! Whatever changes what the service sees changes the key: headers that `Connection` nominates, the version of
//! the protocol, and headers whose meaning depends on the method or on a cache behind the layer.

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header};
use shardflight::tower::{Alone, Coalesced, HeaderRule, Policy};
use tower::{ServiceExt, service_fn};

use crate::{
    common::on_tokio,
    net::{Answer, Ask, Asked, Origin, Site, answers, get, numbered},
    rows::{Row, alone, apart, by_default, case, check_all},
};

fn rows_of_connection() -> Vec<Row> {
    let ask = || get("/").with("accept-language", "de");
    let nominating = |options: &[&str]| {
        options.iter().fold(ask(), |ask, options| ask.with("connection", options))
    };
    let nominated: [(&[&str], &[&str]); 10] = [
        (&["close, accept-language"], &["close"]),
        (&["Accept-Language"], &["keep-alive"]),
        (&["x-absent"], &["Keep-Alive"]),
        (&["host"], &["te, trailer, trailers"]),
        (&["keep-alive", "accept-language"], &["keep-alive", "TE"]),
        (&["user-agent"], &["transfer-encoding,, proxy-connection,"]),
        (&["cache-control"], &["http2-settings, connection"]),
        // Against the grammar: nobody knows what a service makes of it.
        (&["close accept-language"], &["close ,\tkeep-alive"]),
        (&["\"close\""], &[""]),
        (&["keep-alive; accept-language"], &[" , "]),
    ];
    let why = || Alone::Header(header::CONNECTION);
    let mut rows: Vec<_> = nominated
        .into_iter()
        .map(|(options, usual)| {
            alone(
                format!("connection: {options:?}"),
                why(),
                by_default([ask(), nominating(options)]),
                by_default([ask(), nominating(usual)]),
            )
        })
        .collect();
    // What some servers read in its place.
    let proxied = |options: &str| ask().with("proxy-connection", options);
    rows.push(alone(
        "proxy-connection",
        Alone::Header(HeaderName::from_static("proxy-connection")),
        by_default([ask(), proxied("keep-alive, accept-language")]),
        by_default([ask(), proxied("Keep-Alive")]),
    ));
    // By another rule of the policy.
    let rule = |rule| Policy::new().header(header::CONNECTION, rule);
    let pair = || [ask(), nominating(&["accept-language"])];
    let same = || [nominating(&["accept-language"]), nominating(&["accept-language"])];
    rows.push(alone(
        "connection, `.header` Ignore",
        why(),
        by_default(pair()),
        case(rule(HeaderRule::Ignore), pair()),
    ));
    rows.push(apart(
        "connection, `.header` Key",
        case(rule(HeaderRule::Key), pair()),
        case(rule(HeaderRule::Key), same()),
    ));
    rows
}

#[test]
fn requests_whose_connection_nominates_a_header_run_alone() {
    on_tokio(|| async { check_all(rows_of_connection(), Site::http1).await });
}

/// As intermediaries do it (RFC 9110, 7.6.1).
fn without_nominated(headers: &mut HeaderMap) {
    let options = headers.get_all(header::CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let names: Vec<HeaderName> = options
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in names {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
}

/// A service that removes nominated headers gives the client that nominated one the page without it, and that
/// client alone.
#[test]
fn a_header_taken_away_by_connection_does_not_change_the_answer_of_others() {
    on_tokio(|| async {
        let origin = Origin::default();
        let page = origin.answering(|execution| {
            let language = execution.request.headers().get("accept-language");
            let language = language.map_or("none", |value| value.to_str().expect("text"));
            Response::builder()
                .header("vary", "accept-language")
                .body(Body::from(language.to_owned()))
                .expect("a response")
        });
        let page = service_fn(move |mut request: Request<Body>| {
            without_nominated(request.headers_mut());
            page.clone().oneshot(request)
        });
        let site = Site::of(origin, Policy::new(), page).await;
        let mut asked = Vec::new();
        for connection in ["close, accept-language", "close", "keep-alive"] {
            let ask = get("/").with("accept-language", "de").with("connection", connection);
            asked.push(site.place(&site.http1(), ask).await);
        }
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (2, 1));
        site.origin.gate.open();
        let answers = answers(asked).await;
        let texts: Vec<_> = answers.iter().map(Answer::text).collect();
        assert_eq!(texts, ["none", "de", "de"]);
    });
}

/// With `OPTIONS` and `TRACE`, `Max-Forwards` says which server is to answer.
#[test]
fn requests_for_another_server_on_the_way_are_apart() {
    let rows = || {
        let of = |hops| get("/").method(Method::OPTIONS).with("max-forwards", hops);
        let sharing = || Policy::new().method(Method::OPTIONS);
        vec![apart(
            "max-forwards",
            case(sharing(), [of("0"), of("1")]),
            case(sharing(), [of("0"), of("0")]),
        )]
    };
    on_tokio(move || async move { check_all(rows(), Site::http1).await });
}

fn in_version(version: Version) -> Request<Body> {
    Request::get("/").version(version).header("host", "a.test").body(Body::empty()).expect("valid")
}

/// A handler sees a client of HTTP/1.0, and may answer it in another way.
#[test]
fn requests_of_http_1_0_share_with_each_other_alone() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let (old, new) = (Version::HTTP_10, Version::HTTP_11);
        let mut asked = Vec::new();
        for (i, version) in [old, new, old, new].into_iter().enumerate() {
            asked.push(Asked::exactly(&site.server, in_version(version)).await);
            site.are_placed(i + 1).await;
        }
        site.origin.gate.open();
        let numbers: Vec<_> = answers(asked).await.iter().map(Answer::number).collect();
        assert_eq!(numbers, [1, 2, 1, 2]);
    });
}

/// Directives with which a cache behind the layer answers what it would not answer to others.
fn rows_of_directives() -> Vec<Row> {
    let saying = |directives: &str| get("/").with("cache-control", directives);
    let bending = ["max-stale", "max-stale=60", "max-age=9, Max-Stale", "only-if-cached"];
    let more = ["no-transform", "stale-if-error=60"];
    let mut rows: Vec<_> = bending
        .into_iter()
        .chain(more)
        .map(|directives| {
            apart(
                format!("cache-control: {directives}"),
                by_default([get("/"), saying(directives)]),
                by_default([saying(directives), saying(directives)]),
            )
        })
        .collect();
    rows.push(apart(
        "cache-control: max-stale or max-age",
        by_default([saying("max-age=9"), saying("max-stale=9")]),
        by_default([saying("max-age=9"), saying("min-fresh=9")]),
    ));
    rows
}

#[test]
fn requests_that_a_cache_would_answer_otherwise_are_apart() {
    on_tokio(|| async { check_all(rows_of_directives(), Site::http1).await });
}

/// `.share_no_cache(true)`: they share with each other, however they say it, and with no others.
fn rows_of_no_cache() -> Vec<Row> {
    let sharing = || Policy::new().share_no_cache(true);
    let saying = |directives: &str| get("/").with("cache-control", directives);
    let fresh = || saying("no-cache");
    let pragma = || get("/").with("pragma", "no-cache");
    let twice = |ask: Ask| [ask.clone(), ask];
    let why = |name| Alone::Header(name);
    let cache_control = || why(header::CACHE_CONTROL);
    vec![
        alone(
            "no-cache, by default",
            cache_control(),
            by_default([get("/"), fresh()]),
            case(sharing(), twice(fresh())),
        ),
        alone(
            "pragma: no-cache, by default",
            why(header::PRAGMA),
            by_default([get("/"), pragma()]),
            case(sharing(), twice(pragma())),
        ),
        apart(
            "no-cache and nothing",
            case(sharing(), [get("/"), fresh()]),
            case(sharing(), [fresh(), pragma()]),
        ),
        apart(
            "no-cache and max-age",
            case(sharing(), [saying("max-age=9"), fresh()]),
            case(sharing(), [saying("No-Cache, max-age=0"), fresh().with("pragma", "no-cache")]),
        ),
        alone(
            "no-store, although no-cache is shared",
            cache_control(),
            case(sharing(), [get("/"), saying("no-store")]),
            case(sharing(), twice(fresh())),
        ),
        alone(
            "no-store beside no-cache",
            cache_control(),
            case(sharing(), [get("/"), saying("no-cache, no-store")]),
            case(sharing(), twice(saying("no-cache, x-no-store"))),
        ),
    ]
}

#[test]
fn requests_with_no_cache_share_with_each_other_if_the_policy_says_so() {
    on_tokio(|| async { check_all(rows_of_no_cache(), Site::http1).await });
}

/// The service is told that the answer has to be fresh.
#[test]
fn the_service_sees_no_cache_where_it_is_shared() {
    on_tokio(|| async {
        let site = Site::new(Policy::new().share_no_cache(true), |execution| {
            let directives = execution.request.headers().get("cache-control").cloned();
            let directives = directives.unwrap_or(HeaderValue::from_static("none"));
            Response::new(Body::from(directives.to_str().expect("text").to_owned()))
        });
        let site = site.await;
        let ask = get("/").with("cache-control", "no-cache");
        let asked = site.place_many(3, &ask).await;
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 2));
        site.origin.gate.open();
        let answers = answers(asked).await;
        assert!(answers.iter().all(|answer| answer.text() == "no-cache"), "{answers:?}");
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 2 });
    });
}
