//! `CoalesceLayer`: makes services that share, and what those of one layer have in common.

use std::{fmt, sync::Arc};

use ahash::RandomState;
use tower::Layer;

use super::{Coalesce, Key, Policy, answer::Landed, memory::Memory};
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
#[derive(Clone)]
pub struct CoalesceLayer {
    shared: Arc<Shared>,
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
        Self::build(policy, Group::new())
    }

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
        Self::build(self.shared.policy.clone(), group)
    }

    fn build(policy: Policy, group: Group<Key, Landed>) -> Self {
        let memory = Memory::new(policy.limits.remember_at_most);
        let reached = Owned(group.core().clone());
        Self { shared: Arc::new(Shared { policy, group, reached, memory }) }
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

impl Default for CoalesceLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CoalesceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CoalesceLayer")
            .field("policy", &self.shared.policy)
            .field("group", &self.shared.group)
            .finish_non_exhaustive()
    }
}

impl<S> Layer<S> for CoalesceLayer {
    type Service = Coalesce<S>;

    fn layer(&self, inner: S) -> Coalesce<S> {
        Coalesce::new(inner, Arc::clone(&self.shared))
    }
}
