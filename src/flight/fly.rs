//! A call from its start to its answer: as a future, and for threads.
//!
//! The future is written by hand because an `async fn` would keep the caller's work two or three
//! times over, and because the order in which its parts are dropped is part of the protocol.

use std::{
    borrow::Borrow,
    future::{Future, poll_fn},
    hash::{BuildHasher, Hash},
    panic::resume_unwind,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Instant,
};

use pin_project_lite::pin_project;

use super::{
    Ask, Asks, Entry, Flight, FlightId, Follower, Lead, Pending, Permit, Waited,
    work::{self, Job},
};
use crate::{
    error::CallError,
    group::Core,
    outcome::{Outcome, Role},
    sync::{Arc, block_on},
    table::{Reach, Table},
};

/// What every call comes to.
pub(crate) type Answer<V> = Result<Outcome<V>, CallError>;

/// How a call comes to a flight.
pub(crate) trait Enter<R: Reach> {
    /// Without a lock, if it can.
    fn begin(&self, lead: Pin<&mut Lead<R>>) -> Option<FlightId>;

    /// With one.
    fn meet(&self, lead: Pin<&mut Lead<R>>) -> Entry<R>;
}

/// At its first poll, with a key.
pub(crate) struct Caller<'a, 'k, K, V, S, Q: ?Sized, A> {
    pub(crate) core: &'a Core<K, V, S>,
    pub(crate) key: &'k Q,
    pub(crate) asks: A,
}

impl<'a, K, V, S, Q, A> Enter<&'a Table<K, V>> for Caller<'a, '_, K, V, S, Q, A>
where
    K: Eq + Hash + Borrow<Q>,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    A: Asks,
{
    #[inline(always)]
    fn begin(&self, lead: Pin<&mut Lead<&'a Table<K, V>>>) -> Option<FlightId> {
        let (table, hash) = self.core.locate(self.key);
        lead.begin(&table, hash, self.key, self.asks.ask())
    }

    #[inline(always)]
    fn meet(&self, lead: Pin<&mut Lead<&'a Table<K, V>>>) -> Entry<&'a Table<K, V>> {
        lead.meet(self.core.table(), self.key, self.asks.ask())
    }
}

pin_project! {
    /// `E` brings the call to a flight. `finish` turns the full answer into what the caller asked for.
    pub(crate) struct Fly<R, E, J, T>
    where
        R: Reach,
        J: Job<R::V>,
    {
        enter: E,
        done: bool,
        finish: T,
        // Before `stage`: cancelled work is dropped before the lead is passed on (G1). Fields are
        // dropped in their order here, also when one of them panics.
        #[pin]
        work: J,
        #[pin]
        stage: Stage<Lead<R>, Follower<R>, Pending<R>>,
    }

    impl<R, E, J, T> PinnedDrop for Fly<R, E, J, T>
    where
        R: Reach,
        J: Job<R::V>,
    {
        /// A follower leaves before its work, which never ran, is dropped: while that takes its time
        /// or calls the group, nobody must wait for this one to take over (G6).
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if *this.done {
                return;
            }
            let mut stage = this.stage;
            match stage.as_mut().project() {
                StageProj::Following { .. } | StageProj::Pending { .. } => {
                    stage.set(Stage::Leading { lead: Lead::none() });
                }
                StageProj::Leading { lead } => lead.cancel(this.work),
            }
        }
    }
}

pin_project! {
    #[project = StageProj]
    enum Stage<L, F, P> {
        // Or about to enter, if it is the lead of nothing.
        Leading { #[pin] lead: L },
        Following { #[pin] follower: F },
        Pending { #[pin] pending: P },
    }
}

impl<R, E, J, T> Fly<R, E, J, T>
where
    R: Reach,
    J: Job<R::V>,
{
    pub(crate) fn new(enter: E, work: J, finish: T) -> Self {
        Self { enter, done: false, finish, work, stage: Stage::Leading { lead: Lead::none() } }
    }

    /// Of a call that has entered and follows.
    pub(crate) fn following(follower: Follower<R>, enter: E, work: J, finish: T) -> Self {
        Self { enter, done: false, finish, work, stage: Stage::Following { follower } }
    }

    /// Of a call that has entered and leads.
    pub(crate) fn leading(permit: Permit<R>, enter: E, work: J, finish: T) -> Self {
        let stage = Stage::Pending { pending: Pending::new(permit) };
        Self { enter, done: false, finish, work, stage }
    }

    /// The flight that it leads, begun or pending, if others know of it.
    pub(crate) fn led(self: Pin<&Self>) -> Option<&Arc<Flight<R::V>>> {
        match self.get_ref().stage {
            Stage::Leading { ref lead } => lead.flight(),
            Stage::Pending { ref pending } => pending.flight(),
            Stage::Following { .. } => None,
        }
    }
}

#[cfg(feature = "tower")]
impl<R, E, J, T> Fly<R, E, J, T>
where
    R: Reach,
    J: Job<R::V>,
{
    pub(crate) fn enter(&self) -> &E {
        &self.enter
    }

    pub(crate) fn work(self: Pin<&mut Self>) -> Pin<&mut J> {
        self.project().work
    }

    /// The flight that it waits for, led by another.
    pub(crate) fn followed(&self) -> Option<FlightId> {
        match &self.stage {
            Stage::Following { follower } => Some(follower.id()),
            Stage::Leading { .. } | Stage::Pending { .. } => None,
        }
    }
}

impl<R, E, J, T> Fly<R, E, J, T>
where
    R: Reach,
    R::V: Clone,
    E: Enter<R>,
    J: Job<R::V>,
{
    /// For a call that did not find its key free, until its work waits.
    #[inline(never)]
    fn go_on<A>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A>
    where
        T: Fn(Answer<R::V>) -> A,
    {
        let mut this = self.project();
        let answer = loop {
            match this.stage.as_mut().project() {
                StageProj::Following { follower } => match ready!(follower.poll(cx)) {
                    Waited::Landed(Ok(value)) => {
                        break Ok(Outcome { value, role: Role::Joined });
                    }
                    Waited::Landed(Err(panicked)) => break Err(CallError::Panicked(panicked)),
                    Waited::Lead(permit) => {
                        this.stage.set(Stage::Pending { pending: Pending::new(permit) });
                    }
                    Waited::Cancelled => break Err(CallError::Cancelled),
                    Waited::TimedOut => break Err(CallError::TimedOut),
                },
                StageProj::Leading { mut lead } if lead.is_led() => {
                    let returned = ready!(lead.as_mut().poll(this.work.as_mut(), cx));
                    *this.done = true;
                    break finish_leading(lead, returned);
                }
                StageProj::Leading { mut lead } => match this.enter.meet(lead.as_mut()) {
                    Entry::Follow(follower) => this.stage.set(Stage::Following { follower }),
                    Entry::Began => lead.start(this.work.as_mut()),
                    Entry::Lead(permit) => {
                        this.stage.set(Stage::Pending { pending: Pending::new(permit) });
                    }
                    Entry::Reentrant => break Err(CallError::Reentrant),
                    Entry::Full => break Err(CallError::TooManyFollowers),
                },
                StageProj::Pending { pending } => {
                    let lead = Lead::taken_over(ready!(pending.poll(cx)));
                    this.stage.set(Stage::Leading { lead });
                    let StageProj::Leading { lead } = this.stage.as_mut().project() else {
                        unreachable!("just set")
                    };
                    lead.start(this.work.as_mut());
                }
            }
        };
        *this.done = true;
        Poll::Ready((this.finish)(answer))
    }
}

impl<R, E, J, T, A> Future for Fly<R, E, J, T>
where
    R: Reach,
    R::V: Clone,
    E: Enter<R>,
    J: Job<R::V>,
    T: Fn(Answer<R::V>) -> A,
{
    type Output = A;

    /// For a call that finds its key free this is all.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A> {
        let this = self.as_mut().project();
        assert!(!*this.done, "the future of a call was polled after it returned");
        let (lead, polled) = match this.stage.project() {
            StageProj::Leading { mut lead } if lead.is_led() => {
                lead.expect_end();
                let polled = lead.as_mut().poll(this.work, cx);
                (lead, polled)
            }
            StageProj::Leading { mut lead } => match this.enter.begin(lead.as_mut()) {
                Some(id) => {
                    let polled = lead.as_mut().poll_first(id, this.work, cx);
                    (lead, polled)
                }
                None => return self.go_on(cx),
            },
            StageProj::Following { .. } | StageProj::Pending { .. } => return self.go_on(cx),
        };
        let returned = ready!(polled);
        *this.done = true;
        Poll::Ready((this.finish)(finish_leading(lead, returned)))
    }
}

/// The same for threads.
#[inline]
pub(crate) fn fly_blocking<K, V, S, Q>(
    core: &Core<K, V, S>,
    key: &Q,
    asks: impl Asks,
    work: impl FnOnce() -> V,
) -> Answer<V>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    S: BuildHasher,
    Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
{
    let (table, hash) = core.locate(key);
    let mut lead = pin!(Lead::none());
    let returned = match lead.as_mut().begin(&table, hash, key, asks.ask()) {
        Some(id) => work::call(id, work),
        None => match meet_blocking(lead.as_mut(), table, key, asks.ask()) {
            Ok(None) if lead.has_relay() => block_on(poll_fn(|cx| lead.as_mut().poll_relay(cx))),
            Ok(None) => lead.around(|| work::call(lead.id(), work)),
            Ok(Some(value)) => return Ok(Outcome { value, role: Role::Joined }),
            Err(error) => return Err(error),
        },
    };
    finish_leading(lead, returned)
}

/// Waits for whoever is there. `None` if the caller leads.
#[cold]
#[inline(never)]
fn meet_blocking<'a, K, V, Q>(
    mut lead: Pin<&mut Lead<&'a Table<K, V>>>,
    table: &'a Table<K, V>,
    key: &Q,
    ask: &Ask,
) -> Result<Option<V>, CallError>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    Q: ?Sized + Eq + ToOwned<Owned = K>,
{
    let deadline = deadline(ask);
    let permit = match lead.as_mut().meet(table, key, ask) {
        Entry::Began => return Ok(None),
        Entry::Lead(permit) => permit,
        Entry::Follow(follower) => match pin!(follower).wait_blocking(deadline) {
            Waited::Lead(permit) => permit,
            Waited::Landed(Ok(value)) => return Ok(Some(value)),
            Waited::Landed(Err(panicked)) => return Err(CallError::Panicked(panicked)),
            Waited::Cancelled => return Err(CallError::Cancelled),
            Waited::TimedOut => return Err(CallError::TimedOut),
        },
        Entry::Reentrant => return Err(CallError::Reentrant),
        Entry::Full => return Err(CallError::TooManyFollowers),
    };
    let permit = Pending::new(permit).wait_blocking(deadline).ok_or(CallError::TimedOut)?;
    lead.set(Lead::taken_over(permit));
    Ok(None)
}

/// `None` is never.
fn deadline(ask: &Ask) -> Option<Instant> {
    let timeout = ask.timeout?;
    Instant::now().checked_add(timeout)
}

#[inline(always)]
fn finish_leading<R: Reach>(
    lead: Pin<&mut Lead<R>>,
    returned: Result<R::V, work::Payload>,
) -> Answer<R::V>
where
    R::V: Clone,
{
    match returned {
        Ok(value) => {
            let (value, followers) = lead.land(value);
            Ok(Outcome { value, role: Role::Led { followers } })
        }
        Err(payload) => {
            lead.panicked(&*payload);
            resume_unwind(payload)
        }
    }
}
