//! A caller that joined a flight: how it waits, and how it goes.

use std::time::Instant;

use event_listener::{Listener, listener};

use super::{Flight, Permit, Ticket, Visit, state::Who};
use crate::{
    error::Panicked,
    sync::{Arc, wait_until},
    table::{KeyHash, Reach, Stamp},
};

/// A place among the followers of a flight. Dropping it before there is an outcome leaves the flight
/// (step 5).
pub(crate) struct Follower<R: Reach> {
    table: R,
    /// `None` only after the place was given up for an answer.
    flight: Option<Arc<Flight<R::V>>>,
    hash: KeyHash,
    ticket: Ticket,
    /// Of those that are watched.
    since: Stamp,
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

/// Why there is nothing to wait for.
enum Turn {
    Landed,
    Lead,
    Cancelled,
    TimedOut,
}

impl<R: Reach> Follower<R> {
    pub(crate) fn new(table: R, hash: KeyHash, flight: Arc<Flight<R::V>>, ticket: Ticket) -> Self {
        let since = table.table().waits_since();
        Self { table, flight: Some(flight), hash, ticket, since }
    }

    pub(crate) fn flight(&self) -> &Arc<Flight<R::V>> {
        self.flight.as_ref().expect("a place that is still taken has a flight")
    }

    fn is_landed(&self) -> bool {
        self.flight().outcome().is_some()
    }

    /// Step 4. To be called between registering with the event and waiting (G6). When the wait is
    /// over, the registration is discarded and not dropped: it would pass a notification on, and no
    /// foreign waker may run between taking the lead and holding it.
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
    fn conclude(mut self, turn: Turn) -> Waited<R>
    where
        R::V: Clone,
    {
        match turn {
            Turn::Lead => {
                let flight = self.flight.take().expect("a place that is still taken has a flight");
                let id = flight.id();
                self.table.table().tell(id, |observer| observer.taken_over(id));
                Waited::Lead(Permit::taken_over(self.table.clone(), self.hash, flight))
            }
            Turn::Cancelled => Waited::Cancelled,
            Turn::TimedOut => Waited::TimedOut,
            Turn::Landed => match self.flight().outcome() {
                Some(outcome) => {
                    let landed = Waited::Landed(outcome.clone());
                    let (table, id) = (self.table.table(), self.flight().id());
                    table.tell(id, |observer| observer.answered(id, table.waited(self.since)));
                    self.flight = None;
                    landed
                }
                None => unreachable!("only a landed flight ends the wait this way"),
            },
        }
    }

    /// Waits as a thread.
    pub(crate) fn wait_blocking(self, deadline: Option<Instant>) -> Waited<R>
    where
        R::V: Clone,
    {
        let turn = loop {
            listener!(self.flight().event => listener);
            if let Some(turn) = self.visit() {
                listener.discard();
                break turn;
            }
            let notified = wait_until(listener, deadline);
            if self.is_landed() {
                break Turn::Landed;
            }
            if !notified {
                break Turn::TimedOut;
            }
        };
        self.conclude(turn)
    }
}

/// Waits as a task.
#[expect(clippy::manual_async_fn, reason = "an async fn would keep its argument twice")]
pub(crate) fn wait<R: Reach>(follower: Follower<R>) -> impl Future<Output = Waited<R>>
where
    R::V: Clone,
{
    async move {
        let turn = loop {
            listener!(follower.flight().event => listener);
            if let Some(turn) = follower.visit() {
                listener.discard();
                break turn;
            }
            listener.await;
            // One visit for each wake-up: a woken follower that is to decline does so once.
            if follower.is_landed() {
                break Turn::Landed;
            }
        };
        follower.conclude(turn)
    }
}

impl<R: Reach> Drop for Follower<R> {
    fn drop(&mut self) {
        let Some(flight) = self.flight.take() else { return };
        let (table, id) = (self.table.table(), flight.id());
        if flight.outcome().is_none()
            && flight.leave(self.ticket.who())
            && table.bury(self.hash, &flight)
        {
            table.tell(id, |observer| observer.taken_over(id));
            // Its work is still in it, and goes as that of a leader does (G1).
            drop(Permit::taken_over(self.table.clone(), self.hash, flight));
        } else {
            table.tell(id, |observer| observer.left(id, table.waited(self.since)));
        }
    }
}
