//! `Observer`: what a group tells of its flights, and how it is told.

mod answered;
mod stats;

pub use self::{
    answered::Answered,
    stats::{Stats, StatsSnapshot},
};

use std::{
    mem::replace,
    panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind, resume_unwind},
    // Not those of the models: whoever observes orders nothing.
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    CallError,
    flight::{FlightId, reentry},
    panics::contain,
};

/// Is told what becomes of the flights of a group:
/// [`GroupBuilder::observer`](crate::GroupBuilder::observer). Every method does nothing unless it is
/// written; a group without an observer pays one predicted branch for each poll and each landing.
///
/// Built in are [`Stats`] and, with the features of these names, `MetricsObserver` and
/// `TracingObserver`. A pair `(A, B)` tells both, and an [`Arc`] whatever is in it.
///
/// ```
/// use shardflight::{FlightId, Group, Observer};
/// use std::time::Duration;
///
/// struct Slow;
///
/// impl Observer for Slow {
///     fn landed(&self, flight: FlightId, followers: usize, age: Duration) {
///         if age > Duration::from_secs(1) {
///             eprintln!("flight {flight} took {age:?} for {followers} followers");
///         }
///     }
/// }
///
/// let reports: Group<String, u32> = Group::builder().observer(Slow).build();
/// assert_eq!(reports.run_blocking("eu-west", || 7), 7);
/// ```
///
/// # What adds up
///
/// A *lead* begins with [`led`](Self::led) or [`taken_over`](Self::taken_over) and ends with exactly one
/// of [`landed`](Self::landed), [`panicked`](Self::panicked) and [`cancelled`](Self::cancelled). A caller
/// that has [`joined`](Self::joined) ends with exactly one of [`answered`](Self::answered),
/// [`left`](Self::left) and [`taken_over`](Self::taken_over). So when no call is in progress
///
/// - `led + taken_over == landed + panicked + cancelled`
/// - `joined == answered + left + taken_over`
///
/// and before that the first difference is the number of flights that have a leader, and the second
/// that of callers that wait. The handle of a spawned call whose task leads is no caller beside it: it
/// counts among the `followers` of a landing, as in [`Role::Led`](crate::Role::Led), but has not joined.
///
/// Of a cache each look-up that comes to its end is exactly one of [`hit`](Self::hit),
/// [`stale_hit`](Self::stale_hit) and [`missed`](Self::missed). One of these that
/// [`joined`](Self::joined) a load has been spared its own; one that loses the race to refresh a value
/// is [`refused`](Self::refused) by the flight, and a `stale_hit`.
///
/// Of a layer each HTTP request that is answered is exactly one [`request`](Self::request), also one that met
/// no flight. A response that turns out to be for one request alone has been `answered` to its followers as far as
/// the flight is concerned; so how many executions a layer saves is the number of
/// [`Joined`](Answered::Joined) requests.
///
/// # Order
///
/// Each event is reported by the caller that it is about, on its thread and in its context, while no
/// lock is held. The leads of one flight come one after the other: `led`, then `cancelled` and
/// `taken_over` by turns, then `landed` or `panicked`, and only then what its followers were
/// `answered`. `joined`, `left` and `forgotten` come when their callers get there: a leader on
/// another thread may have landed meanwhile.
///
/// # What it may do
///
/// Be quick: callers wait for it, the leader before it shows its followers the value. It may use the
/// group, but not wait for the flight that it is told of, which would be
/// [`Reentrant`](crate::CallError::Reentrant).
///
/// If it panics, the panic hook reports that, and the call goes on as if it had not: nothing gets stuck,
/// no answer is lost, and the other observer of a pair is told all the same.
#[allow(unused_variables, reason = "what the defaults do with them is nothing")]
pub trait Observer: Send + Sync + 'static {
    /// A flight has begun, or waits for the one before it ([`fresh`](crate::Call::fresh)); this caller
    /// leads it.
    fn led(&self, flight: FlightId) {}

    /// This caller has come to a flight that there was already: to follow it or, if its leader was
    /// cancelled, to take over at once.
    fn joined(&self, flight: FlightId) {}

    /// This caller, which had joined, leads now. So does the last one to leave a flight with half-done
    /// work in it ([`relay`](crate::Call::relay)), which then is cancelled.
    fn taken_over(&self, flight: FlightId) {}

    /// The work returned; so many followers get the value. The age is that of the flight, whoever led it
    /// before.
    fn landed(&self, flight: FlightId, followers: usize, age: Duration) {}

    /// The work panicked; so many followers learn of it.
    fn panicked(&self, flight: FlightId, followers: usize, age: Duration) {}

    /// The leader was dropped, and is about to give the lead up. It is the end of the flight unless
    /// somebody takes over.
    fn cancelled(&self, flight: FlightId) {}

    /// This follower got what the flight came to, a value or a panic, so long after it joined.
    fn answered(&self, flight: FlightId, waited: Duration) {}

    /// This follower goes without: it was dropped, ran out of time, or was told that the leader was
    /// cancelled.
    fn left(&self, flight: FlightId, waited: Duration) {}

    /// The flight was cut loose, by [`forget`](crate::Group::forget),
    /// [`forget_unshared`](crate::Group::forget_unshared), [`max_age`](crate::Call::max_age), or
    /// because it was being aborted. It goes on without its key, and ends as others do.
    fn forgotten(&self, flight: FlightId) {}

    /// A call was refused when it came: [`Reentrant`](crate::CallError::Reentrant) or
    /// [`TooManyFollowers`](crate::CallError::TooManyFollowers).
    fn refused(&self, why: &CallError) {}

    /// A look-up in a cache (the module `cache`, feature `moka`) found what it wanted: a value, or an error
    /// that is kept.
    fn hit(&self) {}

    /// A look-up found an old value, and got it: another is refreshing it, or that has just failed.
    fn stale_hit(&self) {}

    /// A look-up found nothing. Or it found an old value, has refreshed that, and waited for it.
    fn missed(&self) {}

    /// A load has begun for a key that has a value.
    fn refreshing(&self) {}

    /// A load returned a value.
    fn loaded(&self, took: Duration) {}

    /// A load returned an error.
    fn load_failed(&self, took: Duration) {}

    /// An HTTP request was answered by a layer (the module `tower`), in this way. `retries` of the flights that it
    /// waited for failed before. A request whose client went before that, or whose execution panicked, is not
    /// reported.
    fn request(&self, answered: Answered<'_>, retries: u32) {}

    /// Runs a part of a leader's work, which is one poll of it or its call, and which is what `part`
    /// does. To be overridden for what the work is to run inside of, like a span.
    ///
    /// The work of [`run_many`](crate::Group::run_many) belongs to several flights; otherwise there is
    /// one. If `part` is not called, it is run afterwards; from the second time on it does nothing. What
    /// cancelled work does while it is dropped is not among its parts.
    fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
        part();
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*);)+) => {
        /// The one that is in it, which can be kept and asked, too.
        impl<O: Observer + ?Sized> Observer for Arc<O> {
            $(fn $name(&self, $($arg: $type),*) {
                (**self).$name($($arg),*);
            })+

            fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
                (**self).around(flights, part);
            }
        }

        /// Both, the first before the second, and its `around` outside. If one of them panics, the other is
        /// told all the same.
        impl<A: Observer, B: Observer> Observer for (A, B) {
            $(fn $name(&self, $($arg: $type),*) {
                contain(|| self.0.$name($($arg),*));
                self.1.$name($($arg),*);
            })+

            fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
                let mut is_called = false;
                let mut inner = || {
                    // A panic of the second must not unwind through the first.
                    if !replace(&mut is_called, true) {
                        contain(|| self.1.around(flights, part));
                    }
                };
                contain(|| self.0.around(flights, &mut inner));
                inner();
            }
        }
    };
}

forward! {
    led(flight: FlightId);
    joined(flight: FlightId);
    taken_over(flight: FlightId);
    landed(flight: FlightId, followers: usize, age: Duration);
    panicked(flight: FlightId, followers: usize, age: Duration);
    cancelled(flight: FlightId);
    answered(flight: FlightId, waited: Duration);
    left(flight: FlightId, waited: Duration);
    forgotten(flight: FlightId);
    refused(why: &CallError);
    hit();
    stale_hit();
    missed();
    refreshing();
    loaded(took: Duration);
    load_failed(took: Duration);
    request(answered: Answered<'_>, retries: u32);
}

/// The observer of a group.
#[derive(Clone)]
pub(crate) struct Watch(Arc<dyn Observer>);

/// What an observer's own panic does to it is for the observer to see to.
impl UnwindSafe for Watch {}
impl RefUnwindSafe for Watch {}

impl Watch {
    pub(crate) fn new(observer: impl Observer) -> Self {
        Self(Arc::new(observer))
    }
}

/// Tells of a flight. What the observer calls meanwhile is told if it would wait for that flight, which
/// its caller holds up.
#[cold]
#[inline(never)]
pub(crate) fn tell(watch: &Watch, flight: FlightId, event: impl FnOnce(&dyn Observer)) {
    contain(|| reentry::within(flight, || event(&*watch.0)));
}

/// Tells of what concerns no flight.
#[cold]
#[inline(never)]
pub(crate) fn tell_of_no_flight(watch: &Watch, event: impl FnOnce(&dyn Observer)) {
    contain(|| event(&*watch.0));
}

/// Runs a part of the work of these flights inside of what the observer puts around it.
#[cold]
#[inline(never)]
pub(crate) fn around<T>(watch: &Watch, flights: &[FlightId], part: impl FnOnce() -> T) -> T {
    let (mut part, mut returned) = (Some(part), None);
    let mut run = || {
        if let Some(part) = part.take() {
            returned = Some(catch_unwind(AssertUnwindSafe(part)));
        }
    };
    contain(|| watch.0.around(flights, &mut run));
    run();
    match returned.expect("run by now") {
        Ok(returned) => returned,
        Err(payload) => resume_unwind(payload),
    }
}

/// What a handle, which knows no table, has to tell.
pub(crate) struct Watched {
    watch: Watch,
    since: Instant,
    answered: AtomicBool,
}

impl Watched {
    pub(crate) fn new(watch: &Watch) -> Self {
        let (since, answered) = (Instant::now(), AtomicBool::new(false));
        Self { watch: watch.clone(), since, answered }
    }

    /// Clones of a handle may get the answer several times.
    pub(crate) fn answered(&self, flight: FlightId) {
        // Relaxed: one of them is the first.
        if !self.answered.swap(true, Ordering::Relaxed) {
            tell(&self.watch, flight, |observer| observer.answered(flight, self.since.elapsed()));
        }
    }

    /// At the end.
    pub(crate) fn gone(&mut self, flight: FlightId) {
        if !*self.answered.get_mut() {
            tell(&self.watch, flight, |observer| observer.left(flight, self.since.elapsed()));
        }
    }
}
