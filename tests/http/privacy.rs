//! The property that all the rules are for: no response is ever seen by a request that the policy says may
//! not share it. Whatever is asked for, whoever goes, and in whatever order executions end.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::body::Body;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::channel::Channel;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use shardflight::tower::{CoalesceLayer, Coalesced, HeaderRule, Policy, Refusal};
use tokio::sync::watch;
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    common::{OnDrop, limited, multi_thread, sequences::check_any_sequence},
    net::{Answer, Ask, Client, Flights, Origin, Server, Site, get},
};

/// What happens, one after the other.
#[derive(Debug, Clone)]
enum Step {
    Send(Asking),
    /// One more execution may end.
    LetPass,
    /// The client of this request goes, if it still waits: a number below that of all, taken round.
    Leave(usize),
}

/// A request, and what its execution will answer if it comes to one.
#[derive(Debug, Clone)]
struct Asking {
    method: Method,
    has_body: bool,
    authority: &'static str,
    target: &'static str,
    headers: Vec<(&'static str, &'static str)>,
    is_http2: bool,
    answering: Answering,
}

#[derive(Debug, Clone)]
struct Answering {
    status: StatusCode,
    cache_control: Option<&'static str>,
    vary: Option<&'static str>,
    has_cookie: bool,
    body: Length,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Known,
    OverTheLimit,
    Unknown,
    /// Five bytes of ten.
    BreaksOff,
    /// There is no response: the service returns an error.
    Fails,
}

const MAX_BODY: usize = 64;

/// The policy of this test in its own words, which are those of the issue: whether `other` may see the
/// answer to `executed`.
fn may_see(other: &Asking, executed: &Asking) -> bool {
    let answer = &executed.answering;
    may_share(other)
        && may_share(executed)
        && other.method == executed.method
        && other.authority == executed.authority
        && other.target == executed.target
        && alike(other, executed, "accept-language")
        && alike(other, executed, "x-key")
        && !answer.has_cookie
        && !matches!(answer.cache_control, Some("private" | "no-store"))
        && !matches!(answer.status.as_u16(), 206 | 429 | 500..=599)
        && answer.body == Length::Known
        && answer.vary != Some("*")
        && answer.vary.is_none_or(|vary| vary.split(", ").all(|name| alike(other, executed, name)))
}

fn may_share(asking: &Asking) -> bool {
    let private = |(name, value): &(&str, &str)| match *name {
        "authorization" | "cookie" | "range" | "if-none-match" | "if-modified-since" => true,
        "cache-control" => matches!(*value, "no-store" | "no-cache"),
        _ => false,
    };
    [Method::GET, Method::HEAD].contains(&asking.method)
        && !asking.has_body
        && !asking.headers.iter().any(private)
}

fn alike(one: &Asking, other: &Asking, name: &str) -> bool {
    let value = |asking: &Asking| {
        asking.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    };
    value(one) == value(other)
}

/// Nothing, or one of these.
fn one_of<T: Copy + std::fmt::Debug + 'static>(
    nothing: u32,
    some: &'static [T],
) -> impl Strategy<Value = Option<T>> {
    prop_oneof![
        nothing => Just(None),
        some.len() as u32 => (0..some.len()).prop_map(|i| Some(some[i])),
    ]
}

fn answering() -> impl Strategy<Value = Answering> {
    let status = one_of(20, &[404_u16, 404, 206, 429, 500]);
    let length = prop_oneof![
        16 => Just(Length::Known),
        1 => Just(Length::OverTheLimit),
        1 => Just(Length::Unknown),
        1 => Just(Length::BreaksOff),
        1 => Just(Length::Fails),
    ];
    (
        status.prop_map(|code| StatusCode::from_u16(code.unwrap_or(200)).expect("a status")),
        one_of(12, &["max-age=60", "private", "no-store"]),
        one_of(10, &["x-v", "x-v", "x-v", "x-w", "x-v, x-w", "accept-language", "*"]),
        one_of(12, &[()]),
        length,
    )
        .prop_map(|(status, cache_control, vary, cookie, body)| {
            let has_cookie = cookie.is_some();
            Answering { status, cache_control, vary, has_cookie, body }
        })
}

const PRIVATE: &[(&str, &str)] = &[
    ("authorization", "Bearer 1"),
    ("cookie", "session=1"),
    ("range", "bytes=0-1"),
    ("if-none-match", "\"1\""),
    ("if-modified-since", "Sat, 29 Oct 1994 19:43:31 GMT"),
    ("cache-control", "no-store"),
    ("cache-control", "no-cache"),
    ("cache-control", "max-age=0"),
];

fn asking() -> impl Strategy<Value = Asking> {
    let headers = (
        one_of(100, PRIVATE),
        one_of(20, &[("accept-language", "de"), ("accept-language", "en")]),
        one_of(20, &[("x-key", "1"), ("x-key", "2")]),
        one_of(6, &[("x-v", "1"), ("x-v", "2")]),
        one_of(10, &[("x-w", "1")]),
    );
    let method = one_of(30, &["HEAD", "HEAD", "POST"]);
    let target = one_of(8, &["/?a=1", "/b"]);
    let rest = (one_of(40, &[()]), one_of(24, &["b.test"]), any::<bool>());
    (method, target, headers, rest, answering()).prop_map(
        |(method, target, (a, b, c, d, e), (body, authority, is_http2), mut answering)| {
            if method == Some("HEAD") && answering.body != Length::Fails {
                // There is none.
                answering.body = Length::Known;
            }
            Asking {
                method: method.unwrap_or("GET").parse().expect("a method"),
                has_body: body.is_some(),
                authority: authority.unwrap_or("a.test"),
                target: target.unwrap_or("/"),
                headers: [a, b, c, d, e].into_iter().flatten().collect(),
                is_http2,
                answering,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => asking().prop_map(Step::Send),
        2 => Just(Step::LetPass),
        1 => (0..64_usize).prop_map(Step::Leave),
    ]
}

impl Asking {
    fn ask(&self, id: usize) -> Ask {
        let ask = get(self.target).method(self.method.clone()).at(self.authority);
        let ask = ask.with("x-id", id.to_string());
        let ask = self.headers.iter().fold(ask, |ask, (name, value)| ask.with(name, value));
        if self.has_body { ask.body("a body") } else { ask }
    }
}

/// Says in each of its parts whose answer it is.
fn answer(asking: &Asking, id: usize) -> Result<Response<Body>, io::Error> {
    let Answering { status, cache_control, vary, has_cookie, body } = &asking.answering;
    let text = format!("of {id}");
    let mut response = Response::new(match body {
        Length::Fails => return Err(io::Error::other("the service")),
        _ if asking.method == Method::HEAD => Body::empty(),
        Length::Known => Body::from(text),
        Length::OverTheLimit => Body::from(format!("{text:<0$}", MAX_BODY + 1)),
        Length::Unknown | Length::BreaksOff => {
            let (mut sender, body) = Channel::<_, io::Error>::new(1);
            sender.try_send(http_body::Frame::data(text.into())).expect("there is room");
            if asking.answering.body == Length::BreaksOff {
                sender.abort(io::ErrorKind::ConnectionReset.into());
            }
            Body::new(body)
        }
    });
    *response.status_mut() = *status;
    let headers = response.headers_mut();
    headers.insert("x-of", id.into());
    headers.insert("x-request-id", id.into());
    if *body == Length::BreaksOff {
        headers.insert("content-length", 10.into());
    }
    for (name, value) in [("cache-control", cache_control), ("vary", vary)] {
        if let Some(value) = value {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if *has_cookie {
        let cookie = HeaderValue::from_str(&format!("of={id}")).expect("a value");
        headers.insert("set-cookie", cookie);
    }
    Ok(response)
}

/// Of which request all of this is.
fn of(answer: &Answer, asking: &Asking) -> usize {
    let id = answer.header("x-of").expect("stamped").parse().expect("a number");
    let text = answer.text().trim_end();
    if asking.method == Method::HEAD {
        assert_eq!(text, "");
    } else {
        assert_eq!(text, format!("of {id}"));
    }
    if let Some(cookie) = answer.header("set-cookie") {
        assert_eq!(cookie, format!("of={id}"));
    }
    id
}

/// A response of the layer's own, which has nothing of the failed one except the status.
fn assert_told_of_a_failure(answer: &Answer) {
    let Coalesced::Refused(refusal @ Refusal::Failed { status, retry_after: None }) =
        &answer.coalesced
    else {
        panic!("{answer:?}");
    };
    assert_eq!(answer.status, *status);
    assert!(matches!(status.as_u16(), 429 | 500 | 502), "{answer:?}");
    assert!(answer.text().is_empty() || answer.text() == format!("{refusal}\n"), "{answer:?}");
    for name in ["x-of", "x-request-id", "set-cookie", "vary"] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
}

/// What was seen, over all cases.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    own: usize,
    shared: usize,
    broken: usize,
    /// Of a failure, by the layer.
    told: usize,
    taken_over: usize,
    /// Answers of those that had waited for a response that was not for them.
    released: usize,
}

/// The executions of a case, by the request that they are of.
type Executed = Arc<Mutex<HashMap<usize, Asking>>>;

async fn run(steps: &[Step]) -> Seen {
    let (origin, flights) = (Origin::default(), Flights::default());
    let all: Vec<Asking> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Send(asking) => Some(asking.clone()),
            _ => None,
        })
        .collect();
    let executed = Executed::default();
    let (of_origin, of_all, of_executed) =
        (origin.clone(), Arc::new(all.clone()), executed.clone());
    let service = service_fn(move |request: Request<Body>| {
        let (origin, all, executed) = (of_origin.clone(), of_all.clone(), of_executed.clone());
        async move {
            let id: usize =
                request.headers()["x-id"].to_str().expect("text").parse().expect("a number");
            let (number, _running) = origin.begin();
            origin.gate.pass(number).await;
            let twice = executed.lock().expect("not poisoned").insert(id, all[id].clone());
            assert!(twice.is_none(), "{id} was executed twice");
            answer(&all[id], id)
        }
    });
    // What is not in the key is what responses vary on, and what tells this test who asks.
    let ignored = ["x-v", "x-w", "x-id"].map(HeaderName::from_static).into_iter();
    let policy = ignored
        .fold(Policy::new(), |policy, name| policy.header(name, HeaderRule::Ignore))
        .max_body(MAX_BODY)
        // Now and then it is forgotten within a case.
        .remember(Duration::from_millis(20));
    let layer = CoalesceLayer::with_policy(policy).observer(flights.clone());
    let service = layer.layer(service);
    // Those that have come to an end at the server, with a response or without.
    let ended = watch::Sender::new(BTreeSet::new());
    let ends = ended.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (service, ends) = (service.clone(), ends.clone());
        let id: usize =
            request.headers()["x-id"].to_str().expect("text").parse().expect("a number");
        async move {
            let _end = OnDrop::new(move || {
                ends.send_modify(|ended| {
                    ended.insert(id);
                });
            });
            service.oneshot(request).await
        }
    });
    let server = Server::start(service).await;
    let site = Site { origin, flights, server };

    let (http1, http2) = (site.http1(), site.http2());
    let mut asked = Vec::new();
    let mut passed = 0;
    for step in steps {
        match step {
            Step::Send(asking) => {
                let id = asked.len();
                let client: &Client = if asking.is_http2 { &http2 } else { &http1 };
                asked.push(Some(site.place(client, asking.ask(id)).await));
                // Those who were released may have been taken for it.
                site.server.arrived.reaches(id + 1).await;
            }
            Step::LetPass => {
                passed += 1;
                site.origin.gate.let_pass(passed);
            }
            Step::Leave(_) if asked.is_empty() => {}
            Step::Leave(i) => {
                let id = i % asked.len();
                if let Some(asked) = asked[id].take() {
                    asked.let_go();
                    ended.subscribe().wait_for(|ended| ended.contains(&id)).await.expect("here");
                }
            }
        }
    }
    site.origin.gate.open();

    let mut seen = Seen { taken_over: site.flights.taken_over.get(), ..Seen::default() };
    seen.released = site.flights.joined.get();
    for (id, asked) in asked.into_iter().enumerate() {
        let Some(asked) = asked else { continue };
        let asking = &all[id];
        match asked.end().await {
            Ok(answer) if matches!(answer.coalesced, Coalesced::Refused(_)) => {
                assert_told_of_a_failure(&answer);
                seen.told += 1;
            }
            Ok(answer) => {
                let of = of(&answer, asking);
                let own = (of == id).then(|| id.to_string());
                assert_eq!(answer.header("x-request-id"), own.as_deref(), "{id} of {of}");
                if of == id {
                    seen.own += 1;
                } else {
                    assert!(may_see(asking, &all[of]), "{id} has seen the answer to {of}");
                    seen.shared += 1;
                }
            }
            Err(error) => {
                let own = executed.lock().expect("not poisoned").get(&id).cloned();
                let body = own.map(|own| own.answering.body);
                let is_own = matches!(body, Some(Length::BreaksOff | Length::Fails));
                assert!(is_own, "{id} has seen the failure of another: {error}");
                seen.broken += 1;
            }
        }
    }
    seen.released -= seen.shared.min(seen.released);
    // Nothing is left behind: no flight, no execution.
    assert!(layer.in_flight().is_empty(), "{:?}", layer.in_flight());
    assert_eq!(site.origin.over.get(), site.origin.begun.get());
    seen
}

#[test]
fn no_response_is_seen_by_a_request_that_may_not_share_it() {
    limited(|| {
        let all = Mutex::new(Seen::default());
        check_any_sequence(300, 60, 32, step(), |steps, _| {
            let runtime = multi_thread();
            let seen = runtime.block_on(run(steps));
            let mut all = all.lock().expect("not poisoned");
            all.own += seen.own;
            all.shared += seen.shared;
            all.broken += seen.broken;
            all.told += seen.told;
            all.taken_over += seen.taken_over;
            all.released += seen.released;
        });
        let seen = all.into_inner().expect("not poisoned");
        // It says something only if much is shared, and much that could have been is not.
        assert!(seen.shared > 200, "{seen:?}");
        assert!(seen.own > 1_000 && seen.released > 200, "{seen:?}");
        assert!(seen.told > 2, "{seen:?}");
        assert!(seen.broken > 80 && seen.taken_over > 5, "{seen:?}");
    });
}

/// The words of this test themselves: what they forbid, one by one, and what they allow.
#[test]
fn the_oracle_tells_apart_what_the_issue_does() {
    let plain = Asking {
        method: Method::GET,
        has_body: false,
        authority: "a.test",
        target: "/",
        headers: vec![("x-v", "1")],
        is_http2: false,
        answering: Answering {
            status: StatusCode::OK,
            cache_control: None,
            vary: Some("x-v, x-w"),
            has_cookie: false,
            body: Length::Known,
        },
    };
    assert!(may_see(&plain, &plain));
    let but = |change: &dyn Fn(&mut Asking)| {
        let mut other = plain.clone();
        change(&mut other);
        other
    };
    let requests = [
        but(&|ask| ask.method = Method::HEAD),
        but(&|ask| ask.has_body = true),
        but(&|ask| ask.authority = "b.test"),
        but(&|ask| ask.target = "/b"),
        but(&|ask| ask.headers = vec![]),
        but(&|ask| ask.headers.push(("x-w", "1"))),
        but(&|ask| ask.headers.push(("x-key", "1"))),
        but(&|ask| ask.headers.push(("accept-language", "de"))),
        but(&|ask| ask.headers.push(("cookie", "a"))),
        but(&|ask| ask.headers.push(("cache-control", "no-cache"))),
    ];
    for other in requests {
        assert!(!may_see(&other, &plain) && !may_see(&plain, &other), "{other:?}");
    }
    let responses = [
        but(&|ask| ask.answering.status = StatusCode::PARTIAL_CONTENT),
        but(&|ask| ask.answering.status = StatusCode::TOO_MANY_REQUESTS),
        but(&|ask| ask.answering.status = StatusCode::BAD_GATEWAY),
        but(&|ask| ask.answering.cache_control = Some("private")),
        but(&|ask| ask.answering.vary = Some("*")),
        but(&|ask| ask.answering.has_cookie = true),
        but(&|ask| ask.answering.body = Length::Unknown),
    ];
    for executed in responses {
        assert!(!may_see(&plain, &executed), "{executed:?}");
    }
    assert!(may_see(&plain, &but(&|ask| ask.answering.cache_control = Some("max-age=60"))));
}
