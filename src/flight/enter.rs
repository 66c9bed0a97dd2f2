//! What brings a call to its flight, and how long it waits there.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    pin::Pin,
};

use super::{Asks, Entry, Flight, FlightId, Lapsed, Lead, Patience};
use crate::{
    group::Core,
    table::{Reach, Table},
};

/// How a call comes to a flight.
pub(crate) trait Enter<R: Reach> {
    /// Whether it is a task, for which nobody waits: that is what its handle is for. So it may be polled inside
    /// the work that it follows, by an executor in there. Of any other call it is assumed that whoever polls it
    /// waits for it. That is not so if an executor inside the work, or a waker that polls in place, polls a task
    /// that awaits the call and is no part of the work; nothing tells the two apart.
    const NESTS: bool = false;

    /// Without a lock, if it can.
    fn begin(&self, lead: Pin<&mut Lead<R>>) -> Option<FlightId>;

    /// With one.
    fn meet(&self, lead: Pin<&mut Lead<R>>) -> Entry<R>;

    /// How long the call waits for others, if that is limited.
    #[inline(always)]
    fn patience(&mut self) -> Option<&mut Patience> {
        None
    }

    /// The time of the call is over, or nobody keeps it any more: tells its handle, before it leaves the flight.
    #[inline(always)]
    fn lapse(&self, _: &Flight<R::V>, _: Lapsed) {}
}

/// At its first poll, with a key.
pub(crate) struct Caller<'a, 'k, K, V, S, Q: ?Sized, A> {
    pub(crate) core: &'a Core<K, V, S>,
    pub(crate) key: &'k Q,
    pub(crate) asks: A,
}

impl<'a, K, V, S, Q, A> Enter<&'a Table<K, V>> for Caller<'a, '_, K, V, S, Q, A>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    A: Asks,
{
    #[inline(always)]
    fn begin(&self, lead: Pin<&mut Lead<&'a Table<K, V>>>) -> Option<FlightId> {
        let (table, hash) = self.core.locate(self.key);
        lead.begin(&table, hash, self.key, self.asks.ask())
    }

    #[inline(always)]
    fn meet(&self, lead: Pin<&mut Lead<&'a Table<K, V>>>) -> Entry<&'a Table<K, V>> {
        lead.meet(self.core.table(), self.key, self.asks.ask())
    }

    #[inline(always)]
    fn patience(&mut self) -> Option<&mut Patience> {
        self.asks.patience()
    }
}
