//! A caller's own work: polled, caught and dropped as a part of the flight it runs for.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{FlightId, reentry};
pub(crate) use crate::panics::Payload;
use crate::panics::contain;

/// Work that its flight keeps when its leader is cancelled ([`Call::relay`](crate::Call::relay)). It is
/// polled and dropped as a part of the flight by whoever holds its lead.
pub(crate) type Relay<V> = Pin<Box<dyn Future<Output = V> + Send>>;

/// Polls a flight's own work. When this is `Ready` the future has been dropped, panic or not.
pub(super) fn poll_relay<V>(
    id: FlightId,
    relay: &mut Option<Relay<V>>,
    cx: &mut Context<'_>,
) -> Poll<Result<V, Payload>> {
    let polled = reentry::within(id, || {
        catch_unwind(AssertUnwindSafe(|| {
            let polled = relay.as_mut().expect("asked before").as_mut().poll(cx);
            if polled.is_ready() {
                *relay = None;
            }
            polled
        }))
    });
    finish_poll(polled, || drop_relay(id, relay.take()))
}

pub(super) fn drop_relay<V>(id: FlightId, relay: Option<Relay<V>>) {
    reentry::within(id, || drop(relay));
}

/// Drops what is left of work that panicked.
#[inline(always)]
fn finish_poll<V>(
    polled: Result<Poll<V>, Payload>,
    clear: impl FnOnce(),
) -> Poll<Result<V, Payload>> {
    match polled {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Err(payload) => {
            // The first panic is the one to report.
            contain(clear);
            Poll::Ready(Err(payload))
        }
    }
}

/// What a caller brings for the case that it leads.
pub(crate) trait Job<V> {
    /// From here on the work belongs to a flight. What is returned is the flight's own and polled
    /// instead.
    fn start(self: Pin<&mut Self>) -> Option<Relay<V>>;

    /// Polls the started work as a part of flight `id`. When this is `Ready` the future has been
    /// dropped, panic or not.
    fn poll(self: Pin<&mut Self>, id: FlightId, cx: &mut Context<'_>) -> Poll<Result<V, Payload>>;

    /// Drops the started work as a part of flight `id`, if it has not returned (G1, G13).
    fn cancel(self: Pin<&mut Self>, id: FlightId);

    /// Drops work that was not started, and will not be: its caller has an answer. To be called before that
    /// is returned (see [`panics`](crate::panics)).
    fn dismiss(self: Pin<&mut Self>);
}

/// Runs a closure's work as part of flight `id`.
#[inline]
pub(super) fn call<V>(id: FlightId, work: impl FnOnce() -> V) -> Result<V, Payload> {
    reentry::within(id, || catch_unwind(AssertUnwindSafe(work)))
}

pin_project! {
    /// A future that becomes a flight's work if its caller leads. Who holds it cancels it before it is
    /// dropped, if it does.
    pub(crate) struct Work<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F> Work<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }
}

impl<F: Future> Job<F::Output> for Work<F> {
    #[inline(always)]
    fn start(self: Pin<&mut Self>) -> Option<Relay<F::Output>> {
        None
    }

    #[inline(always)]
    fn poll(
        mut self: Pin<&mut Self>,
        id: FlightId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        let mut this = self.as_mut().project();
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
        finish_poll(polled, || self.cancel(id))
    }

    #[inline]
    fn cancel(self: Pin<&mut Self>, id: FlightId) {
        let mut future = self.project().future;
        if future.is_some() {
            reentry::within(id, || future.set(None));
        }
    }

    fn dismiss(self: Pin<&mut Self>) {
        self.project().future.set(None);
    }
}

/// Makes work a flight's own.
#[inline]
pub(crate) fn relay<V>(future: impl Future<Output = V> + Send + 'static) -> Relay<V> {
    #[cfg(feature = "tokio")]
    let future = crate::tokio::InRuntime::new(future);
    Box::pin(future)
}

/// Work that becomes the flight's own when it starts. Until then it is not pinned, and not boxed: who
/// only follows allocates nothing for it.
pub(crate) struct Relayed<F>(Option<F>);

impl<F> Relayed<F> {
    pub(crate) fn new(future: F) -> Self {
        Self(Some(future))
    }
}

// Nothing in it is ever pinned.
impl<F> Unpin for Relayed<F> {}

impl<F: Future + Send + 'static> Job<F::Output> for Relayed<F> {
    fn start(mut self: Pin<&mut Self>) -> Option<Relay<F::Output>> {
        Some(relay(self.0.take().expect("a caller leads once")))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: FlightId,
        _: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        unreachable!("it was handed to the flight")
    }

    /// What is the flight's goes with the lead. Here is only what was never begun.
    fn cancel(self: Pin<&mut Self>, _: FlightId) {}

    fn dismiss(mut self: Pin<&mut Self>) {
        self.0 = None;
    }
}
