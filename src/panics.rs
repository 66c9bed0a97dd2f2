//! Panics of the caller's code: what keeps them from going further, from leaking what they carry, and from
//! leaking what is being returned.
//!
//! A value that is on its way to the caller leaks if a destructor panics that runs when the function returns,
//! or when an awaited future is dropped after it was ready: Rust drops neither. If it is a lead, a place among
//! followers, or a handle, that is a flight that never ends. So wherever something is returned, destructors
//! of the caller's (of keys, values, work, hashers, observers) run before, while it is in a variable.

use std::{
    any::Any,
    collections::HashMap,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
};
#[cfg(any(feature = "moka", feature = "tower", loom))]
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

#[cfg(any(feature = "moka", feature = "tower", loom))]
use pin_project_lite::pin_project;

/// What a panic carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Calls code whose panic must neither replace an answer nor stop the protocol half way. Says whether it
/// returned.
pub(crate) fn contain(call: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(()) => true,
        Err(payload) => {
            discard(payload);
            false
        }
    }
}

/// Drops the payload of a panic that goes no further. A payload may panic when it is dropped.
pub(crate) fn discard(payload: Payload) {
    if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        // Leaked: it may panic in the same way, with a third, and this would never end.
        forget(second);
    }
}

/// Drops a map. By itself it forgets the rest when the `Drop` of a key panics; its iterator does not.
pub(crate) fn drop_each<K, T>(map: HashMap<K, T>) {
    map.into_iter().for_each(drop);
}

#[cfg(any(feature = "moka", feature = "tower", loom))]
pin_project! {
    /// A future that is dropped before its output is handed on.
    pub(crate) struct DroppedFirst<F> {
        // Until it is ready.
        #[pin]
        future: Option<F>,
    }
}

#[cfg(any(feature = "moka", feature = "tower", loom))]
impl<F> DroppedFirst<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }
}

#[cfg(any(feature = "moka", feature = "tower", loom))]
impl<F: Future> Future for DroppedFirst<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut future = self.project().future;
        let polled = future.as_mut().as_pin_mut().expect("not polled after it was ready").poll(cx);
        if polled.is_ready() {
            future.set(None);
        }
        polled
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        panic::resume_unwind,
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use super::*;

    /// Counts how many are dropped, and panics then with another one.
    struct Nested(&'static AtomicUsize);

    impl Drop for Nested {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
            resume_unwind(Box::new(Self(self.0)));
        }
    }

    #[test]
    fn g08_a_payload_that_is_discarded_is_dropped() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Payload;
        impl Drop for Payload {
            fn drop(&mut self) {
                DROPPED.fetch_add(1, SeqCst);
            }
        }
        assert!(!contain(|| resume_unwind(Box::new(Payload))));
        assert_eq!(DROPPED.load(SeqCst), 1);
        assert!(contain(|| ()));
    }

    #[test]
    fn g08_a_payload_whose_drop_panics_is_discarded_all_the_same() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        discard(Box::new(Nested(&DROPPED)));
        assert_eq!(DROPPED.load(SeqCst), 1);
    }
}
