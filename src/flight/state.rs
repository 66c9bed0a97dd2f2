//! The state word of a shared flight: who follows, and whether anybody leads.
//!
//! | bits   | name         | who changes it, and what it licenses |
//! |--------|--------------|--------------------------------------|
//! | 0..26  | `able`       | followers that take over when the leader is cancelled. Up: `join`, under the shard lock. Down: `leave` and `visit`, by the follower itself, under no lock. |
//! | 26..52 | `bound`      | followers that never do: they asked to be told instead (`OnCancel::Fail`), or brought no work (handles). Up and down as `able`. |
//! | 52..60 | `skips`      | how many of the woken followers still decline the lead before one takes it. Set by `abandon`, counted down by `visit`, cleared with `LEADERLESS`. |
//! | 60     | `PENDING`    | the flight waits for an older one of its key to end; its leader must not begin. Set from the beginning; cleared by the step that takes the older one out of the table, under the lock that covers joining. So a flight that callers find as the one in flight is never pending. |
//! | 61     | `ABORTABLE`  | the leader wants to know when nobody follows any more. Set by the leader; cleared by `abandon`. |
//! | 62     | `DYING`      | the leader has seen that nobody follows and will drop its work unpolled. Set by the leader; cleared by `abandon`. Who comes now and could lead waits for that; who could not finds no flight. |
//! | 63     | `LEADERLESS` | nobody leads. Set by `abandon` under the lock that covers joining; cleared by whoever takes the lead: a follower in `visit`, a newcomer in `join`, or, of a dead flight, the holder of that lock in `reclaim`. Clearing it *is* taking the lead, so exactly one can. |
//!
//! `LEADERLESS` with `able == 0` is *dead*: nobody inside can lead. Every change is a
//! read-modify-write, so exactly one operation brings a flight there, and that one removes the slot
//! (unless a newcomer, which the slot's lock keeps apart from the removal, led it out again).

use crate::sync::{AtomicU64, Ordering};

/// Wide enough for every waiter that fits into memory: 67,108,863 of each kind.
const COUNT_BITS: u32 = 26;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const BOUND_SHIFT: u32 = COUNT_BITS;
const SKIPS_SHIFT: u32 = 2 * COUNT_BITS;
pub(super) const SKIPS_MAX: u64 = (1 << 8) - 1;
const PENDING: u64 = 1 << 60;
const ABORTABLE: u64 = 1 << 61;
const DYING: u64 = 1 << 62;
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

/// What a caller of a flight is ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Who {
    /// It has work, and takes over ([`OnCancel::TakeOver`]).
    Able,
    /// It has work, leads if it finds nobody leading, and wants to be told ([`OnCancel::Fail`]).
    Told,
    /// It leads if it finds a flight that nobody inside can lead, but cannot continue another's work
    /// ([`Group::lead_or_join`](crate::Group::lead_or_join)).
    Permit,
    /// It has no work.
    Workless,
}

impl Who {
    const fn one(self) -> u64 {
        match self {
            Self::Able => 1,
            Self::Told | Self::Permit | Self::Workless => 1 << BOUND_SHIFT,
        }
    }
}

impl From<OnCancel> for Who {
    fn from(on_cancel: OnCancel) -> Self {
        match on_cancel {
            OnCancel::TakeOver => Self::Able,
            OnCancel::Fail => Self::Told,
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

/// What `State::join` came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Joining {
    /// The caller leads.
    Lead,
    /// It is counted, as this.
    Follow(Who),
    /// There are as many followers as it allows.
    Full,
    /// Nobody leads or will, and neither can the caller.
    Gone,
}

impl State {
    /// A led flight that nobody follows.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A flight whose leader has to wait.
    pub(crate) fn pending() -> Self {
        Self(AtomicU64::new(PENDING))
    }

    /// The leader may begin. Under the lock that covers joining.
    pub(crate) fn let_begin(&self) {
        // AcqRel: as in `exchange`.
        self.0.fetch_and(!PENDING, Ordering::AcqRel);
    }

    #[inline]
    pub(crate) fn snapshot(&self) -> Snapshot {
        // Acquire: pairs with the Release in the operations below; whoever counts what is left sees
        // what those who changed it did before.
        Snapshot(self.0.load(Ordering::Acquire))
    }

    /// Adds a follower, unless there are `max_followers`, or takes the lead if nobody has it. The
    /// caller holds the lock under which a flight of the table is abandoned, so a led flight stays led
    /// meanwhile.
    ///
    /// # Panics
    ///
    /// If the flight has [`COUNT_MAX`] followers of this kind: a count that wrapped would hand the
    /// lead to the wrong caller.
    pub(crate) fn join(&self, who: Who, max_followers: usize) -> Joining {
        let mut now = self.snapshot();
        loop {
            let joining = match who {
                _ if now.is_plain() && max_followers == usize::MAX => Joining::Follow(who),
                Who::Able | Who::Told if now.is_leaderless() => Joining::Lead,
                Who::Permit if now.is_dead() => Joining::Lead,
                Who::Permit | Who::Workless if now.is_dead() || now.is_dying() => Joining::Gone,
                _ if now.followers() >= max_followers => Joining::Full,
                // The work it finds is none it could follow. It may well lead afterwards.
                Who::Told if now.is_dying() => Joining::Follow(Who::Able),
                _ => Joining::Follow(who),
            };
            let next = match joining {
                Joining::Lead => now.led(),
                Joining::Follow(as_) => {
                    let count = if as_ == Who::Able { now.able() } else { now.bound() };
                    assert!(
                        count < COUNT_MAX as usize,
                        "shardflight: more than {COUNT_MAX} callers follow one flight"
                    );
                    now.0 + as_.one()
                }
                Joining::Full | Joining::Gone => return joining,
            };
            match self.exchange(now, next) {
                Ok(()) => return joining,
                Err(changed) => now = changed,
            }
        }
    }

    /// `join` for a caller that is able to lead, if somebody leads and is going on.
    #[inline(always)]
    pub(crate) fn join_plainly(&self) -> bool {
        let mut now = self.snapshot();
        while now.is_plain() && now.able() < COUNT_MAX as usize {
            match self.exchange(now, now.0 + Who::Able.one()) {
                Ok(()) => return true,
                Err(changed) => now = changed,
            }
        }
        false
    }

    /// Asks, for a follower that is able to lead and was woken or has just registered, whether it
    /// is its turn. Taking the lead takes it out of the followers.
    #[inline]
    pub(crate) fn visit(&self) -> Visit {
        let now = self.snapshot();
        if now.is_leaderless() { self.visit_leaderless(now) } else { Visit::Wait }
    }

    #[cold]
    fn visit_leaderless(&self, mut now: Snapshot) -> Visit {
        loop {
            if !now.is_leaderless() {
                return Visit::Wait;
            }
            let (next, turn) = if now.skips() > 0 {
                (now.0 - (1 << SKIPS_SHIFT), Visit::Decline)
            } else {
                (now.led() - Who::Able.one(), Visit::Lead)
            };
            match self.exchange(now, next) {
                Ok(()) => return turn,
                Err(changed) => now = changed,
            }
        }
    }

    /// Takes out a follower that goes without an answer; returns what is left.
    pub(crate) fn leave(&self, who: Who) -> Snapshot {
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
            let next = now.0 & !(ABORTABLE | DYING) | LEADERLESS | skips << SKIPS_SHIFT;
            match self.exchange(now, next) {
                Ok(()) => return Snapshot(next),
                Err(changed) => now = changed,
            }
        }
    }

    /// Takes the lead of a flight that was dead. The caller holds the lock that covers joining, or
    /// nobody can join any more: nobody else can lead it out, and only `bound` changes.
    pub(crate) fn reclaim(&self) {
        let mut now = self.snapshot();
        debug_assert!(now.is_dead());
        while let Err(changed) = self.exchange(now, now.led()) {
            now = changed;
        }
    }

    /// Takes the lead if nobody has it. The caller holds the lock under which a flight is abandoned.
    pub(crate) fn lead_out_unless(&self, if_not: impl Fn() -> bool) -> bool {
        let mut now = self.snapshot();
        while now.is_leaderless() && !if_not() {
            match self.exchange(now, now.led()) {
                Ok(()) => return true,
                Err(changed) => now = changed,
            }
        }
        false
    }

    /// Says, for the leader, that it wants to know when nobody follows any more.
    pub(crate) fn set_abortable(&self) {
        // AcqRel: as in `exchange`.
        self.0.fetch_or(ABORTABLE, Ordering::AcqRel);
    }

    /// Gives the flight up, for the leader, if nobody follows it; or else `false`.
    pub(crate) fn begin_to_die(&self) -> bool {
        let mut now = self.snapshot();
        while now.followers() == 0 {
            match self.exchange(now, now.0 | DYING) {
                Ok(()) => return true,
                Err(changed) => now = changed,
            }
        }
        false
    }

    #[inline]
    fn exchange(&self, now: Snapshot, next: u64) -> Result<(), Snapshot> {
        // AcqRel: all changes form one order in which each sees what happened before the others;
        // above all a new leader sees everything of the old one (G1). Success needs the Acquire, too: the
        // word may have changed and come back since it was read.
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

    pub(crate) fn is_dying(self) -> bool {
        self.0 & DYING != 0
    }

    pub(crate) fn is_pending(self) -> bool {
        self.0 & PENDING != 0
    }

    /// Led, and not dying.
    fn is_plain(self) -> bool {
        self.0 & (LEADERLESS | DYING) == 0
    }

    /// Whether leaving it might have consequences.
    pub(crate) fn is_remarkable(self) -> bool {
        self.0 & (LEADERLESS | ABORTABLE) != 0
    }

    /// Whether the leader is to be told that nobody follows it.
    pub(crate) fn is_unwanted(self) -> bool {
        self.0 & ABORTABLE != 0 && self.followers() == 0
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
