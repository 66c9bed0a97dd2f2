//! Clients that go before they have their answer: what is executed for others goes on, what is executed
//! for nobody is dropped, and what was for the one who is gone goes to nobody.

use axum::body::Body;
use http::{HeaderValue, Response};
use http_body_util::channel::Channel;
use shardflight::tower::{Alone, Coalesced, Policy};

use crate::{
    common::on_tokio,
    net::{Answer, Client, Execution, Site, answers, get, numbered, numbers},
};

/// The leader's client goes; its execution goes on for the followers.
async fn leader_goes(client_of: fn(&Site) -> Client) {
    let site = Site::new(Policy::new(), numbered).await;
    let leader = site.place(&client_of(&site), get("/")).await;
    let followers = site.place_many(4, &get("/")).await;
    leader.leave().await;
    site.server.gone.reaches(1).await;
    site.flights.taken_over.reaches(1).await;
    assert_eq!((site.origin.begun.get(), site.origin.over.get()), (1, 0));
    // Whoever comes now joins it, too.
    let newcomer = site.place(&site.http1(), get("/")).await;
    assert_eq!(site.flights.joined.get(), 5);
    site.origin.gate.let_pass(1);
    let mut all = answers(followers).await;
    all.push(newcomer.answer().await);
    assert_eq!((numbers(&all), site.origin.begun.get()), (vec![1; 5], 1));
    let led = all.iter().filter(|answer| answer.coalesced == Coalesced::Led { followers: 4 });
    assert_eq!(led.count(), 1);
}

#[test]
fn followers_go_on_with_the_execution_of_a_closed_connection() {
    on_tokio(|| async { leader_goes(Site::http1).await });
}

#[test]
fn followers_go_on_with_the_execution_of_a_reset_stream() {
    on_tokio(|| async { leader_goes(Site::http2).await });
}

/// One after the other goes, leaders and followers, until one is left: it has the one execution's answer.
#[test]
fn an_execution_lasts_as_long_as_one_client_is_left() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let mut asked = site.place_many(12, &get("/")).await;
        let last = asked.remove(7);
        for (i, asked) in asked.into_iter().enumerate() {
            asked.leave().await;
            site.server.gone.reaches(i + 1).await;
        }
        assert_eq!((site.origin.begun.get(), site.origin.over.get()), (1, 0));
        site.origin.gate.open();
        let answer = last.answer().await;
        assert_eq!((answer.number(), answer.coalesced), (1, Coalesced::Led { followers: 0 }));
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// When all are gone the handler is dropped where it stands, and the next request begins anew.
#[test]
fn an_execution_that_nobody_waits_for_is_dropped() {
    on_tokio(|| async {
        for client_of in [Site::http1, Site::http2] {
            let site = Site::new(Policy::new(), numbered).await;
            let client = client_of(&site);
            let mut asked = Vec::new();
            for _ in 0..5 {
                asked.push(site.place(&client, get("/")).await);
            }
            assert_eq!(site.origin.begun.get(), 1);
            for asked in asked {
                asked.leave().await;
            }
            site.origin.over.reaches(1).await;
            let next = client.send(get("/"));
            site.origin.begun.reaches(2).await;
            site.origin.gate.open();
            assert_eq!(next.answer().await.number(), 2);
        }
    });
}

/// A follower that goes changes nothing for the others.
#[test]
fn a_follower_that_goes_is_missed_by_nobody() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let mut asked = site.place_many(4, &get("/")).await;
        asked.remove(2).leave().await;
        site.flights.left.reaches(1).await;
        site.origin.gate.open();
        let answers = answers(asked).await;
        assert_eq!(numbers(&answers), [1, 1, 1]);
        assert_eq!(answers[0].coalesced, Coalesced::Led { followers: 2 });
        assert_eq!(site.flights.taken_over.get(), 0);
    });
}

/// The leader goes, and the response of its execution, which a follower has finished, turns out to be for
/// nobody else: nobody sees it, the one who finished it no more than the others.
async fn gone_leader(
    policy: Policy,
    answer: impl Fn(Execution) -> Response<Body> + Clone + Send + Sync + 'static,
) -> Vec<Answer> {
    let site = Site::new(policy, answer).await;
    let leader = site.place(&site.http1(), get("/")).await;
    let followers = site.place_many(6, &get("/")).await;
    leader.leave().await;
    site.flights.taken_over.reaches(1).await;
    assert_eq!((site.origin.begun.get(), site.origin.over.get()), (1, 0));
    site.origin.gate.open();
    let answers = answers(followers).await;
    assert!(answers.iter().all(|answer| answer.number() != 1), "{answers:?}");
    answers
}

fn with_session(execution: Execution) -> Response<Body> {
    let session = format!("session={}", execution.number);
    let mut response = numbered(execution);
    let session = HeaderValue::from_str(&session).expect("text");
    response.headers_mut().insert("set-cookie", session);
    response
}

#[test]
fn nobody_gets_the_cookie_of_a_client_that_is_gone() {
    on_tokio(|| async {
        let answers = gone_leader(Policy::new(), with_session).await;
        assert_eq!(numbers(&answers), [2, 3, 4, 5, 6, 7]);
        for answer in answers {
            let own = format!("session={}", answer.number());
            assert_eq!(answer.header("set-cookie"), Some(&own[..]));
            let why = Alone::ResponseHeader(http::header::SET_COOKIE);
            assert_eq!(answer.coalesced, Coalesced::Alone(why));
        }
    });
}

/// Over the limit, which shows only when its body is gathered.
#[test]
fn nobody_gets_the_body_that_was_too_large_of_a_client_that_is_gone() {
    on_tokio(|| async {
        let answer = |execution: Execution| match execution.number {
            1 => {
                let (mut sender, body) = Channel::<_, std::io::Error>::new(8);
                for _ in 0..3 {
                    sender.try_send(http_body::Frame::data("12345".into())).expect("room");
                }
                Response::new(Body::new(body))
            }
            _ => numbered(execution),
        };
        let policy = Policy::new().streams(true).max_body(10);
        let answers = gone_leader(policy, answer).await;
        assert_eq!(numbers(&answers), [2, 3, 4, 5, 6, 7]);
        let alone = Coalesced::Alone(Alone::TooLarge);
        assert!(answers.iter().all(|answer| answer.coalesced == alone), "{answers:?}");
    });
}

fn varying(execution: Execution) -> Response<Body> {
    let mut response = numbered(execution);
    response.headers_mut().insert("vary", HeaderValue::from_static("user-agent"));
    response
}

/// It varies on a header that the leader had, and that none of the followers has: the one who finished it
/// is judged as the others are. They share one of their own.
#[test]
fn nobody_gets_what_varies_from_it_of_a_client_that_is_gone() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), varying).await;
        let leader = site.place(&site.http1(), get("/").with("user-agent", "a")).await;
        let followers = site.place_many(6, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.let_pass(1);
        // One of the six begins the second execution, and the others join it.
        site.are_placed(2 + 6 + 5).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(followers).await), [2; 6]);
        assert_eq!(site.origin.begun.get(), 2);
    });
}

/// The twin of those above: what may be shared goes to all of them.
#[test]
fn everybody_gets_what_may_be_shared_of_a_client_that_is_gone() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), varying).await;
        let ask = get("/").with("user-agent", "a");
        let leader = site.place(&site.http1(), ask.clone()).await;
        let followers = site.place_many(6, &ask).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        site.origin.gate.open();
        assert_eq!(numbers(&answers(followers).await), [1; 6]);
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// The head is there, and half of the body; the other half comes when the leader is gone.
#[test]
fn followers_get_the_whole_body_that_a_leader_left_half_gathered() {
    on_tokio(|| async {
        let (mut sender, body) = Channel::<_, std::io::Error>::new(1);
        let body = std::sync::Mutex::new(Some(body));
        let body = std::sync::Arc::new(body);
        let answer = move |_: Execution| {
            let body = body.lock().expect("not poisoned").take().expect("one execution");
            let mut response = Response::new(Body::new(body));
            response.headers_mut().insert("content-length", 10.into());
            response
        };
        let site = Site::new(Policy::new(), answer).await;
        site.origin.gate.open();
        let leader = site.place(&site.http1(), get("/")).await;
        // When there is room for another piece, the first one has been taken.
        sender.send_data("01234".into()).await.expect("it is read");
        sender.send_data("56".into()).await.expect("it is read");
        sender.send_data("7".into()).await.expect("it is read");
        let followers = site.place_many(3, &get("/")).await;
        leader.leave().await;
        site.flights.taken_over.reaches(1).await;
        sender.send_data("89".into()).await.expect("it is read");
        drop(sender);
        for answer in answers(followers).await {
            assert_eq!(answer.text(), "0123456789");
        }
        assert_eq!(site.origin.begun.get(), 1);
    });
}

/// Who runs alone is dropped with its client, too, and takes nobody along.
#[test]
fn a_request_that_runs_alone_goes_with_its_client() {
    on_tokio(|| async {
        let site = Site::new(Policy::new(), numbered).await;
        let ask = get("/").with("cookie", "session=1");
        let alone = site.place(&site.http1(), ask.clone()).await;
        let other = site.place(&site.http1(), ask).await;
        alone.leave().await;
        site.origin.over.reaches(1).await;
        site.origin.gate.open();
        assert_eq!(other.answer().await.number(), 2);
    });
}
