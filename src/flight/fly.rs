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
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use super::{
    Ask, Asks, Enter, Entry, Flight, Follower, Lapsed, Lead, Patience, Pending, Permit, Waited,
    reentry,
    work::{self, Job},
};
use crate::{
    error::CallError,
    group::Core,
    outcome::{Outcome, Role},
    panics::contain,
    sync::{Arc, block_on},
    table::{Reach, Table},
};

/// What every call comes to.
pub(crate) type Answer<V> = Result<Outcome<V>, CallError>;

pin_project! {
    /// `E` brings the call to a flight. `finish` turns the full answer into what the caller asked for.
    pub(crate) struct Fly<R, E, J, T>
    where
        R: Reach,
        E: Enter<R>,
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
        E: Enter<R>,
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
            if E::NESTS
                && let Some(flight) = stage.flight()
            {
                this.enter.lapse(flight, Lapsed::Dropped);
            }
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
    E: Enter<R>,
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
            Stage::Following { .. } => None,
            ref stage => stage.flight(),
        }
    }
}

impl<R: Reach> Stage<Lead<R>, Follower<R>, Pending<R>> {
    /// The flight that it takes part in, if others know of that.
    fn flight(&self) -> Option<&Arc<Flight<R::V>>> {
        match self {
            Self::Leading { lead } => lead.flight(),
            Self::Pending { pending } => pending.flight(),
            Self::Following { follower } => follower.place(),
        }
    }

    /// Whether the work that runs on this stack has to end before its wait can (G13). Who leads waits for
    /// nothing but the work.
    #[inline(always)]
    fn would_wait_for_this_stack(&self) -> bool {
        !reentry::is_idle()
            && match self {
                Self::Leading { .. } => false,
                Self::Following { follower } => follower.would_wait_for_this_stack(),
                Self::Pending { pending } => pending.would_wait_for_this_stack(),
            }
    }
}

#[cfg(feature = "tower")]
impl<R, E, J, T> Fly<R, E, J, T>
where
    R: Reach,
    E: Enter<R>,
    J: Job<R::V>,
{
    pub(crate) fn enter(&self) -> &E {
        &self.enter
    }

    pub(crate) fn work(self: Pin<&mut Self>) -> Pin<&mut J> {
        self.project().work
    }

    /// The flight that it waits for, led by another.
    pub(crate) fn followed(&self) -> Option<super::FlightId> {
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
    /// For a call that did not find its key free, until it waits or has an answer.
    #[inline(never)]
    fn go_on<A>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A>
    where
        T: Fn(Answer<R::V>) -> A,
    {
        let mut this = self.project();
        let answer = loop {
            match this.stage.as_mut().project() {
                StageProj::Following { follower } => match follower.poll(cx) {
                    Poll::Pending => {}
                    Poll::Ready(Waited::Landed(Ok(value))) => {
                        break Ok(Outcome { value, role: Role::Joined });
                    }
                    Poll::Ready(Waited::Landed(Err(panicked))) => {
                        break Err(CallError::Panicked(panicked));
                    }
                    Poll::Ready(Waited::Lead(permit)) => {
                        this.stage.set(Stage::Pending { pending: Pending::new(permit) });
                        continue;
                    }
                    Poll::Ready(Waited::Cancelled) => break Err(CallError::Cancelled),
                    Poll::Ready(Waited::TimedOut) => break Err(CallError::TimedOut),
                },
                StageProj::Leading { mut lead } if lead.is_led() => {
                    if let Poll::Ready(returned) = lead.as_mut().poll(this.work.as_mut(), cx) {
                        *this.done = true;
                        break finish_leading(lead, returned, this.enter.patience());
                    }
                }
                StageProj::Leading { mut lead } => {
                    match this.enter.meet(lead.as_mut()) {
                        Entry::Follow(follower) => this.stage.set(Stage::Following { follower }),
                        Entry::Began => begin_work(this.enter, lead, this.work.as_mut()),
                        Entry::Lead(permit) => {
                            this.stage.set(Stage::Pending { pending: Pending::new(permit) });
                        }
                        Entry::Reentrant => break Err(CallError::Reentrant),
                        Entry::Full => break Err(CallError::TooManyFollowers),
                    }
                    continue;
                }
                StageProj::Pending { pending } => match pending.poll(cx) {
                    Poll::Pending => {}
                    Poll::Ready(permit) => {
                        this.stage.set(Stage::Leading { lead: Lead::taken_over(permit) });
                        let StageProj::Leading { lead } = this.stage.as_mut().project() else {
                            unreachable!("just set")
                        };
                        begin_work(this.enter, lead, this.work.as_mut());
                        continue;
                    }
                },
            }
            let why = if !E::NESTS && this.stage.would_wait_for_this_stack() {
                CallError::Reentrant
            } else if this.enter.patience().is_some_and(|patience| patience.is_over(cx)) {
                CallError::TimedOut
            } else {
                return Poll::Pending;
            };
            *this.done = true;
            break give_up(this.enter, this.stage, why);
        };
        *this.done = true;
        stop_time(this.enter);
        this.work.dismiss();
        Poll::Ready((this.finish)(answer))
    }

    /// For a leader that goes on with work of the flight's own. If that is another's, the time is limited.
    #[cold]
    #[inline(never)]
    fn go_on_with_relay<A>(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A>
    where
        T: Fn(Answer<R::V>) -> A,
    {
        let mut this = self.project();
        let StageProj::Leading { mut lead } = this.stage.as_mut().project() else {
            unreachable!("it leads")
        };
        let answer = match lead.as_mut().poll_relay(cx) {
            Poll::Ready(returned) => {
                *this.done = true;
                finish_leading(lead, returned, this.enter.patience())
            }
            Poll::Pending => {
                let patience = this.enter.patience().filter(|patience| patience.is_running());
                if !patience.is_some_and(|patience| patience.is_over(cx)) {
                    return Poll::Pending;
                }
                *this.done = true;
                give_up(this.enter, this.stage, CallError::TimedOut)
            }
        };
        stop_time(this.enter);
        this.work.dismiss();
        Poll::Ready((this.finish)(answer))
    }
}

/// Begins the call's own work, unless it took some over that goes on. That is another's, and the call
/// still waits.
fn begin_work<R: Reach, J: Job<R::V>>(
    enter: &mut impl Enter<R>,
    mut lead: Pin<&mut Lead<R>>,
    work: Pin<&mut J>,
) {
    if lead.has_relay() {
        return;
    }
    stop_time(enter);
    lead.as_mut().start(work);
}

/// The call waits for nobody any more.
#[inline(always)]
fn stop_time<R: Reach>(enter: &mut impl Enter<R>) {
    if let Some(patience) = enter.patience() {
        patience.stop();
    }
}

/// Leaves the flight; or gives its lead up, and passes on the work that is in it (step 8).
#[cold]
fn give_up<R: Reach>(
    enter: &impl Enter<R>,
    mut stage: Pin<&mut Stage<Lead<R>, Follower<R>, Pending<R>>>,
    why: CallError,
) -> Answer<R::V> {
    if why == CallError::TimedOut
        && let Some(flight) = stage.flight()
    {
        enter.lapse(flight, Lapsed::TimedOut);
    }
    stage.set(Stage::Leading { lead: Lead::none() });
    Err(why)
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
                if lead.has_relay() {
                    return self.go_on_with_relay(cx);
                }
                lead.expect_end();
                let polled = lead.as_mut().poll_own(this.work, cx);
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
        // No time is running: the work is the call's own.
        Poll::Ready((this.finish)(finish_leading(lead, returned, None)))
    }
}

/// The same for threads.
#[inline]
pub(crate) fn fly_blocking<K, V, S, Q>(
    core: &Core<K, V, S>,
    key: &Q,
    asks: impl Asks,
    timeout: Option<Duration>,
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
    match lead.as_mut().begin(&table, hash, key, asks.ask()) {
        Some(id) => finish_leading(lead, work::call(id, work), None),
        None => go_on_blocking(lead, table, key, asks.ask(), timeout, work),
    }
}

/// For a call that did not find its key free.
#[cold]
#[inline(never)]
fn go_on_blocking<'a, K, V, Q>(
    mut lead: Pin<&mut Lead<&'a Table<K, V>>>,
    table: &'a Table<K, V>,
    key: &Q,
    ask: &Ask,
    timeout: Option<Duration>,
    work: impl FnOnce() -> V,
) -> Answer<V>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    Q: ?Sized + Eq + ToOwned<Owned = K>,
{
    let answer = match meet_blocking(lead.as_mut(), table, key, ask, timeout) {
        Ok(Met::Own) => {
            let returned = lead.around(|| work::call(lead.id(), work));
            return finish_leading(lead, returned, None);
        }
        Ok(Met::Returned(returned)) => finish_leading(lead.as_mut(), returned, None),
        Ok(Met::Landed(value)) => Ok(Outcome { value, role: Role::Joined }),
        Err(error) => Err(error),
    };
    // Before the answer is returned (see `panics`): the work, and a key that the table had no use for.
    drop(work);
    lead.set(Lead::none());
    answer
}

/// What a thread came to that did not find its key free.
enum Met<V> {
    /// It leads, and its own work is to run.
    Own,
    /// It leads, and the work that it took over has returned.
    Returned(Result<V, work::Payload>),
    Landed(V),
}

/// Waits for the work of others.
#[cold]
#[inline(never)]
fn meet_blocking<'a, K, V, Q>(
    mut lead: Pin<&mut Lead<&'a Table<K, V>>>,
    table: &'a Table<K, V>,
    key: &Q,
    ask: &Ask,
    timeout: Option<Duration>,
) -> Result<Met<V>, CallError>
where
    K: Eq + Hash + Borrow<Q>,
    V: Clone,
    Q: ?Sized + Eq + ToOwned<Owned = K>,
{
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let permit = match lead.as_mut().meet(table, key, ask) {
        Entry::Began => return Ok(Met::Own),
        Entry::Lead(permit) => permit,
        Entry::Follow(follower) => match pin!(follower).wait_blocking(deadline) {
            Waited::Lead(permit) => permit,
            Waited::Landed(Ok(value)) => return Ok(Met::Landed(value)),
            Waited::Landed(Err(panicked)) => return Err(CallError::Panicked(panicked)),
            Waited::Cancelled => return Err(CallError::Cancelled),
            Waited::TimedOut => return Err(CallError::TimedOut),
        },
        Entry::Reentrant => return Err(CallError::Reentrant),
        Entry::Full => return Err(CallError::TooManyFollowers),
    };
    let permit = Pending::new(permit).wait_blocking(deadline).ok_or(CallError::TimedOut)?;
    lead.set(Lead::taken_over(permit));
    if !lead.has_relay() {
        return Ok(Met::Own);
    }
    match block_on(poll_fn(|cx| lead.as_mut().poll_relay(cx)), deadline) {
        Some(returned) => Ok(Met::Returned(returned)),
        None => {
            // Passes the work on (step 8).
            lead.set(Lead::none());
            Err(CallError::TimedOut)
        }
    }
}

/// `patience` is that of a call that may still have some; a panic is the last that its future comes to.
#[inline(always)]
fn finish_leading<R: Reach>(
    lead: Pin<&mut Lead<R>>,
    returned: Result<R::V, work::Payload>,
    patience: Option<&mut Patience>,
) -> Answer<R::V>
where
    R::V: Clone,
{
    match returned {
        Ok(value) => {
            let (value, followers) = lead.land(value);
            Ok(Outcome { value, role: Role::Led { followers } })
        }
        Err(payload) => finish_panicking(lead, payload, patience),
    }
}

#[cold]
#[inline(never)]
fn finish_panicking<R: Reach>(
    lead: Pin<&mut Lead<R>>,
    payload: work::Payload,
    patience: Option<&mut Patience>,
) -> ! {
    lead.panicked(&*payload);
    if let Some(patience) = patience {
        contain(|| patience.stop());
    }
    resume_unwind(payload)
}
