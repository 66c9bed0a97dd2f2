//! Which requests share, rule by rule.

use axum::body::Body;
use http::{HeaderName, Method, Request, header};
use shardflight::tower::{Alone, Coalesced, HeaderRule, Policy};

use crate::{
    common::on_tokio,
    net::{Answer, Ask, Asked, Site, answers, get, numbered},
    rows::{LED, Row, alone, apart, by_default, case, check_all},
};

/// Method, authority, path and query.
fn rows_of_the_target() -> Vec<Row> {
    let twice = |ask: Ask| by_default([ask.clone(), ask]);
    let pair = |a: &str, b: &str| by_default([get(a), get(b)]);
    let same = |target: &str| twice(get(target));
    let head = || get("/").method(Method::HEAD);
    vec![
        apart("GET and HEAD", by_default([get("/"), head()]), twice(head())),
        apart("path", pair("/a", "/b"), same("/a")),
        apart("path in capitals", pair("/a", "/A"), same("/A")),
        apart("path with a slash", pair("/a", "/a/"), same("/a/")),
        apart("escaped path", pair("/a", "/%61"), same("/%61")),
        apart("dots in the path", pair("/b", "/a/../b"), same("/a/../b")),
        apart("query", pair("/?a=1", "/?a=2"), same("/?a=1")),
        apart("query or none", pair("/", "/?a=1"), same("/?a=1&b=2")),
        apart("empty query", pair("/", "/?"), same("/?")),
        apart("order of the query", pair("/?a=1&b=2", "/?b=2&a=1"), same("/?b=2&a=1")),
        apart("query or path", pair("/a?b", "/a/b"), same("/a?b")),
        apart(
            "authority",
            by_default([get("/").at("a.test"), get("/").at("b.test")]),
            by_default([get("/").at("a.test"), get("/").at("A.Test")]),
        ),
        apart(
            "port",
            by_default([get("/").at("a.test"), get("/").at("a.test:8080")]),
            twice(get("/").at("a.test:8080")),
        ),
    ]
}

/// Those whose rule is that a request with them runs alone.
const ALONE: [&str; 10] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "range",
    "if-range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "upgrade",
];

/// Those that are not looked at.
const IGNORED: [&str; 69] = [
    "alt-used",
    "b3",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-ray",
    "content-length",
    "correlation-id",
    "dnt",
    "elastic-apm-traceparent",
    "fastly-client-ip",
    "fly-client-ip",
    "fly-request-id",
    "grpc-trace-bin",
    "host",
    "http2-settings",
    "keep-alive",
    "newrelic",
    "priority",
    "referer",
    "request-id",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-user",
    "sec-gpc",
    "sentry-trace",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "true-client-ip",
    "uber-trace-id",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-amz-cf-id",
    "x-amzn-trace-id",
    "x-arr-log-id",
    "x-azure-clientip",
    "x-azure-ref",
    "x-azure-socketip",
    "x-b3-flags",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-spanid",
    "x-b3-traceid",
    "x-client-ip",
    "x-cloud-trace-context",
    "x-cluster-client-ip",
    "x-correlation-id",
    "x-datadog-origin",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-datadog-tags",
    "x-datadog-trace-id",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-original-forwarded-for",
    "x-ot-span-context",
    "x-queue-start",
    "x-real-ip",
    "x-request-id",
    "x-request-start",
    "x-trace-id",
    "x-varnish",
    "x-vercel-id",
];

/// Of these, what no client can send as it likes.
const FRAMING: [&str; 3] = ["content-length", "host", "transfer-encoding"];

/// All others are in the key. Some of them: what is asked for, what frameworks read in place of the URI, and
/// who asks, as gateways and services write it.
const IN_KEY: [&str; 85] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "content-type",
    "max-forwards",
    "origin",
    "forwarded",
    "prefer",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-requested-with",
    "x-rewrite-url",
    "x-tenant",
    "x-tenant-id",
    "api-key",
    "apikey",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "cookie2",
    "fly-client-cert",
    "impersonate-user",
    "private-token",
    "remote-email",
    "remote-groups",
    "remote-user",
    "ssl-client-cert",
    "tailscale-user-login",
    "tailscale-user-name",
    "x-access-token",
    "x-amz-security-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-api-key",
    "x-apikey",
    "x-auth-request-access-token",
    "x-auth-request-email",
    "x-auth-request-preferred-username",
    "x-auth-request-user",
    "x-auth-token",
    "x-authenticated-user",
    "x-authentik-username",
    "x-authorization",
    "x-client-cert",
    "x-consumer-id",
    "x-csrf-token",
    "x-email",
    "x-endpoint-api-userinfo",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-nobody-has-heard-of",
    "x-pomerium-jwt-assertion",
    "x-remote-user",
    "x-session-id",
    "x-session-token",
    "x-user",
    "x-user-id",
    "x-vault-token",
    "x-webauth-user",
    "x-xsrf-token",
];

fn rows_of_headers() -> Vec<Row> {
    let mut rows = Vec::new();
    // A header without a value is one, too.
    for (name, value) in ALONE.map(|name| (name, "1")).into_iter().chain([("cookie", "")]) {
        let rule = HeaderName::from_static(name);
        let pair = || [get("/"), get("/").with(name, value)];
        let ignoring = Policy::new().header(rule.clone(), HeaderRule::Ignore);
        rows.push(alone(name, Alone::Header(rule), by_default(pair()), case(ignoring, pair())));
    }
    for name in IN_KEY {
        let rule = HeaderName::from_static(name);
        let ignoring = || Policy::new().header(rule.clone(), HeaderRule::Ignore);
        let one = || get("/").with(name, "1");
        let pair = || [one(), get("/").with(name, "2")];
        rows.push(apart(name, by_default(pair()), by_default([one(), one()])));
        let pair = || [one(), get("/")];
        rows.push(apart(format!("{name} or none"), by_default(pair()), case(ignoring(), pair())));
        let pair = || [one(), one().with(name, "2")];
        rows.push(apart(format!("{name} twice"), by_default(pair()), case(ignoring(), pair())));
    }
    for name in IGNORED.into_iter().filter(|name| !FRAMING.contains(name)) {
        let keyed = Policy::new().header(HeaderName::from_static(name), HeaderRule::Key);
        let pair = || [get("/").with(name, "1"), get("/").with(name, "2")];
        rows.push(apart(format!("{name}, `.header`"), case(keyed, pair()), by_default(pair())));
    }
    let two = |a, b| by_default([get("/").with("accept", a), get("/").with("accept", b)]);
    rows.push(apart("in capitals", two("a", "A"), two("A", "A")));
    rows.push(apart(
        "empty or none",
        by_default([get("/"), get("/").with("x-a", "")]),
        two("", ""),
    ));
    let of = |headers: &[(&str, &str)]| {
        headers.iter().fold(get("/"), |ask, (name, value)| ask.with(name, value))
    };
    let apart_or_same = |name: &str, a: &[(&str, &str)], b: &[(&str, &str)]| {
        apart(name, by_default([of(a), of(b)]), by_default([of(b), of(b)]))
    };
    // The same text, spread over other headers.
    rows.extend([
        apart_or_same("names of neighbours", &[("x-a", "1")], &[("x-b", "1")]),
        apart_or_same(
            "values of neighbours",
            &[("x-a", "ab"), ("x-b", "c")],
            &[("x-a", "a"), ("x-b", "bc")],
        ),
        apart_or_same(
            "values that are swapped",
            &[("x-a", "1"), ("x-b", "2")],
            &[("x-a", "2"), ("x-b", "1")],
        ),
        apart_or_same("a name in a value", &[("x-a", "1"), ("x-b", "2")], &[("x-a", "1x-b2")]),
        // It costs those who pay attention to it nothing.
        apart_or_same("their order", &[("x-a", "1"), ("x-b", "2")], &[("x-b", "2"), ("x-a", "1")]),
    ]);
    rows
}

/// What `Cache-Control` and `Pragma` of a request say.
fn rows_of_directives() -> Vec<Row> {
    let mut rows = Vec::new();
    let directives = [
        ("cache-control", "no-store"),
        ("cache-control", "no-cache"),
        ("cache-control", "No-Store"),
        ("cache-control", "max-age=0, no-cache"),
        ("cache-control", "max-age=0 ,\tno-store ,x"),
        ("pragma", "no-cache"),
    ];
    for (name, value) in directives {
        let rule = HeaderName::from_static(name);
        let pair = || [get("/"), get("/").with(name, value)];
        let ignoring = Policy::new().header(rule.clone(), HeaderRule::Ignore);
        let title = format!("{name}: {value}");
        rows.push(alone(title, Alone::Header(rule), by_default(pair()), case(ignoring, pair())));
    }
    let pair =
        [get("/"), get("/").with("cache-control", "max-age=9").with("cache-control", "no-store")];
    let twin =
        [get("/"), get("/").with("cache-control", "max-age=9").with("cache-control", "x-no-store")];
    let why = Alone::Header(header::CACHE_CONTROL);
    rows.push(alone("the second of two headers", why, by_default(pair), by_default(twin)));
    rows
}

fn rows_of_methods_and_bodies() -> Vec<Row> {
    let mut rows = Vec::new();
    let extension = Method::from_bytes(b"PURGE").expect("a method");
    for method in [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        extension,
    ] {
        let ask = || get("/").method(method.clone());
        let sharing = Policy::new().method(method.clone());
        let name = format!("{method}, `.method`");
        rows.push(alone(
            name,
            Alone::Method,
            by_default([get("/"), ask()]),
            case(sharing, [ask(), ask()]),
        ));
    }
    let posting = || Policy::new().method(Method::POST);
    let post = || get("/").method(Method::POST);
    rows.push(apart(
        "GET and POST",
        case(posting(), [get("/"), post()]),
        case(posting(), [post(), post()]),
    ));
    rows.push(alone(
        "POST with a body that is not read, `.method`",
        Alone::Body,
        case(posting().max_request_body(0), [post(), post().body("a")]),
        case(posting(), [post(), post().with("content-length", "0")]),
    ));
    rows.push(alone(
        "GET with a body",
        Alone::Body,
        by_default([get("/"), get("/").body("a")]),
        by_default([get("/"), get("/").with("content-length", "0")]),
    ));
    rows.push(alone(
        "GET with a body of unknown length",
        Alone::Body,
        by_default([get("/"), get("/").body("a").chunked().with("transfer-encoding", "chunked")]),
        by_default([get("/"), get("/")]),
    ));
    rows
}

/// What a policy says that is not the default one.
fn rows_of_options() -> Vec<Row> {
    let name = || HeaderName::from_static("x-a");
    let ask = |value| get("/").with("x-a", value);
    let differ = || [ask("1"), ask("2")];
    let rule = |rule| Policy::new().header(name(), rule);
    let unlisted = |rule| Policy::new().unlisted(rule);
    let ignoring = || rule(HeaderRule::Ignore);
    let of_header = |parts: &http::request::Parts| {
        parts.headers.get("x-a").map(|value| value.to_str().expect("text").to_owned())
    };
    let may = |parts: &http::request::Parts| !parts.uri.path().starts_with("/live");
    let by_path = || Policy::new().target(|uri| uri.path().to_owned());
    let queries = || [get("/?a=1"), get("/?a=2")];
    let authorized = |user| get("/").with("authorization", user);
    let by_user = || Policy::new().header(header::AUTHORIZATION, HeaderRule::Key);
    vec![
        apart("`.header` Ignore", by_default(differ()), case(ignoring(), differ())),
        alone(
            "`.header` Alone",
            Alone::Header(name()),
            case(rule(HeaderRule::Alone), [get("/"), ask("1")]),
            case(ignoring(), [get("/"), ask("1")]),
        ),
        apart(
            "`.unlisted` Ignore",
            by_default(differ()),
            case(unlisted(HeaderRule::Ignore), differ()),
        ),
        apart(
            "`.unlisted` Ignore, but for those with a rule",
            case(rule(HeaderRule::Key).unlisted(HeaderRule::Ignore), differ()),
            case(rule(HeaderRule::Ignore).unlisted(HeaderRule::Alone), differ()),
        ),
        alone(
            "`.unlisted` Alone",
            Alone::Header(name()),
            case(unlisted(HeaderRule::Alone), [get("/"), ask("1")]),
            case(unlisted(HeaderRule::Alone), [get("/"), get("/").with("user-agent", "1")]),
        ),
        alone(
            "`.header` Directives",
            Alone::Header(name()),
            case(rule(HeaderRule::Directives), [get("/"), ask("no-store")]),
            case(rule(HeaderRule::Directives), [get("/"), ask("store")]),
        ),
        apart(
            "`.header` Key in place of Alone",
            case(by_user(), [authorized("a"), authorized("b")]),
            case(by_user(), [authorized("a"), authorized("a")]),
        ),
        apart("`.key`", case(ignoring().key(of_header), differ()), case(ignoring(), differ())),
        alone(
            "`.key` that is none",
            Alone::Policy,
            case(ignoring().key(of_header), [ask("1"), get("/")]),
            case(ignoring().key(of_header), [ask("1"), ask("1")]),
        ),
        apart("`.target`", by_default(queries()), case(by_path(), queries())),
        apart(
            "`.target` that differs",
            case(by_path(), [get("/a?b"), get("/b?b")]),
            case(by_path(), [get("/a?b"), get("/a?c")]),
        ),
        alone(
            "`.requests`",
            Alone::Policy,
            case(
                Policy::new().requests(|parts| !parts.headers.contains_key("x-a")),
                [get("/"), ask("1")],
            ),
            case(ignoring().requests(may), [get("/a"), get("/a").with("x-a", "1")]),
        ),
        // It does not overrule the others.
        alone(
            "`.requests` that says yes",
            Alone::Header(header::COOKIE),
            case(Policy::new().requests(|_| true), [get("/"), get("/").with("cookie", "a")]),
            case(Policy::new().requests(|_| true), [get("/"), get("/")]),
        ),
    ]
}

#[test]
fn requests_share_by_method_authority_path_and_query() {
    on_tokio(|| async { check_all(rows_of_the_target(), Site::http1).await });
}

#[test]
fn requests_share_by_method_authority_path_and_query_over_http2() {
    on_tokio(|| async { check_all(rows_of_the_target(), Site::http2).await });
}

#[test]
fn requests_with_private_headers_run_alone_and_other_headers_are_in_the_key() {
    on_tokio(|| async { check_all(rows_of_headers(), Site::http1).await });
}

#[test]
fn requests_that_want_a_fresh_answer_run_alone() {
    on_tokio(|| async { check_all(rows_of_directives(), Site::http1).await });
}

#[test]
fn requests_that_change_something_or_have_a_body_run_alone() {
    on_tokio(|| async { check_all(rows_of_methods_and_bodies(), Site::http1).await });
}

/// There, no header has to say that there is a body.
#[test]
fn requests_that_have_a_body_run_alone_over_http2() {
    let rows = || {
        vec![alone(
            "GET with a body that nothing declares",
            Alone::Body,
            by_default([get("/"), get("/").body("a").chunked()]),
            by_default([get("/"), get("/")]),
        )]
    };
    on_tokio(move || async move { check_all(rows(), Site::http2).await });
}

#[test]
fn options_of_the_policy_say_which_requests_share() {
    on_tokio(|| async { check_all(rows_of_options(), Site::http1).await });
}

/// HTTP/2 has the authority in a pseudo-header, and may have `Host`, too.
#[test]
fn requests_that_name_two_hosts_run_alone() {
    let rows = || {
        let named = |host| get("/").at("a.test").with("host", host);
        vec![alone(
            "authority and `Host`",
            Alone::Authority,
            by_default([named("a.test"), named("b.test")]),
            by_default([named("a.test"), named("A.test")]),
        )]
    };
    on_tokio(move || async move { check_all(rows(), Site::http2).await });
}

/// With these hosts, and what stands in the request line.
fn exactly(target: &str, hosts: &[&str]) -> Request<Body> {
    let mut request = Request::builder().uri(target);
    for host in hosts {
        request = request.header("host", *host);
    }
    request.body(Body::empty()).expect("a request")
}

/// The same as no client of good manners sends it: `Host` twice, or another one in the target.
#[test]
fn requests_that_name_two_hosts_run_alone_over_http1() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        // Whoever would join it.
        let mut leaders = Vec::new();
        for authority in ["a.test", "b.test"] {
            leaders.push(site.place(&site.http1(), get("/").at(authority)).await);
        }
        let requests = [
            exactly("/", &["a.test", "b.test"]),
            exactly("/", &["b.test", "a.test"]),
            exactly("/", &["a.test", "a.test"]),
            exactly("http://a.test/", &["b.test"]),
            exactly("http://b.test/", &["a.test"]),
            // Who asks is no part of a host.
            exactly("/", &["user@a.test"]),
            exactly("http://user@a.test/", &["user@a.test"]),
        ];
        for request in requests {
            let placed = site.placed();
            leaders.push(Asked::exactly(&site.server, request).await);
            site.are_placed(placed + 1).await;
            assert_eq!(site.flights.joined.get(), 0);
        }
        // The twin names one host, in two places.
        let twin = Asked::exactly(&site.server, exactly("http://a.test/", &["a.test"])).await;
        site.are_placed(10).await;
        assert_eq!(site.flights.joined.get(), 1);
        site.origin.gate.open();
        let answers = answers(leaders).await;
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 1 });
        assert_eq!(answers[1].coalesced, LED);
        for (i, answer) in answers.iter().enumerate().skip(2) {
            let alone = Coalesced::Alone(Alone::Authority);
            assert_eq!((answer.number(), &answer.coalesced), (i + 1, &alone));
        }
        let twin = twin.answer().await;
        assert_eq!((twin.number(), &twin.coalesced), (1, &Coalesced::Joined));
    });
}

/// Services that see `https` redirect to it, where they are asked for what is not.
#[test]
fn requests_for_https_are_apart_from_those_that_say_nothing() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let targets = ["/", "https://a.test/", "http://a.test/", "https://a.test/"];
        let mut asked = Vec::new();
        for (i, target) in targets.into_iter().enumerate() {
            asked.push(Asked::exactly(&site.server, exactly(target, &["a.test"])).await);
            site.are_placed(i + 1).await;
        }
        site.origin.gate.open();
        let numbers: Vec<_> = answers(asked).await.iter().map(Answer::number).collect();
        assert_eq!(numbers, [1, 2, 1, 2]);
    });
}

/// So no rule is without its rows.
#[test]
fn every_header_of_the_default_policy_is_in_the_rows() {
    let policy = format!("{:?}", Policy::new());
    assert!(policy.contains("unlisted: Key"), "{policy}");
    for (names, rule) in [(&ALONE[..], "Alone"), (&IGNORED, "Ignore")] {
        for name in names {
            assert!(policy.contains(&format!("{name:?}: {rule}")), "{name}: {policy}");
        }
        assert_eq!(policy.matches(&format!(": {rule}")).count(), names.len());
        assert!(!IN_KEY.iter().any(|name| names.contains(name)));
    }
}
