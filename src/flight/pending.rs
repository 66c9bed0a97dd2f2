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
    error::CallError,
    sync::{Arc, wait_until},
    table::Reach,
};

/// Becomes the permit when its flight may begin, which mostly is immediately. Dropped before, it gives
/// the lead up. It gives the lead up, too, if it is polled inside the work that it waits for (G13).
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

    /// The flight that it leads, if that waits for an older one to end.
    fn waits(&self) -> Option<&Arc<Flight<R::V>>> {
        self.flight().filter(|flight| flight.snapshot().is_pending())
    }

    /// Waits as a thread.
    pub(crate) fn wait_blocking(
        mut self,
        deadline: Option<Instant>,
    ) -> Result<Permit<R>, CallError> {
        while let Some(flight) = self.waits() {
            listener!(flight.aside => listener);
            if self.waits().is_some()
                && !wait_until(listener, deadline)
                && self.waits().is_some()
            {
                return Err(CallError::TimedOut);
            }
        }
        Ok(self.take())
    }

    fn take(&mut self) -> Permit<R> {
        self.permit.take().expect("waited for until it is there")
    }
}

impl<R: Reach> Future for Pending<R> {
    type Output = Result<Permit<R>, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let Some(flight) = self.waits() else {
                self.listener = None;
                return Poll::Ready(Ok(self.take()));
            };
            if flight.would_wait_for_this_stack() {
                self.listener = None;
                drop(self.take());
                return Poll::Ready(Err(CallError::Reentrant));
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
