//! What a table tells its observer.
//!
//! A flight's steps are reported after the lock, by the caller concerned. Without an observer none of
//! this is reached.

use std::{
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    time::Duration,
};

use super::{Closed, Entered, KeyHash, Map, Node, Shard, Stamp, Table};
use crate::{
    CallError,
    flight::{Flight, FlightId},
    observer::{self, Observer, Watch, Watched},
    sync::{Arc, lock},
};

/// How a flight ends that nobody takes over.
#[derive(Clone, Copy)]
pub(crate) enum End {
    Landed,
    Panicked,
}

impl<K, V, M> Table<K, V, M> {
    /// From here on all flights are dated.
    pub(crate) fn watched_by(mut self, watch: Option<Watch>) -> Self {
        if watch.is_some() {
            self.clock.turn_on();
        }
        self.watch = watch;
        self
    }

    #[inline(always)]
    pub(crate) fn watch(&self) -> Option<&Watch> {
        self.watch.as_ref()
    }

    /// Tells of a flight.
    #[inline(always)]
    pub(crate) fn tell(&self, flight: FlightId, event: impl FnOnce(&dyn Observer)) {
        if let Some(watch) = self.watch() {
            observer::tell(watch, flight, event);
        }
    }

    /// Runs a part of the work of these flights.
    pub(crate) fn around<T>(&self, flights: &[FlightId], part: impl FnOnce() -> T) -> T {
        match self.watch() {
            None => part(),
            Some(watch) => observer::around(watch, flights, part),
        }
    }

    /// For a follower: when its wait begins.
    #[inline(always)]
    pub(crate) fn waits_since(&self) -> Stamp {
        if self.watch.is_some() { self.clock.now() } else { Stamp::NONE }
    }

    pub(crate) fn waited(&self, since: Stamp) -> Duration {
        self.clock.longest(since)
    }

    /// For a handle.
    pub(crate) fn watched(&self) -> Option<Watched> {
        self.watch().map(Watched::new)
    }

    /// What has become of a caller.
    pub(super) fn tell_entry(&self, entered: &Entered<V>) {
        let Some(watch) = self.watch() else { return };
        let tell = |flight, event: fn(&dyn Observer, FlightId)| {
            observer::tell(watch, flight, |observer| event(observer, flight));
        };
        let refuse = |why| observer::tell_of_no_flight(watch, |observer| observer.refused(&why));
        match entered {
            Entered::Lead(id) => tell(*id, <dyn Observer>::led),
            Entered::TakeOver(flight) | Entered::Pending(flight) if !flight.was_abandoned() => {
                tell(flight.id(), <dyn Observer>::led);
            }
            Entered::TakeOver(flight) | Entered::Pending(flight) => {
                tell(flight.id(), <dyn Observer>::joined);
                tell(flight.id(), <dyn Observer>::taken_over);
            }
            Entered::Follow(flight, _) => tell(flight.id(), <dyn Observer>::joined),
            Entered::Full => refuse(CallError::TooManyFollowers),
            Entered::Reentrant => refuse(CallError::Reentrant),
            // It goes as if there were none.
            Entered::Gone(_) => {}
        }
    }
}

impl<K, V, M> Table<K, V, M>
where
    K: Eq + Hash,
    M: Map<K, V>,
{
    /// `close`, told before the outcome is shown to the followers.
    pub(super) fn close_watched(
        &self,
        hash: KeyHash,
        id: FlightId,
        mut home: Option<Pin<&mut Node<K>>>,
        own: Option<Arc<Flight<V>>>,
        end: End,
    ) -> Option<Closed<K, V>> {
        let began = match (&own, &home) {
            (Some(flight), _) => Some(flight.began()),
            // Others may look at the node until the flight is closed.
            (None, Some(node)) if node.is_claimed() => None,
            (None, _) => Some(self.began(hash, id)),
        };
        // It may drop the key, whose panic is the caller's: the flight has ended all the same.
        let closed = catch_unwind(AssertUnwindSafe(|| {
            let mut home = home.as_mut().map(Pin::as_mut);
            if self.release(hash, &mut home) {
                return None;
            }
            self.close_locked(hash, id, home, own)
        }));
        let began = began.or_else(|| Some(home?.began())).unwrap_or(Stamp::NONE);
        let followers = closed
            .as_ref()
            .map_or(0, |closed| closed.as_ref().map_or(0, |closed| closed.followers));
        let age = self.clock.longest(began);
        self.tell(id, |observer| match end {
            End::Landed => observer.landed(id, followers, age),
            End::Panicked => observer.panicked(id, followers, age),
        });
        closed.unwrap_or_else(|payload| resume_unwind(payload))
    }

    /// When a flight began of which its leader knows nothing but the id.
    fn began(&self, hash: KeyHash, id: FlightId) -> Stamp {
        if let Some(slot) = self.lock(hash).shard.get(hash, |_, slot| slot.has(id)) {
            return slot.of(id).map_or(Stamp::NONE, |flight| flight.began());
        }
        lock(&self.detached).get(&id).map_or(Stamp::NONE, |flight| flight.began())
    }
}
