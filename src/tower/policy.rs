//! `Policy`: which requests share, which responses may be shared, and the limits.

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use ahash::RandomState;
use bytes::Bytes;
use http::{
    Extensions, HeaderName, Method, Response, StatusCode, Uri,
    header::{
        ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, AUTHORIZATION, CACHE_CONTROL,
        COOKIE, FORWARDED, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
        IF_UNMODIFIED_SINCE, ORIGIN, PRAGMA, PROXY_AUTHORIZATION, RANGE, UPGRADE,
    },
    request, response,
};

use super::Refusal;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeaderRule {
    /// Its values are in the key: only requests with the same ones share.
    Key,
    /// A request that has it runs alone.
    Alone,
    /// A request in which it says `no-store` or `no-cache` runs alone.
    Directives,
    /// It is not looked at.
    Ignore,
}

/// The methods that are shared.
const METHODS: [Method; 2] = [Method::GET, Method::HEAD];

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

/// Who asks, by headers of no standard: keys of APIs, and what proxies that log people in send to the
/// servers behind them.
const ALONE_BY_CUSTOM: [&str; 52] = [
    "api-key",
    "apikey",
    "cf-access-authenticated-user-email",
    "cf-access-jwt-assertion",
    "cookie2",
    "fly-client-cert",
    "impersonate-user",
    "remote-email",
    "remote-groups",
    "remote-user",
    "ssl-client-cert",
    "tailscale-user-login",
    "tailscale-user-name",
    "x-access-token",
    "x-amz-security-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-amzn-oidc-identity",
    "x-api-key",
    "x-apikey",
    "x-auth-request-access-token",
    "x-auth-request-email",
    "x-auth-request-preferred-username",
    "x-auth-request-user",
    "x-auth-token",
    "x-authenticated-user",
    "x-authorization",
    "x-client-cert",
    "x-csrf-token",
    "x-email",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
    "x-goog-authenticated-user-email",
    "x-goog-authenticated-user-id",
    "x-goog-iap-jwt-assertion",
    "x-ms-client-principal",
    "x-ms-client-principal-id",
    "x-ms-client-principal-name",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-pomerium-jwt-assertion",
    "x-remote-user",
    "x-session-id",
    "x-session-token",
    "x-user",
    "x-user-id",
    "x-webauth-user",
    "x-xsrf-token",
];

/// What representation is asked for, and what frameworks take in place of the URI's own parts.
const IN_KEY: [HeaderName; 6] =
    [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ORIGIN, FORWARDED];

const IN_KEY_BY_CUSTOM: [&str; 19] = [
    "prefer",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-scheme",
    "x-forwarded-server",
    "x-forwarded-ssl",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-requested-with",
    "x-rewrite-url",
    "x-tenant",
    "x-tenant-id",
];

type KeyOf = dyn Fn(&request::Parts) -> Option<String> + Send + Sync;
type TargetOf = dyn Fn(&Uri) -> String + Send + Sync;
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
    pub(super) rules: HashMap<HeaderName, HeaderRule, RandomState>,
    /// Those of the rules that say `Key`, in the order in which they are written.
    pub(super) in_key: Vec<HeaderName>,
    pub(super) key: Option<Arc<KeyOf>>,
    pub(super) target: Option<Arc<TargetOf>>,
    pub(super) requests: Option<Arc<MayRequest>>,
    pub(super) statuses: Vec<StatusCode>,
    pub(super) responses: Option<Arc<MayResponse>>,
    pub(super) shares_streams: bool,
    pub(super) extensions: Vec<CopyExtension>,
    pub(super) refusal: Option<Arc<Refuse>>,
    pub(super) limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) max_body: usize,
    pub(super) max_followers: usize,
    pub(super) patience: Duration,
    pub(super) max_age: Duration,
    pub(super) remember: Duration,
    pub(super) remember_at_most: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            max_followers: 10_000,
            patience: Duration::from_secs(30),
            max_age: Duration::from_secs(30),
            remember: Duration::from_secs(10),
            remember_at_most: 1024,
        }
    }
}

impl Policy {
    /// The default policy: the table of [the module](super#what-is-shared).
    pub fn new() -> Self {
        let custom = |(name, rule)| (HeaderName::from_static(name), rule);
        let rules = ALONE
            .into_iter()
            .map(|name| (name, HeaderRule::Alone))
            .chain(IN_KEY.map(|name| (name, HeaderRule::Key)))
            .chain(ALONE_BY_CUSTOM.map(|name| custom((name, HeaderRule::Alone))))
            .chain(IN_KEY_BY_CUSTOM.map(|name| custom((name, HeaderRule::Key))))
            .chain([CACHE_CONTROL, PRAGMA].map(|name| (name, HeaderRule::Directives)));
        let mut policy = Self {
            methods: METHODS.into(),
            rules: rules.collect(),
            in_key: Vec::new(),
            key: None,
            target: None,
            requests: None,
            statuses: STATUSES.into(),
            responses: None,
            shares_streams: false,
            extensions: Vec::new(),
            refusal: None,
            limits: Limits::default(),
        };
        policy.order_keys();
        policy
    }

    /// Shares requests of this method, too. Those that have a body run alone all the same.
    ///
    /// Only for methods that change nothing: of those that share, one is executed.
    pub fn method(mut self, method: Method) -> Self {
        self.methods.push(method);
        self
    }

    /// What becomes of requests with this header, instead of what the default says.
    ///
    /// With `Authorization` or `Cookie` in the key, requests of the same user share with each other.
    /// [`HeaderRule::Ignore`] is for headers that the service does not read.
    ///
    /// By default these are in the key: `accept`, `accept-charset`, `accept-encoding`, `accept-language`,
    /// `forwarded`, `origin`, `prefer`, `x-forwarded-host`, `x-forwarded-path`, `x-forwarded-port`,
    /// `x-forwarded-prefix`, `x-forwarded-proto`, `x-forwarded-scheme`, `x-forwarded-server`,
    /// `x-forwarded-ssl`, `x-host`, `x-http-method`, `x-http-method-override`, `x-method-override`,
    /// `x-original-host`, `x-original-url`, `x-requested-with`, `x-rewrite-url`, `x-tenant`, `x-tenant-id`.
    ///
    /// And requests with one of these run alone: `api-key`, `apikey`, `authorization`,
    /// `cf-access-authenticated-user-email`, `cf-access-jwt-assertion`, `cookie`, `cookie2`,
    /// `fly-client-cert`, `if-match`, `if-modified-since`, `if-none-match`, `if-range`,
    /// `if-unmodified-since`, `impersonate-user`, `proxy-authorization`, `range`, `remote-email`,
    /// `remote-groups`, `remote-user`, `ssl-client-cert`, `tailscale-user-login`, `tailscale-user-name`,
    /// `upgrade`, `x-access-token`, `x-amz-security-token`, `x-amzn-oidc-accesstoken`, `x-amzn-oidc-data`,
    /// `x-amzn-oidc-identity`, `x-api-key`, `x-apikey`, `x-auth-request-access-token`,
    /// `x-auth-request-email`, `x-auth-request-preferred-username`, `x-auth-request-user`, `x-auth-token`,
    /// `x-authenticated-user`, `x-authorization`, `x-client-cert`, `x-csrf-token`, `x-email`,
    /// `x-forwarded-access-token`, `x-forwarded-client-cert`, `x-forwarded-email`, `x-forwarded-groups`,
    /// `x-forwarded-preferred-username`, `x-forwarded-user`, `x-goog-authenticated-user-email`,
    /// `x-goog-authenticated-user-id`, `x-goog-iap-jwt-assertion`, `x-ms-client-principal`,
    /// `x-ms-client-principal-id`, `x-ms-client-principal-name`, `x-ms-token-aad-access-token`,
    /// `x-ms-token-aad-id-token`, `x-pomerium-jwt-assertion`, `x-remote-user`, `x-session-id`,
    /// `x-session-token`, `x-user`, `x-user-id`, `x-webauth-user`, `x-xsrf-token`.
    ///
    /// `Cache-Control` and `Pragma` are read for their directives, all others are not looked at.
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
        match rule {
            HeaderRule::Ignore => self.rules.remove(&name),
            rule => self.rules.insert(name, rule),
        };
        self.order_keys();
        self
    }

    /// Adds something to the key that tells requests apart: what an earlier layer has found out and put
    /// into the request's extensions, say. A request for which it is `None` runs alone.
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

    /// Whether responses of this status are shared.
    pub fn status(mut self, status: StatusCode, is_shared: bool) -> Self {
        self.statuses.retain(|other| *other != status);
        if is_shared {
            self.statuses.push(status);
        }
        self
    }

    /// Has the last word on a response: `may` gets its head, and whether the rules about the status,
    /// `Set-Cookie`, `Cache-Control` and `Vary: *` would share it.
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

    /// Makes the responses that the layer answers itself.
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

    /// How many requests may wait for one flight: 10,000 by default. Further ones get
    /// [`Refusal::TooManyFollowers`].
    pub fn max_followers(mut self, requests: usize) -> Self {
        self.limits.max_followers = requests;
        self
    }

    /// How long a request waits for one flight: 30 seconds by default. Then it leaves, and is executed by
    /// a new flight, which others that lose their patience join. So a stuck execution is repeated once in
    /// this time, not once for each that waits, and nobody is refused.
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

    /// For how long it is remembered that the answers to a key are not to be shared, or what they vary on:
    /// 10 seconds by default. Requests with such a key run alone at once, so that they do not wait for
    /// each other in vain. After a failure (an error, or a status of 429, 500 or more) it is a second at
    /// most, because a service that recovers needs its protection most. Zero is not at all.
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

    pub(super) fn refuse(&self, refusal: Refusal) -> Response<Bytes> {
        match &self.refusal {
            Some(make) => make(refusal),
            None => refusal.response(),
        }
    }

    fn order_keys(&mut self) {
        let in_key = self.rules.iter().filter(|(_, rule)| **rule == HeaderRule::Key);
        self.in_key = in_key.map(|(name, _)| name.clone()).collect();
        self.in_key.sort_by(|a, b| a.as_str().cmp(b.as_str()));
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
            .field("statuses", &self.statuses)
            .field("shares_streams", &self.shares_streams)
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
            if *rule != HeaderRule::Directives {
                assert!(
                    page.contains(&format!("`{name}`")),
                    "{name} is not on the page of `header`"
                );
            }
        }
    }
}
