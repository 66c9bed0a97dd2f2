//! The policy applied: to a request before it shares, and to a response before anybody else sees it.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING, VARY},
    request, response,
};
use http_body::Body;

use super::{
    Alone, HeaderRule, Key, Policy, connection,
    grpc::GRPC_STATUS,
    incremental::{INCREMENTAL, is_incremental},
    key::Spelling,
};

/// The content of a request, as far as its key goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    Absent,
    /// There is some, which is not read.
    Unread,
    /// It is read before the request shares, and becomes part of the key.
    Read,
}

impl Policy {
    /// The key of a request that may share, without its content. Such a request is rewritten so that the service
    /// sees what the key has.
    pub(super) fn key_of(
        &self,
        request: &mut request::Parts,
        content: Content,
    ) -> Result<Key, Alone> {
        if !self.methods.contains(&request.method) {
            return Err(Alone::Method);
        }
        let is_read = content == Content::Read && gives_content_a_meaning(&request.method);
        if content != Content::Absent && !is_read {
            return Err(Alone::Body);
        }
        if self.requests.as_ref().is_some_and(|may| !may(request)) {
            return Err(Alone::Policy);
        }
        let target = self.target_of(&request.uri);
        let mut spelling = Key::of(request, &target).ok_or(Alone::Authority)?;
        let (mut wants_fresh, mut is_normalized) = (false, false);
        // In the order in which they arrive: a request with another order shares less, and no other pays for order.
        for (name, value) in &request.headers {
            let declares_body =
                *name == TRANSFER_ENCODING || *name == CONTENT_LENGTH && value != "0";
            // It had one, which an outer layer might have taken.
            if declares_body && !is_read {
                return Err(Alone::Body);
            }
            match self.rule(name) {
                HeaderRule::Key => spelling.header(name, value),
                HeaderRule::Ignore if is_read && describes_content(name) => {
                    spelling.header(name, value);
                }
                HeaderRule::Ignore => spelling.ignored(name, value),
                HeaderRule::Directives => match Directives::of(value) {
                    Directives::NoStore => return Err(Alone::Header(name.clone())),
                    Directives::NoCache if !self.shares_no_cache => {
                        return Err(Alone::Header(name.clone()));
                    }
                    Directives::NoCache => wants_fresh = true,
                    Directives::Bending => spelling.header(name, value),
                    Directives::Harmless => spelling.ignored(name, value),
                },
                HeaderRule::Nominations => {
                    if connection::unusual(value.as_bytes()).next().is_some() {
                        return Err(Alone::Header(name.clone()));
                    }
                    spelling.ignored(name, value);
                }
                HeaderRule::Incremental if is_incremental(&request.headers, name) => {
                    return Err(Alone::Header(name.clone()));
                }
                HeaderRule::Incremental => spelling.header(name, value),
                HeaderRule::Normalized(_) => is_normalized = true,
                HeaderRule::Alone => return Err(Alone::Header(name.clone())),
            }
        }
        // One spelling for all ways to say it, apart from the requests that a cache may answer.
        if wants_fresh {
            spelling.header(&CACHE_CONTROL, &HeaderValue::from_static("no-cache"));
        }
        // Not to be mistaken for a header: its name would be empty.
        if let Some(of) = &self.key {
            spelling.part(b"");
            spelling.part(of(request).ok_or(Alone::Policy)?.as_bytes());
        }
        #[cfg(feature = "axum")]
        if let Some(axum::extract::OriginalUri(uri)) = request.extensions.get()
            && *uri != request.uri
        {
            spelling.part(b"");
            spelling.part(self.target_of(uri).as_bytes());
        }
        // Last, since it changes the request.
        if is_normalized {
            self.normalize(request, &mut spelling)?;
        }
        Ok(spelling.done())
    }

    /// Writes the normal forms into the key, and into the request unless it runs alone.
    fn normalize(
        &self,
        request: &mut request::Parts,
        spelling: &mut Spelling,
    ) -> Result<(), Alone> {
        let mut normalized = Vec::new();
        for name in request.headers.keys() {
            let HeaderRule::Normalized(normal_form) = self.rule(name) else { continue };
            // Several lines are one list (RFC 9110, 5.3).
            let lines = request.headers.get_all(name).iter().map(HeaderValue::to_str);
            let lines: Result<Vec<_>, _> = lines.collect();
            let lines = lines.map_err(|_| Alone::Header(name.clone()))?;
            let value = normal_form(&lines.join(", "));
            if let Some(value) = &value {
                spelling.header(name, value);
            }
            normalized.push((name.clone(), value));
        }
        for (name, value) in normalized {
            match value {
                Some(value) => drop(request.headers.insert(name, value)),
                None => drop(request.headers.remove(name)),
            }
        }
        Ok(())
    }

    /// The key of a request whose content has been read.
    pub(super) fn key_with_content(
        &self,
        key: &Key,
        request: &request::Parts,
        content: &[u8],
    ) -> Result<Key, Alone> {
        let Some(of) = &self.content else { return Ok(key.with_content(content)) };
        match of(request, content) {
            // All requests of a function that forgets what it looks for would share.
            Some(part) if !part.is_empty() => Ok(key.with_content(&part)),
            _ => Err(Alone::Policy),
        }
    }

    fn target_of<'a>(&self, uri: &'a Uri) -> Cow<'a, str> {
        match &self.target {
            Some(of) => Cow::Owned(of(uri)),
            None => Cow::Borrowed(uri.path_and_query().map_or("", |target| target.as_str())),
        }
    }

    /// Whether others may get the response, as far as its head tells.
    pub(super) fn judge(&self, response: &response::Parts) -> Result<(), Alone> {
        self.judge_with(response, None)
    }

    /// The same, once its trailers are there: what they say is judged as if the head had said it.
    pub(super) fn judge_with(
        &self,
        response: &response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> Result<(), Alone> {
        let standard = self.judge_by_standard(response, trailers);
        match &self.responses {
            None => standard,
            Some(may) if may(response, standard.is_ok()) => Ok(()),
            Some(_) => Err(standard.err().unwrap_or(Alone::Policy)),
        }
    }

    fn judge_by_standard(
        &self,
        response: &response::Parts,
        trailers: Option<&HeaderMap>,
    ) -> Result<(), Alone> {
        if !self.statuses.contains(&response.status) {
            return Err(Alone::Status(response.status));
        }
        judge_fields(&response.headers)?;
        trailers.map_or(Ok(()), judge_fields)
    }

    /// Whether the body is to be gathered, as far as its length is known; and what that is.
    pub(super) fn judge_body(
        &self,
        key: &Key,
        response: &response::Parts,
        body: &impl Body,
    ) -> Result<Option<u64>, Alone> {
        // Without a function of the policy it was judged already. No function overrules it: it is about waiting.
        if self.responses.is_some() && is_incremental(&response.headers, &INCREMENTAL) {
            return Err(Alone::ResponseHeader(INCREMENTAL.clone()));
        }
        // The answer to a HEAD in HTTP/2 has a body whose hint is what `Content-Length` says, and that has ended.
        let exact = if body.is_end_stream() { Some(0) } else { body.size_hint().exact() };
        let declared = declared_length(key, &response.headers);
        match exact.or(declared) {
            // Its server is going to tell the client that something is wrong.
            Some(length) if declared.is_some_and(|declared| declared != length) => {
                Err(Alone::Failed)
            }
            Some(length) if length > self.limits.max_body as u64 => Err(Alone::TooLarge),
            Some(length) => Ok(Some(length)),
            None if self.shares_streams && !is_event_stream(&response.headers) => Ok(None),
            None => Err(Alone::Stream),
        }
    }

    /// The headers that a response varies on and in which requests with the same key may differ, sorted.
    pub(super) fn varies_on(
        &self,
        response: &HeaderMap,
        trailers: Option<&HeaderMap>,
    ) -> Vec<HeaderName> {
        let may_differ = |name: &HeaderName| {
            use HeaderRule::{Alone, Key, Normalized};
            !matches!(self.rule(name), Key | Alone | Normalized(_))
        };
        let names_of = |fields: &HeaderMap, names: &mut Vec<_>| {
            let values = fields.get_all(VARY).iter();
            names.extend(values.flat_map(varied).flatten().filter(may_differ));
        };
        let mut names = Vec::new();
        names_of(response, &mut names);
        if let Some(trailers) = trailers {
            names_of(trailers, &mut names);
        }
        names.sort_by(|a: &HeaderName, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }
}

/// Those of the head, or the trailers.
fn judge_fields(fields: &HeaderMap) -> Result<(), Alone> {
    for (name, value) in fields {
        let is_private = match name {
            name if *name == SET_COOKIE => true,
            name if *name == CACHE_CONTROL => says(value, &["private", "no-store", "no-cache"]),
            // It varies on anything, or on nobody knows what.
            name if *name == VARY => varied(value).any(|name| name.is_none()),
            name if *name == GRPC_STATUS => value != "0",
            name if *name == INCREMENTAL => is_incremental(fields, name),
            _ => false,
        };
        if is_private {
            return Err(Alone::ResponseHeader(name.clone()));
        }
    }
    Ok(())
}

/// Content of a `GET` or `HEAD` has no meaning, and servers differ in what they make of it (RFC 9110, 9.3.1).
fn gives_content_a_meaning(method: &Method) -> bool {
    *method != Method::GET && *method != Method::HEAD
}

/// Such as `Content-Type` and `Content-Encoding`: the same content with another one is another request.
fn describes_content(name: &HeaderName) -> bool {
    *name != CONTENT_LENGTH && name.as_str().starts_with("content-")
}

/// What a request wants of caches (RFC 9111, 5.2.1).
enum Directives {
    NoStore,
    NoCache,
    /// A cache behind might answer it with what it would not give to other requests.
    Bending,
    Harmless,
}

impl Directives {
    fn of(value: &HeaderValue) -> Self {
        const BENDING: [&str; 4] =
            ["max-stale", "no-transform", "only-if-cached", "stale-if-error"];
        if says(value, &["no-store"]) {
            Self::NoStore
        } else if says(value, &["no-cache"]) {
            Self::NoCache
        } else if says(value, &BENDING) {
            Self::Bending
        } else {
            Self::Harmless
        }
    }
}

/// What `Vary` names; `None` is `*`, or what is no name.
fn varied(value: &HeaderValue) -> impl Iterator<Item = Option<HeaderName>> {
    let names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let names = names.filter(|name| !name.is_empty());
    names.map(|name| HeaderName::from_bytes(name).ok().filter(|name| name != "*"))
}

/// What `Content-Length` says. That of an answer to HEAD is another's (RFC 9110, 9.3.2).
fn declared_length(key: &Key, headers: &HeaderMap) -> Option<u64> {
    if key.method() == Method::HEAD.as_str() {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let kind = kind.as_bytes();
    const EVENTS: &[u8] = b"text/event-stream";
    kind.get(..EVENTS.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS))
}

/// Whether one of these directives is anywhere in it. What separates them is taken for granted nowhere: servers
/// write `no-cache; private`, and there is nothing in a list that forbids sharing by being misread.
/// `private="set-cookie"` is taken for `private`, as most caches do (RFC 9111, 5.2.2.7).
fn says(value: &HeaderValue, directives: &[&str]) -> bool {
    let is_separator = |byte: &u8| !byte.is_ascii_alphanumeric() && !b"-_".contains(byte);
    let mut words = value.as_bytes().split(is_separator);
    words.any(|word| directives.iter().any(|one| word.eq_ignore_ascii_case(one.as_bytes())))
}
