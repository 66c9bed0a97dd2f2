//! The lead of a flight, as a guard: it lands, reports a panic, or, dropped, abandons.

use std::{any::Any, hash::Hash};

use super::{Flight, FlightId};
use crate::{
    error::Panicked,
    sync::Arc,
    table::{KeyHash, Removed, Table},
};

/// The right and duty to end a flight. Dropping it abandons the flight (step 3).
pub(crate) struct Lead<'t, K: Eq + Hash, V> {
    table: &'t Table<K, V>,
    id: FlightId,
    hash: KeyHash,
    /// Present if the lead was taken over. A first leader finds its followers only at the slot.
    flight: Option<Arc<Flight<V>>>,
}

impl<'t, K: Eq + Hash, V> Lead<'t, K, V> {
    pub(crate) fn new(
        table: &'t Table<K, V>,
        hash: KeyHash,
        id: FlightId,
        flight: Option<Arc<Flight<V>>>,
    ) -> Self {
        Self { table, id, hash, flight }
    }

    pub(crate) fn id(&self) -> FlightId {
        self.id
    }

    /// Takes the flight out of the table and hands over its followers, if it has any (G3: first the
    /// slot goes, then the outcome appears). The key comes along, for its `Drop` to run last.
    fn close(self) -> Removed<K, V> {
        let mut this = std::mem::ManuallyDrop::new(self);
        let own = this.flight.take();
        this.table.remove(this.hash, this.id, own)
    }

    /// Step 2. Returns the leader's value and the number of followers.
    pub(crate) fn land(self, value: V) -> (V, usize)
    where
        V: Clone,
    {
        let closed = self.close();
        // An unshared value is moved, never cloned (G11).
        let Some(flight) = closed.flight.filter(|_| closed.followers > 0) else {
            return (value, 0);
        };
        // The flight gets the original, so that a panic in `Clone` hits only the caller that clones.
        flight.publish(Ok(value));
        match flight.outcome() {
            Some(Ok(value)) => (value.clone(), closed.followers),
            _ => unreachable!("just published, and an outcome never changes"),
        }
    }

    /// The work panicked: the followers learn its text (G8).
    pub(crate) fn panicked(self, payload: &(dyn Any + Send)) {
        let closed = self.close();
        if let Some(flight) = closed.flight.filter(|_| closed.followers > 0) {
            flight.publish(Err(Panicked::from_payload(payload)));
        }
    }
}

impl<K: Eq + Hash, V> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        self.table.abandon(self.hash, self.id, self.flight.take());
    }
}
