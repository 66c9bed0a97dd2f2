//! The right and duty to end a flight, as a guard: it lands, reports a panic, or, dropped, abandons.

use std::{
    any::Any,
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use super::{
    Flight, FlightId, Handle,
    work::{self, Payload, Relay},
};
use crate::{
    error::Panicked,
    panics::{contain, discard},
    sync::Arc,
    table::{Closed, End, KeyHash, Node, Reach},
};

/// The lead of a flight. Dropping it abandons the flight (steps 3 and 8).
pub(crate) struct Permit<R: Reach>(Held<R>);

/// The same without the drop, for one that has to do it in its own way.
pub(crate) struct Held<R: Reach> {
    /// `None` before there is a flight, and once it is over. Then there is neither `flight` nor `relay`.
    pub(super) table: Option<R>,
    pub(super) id: FlightId,
    pub(super) hash: KeyHash,
    /// A first leader finds its followers only at the slot, and has none here.
    pub(super) flight: Option<Arc<Flight<R::V>>>,
    /// Work that outlives its leader. If it is here, it is the work of this flight.
    pub(super) relay: Option<Relay<R::V>>,
}

/// What is to be dropped when the followers have been told: destructors of the caller's, that of the key
/// and, with the last way to the table, those of the hasher and the observer.
struct Ended<R: Reach> {
    closed: Option<Closed<R::K, R::V>>,
    _table: R,
}

/// The place of a flight in a cell, if it began in one.
pub(crate) type Home<'n, R> = Option<Pin<&'n mut Node<<R as Reach>::K>>>;

impl<R: Reach> Held<R> {
    /// Of no flight.
    #[inline(always)]
    pub(super) fn none() -> Self {
        Self { table: None, id: FlightId(0), hash: KeyHash::NONE, flight: None, relay: None }
    }

    pub(super) fn flight(&self) -> Option<&Arc<Flight<R::V>>> {
        self.flight.as_ref()
    }

    #[inline(always)]
    pub(super) fn has_relay(&self) -> bool {
        self.relay.is_some()
    }

    /// Polls the flight's own work.
    pub(super) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Result<R::V, Payload>> {
        let Self { table, id, relay, .. } = self;
        around(table.as_ref(), *id, || work::poll_relay(*id, relay, cx))
    }

    /// Runs a part of the flight's work.
    pub(super) fn around<T>(&self, part: impl FnOnce() -> T) -> T {
        around(self.table.as_ref(), self.id, part)
    }

    #[inline(always)]
    pub(super) fn is_watched(&self) -> bool {
        self.table.as_ref().is_some_and(|table| table.table().watch().is_some())
    }

    /// Takes the flight out of the table and hands over its followers, if it has any (G3: first the
    /// slot goes, then the outcome appears).
    fn close(&mut self, home: Home<'_, R>, end: End) -> Ended<R> {
        let table = self.table.take().expect("a flight ends once");
        debug_assert!(self.relay.is_none(), "it has returned");
        let closed = table.table().close(self.hash, self.id, home, self.flight.take(), end);
        Ended { closed, _table: table }
    }

    /// Step 2 of a flight that is in its cell and that nobody has looked at. `false` if it is not.
    #[inline(always)]
    pub(super) fn ends_alone(&mut self, node: Pin<&mut Node<R::K>>) -> bool {
        // Taken first: the `Drop` of the key finds a flight that is over.
        let Some(table) = self.table.take() else { return false };
        let has_ended = table.table().end(self.hash, node);
        if !has_ended {
            self.table = Some(table);
        }
        has_ended
    }

    /// Step 2. Returns the leader's value and the number of followers.
    #[inline(never)]
    pub(super) fn land(&mut self, home: Home<'_, R>, value: R::V) -> (R::V, usize)
    where
        R::V: Clone,
    {
        let ended = self.close(home, End::Landed);
        let (value, followers) = match &ended.closed {
            // An unshared value is moved, never cloned (G11).
            None => (value, 0),
            Some(closed) => (share(&closed.flight, value), closed.followers),
        };
        // Here, and not when this returns: a value that is being returned leaks if a destructor panics.
        drop(ended);
        (value, followers)
    }

    /// The work panicked: the followers learn its text (G8). The caller is going to unwind with that panic,
    /// and not with one in the `Drop` of its key.
    #[cold]
    pub(super) fn panicked(&mut self, home: Home<'_, R>, payload: &(dyn Any + Send)) {
        contain(|| {
            if let Some(closed) = &self.close(home, End::Panicked).closed {
                closed.flight.publish(Err(Panicked::from_payload(payload)));
            }
        });
    }

    /// Step 3, or 8 if the flight has its own work.
    #[inline(always)]
    pub(super) fn give_up(&mut self, home: Home<'_, R>) {
        if let Some(table) = self.table.take() {
            self.give_up_flight(&table, home);
        }
    }

    #[cold]
    #[inline(never)]
    fn give_up_flight(&mut self, table: &R, home: Home<'_, R>) {
        // As long as nobody can have taken over: the leads of a flight are told of in their order.
        table.table().tell(self.id, |observer| observer.cancelled(self.id));
        let own = self.flight.take();
        match self.relay.take() {
            None => table.table().abandon(self.hash, self.id, home, own),
            Some(relay) => self.pass_on(table, home, own, relay),
        }
    }

    fn pass_on(
        &self,
        table: &R,
        mut home: Home<'_, R>,
        own: Option<Arc<Flight<R::V>>>,
        relay: Relay<R::V>,
    ) {
        let table = table.table();
        let handed = table.hand_over(self.hash, self.id, &mut home, own.as_ref(), relay);
        if let Err(relay) = handed {
            // Cancelled work goes before the lead is passed on (G1), which also follows if it panics.
            let drop_it = || work::drop_relay(self.id, Some(relay));
            let dropped = catch_unwind(AssertUnwindSafe(drop_it));
            table.abandon(self.hash, self.id, home, own);
            match dropped {
                Ok(()) => {}
                // A second panic would end the process.
                Err(payload) if thread::panicking() => discard(payload),
                Err(payload) => resume_unwind(payload),
            }
        }
    }
}

impl<R: Reach> Permit<R> {
    /// Of a flight that began in the map.
    pub(crate) fn new(
        table: R,
        hash: KeyHash,
        id: FlightId,
        flight: Option<Arc<Flight<R::V>>>,
    ) -> Self {
        Self(Held { table: Some(table), id, hash, flight, relay: None })
    }

    /// Of a flight whose lead the caller has just taken, with the work that was left in it.
    pub(crate) fn taken_over(table: R, hash: KeyHash, flight: Arc<Flight<R::V>>) -> Self {
        let (id, relay) = (flight.id(), flight.take_relay());
        Self(Held { table: Some(table), id, hash, flight: Some(flight), relay })
    }

    /// For whoever ends the flight instead.
    pub(super) fn into_held(mut self) -> Held<R> {
        mem::replace(&mut self.0, Held::none())
    }

    pub(crate) fn id(&self) -> FlightId {
        self.0.id
    }

    pub(crate) fn flight(&self) -> Option<&Arc<Flight<R::V>>> {
        self.0.flight()
    }

    pub(crate) fn has_relay(&self) -> bool {
        self.0.has_relay()
    }

    /// Polls the flight's own work.
    pub(crate) fn poll_relay(&mut self, cx: &mut Context<'_>) -> Poll<Result<R::V, Payload>> {
        self.0.poll_relay(cx)
    }

    /// Drops the flight's own work, for a leader that cannot go on with it.
    pub(crate) fn drop_relay(&mut self) {
        work::drop_relay(self.0.id, self.0.relay.take());
    }

    /// Follows the flight that it leads.
    pub(crate) fn handle(&self) -> Handle<R::V> {
        let Held { table, id, hash, flight, .. } = &self.0;
        let table = table.as_ref().expect("there is a flight until it ends").table();
        let (flight, ticket) = table.follow_own(*hash, *id, flight.as_ref());
        Handle::new(flight, ticket, table.watched())
    }

    /// Step 2. Returns the leader's value and the number of followers.
    pub(crate) fn land(&mut self, value: R::V) -> (R::V, usize)
    where
        R::V: Clone,
    {
        self.0.land(None, value)
    }

    /// Step 2 for a leader that does not want the value itself.
    pub(crate) fn give(mut self, value: R::V) -> usize {
        match &self.0.close(None, End::Landed).closed {
            None => 0,
            Some(closed) => {
                closed.flight.publish(Ok(value));
                closed.followers
            }
        }
    }

    /// The work panicked: the followers learn its text (G8).
    pub(crate) fn panicked(&mut self, payload: &(dyn Any + Send)) {
        self.0.panicked(None, payload);
    }
}

impl<R: Reach> Drop for Permit<R> {
    fn drop(&mut self) {
        self.0.give_up(None);
    }
}

fn around<R: Reach, T>(table: Option<&R>, id: FlightId, part: impl FnOnce() -> T) -> T {
    let table = table.expect("who has work to do leads");
    table.table().around(&[id], part)
}

/// Gives the flight the original, so that a panic in `Clone` hits only the caller that clones.
#[cold]
#[inline(never)]
fn share<V: Clone>(flight: &Flight<V>, value: V) -> V {
    flight.publish(Ok(value));
    match flight.outcome() {
        Some(Ok(value)) => value.clone(),
        _ => unreachable!("just published, and an outcome never changes"),
    }
}
