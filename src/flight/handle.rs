//! `Handle`, for those that wait for a flight without bringing work.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use event_listener::EventListener;

use super::{Alarm, Ask, Flight, Joined, Lapse, Ticket, state::Who};
use crate::{
    error::CallError,
    observer::Watched,
    sync::{Arc, wait_until},
};

/// Waits for the value of a flight, as a future or as a thread, without a work of its own.
///
/// Made by [`Group::join`](crate::Group::join), [`Group::lead_or_join`](crate::Group::lead_or_join),
/// [`Lead::handle`](crate::Lead::handle), [`Call::task`](crate::Call::task) and, with the feature `tokio`,
/// `Group::spawn`. Clones wait for the same flight and count as one follower; the handle of a task that follows itself is not counted beside
/// it. It borrows nothing, so it may go to another task or thread. Each is an allocation, and so is
/// waiting for it as a future.
///
/// A handle cannot take over. If the flight's leader is cancelled, it waits for whoever takes over;
/// if nobody is left who could, it gets [`CallError::Cancelled`] at once.
///
/// ```
/// use futures_lite::future;
/// use shardflight::Group;
///
/// future::block_on(async {
///     let group: Group<String, u32> = Group::new();
///     let mut leader = Box::pin(group.run("key", async { future::yield_now().await; 1 }));
///     assert!(future::poll_once(&mut leader).await.is_none());
///
///     let handle = group.join("key").expect("it is in flight");
///     assert_eq!(leader.await, 1);
///     assert_eq!(handle.await, Ok(1));
/// });
/// ```
///
/// # Cancel safety
///
/// Dropping a handle affects nobody, unless it is the last of a spawned call that is to be
/// [aborted](crate::Call::abort_when_abandoned) then. Once the flight has landed, every further poll
/// gives its answer again.
///
/// # Errors
///
/// [`CallError::Panicked`] if the flight's work panicked, [`CallError::Cancelled`] if it was given up
/// and nobody is left to take over, [`CallError::Reentrant`] if it is waited for inside that work,
/// [`CallError::TimedOut`] if its task waited for another call's work for as long as its
/// [`timeout`](crate::Call::timeout) allows. If a task with a timeout is dropped before it ends, its handle gets
/// `Cancelled`: nothing measures the time any more.
#[must_use = "a handle does nothing but wait for the value"]
pub struct Handle<V> {
    place: Arc<Place<V>>,
    /// Since the last poll that found nothing.
    listener: Option<EventListener>,
}

/// What the clones of a handle share.
struct Place<V> {
    flight: Arc<Flight<V>>,
    ticket: Ticket,
    /// Otherwise somebody else who follows the flight is counted for it.
    is_counted: bool,
    /// Of the task behind it, which may be aborted.
    alarm: Option<Arc<Alarm>>,
    /// Of the task behind it, if its time is limited.
    lapse: Option<Arc<Lapse>>,
    /// For one that joined, if somebody is to be told.
    watched: Option<Watched>,
}

impl<V> Handle<V> {
    /// For one that was counted when it joined.
    pub(crate) fn new(flight: Arc<Flight<V>>, ticket: Ticket, watched: Option<Watched>) -> Self {
        let (alarm, lapse) = (None, None);
        Self::with_place(Place { flight, ticket, is_counted: true, alarm, lapse, watched })
    }

    /// For the task that leads the flight, which counts it.
    pub(crate) fn of_leader(
        flight: Arc<Flight<V>>,
        alarm: Option<Arc<Alarm>>,
        lapse: Option<Arc<Lapse>>,
    ) -> Self {
        let ask = Ask { who: Who::Workless, ..Ask::DEFAULT };
        let Joined::Follow(ticket) = flight.join(&ask) else { unreachable!("it is led") };
        if let Some(alarm) = &alarm {
            flight.set_alarm(alarm);
        }
        let watched = None;
        Self::with_place(Place { flight, ticket, is_counted: true, alarm, lapse, watched })
    }

    /// For a task that follows, and is counted.
    pub(crate) fn of_follower(
        flight: Arc<Flight<V>>,
        task: Ticket,
        alarm: Option<Arc<Alarm>>,
        lapse: Option<Arc<Lapse>>,
    ) -> Self {
        let ticket = Ticket::new(Who::Workless, task.tell_after());
        let watched = None;
        Self::with_place(Place { flight, ticket, is_counted: false, alarm, lapse, watched })
    }

    fn with_place(place: Place<V>) -> Self {
        Self { place: Arc::new(place), listener: None }
    }

    fn answer(&self) -> Option<Result<V, CallError>>
    where
        V: Clone,
    {
        let Place { flight, ticket, lapse, watched, .. } = &*self.place;
        if let Some(outcome) = flight.outcome() {
            let answer = outcome.clone().map_err(CallError::Panicked);
            if let Some(watched) = watched {
                watched.answered(flight.id());
            }
            return Some(answer);
        }
        let is_given_up = flight.tells(*ticket) || flight.snapshot().is_dead();
        // Looked at after the state of the flight: a task that runs out of time says so before it leaves.
        if let Some(why) = lapse.as_ref().and_then(|lapse| lapse.error()) {
            return Some(Err(why));
        }
        if flight.would_wait_for_this_stack() {
            return Some(Err(CallError::Reentrant));
        }
        is_given_up.then_some(Err(CallError::Cancelled))
    }

    /// Waits as a thread.
    ///
    /// Not for async code: it blocks the executor's thread.
    ///
    /// ```
    /// use shardflight::{Entry, Group};
    ///
    /// let group: Group<u32, &str> = Group::new();
    /// let Entry::Lead(lead) = group.lead_or_join(&1) else { unreachable!("the key is free") };
    /// let handle = lead.handle();
    /// let thread = std::thread::spawn(move || handle.wait());
    /// lead.land("one");
    /// assert_eq!(thread.join().unwrap(), Ok("one"));
    /// ```
    ///
    /// # Errors
    ///
    /// Those of the [handle](Self#errors).
    pub fn wait(self) -> Result<V, CallError>
    where
        V: Clone,
    {
        self.wait_deadline(None)
    }

    /// Waits as a thread, for so long at most. [`Duration::MAX`] means for ever.
    ///
    /// The handle is used up; [clone](Clone) it before to wait again.
    ///
    /// ```
    /// use shardflight::{CallError, Entry, Group};
    /// use std::time::Duration;
    ///
    /// let group: Group<u32, u32> = Group::new();
    /// let Entry::Lead(lead) = group.lead_or_join(&1) else { unreachable!("the key is free") };
    /// let handle = lead.handle();
    /// assert_eq!(handle.wait_timeout(Duration::from_millis(1)), Err(CallError::TimedOut));
    /// # drop(lead);
    /// ```
    ///
    /// # Errors
    ///
    /// [`CallError::TimedOut`], and those of the [handle](Self#errors).
    pub fn wait_timeout(self, timeout: Duration) -> Result<V, CallError>
    where
        V: Clone,
    {
        self.wait_deadline(Instant::now().checked_add(timeout))
    }

    fn wait_deadline(mut self, deadline: Option<Instant>) -> Result<V, CallError>
    where
        V: Clone,
    {
        let answer = loop {
            // A listener of an earlier poll may have been notified; a new one hears what comes.
            self.listener = None;
            let listener = self.place.flight.aside.listen();
            if let Some(answer) = self.answer() {
                drop(listener);
                break answer;
            }
            if !wait_until(listener, deadline) {
                break self.answer().unwrap_or(Err(CallError::TimedOut));
            }
        };
        // Here, and not when this returns: it may be the last to keep the flight, with a value whose `Drop`
        // panics, and an answer that is being returned would leak.
        drop(self);
        answer
    }
}

impl<V: Clone> Future for Handle<V> {
    type Output = Result<V, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            // Registered first, asked then (G6).
            if self.listener.is_none() {
                self.listener = Some(self.place.flight.aside.listen());
            }
            if let Some(answer) = self.answer() {
                self.listener = None;
                return Poll::Ready(answer);
            }
            let listener = self.listener.as_mut().expect("registered above");
            match Pin::new(listener).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => self.listener = None,
            }
        }
    }
}

impl<V> Clone for Handle<V> {
    fn clone(&self) -> Self {
        Self { place: Arc::clone(&self.place), listener: None }
    }
}

impl<V> Unpin for Handle<V> {}

impl<V> fmt::Debug for Handle<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flight = &self.place.flight;
        f.debug_struct("Handle")
            .field("flight", &flight.id().0)
            .field("is_landed", &flight.outcome().is_some())
            .finish_non_exhaustive()
    }
}

impl<V> Drop for Place<V> {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.release();
        }
        if self.is_counted && self.flight.outcome().is_none() {
            debug_assert!(self.ticket.who() != Who::Able);
            // It could not lead, so whether the flight is dead has not changed.
            let _ = self.flight.leave(self.ticket.who());
        }
        if let Some(watched) = &mut self.watched {
            watched.gone(self.flight.id());
        }
    }
}
