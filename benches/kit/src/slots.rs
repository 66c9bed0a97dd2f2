//! Futures that are polled by hand, in place: on the stack if they are ready at once, otherwise in
//! slots made beforehand, so that no contender's allocations are mixed with the bench's.

use std::{
    future::poll_fn,
    hint::spin_loop,
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    thread,
};

/// A call that waits for nobody. Part of the measured operation, which is the function around it.
#[inline(always)]
pub fn ready<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => poll_on(future),
    }
}

/// Nobody else has the key, but there are groups with an async lock of their own. Polling is kinder to
/// them than to park for each call.
#[cold]
fn poll_on<F: Future>(mut future: Pin<&mut F>) -> F::Output {
    let mut polls = 0_u64;
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
        // Who is waited for may need the core.
        if polls < 200 {
            spin_loop()
        } else {
            thread::yield_now()
        }
        polls += 1;
    }
}

/// One poll of a call within a task, as `await` makes it. Part of the measured operation.
#[inline(never)]
pub fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    future.poll(cx)
}

pub type Slot<F> = Pin<Box<Option<F>>>;

pub fn slots<F>(count: usize) -> Vec<Slot<F>> {
    (0..count).map(|_| Box::pin(None)).collect()
}

/// Makes a call in its slot, as `await` would in its task, and polls it, to find that it has to wait.
#[inline(never)]
pub fn begin<F: Future>(slot: &mut Slot<F>, call: impl FnOnce() -> F, cx: &mut Context<'_>) {
    slot.set(Some(call()));
    let future = slot.as_mut().as_pin_mut().expect("just set");
    assert!(future.poll(cx).is_pending());
}

/// Polls a call that can go on now, and empties its slot.
#[inline(never)]
pub fn end<F: Future>(slot: &mut Slot<F>, cx: &mut Context<'_>) -> F::Output {
    let future = slot.as_mut().as_pin_mut().expect("begun");
    let Poll::Ready(output) = future.poll(cx) else { unreachable!("it was let go") };
    slot.set(None);
    output
}

/// Work that is done once it is said to be. Who polls it by hand needs no waking.
#[derive(Default)]
pub struct Gate(AtomicBool);

impl Gate {
    /// Leaked, one byte: some contenders box the work, which may then borrow nothing.
    pub fn fresh() -> &'static Self {
        Box::leak(Box::default())
    }

    pub fn open(&self) {
        self.0.store(true, Relaxed);
    }

    pub fn shut(&self) {
        self.0.store(false, Relaxed);
    }

    #[inline]
    pub fn passed(&'static self) -> impl Future<Output = u64> + Send {
        poll_fn(|_| if self.0.load(Relaxed) { Poll::Ready(1) } else { Poll::Pending })
    }
}
