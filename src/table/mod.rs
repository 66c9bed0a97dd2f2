//! From keys to flights: all concurrent state that a group has, as whole atomic steps.
//!
//! Nothing outside this module knows that a map exists, and no lock is ever held when a step
//! returns. The steps are those of the [protocol](crate::flight); each *locked* one is one call of
//! the map below, which is one of two backends with the same face:
//!
//! - [`shards`]: dashmap, whose shards are locked one at a time;
//! - [`single`]: one mutex and a list, which loom can see into. Under `--cfg loom` it replaces the
//!   other, because loom would take what happens inside dashmap for a single instant and pass a
//!   model with a real race.
//!
//! What runs under a shard's lock: `Eq` and `ToOwned` of the key, and code of this crate that
//! waits for nothing but, when a shared flight is forgotten, the mutex of the detached ones. Keys, values and work are moved out and dropped after it.

#[cfg(all(test, not(loom)))]
mod contract;
#[cfg(not(loom))]
mod shards;
#[cfg(any(loom, test))]
mod single;

#[cfg(not(loom))]
use self::shards::Shards as Backend;
#[cfg(loom)]
use self::single::Single as Backend;

use std::{borrow::Borrow, collections::BTreeMap, hash::Hash};

use crate::{
    flight::{Flight, FlightId, reentry, state::OnCancel},
    sync::{Arc, Mutex, lock},
};

/// The part of a key's hash that the table uses, computed once and outside every lock.
///
/// 32 bits, so that a slot with its hash fits into 16 bytes: a map that grows must not call the
/// user's `Hash` under its lock. They serve 2^19 keys in each of 64 shards before bits are used
/// twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u32);

impl KeyHash {
    pub(crate) fn new(hash: u64) -> Self {
        // One multiplication (Knuth, "The Art of Computer Programming" 3, 6.4) spreads what a weak
        // hasher leaves in the low bits, as one that returns an integer key itself does.
        Self((hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32)
    }

    /// Spread over 64 bits, as hash tables take it: they choose by the lowest and by the highest.
    #[cfg(not(loom))]
    fn wide(self) -> u64 {
        u64::from(self.0) << 32 | u64::from(self.0)
    }
}

/// The table's entry for a key in flight.
pub(crate) enum Slot<V> {
    /// Nobody has joined: no `Flight` exists.
    Solo {
        hash: KeyHash,
        id: FlightId,
    },
    Shared {
        hash: KeyHash,
        flight: Arc<Flight<V>>,
    },
}

impl<V> Slot<V> {
    fn hash(&self) -> KeyHash {
        match self {
            Self::Solo { hash, .. } | Self::Shared { hash, .. } => *hash,
        }
    }

    fn id(&self) -> FlightId {
        match self {
            Self::Solo { id, .. } => *id,
            Self::Shared { flight, .. } => flight.id(),
        }
    }

    fn followers(&self) -> usize {
        match self {
            Self::Solo { .. } => 0,
            Self::Shared { flight, .. } => flight.snapshot().followers(),
        }
    }
}

/// What a locked look at a slot decided about it.
pub(crate) enum Verdict<R> {
    Keep(R),
    Remove(R),
}

/// What a look was decided upon, and what it removed.
pub(crate) type Looked<K, V, R> = (R, Option<(K, Slot<V>)>);

/// What the two backends have in common. Each call is one critical section of the key's shard.
pub(crate) trait Map<K, V> {
    /// `shards` is a power of two, at least 2; `capacity` is over all of them.
    fn new(shards: usize, capacity: usize) -> Self;

    /// Changes the slot of `key`, or puts a solo one there for a new flight.
    fn enter<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        occupied: impl FnOnce(&mut Slot<V>) -> R,
        vacant: impl FnOnce(FlightId) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>;

    /// Removes a slot and looks at it before anybody else can do anything in this shard.
    fn remove<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
        removed: impl FnOnce(&Slot<V>) -> R,
    ) -> Option<(K, Slot<V>, R)>;

    /// Looks at a slot and keeps or removes it.
    fn look<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
        decide: impl FnOnce(&Slot<V>) -> Verdict<R>,
    ) -> Option<Looked<K, V, R>>;

    /// The number of slots, one shard after the other.
    fn len(&self) -> usize;

    /// The same, or `None` if that would mean to wait for a lock.
    fn try_len(&self) -> Option<usize>;
}

/// What a caller found.
pub(crate) enum Entered<V> {
    /// It leads a new flight.
    Lead(FlightId),
    /// It leads a flight that nobody led.
    TakeOver(Arc<Flight<V>>),
    /// It follows, having joined in this generation.
    Follow(Arc<Flight<V>>, u32),
    /// It would wait for work on its own stack.
    Reentrant,
}

/// What is left of a followed flight when its slot is gone.
pub(crate) struct Closed<K, V> {
    pub(crate) flight: Arc<Flight<V>>,
    /// Of those still waiting when the slot went: nobody can have joined since.
    pub(crate) followers: usize,
    /// Kept for its `Drop` to run after everything else. A detached flight's is already gone.
    #[expect(dead_code, reason = "held for its Drop alone")]
    key: Option<K>,
}

pub(crate) struct Table<K, V, M = Backend<K, V>> {
    map: M,
    /// Shared flights that were forgotten, until they end. A first leader does not know its
    /// followers, and looks for them here when its slot is gone. Locked inside a shard's lock or
    /// alone, and only by `forget` and by what was forgotten.
    detached: Mutex<BTreeMap<FlightId, Arc<Flight<V>>>>,
    _key: std::marker::PhantomData<K>,
}

impl<K, V, M> Table<K, V, M>
where
    K: Eq + Hash,
    M: Map<K, V>,
{
    pub(crate) fn new(shards: usize, capacity: usize) -> Self {
        Self {
            map: M::new(shards, capacity),
            detached: Mutex::new(BTreeMap::new()),
            _key: std::marker::PhantomData,
        }
    }

    /// Step 1.
    #[inline(always)]
    pub(crate) fn enter<Q>(&self, hash: KeyHash, key: &Q, who: OnCancel) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        self.map.enter(hash, key, |slot| Self::join(hash, slot, who), Entered::Lead)
    }

    #[cold]
    #[inline(never)]
    fn join(hash: KeyHash, slot: &mut Slot<V>, who: OnCancel) -> Entered<V> {
        let id = slot.id();
        if reentry::is_within(id) {
            return Entered::Reentrant;
        }
        match slot {
            Slot::Solo { .. } => {
                let flight = Arc::new(Flight::new(id, who));
                *slot = Slot::Shared { hash, flight: Arc::clone(&flight) };
                Entered::Follow(flight, 0)
            }
            Slot::Shared { flight, .. } => match flight.join(who) {
                true => Entered::TakeOver(Arc::clone(flight)),
                false => Entered::Follow(Arc::clone(flight), flight.generation()),
            },
        }
    }

    /// Step 2, its locked part: by id, so that a newer flight of the key stays (G5). The number of
    /// followers is read in the critical section that ends joining, which makes it final (G3).
    /// `None` if there are none.
    #[inline(always)]
    pub(crate) fn close(
        &self,
        hash: KeyHash,
        id: FlightId,
        own: Option<Arc<Flight<V>>>,
    ) -> Option<Closed<K, V>> {
        match self.map.remove(hash, |_, slot| slot.id() == id, Slot::followers) {
            Some((_, Slot::Solo { .. }, _)) => None,
            Some((key, Slot::Shared { flight, .. }, followers)) => {
                (followers > 0).then_some(Closed { flight, followers, key: Some(key) })
            }
            None => self.close_detached(id, own).filter(|closed| closed.followers > 0),
        }
    }

    /// The flight was forgotten: nobody has been able to join since, so its count is final, too.
    #[cold]
    fn close_detached(&self, id: FlightId, own: Option<Arc<Flight<V>>>) -> Option<Closed<K, V>> {
        let detached = lock(&self.detached).remove(&id);
        let flight = own.or(detached)?;
        let followers = flight.snapshot().followers();
        Some(Closed { flight, followers, key: None })
    }

    /// Step 3. The work has been dropped.
    #[cold]
    pub(crate) fn abandon(&self, hash: KeyHash, id: FlightId, own: Option<Arc<Flight<V>>>) {
        let looked = self.map.look(
            hash,
            |_, slot| slot.id() == id,
            |slot| match slot {
                Slot::Solo { .. } => Verdict::Remove(None),
                Slot::Shared { flight, .. } => {
                    let left = flight.abandon();
                    let woken = Some((Arc::clone(flight), left));
                    if left.is_dead() { Verdict::Remove(woken) } else { Verdict::Keep(woken) }
                }
            },
        );
        let (woken, _removed) = looked.unwrap_or_else(|| {
            let woken = self.close_detached(id, own).map(|Closed { flight, .. }| {
                let left = flight.abandon();
                (flight, left)
            });
            (woken, None)
        });
        if let Some((flight, left)) = woken {
            flight.wake_successors(left);
        }
    }

    /// Step 5, its locked part: removes the slot of a flight that somebody saw dead, unless a
    /// newcomer has led it out of there.
    #[cold]
    pub(crate) fn bury(&self, hash: KeyHash, flight: &Arc<Flight<V>>) {
        let id = flight.id();
        let looked = self.map.look(
            hash,
            |_, slot| slot.id() == id,
            |_| {
                if flight.snapshot().is_dead() { Verdict::Remove(()) } else { Verdict::Keep(()) }
            },
        );
        if looked.is_none() {
            // Detached flights get no newcomers: dead they stay.
            drop(self.close_detached(id, None));
        }
    }

    /// Step 6.
    pub(crate) fn forget<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        let removed = self.map.remove(
            hash,
            |k, _| k.borrow() == key,
            |slot| {
                if let Slot::Shared { flight, .. } = slot {
                    // In the same critical section: the leader finds it in one place or the other.
                    lock(&self.detached).insert(flight.id(), Arc::clone(flight));
                }
            },
        );
        removed.is_some()
    }

    /// Step 6 for a flight without followers, which nothing needs to reach afterwards.
    pub(crate) fn forget_unshared<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        let looked = self.map.look(
            hash,
            |k, _| k.borrow() == key,
            |slot| match slot.followers() {
                0 => Verdict::Remove(()),
                _ => Verdict::Keep(()),
            },
        );
        looked.is_some_and(|((), removed)| removed.is_some())
    }

    pub(crate) fn contains<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        self.map.look(hash, |k, _| k.borrow() == key, |_| Verdict::Keep(())).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn try_len(&self) -> Option<usize> {
        self.map.try_len()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::flight::Follower;

    #[test]
    fn a_slot_with_its_hash_takes_16_bytes() {
        assert_eq!(size_of::<Slot<String>>(), 16);
    }

    /// G4, which no caller can see here: `len` does not count what was forgotten.
    #[test]
    fn g04_a_forgotten_flight_that_everybody_left_is_kept_nowhere() {
        let table: Table<u64, u64> = Table::new(2, 0);
        let hash = KeyHash::new(1);
        let Entered::Lead(id) = table.enter(hash, &1, OnCancel::TakeOver) else {
            panic!("the key is free");
        };
        let Entered::Follow(flight, generation) = table.enter(hash, &1, OnCancel::TakeOver) else {
            panic!("the key is in flight");
        };
        let follower = Follower::new(&table, hash, OnCancel::TakeOver, flight, generation);
        table.abandon(hash, id, None);
        assert!(table.forget(hash, &1));
        assert_eq!(lock(&table.detached).len(), 1);
        drop(follower);
        assert!(lock(&table.detached).is_empty());
    }

    #[test]
    fn weak_hashes_spread_over_shards_and_buckets() {
        let mut shards = std::collections::HashSet::new();
        for weak in 0..64_u64 {
            shards.insert(KeyHash::new(weak).wide() << 7 >> 58);
        }
        assert!(shards.len() > 32, "64 neighbouring integers share {} shards", shards.len());
    }
}
