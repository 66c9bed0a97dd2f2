//! Which requests share, rule by rule: each that keeps two apart has a twin, where only what the rule
//! looks at is different, and which shares.

use axum::body::Body;
use http::{HeaderName, Method, Request, Response, header};
use shardflight::tower::{Alone, Coalesced, HeaderRule, Policy};

use crate::{
    common::on_tokio,
    net::{Answer, Ask, Asked, Client, Execution, Site, answers, get, numbered},
};

/// Two requests, of which the first is executed when the second comes.
struct Case {
    policy: Policy,
    pair: [Ask; 2],
}

fn case(policy: Policy, pair: [Ask; 2]) -> Case {
    Case { policy, pair }
}

/// Under the default policy.
fn by_default(pair: [Ask; 2]) -> Case {
    case(Policy::new(), pair)
}

/// Why the second request of a case does not get the answer of the first.
#[derive(Debug, Clone)]
enum Why {
    /// It has another key.
    Apart,
    /// It shares with nobody, and the first would with anybody.
    Alone(Alone),
}

struct Row {
    name: String,
    not_shared: Case,
    why: Why,
    twin: Case,
}

fn apart(name: impl Into<String>, not_shared: Case, twin: Case) -> Row {
    Row { name: name.into(), not_shared, why: Why::Apart, twin }
}

fn alone(name: impl Into<String>, why: Alone, not_shared: Case, twin: Case) -> Row {
    Row { name: name.into(), not_shared, why: Why::Alone(why), twin }
}

/// The answers to two requests that are there at the same time.
async fn meet(site: &Site, client: &Client, first: &Ask, second: &Ask) -> [Answer; 2] {
    let first = site.place(client, first.clone()).await;
    let second = site.place(client, second.clone()).await;
    site.origin.gate.let_pass(site.origin.begun.get());
    [first.answer().await, second.answer().await]
}

const LED: Coalesced = Coalesced::Led { followers: 0 };

async fn check(row: Row, client_of: fn(&Site) -> Client) {
    let Row { name, not_shared, why, twin } = row;
    let Case { policy, pair: [a, b] } = not_shared;
    let site = Site::new(policy, stamped).await;
    let client = client_of(&site);
    let of_b = match &why {
        Why::Apart => LED,
        Why::Alone(why) => Coalesced::Alone(why.clone()),
    };
    let own = |answers: &[Answer; 2]| {
        answers[0].header("x-execution") != answers[1].header("x-execution")
    };
    let answers = meet(&site, &client, &a, &b).await;
    assert!(own(&answers), "{name}: {answers:?}");
    assert_eq!([&answers[0].coalesced, &answers[1].coalesced], [&LED, &of_b], "{name}");
    let answers = meet(&site, &client, &b, &a).await;
    assert!(own(&answers), "{name}, the other way round: {answers:?}");
    assert_eq!([&answers[0].coalesced, &answers[1].coalesced], [&of_b, &LED], "{name}, backward");
    if let Why::Alone(_) = why {
        let answers = meet(&site, &client, &b, &b).await;
        assert!(own(&answers), "{name}, with itself: {answers:?}");
        assert_eq!([&answers[0].coalesced, &answers[1].coalesced], [&of_b, &of_b], "{name}, twice");
    }

    let Case { policy, pair: [a, b] } = twin;
    let site = Site::new(policy, stamped).await;
    let client = client_of(&site);
    for (first, second) in [(&a, &b), (&b, &a)] {
        let answers = meet(&site, &client, first, second).await;
        assert!(!own(&answers), "the twin of {name}: {answers:?}");
        let expected = [&Coalesced::Led { followers: 1 }, &Coalesced::Joined];
        let coalesced = [&answers[0].coalesced, &answers[1].coalesced];
        assert_eq!(coalesced, expected, "the twin of {name}");
    }
}

/// An answer to HEAD, too, says which execution it is of.
fn stamped(execution: Execution) -> Response<Body> {
    let number = execution.number;
    let mut response = match *execution.request.method() {
        Method::HEAD => Response::default(),
        _ => numbered(execution),
    };
    response.headers_mut().insert("x-execution", number.into());
    response
}

async fn check_all(rows: Vec<Row>, client_of: fn(&Site) -> Client) {
    for row in rows {
        check(row, client_of).await;
    }
}

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
const ALONE: [&str; 62] = [
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
    "api-key",
    "apikey",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "cookie2",
    "fly-client-cert",
    "impersonate-user",
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
    "x-authorization",
    "x-client-cert",
    "x-csrf-token",
    "x-email",
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
    "x-pomerium-jwt-assertion",
    "x-remote-user",
    "x-session-id",
    "x-session-token",
    "x-user",
    "x-user-id",
    "x-webauth-user",
    "x-xsrf-token",
];

/// Those whose values are in the key.
const IN_KEY: [&str; 25] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
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
    let two = |a, b| by_default([get("/").with("accept", a), get("/").with("accept", b)]);
    rows.push(apart("in capitals", two("a", "A"), two("A", "A")));
    rows.push(apart(
        "accept, empty",
        by_default([get("/"), get("/").with("accept", "")]),
        two("", ""),
    ));
    // The same text, spread over other headers.
    let spread = |a: [&str; 2], b: [&str; 2]| {
        let ask = |values: [&str; 2]| {
            get("/").with("accept", values[0]).with("accept-charset", values[1])
        };
        by_default([ask(a), ask(b)])
    };
    rows.push(apart(
        "values of neighbours",
        spread(["ab", "c"], ["a", "bc"]),
        spread(["a", "bc"], ["a", "bc"]),
    ));
    let (a, b) = (HeaderName::from_static("x-a"), HeaderName::from_static("x-b"));
    let keyed =
        || Policy::new().header(a.clone(), HeaderRule::Key).header(b.clone(), HeaderRule::Key);
    let pair = [get("/").with("x-a", "1"), get("/").with("x-b", "1")];
    let twin = [get("/").with("x-b", "1"), get("/").with("x-b", "1")];
    rows.push(apart("names of neighbours", case(keyed(), pair), case(keyed(), twin)));
    // The order in which they come is nothing.
    let pair =
        [get("/").with("x-a", "1").with("x-b", "2"), get("/").with("x-a", "2").with("x-b", "1")];
    let twin =
        [get("/").with("x-a", "1").with("x-b", "2"), get("/").with("x-b", "2").with("x-a", "1")];
    rows.push(apart("values that are swapped", case(keyed(), pair), case(keyed(), twin)));
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
        "POST with a body, `.method`",
        Alone::Body,
        case(posting(), [post(), post().body("a")]),
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
        by_default([get("/"), get("/").body("a").chunked()]),
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
    let of_header = |parts: &http::request::Parts| {
        parts.headers.get("x-a").map(|value| value.to_str().expect("text").to_owned())
    };
    let may = |parts: &http::request::Parts| !parts.uri.path().starts_with("/live");
    let by_path = || Policy::new().target(|uri| uri.path().to_owned());
    let queries = || [get("/?a=1"), get("/?a=2")];
    let authorized = |user| get("/").with("authorization", user);
    let by_user = || Policy::new().header(header::AUTHORIZATION, HeaderRule::Key);
    vec![
        apart("`.header` Key", case(rule(HeaderRule::Key), differ()), by_default(differ())),
        alone(
            "`.header` Alone",
            Alone::Header(name()),
            case(rule(HeaderRule::Alone), [get("/"), ask("1")]),
            by_default([get("/"), ask("1")]),
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
        apart("`.key`", case(Policy::new().key(of_header), differ()), by_default(differ())),
        alone(
            "`.key` that is none",
            Alone::Policy,
            case(Policy::new().key(of_header), [ask("1"), get("/")]),
            case(Policy::new().key(of_header), [ask("1"), ask("1")]),
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
            case(Policy::new().requests(may), [get("/a"), get("/a").with("x-a", "1")]),
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
fn requests_with_private_headers_run_alone_and_listed_headers_are_in_the_key() {
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
    for (names, rule) in [(&ALONE[..], "Alone"), (&IN_KEY, "Key")] {
        for name in names {
            assert!(policy.contains(&format!("{name:?}: {rule}")), "{name}: {policy}");
        }
        assert_eq!(policy.matches(&format!(": {rule}")).count(), names.len());
    }
}
