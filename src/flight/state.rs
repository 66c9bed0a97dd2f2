//! The state word of a shared flight: who follows, and whether anybody leads.
//!
//! | bits   | name         | who changes it, and what it licenses |
//! |--------|--------------|--------------------------------------|
//! | 0..27  | `able`       | followers that take over when the leader is cancelled. Up: `join`, under the shard lock. Down: `leave` and `take_over`, by the follower itself, under no lock. |
//! | 27..54 | `bound`      | followers that asked to be told instead (`OnCancel::Fail`). Up and down as `able`, but they never lead. |
//! | 54..63 | `skips`      | how many of the woken followers still decline the lead before one takes it. Set by `abandon`, counted down by `visit`, cleared with `LEADERLESS`. |
//! | 63     | `LEADERLESS` | nobody leads. Set by `abandon` under the lock that covers joining; cleared by whoever takes the lead: a follower in `visit`, or a newcomer in `join`. Clearing it *is* taking the lead, so exactly one can. |
//!
//! `LEADERLESS` with `able == 0` is *dead*: nobody inside can lead. Every change is a
//! read-modify-write, so exactly one operation brings a flight there, and that one removes the slot
//! (unless a newcomer, which the slot's lock keeps apart from the removal, led it out again).

use crate::sync::{AtomicU64, Ordering};

/// Wide enough for every waiter that fits into memory: 134,217,727 of each kind.
const COUNT_BITS: u32 = 27;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const BOUND_SHIFT: u32 = COUNT_BITS;
const SKIPS_SHIFT: u32 = 2 * COUNT_BITS;
pub(super) const SKIPS_MAX: u64 = (1 << 9) - 1;
const LEADERLESS: u64 = 1 << 63;

/// What a follower does when its leader is cancelled. See [`Call::on_cancel`](crate::Call::on_cancel).
///
/// ```
/// # futures_lite::future::block_on(async {
/// use shardflight::{Group, OnCancel};
///
/// let group: Group<String, u32> = Group::new();
/// let call = group.call("key").on_cancel(OnCancel::Fail);
/// assert_eq!(call.run(async { 1 }).await.unwrap().value, 1); // nobody to follow: it leads
/// assert_eq!(OnCancel::default(), OnCancel::TakeOver);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnCancel {
    /// Let one follower lead the flight with its own work; this caller is ready to be that one.
    #[default]
    TakeOver,
    /// Get [`CallError::Cancelled`](crate::CallError::Cancelled) at once.
    Fail,
}

impl OnCancel {
    const fn one(self) -> u64 {
        match self {
            Self::TakeOver => 1,
            Self::Fail => 1 << BOUND_SHIFT,
        }
    }
}

#[derive(Debug)]
pub(super) struct State(AtomicU64);

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

/// What `State::visit` decided for the follower that called it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// Somebody leads.
    Wait,
    /// Nobody leads, and others are to look first.
    Decline,
    Lead,
}

impl State {
    /// A led flight with its first follower.
    pub(crate) fn new(first: OnCancel) -> Self {
        Self(AtomicU64::new(first.one()))
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        // Acquire: pairs with the Release in the operations below; whoever counts what is left sees
        // what those who changed it did before.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Adds a follower, or takes the lead if nobody has it: then this is `true`. The caller holds the
    /// lock under which a flight of the table is abandoned, so a led flight stays led meanwhile.
    ///
    /// # Panics
    ///
    /// If the flight has [`COUNT_MAX`] followers of this kind: a count that wrapped would hand the
    /// lead to the wrong caller.
    pub(crate) fn join(&self, who: OnCancel) -> bool {
        let mut now = self.snapshot();
        loop {
            let next = if now.is_leaderless() { now.led() } else { now.0 + who.one() };
            let count = if who == OnCancel::Fail { now.bound() } else { now.able() };
            assert!(
                now.is_leaderless() || count < COUNT_MAX as usize,
                "shardflight: more than {COUNT_MAX} callers follow one flight"
            );
            match self.exchange(now, next) {
                Ok(()) => return now.is_leaderless(),
                Err(changed) => now = changed,
            }
        }
    }

    /// Asks, for a follower that is able to lead and was woken or has just registered, whether it
    /// is its turn. Taking the lead takes it out of the followers.
    pub(crate) fn visit(&self) -> Visit {
        let mut now = self.snapshot();
        loop {
            if !now.is_leaderless() {
                return Visit::Wait;
            }
            let (next, turn) = if now.skips() > 0 {
                (now.0 - (1 << SKIPS_SHIFT), Visit::Decline)
            } else {
                (now.led() - OnCancel::TakeOver.one(), Visit::Lead)
            };
            match self.exchange(now, next) {
                Ok(()) => return turn,
                Err(changed) => now = changed,
            }
        }
    }

    /// Takes out a follower that goes without an answer; returns what is left.
    pub(crate) fn leave(&self, who: OnCancel) -> Snapshot {
        // AcqRel: as in `exchange`.
        Snapshot(self.0.fetch_sub(who.one(), Ordering::AcqRel) - who.one())
    }

    /// Gives the lead up. `skips` chooses, from the number of followers able to lead (never 0), how
    /// many of them decline it.
    pub(crate) fn abandon(&self, skips: impl Fn(usize) -> u64) -> Snapshot {
        let mut now = self.snapshot();
        loop {
            let able = now.able();
            let skips = if able == 0 { 0 } else { skips(able) };
            debug_assert!(skips <= SKIPS_MAX);
            let next = now.0 | LEADERLESS | skips << SKIPS_SHIFT;
            match self.exchange(now, next) {
                Ok(()) => return Snapshot(next),
                Err(changed) => now = changed,
            }
        }
    }

    fn exchange(&self, now: Snapshot, next: u64) -> Result<(), Snapshot> {
        // AcqRel: all changes form one order in which each sees what happened before the others;
        // above all a new leader sees everything of the old one (G1).
        self.0
            .compare_exchange_weak(now.0, next, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .map_err(Snapshot)
    }
}

impl Snapshot {
    pub(crate) fn able(self) -> usize {
        (self.0 & COUNT_MAX) as usize
    }

    pub(crate) fn bound(self) -> usize {
        (self.0 >> BOUND_SHIFT & COUNT_MAX) as usize
    }

    pub(crate) fn followers(self) -> usize {
        self.able() + self.bound()
    }

    pub(crate) fn skips(self) -> u64 {
        self.0 >> SKIPS_SHIFT & SKIPS_MAX
    }

    pub(crate) fn is_leaderless(self) -> bool {
        self.0 & LEADERLESS != 0
    }

    /// Nobody leads and nobody inside can.
    pub(crate) fn is_dead(self) -> bool {
        self.is_leaderless() && self.able() == 0
    }

    /// The word after somebody took the lead.
    fn led(self) -> u64 {
        self.0 & !(LEADERLESS | SKIPS_MAX << SKIPS_SHIFT)
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("able", &self.able())
            .field("bound", &self.bound())
            .field("skips", &self.skips())
            .field("leaderless", &self.is_leaderless())
            .finish()
    }
}
