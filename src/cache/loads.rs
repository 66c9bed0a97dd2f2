//! The loads under way, and which of them may keep what they load: what makes an invalidation final.
//!
//! # The protocol
//!
//! Three things hold a key's value: the cache (`store`), the flight that loads it, and the load itself, which
//! is about to put it into the store. Each operation is a sequence of steps; none of them runs the
//! user's code, moka's, or the group's while it holds a lock of this file.
//!
//! A *load* has a [`Stamp`], greater than those of all that began before, and an entry in here:
//!
//! ```text
//!            begin             begin_to_store            end
//!   (none) ────────▶ Loading ────────────────▶ Storing ────────▶ (none)
//!                       │ void                    │ void            ▲
//!                       ▼                         ▼       end       │
//!                    (none), and             Suspect ─────▶ removed ┘
//!                   is never stored
//! ```
//!
//! - **load**: B1 `begin` voids older loads of the key, draws the stamp, and enters it as `Loading`; B2 the
//!   user's work runs; B3 `begin_to_store` makes it `Storing`, unless it has been voided; B4 the value goes
//!   into the store, with the stamp; B5 `end` takes the entry away; B6 if it was `Suspect`, or is below the
//!   floor by now, what it stored is removed from the store, and then it is cleared of suspicion.
//! - **invalidate(key)**: I1 `void` takes the key's loads away, or makes them `Suspect` if they are `Storing`; I2 the
//!   store's entry is removed; I3 the flight is forgotten.
//! - **insert(key)** is a load whose work has been done (B1, B3 to B6), and then I3. If B3 does not let it store, it
//!   is an invalidation.
//! - **invalidate_all**: A1 `void_all` raises the *floor* above all stamps drawn; A2 the store is emptied; A3 all
//!   flights are forgotten.
//! - **look**: L1 `watch` notes which loads are suspects now; L2 the store is asked; L3 what was stored by one
//!   of those, or by a load below the floor, is not there.
//! - **miss**: M1 look; M2 lead or join the key's flight; M3 who leads looks again; M4 load; M5 if that fails look
//!   for an old value, which is the answer then, and stays where it is.
//!
//! # Why it holds
//!
//! Let *I* be an invalidation of a key, *L* a load of it that began (B1) before I1, and *G* a call that begins
//! after *I* has returned. *G* does not get the value of *L*:
//!
//! - *From the store.* If *L* ended (B5) before I1, it stored before that, and I2 removed it. If it had not begun
//!   to store, it is void, and never does. Otherwise it is a suspect, and was one before *I* returned. At
//!   L1 *G* either finds it among the suspects, and passes over what it stored; or it has been cleared since,
//!   after B6 removed that; what *G* sees at L1 makes it see that at L2. L1 comes before L2: a suspect that is
//!   cleared in between would be taken for honest.
//! - *From a flight.* *G* cannot join one that was there at I3. One that began later looked (M3, M5) after I3,
//!   so after I2, and found what *G* would. That is why I2 comes before I3. And what it loaded (M4) it began to
//!   load after I1.
//! - *By way of another load.* What is in the store is stored once, by its own load. A load that fails after I1 does
//!   not store the old value again, which it may have found before I2: by its own stamp that would be
//!   honest.
//! - `insert` is an invalidation that leaves a value behind: B1 voids as I1 does, and B4 replaces what I2 would
//!   remove. Of loads and insertions that overlap, the one that began last wins, and all lose to an
//!   invalidation.
//! - `invalidate_all` is one of all keys. What is below the floor is not there for who begins later, whenever
//!   it was stored; so no suspects are needed. Flights as above.
//!
//! That I1 voids by the key's hash, not by the key, costs another load to a key whose hash is the same. That a
//! suspect removes what it stored in two steps (look whose it is, remove) may remove what another load has
//! just stored. Both are misses, and nothing is ever stale by them.
//!
//! **Memory order.** That a flight which I3 does not find has begun later is a matter of two words: I2 writes one and
//! I3 reads the other, M2 writes the other and M3 reads the one. So there is a sequentially consistent fence
//! between I2 and I3, or A2 and A3, and one between M2 and M3. A load that begins after I1, or after A1, sees what happened before the invalidation, like
//! the write to the database that it was for: by the stripe's mutex, or by the counter of stamps. The
//! models of `loom-tests/cache.rs` check all of this, with each step left out or moved in turn.

use std::mem;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// When a load began, among all loads of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its value is to come.
    Loading,
    /// Its value is in the store, or about to be.
    Storing,
    /// The same, and outdated.
    Suspect,
}

struct Entry {
    hash: u64,
    stamp: Stamp,
    state: State,
}

/// Loads of keys with the same hash are in the same stripe.
type Stripe = Mutex<Vec<Entry>>;

/// A load locks its own three times.
#[cfg(not(loom))]
const STRIPES: usize = 64;
#[cfg(loom)]
const STRIPES: usize = 1;

/// The loads under way.
pub(super) struct Loads {
    /// What every look reads, apart from what every load writes.
    front: Front,
    suspects: Mutex<Vec<Stamp>>,
    next: AtomicU64,
    stripes: Box<[Stripe]>,
}

/// Two cache lines, as processors fetch them in pairs.
#[repr(align(128))]
struct Front {
    /// What was loaded before this stamp has been invalidated.
    floor: AtomicU64,
    /// How many suspects there are.
    suspected: AtomicU64,
}

impl Loads {
    pub(super) fn new() -> Self {
        Self {
            front: Front { floor: AtomicU64::new(0), suspected: AtomicU64::new(0) },
            suspects: Mutex::new(Vec::new()),
            next: AtomicU64::new(0),
            stripes: (0..STRIPES).map(|_| Mutex::new(Vec::new())).collect(),
        }
    }

    /// B1: what is done from here on until the load is dropped makes its value.
    pub(super) fn begin(&self, hash: u64) -> Load<'_> {
        let mut stripe = lock(self.stripe(hash));
        self.void_in(&mut stripe, hash);
        // AcqRel: pairs with that of `void_all`, so that a load above the floor sees what was before that.
        let stamp = Stamp(self.next.fetch_add(1, Ordering::AcqRel));
        stripe.push(Entry { hash, stamp, state: State::Loading });
        Load { loads: self, hash, stamp }
    }

    /// I1.
    pub(super) fn void(&self, hash: u64) {
        self.void_in(&mut lock(self.stripe(hash)), hash);
    }

    fn void_in(&self, stripe: &mut Vec<Entry>, hash: u64) {
        stripe.retain_mut(|entry| match entry.state {
            _ if entry.hash != hash => true,
            // Who is not there may not store.
            State::Loading => false,
            State::Storing => {
                entry.state = State::Suspect;
                // Under the stripe's lock: it is a suspect before it can be cleared.
                self.suspect(|suspects| suspects.push(entry.stamp));
                true
            }
            State::Suspect => true,
        });
    }

    /// A1.
    pub(super) fn void_all(&self) {
        // AcqRel: pairs with that of `begin`.
        let floor = self.next.fetch_add(1, Ordering::AcqRel);
        // Relaxed: who begins later sees it by whatever tells it that this has returned.
        self.front.floor.fetch_max(floor, Ordering::Relaxed);
    }

    fn suspect(&self, change: impl FnOnce(&mut Vec<Stamp>)) {
        let mut suspects = lock(&self.suspects);
        change(&mut suspects);
        // Release: pairs with the Acquire in `watch`; who sees one less sees that its value is gone.
        self.front.suspected.store(suspects.len() as u64, Ordering::Release);
    }

    /// L1.
    #[inline]
    pub(super) fn watch(&self) -> Watch {
        // Acquire: pairs with the Release in `suspect`.
        match self.front.suspected.load(Ordering::Acquire) {
            0 => Watch(Vec::new()),
            _ => self.watch_closely(),
        }
    }

    #[cold]
    fn watch_closely(&self) -> Watch {
        Watch(lock(&self.suspects).clone())
    }

    /// L3.
    #[inline]
    pub(super) fn vouch_for(&self, stamp: Stamp, watch: &Watch) -> bool {
        self.is_above_floor(stamp) && !watch.0.contains(&stamp)
    }

    #[inline]
    fn is_above_floor(&self, stamp: Stamp) -> bool {
        // Relaxed: who begins after `void_all` has returned sees that floor, or a higher one.
        stamp.0 >= self.front.floor.load(Ordering::Relaxed)
    }

    fn stripe(&self, hash: u64) -> &Stripe {
        // The group's cells and shards go by the first bits.
        &self.stripes[hash as usize % self.stripes.len()]
    }
}

/// The suspects at some instant.
pub(super) struct Watch(Vec<Stamp>);

/// One that is under way. Dropped before it has stored, it leaves nothing.
pub(super) struct Load<'l> {
    loads: &'l Loads,
    hash: u64,
    stamp: Stamp,
}

impl<'l> Load<'l> {
    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// B3. `None` if its value is outdated.
    pub(super) fn begin_to_store(self) -> Option<Storing<'l>> {
        let is_storing = {
            let mut stripe = lock(self.loads.stripe(self.hash));
            let own = stripe.iter_mut().find(|entry| entry.stamp == self.stamp);
            own.map(|entry| entry.state = State::Storing).is_some()
        };
        is_storing.then(|| Storing(self))
    }

    /// B5. What it was in the end, unless it was voided.
    fn leave(&self) -> Option<State> {
        let mut stripe = lock(self.loads.stripe(self.hash));
        let place = stripe.iter().position(|entry| entry.stamp == self.stamp)?;
        Some(stripe.swap_remove(place).state)
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// One that is allowed to store its value.
pub(super) struct Storing<'l>(Load<'l>);

impl Storing<'_> {
    /// B5 and, if what has been stored is outdated by now, B6: `remove` removes it. Should that panic, it
    /// stays a suspect, and nobody sees it.
    pub(super) fn end(self, remove: impl FnOnce()) {
        let Self(load) = self;
        let (loads, stamp, state) = (load.loads, load.stamp, load.leave());
        // It has left.
        mem::forget(load);
        let is_suspect = state == Some(State::Suspect);
        if is_suspect || !loads.is_above_floor(stamp) {
            remove();
        }
        if is_suspect {
            loads.suspect(|suspects| suspects.retain(|suspect| *suspect != stamp));
        }
    }
}

#[cfg(loom)]
impl Loads {
    /// Whether nothing is left here.
    pub(super) fn is_idle(&self) -> bool {
        self.stripes.iter().all(|stripe| lock(stripe).is_empty()) && lock(&self.suspects).is_empty()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn stored(loads: &Loads, hash: u64) -> Storing<'_> {
        loads.begin(hash).begin_to_store().expect("nothing has voided it")
    }

    fn is_idle(loads: &Loads) -> bool {
        loads.stripes.iter().all(|stripe| lock(stripe).is_empty())
            && lock(&loads.suspects).is_empty()
            && loads.front.suspected.load(Ordering::Relaxed) == 0
    }

    /// Two suspects at once: each is cleared by itself.
    #[test]
    fn a_suspect_stays_one_while_another_is_cleared() {
        let loads = Loads::new();
        let (one, other) = (stored(&loads, 1), stored(&loads, 2));
        let (of_one, of_other) = (one.0.stamp(), other.0.stamp());
        assert!(loads.vouch_for(of_one, &loads.watch()));
        loads.void(1);
        loads.void(2);
        assert!(!loads.vouch_for(of_one, &loads.watch()));
        let mut removed = 0;
        one.end(|| removed += 1);
        assert!(loads.vouch_for(of_one, &loads.watch()), "its value is gone");
        assert!(!loads.vouch_for(of_other, &loads.watch()));
        other.end(|| removed += 1);
        assert_eq!(removed, 2);
        assert!(is_idle(&loads));
    }

    /// Of loads with one hash the last may store; of others all.
    #[test]
    fn a_load_voids_those_before_it() {
        let loads = Loads::new();
        let (older, stranger, newer) = (loads.begin(1), loads.begin(2), loads.begin(1));
        assert!(older.begin_to_store().is_none());
        stranger
            .begin_to_store()
            .expect("it has another hash")
            .end(|| unreachable!("it is honest"));
        newer.begin_to_store().expect("none came later").end(|| unreachable!("it is honest"));
        assert!(is_idle(&loads));
    }

    /// What was loaded before all was invalidated is removed by whoever stores it nevertheless.
    #[test]
    fn what_is_below_the_floor_is_removed() {
        let loads = Loads::new();
        let (load, storing) = (loads.begin(1), stored(&loads, 2));
        loads.void_all();
        assert!(!loads.vouch_for(storing.0.stamp(), &loads.watch()));
        let mut removed = 0;
        storing.end(|| removed += 1);
        load.begin_to_store().expect("it is not voided").end(|| removed += 1);
        assert_eq!(removed, 2);
        stored(&loads, 1).end(|| unreachable!("it began later"));
        assert!(is_idle(&loads));
    }

    /// Loads that are dropped, and such as are leaked and then invalidated, leave nothing.
    #[test]
    fn loads_that_do_not_end_leave_nothing() {
        let loads = Loads::new();
        for hash in 0..100_000 {
            drop(loads.begin(hash));
        }
        drop(stored(&loads, 1));
        mem::forget(loads.begin(1));
        assert!(!is_idle(&loads));
        loads.void(1);
        assert!(is_idle(&loads));
    }
}
