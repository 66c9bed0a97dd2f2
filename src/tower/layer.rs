//! `CoalesceLayer`: makes services that share, and what those of one layer have in common.

use std::{fmt, sync::Arc};

use ahash::RandomState;
use http_body::Body;
use tower::Layer;

use super::{
    Coalesce, Key, KnownBodies, Policy, Replayed, RequestBody, answer::Landed, memory::Memory,
};
use crate::{Group, InFlight, Observer, group::Owned};

/// Concurrent requests for the same thing share one execution of the service behind.
///
/// ```
/// use axum::{Router, routing::get};
/// use shardflight::tower::CoalesceLayer;
///
/// async fn report() -> String {
///     "the report".to_owned() // the expensive query
/// }
///
/// let app: Router = Router::new()
///     .route("/report", get(report))
///     .layer(CoalesceLayer::new());
/// # drop(app);
/// ```
///
/// What is shared, and what never is, says [the module](super#what-is-shared); a [`Policy`] changes it.
/// With axum enable the feature `axum`, or put the layer on the outermost router
/// ([why](super#nested-routers)).
///
/// A layer is a namespace of keys, as a [`Group`] is: its clones, and all services that they make, share with
/// each other. (They have to: where axum serves a bare `Router` it makes its services anew for each
/// connection.) So services that answer the same paths in different ways need layers of their own. Each takes 41 KiB.
///
/// Bodies of requests are read if their type is known, as that of axum is with the feature `axum`, or if the layer
/// is told how to [give them back](Self::request_bodies).
#[derive(Clone)]
pub struct CoalesceLayer<R = KnownBodies> {
    shared: Arc<Shared>,
    bodies: R,
}

pub(super) type Reached = Owned<Key, Landed, RandomState>;

/// What the services of one layer have in common.
pub(super) struct Shared {
    pub(super) policy: Policy,
    pub(super) group: Group<Key, Landed>,
    /// The same, for what is part of a flight.
    pub(super) reached: Reached,
    pub(super) memory: Memory,
}

impl CoalesceLayer {
    /// With the [default policy](Policy::new).
    pub fn new() -> Self {
        Self::with_policy(Policy::new())
    }

    /// With a policy of one's own.
    pub fn with_policy(policy: Policy) -> Self {
        Self { shared: Shared::new(policy, Group::new()), bodies: KnownBodies }
    }

    /// Reads the bodies of requests whose method is shared and whose content has a meaning: `QUERY`, and
    /// [others](Policy::method) than `GET` and `HEAD` that the policy shares. Requests with the same content share,
    /// if `Content-Type`, `Content-Encoding` and the rest of the key are the same, too. With the feature `axum` the
    /// bodies of axum are read without it.
    ///
    /// `rebuild` makes the body that the service gets out of one that has been read. It is a constructor of the
    /// service's body type: `axum::body::Body::new`, `tonic::body::Body::new`.
    ///
    /// A request runs alone if its body is larger than [`max_request_body`](Policy::max_request_body), has
    /// trailers, or breaks off; the service gets all of it. A request is held until its body has arrived or is too
    /// large. So let no method share, by [`Policy::requests`], whose clients wait for an answer before they send
    /// the rest, as in streaming calls of gRPC.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
    /// use shardflight::tower::CoalesceLayer;
    /// use std::io;
    /// use tower::{Layer, service_fn};
    ///
    /// type Body = UnsyncBoxBody<Bytes, io::Error>;
    ///
    /// let search = service_fn(|query: Request<Body>| async {
    ///     let query = query.into_body().collect().await?.to_bytes();
    ///     Ok::<_, io::Error>(Response::new(format!("results for {query:?}"))) // the expensive query
    /// });
    /// // Requests with `QUERY` and the same content share.
    /// let search = CoalesceLayer::new().request_bodies(Body::new).layer(search);
    /// # drop(search);
    /// ```
    pub fn request_bodies<B: Body>(
        self,
        rebuild: fn(RequestBody<B>) -> B,
    ) -> CoalesceLayer<Replayed<B>> {
        CoalesceLayer { shared: self.shared, bodies: Replayed { rebuild } }
    }
}

impl<R> CoalesceLayer<R> {
    /// Tells `observer` of the flights of this layer, and how each request was answered
    /// ([`Observer::request`]): also a request that ran alone without having met a flight.
    /// [`Stats`](crate::Stats) is one, and `MetricsObserver`.
    ///
    /// To be called before the layer is used: services that it made before are not observed.
    ///
    /// ```
    /// use shardflight::{Stats, tower::CoalesceLayer};
    /// use std::sync::Arc;
    ///
    /// let stats = Arc::new(Stats::default());
    /// let layer = CoalesceLayer::new().observer(stats.clone());
    /// assert_eq!(stats.snapshot().requests_joined, 0);
    /// for (reason, requests) in stats.reasons() {
    ///     println!("{requests} ran alone or were refused: {reason}");
    /// }
    /// # drop(layer);
    /// ```
    pub fn observer(self, observer: impl Observer) -> Self {
        let group = Group::builder().observer(observer).build();
        Self { shared: Shared::new(self.shared.policy.clone(), group), bodies: self.bodies }
    }

    /// The requests under way that may be joined, in no order: as [`Group::in_flight`].
    ///
    /// ```
    /// use shardflight::tower::CoalesceLayer;
    ///
    /// let layer = CoalesceLayer::new();
    /// for flight in layer.in_flight() {
    ///     println!("{} for {:?}, {} wait", flight.key, flight.age, flight.followers);
    /// }
    /// ```
    pub fn in_flight(&self) -> Vec<InFlight<Key>> {
        self.shared.group.in_flight()
    }
}

impl Shared {
    fn new(policy: Policy, group: Group<Key, Landed>) -> Arc<Self> {
        let memory = Memory::new(policy.limits.remember_at_most);
        let reached = Owned(group.core().clone());
        Arc::new(Self { policy, group, reached, memory })
    }
}

impl Default for CoalesceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> fmt::Debug for CoalesceLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("policy", &self.shared.policy)
            .field("group", &self.shared.group)
            .finish_non_exhaustive()
    }
}

impl<S, R: Clone> Layer<S> for CoalesceLayer<R> {
    type Service = Coalesce<S, R>;

    fn layer(&self, inner: S) -> Coalesce<S, R> {
        Coalesce::new(inner, Arc::clone(&self.shared), self.bodies.clone())
    }
}
