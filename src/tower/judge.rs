//! The policy applied: to a request before it shares, and to a response before anybody else sees it.

use std::borrow::Cow;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, TRANSFER_ENCODING, VARY},
    request, response,
};
use http_body::Body;

use super::{Alone, HeaderRule, Key, Policy};

impl Policy {
    /// The key of a request that may share.
    pub(super) fn key_of(&self, request: &request::Parts, has_body: bool) -> Result<Key, Alone> {
        if !self.methods.contains(&request.method) {
            return Err(Alone::Method);
        }
        if has_body {
            return Err(Alone::Body);
        }
        if self.requests.as_ref().is_some_and(|may| !may(request)) {
            return Err(Alone::Policy);
        }
        let target = self.target_of(&request.uri);
        let mut spelling = Key::of(request, &target).ok_or(Alone::Authority)?;
        // As they come: who sends them in another order shares less, and the others pay nothing for order.
        for (name, value) in &request.headers {
            // It had one, which an outer layer may have taken.
            if *name == TRANSFER_ENCODING || *name == CONTENT_LENGTH && value != "0" {
                return Err(Alone::Body);
            }
            match self.rule(name) {
                HeaderRule::Key => spelling.header(name, value),
                HeaderRule::Ignore => spelling.ignored(name, value),
                HeaderRule::Directives if !says(value, &["no-store", "no-cache"]) => {
                    spelling.ignored(name, value);
                }
                HeaderRule::Directives | HeaderRule::Alone => {
                    return Err(Alone::Header(name.clone()));
                }
            }
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
        Ok(spelling.done())
    }

    fn target_of<'a>(&self, uri: &'a Uri) -> Cow<'a, str> {
        match &self.target {
            Some(of) => Cow::Owned(of(uri)),
            None => Cow::Borrowed(uri.path_and_query().map_or("", |target| target.as_str())),
        }
    }

    /// Whether others may get the response, as far as its head tells.
    pub(super) fn judge(&self, response: &response::Parts) -> Result<(), Alone> {
        let standard = self.judge_by_standard(response);
        match &self.responses {
            None => standard,
            Some(may) if may(response, standard.is_ok()) => Ok(()),
            Some(_) => Err(standard.err().unwrap_or(Alone::Policy)),
        }
    }

    fn judge_by_standard(&self, response: &response::Parts) -> Result<(), Alone> {
        let headers = &response.headers;
        if !self.statuses.contains(&response.status) {
            return Err(Alone::Status(response.status));
        }
        for (name, value) in headers {
            let is_private = match name {
                name if *name == SET_COOKIE => true,
                name if *name == CACHE_CONTROL => says(value, &["private", "no-store", "no-cache"]),
                // It varies on anything, or on nobody knows what.
                name if *name == VARY => varied(value).any(|name| name.is_none()),
                _ => false,
            };
            if is_private {
                return Err(Alone::ResponseHeader(name.clone()));
            }
        }
        Ok(())
    }

    /// Whether the body is to be gathered, as far as its length is known; and what that is.
    pub(super) fn judge_body(
        &self,
        key: &Key,
        response: &response::Parts,
        body: &impl Body,
    ) -> Result<Option<u64>, Alone> {
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

    /// The headers that a response varies on and in which requests with the same key may differ, in an order
    /// of their own.
    pub(super) fn varies_on(&self, response: &HeaderMap) -> Vec<HeaderName> {
        let may_differ =
            |name: &HeaderName| !matches!(self.rule(name), HeaderRule::Key | HeaderRule::Alone);
        let values = response.get_all(VARY).iter();
        let mut names: Vec<_> = values.flat_map(varied).flatten().filter(may_differ).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
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
