//! Bodies that break off while they are gathered: clients see as much of them as there was, and see that it is
//! not all.

use std::{error::Error, io};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use shardflight::tower::{Alone, Coalesced, Policy};

use crate::{
    common::on_tokio,
    net::{Client, Execution, Opened, Piecewise, Site, get, piecewise},
};

/// How a body ends before it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    WithAnError,
    /// It is shorter than it said.
    TooEarly,
}

/// In the middle, after these pieces, all of which come together.
async fn break_off(mut sender: Piecewise, pieces: &'static [&'static str], ends: Ends) {
    for piece in pieces {
        sender.send_data((*piece).into()).await.expect("it is read");
    }
    match ends {
        Ends::WithAnError => sender.abort(io::ErrorKind::ConnectionReset.into()),
        Ends::TooEarly => drop(sender),
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    has_length: bool,
    pieces: &'static [&'static str],
    ends: Ends,
}

impl Case {
    fn all() -> impl Iterator<Item = Self> {
        let pieces: [&[&str]; 3] = [&[], &["01234"], &["0", "123", "4"]];
        let lengths =
            [(true, Ends::WithAnError), (true, Ends::TooEarly), (false, Ends::WithAnError)];
        lengths.into_iter().flat_map(move |(has_length, ends)| {
            pieces.into_iter().map(move |pieces| Self { has_length, pieces, ends })
        })
    }

    fn answer(self, execution: Execution) -> Response<axum::body::Body> {
        let (sender, body) = piecewise();
        tokio::spawn(break_off(sender, self.pieces, self.ends));
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert("x-execution", execution.number.into());
        if self.has_length {
            headers.insert("content-length", HeaderValue::from_static("10"));
        }
        response
    }
}

/// As it would be without the layer: the head, the bytes that there were, and an end that is none. HTTP/1.1 closes
/// the connection, and HTTP/2 resets the stream.
async fn breaks(opened: Opened, case: Case, execution: &str, is_http2: bool) {
    assert_eq!(opened.status, StatusCode::OK);
    assert_eq!(opened.headers["x-execution"], execution);
    let (begun, error) = opened.until_it_breaks().await;
    assert_eq!(begun, Bytes::from(case.pieces.concat()), "{case:?}");
    if is_http2 && case.ends == Ends::WithAnError {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
        assert!(cause.is_some_and(|cause| cause.is_reset() && cause.is_remote()), "{error:?}");
    }
}

async fn breaks_for_the_leader(client_of: fn(&Site) -> Client, is_http2: bool) {
    for case in Case::all() {
        let policy = Policy::new().streams(true);
        let site = Site::new(policy, move |execution| case.answer(execution)).await;
        site.origin.gate.open();
        let opened = client_of(&site).open(get("/")).await;
        let opened = opened.unwrap_or_else(|error| panic!("no answer to {case:?}: {error:?}"));
        assert_eq!(opened.coalesced, Coalesced::Alone(Alone::Failed));
        breaks(opened, case, "1", is_http2).await;
    }
}

#[test]
fn the_leader_of_a_body_that_breaks_off_gets_its_head_and_what_there_was() {
    on_tokio(|| async {
        for _ in 0..20 {
            breaks_for_the_leader(Site::http1, false).await;
        }
    });
}

#[test]
fn the_leader_of_a_body_that_breaks_off_gets_its_head_and_what_there_was_over_http2() {
    on_tokio(|| async {
        for _ in 0..20 {
            breaks_for_the_leader(Site::http2, true).await;
        }
    });
}

/// Everybody sees that the body is not whole: the one that is executed, the one that tries again for the others, and
/// those.
#[test]
fn no_body_that_breaks_off_looks_complete_to_anybody() {
    on_tokio(|| async {
        for client_of in [Site::http1, Site::http2] {
            for case in Case::all() {
                let policy = Policy::new().streams(true);
                let site = Site::new(policy, move |execution| case.answer(execution)).await;
                let client = client_of(&site);
                let mut asked = Vec::new();
                for _ in 0..4 {
                    asked.push(site.place(&client, get("/")).await);
                }
                assert_eq!((site.origin.begun.get(), site.flights.joined.get()), (1, 3));
                site.origin.gate.open();
                let mut broken = 0;
                for asked in asked {
                    match asked.end().await {
                        Err(_) => broken += 1,
                        Ok(answer) => {
                            assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{case:?}")
                        }
                    }
                }
                assert_eq!((broken, site.origin.begun.get()), (2, 2), "{case:?}");
            }
        }
    });
}

/// Somebody who keeps all that he has read, and so never lets the layer know that it has been sent, gets the
/// error all the same.
#[test]
fn a_reader_that_keeps_what_it_has_read_gets_the_error() {
    use http_body_util::BodyExt;
    use tower::{Layer, ServiceExt};

    on_tokio(|| async {
        let case = Case { has_length: true, pieces: &["01234"], ends: Ends::WithAnError };
        let origin = crate::net::Origin::default();
        origin.gate.open();
        let service = origin.answering(move |execution| case.answer(execution));
        let service = shardflight::tower::CoalesceLayer::new().layer(service);
        let response = service.oneshot(get("/").into()).await.expect("a response");
        let mut body = response.into_body();
        let begun = body.frame().await.expect("a frame").expect("it is read");
        let error = body.frame().await.expect("it does not end").expect_err("it breaks off");
        assert_eq!(begun.into_data().expect("data"), "01234");
        assert!(error.source().is_some(), "{error}");
    });
}
