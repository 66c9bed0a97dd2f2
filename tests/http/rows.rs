//! Rules of requests as rows: each that keeps two requests apart has a twin, where only what the rule looks at is
//! different, and which shares.

use axum::body::Body;
use http::{Method, Response};
use shardflight::tower::{Alone, Coalesced, Policy};

use crate::net::{Answer, Ask, Client, Execution, Site, numbered};

/// Two requests, of which the first is executed when the second comes.
pub(crate) struct Case {
    policy: Policy,
    pair: [Ask; 2],
    /// Whether the layer reads the bodies of requests.
    reads: bool,
}

impl Case {
    pub(crate) fn reading(self) -> Self {
        Self { reads: true, ..self }
    }

    async fn begin(self, client_of: fn(&Site) -> Client) -> (Site, Client, [Ask; 2]) {
        let site = match self.reads {
            true => Site::reading(self.policy, stamped).await,
            false => Site::new(self.policy, stamped).await,
        };
        let client = client_of(&site);
        (site, client, self.pair)
    }
}

pub(crate) fn case(policy: Policy, pair: [Ask; 2]) -> Case {
    Case { policy, pair, reads: false }
}

/// Under the default policy.
pub(crate) fn by_default(pair: [Ask; 2]) -> Case {
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

pub(crate) struct Row {
    name: String,
    not_shared: Case,
    why: Why,
    twin: Case,
}

pub(crate) fn apart(name: impl Into<String>, not_shared: Case, twin: Case) -> Row {
    Row { name: name.into(), not_shared, why: Why::Apart, twin }
}

pub(crate) fn alone(name: impl Into<String>, why: Alone, not_shared: Case, twin: Case) -> Row {
    Row { name: name.into(), not_shared, why: Why::Alone(why), twin }
}

/// The answers to two requests that are there at the same time.
pub(crate) async fn meet(site: &Site, client: &Client, first: &Ask, second: &Ask) -> [Answer; 2] {
    let first = site.place(client, first.clone()).await;
    let second = site.place(client, second.clone()).await;
    site.origin.gate.let_pass(site.origin.begun.get());
    [first.answer().await, second.answer().await]
}

pub(crate) const LED: Coalesced = Coalesced::Led { followers: 0 };

async fn check(row: Row, client_of: fn(&Site) -> Client) {
    let Row { name, not_shared, why, twin } = row;
    let (site, client, [a, b]) = not_shared.begin(client_of).await;
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

    let (site, client, [a, b]) = twin.begin(client_of).await;
    for (first, second) in [(&a, &b), (&b, &a)] {
        let answers = meet(&site, &client, first, second).await;
        assert!(!own(&answers), "the twin of {name}: {answers:?}");
        let expected = [&Coalesced::Led { followers: 1 }, &Coalesced::Joined];
        let coalesced = [&answers[0].coalesced, &answers[1].coalesced];
        assert_eq!(coalesced, expected, "the twin of {name}");
    }
}

/// An answer to HEAD, too, says which execution it is of.
pub(crate) fn stamped(execution: Execution) -> Response<Body> {
    let number = execution.number;
    let mut response = match *execution.request.method() {
        Method::HEAD => Response::default(),
        _ => numbered(execution),
    };
    response.headers_mut().insert("x-execution", number.into());
    response
}

pub(crate) async fn check_all(rows: Vec<Row>, client_of: fn(&Site) -> Client) {
    for row in rows {
        check(row, client_of).await;
    }
}
