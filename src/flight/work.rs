//! A caller's own work: polled, caught and dropped as a part of the flight it runs for.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use super::{FlightId, permit::Held, reentry};
use crate::table::Reach;

pub(crate) type Payload = Box<dyn Any + Send>;

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
            // The first panic is the one to report. Leaking the second's payload is the only thing that
            // cannot panic again.
            if let Err(second) = catch_unwind(AssertUnwindSafe(clear)) {
                std::mem::forget(second);
            }
            Poll::Ready(Err(payload))
        }
    }
}

/// What a caller brings for the case that it leads.
pub(crate) trait Job<V> {
    /// From here on the work belongs to this flight. What is returned is the flight's own and polled
    /// instead.
    fn start(self: Pin<&mut Self>, id: FlightId, is_watched: bool) -> Option<Relay<V>>;

    /// Polls the started work, if it is watched inside of what the observer of its lead puts around
    /// it. When this is `Ready` the future has been dropped, panic or not.
    fn poll<R: Reach<V = V>>(
        self: Pin<&mut Self>,
        held: &Held<R>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<V, Payload>>;
}

/// Runs a closure's work as part of flight `id`.
pub(super) fn call<V>(id: FlightId, work: impl FnOnce() -> V) -> Result<V, Payload> {
    reentry::within(id, || catch_unwind(AssertUnwindSafe(work)))
}

/// What a caller's work is a part of.
#[derive(Clone, Copy)]
enum PartOf {
    Nothing,
    Flight(FlightId),
    Watched(FlightId),
}

pin_project! {
    /// A future that becomes a flight's work if its caller leads.
    pub(crate) struct Work<F> {
        part: PartOf,
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
    pub(crate) fn new(future: F) -> Self {
        Self { part: PartOf::Nothing, future: Some(future) }
    }

    /// Drops the future as what it is: a part of the execution, if it was one (G1, G13).
    #[inline]
    fn clear(self: Pin<&mut Self>) {
        let mut this = self.project();
        match *this.part {
            PartOf::Flight(id) | PartOf::Watched(id) if this.future.is_some() => {
                reentry::within(id, || this.future.set(None));
            }
            _ => this.future.set(None),
        }
    }
}

impl<F: Future> Work<F> {
    #[inline(always)]
    fn poll_part(
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
        finish_poll(polled, || self.clear())
    }

    #[cold]
    #[inline(never)]
    fn poll_watched<R: Reach>(
        self: Pin<&mut Self>,
        held: &Held<R>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        let PartOf::Watched(id) = self.part else {
            unreachable!("work is polled only by a leader")
        };
        held.around(|| self.poll_part(id, cx))
    }
}

impl<F: Future> Job<F::Output> for Work<F> {
    #[inline(always)]
    fn start(self: Pin<&mut Self>, id: FlightId, is_watched: bool) -> Option<Relay<F::Output>> {
        *self.project().part = if is_watched { PartOf::Watched(id) } else { PartOf::Flight(id) };
        None
    }

    #[inline]
    fn poll<R: Reach<V = F::Output>>(
        self: Pin<&mut Self>,
        held: &Held<R>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        match self.part {
            PartOf::Flight(id) => self.poll_part(id, cx),
            _ => self.poll_watched(held, cx),
        }
    }
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
    fn start(mut self: Pin<&mut Self>, _: FlightId, _: bool) -> Option<Relay<F::Output>> {
        let future = self.0.take().expect("a caller leads once");
        #[cfg(feature = "tokio")]
        let future = crate::tokio::InRuntime::new(future);
        Some(Box::pin(future))
    }

    fn poll<R: Reach<V = F::Output>>(
        self: Pin<&mut Self>,
        _: &Held<R>,
        _: &mut Context<'_>,
    ) -> Poll<Result<F::Output, Payload>> {
        unreachable!("it was handed to the flight")
    }
}
