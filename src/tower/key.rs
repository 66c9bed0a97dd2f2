//! `Key`: what a request must have in common with another to share its execution.

use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, header::HOST, request::Parts};

/// What tells requests apart: the method, the authority, path and query, and the headers that the
/// [`Policy`](super::Policy) has in its keys.
///
/// Keys are compared in full, byte by byte; a hash only says where to look. Each part is written with its
/// length before it, so that requests that differ in any part never spell the same key.
///
/// Made by a [`CoalesceLayer`](super::CoalesceLayer) for each request that may share; seen in
/// [`CoalesceLayer::in_flight`](super::CoalesceLayer::in_flight). It is shown as the method and the
/// target alone, because headers may hold what does not belong into a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key(Arc<[u8]>);

impl Key {
    /// Begins a key with what every request has. `None` if it is not clear whom the request is for.
    pub(super) fn of(request: &Parts, target: &str) -> Option<Spelling> {
        let mut spelling = Spelling(Vec::with_capacity(256));
        spelling.part(request.method.as_str().as_bytes());
        spelling.part(target.as_bytes());
        spelling.authority(request)?;
        Some(spelling)
    }

    /// The same key, with the values that these headers have.
    pub(super) fn varied(&self, names: &[HeaderName], headers: &HeaderMap) -> Self {
        let mut spelling = Spelling(Vec::with_capacity(self.0.len() + 64));
        spelling.0.extend_from_slice(&self.0);
        for name in names {
            headers.get_all(name).iter().for_each(|value| spelling.header(name, value));
        }
        spelling.done()
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The method of the request.
    pub fn method(&self) -> &str {
        self.text(0).0
    }

    /// Path and query of the request, or what the policy has instead of them.
    pub fn target(&self) -> &str {
        self.text(self.text(0).1).0
    }

    /// The part that begins there, and where the next one does.
    fn text(&self, at: usize) -> (&str, usize) {
        let (length, rest) =
            self.0[at..].split_first_chunk().expect("a part has its length before it");
        let length = u32::from_le_bytes(*length) as usize;
        let text = std::str::from_utf8(&rest[..length]).expect("these parts are text");
        (text, at + size_of::<u32>() + length)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.target())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&format_args!("{self}")).finish()
    }
}

/// A key that is being written.
pub(super) struct Spelling(Vec<u8>);

impl Spelling {
    /// Something more.
    pub(super) fn part(&mut self, part: &[u8]) {
        // No part comes near: hyper reads headers of some hundred KiB at most, and a `Uri` has 64 KiB.
        let length = u32::try_from(part.len()).expect("a part of a key has less than 4 GiB");
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(part);
    }

    /// One line of it.
    pub(super) fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.part(name.as_str().as_bytes());
        self.part(value.as_bytes());
    }

    /// Whom the request is for: the URI says it (HTTP/2, and requests to proxies), or `Host` does. If both do,
    /// handlers differ in what they read, so both have to say the same (RFC 9112, 3.2.2). Names of hosts are the
    /// same in upper and lower case (RFC 9110, 4.2.3), but not those of users, which nobody sends.
    fn authority(&mut self, request: &Parts) -> Option<()> {
        let mut hosts = request.headers.get_all(HOST).iter().map(|host| host.as_bytes());
        let (host, more) = (hosts.next(), hosts.next());
        let named = request.uri.authority().map(|authority| authority.as_str().as_bytes());
        let authority = match (named, host) {
            _ if more.is_some() => return None,
            (Some(named), Some(host)) if !named.eq_ignore_ascii_case(host) => return None,
            (Some(one), _) | (None, Some(one)) => one,
            // HTTP/1.0, and requests that never were on a wire.
            (None, None) => b"",
        };
        if authority.contains(&b'@') {
            return None;
        }
        let start = self.0.len() + size_of::<u32>();
        self.part(authority);
        self.0[start..].make_ascii_lowercase();
        // Handlers that see `https` redirect to it. HTTP/1.1 says neither on the wire.
        let scheme = request.uri.scheme_str().filter(|scheme| *scheme != "http");
        self.part(scheme.unwrap_or_default().as_bytes());
        Some(())
    }

    pub(super) fn done(self) -> Key {
        Key(self.0.into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::tower::Policy;

    /// What a request may consist of, with parts that look like the seams between others.
    #[derive(Debug, Clone, PartialEq)]
    struct Parts {
        method: &'static str,
        target: String,
        host: Option<String>,
        accept: Vec<String>,
        origin: Vec<String>,
        custom: String,
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-c]{0,2}", Just("accept".to_owned()), Just("\u{6}\0\0\0accept".to_owned())]
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof!["[a-b ,]{0,3}", Just("accept".to_owned()), Just("origin".to_owned())]
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let method = prop_oneof![Just("GET"), Just("HEAD")];
        let values = || prop::collection::vec(value(), 0..3);
        let host = prop::option::of("[a-b]{0,2}");
        (method, "/[a-b?/]{0,3}", host, values(), values(), text()).prop_map(
            |(method, target, host, accept, origin, custom)| Parts {
                method,
                target,
                host,
                accept,
                origin,
                custom,
            },
        )
    }

    fn key(parts: &Parts) -> Key {
        let mut request = Request::builder().method(parts.method).uri(&parts.target);
        if let Some(host) = &parts.host {
            request = request.header(HOST, host);
        }
        for (name, values) in [("accept", &parts.accept), ("origin", &parts.origin)] {
            for value in values {
                request = request.header(name, HeaderValue::from_str(value).unwrap());
            }
        }
        let (request, ()) = request.body(()).unwrap().into_parts();
        let custom = parts.custom.clone();
        Policy::new().key(move |_| Some(custom.clone())).key_of(&request).unwrap()
    }

    #[test]
    fn whom_a_request_is_for() {
        let key = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            Policy::new().key_of(&request.body(()).unwrap().into_parts().0).ok()
        };
        let one = key("http://example.org/", &[]);
        assert!(one.is_some());
        for (uri, host) in
            [("/", "example.org"), ("/", "EXAMPLE.ORG"), ("http://Example.org/", "example.org")]
        {
            assert_eq!(key(uri, &[host]), one, "{uri} for {host}");
        }
        for uri in ["https://example.org/", "ws://example.org/", "http://example.org:80/"] {
            assert!(key(uri, &[]).is_some_and(|other| Some(other) != one), "{uri}");
        }
        for (uri, hosts) in [
            ("http://example.org/", &["example.com"][..]),
            ("/", &["example.org", "example.org"]),
            // Users are not the same in upper and lower case.
            ("http://user@example.org/", &[]),
            ("/", &["user@example.org"]),
        ] {
            assert_eq!(key(uri, hosts), None, "{uri} for {hosts:?}");
        }
    }

    proptest! {
        #[test]
        fn requests_that_differ_have_keys_that_differ(one in parts(), other in parts()) {
            // No host is taken for an empty one.
            let named = |parts: &Parts| Parts { host: Some(parts.host.clone().unwrap_or_default()), ..parts.clone() };
            prop_assert_eq!(key(&one) == key(&other), named(&one) == named(&other));
            let key = key(&one);
            prop_assert_eq!(key.target(), one.target);
        }

        #[test]
        fn a_varied_key_is_that_of_no_other_request(
            one in parts(),
            custom in prop_oneof![text(), "(user-agent)?[a-b]{0,2}"],
            agents in prop::collection::vec(value(), 1..3),
        ) {
            let mut headers = HeaderMap::new();
            for agent in &agents {
                headers.append("user-agent", HeaderValue::from_str(agent).unwrap());
            }
            let varied = key(&one).varied(&[http::header::USER_AGENT], &headers);
            prop_assert_ne!(varied, key(&Parts { custom, ..one }));
        }
    }
}
