//! Where the followers of a flight wait that have work of their own: tasks in a list, threads on a
//! condition variable.
//!
//! # What it promises
//!
//! - A task that is listed, or a thread that is seated, is reached by a call to all, and by a call to
//!   some if fewer than those wait who have not been called. It is reached once: who was called is not
//!   listed any more.
//! - Calls reach tasks in the order in which they were listed.
//! - No foreign code runs under the lock: wakers are cloned before, woken and dropped after.
//! - Who was called finds that out without the lock. In a herd that lands, only its leader takes it, once
//!   for each [`BATCH`] tasks.
//!
//! # Why it holds
//!
//! The nodes of the list lie in the followers' own futures. A node is *listed* from `list` until it is
//! called, which takes it out of the list, or its owner takes it out.
//!
//! 1. The entry of a listed node is touched under the lock alone; that of any other by its owner alone.
//!    What hands it from one to the other is `called`, with Release and Acquire: the caller touches the
//!    node no more once it has set that.
//! 2. A listed node stays where it is and belongs to a flight that lives: a [`Waiter`] keeps the flight,
//!    is pinned when it lists its node, and takes it out of the list when it is dropped.
//!
//! Threads are not listed: to wake a thousand of them one by one takes several times as long as to let
//! the system do it, and each of them would have to be found again. They are counted: those that are
//! seated and not called, and the calls that none of them has taken yet. Any of them may take a call.

#![allow(unsafe_code, reason = "the list runs through the followers' own futures")]

use std::{
    marker::PhantomPinned,
    mem::{swap, take},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr::NonNull,
    task::Waker,
    time::Instant,
};

use pin_project_lite::pin_project;

use super::Flight;
use crate::{
    error::Panicked,
    panics::discard,
    sync::{Arc, AtomicU32, BATCH, Condvar, Mutex, Ordering, UnsafeCell, lock, wait_on},
};

pub(super) struct Waiters {
    waiting: Mutex<Waiting>,
    seated: Condvar,
}

struct Waiting {
    first: Option<NonNull<Node>>,
    last: Option<NonNull<Node>>,
    tasks: usize,
    /// Threads that are seated and were not called.
    threads: usize,
    /// Calls for threads that none has taken yet.
    calls: usize,
    /// How often all threads were called. Who is seated in an earlier round is not counted any more.
    /// Wide enough never to come round to one of them.
    round: u64,
}

// SAFETY: the nodes it points to are touched under the lock that it lies behind, from any thread (1);
// what is in them, wakers, is Send.
unsafe impl Send for Waiting {}

/// What others see of a task that waits.
struct Node {
    called: AtomicU32,
    entry: UnsafeCell<Entry>,
    _pinned: PhantomPinned,
}

struct Entry {
    before: Option<NonNull<Node>>,
    after: Option<NonNull<Node>>,
    waker: Option<Waker>,
}

// SAFETY: as for `Waiting`.
unsafe impl Send for Node {}
// SAFETY: a shared node gives access to its entry under the lock alone.
unsafe impl Sync for Node {}

/// A thread's place among those that are seated.
pub(super) struct Seat {
    round: u64,
}

impl Waiters {
    pub(super) fn new() -> Self {
        let waiting = Waiting { first: None, last: None, tasks: 0, threads: 0, calls: 0, round: 0 };
        Self { waiting: Mutex::new(waiting), seated: Condvar::new() }
    }

    /// Calls so many of those that wait and were not called before, threads first: one that takes over
    /// cannot be cancelled.
    pub(super) fn call(&self, n: usize) {
        let mut waiting = lock(&self.waiting);
        let (threads, is_all) = waiting.call_threads(n);
        // Who comes back after it was called is not called again: so many in all, and no more.
        let tasks = waiting.tasks;
        let mut left = tasks.min(n - threads);
        let mut others = tasks - left;
        let mut called = waiting.call_tasks(&mut left);
        drop(waiting);
        if is_all {
            self.seated.notify_all();
        } else {
            (0..threads).for_each(|_| self.seated.notify_one());
        }
        loop {
            // Whose waker panicked may never be polled, and another has to go in its place.
            let more = wake(called).min(others);
            others -= more;
            left += more;
            if left == 0 {
                return;
            }
            called = lock(&self.waiting).call_tasks(&mut left);
        }
    }

    /// Seats a thread, which then has to ask before it waits (G6).
    pub(super) fn sit(&self) -> Seat {
        let mut waiting = lock(&self.waiting);
        waiting.threads += 1;
        Seat { round: waiting.round }
    }

    /// For a thread that is not going to wait any more.
    pub(super) fn rise(&self, seat: Seat) {
        lock(&self.waiting).rise(seat.round);
    }

    /// Waits until the thread is called; or `false` when the time has come.
    pub(super) fn wait(&self, seat: Seat, deadline: Option<Instant>) -> bool {
        let mut waiting = lock(&self.waiting);
        let mut is_late = false;
        loop {
            if waiting.take_call(seat.round) {
                return true;
            }
            if is_late {
                waiting.rise(seat.round);
                return false;
            }
            (waiting, is_late) = wait_on(&self.seated, waiting, deadline);
        }
    }
}

/// A waker that panics must not leave the ones after it waiting for ever, nor make this caller panic,
/// whose work may well have returned.
///
/// Returns how many did.
fn wake(called: [Option<Waker>; BATCH]) -> usize {
    let mut called = called.into_iter().map_while(|waker| waker);
    let mut panics = 0;
    while let Err(payload) =
        catch_unwind(AssertUnwindSafe(|| called.by_ref().for_each(Waker::wake)))
    {
        discard(payload);
        panics += 1;
    }
    panics
}

impl Waiting {
    /// How many it calls, and whether these are all that are seated.
    fn call_threads(&mut self, n: usize) -> (usize, bool) {
        if n < self.threads {
            self.threads -= n;
            self.calls += n;
            return (n, false);
        }
        let is_all = self.threads > 0;
        if is_all {
            self.calls = 0;
            self.round += 1;
        }
        (take(&mut self.threads), is_all)
    }

    fn take_call(&mut self, round: u64) -> bool {
        if self.round != round {
            return true;
        }
        let is_called = self.calls > 0;
        self.calls -= usize::from(is_called);
        is_called
    }

    fn rise(&mut self, round: u64) {
        if self.round != round {
            return;
        }
        if self.threads > 0 {
            self.threads -= 1;
        } else {
            self.calls -= 1;
        }
    }

    /// Takes the first out of the list: as many as it may, and as have room.
    fn call_tasks(&mut self, left: &mut usize) -> [Option<Waker>; BATCH] {
        let mut called = [const { None }; BATCH];
        let mut first = self.first;
        for place in called.iter_mut().take(*left) {
            let Some(node) = first else {
                *left = 0;
                break;
            };
            // SAFETY: it is listed, so it is there (2), ...
            let node = unsafe { node.as_ref() };
            // SAFETY: ... and the lock is held (1).
            (first, *place) =
                node.entry.with_mut(|entry| unsafe { ((*entry).after, (*entry).waker.take()) });
            *left -= 1;
            self.tasks -= 1;
            // Release: pairs with the Acquire in `take_call`. From here on the node is its owner's (1).
            node.called.store(1, Ordering::Release);
        }
        self.first = first;
        self.set_before(first, None);
        called
    }

    fn link(&mut self, node: &Node) {
        let before = self.last.replace(NonNull::from(node));
        // SAFETY: the lock is held, and the node is about to be listed (1).
        node.entry.with_mut(|entry| unsafe {
            (*entry).before = before;
            (*entry).after = None;
        });
        self.set_after(before, Some(NonNull::from(node)));
        self.tasks += 1;
    }

    /// Takes a listed node out.
    fn unlink(&mut self, node: &Node) {
        // SAFETY: the lock is held, and the node is listed (1).
        let (before, after) = node.entry.with(|entry| unsafe { ((*entry).before, (*entry).after) });
        self.set_after(before, after);
        self.set_before(after, before);
        self.tasks -= 1;
    }

    fn set_before(&mut self, node: Option<NonNull<Node>>, before: Option<NonNull<Node>>) {
        match node {
            None => self.last = before,
            Some(node) => {
                // SAFETY: it is listed, so it is there (2), ...
                let node = unsafe { node.as_ref() };
                // SAFETY: ... and the lock is held (1).
                node.entry.with_mut(|entry| unsafe { (*entry).before = before });
            }
        }
    }

    fn set_after(&mut self, node: Option<NonNull<Node>>, after: Option<NonNull<Node>>) {
        match node {
            None => self.first = after,
            Some(node) => {
                // SAFETY: it is listed, so it is there (2), ...
                let node = unsafe { node.as_ref() };
                // SAFETY: ... and the lock is held (1).
                node.entry.with_mut(|entry| unsafe { (*entry).after = after });
            }
        }
    }
}

pin_project! {
    /// A task's place among those that wait for a flight. It keeps the flight.
    pub(super) struct Waiter<V> {
        flight: Option<Arc<Flight<V>>>,
        // Whether the node is listed, or was called since.
        is_listed: bool,
        #[pin]
        node: Node,
    }

    impl<V> PinnedDrop for Waiter<V> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            this.unlist();
        }
    }
}

impl<V> Waiter<V> {
    #[inline(always)]
    pub(super) fn new(flight: Arc<Flight<V>>) -> Self {
        let entry = Entry { before: None, after: None, waker: None };
        let node = Node {
            called: AtomicU32::new(0),
            entry: UnsafeCell::new(entry),
            _pinned: PhantomPinned,
        };
        Self { flight: Some(flight), is_listed: false, node }
    }

    pub(super) fn flight(&self) -> Option<&Arc<Flight<V>>> {
        self.flight.as_ref()
    }

    /// Of a flight that has landed. Nobody but this gets at the flight to change it: as long as the node
    /// is listed, it is listed there (2).
    #[inline(always)]
    pub(super) fn take_outcome(self: Pin<&mut Self>) -> Option<Result<V, Panicked>>
    where
        V: Clone,
    {
        self.project().flight.as_mut().map(Flight::take_outcome)
    }

    /// Gives up waiting for it.
    #[inline]
    pub(super) fn take_flight(mut self: Pin<&mut Self>) -> Option<Arc<Flight<V>>> {
        self.as_mut().unlist();
        self.project().flight.take()
    }

    pub(super) fn is_listed(&self) -> bool {
        self.is_listed
    }

    /// Whether it was called since it was listed. Then it is not any more.
    #[inline]
    pub(super) fn take_call(self: Pin<&mut Self>) -> bool {
        let this = self.project();
        // Acquire: pairs with the Release in `call_tasks`; the entry is this task's again, and it sees
        // what the caller did before.
        let is_called = *this.is_listed && this.node.called.load(Ordering::Acquire) == 1;
        if is_called {
            *this.is_listed = false;
        }
        is_called
    }

    /// Lists the task, which then has to ask before it waits (G6).
    #[inline]
    pub(super) fn list(self: Pin<&mut Self>, waker: &Waker) {
        let this = self.project();
        let Some(flight) = this.flight else { return };
        assert!(!*this.is_listed, "it is listed once");
        let node = this.node.as_ref().get_ref();
        let waker = waker.clone();
        // SAFETY: it is not listed (1).
        node.entry.with_mut(|entry| unsafe { (*entry).waker = Some(waker) });
        // Relaxed: who calls it takes the lock after this.
        node.called.store(0, Ordering::Relaxed);
        lock(&flight.waiters.waiting).link(node);
        *this.is_listed = true;
    }

    /// Of one that is listed: who is to be woken. `true` if it was called meanwhile.
    #[cold]
    pub(super) fn set_waker(self: Pin<&mut Self>, waker: &Waker) -> bool {
        let Some(flight) = &self.flight else { return false };
        let (node, mut new) = (&self.node, None);
        loop {
            let waiting = lock(&flight.waiters.waiting);
            // SAFETY: the lock is held (1).
            let is_same = node.entry.with_mut(|entry| match unsafe { &mut (*entry).waker } {
                Some(old) if !old.will_wake(waker) => match &mut new {
                    Some(new) => {
                        swap(old, new);
                        true
                    }
                    None => false,
                },
                // It was called, or is woken as it is.
                _ => true,
            });
            drop(waiting);
            if is_same {
                break;
            }
            new = Some(waker.clone());
        }
        drop(new);
        self.take_call()
    }

    /// What is left of one that was not called, once it is not listed any more. Dropping it may panic.
    #[inline]
    pub(super) fn take_waker(self: Pin<&mut Self>) -> Option<Waker> {
        let this = self.project();
        if *this.is_listed {
            return None;
        }
        // SAFETY: it is not listed (1).
        this.node.entry.with_mut(|entry| unsafe { (*entry).waker.take() })
    }

    /// Takes it out of the list, unless it was called. Its waker stays: its `Drop` is foreign code, which
    /// must find neither the lock taken nor the follower half gone.
    #[inline]
    fn unlist(mut self: Pin<&mut Self>) {
        if self.is_listed && !self.as_mut().take_call() {
            self.unlist_locked();
        }
    }

    #[cold]
    fn unlist_locked(self: Pin<&mut Self>) {
        let this = self.project();
        let Some(flight) = this.flight else { return };
        let mut waiting = lock(&flight.waiters.waiting);
        // Relaxed: it is set under this lock.
        if this.node.called.load(Ordering::Relaxed) == 0 {
            waiting.unlink(this.node.as_ref().get_ref());
        }
        *this.is_listed = false;
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::{flight::FlightId, table::Stamp};

    /// Whether a call for it is there; or it gives its seat up.
    fn is_called(waiters: &Waiters, seat: Seat) -> bool {
        waiters.wait(seat, Some(Instant::now()))
    }

    fn is_empty(waiters: &Waiters) -> bool {
        let waiting = lock(&waiters.waiting);
        (waiting.threads, waiting.calls) == (0, 0)
    }

    #[test]
    fn g06_each_call_is_for_one_thread() {
        let waiters = Waiters::new();
        let seats = [(); 4].map(|()| waiters.sit());
        waiters.call(2);
        let called = seats.map(|seat| is_called(&waiters, seat));
        assert_eq!(called, [true, true, false, false]);
        assert!(is_empty(&waiters));
        waiters.call(1);
        let late = waiters.sit();
        assert!(!is_called(&waiters, late));
    }

    #[test]
    fn g06_thread_that_rises_leaves_the_call_to_another() {
        let waiters = Waiters::new();
        let [a, b, c] = [(); 3].map(|()| waiters.sit());
        waiters.call(1);
        waiters.rise(a);
        waiters.rise(b);
        assert!(is_called(&waiters, c));
        assert!(is_empty(&waiters));
    }

    #[test]
    fn g06_all_who_are_seated_are_called_and_nobody_later() {
        let waiters = Waiters::new();
        let [a, b, c] = [(); 3].map(|()| waiters.sit());
        waiters.call(1);
        waiters.call(2);
        let late = waiters.sit();
        assert!(is_called(&waiters, a));
        waiters.rise(b);
        assert!(!is_called(&waiters, late));
        assert!(is_called(&waiters, c));
        assert!(is_empty(&waiters));
    }

    #[test]
    fn g07_threads_are_called_before_tasks() {
        let flight = Arc::new(Flight::<u64>::new(FlightId(1), Stamp::NONE));
        let mut task = pin!(Waiter::new(Arc::clone(&flight)));
        task.as_mut().list(Waker::noop());
        let seat = flight.waiters.sit();
        flight.waiters.call(1);
        assert!(!task.as_mut().take_call());
        assert!(is_called(&flight.waiters, seat));
        flight.waiters.call(1);
        assert!(task.as_mut().take_call());
    }
}
