//! Feature `tower`: HTTP middleware that collapses identical requests, and never hands one user's
//! response to another.
//!
//! ```
//! use axum::{Router, routing::get};
//! use shardflight::tower::CoalesceLayer;
//!
//! async fn report() -> String {
//!     "the report".to_owned() // the expensive query
//! }
//!
//! let app: Router = Router::new()
//!     .route("/report", get(report))
//!     .layer(CoalesceLayer::new());
//! # drop(app);
//! ```
//!
//! A thousand clients that ask for `/report` while it is being made get the same response, from one
//! execution. Nothing is kept afterwards: this is no cache, but what stands in front of one, or of the
//! handler where there is none. It works with every service of `tower` that takes `http` requests and
//! can be cloned: axum, hyper, tonic, and the clients of proxies.
//!
//! # What happens to a request
//!
//! 1. It is judged by the [`Policy`]. One that may not share goes to the service as it is.
//! 2. Others come to the flight of their [`Key`]. The first is executed: the service is asked whether it is
//!    ready, and called. Those that follow wait, and take none of its capacity.
//! 3. The *head* of the response is judged before anybody else gets anything of it. A response that may
//!    not be shared goes to the request that was executed, its body untouched; the followers are released
//!    at once and are executed by themselves, all at the same time. The key is remembered for a while, so
//!    that the next ones do not wait for each other in vain; each of their responses says whether that is
//!    still so.
//!    An execution that [failed](Policy::failure) is neither: its followers meet in one new flight, together with
//!    newcomers. If that fails too, they get a response of the layer with the failure's status and `Retry-After`.
//! 4. Otherwise the body is gathered, and everybody gets the response: clones of status and headers, and of
//!    one [`Bytes`](bytes::Bytes). Headers and trailers that are about one connection or that [name one
//!    request](Policy::response_header) stay with the request that was executed, and so do extensions except those
//!    that the policy [names](Policy::extension).
//!
//! An execution is [relayed](crate::Call::relay): it runs in the task of the request that it answers, with its
//! tracing span and its task locals, as without the layer. If that request's client disconnects, the
//! half-done execution goes to the task of one that follows, which goes on with it; nothing is begun again.
//! If nobody follows, it is dropped, as without the layer. Tasks of their own for all executions would
//! cost each request a spawn and a wake-up, lose that context, and go on for clients that are all gone.
//!
//! The answer to an execution that was taken over is shared with the one that took it over on the same
//! terms as with all others: it never gets what was for the client that is gone.
//!
//! # What is shared
//!
//! Only what no rule forbids. Each rule can be changed in the [`Policy`]; a few, printed in italics, are stricter than
//! the RFCs ask of caches, because a server that never had one in front does not say all that it should.
//!
//! | Requests | | Why, and where it is from |
//! |---|---|---|
//! | `GET`, `HEAD` and `QUERY` share | [`method`](Policy::method) | They change nothing ([9110, 9.2.1][s9.2.1], [10008][query]); others must reach the server ([9111, 4][c4]) |
//! | `GET` and `HEAD` with a body, or headers that declare one: alone | | It has no defined meaning there, but services read it ([9110, 9.3.1][s9.3.1]) |
//! | others with a body: alone, or the content is in the key | [`request_bodies`](CoalesceLayer::request_bodies) | It is what a `QUERY` asks for; [below](#requests-with-a-body) |
//! | `Authorization`, `Proxy-Authorization`: alone | [`header`](Policy::header) | Must not be reused for others ([9111, 3.5][c3.5]); *not even where the response allows it* |
//! | `Cookie`: *alone* | `header` | The RFCs allow to share; what a session sees is its own all the same |
//! | `Range`, `If-Range`: alone | `header` | Asks for a part ([9110, 14.2][s14.2]) |
//! | `If-Match`, `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`: alone | `header` | About the copy that this client has ([9110, 13.1][s13.1]); to others a 304 is an empty page |
//! | `Cache-Control: no-store` or `no-cache`, `Pragma: no-cache`: alone | `header`, [`share_no_cache`](Policy::share_no_cache) | The client wants an answer of its own ([9111, 5.2.1][c5.2.1], [5.4][c5.4]) |
//! | `Cache-Control: max-stale`, `only-if-cached`, `stale-if-error`, `no-transform`: in the key | `header` | A cache behind the layer answers these requests otherwise ([9111, 5.2.1][c5.2.1]) |
//! | `Connection` that nominates more than the usual options, or is malformed: alone | `header` | Services that are intermediaries remove the nominated headers ([9110, 7.6.1][s7.6.1]): one client would decide which of its headers others do without |
//! | `Incremental: ?1`: alone | `header` | The client wants the response as it is made ([10036][incremental]) |
//! | `Upgrade`: alone | `header` | About this connection ([9110, 7.8][s7.8]) |
//! | more than one `Host`, one that differs from the URI's, or a user in it: *alone* | | Services differ in which they read ([9112, 3.2.2][m3.2.2]) |
//! | Key: method, authority, path and query | [`target`](Policy::target), [`key`](Policy::key) | What a cache's key has at least ([9111, 2][c2]); whether it is `https` too, where the URI says so, and whether it is HTTP/1.0, which handlers see |
//! | Key: *all other headers* but [some](Policy::header) that name connections, programs, ways and traces | `header`, [`unlisted`](Policy::unlisted) | `Accept` and the like ask for a representation, *also where the response forgets to say `Vary`*. `X-Api-Key`, `X-Forwarded-User`, `Cf-Access-Jwt-Assertion` and a hundred others tell users apart, and no list of them is complete. What frameworks read in place of the URI (`X-Forwarded-Host`, `X-Original-URL`, `X-HTTP-Method-Override`) lets one client spoil the response of others if it is not in the key: [web cache poisoning][kettle], [CVE-2018-14773][symfony] |
//!
//! | Responses | | |
//! |---|---|---|
//! | 200, 203, 204, 300, 301, 308, 404, 405, 410 are shared | [`status`](Policy::status) | Those that may be kept without being told so ([9110, 15.1][s15.1]), without 206, 414, 501. Other redirects may carry a state of one visit; other 4xx are about what one request did wrong, which others must not suffer for ([CPDoS][cpdos]) |
//! | 206: alone | `status` | A part, under a status that hides it from who asked for the whole ([9111, 3.3][c3.3]) |
//! | 408, 429 and 5xx: failures, to the request that was executed | [`failure`](Policy::failure), [`retries`](Policy::retries) | About a moment. The followers share one retry; a service that fails is not sent the herd that the layer kept from it |
//! | `Set-Cookie`: *alone* | [`responses`](Policy::responses) | The RFCs allow to share ([9111, 7.3][c7.3]); it gave [one user's session to another][ocache] where only what was *stored* was judged |
//! | `Cache-Control: private`, `no-store`, `no-cache`: alone | `responses` | For a single user; must not satisfy any other request ([9111, 5.2.2][c5.2.2]). `private="x"` counts as `private`, as most caches do, and so does what is written against the grammar (`no-cache; private`) |
//! | `Vary: *`, or what is no list of names: alone | `responses` | Anything may have played a role ([9110, 12.5.5][s12.5.5]) |
//! | `Vary` on headers outside of the key | `header` | Goes to those with the same values, byte for byte ([9111, 4.1][c4.1]); the others meet again under a key with their own. Remembered for the next |
//! | `grpc-status` other than 0: alone, or a failure | `responses`, [`failure`](Policy::failure) | The call has failed, whatever the status of HTTP is |
//! | trailers that say one of these: alone | `responses` | They say it late, but mean the same ([9110, 6.5][s6.5]) |
//! | `Incremental: ?1`: alone | | It passes through as it comes ([10036][incremental]) |
//! | `text/event-stream`, bodies of unknown length: alone | [`streams`](Policy::streams) | They may never end; they pass through as they come |
//! | a body that is larger than 1 MiB: alone | [`max_body`](Policy::max_body) | Memory; what was gathered is passed on with the rest. The lack of it: [CVE-2026-2581][undici] |
//! | an error of the service, or a body that breaks off: a failure, too | `retries` | It belongs to the request that was executed. Its client gets the head and the bytes that there were, and sees that the rest is missing: HTTP/1.1 closes the connection, HTTP/2 resets the stream. The followers share one retry, and get 502 if that fails |
//! | a panic: to the request that was executed | [`refusal`](Policy::refusal) | The followers get 500 immediately. It is more likely a bug than a moment, so it is not tried again |
//! | `X-Request-Id`, `Traceparent` and [others](Policy::response_header): stay with one request | [`response_header`](Policy::response_header) | They name the request that was executed. A follower gets its own value if it was an echo, and none otherwise |
//!
//! Sharing a response while it is made needs the same licence as reusing it later: "A cache can use a response
//! that is stored or storable to satisfy multiple requests, provided that it is allowed to reuse that
//! response for the requests in question" ([RFC 9111, section 4][c4]). The layer is a *shared* cache in that
//! sense, one that keeps nothing. And every way on which a follower gets a response passes the same judge:
//! Squid once had one that did not, [CVE-2016-10003][squid].
//!
//! Keys are compared in full, part by part, never by a hash alone, and each part has its length before it:
//! glued together, different requests make the same key ([CVE-2026-39972][mercure]).
//!
//! # Requests with a body
//!
//! The bodies of `QUERY` are read, and those of other methods that the policy [shares](Policy::method), except `GET`
//! and `HEAD`. The layer must be able to give them back to the service: with the feature `axum` it knows the bodies of
//! axum; otherwise it is [told how](CoalesceLayer::request_bodies). Requests share if their content is the
//! same, byte for byte, and so is the rest of the key with all `Content-*` headers. [`Policy::content`] puts
//! something else in its place, or keeps a request from sharing.
//!
//! A body runs alone that is larger than [`max_request_body`](Policy::max_request_body), has trailers, or breaks off.
//! The service gets all of it, as it came; a request that is too large is not held back.
//!
//! Unary calls of gRPC are such requests. This shares those of the methods that change nothing:
//!
//! ```
//! use http::{HeaderName, Method};
//! use shardflight::tower::{CoalesceLayer, HeaderRule, Policy};
//! use tonic::{body::Body, transport::Server};
//!
//! let policy = Policy::new()
//!     .method(Method::POST)
//!     .requests(|request| request.uri.path() == "/shop.Catalogue/Search")
//!     // The deadline of one client ends its execution for all, and then the others run by themselves.
//!     .header(HeaderName::from_static("grpc-timeout"), HeaderRule::Ignore)
//!     .streams(true); // its responses have no length
//! let layer = CoalesceLayer::with_policy(policy).request_bodies(Body::new);
//! let server = Server::builder().layer(layer);
//! # drop(server);
//! ```
//!
//! A streaming call has no end that the layer could wait for: let `requests` name the unary ones. A call that
//! fails is not shared; with a status [such as](Policy::failure) `UNAVAILABLE` its followers share one retry.
//! Credentials in its metadata count as they do in any header. gRPC-Web has the status of a call in the body, which
//! the layer does not look at: it belongs outside, with the layer behind it.
//!
//! # Limits
//!
//! | | Default | Beyond it |
//! |---|---|---|
//! | [`max_body`](Policy::max_body) | 1 MiB | alone, as above |
//! | [`max_request_body`](Policy::max_request_body) | 64 KiB | alone, as above |
//! | [`max_followers`](Policy::max_followers) of a flight | 10,000 | 503 with `Retry-After: 1`, at once |
//! | [`patience`](Policy::patience) of a follower | 30 s | it is executed by a new flight, together with all that lost theirs |
//! | [`max_age`](Policy::max_age) of a flight | 30 s | nobody joins it; the next request replaces it |
//! | [`retries`](Policy::retries) after a failure | 1 | the failure's status, and its `Retry-After` |
//! | [`remember`](Policy::remember) that a key is not shared | 10 s; a failure shortens it to 1 s | it is tried again |
//! | [`remember_at_most`](Policy::remember_at_most) | 1,024 keys | what is asked for least is forgotten |
//!
//! nginx has the same in `proxy_cache_lock_timeout` and `proxy_cache_lock_age`, with 5 seconds each, but sends all
//! who lose their patience to the server; Varnish remembers for two minutes (`uncacheable_ttl`), and calls it
//! hit-for-miss. A flight takes as much memory as its body, once, whoever follows; their number is not
//! limited here, only by what the service takes at once.
//!
//! # Where to put it
//!
//! - *Outside* of it: what tells clients apart and must see each request, such as authentication,
//!   authorisation, rate limits and logs. **A check inside the service runs once for all who share.**
//! - *Inside*: what is about executions, such as limits of concurrency, timeouts of the back end, retries.
//! - Compression, and whatever else makes bodies of unknown length, is best outside: what is compressed inside
//!   is a stream, and streams are not shared. `Accept-Encoding` is in the key, and clients differ in it, so take it
//!   away inside: `.header(ACCEPT_ENCODING, HeaderRule::Normalized(|_| None))`. If the service compresses itself,
//!   [a function](HeaderRule::Normalized) that picks one coding lets all clients share that accept it.
//! - Outer layers see how each response was come by: [`Coalesced`] is among its extensions.
//!
//! # When a service fails
//!
//! Without the layer a service that answers 503 gets every request. Behind it, it gets one request for a key at a
//! time, as when it is healthy. Callers do not queue for that: a request waits for the rest of the execution that
//! it joined and for [`retries`](Policy::retries) more, whoever executes them, and is answered then. A failure
//! is never remembered as a reason not to share.
//!
//! Followers get the failure's status and `Retry-After` in a response that the layer makes
//! ([`Refusal::Failed`]). Nothing else of the failed response reaches them, because a failure is often private:
//! it may set a cookie, or show the user's own input. A 429 that the service counts for each client, or a 503
//! for one tenant, is the wrong answer for the other clients of the same key. Put such limits outside of the
//! layer, or say [`failure(status, false)`](Policy::failure).
//!
//! # Behind authentication
//!
//! By default a request with `Authorization` or `Cookie` runs alone. If all requests have one of them, nothing is
//! shared; an [observer](CoalesceLayer::observer) then counts them as `alone` with the reason
//! `header:authorization`. The layer cannot know whether the answer depends on the user, so the policy
//! has to say it. In both cases authenticate *outside* of the layer: a follower never reaches the service, and a
//! check inside of it would not see the follower's credentials.
//!
//! If the answer depends on the user, share among the requests of one user. The credential goes into the key:
//!
//! ```
//! use http::header::AUTHORIZATION;
//! use shardflight::tower::{HeaderRule, Policy};
//!
//! let policy = Policy::new().header(AUTHORIZATION, HeaderRule::Key);
//! # drop(policy);
//! ```
//!
//! If the answer is the same for all users of a tenant, put the *verified* tenant into the key, and ignore the
//! credential:
//!
//! ```
//! use axum::{Router, extract::Request, middleware::{Next, from_fn}, response::Response, routing::get};
//! use http::{StatusCode, header::AUTHORIZATION};
//! use shardflight::tower::{CoalesceLayer, HeaderRule, Policy};
//!
//! #[derive(Clone)]
//! struct Tenant(String);
//!
//! async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
//!     let token = request.headers().get(AUTHORIZATION).ok_or(StatusCode::UNAUTHORIZED)?;
//!     let tenant = verify(token).ok_or(StatusCode::FORBIDDEN)?;
//!     request.extensions_mut().insert(tenant);
//!     Ok(next.run(request).await)
//! }
//!
//! let policy = Policy::new()
//!     .header(AUTHORIZATION, HeaderRule::Ignore)
//!     // A request without a tenant runs alone.
//!     .key(|request| request.extensions.get::<Tenant>().map(|tenant| tenant.0.clone()));
//! let app: Router = Router::new()
//!     .route("/report", get(report))
//!     .layer(CoalesceLayer::with_policy(policy)) // inside
//!     .layer(from_fn(authenticate)); // outside: axum calls the last layer first
//! # drop(app);
//! # async fn report() {}
//! # fn verify(_: &http::HeaderValue) -> Option<Tenant> { None }
//! ```
//!
//! The dangers:
//!
//! - With [`HeaderRule::Ignore`], whatever the service reads from the credential besides the key is that of the
//!   request that was executed. Roles, scopes, the user's language and a user's name on the page all belong in the
//!   key if the answer depends on them. If in doubt, use [`HeaderRule::Key`].
//! - The key must come from what was verified. A tenant from a header that clients may send is a way into
//!   another tenant.
//! - Do not check permissions inside: the check runs once, for the request that was executed.
//! - Services behind authentication often answer `Cache-Control: private`, which is not shared, not even within
//!   one user's key. If the key tells users apart, [`responses`](Policy::responses) can share it. `Set-Cookie`
//!   must stay alone unless the cookie is the same for all requests of the key.
//! - A credential in the key, or one that is ignored, is in memory as long as the flight. It is not shown by
//!   [`Key`]'s `Debug` and `Display`.
//!
//! # What is reported
//!
//! [`Coalesced`], among the extensions of each response, says how the request was answered. An
//! [observer](CoalesceLayer::observer) hears the same of every request that is answered, also of one that never
//! came near a flight, with a reason in words from a fixed set ([`Answered`](crate::Answered)):
//! [`Stats`](crate::Stats) counts them, `MetricsObserver` has `shardflight_http_requests_total`, and
//! `TracingObserver` records an event in the request's span.
//!
//! # Nested routers
//!
//! axum takes off a prefix before it calls a nested router, so that `/{tenant}/orders` is `/orders` inside for
//! every tenant. A layer *inside* a nested router would take them for the same. With the feature `axum` it
//! reads `OriginalUri`, which axum leaves in the request, and takes them for what they are. Without the
//! feature put the layer on the outermost router, or put what is missing into the [`key`](Policy::key). The
//! same goes for whatever else rewrites URIs on the way in.
//!
//! # When to switch it off
//!
//! Leave the layer away, or let [`Policy::requests`] say where it works, if
//!
//! - users are told apart by something that is in no header: a certificate of the client's, its address, an
//!   extension that an outer layer has made. (Or put it into the key.) The headers in which balancers pass
//!   the client's address on, `X-Forwarded-For` and the like, are not in the key, because there they are
//!   different for each client: if your handlers read them, give them [`HeaderRule::Key`]. The same goes for all
//!   headers that are [ignored](Policy::header). Services that leave out both `Vary` and `Cache-Control` on private pages are how shared
//!   caches [gave pages to the wrong people][railway];
//! - the handler checks who may see the answer, and a follower would get around it;
//! - a `GET` does something that each client wants for itself: a counter, a token, an entry in an audit;
//! - it must not be seen that somebody asks for the same right now. Who joins a flight is answered sooner
//!   than who begins one ([9111, 7.2][c7.2]); a tenant in the key limits that to tenants;
//! - the handler takes no longer than a few tens of microseconds: requests that share nothing cost between one
//!   and three of them each (`cargo run --release -p http-load` in the repository), and little is saved.
//!
//! It is no defence against floods: clients choose whether they share, with a header or another query, and
//! one that can provoke an unshareable response ends the sharing of that key for as long as it is remembered.
//!
//! # Known limits
//!
//! - A response of known length is sent when it is complete, and held in memory until then, once for each
//!   execution: as many times [`max_body`](Policy::max_body) as there are executions at once, which a limit of
//!   concurrency behind the layer bounds. A large one that comes in slowly begins later than without the
//!   layer.
//! - Headers count in the order in which they come. Clients that send the same ones in another order do not
//!   share with each other.
//! - A header that is different for each request and that the policy has not heard of keeps all of them from
//!   sharing. [`CoalesceLayer::in_flight`] shows whether one target is there several times; give the header
//!   [`HeaderRule::Ignore`].
//! - A request joins what is under way, which may have read what it wants to see changed. A client that has just
//!   written says `Cache-Control: no-cache`, unless the policy [shares](Policy::share_no_cache) that.
//! - A body that ends earlier than it said, without an error, ends that way for the request that was executed. Over
//!   HTTP/2 only its `Content-Length` then tells that it is not whole.
//! - A request whose body is read waits for all of it. What bounds that time is the server.
//! - The authority is that of the URI (HTTP/2) or that of `Host` (HTTP/1.1), and both share. A service that reads
//!   `Host` alone sees none in HTTP/2, with or without the layer.
//! - A request that a service makes to itself over a socket or through a `Buffer`, in another task, and that
//!   waits for its own execution, is not recognised: it waits until its patience ends. In the same task it is
//!   executed, as without the layer.
//! - A handler's `Connection: close` closes only the connection of the request that was executed.
//! - The patience of a follower needs tokio's timer. With [`Duration::MAX`](std::time::Duration::MAX) the layer
//!   needs no runtime.
//!
//! [s6.5]: https://www.rfc-editor.org/rfc/rfc9110#section-6.5
//! [s7.6.1]: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1
//! [s7.8]: https://www.rfc-editor.org/rfc/rfc9110#section-7.8
//! [s9.2.1]: https://www.rfc-editor.org/rfc/rfc9110#section-9.2.1
//! [s9.3.1]: https://www.rfc-editor.org/rfc/rfc9110#section-9.3.1
//! [s12.5.5]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.5
//! [s13.1]: https://www.rfc-editor.org/rfc/rfc9110#section-13.1
//! [s14.2]: https://www.rfc-editor.org/rfc/rfc9110#section-14.2
//! [s15.1]: https://www.rfc-editor.org/rfc/rfc9110#section-15.1
//! [c2]: https://www.rfc-editor.org/rfc/rfc9111#section-2
//! [c3.3]: https://www.rfc-editor.org/rfc/rfc9111#section-3.3
//! [c3.5]: https://www.rfc-editor.org/rfc/rfc9111#section-3.5
//! [c4]: https://www.rfc-editor.org/rfc/rfc9111#section-4
//! [c4.1]: https://www.rfc-editor.org/rfc/rfc9111#section-4.1
//! [c5.2.1]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2.1
//! [c5.2.2]: https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2
//! [c5.4]: https://www.rfc-editor.org/rfc/rfc9111#section-5.4
//! [c7.2]: https://www.rfc-editor.org/rfc/rfc9111#section-7.2
//! [c7.3]: https://www.rfc-editor.org/rfc/rfc9111#section-7.3
//! [query]: https://www.rfc-editor.org/rfc/rfc10008
//! [incremental]: https://www.rfc-editor.org/rfc/rfc10036
//! [m3.2.2]: https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
//! [kettle]: https://portswigger.net/research/practical-web-cache-poisoning
//! [symfony]: https://nvd.nist.gov/vuln/detail/CVE-2018-14773
//! [cpdos]: https://cpdos.org/
//! [ocache]: https://github.com/unjs/ocache/issues/61
//! [undici]: https://github.com/advisories/GHSA-phc3-fgpg-7m6h
//! [squid]: https://nvd.nist.gov/vuln/detail/CVE-2016-10003
//! [mercure]: https://nvd.nist.gov/vuln/detail/CVE-2026-39972
//! [railway]: https://blog.railway.com/p/incident-report-march-30-2026-accidental-cdn-caching

mod answer;
mod body;
mod connection;
mod error;
mod execution;
mod failure;
mod future;
mod grpc;
mod incremental;
mod judge;
mod key;
mod layer;
mod memory;
mod own_headers;
mod pause;
mod policy;
mod report;
mod request_body;
mod retry;
mod service;

pub use self::{
    answer::{Alone, Coalesced},
    body::ResponseBody,
    error::Refusal,
    future::ResponseFuture,
    key::Key,
    layer::CoalesceLayer,
    own_headers::ResponseHeaderRule,
    policy::{HeaderRule, Policy},
    request_body::{KnownBodies, Replayed, RequestBody},
    service::Coalesce,
};
