//! One flight: an execution of a key's work and everybody who waits for it. The protocol is told
//! here, once; the files beside it and the table cite it.
//!
//! # Who holds what
//!
//! A flight begins *solo*: a slot in the table that holds nothing but its id, and a [`Lead`] in the
//! leader's future or stack frame. The first follower replaces the slot's content by an
//! `Arc<Flight>`; the leader does not notice. Everybody who waits holds that `Arc`, and the leader
//! finds it when it comes back to the slot, under the slot's lock.
//!
//! # Steps
//!
//! *Locked* steps run under the lock of the key's shard, which no user code ever runs under but `Eq`
//! and `ToOwned` of the key. The others are read-modify-writes of the flight's state word
//! ([`state`]).
//!
//! 1. **enter** (locked): no slot: insert a solo one and lead. Solo slot: make it shared and follow.
//!    Shared and led: count up and follow. Shared and leaderless: take the lead at once.
//! 2. **land** (locked, then not): remove the slot *by id*, and in the same step read the number of
//!    followers. Nobody can join from here on, so the number is final. If it is 0, the value is the
//!    leader's and nothing else happens. Otherwise publish the outcome, and only then notify all.
//! 3. **abandon** (locked): the leader's future was dropped, its work already is. If nobody inside
//!    is able to lead, remove the slot in the same step. Otherwise set `LEADERLESS`, keep the slot,
//!    and wake successors after unlocking.
//! 4. **visit**: a follower registers with the event *first*, then asks: landed? my turn? Clearing
//!    `LEADERLESS` is what makes it the leader.
//! 5. **leave**: a follower that is dropped counts itself out. If that leaves a leaderless flight
//!    with others able to lead, it wakes one more; if it leaves a dead one, it removes the slot
//!    (locked, after looking again: a newcomer may have led the flight out of there by step 1).
//! 6. **forget** (locked): take the slot out. A shared flight moves to the table's list of detached
//!    flights in the same step, because its leader may not know its followers yet; the step that
//!    ends the flight takes it out of there.
//!
//! # Why it holds
//!
//! - **G1, one at a time.** To lead is to have inserted the slot or to have cleared `LEADERLESS`.
//!   The former happens only where there is no slot. The latter, by exactly one read-modify-write,
//!   only after `abandon`, which runs after the cancelled work has been dropped. A slot leaves the
//!   table in `land` (the work has returned), in `abandon` and `leave` (nobody leads, and nobody who
//!   is counted can), and in `forget`, which is the exception that G1 names.
//! - **G2, exactly once.** An outcome is set in `land` by the leader alone, after the slot is out of
//!   its reach for others; `LEADERLESS` cannot be set any more, so nobody else will lead.
//! - **G3, never a landed flight.** The slot goes before the outcome appears: who finds the slot
//!   finds a flight that nobody has a value of.
//! - **G4, nothing left behind.** Every lead ends in `land` or `abandon`. Both remove the slot, or
//!   leave it with `able > 0`; then the last of those to go removes it in `leave`.
//! - **G5, only my own entry.** Slots are removed by flight id, which is never used twice.
//! - **G6, no lost wake-up.** The event's list is behind a mutex. If a follower's registration comes
//!   before the notification there, it is woken. If it comes after, what the notifier wrote before
//!   notifying (outcome, state, generation) happens before the registration, and the follower's own
//!   check, which follows the registration, sees it.
//! - **G7, cancellation is local.** A leaderless flight with `able > 0` always has more followers on
//!   their way to a visit than `skips`: `abandon` wakes `skips + 1` of them, or, if fewer are
//!   registered, the rest have their check still to come; `leave` sets `skips` to 0 and wakes one
//!   more, whether or not the one who left was among the woken.
//!
//! # Who takes over
//!
//! If the oldest follower always took over, callers with equal timeouts would hand the lead to the
//! one whose time runs out next, again and again, and none would finish; the newest would do the
//! same to callers with descending deadlines. So `abandon` draws a number below the count of able
//! followers, wakes that many and one, and all of them but the last to look decline. The event's list is
//! first in, first out, so this lands on a pseudo-random follower without any list of our own. To
//! keep a cancelled leader cheap in a herd, the first draw is among 16; each further abandonment of
//! the same flight draws among four times as many, up to [`state::SKIPS_MAX`] + 1.
//!
//! Followers that asked for [`OnCancel::Fail`] are woken by every abandonment (then all are woken,
//! as the event cannot tell them apart) and compare the flight's generation with that of their
//! joining.

mod fly;
mod follower;
mod lead;
pub(crate) mod reentry;
pub(crate) mod state;
mod work;

pub(crate) use self::{
    fly::{Fly, Landed, fly_blocking},
    follower::{Follower, Waited, wait},
    lead::Lead,
};

use event_listener::{Event, IntoNotification};

use self::state::{OnCancel, SKIPS_MAX, Snapshot, State, Visit};
use crate::{
    error::Panicked,
    sync::{AtomicU32, OnceLock, Ordering},
};

/// Names one flight for ever: across keys, groups and threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlightId(pub(crate) u64);

/// A flight that at least one caller has joined.
pub(crate) struct Flight<V> {
    id: FlightId,
    state: State,
    /// How often the lead was given up. Changed by the leader alone, before its change of `state`.
    generation: AtomicU32,
    outcome: OnceLock<Result<V, Panicked>>,
    event: Event,
}

impl<V> Flight<V> {
    /// A led flight with its first follower.
    pub(crate) fn new(id: FlightId, first: OnCancel) -> Self {
        Self {
            id,
            state: State::new(first),
            generation: AtomicU32::new(0),
            outcome: OnceLock::new(),
            event: Event::new(),
        }
    }

    pub(crate) fn id(&self) -> FlightId {
        self.id
    }

    /// Step 1, under the shard's lock.
    pub(crate) fn join(&self, who: OnCancel) -> Visit {
        self.state.join(who)
    }

    /// Read under the shard's lock when joining: no abandonment can come between.
    pub(crate) fn generation(&self) -> u32 {
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
        self.event.notify(usize::MAX);
    }

    pub(crate) fn outcome(&self) -> Option<&Result<V, Panicked>> {
        self.outcome.get()
    }

    /// Step 3, under the shard's lock (or, for a detached flight, by its leader alone).
    pub(crate) fn abandon(&self) -> Snapshot {
        // Release: pairs with the Acquire in `generation`.
        let earlier = self.generation.fetch_add(1, Ordering::Release);
        self.state.abandon(|able| draw(self.id, earlier, able))
    }

    /// Step 3, after unlocking.
    pub(crate) fn wake_successors(&self, left: Snapshot) {
        if left.bound() > 0 {
            self.event.notify(usize::MAX);
        } else if left.able() > 0 {
            self.event.notify((left.skips() as usize + 1).additional());
        }
    }

    /// Step 5: counts a follower out; `true` if the flight is dead and its slot must go.
    #[must_use]
    fn leave(&self, who: OnCancel) -> bool {
        let left = self.state.leave(who);
        if left.is_leaderless() && !left.is_dead() {
            self.event.notify(1.additional());
        }
        left.is_dead()
    }
}

/// How many of the followers decline the lead before one takes it: below `able`, evenly spread.
fn draw(id: FlightId, earlier_abandonments: u32, able: usize) -> u64 {
    const FIRST_DRAW: u64 = 16;
    let among = FIRST_DRAW
        .checked_shl(2 * earlier_abandonments)
        .unwrap_or(SKIPS_MAX + 1)
        .min(SKIPS_MAX + 1)
        .min(able as u64);
    // The finalizer of SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number
    // Generators", OOPSLA 2014).
    let mut x = id.0 ^ u64::from(earlier_abandonments).rotate_right(16);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x ^ x >> 31) % among
}
