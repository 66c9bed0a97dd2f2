//! Calls that register at once and outlive their caller: the task to be spawned, for any executor.

use std::{
    convert::identity,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

use crate::{
    error::CallError,
    flight::{
        Alarm, Answer, Ask, Enter, Entry, Flight, FlightId, Fly, Follower, Handle, Job, Lapsed,
        Lead, Limit, Patience, Permit, Work, state::Who,
    },
    sync::Arc,
    table::{Entered, KeyHash, Reach, Wanted},
};

/// How a call with a handle ends before its flight does.
pub(crate) struct Terms {
    pub(crate) aborts_when_abandoned: bool,
    pub(crate) limit: Option<Limit>,
}

#[cfg(feature = "tokio")]
impl Terms {
    pub(crate) const NONE: Self = Self { aborts_when_abandoned: false, limit: None };
}

/// A call that has entered already.
struct Aboard {
    /// Boxed because few have one.
    limit: Option<Box<Limit>>,
}

impl<R: Reach> Enter<R> for Aboard {
    const NESTS: bool = true;

    fn begin(&self, _: Pin<&mut Lead<R>>) -> Option<FlightId> {
        unreachable!("it is aboard from the beginning")
    }

    fn meet(&self, _: Pin<&mut Lead<R>>) -> Entry<R> {
        unreachable!("it is aboard from the beginning")
    }

    fn patience(&mut self) -> Option<&mut Patience> {
        self.limit.as_mut().map(|limit| &mut limit.patience)
    }

    fn lapse(&self, flight: &Flight<R::V>, why: Lapsed) {
        if let Some(limit) = &self.limit {
            limit.lapse.set(flight, why);
        }
    }
}

/// Enters the flight of a call that is going to have a handle.
pub(crate) fn enter<R: Reach>(
    owned: &R,
    hash: KeyHash,
    key: impl Wanted<R::K>,
    ask: Ask,
) -> Entered<R::V> {
    let ask = Ask { nests: true, is_watched: true, ..ask };
    owned.table().open(hash, key, &ask, true)
}

/// The task of a call that has entered, and its handle: it leads the flight, or is there to take over;
/// or it has nothing to do, for a follower that would not.
pub(crate) fn board<R, F>(
    owned: R,
    hash: KeyHash,
    entered: Entered<R::V>,
    terms: Terms,
    work: F,
) -> Result<(impl Future<Output = ()> + use<R, F>, Handle<R::V>), CallError>
where
    R: Reach,
    R::V: Clone,
    F: Future<Output = R::V>,
{
    let Terms { aborts_when_abandoned, limit } = terms;
    let alarm = aborts_when_abandoned.then(|| Arc::new(Alarm::new()));
    let lapse = limit.as_ref().map(|limit| Arc::clone(&limit.lapse));
    let aboard = Aboard { limit: limit.map(Box::new) };
    let work = Work::new(work);
    let permit = match entered {
        Entered::TakeOver(flight) => Permit::taken_over(owned, hash, flight),
        Entered::Pending(flight) => Permit::new(owned, hash, flight.id(), Some(flight)),
        // One that would not take over is there to tell the time.
        Entered::Follow(flight, ticket) if ticket.who() == Who::Able || lapse.is_some() => {
            let handle = Handle::of_follower(Arc::clone(&flight), ticket, alarm.clone(), lapse);
            let follower = Follower::new(owned, hash, flight, ticket);
            let fly = Some(Fly::following(follower, aboard, work, identity));
            return Ok((Task { alarm, led: None, fly }, handle));
        }
        Entered::Follow(flight, ticket) => {
            let handle = Handle::new(flight, ticket, owned.table().watched());
            // Here, and not when this returns: a handle that is being returned leaks if a destructor panics,
            // and would follow the flight for ever.
            drop((work, owned));
            return Ok((Task { alarm: None, led: None, fly: None }, handle));
        }
        Entered::Full => return Err(CallError::TooManyFollowers),
        Entered::Lead(_) | Entered::Reentrant | Entered::Gone(_) => {
            unreachable!("nothing of this was asked for")
        }
    };
    let flight = Arc::clone(permit.flight().expect("it is shared from the beginning"));
    let handle = Handle::of_leader(Arc::clone(&flight), alarm.clone(), lapse);
    let fly = Some(Fly::leading(permit, aboard, work, identity));
    Ok((Task { alarm, led: Some(flight), fly }, handle))
}

pin_project! {
    struct Task<V, F> {
        alarm: Option<Arc<Alarm>>,
        // The flight that it leads, once it does.
        led: Option<Arc<Flight<V>>>,
        #[pin]
        fly: Option<F>,
    }
}

impl<R, J, T> Task<R::V, Fly<R, Aboard, J, T>>
where
    R: Reach,
    J: Job<R::V>,
    Fly<R, Aboard, J, T>: Future<Output = Answer<R::V>>,
{
    /// A follower just leaves; a leader makes sure, in one step, that nobody comes any more who could
    /// not do without its work.
    fn drops_what_nobody_wants(self: Pin<&mut Self>, alarm: &Alarm) -> bool {
        let mut this = self.project();
        let is_unwanted =
            alarm.is_released() && this.led.as_ref().is_none_or(|led| led.begin_to_die());
        if is_unwanted {
            this.fly.set(None);
        }
        is_unwanted
    }

    fn fly(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // None of one that only wanted to be told.
        let Some(fly) = this.fly.as_pin_mut() else { return Poll::Ready(()) };
        fly.poll(cx).map(drop)
    }
}

impl<R, J, T> Future for Task<R::V, Fly<R, Aboard, J, T>>
where
    R: Reach,
    J: Job<R::V>,
    Fly<R, Aboard, J, T>: Future<Output = Answer<R::V>>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(alarm) = self.alarm.clone() else { return self.fly(cx) };
        alarm.register(cx.waker());
        if self.as_mut().drops_what_nobody_wants(&alarm) || self.as_mut().fly(cx).is_ready() {
            return Poll::Ready(());
        }
        let this = self.as_mut().project();
        if this.led.is_none()
            && let Some(led) = this.fly.as_ref().as_pin_ref().and_then(|fly| fly.led())
        {
            // Followers may have gone unheard before; whoever drops the last handle rings in any case.
            led.set_alarm(&alarm);
            *this.led = Some(Arc::clone(led));
        }
        Poll::Pending
    }
}
