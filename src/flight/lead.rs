//! The lead of a flight, as a guard: it lands, reports a panic, or, dropped, abandons.

use std::{any::Any, borrow::Borrow, hash::Hash, pin::Pin};

use pin_project_lite::pin_project;

use super::{Flight, FlightId, Follower, OnCancel};
use crate::{
    error::Panicked,
    sync::Arc,
    table::{Closed, Entered, KeyHash, Node, Table},
};

pin_project! {
    /// A place for the right and duty to end a flight. Dropping it abandons the flight (step 3). It
    /// is pinned because the table may point into it.
    pub(crate) struct Lead<'t, K, V>
    where
        K: Eq,
        K: Hash,
    {
        // `None` before there is a flight, and once it is over.
        table: Option<&'t Table<K, V>>,
        id: FlightId,
        hash: KeyHash,
        // Present if the lead was taken over. A first leader finds its followers only at the slot.
        flight: Option<Arc<Flight<V>>>,
        #[pin]
        node: Node<K>,
    }

    impl<K, V> PinnedDrop for Lead<'_, K, V>
    where
        K: Eq,
        K: Hash,
    {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(table) = this.table.take() {
                table.abandon(*this.hash, *this.id, this.node, this.flight.take());
            }
        }
    }
}

/// What a caller that entered is.
pub(crate) enum Entry<'t, K: Eq + Hash, V> {
    Lead,
    Follow(Follower<'t, K, V>),
    /// Part of the work that it would wait for.
    Reentrant,
}

impl<'t, K: Eq + Hash, V> Lead<'t, K, V> {
    /// Of no flight.
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self { table: None, id: FlightId(0), hash: KeyHash::NONE, flight: None, node: Node::new() }
    }

    #[inline(always)]
    pub(crate) fn taken_over(
        table: &'t Table<K, V>,
        hash: KeyHash,
        flight: Arc<Flight<V>>,
    ) -> Self {
        Self { table: Some(table), id: flight.id(), hash, flight: Some(flight), node: Node::new() }
    }

    /// Step 1. With `Entry::Lead` this is the lead of the key's flight.
    #[inline(always)]
    pub(crate) fn enter<Q>(
        self: Pin<&mut Self>,
        table: &'t Table<K, V>,
        hash: KeyHash,
        key: &Q,
        who: OnCancel,
    ) -> Entry<'t, K, V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        let this = self.project();
        match table.enter(hash, key, who, this.node) {
            Entered::Lead(id) => *this.id = id,
            Entered::TakeOver(flight) => {
                *this.id = flight.id();
                *this.flight = Some(flight);
            }
            Entered::Follow(flight, generation) => {
                return Entry::Follow(Follower::new(table, hash, who, flight, generation));
            }
            Entered::Reentrant => return Entry::Reentrant,
        }
        *this.table = Some(table);
        *this.hash = hash;
        Entry::Lead
    }

    /// Before waiting work goes on: if it ends now, what `close` needs is on its way.
    #[inline(always)]
    pub(crate) fn expect_end(&self) {
        if let Some(table) = self.table {
            table.expect_end(self.hash);
        }
    }

    pub(crate) fn id(&self) -> FlightId {
        self.id
    }

    /// Takes the flight out of the table and hands over its followers, if it has any (G3: first the
    /// slot goes, then the outcome appears). The key comes along, for its `Drop` to run last.
    #[inline(always)]
    fn close(self: Pin<&mut Self>) -> Option<Closed<K, V>> {
        let this = self.project();
        let table = this.table.take().expect("a flight ends once");
        table.close(*this.hash, *this.id, this.node, this.flight.take())
    }

    /// Step 2. Returns the leader's value and the number of followers.
    #[inline(always)]
    pub(crate) fn land(self: Pin<&mut Self>, value: V) -> (V, usize)
    where
        V: Clone,
    {
        match self.close() {
            // An unshared value is moved, never cloned (G11).
            None => (value, 0),
            Some(closed) => (share(&closed, value), closed.followers),
        }
    }

    /// The work panicked: the followers learn its text (G8).
    #[cold]
    pub(crate) fn panicked(self: Pin<&mut Self>, payload: &(dyn Any + Send)) {
        if let Some(closed) = self.close() {
            closed.flight.publish(Err(Panicked::from_payload(payload)));
        }
    }
}

/// Gives the flight the original, so that a panic in `Clone` hits only the caller that clones.
#[cold]
#[inline(never)]
fn share<K, V: Clone>(closed: &Closed<K, V>, value: V) -> V {
    closed.flight.publish(Ok(value));
    match closed.flight.outcome() {
        Some(Ok(value)) => value.clone(),
        _ => unreachable!("just published, and an outcome never changes"),
    }
}
