//! A caller's own work: polled, caught and dropped as a part of the flight it runs for.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{FlightId, reentry};

pub(crate) type Payload = Box<dyn Any + Send>;

/// Runs a closure's work as part of flight `id`.
pub(super) fn call<V>(id: FlightId, work: impl FnOnce() -> V) -> Result<V, Payload> {
    reentry::within(id, || catch_unwind(AssertUnwindSafe(work)))
}

pin_project! {
    /// A future that becomes a flight's work if its caller leads.
    pub(super) struct Work<F> {
        id: Option<FlightId>,
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Work<F> {
        fn drop(this: Pin<&mut Self>) {
            this.clear();
        }
    }
}

impl<F> Work<F> {
    pub(super) fn new(future: F) -> Self {
        Self { id: None, future: Some(future) }
    }

    /// From here on the work belongs to this flight.
    #[inline]
    pub(super) fn start(self: Pin<&mut Self>, id: FlightId) {
        *self.project().id = Some(id);
    }

    /// Drops the future as what it is: a part of the execution, if it was one (G1, G13).
    #[inline]
    fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        match *this.id {
            Some(id) if this.future.is_some() => reentry::within(id, || this.future.set(None)),
            _ => this.future.set(None),
        }
    }
}

impl<F: Future> Work<F> {
    /// Polls the started work. When this is `Ready` the future has been dropped, panic or not.
    #[inline]
    pub(super) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        let mut this = self.as_mut().project();
        let id = this.id.expect("work is polled only by a leader");
        let polled = reentry::within(id, || {
            catch_unwind(AssertUnwindSafe(|| {
                let future = this.future.as_mut().as_pin_mut();
                let polled = future.expect("work is not polled again after it returned").poll(cx);
                if polled.is_ready() {
                    this.future.set(None);
                }
                polled
            }))
        });
        match polled {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(payload) => {
                // The first panic is the one to report. Leaking the second's payload is the only
                // thing that cannot panic again.
                if let Err(second) = catch_unwind(AssertUnwindSafe(|| self.clear())) {
                    std::mem::forget(second);
                }
                Poll::Ready(Err(payload))
            }
        }
    }
}
