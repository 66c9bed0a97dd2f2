//! Which responses are shared, rule by rule: each that is not has a twin that is, and nobody who waited
//! for one that is not ever sees anything of it.

use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode, header, response};
use shardflight::tower::{Alone, Coalesced, Policy};

use crate::{
    common::on_tokio,
    net::{Answer, Execution, Site, answers, get},
};

/// The head of a response, under a policy.
#[derive(Clone)]
struct Case {
    policy: Policy,
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
}

fn status(status: StatusCode) -> Case {
    Case { policy: Policy::new(), status, headers: Vec::new() }
}

fn with(name: &'static str, value: &str) -> Case {
    status(StatusCode::OK).and(name, value)
}

impl Case {
    fn and(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a value");
        self.headers.push((HeaderName::from_static(name), value));
        self
    }

    fn under(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Says of which execution it is, in the body, if it may have one, and in a header.
    fn answer(&self, execution: Execution) -> Response<Body> {
        let number = execution.number;
        let has_body = ![StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&self.status);
        let body = if has_body { Body::from(format!("of {number}")) } else { Body::empty() };
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        for (name, value) in &self.headers {
            response.headers_mut().append(name, value.clone());
        }
        response.headers_mut().insert("x-execution", number.into());
        response
    }
}

struct Row {
    name: String,
    not_shared: Case,
    why: Alone,
    twin: Case,
}

fn row(name: impl Into<String>, why: Alone, not_shared: Case, twin: Case) -> Row {
    Row { name: name.into(), not_shared, why, twin }
}

/// Three requests that are there when the first of them is answered.
async fn three(case: Case) -> (Vec<Answer>, usize) {
    let answering = case.clone();
    let site = Site::new(case.policy, move |execution| answering.answer(execution)).await;
    let asked = site.place_many(3, &get("/")).await;
    assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 2));
    site.origin.gate.open();
    (answers(asked).await, site.origin.begun.get())
}

/// All of an answer says that it is of this execution.
fn number(answer: &Answer) -> usize {
    let number = answer.header("x-execution").expect("stamped").parse().expect("a number");
    assert!(answer.text().is_empty() || answer.text() == format!("of {number}"), "{answer:?}");
    number
}

async fn check(row: Row) {
    let Row { name, not_shared, why, twin } = row;
    let expected = not_shared.status;
    let (answers, executions) = three(not_shared).await;
    assert_eq!(number(&answers[0]), 1, "{name}: the leader has its own");
    let mut numbers: Vec<_> = answers.iter().map(number).collect();
    numbers.sort_unstable();
    assert_eq!((numbers, executions), (vec![1, 2, 3], 3), "{name}");
    for answer in answers {
        assert_eq!(answer.status, expected, "{name}");
        assert_eq!(answer.coalesced, Coalesced::Alone(why.clone()), "{name}");
    }

    let (answers, executions) = three(twin).await;
    assert_eq!(executions, 1, "the twin of {name}");
    assert!(answers.iter().all(|answer| number(answer) == 1), "the twin of {name}");
    let coalesced: Vec<_> = answers.into_iter().map(|answer| answer.coalesced).collect();
    let led = Coalesced::Led { followers: 2 };
    assert_eq!(coalesced, [led, Coalesced::Joined, Coalesced::Joined], "the twin of {name}");
}

async fn check_all(rows: Vec<Row>) {
    for row in rows {
        check(row).await;
    }
}

/// All of the standard ones that are an answer, shared or not.
const SHARED: [u16; 9] = [200, 203, 204, 300, 301, 308, 404, 405, 410];
const NOT_SHARED: [u16; 49] = [
    201, 202, 205, 206, 207, 208, 226, 302, 303, 304, 305, 307, 400, 401, 402, 403, 406, 407, 408,
    409, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451,
    500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// Each status has itself for a twin, by `.status`.
fn rows_of_statuses() -> Vec<Row> {
    let code = |code| StatusCode::from_u16(code).expect("a status");
    let shared = SHARED.map(code).into_iter().map(|code| {
        let not_shared = status(code).under(Policy::new().status(code, false));
        row(code.to_string(), Alone::Status(code), not_shared, status(code))
    });
    let not_shared = NOT_SHARED.map(code).into_iter().map(|code| {
        // Failures have tests of their own (`herds.rs`, `retries.rs`).
        let not_shared = status(code).under(Policy::new().failure(code, false));
        let twin = status(code).under(Policy::new().status(code, true));
        row(code.to_string(), Alone::Status(code), not_shared, twin)
    });
    shared.chain(not_shared).collect()
}

fn rows_of_headers() -> Vec<Row> {
    let mut rows = Vec::new();
    let why = || Alone::ResponseHeader(header::SET_COOKIE);
    let twin = || with("x-set-cookie", "session=1; HttpOnly");
    rows.push(row("set-cookie", why(), with("set-cookie", "session=1; HttpOnly"), twin()));
    rows.push(row("set-cookie, empty", why(), with("set-cookie", ""), twin()));
    // What is for everybody by one header is not by the other.
    let public = with("cache-control", "public, max-age=60").and("set-cookie", "a=1");
    rows.push(row("set-cookie on what is public", why(), public, with("cache-control", "public")));
    let error = status(StatusCode::NOT_FOUND);
    rows.push(row("set-cookie on a 404", why(), error.clone().and("set-cookie", "a=1"), error));

    let directives = [
        ("private", "public"),
        ("no-store", "no-transform"),
        ("no-cache", "must-revalidate"),
        ("Private", "Public"),
        ("max-age=60, private", "max-age=60, x-private"),
        ("max-age=60 ,\tNO-STORE, x", "max-age=60"),
        ("private=\"x-user, x-name\"", "public=\"x-user\""),
        ("private =x", "not-private =x"),
        ("no-cache=\"set-cookie\"", "max-age=\"60\""),
        // Against the grammar.
        ("max-age=0; private", "max-age=0; public"),
        ("private no-store", "public immutable"),
        (",,private,", ",,"),
        ("s-maxage=60, private, public", "s-maxage=60, public"),
    ];
    for (not_shared, twin) in directives {
        let case = |value| with("cache-control", value);
        let why = Alone::ResponseHeader(header::CACHE_CONTROL);
        rows.push(row(format!("cache-control: {not_shared}"), why, case(not_shared), case(twin)));
    }
    rows.push(row(
        "the second of two headers cache-control",
        Alone::ResponseHeader(header::CACHE_CONTROL),
        with("cache-control", "max-age=60").and("cache-control", "private"),
        with("cache-control", "max-age=60").and("cache-control", "public"),
    ));

    let varied = [
        ("*", "accept"),
        ("accept, *", "accept, origin"),
        (" * ", "x-a"),
        // Against the grammar: nobody knows what it varies on.
        ("x-a x-b", "x-a, x-b"),
        ("x-a; x-b", ",x-a,, x-b,"),
        ("\"x-a\"", "X-A"),
    ];
    for (not_shared, twin) in varied {
        let case = |value| with("vary", value);
        let why = Alone::ResponseHeader(header::VARY);
        rows.push(row(format!("vary: {not_shared}"), why, case(not_shared), case(twin)));
    }
    rows.push(row(
        "the second of two headers vary",
        Alone::ResponseHeader(header::VARY),
        with("vary", "accept").and("vary", "*"),
        with("vary", "accept").and("vary", "origin"),
    ));
    rows
}

/// What a policy says that is not the default one.
fn rows_of_options() -> Vec<Row> {
    let public =
        |head: &response::Parts, standard: bool| standard && head.headers.contains_key("x-public");
    let whatever = |_: &response::Parts, _: bool| true;
    let cookies = || with("set-cookie", "a=1").and("cache-control", "private");
    let ok = || status(StatusCode::OK);
    let responses = || Policy::new().responses(public);
    vec![
        row(
            "`.responses` that wants more",
            Alone::Policy,
            ok().under(responses()),
            with("x-public", "").under(responses()),
        ),
        row(
            "`.responses` that overrules",
            Alone::ResponseHeader(header::SET_COOKIE),
            cookies(),
            cookies().under(Policy::new().responses(whatever)),
        ),
        row(
            "`.responses` told what is standard",
            Alone::Status(StatusCode::FORBIDDEN),
            status(StatusCode::FORBIDDEN).and("x-public", "").under(responses()),
            with("x-public", "").under(responses()),
        ),
        row(
            "`.status` twice",
            Alone::Status(StatusCode::OK),
            ok().under(Policy::new().status(StatusCode::OK, true).status(StatusCode::OK, false)),
            ok().under(Policy::new().status(StatusCode::OK, false).status(StatusCode::OK, true)),
        ),
    ]
}

#[test]
fn each_status_is_shared_or_not() {
    on_tokio(|| async { check_all(rows_of_statuses()).await });
}

#[test]
fn responses_that_are_for_one_user_are_not_shared() {
    on_tokio(|| async { check_all(rows_of_headers()).await });
}

#[test]
fn options_of_the_policy_say_which_responses_are_shared() {
    on_tokio(|| async { check_all(rows_of_options()).await });
}
