//! What is asked of the server.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Requests of one kind.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    route: &'static str,
    is_hot: bool,
    has_authorization: bool,
}

impl Workload {
    const fn distinct(name: &'static str, route: &'static str) -> Self {
        Self { name, route, is_hot: false, has_authorization: false }
    }

    const fn hot(name: &'static str, route: &'static str) -> Self {
        Self { name, route, is_hot: true, has_authorization: false }
    }

    const fn alone(name: &'static str, route: &'static str) -> Self {
        Self { name, route, is_hot: false, has_authorization: true }
    }

    /// Whether the handler takes milliseconds.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.route, "wait" | "compute")
    }

    pub(crate) fn is_distinct(&self) -> bool {
        !self.is_hot
    }

    /// Whether the policy does not let its requests share.
    pub(crate) fn runs_alone(&self) -> bool {
        self.has_authorization
    }

    /// The path of the request with this number.
    pub(crate) fn write_path(&self, number: u64, path: &mut impl std::fmt::Write) {
        let number = if self.is_hot { 0 } else { number };
        write!(path, "/{}/{number:010}", self.route).expect("a path is written to memory");
    }

    /// What a browser's script sends, and what makes the policy let a request run alone.
    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        const AUTHORIZATION: (&str, &str) =
            ("authorization", "Bearer 0123456789abcdef0123456789abcdef");
        [
            (
                "user-agent",
                "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
            ),
            ("accept", "application/json"),
            ("accept-language", "en-US,en;q=0.5"),
            ("accept-encoding", "gzip, deflate, br, zstd"),
            ("referer", "http://localhost/articles"),
        ]
        .into_iter()
        .chain(self.has_authorization.then_some(AUTHORIZATION))
    }

    /// The same.
    pub(crate) fn header_map(&self) -> HeaderMap {
        let of = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        self.headers().map(of).collect()
    }
}

pub(crate) const ALL: &[Workload] = &[
    Workload::distinct("distinct, 13 bytes of text", "text"),
    Workload::distinct("distinct, 4 KiB of JSON", "json"),
    Workload::distinct("distinct, 16 KiB of JSON", "more-json"),
    Workload::alone("distinct, 13 bytes of text, with Authorization", "text"),
    Workload::hot("hot, 13 bytes of text at once", "text"),
    Workload::hot("hot, a query of 2 ms on one of 4 connections", "wait"),
    Workload::hot("hot, a millisecond of computing", "compute"),
];
