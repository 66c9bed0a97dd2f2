//! What becomes of followers whose answer may not be shared: they are released at once and run at the
//! same time, the key is remembered for a while, and what varies is shared by those who asked alike.

use std::{
    convert::Infallible,
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use axum::body::Body;
use http::{HeaderValue, Method, Request, Response, header};
use shardflight::tower::{Alone, CoalesceLayer, Coalesced, HeaderRule, Policy};
use tokio::{sync::Barrier, time::advance};
use tower::{Layer, ServiceExt, service_fn};

use crate::{
    common::on_tokio,
    net::{Answer, Ask, Execution, Origin, Site, answers, get, numbered, numbered_with, numbers},
};

const PRIVATE: &[(&str, &str)] = &[("cache-control", "private")];

/// Executions of which the first is the leader's, and the others only end when `n` of them run at once.
async fn site_with_a_barrier(policy: Policy, n: usize) -> Site {
    let (origin, barrier) = (Origin::default(), Arc::new(Barrier::new(n)));
    let this = origin.clone();
    let service = service_fn(move |request: Request<Body>| {
        let (origin, barrier) = (this.clone(), Arc::clone(&barrier));
        async move {
            let (number, _running) = origin.begin();
            match number {
                1 => origin.gate.pass(number).await,
                _ => {
                    barrier.wait().await;
                }
            }
            Ok::<_, std::convert::Infallible>(numbered_with(PRIVATE)(Execution { number, request }))
        }
    });
    Site::of(origin, policy, service).await
}

/// A hundred that have waited, and later a hundred that come at the same time: none waits for another.
#[test]
fn followers_of_what_is_not_shared_run_at_the_same_time_and_so_do_those_after_them() {
    on_tokio(|| async {
        let site = site_with_a_barrier(Policy::new(), 100).await;
        let asked = site.place_many(101, &get("/")).await;
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 100));
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), (1..=101).collect::<Vec<_>>());

        let later: Vec<_> = (0..100).map(|_| site.http1().send(get("/"))).collect();
        let later = answers(later).await;
        let remembered = Coalesced::Alone(Alone::Remembered);
        assert!(later.iter().all(|answer| answer.coalesced == remembered), "{later:?}");
        assert_eq!(site.flights.joined.get(), 100);
    });
}

/// Whether two requests that are there at the same time share, with executions that have to wait.
async fn share(site: &Site, ask: &Ask) -> bool {
    let joined = site.flights.joined.get();
    let asked = site.place_many(2, ask).await;
    let joined = site.flights.joined.get() > joined;
    site.origin.gate.open();
    answers(asked).await;
    site.origin.gate.let_pass(0);
    joined
}

/// It is forgotten when its time is over, and not before.
#[test]
fn what_is_not_shared_is_remembered_for_as_long_as_the_policy_says() {
    const SO_LONG: Duration = Duration::from_millis(300);
    on_tokio(|| async {
        let site = Site::new(Policy::new().remember(SO_LONG), numbered_with(PRIVATE)).await;
        assert!(share(&site, &get("/")).await);
        let learnt = Instant::now();
        assert!(!share(&site, &get("/")).await || learnt.elapsed() >= SO_LONG);
        // It has been learnt anew by then.
        let learnt = Instant::now();
        // Other keys are not concerned.
        assert!(share(&site, &get("/other")).await);
        tokio::time::sleep_until((learnt + SO_LONG).into()).await;
        assert!(share(&site, &get("/")).await);
    });
}

#[test]
fn nothing_is_remembered_if_the_policy_says_so() {
    on_tokio(|| async {
        for policy in [Policy::new().remember(Duration::ZERO), Policy::new().remember_at_most(0)] {
            let site = Site::new(policy, numbered_with(PRIVATE)).await;
            for _ in 0..3 {
                assert!(share(&site, &get("/")).await);
            }
        }
    });
}

/// However many keys are not to be shared, no more are known than the policy has room for.
#[test]
fn memory_is_bounded() {
    const KEYS: usize = 64;
    on_tokio(|| async {
        let alone_of = |most: usize| async move {
            let site =
                Site::new(Policy::new().remember_at_most(most), numbered_with(PRIVATE)).await;
            site.origin.gate.open();
            let client = site.http1();
            for i in 0..KEYS {
                client.send(get(&format!("/{i}"))).answer().await;
            }
            // To ask is to learn; but who runs alone was known before.
            let mut known = 0;
            for i in (0..KEYS).rev() {
                let answer = client.send(get(&format!("/{i}"))).answer().await;
                known += usize::from(answer.coalesced == Coalesced::Alone(Alone::Remembered));
            }
            known
        };
        let known = alone_of(8).await;
        assert!((1..=8).contains(&known), "{known}");
        // The twin has room for all.
        assert_eq!(alone_of(1024).await, KEYS);
    });
}

/// What it does not know is not in its keys.
fn unknowing() -> Policy {
    Policy::new().unlisted(HeaderRule::Ignore)
}

/// The language as it was asked for, which the policy does not know.
fn in_language(execution: Execution) -> Response<Body> {
    let number = execution.number;
    let asked = execution.request.headers().get("x-language").cloned();
    let mut response = numbered(execution);
    response.headers_mut().insert("vary", HeaderValue::from_static("X-Language"));
    if let Some(asked) = asked {
        response.headers_mut().insert("content-language", asked);
    }
    response.headers_mut().insert("x-execution", number.into());
    response
}

fn language(language: &str) -> Ask {
    get("/").with("x-language", language)
}

fn assert_language(answers: &[Answer], language: Option<&str>) {
    for answer in answers {
        assert_eq!(answer.header("content-language"), language, "{answer:?}");
    }
}

/// The first execution is for those who speak as the leader does. The others meet again, by language;
/// and who comes later meets only those.
#[test]
fn what_varies_is_shared_by_those_who_asked_alike() {
    on_tokio(|| async {
        let site = Site::new(unknowing(), in_language).await;
        let english = site.place_many(3, &language("en")).await;
        let german = site.place_many(3, &language("de")).await;
        let none = site.place_many(2, &get("/")).await;
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 7));
        site.origin.gate.let_pass(1);
        // Of three and two one each begins, and the others join.
        site.are_placed(8 + 3 + 2).await;
        assert_eq!(site.origin.begun.get(), 3);
        let english = answers(english).await;
        assert_eq!(numbers(&english), [1, 1, 1]);
        site.origin.gate.let_pass(3);
        let (german, none) = (answers(german).await, answers(none).await);
        assert_language(&english, Some("en"));
        assert_language(&german, Some("de"));
        assert_language(&none, None);
        assert_eq!(site.origin.begun.get(), 3);

        // What was learnt is in the key now.
        let joined = site.flights.joined.get();
        let english = site.place_many(2, &language("en")).await;
        let german = site.place_many(2, &language("de")).await;
        let none = site.place_many(2, &get("/")).await;
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (6, joined + 3));
        site.origin.gate.open();
        assert_eq!(numbers(&answers(english).await), [4, 4]);
        assert_eq!(numbers(&answers(german).await), [5, 5]);
        assert_eq!(numbers(&answers(none).await), [6, 6]);
    });
}

/// What was learnt comes to the key, and does not take its place: other paths, hosts and methods, and the same
/// value of another header, stay apart.
#[test]
fn what_varies_stays_apart_by_all_that_the_key_has() {
    on_tokio(|| async {
        let answer = numbered_with(&[("vary", "x-a, x-b")]);
        let site = Site::new(unknowing().method(Method::OPTIONS), answer).await;
        let asks = [
            get("/a").with("x-a", "1"),
            get("/b").with("x-a", "1"),
            get("/a").with("x-a", "1").at("b.test"),
            get("/a").with("x-a", "1").method(Method::OPTIONS),
            get("/a").with("x-b", "1"),
        ];
        // Each of them is learnt, and then met twice.
        for ask in &asks {
            share(&site, ask).await;
        }
        let (begun, joined) = (site.origin.begun.get(), site.flights.joined.get());
        let mut asked = Vec::new();
        for ask in asks.iter().chain(&asks) {
            asked.push(site.place(&site.http1(), ask.clone()).await);
        }
        assert_eq!(
            (site.origin.begun.get() - begun, site.flights.joined.get() - joined),
            (asks.len(), asks.len())
        );
        site.origin.gate.open();
        let got: Vec<_> = answers(asked).await.iter().map(|one| one.number() - begun).collect();
        assert_eq!(got, [1, 2, 3, 4, 5, 1, 2, 3, 4, 5]);
    });
}

/// A header that is in the key already keeps nobody apart who has met, nor does another's value.
#[test]
fn what_varies_on_a_header_of_the_key_is_shared_at_once() {
    on_tokio(|| async {
        let answer = numbered_with(&[("vary", "Accept-Language, accept"), ("vary", "ORIGIN")]);
        let site = Site::new(Policy::new(), answer).await;
        let ask = get("/").with("accept-language", "de");
        let mut asked = site.place_many(2, &ask).await;
        asked.extend(site.place_many(1, &ask.with("user-agent", "a")).await);
        site.origin.gate.open();
        assert_eq!(numbers(&answers(asked).await), [1, 1, 1]);
        assert_eq!((site.flights.led.get(), site.flights.joined.get()), (1, 2));
    });
}

/// Each value of a header counts, in its place, and each of the headers.
#[test]
fn every_value_of_every_header_that_a_response_varies_on_counts() {
    let one = || get("/").with("x-a", "1").with("x-b", "2");
    let others = [
        ("another value of the first", get("/").with("x-a", "2").with("x-b", "2")),
        ("another value of the second", get("/").with("x-a", "1").with("x-b", "1")),
        ("without the first", get("/").with("x-b", "2")),
        ("without the second", get("/").with("x-a", "1")),
        ("swapped", get("/").with("x-a", "2").with("x-b", "1")),
        ("twice", one().with("x-a", "1")),
        ("empty, too", one().with("x-b", "")),
    ];
    on_tokio(move || async move {
        for (name, other) in others {
            let answer = numbered_with(&[("vary", "x-b"), ("vary", "x-c, X-A,x-a")]);
            let site = Site::new(unknowing(), answer).await;
            let mut asked = site.place_many(2, &one()).await;
            asked.extend(site.place_many(1, &other).await);
            assert_eq!(site.flights.joined.get(), 2, "{name}");
            site.origin.gate.open();
            assert_eq!(numbers(&answers(asked).await), [1, 1, 2], "{name}");
        }
    });
}

/// Headers that are read for their directives are not in the key: who asks for another age than the leader
/// gets what is made for that.
#[test]
fn what_varies_on_a_header_of_directives_is_for_those_with_the_same() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered_with(&[("vary", "cache-control")])).await;
        let mut asked = Vec::new();
        for directives in ["max-age=0", "max-age=1", "max-age=0"] {
            let ask = get("/").with("cache-control", directives);
            asked.push(site.place(&site.http1(), ask).await);
        }
        assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 2));
        site.origin.gate.open();
        let got: Vec<_> = answers(asked).await.iter().map(Answer::number).collect();
        assert_eq!(got, [1, 2, 1]);
    });
}

/// Responses that name another header each time do not keep their followers for ever.
#[test]
fn who_varies_again_and_again_runs_alone_in_the_end() {
    on_tokio(|| async {
        let answer = |execution: Execution| {
            let vary = format!("x-{}", execution.number.min(3));
            let mut response = numbered(execution);
            response.headers_mut().insert("vary", HeaderValue::from_str(&vary).expect("a name"));
            response
        };
        let site = Site::new(unknowing(), answer).await;
        let mut asked = vec![site.place(&site.http1(), get("/").with("x-1", "leader")).await];
        // Three times five that have the second header in common, and nobody the third.
        for i in 0..15 {
            let ask = get("/").with("x-2", (i / 5).to_string()).with("x-3", i.to_string());
            asked.push(site.place(&site.http1(), ask).await);
        }
        site.origin.gate.let_pass(1);
        // One of the fifteen begins again.
        site.are_placed(16 + 15).await;
        site.origin.gate.let_pass(2);
        // Its five share, and of the others two begin.
        site.are_placed(16 + 15 + 10).await;
        assert_eq!((site.origin.begun.get(), site.flights.led.get()), (4, 4));
        site.origin.gate.open();
        let answers = answers(asked).await;
        let alone = Coalesced::Alone(Alone::Varies);
        let is_alone = |answer: &&Answer| answer.coalesced == alone;
        assert_eq!(answers.iter().filter(is_alone).count(), 8, "{answers:?}");
        let mut numbers = numbers(&answers);
        numbers.dedup();
        assert_eq!(numbers, (1..=12).collect::<Vec<_>>());
        assert_eq!(site.origin.begun.get(), 12);
    });
}

/// A key whose answers varied may turn out to be one whose answers are private.
#[test]
fn what_was_learnt_last_counts() {
    on_tokio(|| async {
        let answer = |execution: Execution| match execution.number {
            1 | 2 => in_language(execution),
            _ => numbered_with(PRIVATE)(execution),
        };
        let site = Site::new(unknowing(), answer).await;
        assert!(share(&site, &language("en")).await);
        let varies = site.place(&site.http1(), language("en")).await;
        let private = site.place(&site.http1(), language("de")).await;
        assert_eq!((site.origin.begun.get(), site.flights.led.get()), (3, 3));
        site.origin.gate.let_pass(2);
        assert_eq!(varies.answer().await.coalesced, Coalesced::Led { followers: 0 });
        site.origin.gate.open();
        let alone = Coalesced::Alone(Alone::ResponseHeader(header::CACHE_CONTROL));
        assert_eq!(private.answer().await.coalesced, alone);
        assert!(!share(&site, &language("en")).await);
    });
}

/// What runs alone says whether it has to: what is still not shared is remembered for longer, what has become
/// public is shared again at once.
#[tokio::test(start_paused = true)]
async fn what_is_remembered_is_learnt_anew_from_each_answer() {
    let is_private = Arc::new(AtomicBool::new(true));
    let seen = Arc::clone(&is_private);
    let origin = service_fn(move |_: Request<Body>| {
        let mut response = Response::new(Body::from("an answer"));
        if seen.load(SeqCst) {
            response.headers_mut().insert(header::SET_COOKIE, HeaderValue::from_static("a=1"));
        }
        ready(Ok::<_, Infallible>(response))
    });
    let policy = Policy::new().remember(Duration::from_secs(10));
    let service = CoalesceLayer::with_policy(policy).layer(origin);
    let how = async || {
        let response = service.clone().oneshot(Request::from(get("/"))).await.expect("infallible");
        response.extensions().get::<Coalesced>().expect("every response has it").clone()
    };
    let remembered = Coalesced::Alone(Alone::Remembered);

    assert_eq!(how().await, Coalesced::Alone(Alone::ResponseHeader(header::SET_COOKIE)));
    for _ in 0..3 {
        advance(Duration::from_secs(6)).await;
        assert_eq!(how().await, remembered);
    }
    is_private.store(false, SeqCst);
    assert_eq!(how().await, remembered);
    assert_eq!(how().await, Coalesced::Led { followers: 0 });
}
