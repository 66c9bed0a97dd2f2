//! How a batch waits for a key whose flight it did not begin.

use std::{
    future::Future,
    panic::resume_unwind,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;

use crate::{
    CallError,
    flight::{Follower, Payload, Pending, Permit, Waited},
    group::unwind,
    table::Reach,
};

/// What the wait for a key came to.
pub(super) enum Settled<R: Reach> {
    Value(R::V),
    /// To be loaded.
    Lead(Permit<R>),
}

pin_project! {
    /// A batch's place at the flight of one key.
    #[project = SeatProj]
    #[project_ref = SeatRef]
    pub(super) enum Seat<R>
    where
        R: Reach,
    {
        Following { #[pin] follower: Follower<R> },
        Leading { pending: Pending<R> },
        // Work that was left half done is done here.
        Relayed { permit: Permit<R> },
    }
}

pin_project! {
    /// Waits for the flight of one key.
    pub(super) struct Wait<K, R>
    where
        R: Reach,
    {
        // Before `key`, whose `Drop` may panic.
        #[pin]
        seat: Seat<R>,
        // None once it was handed out.
        key: Option<K>,
    }
}

impl<K, R: Reach> Wait<K, R> {
    pub(super) fn new(key: K, seat: Seat<R>) -> Self {
        Self { seat, key: Some(key) }
    }

    /// Whether the work that runs on this stack has to end before this can settle (G13).
    pub(super) fn would_wait_for_this_stack(self: Pin<&Self>) -> bool {
        match self.project_ref().seat.project_ref() {
            SeatRef::Following { follower } => follower.would_wait_for_this_stack(),
            // A batch leads no pending flight, and drives the work that it took over.
            SeatRef::Leading { .. } | SeatRef::Relayed { .. } => false,
        }
    }
}

impl<K, R: Reach> Future for Wait<K, R>
where
    R::V: Clone,
{
    type Output = (K, Settled<R>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let settled = ready!(this.seat.as_mut().poll(cx));
        Poll::Ready((this.key.take().expect("not polled after it settled"), settled))
    }
}

impl<R: Reach> Seat<R>
where
    R::V: Clone,
{
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Settled<R>> {
        loop {
            let next = match self.as_mut().project() {
                SeatProj::Following { follower } => match ready!(follower.poll(cx)) {
                    Waited::Lead(permit) => Self::Leading { pending: Pending::new(permit) },
                    Waited::Landed(Ok(value)) => return Poll::Ready(Settled::Value(value)),
                    Waited::Landed(Err(panicked)) => unwind(&CallError::Panicked(panicked)),
                    Waited::Cancelled | Waited::TimedOut => {
                        unreachable!("nothing of this was asked for")
                    }
                },
                SeatProj::Leading { pending } => match ready!(Pin::new(pending).poll(cx)) {
                    permit if permit.has_relay() => Self::Relayed { permit },
                    permit => return Poll::Ready(Settled::Lead(permit)),
                },
                SeatProj::Relayed { permit } => {
                    let returned = ready!(permit.poll_relay(cx));
                    return Poll::Ready(Settled::Value(finish(permit, returned)));
                }
            };
            self.set(next);
        }
    }
}

fn finish<R: Reach>(permit: &mut Permit<R>, returned: Result<R::V, Payload>) -> R::V
where
    R::V: Clone,
{
    match returned {
        Ok(value) => permit.land(value).0,
        Err(payload) => {
            permit.panicked(&*payload);
            resume_unwind(payload)
        }
    }
}
