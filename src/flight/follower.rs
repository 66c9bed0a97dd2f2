//! A caller that joined a flight: how it waits, and how it goes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use pin_project_lite::pin_project;

use super::{Flight, Permit, Ticket, Visit, state::Who, waiters::Waiter};
use crate::{
    error::Panicked,
    sync::Arc,
    table::{Buried, KeyHash, Reach, Stamp},
};

pin_project! {
    /// A place among the followers of a flight. Dropping it before there is an outcome leaves the flight
    /// (step 5).
    pub(crate) struct Follower<R>
    where
        R: Reach,
    {
        table: R,
        hash: KeyHash,
        ticket: Ticket,
        // Of those that are watched.
        since: Stamp,
        // Has no flight only after the place was given up for an answer.
        #[pin]
        waiter: Waiter<R::V>,
    }

    impl<R> PinnedDrop for Follower<R>
    where
        R: Reach,
    {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            if this.waiter.flight().is_some() {
                this.leave();
            }
        }
    }
}

/// What waiting came to.
pub(crate) enum Waited<R: Reach> {
    Landed(Result<R::V, Panicked>),
    /// The leader was cancelled and this follower has its place.
    Lead(Permit<R>),
    /// The leader was cancelled and this follower wanted to know.
    Cancelled,
    TimedOut,
}

const TAKEN: &str = "a place that is still taken has a flight";

/// Why there is nothing to wait for.
enum Turn {
    Landed,
    Lead,
    Cancelled,
    TimedOut,
}

impl<R: Reach> Follower<R> {
    #[inline(always)]
    pub(crate) fn new(table: R, hash: KeyHash, flight: Arc<Flight<R::V>>, ticket: Ticket) -> Self {
        let since = table.table().waits_since();
        Self { table, hash, ticket, since, waiter: Waiter::new(flight) }
    }

    #[cfg(feature = "tower")]
    pub(crate) fn id(&self) -> super::FlightId {
        self.flight().id()
    }

    pub(super) fn flight(&self) -> &Arc<Flight<R::V>> {
        self.place().expect(TAKEN)
    }

    /// The flight, until the place is given up.
    pub(super) fn place(&self) -> Option<&Arc<Flight<R::V>>> {
        self.waiter.flight()
    }

    /// As [`Flight::would_wait_for_this_stack`].
    pub(crate) fn would_wait_for_this_stack(&self) -> bool {
        self.flight().would_wait_for_this_stack()
    }

    fn is_landed(&self) -> bool {
        self.flight().outcome().is_some()
    }

    /// Step 4. To be called between taking a place among those that wait and waiting (G6).
    #[inline]
    fn visit(&self) -> Option<Turn> {
        let flight = self.flight();
        if self.is_landed() {
            return Some(Turn::Landed);
        }
        if flight.tells(self.ticket) {
            return Some(Turn::Cancelled);
        }
        (self.ticket.who() == Who::Able && flight.visit() == Visit::Lead).then_some(Turn::Lead)
    }

    /// Gives the place up for what the turn brings.
    #[inline(always)]
    fn conclude(mut self: Pin<&mut Self>, turn: Turn) -> Waited<R>
    where
        R::V: Clone,
    {
        match turn {
            Turn::Landed => self.land(),
            // The waker goes with the follower, when the lead is where it is kept.
            Turn::Lead => Waited::Lead(self.take_over()),
            Turn::Cancelled | Turn::TimedOut => {
                self.as_mut().leave();
                self.drop_waker();
                if let Turn::Cancelled = turn { Waited::Cancelled } else { Waited::TimedOut }
            }
        }
    }

    #[inline(always)]
    fn land(mut self: Pin<&mut Self>) -> Waited<R>
    where
        R::V: Clone,
    {
        let answer = self.as_mut().answer();
        self.drop_waker();
        Waited::Landed(answer)
    }

    /// Last: its `Drop` may panic, and a place or a call must not be lost by that.
    #[inline(always)]
    fn drop_waker(self: Pin<&mut Self>) {
        drop(self.project().waiter.take_waker());
    }

    #[inline(always)]
    fn answer(self: Pin<&mut Self>) -> Result<R::V, Panicked>
    where
        R::V: Clone,
    {
        let mut this = self.project();
        let id = this.waiter.flight().expect(TAKEN).id();
        let outcome = this.waiter.as_mut().take_outcome().expect(TAKEN);
        let flight = this.waiter.take_flight();
        let table = this.table.table();
        table.tell(id, |observer| observer.answered(id, table.waited(*this.since)));
        // It may be the last reference, to a value whose `Drop` panics.
        drop(flight);
        outcome
    }

    #[cold]
    fn take_over(self: Pin<&mut Self>) -> Permit<R> {
        let this = self.project();
        let flight = this.waiter.take_flight().expect(TAKEN);
        let id = flight.id();
        this.table.table().tell(id, |observer| observer.taken_over(id));
        Permit::taken_over(this.table.clone(), *this.hash, flight)
    }

    /// Waits as a thread.
    pub(crate) fn wait_blocking(self: Pin<&mut Self>, deadline: Option<Instant>) -> Waited<R>
    where
        R::V: Clone,
    {
        let turn = loop {
            let waiters = &self.flight().waiters;
            let seat = waiters.sit();
            if let Some(turn) = self.visit() {
                waiters.rise(seat);
                break turn;
            }
            let is_called = waiters.wait(seat, deadline);
            if self.is_landed() {
                break Turn::Landed;
            }
            if !is_called {
                break Turn::TimedOut;
            }
        };
        self.conclude(turn)
    }

    #[cold]
    fn leave(self: Pin<&mut Self>) {
        let mut this = self.project();
        let Some(flight) = this.waiter.as_mut().take_flight() else { return };
        if flight.outcome().is_none() && flight.leave(this.ticket.who()) {
            bury(this.table, *this.hash, flight, *this.since);
            return;
        }
        let (table, id) = (this.table.table(), flight.id());
        table.tell(id, |observer| observer.left(id, table.waited(*this.since)));
    }
}

/// Step 5 of a follower that has left a dead flight.
#[cold]
#[inline(never)]
fn bury<R: Reach>(reach: &R, hash: KeyHash, flight: Arc<Flight<R::V>>, since: Stamp) {
    let (table, id) = (reach.table(), flight.id());
    match table.bury(hash, &flight) {
        Buried::Led => {
            table.tell(id, |observer| observer.taken_over(id));
            // Its work is still in it, and goes as that of a leader does (G1).
            drop(Permit::taken_over(reach.clone(), hash, flight));
        }
        buried @ Buried::Over(_) => {
            table.tell(id, |observer| observer.left(id, table.waited(since)));
            // Last: the `Drop` of the key may panic.
            drop(buried);
        }
    }
}

/// Waits as a task.
impl<R: Reach> Future for Follower<R>
where
    R::V: Clone,
{
    type Output = Waited<R>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Waited<R>> {
        loop {
            let is_called = if self.waiter.is_listed() {
                let mut waiter = self.as_mut().project().waiter;
                waiter.as_mut().take_call() || waiter.set_waker(cx.waker())
            } else {
                self.as_mut().project().waiter.list(cx.waker());
                if let Some(turn) = self.visit() {
                    return Poll::Ready(self.conclude(turn));
                }
                self.as_mut().project().waiter.take_call()
            };
            if !is_called {
                return Poll::Pending;
            }
            // One visit for each call: who was called to decline does so once.
            if self.is_landed() {
                return Poll::Ready(self.land());
            }
        }
    }
}
