//! The lead of a flight that may have to wait for an older one of its key to end (step 7).

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Instant,
};

use event_listener::{EventListener, listener};

use super::{Flight, Permit};
use crate::{
    sync::{Arc, wait_until},
    table::Reach,
};

/// Becomes the permit when its flight may begin, which it mostly may from the beginning. Dropped before,
/// it gives the lead up.
pub(crate) struct Pending<R: Reach> {
    /// `None` only once it has been handed out.
    permit: Option<Permit<R>>,
    listener: Option<EventListener>,
}

impl<R: Reach> Pending<R> {
    pub(crate) fn new(permit: Permit<R>) -> Self {
        Self { permit: Some(permit), listener: None }
    }

    pub(super) fn flight(&self) -> Option<&Arc<Flight<R::V>>> {
        self.permit.as_ref().and_then(Permit::flight)
    }

    fn is_pending(&self) -> bool {
        self.flight().is_some_and(|flight| flight.snapshot().is_pending())
    }

    /// As [`Flight::would_wait_for_this_stack`].
    pub(super) fn would_wait_for_this_stack(&self) -> bool {
        self.flight().is_some_and(|flight| flight.would_wait_for_this_stack())
    }

    /// Waits as a thread; `None` if the time comes first.
    pub(crate) fn wait_blocking(mut self, deadline: Option<Instant>) -> Option<Permit<R>> {
        while self.is_pending() {
            let flight = self.flight()?;
            listener!(flight.aside => listener);
            if self.is_pending() && !wait_until(listener, deadline) && self.is_pending() {
                return None;
            }
        }
        self.permit.take()
    }
}

impl<R: Reach> Future for Pending<R> {
    type Output = Permit<R>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Permit<R>> {
        loop {
            if !self.is_pending() {
                self.listener = None;
                return Poll::Ready(self.permit.take().expect("polled until it is ready"));
            }
            match &mut self.listener {
                // Registered first, asked then (G6).
                None => {
                    self.listener = self.flight().map(|flight| flight.aside.listen());
                }
                Some(listener) => {
                    ready!(Pin::new(listener).poll(cx));
                    self.listener = None;
                }
            }
        }
    }
}

impl<R: Reach> Unpin for Pending<R> {}
