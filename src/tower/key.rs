//! `Key`: what a request must have in common with another to share its execution.

use std::{
    cell::Cell,
    fmt,
    hash::{Hash, Hasher},
    iter, mem,
    sync::Arc,
};

use http::{HeaderName, HeaderValue, Version, header::HOST, request::Parts};

/// What tells requests apart: the method, the authority, path and query, the headers that the
/// [`Policy`](super::Policy) has in its keys, and the content if it is read.
///
/// Keys are compared in full, byte by byte; a hash only says where to look. Each part is written with its
/// length before it, so that requests that differ in any part never spell the same key.
///
/// Made by a [`CoalesceLayer`](super::CoalesceLayer) for each request that may share; seen in
/// [`CoalesceLayer::in_flight`](super::CoalesceLayer::in_flight). It is shown as the method and the
/// target alone, because headers may hold what does not belong into a log.
#[derive(Clone)]
pub struct Key {
    /// The key, and after it the headers that are not part of it.
    bytes: Arc<[u8]>,
    length: usize,
}

impl Key {
    /// Begins a key with what every request has. `None` if it is not clear whom the request is for.
    pub(super) fn of(request: &Parts, target: &str) -> Option<Spelling> {
        let mut spelling = Spelling::begin();
        spelling.part(request.method.as_str().as_bytes());
        spelling.part(target.as_bytes());
        spelling.authority(request)?;
        Some(spelling)
    }

    /// The same key, with what these headers are, which were not part of it.
    pub(super) fn varied(&self, names: &[HeaderName]) -> Self {
        let mut spelling = Spelling::begin();
        spelling.key.extend_from_slice(self.key());
        for name in names {
            for value in self.ignored(name) {
                spelling.part(name.as_str().as_bytes());
                spelling.part(value);
            }
        }
        spelling.done()
    }

    /// The same key, with the content of the request.
    pub(super) fn with_content(&self, content: &[u8]) -> Self {
        let mut spelling = Spelling::begin();
        spelling.key.extend_from_slice(self.key());
        // No header has this name, and nothing else in a key has.
        spelling.part(b" ");
        spelling.part(content);
        spelling.ignored.extend_from_slice(&self.bytes[self.length..]);
        spelling.done()
    }

    /// The values of a header that is not part of the key.
    pub(super) fn ignored(&self, name: &HeaderName) -> impl Iterator<Item = &[u8]> {
        let mut parts = parts(&self.bytes[self.length..]);
        let pairs = iter::from_fn(move || Some((parts.next()?, parts.next()?)));
        pairs.filter(move |(other, _)| *other == name.as_str().as_bytes()).map(|(_, value)| value)
    }

    fn key(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// In bytes, with all headers.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The method of the request.
    pub fn method(&self) -> &str {
        self.text(0)
    }

    /// Path and query of the request, or what the policy has instead of them.
    pub fn target(&self) -> &str {
        self.text(1)
    }

    fn text(&self, n: usize) -> &str {
        let part = parts(self.key()).nth(n).expect("every key has it");
        std::str::from_utf8(part).expect("these parts are text")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// One after the other, each with its length before it.
fn parts(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    iter::from_fn(move || {
        let (length, rest) = bytes.split_first_chunk()?;
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        bytes = rest;
        Some(part)
    })
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
pub(super) struct Spelling {
    key: Vec<u8>,
    ignored: Vec<u8>,
}

thread_local! {
    /// What the last key was written in: its room is used again.
    static ROOM: Cell<[Vec<u8>; 2]> = const { Cell::new([Vec::new(), Vec::new()]) };
}

/// In bytes: what a thread keeps of it. Few requests have more headers.
const MOST_ROOM: usize = 16 * 1024;

impl Drop for Spelling {
    fn drop(&mut self) {
        let room = [mem::take(&mut self.key), mem::take(&mut self.ignored)];
        if room.iter().all(|room| room.capacity() <= MOST_ROOM) {
            // A thread that ends keeps nothing.
            let _ = ROOM.try_with(|kept| kept.set(room));
        }
    }
}

impl Spelling {
    fn begin() -> Self {
        let [mut key, mut ignored] = ROOM.try_with(Cell::take).unwrap_or_default();
        key.clear();
        ignored.clear();
        Self { key, ignored }
    }

    /// Something more.
    pub(super) fn part(&mut self, part: &[u8]) {
        write(&mut self.key, part);
    }

    /// One line of a header.
    pub(super) fn header(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.part(name.as_str().as_bytes());
        self.part(value.as_bytes());
    }

    /// One of a header that is not part of the key, but may turn out to be what a response varies on.
    pub(super) fn ignored(&mut self, name: &HeaderName, value: &HeaderValue) {
        write(&mut self.ignored, name.as_str().as_bytes());
        write(&mut self.ignored, value.as_bytes());
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
        let start = self.key.len() + size_of::<u32>();
        self.part(authority);
        self.key[start..].make_ascii_lowercase();
        // Handlers that see `https` redirect to it. HTTP/1.1 says neither on the wire.
        let scheme = request.uri.scheme_str().filter(|scheme| *scheme != "http");
        // Handlers may see that a client speaks HTTP/1.0, and answer it in another way. Later versions are the
        // same to them. No scheme has a space in it.
        let scheme = scheme.unwrap_or_default();
        if request.version < Version::HTTP_11 {
            self.part(format!("{scheme} 1.0").as_bytes());
        } else {
            self.part(scheme.as_bytes());
        }
        Some(())
    }

    pub(super) fn done(mut self) -> Key {
        let length = self.key.len();
        self.key.extend_from_slice(&self.ignored);
        Key { bytes: self.key.as_slice().into(), length }
    }
}

fn write(to: &mut Vec<u8>, part: &[u8]) {
    // No part comes near: hyper reads headers of some hundred KiB at most, and a `Uri` has 64 KiB.
    let length = u32::try_from(part.len()).expect("a part of a key has less than 4 GiB");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(part);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::tower::{Policy, judge::Content};

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
        key_of(parts, &[])
    }

    fn key_of(parts: &Parts, agents: &[String]) -> Key {
        let mut request = Request::builder().method(parts.method).uri(&parts.target);
        if let Some(host) = &parts.host {
            request = request.header(HOST, host);
        }
        for (name, values) in [("accept", &parts.accept), ("origin", &parts.origin)] {
            for value in values {
                request = request.header(name, HeaderValue::from_str(value).unwrap());
            }
        }
        for agent in agents {
            request = request.header("user-agent", agent);
        }
        let (mut request, ()) = request.body(()).unwrap().into_parts();
        let custom = parts.custom.clone();
        let policy = Policy::new().key(move |_| Some(custom.clone()));
        policy.key_of(&mut request, Content::Absent).unwrap()
    }

    #[test]
    fn whom_a_request_is_for() {
        let key = |uri: &str, hosts: &[&str]| {
            let mut request = Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let (mut request, ()) = request.body(()).unwrap().into_parts();
            Policy::new().key_of(&mut request, Content::Absent).ok()
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
            let varied = key_of(&one, &agents).varied(&[http::header::USER_AGENT]);
            let ignored = key_of(&one, &agents);
            prop_assert!(ignored.ignored(&http::header::USER_AGENT).eq(agents.iter().map(String::as_bytes)));
            prop_assert_eq!(&key_of(&one, &agents), &key(&one));
            prop_assert_ne!(varied, key(&Parts { custom, ..one }));
        }
    }
}
