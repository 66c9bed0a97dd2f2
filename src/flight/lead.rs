//! The lead of a flight, as a guard: it lands, reports a panic, or, dropped, abandons.

use std::{any::Any, hash::Hash};

use super::{Flight, FlightId};
use crate::{
    error::Panicked,
    sync::Arc,
    table::{Closed, KeyHash, Table},
};

/// The right and duty to end a flight. Dropping it abandons the flight (step 3).
pub(crate) struct Lead<'t, K: Eq + Hash, V> {
    /// `None` once the flight is over.
    table: Option<&'t Table<K, V>>,
    id: FlightId,
    hash: KeyHash,
    /// Present if the lead was taken over. A first leader finds its followers only at the slot.
    flight: Option<Arc<Flight<V>>>,
}

impl<'t, K: Eq + Hash, V> Lead<'t, K, V> {
    /// Of a new flight.
    #[inline]
    pub(crate) fn new(table: &'t Table<K, V>, hash: KeyHash, id: FlightId) -> Self {
        Self { table: Some(table), id, hash, flight: None }
    }

    pub(crate) fn taken_over(
        table: &'t Table<K, V>,
        hash: KeyHash,
        flight: Arc<Flight<V>>,
    ) -> Self {
        Self { table: Some(table), id: flight.id(), hash, flight: Some(flight) }
    }

    pub(crate) fn id(&self) -> FlightId {
        self.id
    }

    /// Takes the flight out of the table and hands over its followers, if it has any (G3: first the
    /// slot goes, then the outcome appears). The key comes along, for its `Drop` to run last.
    #[inline(always)]
    fn close(&mut self) -> Option<Closed<K, V>> {
        let table = self.table.take().expect("a flight ends once");
        table.close(self.hash, self.id, self.flight.take())
    }

    /// Step 2. Returns the leader's value and the number of followers.
    #[inline(always)]
    pub(crate) fn land(&mut self, value: V) -> (V, usize)
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
    pub(crate) fn panicked(&mut self, payload: &(dyn Any + Send)) {
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

impl<K: Eq + Hash, V> Drop for Lead<'_, K, V> {
    fn drop(&mut self) {
        if let Some(table) = self.table {
            table.abandon(self.hash, self.id, self.flight.take());
        }
    }
}
