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
//!   (none) ────────▶ loading ────────────────▶ storing ────────▶ (none)
//!                       │ void                    │ void            ▲
//!                       ▼                         ▼       end       │
//!                    (none), and             a suspect ───▶ removed ┘
//!                   is never stored
//! ```
//!
//! - **load**: B1 `begin` draws the stamp, and enters it in the place of an older load of the key, which is
//!   void; B2 the user's work runs; B3 `begin_to_store` marks it as *storing*, unless it is void; B4 the value
//!   goes into the store, with the stamp; B5 `end` takes the entry away; B6 if it is a suspect, or below the
//!   floor by now, what it stored is removed from the store, and then it is cleared of suspicion.
//! - **invalidate(key)**: I1 `void` takes the key's entry away, whose load is void; one that was storing is a
//!   *suspect*; I2 what is in the store is removed; I3 the flight is forgotten.
//! - **insert(key)** is a load whose work has been done (B1, B3 to B6), and then I3. If B3 does not let it store, what
//!   is older is removed (B6) before that.
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
//! That I1 voids by the key's hash, not by the key, costs another load to a key whose hash is the same. That B6
//! removes in two steps (look whether it is newer, remove) may remove what another load has
//! just stored. Both are misses, and nothing is ever stale by them.
//!
//! **Memory order.** That a flight which I3 does not find has begun later is a matter of two words: I2 writes one and
//! I3 reads the other, M2 writes the other and M3 reads the one. So there is a sequentially consistent fence
//! between I2 and I3, or A2 and A3, and one between M2 and M3. A load that begins after I1, or after A1, sees what
//! happened before the invalidation, like the write to the database that it was for: by the stripe's mutex, or by
//! the counter of stamps. The models of `loom-tests/cache.rs` check all of this, and `loom-tests/README.md` lists
//! what they find if a step is left out or moved.

use std::{collections::HashMap, hash::BuildHasherDefault, mem};

use ahash::AHasher;

use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// When a load began, among all loads of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

/// The latest load of a hash.
struct Entry {
    stamp: Stamp,
    is_storing: bool,
}

/// By hash. A part of all of them, so that loads which begin at once seldom wait for one another.
type Stripe = Mutex<HashMap<u64, Entry, BuildHasherDefault<AHasher>>>;

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
            stripes: (0..STRIPES).map(|_| Mutex::new(HashMap::default())).collect(),
        }
    }

    /// B1: what is done from here on until the load is dropped makes its value.
    pub(super) fn begin(&self, hash: u64) -> Load<'_> {
        let mut stripe = lock(self.stripe(hash));
        // AcqRel: pairs with that of `void_all`, so that a load above the floor sees what was before that.
        let stamp = Stamp(self.next.fetch_add(1, Ordering::AcqRel));
        self.void_entry(stripe.insert(hash, Entry { stamp, is_storing: false }));
        Load { loads: self, hash, stamp }
    }

    /// I1.
    pub(super) fn void(&self, hash: u64) {
        let mut stripe = lock(self.stripe(hash));
        self.void_entry(stripe.remove(&hash));
    }

    /// Of one that was taken out of its stripe, which is still locked: it is a suspect before it can be cleared.
    /// Who has not begun to store finds that it is not there, and does not.
    fn void_entry(&self, entry: Option<Entry>) {
        if let Some(Entry { stamp, is_storing: true }) = entry {
            self.suspect(|suspects| suspects.push(stamp));
        }
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
            0 => Watch(None),
            _ => self.watch_closely(),
        }
    }

    #[cold]
    fn watch_closely(&self) -> Watch {
        Watch(Some(lock(&self.suspects).as_slice().into()))
    }

    /// L3.
    #[inline]
    pub(super) fn vouch_for(&self, stamp: Stamp, watch: &Watch) -> bool {
        self.is_above_floor(stamp) && !watch.0.as_ref().is_some_and(|seen| seen.contains(&stamp))
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
pub(super) struct Watch(Option<Box<[Stamp]>>);

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
        if !self.loads.is_above_floor(self.stamp) {
            return None;
        }
        let is_storing = {
            let mut stripe = lock(self.loads.stripe(self.hash));
            let own = stripe.get_mut(&self.hash).filter(|entry| entry.stamp == self.stamp);
            own.map(|entry| entry.is_storing = true).is_some()
        };
        is_storing.then(|| Storing(self))
    }

    /// B5. Says whether it has been voided.
    fn leave(&self) -> bool {
        let mut stripe = lock(self.loads.stripe(self.hash));
        let is_there = stripe.get(&self.hash).is_some_and(|entry| entry.stamp == self.stamp);
        if is_there {
            stripe.remove(&self.hash);
        }
        !is_there
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
        let (loads, stamp, is_suspect) = (load.loads, load.stamp, load.leave());
        // It has left.
        mem::forget(load);
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
    use std::{
        future::{pending, ready},
        panic::{AssertUnwindSafe, catch_unwind},
        pin::pin,
        task::{Context, Waker},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::cache::ReadThrough;

    impl Loads {
        fn entries(&self) -> usize {
            self.stripes.iter().map(|stripe| lock(stripe).len()).sum()
        }

        fn assert_empty(&self) {
            assert_eq!(self.entries(), 0);
            assert_eq!(*lock(&self.suspects), []);
            assert_eq!(self.front.suspected.load(Ordering::Relaxed), 0);
        }
    }

    /// Whether what this load has stored is seen by a look that begins now.
    fn is_seen(loads: &Loads, stamp: Stamp) -> bool {
        loads.vouch_for(stamp, &loads.watch())
    }

    fn honest() {
        unreachable!("nobody has invalidated it");
    }

    #[test]
    fn a_load_stores_and_ends() {
        let loads = Loads::new();
        let (first, second) = (loads.begin(1), loads.begin(2));
        assert!(first.stamp() < second.stamp());
        assert_eq!(loads.entries(), 2);
        drop(second);
        assert_eq!(loads.entries(), 1);
        let stamp = first.stamp();
        let storing = first.begin_to_store().expect("it is good");
        assert_eq!(loads.entries(), 1);
        assert!(is_seen(&loads, stamp));
        storing.end(honest);
        assert!(is_seen(&loads, stamp));
        loads.assert_empty();
    }

    /// Of loads with the same hash; others in the same stripe are left alone.
    #[test]
    fn a_load_that_was_invalidated_does_not_store() {
        let loads = Loads::new();
        let ways: [fn(&Loads); 3] =
            [|loads| loads.void(1), Loads::void_all, |loads| drop(loads.begin(1))];
        for (i, way) in ways.into_iter().enumerate() {
            let (load, neighbour) = (loads.begin(1), loads.begin(1 + STRIPES as u64));
            way(&loads);
            assert!(load.begin_to_store().is_none());
            assert_eq!(loads.entries(), 1);
            let is_all = i == 1;
            match neighbour.begin_to_store() {
                Some(storing) => storing.end(honest),
                None => assert!(is_all),
            }
            loads.assert_empty();
            loads.begin(1).begin_to_store().expect("it began afterwards").end(honest);
        }
    }

    /// It is a suspect until what it has stored has been removed, and no longer.
    #[test]
    fn a_load_that_was_invalidated_while_it_stored_is_a_suspect_until_it_is_removed() {
        let loads = Loads::new();
        let ways: [fn(&Loads); 2] = [|loads| loads.void(1), |loads| drop(loads.begin(1))];
        for way in ways {
            let load = loads.begin(1);
            let (stamp, storing) = (load.stamp(), load.begin_to_store().expect("it is good"));
            let before = loads.watch();
            way(&loads);
            way(&loads);
            assert_eq!(*lock(&loads.suspects), [stamp], "once");
            assert!(!is_seen(&loads, stamp));
            assert!(loads.vouch_for(stamp, &before), "this look began before");
            let mut removed = false;
            let during = loads.watch();
            storing.end(|| {
                assert_eq!(loads.entries(), 0);
                assert!(!is_seen(&loads, stamp));
                removed = true;
            });
            assert!(removed && !loads.vouch_for(stamp, &during));
            loads.assert_empty();
        }
    }

    /// What `void_all` invalidates needs no suspects.
    #[test]
    fn what_is_below_the_floor_is_not_seen() {
        let loads = Loads::new();
        let load = loads.begin(1);
        let (stamp, storing) = (load.stamp(), load.begin_to_store().expect("it is good"));
        let before = loads.watch();
        loads.void_all();
        assert!(!is_seen(&loads, stamp) && !loads.vouch_for(stamp, &before));
        let mut removed = false;
        storing.end(|| removed = true);
        assert!(removed, "nobody can see it");
        loads.assert_empty();
        assert!(!is_seen(&loads, stamp));
        assert!(is_seen(&loads, loads.begin(1).stamp()));
    }

    /// Two suspects at once: each is cleared by itself.
    #[test]
    fn a_suspect_stays_one_while_another_is_cleared() {
        let loads = Loads::new();
        let (one, other) = (loads.begin(1), loads.begin(2));
        let (of_one, of_other) = (one.stamp(), other.stamp());
        let one = one.begin_to_store().expect("it is good");
        let other = other.begin_to_store().expect("it is good");
        loads.void(1);
        loads.void(2);
        assert!(!is_seen(&loads, of_one));
        one.end(|| ());
        assert!(is_seen(&loads, of_one), "it has been removed");
        assert!(!is_seen(&loads, of_other));
        other.end(|| ());
        loads.assert_empty();
    }

    /// One whose future was leaked leaves its entry to the next invalidation.
    #[test]
    fn a_leaked_load_is_gone_with_the_next_invalidation() {
        let loads = Loads::new();
        mem::forget(loads.begin(1));
        assert_eq!(loads.entries(), 1);
        loads.void(1);
        loads.assert_empty();
    }

    #[test]
    fn a_removal_that_panics_leaves_a_suspect() {
        let loads = Loads::new();
        let load = loads.begin(1);
        let (stamp, storing) = (load.stamp(), load.begin_to_store().expect("it is good"));
        loads.void(1);
        let removal = AssertUnwindSafe(|| storing.end(|| std::panic::resume_unwind(Box::new(1))));
        assert!(catch_unwind(removal).is_err());
        assert_eq!(loads.entries(), 0);
        assert!(!is_seen(&loads, stamp));
    }

    #[test]
    fn threads_leave_nothing() {
        let loads = Loads::new();
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let loads = &loads;
                scope.spawn(move || {
                    for i in 0..10_000_u64 {
                        let hash = i % 3;
                        match (i + thread) % 7 {
                            0 => loads.void(hash),
                            1 if i % 10 == 0 => loads.void_all(),
                            2 => drop(loads.begin(hash)),
                            _ => {
                                let storing = loads.begin(hash).begin_to_store();
                                if thread == 0 {
                                    thread::yield_now();
                                }
                                if let Some(storing) = storing {
                                    storing.end(|| ());
                                }
                            }
                        }
                        assert!(loads.entries() <= 4);
                    }
                });
            }
        });
        loads.assert_empty();
    }

    fn poll<T>(future: impl Future<Output = T>) -> Option<T> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    /// Whatever becomes of the loads of a cache.
    #[test]
    fn a_cache_leaves_nothing() {
        let cache: ReadThrough<u64, u64, ()> = ReadThrough::builder()
            .soft_ttl(Duration::ZERO)
            .negative_ttl(Duration::from_secs(60))
            .settings(|moka| {
                moka.weigher(|key, _| {
                    assert_ne!(*key, 13, "too heavy");
                    1
                })
            })
            .build();
        let assert_empty = || cache.core.loads.assert_empty();
        for key in 0..100_000 {
            assert!(poll(cache.get(&key, pending())).is_none());
        }
        assert_empty();
        let load = cache.get(&1, async {
            assert_eq!(cache.core.loads.entries(), 1);
            Ok(1)
        });
        assert_eq!(poll(load), Some(Ok(1)));
        assert_empty();
        assert_eq!(poll(cache.get(&1, ready(Err(())))), Some(Ok(1)), "a pause is stored");
        assert_eq!(poll(cache.get(&2, ready(Err(())))), Some(Err(())), "an error is stored");
        cache.insert(&3, 3);
        assert_empty();
        let batch = |_| ready([(4, Ok(4)), (5, Err(())), (7, Ok(7))]);
        assert_eq!(poll(cache.get_many([4, 5, 6], batch)).expect("ready").len(), 2);
        assert!(poll(cache.get_many([3, 8, 9], |_| pending::<[_; 0]>())).is_none());
        assert_empty();
        let panics = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());
        panics(&|| _ = cache.get_blocking(&10, || panic!("the load")));
        panics(&|| _ = poll(cache.get(&10, async { panic!("the load") })));
        panics(&|| cache.insert(&13, 1));
        panics(&|| _ = cache.get_blocking(&13, || Ok(1)));
        let load = |keys: Vec<u64>| async move { keys.into_iter().map(|key| (key, Ok(key))) };
        panics(&|| drop(poll(cache.get_many([11, 13, 15], load))));
        assert_empty();
        let invalidated = cache.get_blocking(&16, || {
            cache.invalidate(&16);
            cache.insert(&16, 2);
            cache.invalidate_all();
            Ok(1)
        });
        assert_eq!(invalidated, Ok(1));
        assert_empty();
    }
}
