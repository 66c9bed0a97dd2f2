//! `Group::in_flight`: what is in the air, for people who look for what is stuck.

use std::{
    hash::{BuildHasher, Hash},
    time::Duration,
};

use crate::{FlightId, Group};

/// A flight that is under way. Made by [`Group::in_flight`].
///
/// ```
/// use shardflight::{Entry, Group};
///
/// let group: Group<&str, u32> = Group::new();
/// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
/// let _follower = group.join(&"key");
/// let flight = &group.in_flight()[0];
/// assert_eq!((flight.key, flight.followers, flight.is_led), ("key", 1, true));
/// # drop(lead);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InFlight<K> {
    /// Its key.
    pub key: K,
    /// By which an [`Observer`](crate::Observer) knows it.
    pub flight: FlightId,
    /// Since its first leader entered. `None` if it began before the group dated its flights, which
    /// it does from the first [`in_flight`](Group::in_flight) or
    /// [`max_age`](crate::Call::max_age) on, or, with an observer, from the beginning.
    pub age: Option<Duration>,
    /// How many wait for it: as in [`Role::Led`](crate::Role::Led).
    pub followers: usize,
    /// Whether it has a leader. If not, that was cancelled, and one of the followers is about to take
    /// over.
    pub is_led: bool,
}

impl<K, V, S> Group<K, V, S>
where
    K: Eq + Hash + Clone,
    S: BuildHasher,
{
    /// The flights under way, in no order: those that [`len`](Self::len) counts, and at the same price.
    /// They are looked at shard by shard; each is described as it was at some instant.
    ///
    /// Keys are cloned while their shard is locked: their `Clone` must not call the group.
    ///
    /// Reading the clock costs more than a whole unshared call, so groups do not date their flights
    /// before somebody asks. The first call of this method finds flights without an
    /// [age](InFlight::age), and makes each later flight of the group read the clock.
    ///
    /// ```
    /// use futures_lite::future;
    /// use shardflight::Group;
    ///
    /// let group: Group<String, u32> = Group::new();
    /// assert!(group.in_flight().is_empty());
    /// let mut stuck = Box::pin(group.run("key", future::pending()));
    /// assert!(future::block_on(future::poll_once(&mut stuck)).is_none());
    /// for flight in group.in_flight() {
    ///     println!("{} for {:?}, {} wait", flight.key, flight.age, flight.followers);
    /// }
    /// ```
    pub fn in_flight(&self) -> Vec<InFlight<K>> {
        self.core().table().in_flight()
    }
}
