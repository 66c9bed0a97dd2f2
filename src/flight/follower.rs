//! A caller that joined a flight: how it waits, and how it goes.

use std::hash::Hash;

use event_listener::{Listener, listener};

use super::{Flight, Lead, OnCancel, Visit};
use crate::{
    error::Panicked,
    sync::Arc,
    table::{KeyHash, Table},
};

/// A seat in a shared flight. Dropping it before there is an outcome leaves the flight (step 5).
pub(crate) struct Follower<'t, K: Eq + Hash, V> {
    table: &'t Table<K, V>,
    /// `None` only after the seat was given up for an answer.
    flight: Option<Arc<Flight<V>>>,
    hash: KeyHash,
    /// That of joining, which `OnCancel::Fail` compares with the flight's.
    generation: u32,
    who: OnCancel,
}

/// What waiting came to.
pub(crate) enum Waited<'t, K: Eq + Hash, V> {
    Landed(Result<V, Panicked>),
    /// The leader was cancelled and this follower has its place.
    Lead(Lead<'t, K, V>),
    /// The leader was cancelled and this follower wanted to know.
    Cancelled,
}

/// Why there is nothing to wait for.
enum Turn {
    Landed,
    Lead,
    Cancelled,
}

impl<'t, K: Eq + Hash, V> Follower<'t, K, V> {
    pub(crate) fn new(
        table: &'t Table<K, V>,
        hash: KeyHash,
        who: OnCancel,
        flight: Arc<Flight<V>>,
        generation: u32,
    ) -> Self {
        Self { table, flight: Some(flight), hash, generation, who }
    }

    fn flight(&self) -> &Arc<Flight<V>> {
        self.flight.as_ref().expect("a seat that is still taken has a flight")
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
        match self.who {
            OnCancel::Fail => (flight.generation() != self.generation).then_some(Turn::Cancelled),
            OnCancel::TakeOver => (flight.visit() == Visit::Lead).then_some(Turn::Lead),
        }
    }

    /// Gives the seat up for what the turn brings.
    fn conclude(mut self, turn: Turn) -> Waited<'t, K, V>
    where
        V: Clone,
    {
        match turn {
            Turn::Lead => {
                let flight = self.flight.take().expect("a seat that is still taken has a flight");
                Waited::Lead(Lead::taken_over(self.table, self.hash, flight))
            }
            Turn::Cancelled => Waited::Cancelled,
            Turn::Landed => match self.flight().outcome() {
                Some(outcome) => Waited::Landed(outcome.clone()),
                None => unreachable!("only a landed flight ends the wait this way"),
            },
        }
    }

    /// Waits as a thread.
    pub(crate) fn wait_blocking(self) -> Waited<'t, K, V>
    where
        V: Clone,
    {
        let turn = loop {
            listener!(self.flight().event => listener);
            if let Some(turn) = self.visit() {
                listener.discard();
                break turn;
            }
            listener.wait();
            if self.is_landed() {
                break Turn::Landed;
            }
        };
        self.conclude(turn)
    }
}

/// Waits as a task.
#[expect(clippy::manual_async_fn, reason = "an async fn would keep its argument twice")]
pub(crate) fn wait<'t, K, V>(follower: Follower<'t, K, V>) -> impl Future<Output = Waited<'t, K, V>>
where
    K: Eq + Hash,
    V: Clone,
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

impl<K: Eq + Hash, V> Drop for Follower<'_, K, V> {
    fn drop(&mut self) {
        if let Some(flight) = self.flight.take()
            && flight.outcome().is_none()
            && flight.leave(self.who)
        {
            self.table.bury(self.hash, &flight);
        }
    }
}
