//! Floors of herds: to wait and to wake, by one means or another, and nothing else. The first to come
//! leads, and all others follow it, whatever the key.

use std::{
    borrow::Borrow,
    future::poll_fn,
    hash::Hash,
    mem::take,
    sync::{
        Condvar, Mutex,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Poll, Waker},
    thread::{self, Thread},
};

use event_listener::{Event, Listener, listener};
use tokio::sync::Notify;

use super::{AsyncGroup, BlockingGroup};

#[derive(Default)]
pub struct BareHerd<B> {
    /// Odd while somebody leads: the number of the flight.
    flight: AtomicU64,
    value: AtomicU64,
    bell: B,
}

/// Wakes all who have begun to wait.
pub trait Bell: Default + Send + Sync + 'static {
    fn ring(&self);
}

pub trait TaskBell: Bell {
    /// Ready when it has rung, or at once if all is over once a ringing would be heard.
    fn heard(&self, is_over: impl Fn() -> bool + Send + Sync) -> impl Future<Output = ()> + Send;
}

pub trait ThreadBell: Bell {
    fn hear(&self, is_over: impl Fn() -> bool);
}

enum Entered {
    Leads(u64),
    Follows(u64),
}

impl<B: Bell> BareHerd<B> {
    fn enter(&self) -> Entered {
        let mut flight = self.flight.load(Acquire);
        loop {
            if flight % 2 == 1 {
                return Entered::Follows(flight);
            }
            match self.flight.compare_exchange_weak(flight, flight + 1, Acquire, Acquire) {
                Ok(_) => return Entered::Leads(flight + 1),
                Err(seen) => flight = seen,
            }
        }
    }

    fn has_landed(&self, flight: u64) -> bool {
        self.flight.load(Acquire) != flight
    }

    fn land(&self, flight: u64, value: u64) {
        self.value.store(value, Relaxed);
        self.flight.store(flight + 1, Release);
        self.bell.ring();
    }
}

impl<K: 'static, B: TaskBell> AsyncGroup<K> for BareHerd<B> {
    fn with_capacity(_keys: usize) -> Self {
        Self::default()
    }

    async fn run<'a, Q, F>(&'a self, _key: &'a Q, work: F) -> u64
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = u64> + Send + 'static,
    {
        match self.enter() {
            Entered::Leads(flight) => {
                let value = work.await;
                self.land(flight, value);
                value
            }
            Entered::Follows(flight) => {
                self.bell.heard(|| self.has_landed(flight)).await;
                self.value.load(Relaxed)
            }
        }
    }
}

impl<B: ThreadBell> BlockingGroup for BareHerd<B> {
    fn fresh() -> Self {
        Self::default()
    }

    fn run_blocking(&self, _key: u64, work: impl FnOnce() -> u64) -> u64 {
        match self.enter() {
            Entered::Leads(flight) => {
                let value = work();
                self.land(flight, value);
                value
            }
            Entered::Follows(flight) => {
                self.bell.hear(|| self.has_landed(flight));
                self.value.load(Relaxed)
            }
        }
    }
}

/// event-listener's, with the listener in the future or on the stack.
impl Bell for Event {
    fn ring(&self) {
        self.notify(usize::MAX);
    }
}

impl TaskBell for Event {
    async fn heard(&self, is_over: impl Fn() -> bool + Send + Sync) {
        listener!(self => listener);
        if !is_over() {
            listener.await;
        }
    }
}

impl ThreadBell for Event {
    fn hear(&self, is_over: impl Fn() -> bool) {
        listener!(self => listener);
        if !is_over() {
            listener.wait();
        }
    }
}

/// tokio's.
impl Bell for Notify {
    fn ring(&self) {
        self.notify_waiters();
    }
}

impl TaskBell for Notify {
    async fn heard(&self, is_over: impl Fn() -> bool + Send + Sync) {
        let notified = self.notified();
        if !is_over() {
            notified.await;
        }
    }
}

/// Wakers in a vector under a mutex.
#[derive(Default)]
pub struct Wakers(Mutex<Vec<Waker>>);

impl Bell for Wakers {
    fn ring(&self) {
        let wakers = take(&mut *self.0.lock().expect("nothing panics under it"));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl TaskBell for Wakers {
    async fn heard(&self, is_over: impl Fn() -> bool + Send + Sync) {
        let mut has_waited = false;
        poll_fn(|cx| {
            if has_waited {
                return Poll::Ready(());
            }
            let mut wakers = self.0.lock().expect("nothing panics under it");
            if is_over() {
                return Poll::Ready(());
            }
            wakers.push(cx.waker().clone());
            has_waited = true;
            Poll::Pending
        })
        .await;
    }
}

/// Threads in a vector under a mutex, parked.
#[derive(Default)]
pub struct Parked(Mutex<Vec<Thread>>);

impl Bell for Parked {
    fn ring(&self) {
        let threads = take(&mut *self.0.lock().expect("nothing panics under it"));
        threads.into_iter().for_each(|thread| thread.unpark());
    }
}

impl ThreadBell for Parked {
    fn hear(&self, is_over: impl Fn() -> bool) {
        self.0.lock().expect("nothing panics under it").push(thread::current());
        while !is_over() {
            thread::park();
        }
    }
}

/// std's.
#[derive(Default)]
pub struct Seats {
    lock: Mutex<()>,
    rung: Condvar,
}

impl Bell for Seats {
    fn ring(&self) {
        // Who found that nothing is over has begun to wait by then.
        drop(self.lock.lock().expect("nothing panics under it"));
        self.rung.notify_all();
    }
}

impl ThreadBell for Seats {
    fn hear(&self, is_over: impl Fn() -> bool) {
        let guard = self.lock.lock().expect("nothing panics under it");
        let _guard = self.rung.wait_while(guard, |()| !is_over()).expect("nothing panics under it");
    }
}
