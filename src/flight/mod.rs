//! One flight: an execution of a key's work and everybody who waits for it. The protocol is told
//! here, once; the files beside it and the table cite it.
//!
//! # Who holds what
//!
//! A flight begins *solo*: a key and an id that the table can find, in a cell or in a slot of its map
//! (see [`table`](crate::table)), and a [`Lead`] in the leader's future or stack frame, or, in the map,
//! a [`Permit`] that may move. The first follower makes it a slot of the map with an `Arc<Flight>`; the
//! leader does not notice. Everybody who waits holds that `Arc`, and the leader finds it when it comes
//! back to the slot, under the slot's lock. Below, *slot* means either place.
//!
//! ```text
//!             enter                enter
//!   (no slot) ─────▶ solo, led ──────────────▶ shared, led ◀─────────────┐
//!                        │                      │   │   │                │ visit (a follower)
//!                        │ land, abandon   land │   │   │ abandon        │ enter (a newcomer)
//!                        ▼                      │   │   ▼                │
//!                    (no slot) ◀────────────────┘   │ shared, leaderless ┘
//!                        ▲                          │   │
//!                        └──────────────────────────┴───┘
//!                     abandon, or the last leave, when nobody inside is able to lead
//! ```
//!
//! `forget` takes the slot away at any of these points; what is shared then goes on without one.
//!
//! # Steps
//!
//! *Locked* steps run under the lock of the key's shard, which no user code ever runs under but `Eq`
//! and `ToOwned` of the key. The others are read-modify-writes of the flight's state word
//! ([`state`]). To begin a flight in an empty cell, and to end one there that nobody has looked at,
//! takes no lock but one compare-exchange, which no locked step can come between.
//!
//! 1. **enter** (locked): no slot: insert a solo one and lead. Solo slot: make it shared and follow.
//!    Shared and led: count up and follow. Shared and leaderless: take the lead at once.
//! 2. **land** (locked, then not): remove the slot *by id*, and in the same step read the number of
//!    followers. Nobody can join from here on, so the number is final. If it is 0, and nobody waits
//!    who is not counted, the value is the leader's and nothing else happens. Otherwise publish the
//!    outcome, and only then call all. Each takes a clone of the value; the last, once nobody else
//!    holds the flight, the value itself.
//! 3. **abandon** (locked): the leader's future was dropped, its work already is. If nobody inside
//!    is able to lead, remove the slot in the same step. Otherwise set `LEADERLESS`, keep the slot,
//!    and call successors after unlocking.
//! 4. **visit**: a follower takes a place among those who wait ([`waiters`]) *first*, a task in their
//!    list, a thread on a seat, and then asks: landed? my turn? Clearing `LEADERLESS` is what makes it
//!    the leader. If others are to look first it declines, and calls one more. To be called is to
//!    lose that place: who has been takes another, at the end, and asks again.
//! 5. **leave**: a follower that is dropped counts itself out, before its work is dropped. If that
//!    leaves a leaderless flight with others able to lead, it calls one more; if it leaves a dead
//!    one, it removes the slot (locked, after looking again: a newcomer may have led the flight out
//!    of there by step 1).
//! 6. **forget** (locked): take the slot out. A shared flight moves to the table's list of detached
//!    flights in the same step, because its leader may not know its followers yet; the step that
//!    ends the flight takes it out of there.
//!
//! 7. **queue** (locked): a fresh caller does not join a flight under way but the *pending* one behind
//!    it in the slot, and leads it if there is none. A pending flight is an ordinary one, whose leader
//!    has to wait: it can be joined (by fresh callers), abandoned, taken over, and die. Whatever takes
//!    the flight under way out of the slot (land, abandon, leave, forget) puts the pending one into its
//!    place and lets it begin (clears `PENDING`) in the same step, and calls its leader after unlocking.
//!    So the flight that callers who are not fresh find in the slot is never pending: whoever takes it
//!    over has nothing to wait for, whether its leader has been called or not.
//! 8. **hand over** (locked): a leader with work of the flight's own (`relay`) is dropped, or its time
//!    for work that another began is over. If somebody inside is able to lead, the work is put into the flight, and then the flight is abandoned as by
//!    step 3; who takes the lead takes the work and goes on with it. If all who could have left in
//!    between, the leader takes the lead back, which nobody else can have, drops the work, and only
//!    then abandons. In the same way the last one to leave a flight with such work in it becomes its
//!    leader first (step 5).
//! 9. **die**: a leader whose work is to be aborted when nobody wants it (`abort_when_abandoned`) asks,
//!    in one change of the state word, whether nobody follows; from then on the flight is *dying*. It
//!    then drops its work unpolled and abandons the flight. Who comes in between and has work waits for
//!    that as an ordinary follower, and takes over; who has none finds no flight.
//!
//! # Who has no work
//!
//! Handles follow without being able to lead. They are counted, as those of `OnCancel::Fail` are, among
//! the `bound`, wait on an event of their own, event-listener's, because they could not pass a call on,
//! and are notified when the flight lands or is dead. The leader of a pending flight waits there, too.
//! The handle of a spawned call that follows is not counted
//! beside its task, which may end up leading, or be dropped, while the handle waits on. So a flight that
//! anybody has ever waited for in this way publishes its outcome also if it lands with no followers.
//!
//! A lead that is a value makes handles to its own flight. It finds that by id (locked), in the map or among
//! the detached flights. If it was forgotten while solo it is in neither, and is made among the detached.
//!
//! # Why it holds
//!
//! - **G1, one at a time.** To lead is to have inserted the slot or to have cleared `LEADERLESS`.
//!   The former happens only where there is no slot. The latter, by exactly one read-modify-write,
//!   only after `abandon`, which runs after the cancelled work has been dropped. A slot leaves the
//!   table in `land` (the work has returned), in `abandon` and `leave` (nobody leads, nobody who is
//!   counted can, and there is no half-done work), and in `forget`, which is the exception that G1
//!   names. A pending flight begins when the one before it has left the table.
//! - **G2, exactly once.** An outcome is set in `land` by the leader alone, after the slot is out of
//!   its reach for others; `LEADERLESS` cannot be set any more, so nobody else will lead.
//! - **G3, never a landed flight.** The slot goes before the outcome appears: who finds the slot
//!   finds a flight that nobody has a value of.
//! - **G4, nothing left behind.** Every lead ends in `land` or `abandon`. Both remove the slot, or
//!   leave it with `able > 0`; then the last of those to go removes it in `leave`.
//! - **G5, only my own entry.** Slots are removed by flight id, which is never used twice.
//! - **G6, no lost wake-up.** Places are taken and called under one mutex, which both sides always
//!   take. If a follower takes its place before the call, it is called. If it does after, what the
//!   caller wrote before (outcome, state, generation) happens before that, and the follower's own
//!   check, which comes after it, sees it. A caller takes the mutex once for each batch of tasks. In
//!   between some may go and some come back, but the list is first in, first out: a call to all gets
//!   to each that was there when it began, and it asks for no more than were. A task that comes with
//!   another waker sets that under the mutex, and then looks once more whether it was called with the
//!   old one. A thread whose time is up looks under the mutex whether there is a call, and takes it.
//!   (For the event of those without work this is event-listener's list and its mutex. Of its
//!   version 5.4 it is true that both sides always take it; one with a fast path around it would need
//!   a fence after each registration here.)
//! - **G7, cancellation is local.** A follower is *on its way* if it is able to lead and has been
//!   called or has its check still to come. While a flight is leaderless with `able > 0`, somebody
//!   is on its way: `abandon` calls at least one, or all have their check still to come; who declines
//!   has its place again and calls one more, itself if there is no other; who leaves, and may take a
//!   call along that it could not use (`OnCancel::Fail`), calls one more, too; and so does a caller
//!   for each waker that panics, whose task may never be polled. Each visit that declines counts
//!   `skips` down, so one of them leads. A call reaches only those that none has reached since they
//!   took their place. Which of several threads takes a call does not matter: who takes it looks.
//!
//! # Who takes over
//!
//! If the oldest follower always took over, callers with equal timeouts would hand the lead to the
//! one whose time runs out next, again and again, and none would finish; the newest would do the
//! same to callers with descending deadlines. So `abandon` draws a number below the count of able
//! followers, calls that many and one, and all of them but the last to look decline. The list of
//! tasks is first in, first out, so with followers that are polled as they are woken this lands on a
//! pseudo-random one of those that have waited longest. Threads are called before any task, in the
//! system's order: one that leads cannot be cancelled. To keep a cancelled leader cheap in a herd, the
//! first draw is among 16; each further abandonment of the same flight draws among four times as many,
//! up to [`SKIPS_MAX`] + 1. A follower that is not polled delays nobody, because each that declines
//! calls another.
//!
//! For example, three able tasks A, B, C wait and `abandon` draws 1: `skips` is 1, A and B are
//! called. A takes a place behind C, looks, counts `skips` down to 0, and calls C. B or C, whichever
//! looks first, finds 0 and leads; the other finds a led flight and goes on waiting.
//!
//! Followers that asked for [`OnCancel::Fail`] are called by every abandonment (then all are, as the
//! list does not tell them apart) and compare the flight's generation with that of their joining.
//!
//! # What is not in our hands
//!
//! Wakers of callers with work are cloned, woken and dropped under no lock: they may poll in place,
//! drop the last reference to a task, or panic. One that is woken inside work and polls in place polls inside that
//! work: if its call waits for that work, the call gets `Reentrant` (G13), unless it is a task's. Those of handles, and of leaders that wait for an
//! older flight to end, are event-listener's affair, which does all that while it holds the mutex of
//! its list. One that comes back to the same event from there deadlocks: one that polls in place, or
//! the last reference to a task of an executor that has been shut down, which drops the task and with
//! it the handle. The wakers of tokio, of smol and of threads only schedule.

mod alarm;
mod ask;
mod enter;
mod fly;
mod follower;
mod handle;
mod lead;
mod patience;
mod pending;
mod permit;
pub(crate) mod reentry;
pub(crate) mod state;
mod waiters;
mod work;

pub use self::handle::Handle;
#[cfg(feature = "tower")]
pub(crate) use self::work::relay;
pub(crate) use self::{
    alarm::Alarm,
    ask::{Ask, Asks, Plain, Stated},
    enter::{Caller, Enter},
    fly::{Answer, Fly, fly_blocking},
    follower::{Follower, Waited},
    lead::{Entry, Lead},
    patience::{Lapse, Lapsed, Limit, Patience},
    pending::Pending,
    permit::Permit,
    reentry::Batch,
    work::{Job, Payload, Relay, Relayed, Work},
};

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use event_listener::{Event, IntoNotification};

use self::{
    state::{Joining, SKIPS_MAX, Snapshot, State, Visit, Who},
    waiters::Waiters,
};
use crate::{
    error::Panicked,
    panics::discard,
    sync::{Arc, AtomicU32, Mutex, OnceLock, Ordering, lock},
    table::Stamp,
};

/// Names one flight for ever: across keys, groups and threads.
///
/// ```
/// use shardflight::{Entry, Group};
///
/// let group: Group<&str, u32> = Group::new();
/// let Entry::Lead(lead) = group.lead_or_join(&"key") else { unreachable!("the key is free") };
/// let flight = group.in_flight()[0].flight;
/// println!("{flight} is under way");
/// # drop(lead);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(pub(crate) u64);

impl fmt::Display for FlightId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A flight that others than its leader know of: followers, or those that wait for its end.
pub(crate) struct Flight<V> {
    id: FlightId,
    /// The one that it waits for as long as it is pending.
    older: Option<FlightId>,
    state: State,
    /// How often the lead was given up. Changed by the leader alone, before its change of `state`.
    generation: AtomicU32,
    outcome: OnceLock<Result<V, Panicked>>,
    /// Followers with work of their own wait here.
    waiters: Waiters,
    /// And here those without, who could pass no call on, and the leader of a pending flight.
    aside: Event,
    /// [`WORKLESS`] if there are followers without work, and [`TOLD`] if some are to be told of
    /// abandonments. Set under the lock that covers joining, so that who takes the flight out of the
    /// table knows. `Event::notify` is not for nothing.
    audience: AtomicU32,
    began: Stamp,
    rare: Mutex<Rare<V>>,
}

const WORKLESS: u32 = 1;
const TOLD: u32 = 2;

/// What few flights have.
struct Rare<V> {
    /// The work of a leader that was cancelled, for the one that takes over. Put there before the lead
    /// is given up, and taken by whoever has it next.
    relay: Option<Relay<V>>,
    /// The leader's, which wants to know when nobody follows any more.
    alarm: Option<Arc<Alarm>>,
}

/// How a caller joined.
pub(crate) enum Joined {
    Lead,
    Follow(Ticket),
    Full,
    Gone,
}

/// What a follower must know of its joining: as what it is counted, and after how many abandonments it
/// wants to be told of the next. In one word, because it is moved a few times at once: a wide load waits
/// for the narrow stores before it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(u64);

impl Ticket {
    /// More abandonments than a flight will see.
    const NEVER: u32 = u32::MAX;

    /// Of a caller that wants nothing but the value.
    pub(crate) const PLAIN: Self = Self::new(Who::Able, Self::NEVER);

    const fn new(who: Who, tell_after: u32) -> Self {
        Self((who as u64) << 32 | tell_after as u64)
    }

    pub(crate) fn who(self) -> Who {
        match self.0 >> 32 {
            0 => Who::Able,
            1 => Who::Told,
            2 => Who::Permit,
            _ => Who::Workless,
        }
    }

    fn tell_after(self) -> u32 {
        self.0 as u32
    }
}

impl<V> Flight<V> {
    /// A led flight.
    pub(crate) fn new(id: FlightId, began: Stamp) -> Self {
        Self::with_state(id, State::new(), began)
    }

    /// A led flight that must not begin before [`let_begin`](Self::let_begin): not before `older` has
    /// ended.
    pub(crate) fn pending(id: FlightId, older: FlightId, began: Stamp) -> Self {
        Self { older: Some(older), ..Self::with_state(id, State::pending(), began) }
    }

    fn with_state(id: FlightId, state: State, began: Stamp) -> Self {
        Self {
            id,
            older: None,
            state,
            generation: AtomicU32::new(0),
            outcome: OnceLock::new(),
            waiters: Waiters::new(),
            aside: Event::new(),
            audience: AtomicU32::new(0),
            began,
            rare: Mutex::new(Rare { relay: None, alarm: None }),
        }
    }

    pub(crate) fn id(&self) -> FlightId {
        self.id
    }

    pub(crate) fn began(&self) -> Stamp {
        self.began
    }

    /// Step 1, under the shard's lock.
    #[inline]
    pub(crate) fn join(&self, ask: &Ask) -> Joined {
        let who = ask.who;
        if ask.is_watched || matches!(who, Who::Permit | Who::Workless) {
            self.expect(WORKLESS);
        }
        if who == Who::Told {
            self.expect(TOLD);
        }
        match self.state.join(who, ask.max_followers) {
            Joining::Lead => Joined::Lead,
            Joining::Full => Joined::Full,
            Joining::Gone => Joined::Gone,
            Joining::Follow(counted) => {
                let tell_after = match who {
                    // Under that lock no abandonment can come between the two. One that came to a
                    // dying flight knows of the one to come.
                    Who::Told => self.generation() + u32::from(counted != who),
                    _ => Ticket::NEVER,
                };
                Joined::Follow(Ticket::new(counted, tell_after))
            }
        }
    }

    /// The same for a plain caller and a plain flight; or `false`, and nothing has changed.
    #[inline(always)]
    pub(crate) fn join_plainly(&self) -> bool {
        self.state.join_plainly()
    }

    /// Under the shard's lock, or by the leader: somebody of this kind is going to follow the flight.
    fn expect(&self, audience: u32) {
        // Relaxed: the lock that is held orders it before the flight's end; for the end by `leave`, a
        // change of `state` that follows does.
        self.audience.fetch_or(audience, Ordering::Relaxed);
    }

    /// Whether somebody may wait for the flight who is not counted: the handle of a task that follows,
    /// or did.
    pub(crate) fn has_audience(&self) -> bool {
        // Relaxed: as above.
        self.audience.load(Ordering::Relaxed) & WORKLESS != 0
    }

    /// Whether somebody may have to be told of an abandonment.
    fn has_told(&self) -> bool {
        // Relaxed: as above.
        self.audience.load(Ordering::Relaxed) & TOLD != 0
    }

    fn wake_audience(&self) {
        if self.has_audience() {
            self.call_aside();
        }
    }

    /// Calls all that wait without work, and the leader of a pending flight. Under no lock.
    pub(crate) fn call_aside(&self) {
        notify(&self.aside);
    }

    /// Whether a follower is to be told of an abandonment.
    fn tells(&self, ticket: Ticket) -> bool {
        ticket.tell_after() != Ticket::NEVER && self.generation() > ticket.tell_after()
    }

    /// Whether its lead was ever given up.
    pub(crate) fn was_abandoned(&self) -> bool {
        self.generation() > 0
    }

    fn generation(&self) -> u32 {
        // Acquire: pairs with the Release in `abandon`; a follower that sees the new generation
        // also sees what the abandoned work did.
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.state.snapshot()
    }

    /// Step 2, after the slot is gone.
    pub(crate) fn publish(&self, outcome: Result<V, Panicked>) {
        let fresh = self.outcome.set(outcome).is_ok();
        debug_assert!(fresh, "a flight lands once");
        self.wake(usize::MAX);
        self.wake_audience();
    }

    pub(crate) fn outcome(&self) -> Option<&Result<V, Panicked>> {
        self.outcome.get()
    }

    /// The outcome, for one that has seen it there: who is the last to ask gets the original.
    #[inline(always)]
    fn take_outcome(this: &mut Arc<Self>) -> Result<V, Panicked>
    where
        V: Clone,
    {
        if Arc::strong_count(this) == 1
            && let Some(flight) = Arc::get_mut(this)
            && let Some(outcome) = flight.outcome.take()
        {
            return outcome;
        }
        this.outcome().expect("it is there").clone()
    }

    /// Step 3, under the shard's lock (or, for a detached flight, by its leader alone).
    pub(crate) fn abandon(&self) -> Snapshot {
        // Release: pairs with the Acquire in `generation`.
        let earlier = self.generation.fetch_add(1, Ordering::Release);
        self.state.abandon(|able| draw(self.id, earlier, able))
    }

    /// Step 3, after unlocking.
    pub(crate) fn wake_successors(&self, left: Snapshot) {
        // They do not tell apart who is to be told from who is to take over. Handles are neither.
        if self.has_told() {
            self.wake(usize::MAX);
        } else if left.able() > 0 {
            self.wake(left.skips() as usize + 1);
        }
        if left.is_dead() || self.has_told() {
            self.wake_audience();
        }
    }

    /// Whether the work that runs on this stack has to end before the flight can (G13). Everybody who is
    /// about to wait for a flight asks, at each poll, because a call may be made in one place and polled
    /// in another.
    fn would_wait_for_this_stack(&self) -> bool {
        reentry::is_within(self.id)
            || self
                .older
                .is_some_and(|older| self.snapshot().is_pending() && reentry::is_within(older))
    }

    /// Step 7, under the shard's lock: the flight that this one waited for leaves the table. Its leader is
    /// [called](Self::call_aside) after unlocking.
    pub(crate) fn let_begin(&self) {
        self.state.let_begin();
    }

    /// Step 8, by the leader, which keeps the lead (and gets the work back) if nobody is there to take
    /// it. Under the shard's lock, also for a detached flight.
    pub(crate) fn hand_over(&self, relay: Relay<V>) -> Result<Snapshot, Relay<V>> {
        if self.snapshot().able() == 0 {
            return Err(relay);
        }
        lock(&self.rare).relay = Some(relay);
        let left = self.abandon();
        if left.is_dead() {
            // They all left meanwhile. Nobody can have seen the work: not from inside, where none is
            // able to lead, nor from outside, where the lock is: `bury` looks for work only with it.
            self.state.reclaim();
            return Err(self.take_relay().expect("just put there"));
        }
        Ok(left)
    }

    /// For whoever has just taken the lead, or ends the flight.
    pub(crate) fn take_relay(&self) -> Option<Relay<V>> {
        lock(&self.rare).relay.take()
    }

    pub(crate) fn has_relay(&self) -> bool {
        lock(&self.rare).relay.is_some()
    }

    /// Takes the lead if nobody has it and no work was begun, under the shard's lock.
    pub(crate) fn lead_out_afresh(&self) -> bool {
        self.state.lead_out_unless(|| self.has_relay())
    }

    /// Takes the lead of a dead flight that nobody can join meanwhile.
    pub(crate) fn reclaim(&self) {
        self.state.reclaim();
    }

    /// For the leader: rings when nobody follows any more.
    pub(crate) fn set_alarm(&self, alarm: &Arc<Alarm>) {
        // An earlier leader's is dropped after unlocking, with whatever its waker keeps.
        let _earlier = lock(&self.rare).alarm.replace(Arc::clone(alarm));
        self.state.set_abortable();
    }

    /// For the leader: whether it has given the flight up because nobody follows.
    pub(crate) fn begin_to_die(&self) -> bool {
        self.state.begin_to_die()
    }

    /// Step 4, for a follower that is able to lead.
    fn visit(&self) -> Visit {
        let visit = self.state.visit();
        if visit == Visit::Decline {
            // Of those who were woken, some may not be polled for long; this one knows of nobody
            // who is, so it calls another (itself, if there is no other).
            self.wake(1);
        }
        visit
    }

    /// Calls `n` followers more, whoever was called before.
    fn wake(&self, n: usize) {
        self.waiters.call(n);
    }

    /// Step 5: counts a follower out; `true` if the flight is dead and its slot must go.
    #[must_use]
    #[inline]
    fn leave(&self, who: Who) -> bool {
        let left = self.state.leave(who);
        left.is_remarkable() && self.has_left(left)
    }

    fn has_left(&self, left: Snapshot) -> bool {
        if left.is_dead() {
            self.wake_audience();
        } else if left.is_leaderless() {
            self.wake(1);
        } else if left.is_unwanted() {
            let alarm = lock(&self.rare).alarm.clone();
            alarm.expect("set before the bit was").ring();
        }
        left.is_dead()
    }
}

/// A waker that panics would leave the ones after it waiting for ever, and make this caller panic,
/// whose work may well have returned. The event has moved on past it by then, so trying again ends.
fn notify(event: &Event) {
    while let Err(payload) =
        catch_unwind(AssertUnwindSafe(|| event.notify(usize::MAX.additional())))
    {
        discard(payload);
    }
}

/// How many of the followers decline the lead before one takes it: below `able`, evenly spread.
fn draw(id: FlightId, earlier_abandonments: u32, able: usize) -> u64 {
    const FIRST_DRAW: u64 = 16;
    // Beyond 8 abandonments the draw is as wide as it gets, and nothing must be shifted out.
    let among = FIRST_DRAW << (2 * earlier_abandonments.min(8));
    let among = among.min(SKIPS_MAX + 1).min(able as u64);
    // The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
    // Generators", OOPSLA 2014).
    let mut x = id.0 ^ u64::from(earlier_abandonments).rotate_right(16);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % among
}
