//! The policy applied: to a request before it shares, and to a response before anybody else sees it.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE, VARY},
    request, response,
};
use http_body::Body;

use super::{Alone, HeaderRule, Key, Policy};

impl Policy {
    /// The key of a request that may share.
    pub(super) fn key_of(&self, request: &request::Parts) -> Result<Key, Alone> {
        if !self.methods.contains(&request.method) {
            return Err(Alone::Method);
        }
        self.judge_headers(&request.headers)?;
        if self.requests.as_ref().is_some_and(|may| !may(request)) {
            return Err(Alone::Policy);
        }
        let target = self.target.as_ref().map(|of| of(&request.uri));
        let mut spelling = Key::of(request, target.as_deref()).map_err(|_| Alone::Authority)?;
        for name in &self.in_key {
            spelling.header(name, &request.headers);
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
            spelling.part(uri.path().as_bytes());
        }
        Ok(spelling.done())
    }

    fn judge_headers(&self, headers: &HeaderMap) -> Result<(), Alone> {
        for (name, value) in headers {
            let is_alone = match self.rules.get(name) {
                Some(HeaderRule::Alone) => true,
                Some(HeaderRule::Directives) => directives(value)
                    .any(|directive| is_one_of(directive, &[b"no-store", b"no-cache"])),
                Some(HeaderRule::Key | HeaderRule::Ignore) | None => false,
            };
            if is_alone {
                return Err(Alone::Header(name.clone()));
            }
        }
        Ok(())
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
        if headers.contains_key(SET_COOKIE) {
            return Err(Alone::ResponseHeader(SET_COOKIE));
        }
        let private: &[&[u8]] = &[b"private", b"no-store", b"no-cache"];
        let forbids = |value| directives(value).any(|directive| is_one_of(directive, private));
        if headers.get_all(CACHE_CONTROL).iter().any(forbids) {
            return Err(Alone::ResponseHeader(CACHE_CONTROL));
        }
        if headers.get_all(VARY).iter().any(|value| directives(value).any(|name| name == b"*")) {
            return Err(Alone::ResponseHeader(VARY));
        }
        Ok(())
    }

    /// Whether the body is to be gathered, as far as its length is known.
    pub(super) fn judge_body(
        &self,
        method: &Method,
        response: &response::Parts,
        body: &impl Body,
    ) -> Result<(), Alone> {
        match body.size_hint().exact().or_else(|| declared_length(method, &response.headers)) {
            Some(length) if length > self.limits.max_body as u64 => Err(Alone::TooLarge),
            Some(_) => Ok(()),
            None if self.shares_streams && !is_event_stream(&response.headers) => Ok(()),
            None => Err(Alone::Stream),
        }
    }

    /// The headers that a response varies on and that are not in its key, in an order of their own. What
    /// is no name of a header says nothing about requests.
    pub(super) fn varies_on(&self, response: &HeaderMap) -> Vec<HeaderName> {
        let names = response.get_all(VARY).iter().flat_map(directives);
        let mut names: Vec<_> = names
            .filter_map(|name| HeaderName::from_bytes(name).ok())
            .filter(|name| self.rules.get(name) != Some(&HeaderRule::Key))
            .collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        names
    }
}

/// What `Content-Length` says. That of an answer to HEAD is another's (RFC 9110, 9.3.2).
pub(super) fn declared_length(method: &Method, headers: &HeaderMap) -> Option<u64> {
    if *method == Method::HEAD {
        return None;
    }
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Whether a failure is what keeps the response from being shared; it may be over soon.
pub(super) fn is_failure(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else { return false };
    let kind = kind.as_bytes();
    const EVENTS: &[u8] = b"text/event-stream";
    kind.len() >= EVENTS.len() && kind[..EVENTS.len()].eq_ignore_ascii_case(EVENTS)
}

/// The elements of a list (RFC 9110, 5.6.1), without what belongs to other headers than these: quoted commas do
/// occur, in `private="a, b"`, and only make more elements of it.
fn directives(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// By the name alone: `private="set-cookie"` is taken for `private` (RFC 9111, 5.2.2.7).
fn is_one_of(directive: &[u8], names: &[&[u8]]) -> bool {
    let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}
