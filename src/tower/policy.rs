//! `Policy`: which requests share, which responses may be shared, and the limits.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt,
    hash::{Hash, Hasher},
    mem, ptr,
    sync::Arc,
    time::Duration,
};

use ahash::RandomState;
use bytes::Bytes;
use http::{
    Extensions, HeaderName, HeaderValue, Method, Response, StatusCode, Uri,
    header::{
        AUTHORIZATION, CACHE_CONTROL, CONNECTION, COOKIE, IF_MATCH, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, PRAGMA, PROXY_AUTHORIZATION, RANGE, UPGRADE,
    },
    request, response,
};

use super::{Refusal, grpc, incremental::INCREMENTAL, own_headers::TRACES};

/// What a [`Policy`] makes of a header of a request.
///
/// ```
/// use http::header::{RANGE, USER_AGENT};
/// use shardflight::tower::{HeaderRule, Policy};
///
/// let policy = Policy::new()
///     .header(USER_AGENT, HeaderRule::Key) // pages differ by browser
///     .header(RANGE, HeaderRule::Ignore); // and the service knows no ranges
/// # drop(policy);
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum HeaderRule {
    /// Its values are in the key: only requests with the same ones share.
    Key,
    /// A request that has it runs alone.
    Alone,
    /// It is read as `Cache-Control` is. A request in which it says `no-store` or `no-cache` runs alone. Its value
    /// is in the key if it says `max-stale`, `only-if-cached`, `stale-if-error` or `no-transform`, with which a
    /// cache behind might answer what it would not answer to others.
    Directives,
    /// It is read as `Connection` is. A request in which it nominates a header runs alone, because a service that
    /// removes nominated headers, as intermediaries do, sees another request than its key says. The usual options
    /// change nothing: `close`, `keep-alive`, `te`, `upgrade`, `trailer`, `transfer-encoding`,
    /// `proxy-connection`, `http2-settings`. A policy that puts one of those into the key puts `Connection` there,
    /// too.
    Nominations,
    /// It is read as `Incremental` is. A request in which it is true (`?1`) runs alone; anything else is in the key.
    Incremental,
    /// The function's value for it is in the key, and takes its place in the request that the service sees. `None`
    /// removes the header.
    ///
    /// The function gets all lines of the header as one list, with `, ` between them. It is not called where the
    /// header is absent, and a request in which the header is not text runs alone. A request that runs alone by
    /// another rule reaches the service as it was.
    ///
    /// ```
    /// use http::{HeaderValue, header::ACCEPT_ENCODING};
    /// use shardflight::tower::{HeaderRule, Policy};
    ///
    /// // `gzip, br` and `br, gzip, zstd` share, and the service compresses with a coding that both accept.
    /// // An element with a weight is not accepted here: `br;q=0` means the opposite.
    /// fn coding(accepted: &str) -> Option<HeaderValue> {
    ///     let accepts = |coding| accepted.split(',').any(|one| one.trim() == coding);
    ///     let coding = ["br", "gzip"].into_iter().find(|coding| accepts(*coding))?;
    ///     Some(HeaderValue::from_static(coding))
    /// }
    /// let policy = Policy::new().header(ACCEPT_ENCODING, HeaderRule::Normalized(coding));
    ///
    /// // Nothing inside of the layer is to compress: it sees no `Accept-Encoding` at all.
    /// let policy = policy.header(ACCEPT_ENCODING, HeaderRule::Normalized(|_| None));
    /// # drop(policy);
    /// ```
    Normalized(fn(&str) -> Option<HeaderValue>),
    /// It is not looked at, unless a response turns out to vary on it.
    Ignore,
}

/// Functions are compared by their address.
impl PartialEq for HeaderRule {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Normalized(one), Self::Normalized(other)) => ptr::fn_addr_eq(*one, *other),
            _ => mem::discriminant(self) == mem::discriminant(other),
        }
    }
}

impl Eq for HeaderRule {}

impl Hash for HeaderRule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        mem::discriminant(self).hash(state);
    }
}

/// The methods that are shared.
const METHODS: [Method; 3] = [Method::GET, Method::HEAD, Method::QUERY];

/// Those that a cache may keep without being told so (RFC 9110, 15.1), without 206, which is a part of something,
/// 414, which is about one request, and 501, which is a failure.
const STATUSES: [StatusCode; 9] = [
    StatusCode::OK,
    StatusCode::NON_AUTHORITATIVE_INFORMATION,
    StatusCode::NO_CONTENT,
    StatusCode::MULTIPLE_CHOICES,
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::PERMANENT_REDIRECT,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::GONE,
];

/// Who asks, or what only this request wants.
const ALONE: [HeaderName; 10] = [
    AUTHORIZATION,
    PROXY_AUTHORIZATION,
    COOKIE,
    RANGE,
    IF_RANGE,
    IF_MATCH,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    IF_UNMODIFIED_SINCE,
    UPGRADE,
];

/// What handlers do not make a response of. Everything else is in the key: a header that is missing here costs
/// executions that could have been saved, one that is missing in a list of those that tell users apart
/// would give one user the response of another.
const IGNORED: [&str; 36] = [
    // It is about the connection, or said elsewhere.
    "alt-used",
    "content-length",
    "host",
    "http2-settings",
    "keep-alive",
    "priority",
    "te",
    "trailer",
    "transfer-encoding",
    // Which program asks, and from where.
    "dnt",
    "referer",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-user",
    "sec-gpc",
    "upgrade-insecure-requests",
    "user-agent",
    // Which way it came; behind a balancer it is different for each client.
    "cdn-loop",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "fly-client-ip",
    "true-client-ip",
    "via",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-attempt-count",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-original-forwarded-for",
    "x-queue-start",
    "x-real-ip",
    "x-request-start",
];

type KeyOf = dyn Fn(&request::Parts) -> Option<String> + Send + Sync;
type TargetOf = dyn Fn(&Uri) -> String + Send + Sync;
type ContentOf = dyn for<'a> Fn(&request::Parts, &'a [u8]) -> Option<Cow<'a, [u8]>> + Send + Sync;
type MayRequest = dyn Fn(&request::Parts) -> bool + Send + Sync;
type MayResponse = dyn Fn(&response::Parts, bool) -> bool + Send + Sync;
type Refuse = dyn Fn(Refusal) -> Response<Bytes> + Send + Sync;
type CopyExtension = fn(&Extensions, &mut Extensions);

/// Which requests share an execution, which responses may be shared, and the limits; each with a
/// default that is safe for a server that has never heard of caches.
///
/// ```
/// use http::{HeaderName, header::USER_AGENT};
/// use shardflight::tower::{CoalesceLayer, HeaderRule, Policy};
/// use std::time::Duration;
///
/// let policy = Policy::new()
///     .header(USER_AGENT, HeaderRule::Key)
///     .header(HeaderName::from_static("x-customer"), HeaderRule::Alone)
///     .requests(|request| request.uri.path().starts_with("/reports/"))
///     .max_body(256 * 1024)
///     .patience(Duration::from_secs(5));
/// let layer = CoalesceLayer::with_policy(policy);
/// # drop(layer);
/// ```
///
/// The functions that it is given run in the task of a request: the one of the key and of
/// [`requests`](Self::requests) for each request, that of [`responses`](Self::responses) once for each
/// execution. If one panics it is as if the service had.
#[derive(Clone)]
#[must_use]
pub struct Policy {
    pub(super) methods: Vec<Method>,
    rules: HashMap<HeaderName, HeaderRule, RandomState>,
    /// The rule of all others.
    unlisted: HeaderRule,
    pub(super) key: Option<Arc<KeyOf>>,
    pub(super) target: Option<Arc<TargetOf>>,
    pub(super) requests: Option<Arc<MayRequest>>,
    pub(super) statuses: Vec<StatusCode>,
    /// What differs from the default.
    pub(super) failures: Vec<(StatusCode, bool)>,
    /// Headers of responses that followers do not get.
    pub(super) own_headers: HashSet<HeaderName, RandomState>,
    pub(super) responses: Option<Arc<MayResponse>>,
    pub(super) shares_streams: bool,
    pub(super) shares_no_cache: bool,
    pub(super) content: Option<Arc<ContentOf>>,
    pub(super) extensions: Vec<CopyExtension>,
    pub(super) refusal: Option<Arc<Refuse>>,
    pub(super) limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_body: usize,
    pub(super) max_request_body: usize,
    pub(super) max_followers: usize,
    pub(super) patience: Duration,
    pub(super) max_age: Duration,
    pub(super) remember: Duration,
    pub(super) remember_at_most: usize,
    pub(super) retries: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            max_request_body: 64 << 10,
            max_followers: 10_000,
            patience: Duration::from_secs(30),
            max_age: Duration::from_secs(30),
            remember: Duration::from_secs(10),
            remember_at_most: 1024,
            retries: 1,
        }
    }
}

impl Policy {
    /// The default policy: the table of [the module](super#what-is-shared).
    pub fn new() -> Self {
        let ignored = IGNORED.iter().chain(&TRACES);
        let ignored = ignored.map(|name| (HeaderName::from_static(name), HeaderRule::Ignore));
        let alone = ALONE.map(|name| (name, HeaderRule::Alone));
        let directives = [CACHE_CONTROL, PRAGMA].map(|name| (name, HeaderRule::Directives));
        let read = [
            (CONNECTION, HeaderRule::Nominations),
            // Some servers read it as they read `Connection`.
            (HeaderName::from_static("proxy-connection"), HeaderRule::Nominations),
            (INCREMENTAL.clone(), HeaderRule::Incremental),
        ];
        let rules = ignored.chain(alone).chain(directives).chain(read);
        Self {
            methods: METHODS.into(),
            rules: rules.collect(),
            unlisted: HeaderRule::Key,
            key: None,
            target: None,
            requests: None,
            statuses: STATUSES.into(),
            failures: Vec::new(),
            own_headers: TRACES.map(HeaderName::from_static).into_iter().collect(),
            responses: None,
            shares_streams: false,
            shares_no_cache: false,
            content: None,
            extensions: Vec::new(),
            refusal: None,
            limits: Limits::default(),
        }
    }

    /// Shares requests of this method, too. Those that have a body share if the layer
    /// [reads it](super#requests-with-a-body), and run alone otherwise.
    ///
    /// Only for methods that change nothing: of those that share, one is executed. Where some requests of a method
    /// change something, [`requests`](Self::requests) or [`content`](Self::content) has to tell them apart.
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// What becomes of requests with this header, instead of what the default says.
    ///
    /// With `Authorization` or `Cookie` in the key, requests of the same user share with each other.
    /// [`HeaderRule::Ignore`] is for headers that the service does not read.
    ///
    /// By default requests with one of these run alone: `authorization`, `proxy-authorization`, `cookie`,
    /// `range`, `if-range`, `if-match`, `if-none-match`, `if-modified-since`, `if-unmodified-since`, `upgrade`.
    ///
    /// These are not looked at, because they say nothing that handlers make a response of, or are different for
    /// each client behind a balancer: `alt-used`, `content-length`, `host`,
    /// `http2-settings`, `keep-alive`, `priority`, `te`, `trailer`,
    /// `transfer-encoding`, `dnt`, `referer`, `sec-ch-ua`, `sec-ch-ua-mobile`, `sec-ch-ua-platform`,
    /// `sec-fetch-user`, `sec-gpc`, `upgrade-insecure-requests`, `user-agent`, `cdn-loop`, `cf-connecting-ip`,
    /// `cf-connecting-ipv6`, `fastly-client-ip`, `fly-client-ip`, `true-client-ip`, `via`,
    /// `x-azure-clientip`, `x-azure-socketip`, `x-client-ip`, `x-cluster-client-ip`, `x-envoy-attempt-count`,
    /// `x-envoy-external-address`, `x-forwarded-for`, `x-original-forwarded-for`, `x-queue-start`, `x-real-ip`,
    /// `x-request-start`, `b3`, `cf-ray`, `correlation-id`, `elastic-apm-traceparent`, `fly-request-id`,
    /// `grpc-trace-bin`, `newrelic`, `request-id`, `sentry-trace`, `traceparent`, `tracestate`,
    /// `uber-trace-id`, `x-amz-cf-id`, `x-amzn-trace-id`, `x-arr-log-id`, `x-azure-ref`, `x-b3-flags`,
    /// `x-b3-parentspanid`, `x-b3-sampled`, `x-b3-spanid`, `x-b3-traceid`, `x-cloud-trace-context`,
    /// `x-correlation-id`, `x-datadog-origin`, `x-datadog-parent-id`, `x-datadog-sampling-priority`,
    /// `x-datadog-tags`, `x-datadog-trace-id`, `x-ot-span-context`, `x-request-id`, `x-trace-id`,
    /// `x-varnish`, `x-vercel-id`.
    ///
    /// `Cache-Control` and `Pragma` are [read for their directives](HeaderRule::Directives), `Connection` and
    /// `Proxy-Connection` for the headers that they [nominate](HeaderRule::Nominations), and [`Incremental`](HeaderRule::Incremental) for whether
    /// it is true. [All others](Self::unlisted) are in the key. Where a body is read, the headers that describe it
    /// (`content-type`, `content-encoding`, ...) are not ignored.
    ///
    /// ```
    /// use http::header::{AUTHORIZATION, FORWARDED};
    /// use shardflight::tower::{HeaderRule, Policy};
    ///
    /// let policy = Policy::new()
    ///     .header(AUTHORIZATION, HeaderRule::Key)
    ///     .header(FORWARDED, HeaderRule::Ignore);
    /// # drop(policy);
    /// ```
    pub fn header(mut self, name: HeaderName, rule: HeaderRule) -> Self {
        self.rules.insert(name, rule);
        self
    }

    /// What becomes of headers for which there is no rule: by default they are in the key.
    ///
    /// A service that knows all the headers that it reads can have them [ignored](HeaderRule::Ignore), and put
    /// those into the key. What it forgets, or a library that it uses reads, is then shared among
    /// users who differ in it.
    ///
    /// ```
    /// use http::{HeaderName, header::{ACCEPT, ACCEPT_LANGUAGE}};
    /// use shardflight::tower::{HeaderRule, Policy};
    ///
    /// let policy = Policy::new()
    ///     .unlisted(HeaderRule::Ignore)
    ///     .header(ACCEPT, HeaderRule::Key)
    ///     .header(ACCEPT_LANGUAGE, HeaderRule::Key)
    ///     .header(HeaderName::from_static("x-api-key"), HeaderRule::Key);
    /// # drop(policy);
    /// ```
    pub fn unlisted(mut self, rule: HeaderRule) -> Self {
        self.unlisted = rule;
        self
    }

    /// Adds something to the key that tells requests apart: what an earlier layer has found out and put
    /// into the request's extensions, say. A request for which it is `None` runs alone; a function that can fail
    /// turns its errors into `None`.
    ///
    /// ```
    /// use shardflight::tower::Policy;
    ///
    /// #[derive(Clone)]
    /// struct Tenant(String);
    ///
    /// let policy = Policy::new()
    ///     .key(|request| request.extensions.get::<Tenant>().map(|tenant| tenant.0.clone()));
    /// # drop(policy);
    /// ```
    pub fn key(
        mut self,
        of: impl Fn(&request::Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.key = Some(Arc::new(of));
        self
    }

    /// What stands in the key for the content of a request that the layer
    /// [reads](super#requests-with-a-body), byte for byte the content by default.
    ///
    /// A request for which it is `None` or empty runs alone, so a function that finds nothing, or fails, never lets
    /// all requests share. The rest of the key stays as it is: target, headers, and what [`key`](Self::key) adds.
    ///
    /// ```
    /// use http::Method;
    /// use shardflight::tower::Policy;
    /// use std::borrow::Cow;
    ///
    /// // GraphQL: a document in the short form, `{ ... }`, is one query, and changes nothing.
    /// let policy = Policy::new().method(Method::POST).content(|_, content| {
    ///     content.starts_with(br#"{"query":"{"#).then_some(Cow::Borrowed(content))
    /// });
    /// # drop(policy);
    /// ```
    pub fn content(
        mut self,
        of: impl for<'a> Fn(&request::Parts, &'a [u8]) -> Option<Cow<'a, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        self.content = Some(Arc::new(of));
        self
    }

    /// Whether requests that say `no-cache` share, too, with each other: `Cache-Control: no-cache` and
    /// `Pragma: no-cache` are one to the key. The default is no. Requests with `no-store` run alone in any case.
    ///
    /// `no-cache` forbids an answer from a store, and the layer keeps none. They do not share with requests that do
    /// not say it, because a cache behind the layer answers those from its store. But a request still joins an
    /// execution that began before it: a client that has just written, and says `no-cache` to see it, may get what
    /// was read before. So this is for services whose clients say it out of habit, as browsers do that reload.
    ///
    /// ```
    /// use shardflight::tower::Policy;
    ///
    /// let policy = Policy::new().share_no_cache(true);
    /// # drop(policy);
    /// ```
    pub fn share_no_cache(mut self, are_shared: bool) -> Self {
        self.shares_no_cache = are_shared;
        self
    }

    /// What stands in the key for path and query, byte for byte the request's by default.
    ///
    /// ```
    /// use shardflight::tower::Policy;
    ///
    /// // The queries of this service only say where its visitors came from.
    /// let policy = Policy::new().target(|uri| uri.path().to_owned());
    /// # drop(policy);
    /// ```
    pub fn target(mut self, of: impl Fn(&Uri) -> String + Send + Sync + 'static) -> Self {
        self.target = Some(Arc::new(of));
        self
    }

    /// Requests for which `may` is false run alone. All others have to satisfy the rest of the policy,
    /// too.
    pub fn requests(
        mut self,
        may: impl Fn(&request::Parts) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.requests = Some(Arc::new(may));
        self
    }

    /// Whether responses of this status are shared. For the statuses that are not, see
    /// [`failure`](Self::failure).
    pub fn status(mut self, status: StatusCode, is_shared: bool) -> Self {
        self.statuses.retain(|other| *other != status);
        if is_shared {
            self.statuses.push(status);
        }
        self
    }

    /// Has the last word on a response: `may` gets its head, and whether the rules about the status,
    /// `Set-Cookie`, `Cache-Control`, `grpc-status` and `Vary: *` would share it. If the body has trailers it is
    /// asked a second time, with the same head and what the rules say of head and trailers together.
    ///
    /// What it shares goes to everybody who asked for the same key. The limit of the body, and other
    /// values of `Vary`, are not overruled.
    ///
    /// ```
    /// use shardflight::tower::Policy;
    ///
    /// // This service says what is public.
    /// let policy = Policy::new()
    ///     .responses(|response, standard| standard && response.headers.contains_key("x-public"));
    /// # drop(policy);
    /// ```
    pub fn responses(
        mut self,
        may: impl Fn(&response::Parts, bool) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.responses = Some(Arc::new(may));
        self
    }

    /// Whether bodies of unknown length are gathered and shared, too, up to
    /// [`max_body`](Self::max_body). The default is no: they pass through as they come, and the followers
    /// run alone.
    ///
    /// For proxies: upstreams send pages in chunks. Whoever gets such a response waits for its end, or for
    /// more than `max_body` of it; so not for services that send a little now and then.
    /// `text/event-stream` passes through in any case.
    pub fn streams(mut self, are_shared: bool) -> Self {
        self.shares_streams = are_shared;
        self
    }

    /// Gives followers a clone of this extension of the response. By default they get none: extensions
    /// may belong to a connection, as that of an upgrade does. The request that was executed gets all of
    /// them in any case.
    pub fn extension<T: Clone + Send + Sync + 'static>(mut self) -> Self {
        self.extensions.push(|from, to| {
            if let Some(extension) = from.get::<T>() {
                to.insert(extension.clone());
            }
        });
        self
    }

    /// Makes the responses that the layer answers itself. By default a call of gRPC gets a status of gRPC, and any
    /// other request one line of text.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use shardflight::tower::Policy;
    ///
    /// let policy = Policy::new().refusal(|refusal| {
    ///     let problem = format!(r#"{{"title":"{refusal}"}}"#);
    ///     Response::builder()
    ///         .status(refusal.status())
    ///         .header("content-type", "application/problem+json")
    ///         .body(Bytes::from(problem))
    ///         .expect("these are valid")
    /// });
    /// # drop(policy);
    /// ```
    pub fn refusal(
        mut self,
        make: impl Fn(Refusal) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.refusal = Some(Arc::new(make));
        self
    }

    /// How many bytes of body are gathered to be shared: 1 MiB by default. A flight that turns out to
    /// have more is not shared; what was gathered is passed on with the rest.
    pub fn max_body(mut self, bytes: usize) -> Self {
        self.limits.max_body = bytes;
        self
    }

    /// How many bytes of a request's body are read for its key: 64 KiB by default. A request with more runs alone.
    /// If its length says so it is not read at all; otherwise the service gets what was read and then the rest as
    /// it comes. The memory of a body that is read is taken twice while its request waits, once for the key.
    ///
    /// Zero reads none: then all requests with a body run alone.
    pub fn max_request_body(mut self, bytes: usize) -> Self {
        self.limits.max_request_body = bytes;
        self
    }

    /// How many requests may wait for one flight: 10,000 by default. Further ones get
    /// [`Refusal::TooManyFollowers`].
    pub fn max_followers(mut self, requests: usize) -> Self {
        self.limits.max_followers = requests;
        self
    }

    /// How long a request waits for one flight: 30 seconds by default. Then it leaves, and is executed by
    /// a new flight, which others that lose their patience join. So a stuck execution is repeated once in
    /// this time, not once for each that waits.
    ///
    /// [`Duration::MAX`] means for ever. Anything else needs the timer of tokio where requests wait.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.limits.patience = patience;
        self
    }

    /// How old a flight may be that is joined: 30 seconds by default. A request that finds an older one
    /// begins anew, and those after it join that.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.limits.max_age = age;
        self
    }

    /// How long it is remembered that the responses to a key must not be shared (hit-for-miss), or which headers
    /// they vary on: 10 seconds by default. Meanwhile requests with such a key run alone immediately, so that
    /// they do not wait for each other in vain. Each of their responses renews that, or ends it.
    ///
    /// A [failure](Self::failure) is no reason to remember a key: requests for it keep sharing. If a key was
    /// remembered before, its first failure shortens that to one second, because a service that recovers needs
    /// its protection most. Zero remembers nothing.
    pub fn remember(mut self, so_long: Duration) -> Self {
        self.limits.remember = so_long;
        self
    }

    /// How many keys of this kind are remembered: 1,024 by default. Each takes some hundred bytes, 4 KiB at
    /// most: longer ones, with all their headers, are not remembered.
    pub fn remember_at_most(mut self, keys: usize) -> Self {
        self.limits.remember_at_most = keys;
        self
    }

    pub(super) fn shared_extensions(&self, from: &Extensions) -> Extensions {
        let mut to = Extensions::new();
        for copy in &self.extensions {
            copy(from, &mut to);
        }
        to
    }

    pub(super) fn refuse(&self, refusal: Refusal, is_call: bool) -> Response<Bytes> {
        match &self.refusal {
            Some(make) => make(refusal),
            None if is_call => grpc::response(&refusal),
            None => refusal.response(),
        }
    }

    /// Whether it has a rule for just this header.
    pub(super) fn lists(&self, name: &HeaderName) -> bool {
        self.rules.contains_key(name)
    }

    pub(super) fn rule(&self, name: &HeaderName) -> HeaderRule {
        self.rules.get(name).copied().unwrap_or(self.unlisted)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("methods", &self.methods)
            .field("rules", &self.rules)
            .field("unlisted", &self.unlisted)
            .field("statuses", &self.statuses)
            .field("failures", &self.failures)
            .field("own_headers", &self.own_headers)
            .field("shares_streams", &self.shares_streams)
            .field("shares_no_cache", &self.shares_no_cache)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_page_lists_every_header_that_has_a_rule() {
        let page = include_str!("policy.rs");
        for (name, rule) in &Policy::new().rules {
            if matches!(rule, HeaderRule::Alone | HeaderRule::Ignore) {
                assert!(
                    page.contains(&format!("`{name}`")),
                    "{name} is not on the page of `header`"
                );
            }
        }
    }
}
