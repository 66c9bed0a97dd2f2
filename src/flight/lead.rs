//! The lead of a flight that may be in a cell: a permit, and the node that the cell points to.

use std::{
    any::Any,
    borrow::Borrow,
    mem::{self, ManuallyDrop},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{
    Ask, Flight, FlightId, Follower, Permit,
    permit::Held,
    work::{Job, Payload},
};
use crate::{
    sync::Arc,
    table::{Entered, KeyHash, Node, Reach},
};

pin_project! {
    /// Pinned because the table may point into it. Dropping it abandons the flight.
    pub(crate) struct Lead<R>
    where
        R: Reach,
    {
        // Dropped by hand: where there is no flight any more, there is nothing to look for.
        held: ManuallyDrop<Held<R>>,
        #[pin]
        node: Node<R::K>,
    }

    impl<R> PinnedDrop for Lead<R>
    where
        R: Reach,
    {
        #[inline(always)]
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.held.table.is_some() {
                give_up(this.held, this.node);
            }
        }
    }
}

#[cold]
#[inline(never)]
fn give_up<R: Reach>(held: &mut ManuallyDrop<Held<R>>, node: Pin<&mut Node<R::K>>) {
    let mut held = ManuallyDrop::into_inner(mem::replace(held, ManuallyDrop::new(Held::none())));
    held.give_up(Some(node));
}

/// What a caller is that has not begun a flight at once.
pub(crate) enum Entry<R: Reach> {
    /// It leads after all, or another's flight, and has to ask whether that may begin.
    Lead(Permit<R>),
    /// It leads a flight that is in the map or in a cell.
    Began,
    Follow(Follower<R>),
    /// Part of the work that it would wait for.
    Reentrant,
    /// There are too many followers for it.
    Full,
}

impl<R: Reach> Lead<R> {
    /// Of no flight.
    #[inline(always)]
    pub(crate) fn none() -> Self {
        Self { held: ManuallyDrop::new(Held::none()), node: Node::new() }
    }

    #[inline(always)]
    pub(crate) fn taken_over(permit: Permit<R>) -> Self {
        Self { held: ManuallyDrop::new(permit.into_held()), node: Node::new() }
    }

    /// Step 1, as far as it goes without a lock. If it returns a flight, this is its lead; otherwise the caller has to `meet` whoever is there.
    #[inline(always)]
    pub(crate) fn begin<Q>(
        self: Pin<&mut Self>,
        table: &R,
        hash: KeyHash,
        key: &Q,
        ask: &Ask,
    ) -> Option<FlightId>
    where
        R::K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = R::K>,
    {
        let this = self.project();
        this.held.hash = hash;
        let id = table.table().claim(hash, key, ask, this.node)?;
        this.held.id = id;
        this.held.table = Some(table.clone());
        Some(id)
    }

    /// Step 1, the rest. With `Entry::Began` this is the lead of the key's flight.
    #[inline(always)]
    pub(crate) fn meet<Q>(self: Pin<&mut Self>, table: R, key: &Q, ask: &Ask) -> Entry<R>
    where
        R::K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = R::K>,
    {
        let this = self.project();
        let hash = this.held.hash;
        match table.table().enter(hash, key, ask, this.node) {
            Entered::Lead(id) => {
                this.held.id = id;
                this.held.table = Some(table);
                Entry::Began
            }
            Entered::TakeOver(flight) => Entry::Lead(Permit::taken_over(table, hash, flight)),
            Entered::Pending(flight) => {
                Entry::Lead(Permit::new(table, hash, flight.id(), Some(flight)))
            }
            Entered::Follow(flight, ticket) => {
                Entry::Follow(Follower::new(table, hash, flight, ticket))
            }
            Entered::Reentrant => Entry::Reentrant,
            Entered::Full => Entry::Full,
            Entered::Gone(_) => unreachable!("a caller with work can lead what nobody leads"),
        }
    }

    /// Before waiting work goes on: if it ends now, what `close` needs is on its way.
    #[inline(always)]
    pub(crate) fn expect_end(&self) {
        if let Some(table) = &self.held.table {
            table.table().expect_end(self.held.hash);
        }
    }

    /// Whether there is a flight.
    #[inline(always)]
    pub(crate) fn is_led(&self) -> bool {
        self.held.table.is_some()
    }

    #[inline(always)]
    pub(crate) fn id(&self) -> FlightId {
        self.held.id
    }

    pub(crate) fn flight(&self) -> Option<&Arc<Flight<R::V>>> {
        self.held.flight()
    }

    /// Runs a part of the flight's work.
    pub(crate) fn around<T>(&self, part: impl FnOnce() -> T) -> T {
        self.held.around(part)
    }

    #[inline(always)]
    pub(crate) fn has_relay(&self) -> bool {
        self.held.has_relay()
    }

    /// Begins the work, unless there is some already that goes on.
    #[inline(always)]
    pub(crate) fn start<J: Job<R::V>>(self: Pin<&mut Self>, work: Pin<&mut J>) {
        let held = self.project().held;
        if !held.has_relay()
            && let Some(relay) = work.start()
        {
            held.relay = Some(relay);
        }
    }

    /// Begins the work of a flight that has just begun without a lock, so that nobody is to be told.
    #[inline(always)]
    pub(crate) fn poll_first<J: Job<R::V>>(
        self: Pin<&mut Self>,
        id: FlightId,
        mut work: Pin<&mut J>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R::V, Payload>> {
        if let Some(relay) = work.as_mut().start() {
            let held = self.project().held;
            held.relay = Some(relay);
            return held.poll_relay(cx);
        }
        work.poll(id, cx)
    }

    /// Polls the flight's work: its own, or its leader's.
    #[inline(always)]
    pub(crate) fn poll(
        self: Pin<&mut Self>,
        work: Pin<&mut impl Job<R::V>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R::V, Payload>> {
        let held = self.project().held;
        if held.has_relay() {
            return held.poll_relay(cx);
        }
        poll_own(held, work, cx)
    }

    /// The same of a lead that has none of its leader's.
    #[inline(always)]
    pub(crate) fn poll_own(
        self: Pin<&mut Self>,
        work: Pin<&mut impl Job<R::V>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R::V, Payload>> {
        poll_own(self.project().held, work, cx)
    }

    /// Before the lead of a flight is dropped: ends the work of its leader.
    pub(crate) fn cancel(&self, work: Pin<&mut impl Job<R::V>>) {
        if self.is_led() {
            work.cancel(self.held.id);
        }
    }

    pub(crate) fn poll_relay(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<R::V, Payload>> {
        self.project().held.poll_relay(cx)
    }

    #[inline(always)]
    pub(crate) fn land(self: Pin<&mut Self>, value: R::V) -> (R::V, usize)
    where
        R::V: Clone,
    {
        let mut this = self.project();
        match this.held.ends_alone(this.node.as_mut()) {
            true => (value, 0),
            false => this.held.land(Some(this.node), value),
        }
    }

    pub(crate) fn panicked(self: Pin<&mut Self>, payload: &(dyn Any + Send)) {
        let this = self.project();
        this.held.panicked(Some(this.node), payload);
    }
}

#[inline(always)]
fn poll_own<R: Reach>(
    held: &Held<R>,
    work: Pin<&mut impl Job<R::V>>,
    cx: &mut Context<'_>,
) -> Poll<Result<R::V, Payload>> {
    if held.is_watched() {
        return poll_watched(held, work, cx);
    }
    work.poll(held.id, cx)
}

/// Inside of what the observer puts around it.
#[cold]
#[inline(never)]
fn poll_watched<R: Reach>(
    held: &Held<R>,
    work: Pin<&mut impl Job<R::V>>,
    cx: &mut Context<'_>,
) -> Poll<Result<R::V, Payload>> {
    held.around(|| work.poll(held.id, cx))
}
