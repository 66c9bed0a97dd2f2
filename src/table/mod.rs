//! From keys to flights: all concurrent state that a group has, as whole atomic steps.
//!
//! Nothing outside this module knows that there are cells and a map, and no lock is ever held when a
//! step returns. The steps are those of the [protocol](crate::flight). There are two places for a
//! flight:
//!
//! - [`cells`], for those that nobody joins: one atomic word for each cell, which points into the
//!   leader's own future. To begin and to end a flight there takes no lock.
//! - the map, for all others, behind the locks of its shards. A lock covers its shard of the map and
//!   the cells that belong to it, so that a flight can move from one to the other.
//!
//! The map is one of two backends with the same face: [`shards`], which is dashmap, and [`single`],
//! one mutex and a list, which loom can see into. Under `--cfg loom` the latter replaces the former,
//! because loom would take what happens inside dashmap for a single instant and pass a model with a
//! real race. The cells are the same code in both.
//!
//! What runs under a lock: `Eq` and `ToOwned` of the key, and code of this crate that waits for
//! nothing but, when a shared flight is forgotten, the mutex of the detached ones. Keys, values and
//! work are moved out and dropped after it.

mod cells;
#[cfg(all(test, not(loom)))]
mod contract;
mod hash;
mod map;
#[cfg(not(loom))]
mod shards;
#[cfg(any(loom, test))]
mod single;

#[cfg(not(loom))]
use self::shards::Shards as Backend;
#[cfg(loom)]
use self::single::Single as Backend;

use std::{borrow::Borrow, collections::BTreeMap, hash::Hash, marker::PhantomData, pin::Pin};

pub(crate) use self::{cells::Node, hash::KeyHash};
use self::{
    cells::{Cells, Look, Moved, Place},
    map::{Map, Shard, Slot},
};
use crate::{
    flight::{Flight, FlightId, reentry, state::OnCancel},
    sync::{Arc, Mutex, lock},
};

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

/// Cells of a group that asks for no capacity.
#[cfg(not(loom))]
const CELLS: usize = 4096;
/// As few as can be, so that keys of a model meet in one, if it asks for as few shards.
#[cfg(loom)]
const CELLS: usize = 2;

/// 512 MiB of them.
const CELLS_MAX: usize = 1 << 26;

/// Of the capacity, one in so many has room in the map from the beginning. It grows as needed.
const MAP_SHARE: usize = 4;

pub(crate) struct Table<K, V, M = Backend<K, V>> {
    cells: Cells<K>,
    map: M,
    /// Shared flights that were forgotten, until they end. A first leader does not know its
    /// followers, and looks for them here when its slot is gone. Locked inside a shard's lock or
    /// alone, and only by `forget` and by what was forgotten.
    detached: Mutex<BTreeMap<FlightId, Arc<Flight<V>>>>,
    _key: PhantomData<K>,
}

/// A critical section: a shard, and one of its cells. Dropped in this order.
struct Locked<'t, K, S> {
    cell: Look<'t, K>,
    shard: S,
}

impl<K, V, M> Table<K, V, M>
where
    K: Eq + Hash,
    M: Map<K, V>,
{
    pub(crate) fn new(shards: usize, capacity: usize) -> Self {
        Self::with_cells(shards, cell_bits(shards, capacity), capacity)
    }

    /// `shards` is a power of two, and there are 2 to the power of `cell_bits` cells, no fewer.
    fn with_cells(shards: usize, cell_bits: u32, capacity: usize) -> Self {
        Self {
            cells: Cells::new(cell_bits),
            // What is joined, and what meets too many others in one cell: a part of all.
            map: M::new(shards, capacity / MAP_SHARE),
            detached: Mutex::new(BTreeMap::new()),
            _key: PhantomData,
        }
    }

    fn shard_bits(&self) -> u32 {
        self.map.shards().trailing_zeros()
    }

    fn lock(&self, hash: KeyHash) -> Locked<'_, K, M::Shard<'_>> {
        let shard = self.map.lock(hash.leading(self.shard_bits()));
        // SAFETY: the lock of the hash's shard is taken, and released after the look is dropped.
        #[allow(unsafe_code, reason = "the only place that looks at cells")]
        let cell = unsafe { self.cells.look(hash) };
        Locked { cell, shard }
    }

    /// Step 1. If the caller leads, the node may be in the table until `close` or `abandon`.
    #[inline(always)]
    pub(crate) fn enter<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        who: OnCancel,
        mut node: Pin<&mut Node<K>>,
    ) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        // A caller that finds somebody there makes no copy of its key.
        if self.cells.is_empty(hash) {
            let id = self.map.next_id();
            node.as_mut().fill(key.to_owned(), id, hash);
            if self.cells.claim(hash, node.as_mut()) {
                return Entered::Lead(id);
            }
        }
        self.enter_locked(hash, key, who, node)
    }

    #[cold]
    #[inline(never)]
    fn enter_locked<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        who: OnCancel,
        mut node: Pin<&mut Node<K>>,
    ) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        loop {
            // Of a claim that failed. Taken before the lock, to be dropped after it.
            let spare = node.as_mut().take_key();
            let mut locked = self.lock(hash);
            if let Some(found) = locked.cell.find(hash, |k| k.borrow() == key) {
                return Self::share(&mut locked, found.id, who);
            }
            if locked.cell.is_crowded()
                && let Some(slot) = locked.shard.get(hash, |k, _| k.borrow() == key)
            {
                return Self::join(hash, slot, who);
            }
            // Under the lock, so that a caller that joins makes no copy. If it panics, nothing has
            // changed.
            let (key, id) = (spare.unwrap_or_else(|| key.to_owned()), self.map.next_id());
            match locked.cell.place() {
                Place::Chain => {
                    node.as_mut().fill(key, id, hash);
                    locked.cell.push(hash, node);
                    return Entered::Lead(id);
                }
                Place::Map => {
                    locked.move_to_map(|id, hash| Slot::Solo { hash, id });
                    locked.cell.add();
                    locked.shard.insert(key, Slot::Solo { hash, id });
                    return Entered::Lead(id);
                }
                Place::Empty => {
                    node.as_mut().fill(key, id, hash);
                    if self.cells.claim(hash, node.as_mut()) {
                        return Entered::Lead(id);
                    }
                }
            }
            // Somebody else has claimed the empty cell meanwhile, and needed no lock for it.
        }
    }

    /// The first to join a flight in a cell: it moves to the map, where there is room for more.
    fn share(locked: &mut Locked<'_, K, M::Shard<'_>>, id: FlightId, who: OnCancel) -> Entered<V> {
        if reentry::is_within(id) {
            return Entered::Reentrant;
        }
        let flight = Arc::new(Flight::new(id, who));
        locked.move_to_map(|each, hash| match each == id {
            true => Slot::Shared { hash, flight: Arc::clone(&flight) },
            false => Slot::Solo { hash, id: each },
        });
        Entered::Follow(flight, 0)
    }

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

    /// Fetches what `close` will need, while something else goes on.
    #[inline(always)]
    pub(crate) fn expect_end(&self, hash: KeyHash) {
        self.cells.prefetch(hash);
    }

    /// Step 2, its locked part: by id, so that a newer flight of the key stays (G5). The number of
    /// followers is read in the critical section that ends joining, which makes it final (G3).
    /// `None` if there are none.
    #[inline(always)]
    pub(crate) fn close(
        &self,
        hash: KeyHash,
        id: FlightId,
        mut node: Pin<&mut Node<K>>,
        own: Option<Arc<Flight<V>>>,
    ) -> Option<Closed<K, V>> {
        if self.release(hash, node.as_mut()) {
            None
        } else {
            self.close_locked(hash, id, node, own)
        }
    }

    /// Ends a flight that began in its cell and that nobody has looked at, so that nobody has joined.
    /// Its key is dropped here.
    #[inline(always)]
    fn release(&self, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let released = node.is_claimed() && self.cells.release(hash, node.as_mut());
        if released {
            node.take_key();
        }
        released
    }

    /// The same with the lock, for one that others have looked at. `None` if that was all; otherwise
    /// the flight is not in its cell, or not any more.
    fn release_locked(
        &self,
        hash: KeyHash,
        node: Pin<&mut Node<K>>,
    ) -> Option<Locked<'_, K, M::Shard<'_>>> {
        let mut locked = self.lock(hash);
        let key = locked.release(node);
        if key.is_none() {
            return Some(locked);
        }
        drop(locked);
        drop(key);
        None
    }

    #[cold]
    #[inline(never)]
    fn close_locked(
        &self,
        hash: KeyHash,
        id: FlightId,
        node: Pin<&mut Node<K>>,
        own: Option<Arc<Flight<V>>>,
    ) -> Option<Closed<K, V>> {
        let mut locked = self.release_locked(hash, node)?;
        let removed = locked.remove(hash, id);
        let followers = removed.as_ref().map_or(0, |(_, slot)| slot.followers());
        drop(locked);
        match removed {
            Some((_, Slot::Solo { .. })) => None,
            Some((key, Slot::Shared { flight, .. })) => {
                (followers > 0).then_some(Closed { flight, followers, key: Some(key) })
            }
            None => self.close_detached(id, own).filter(|closed| closed.followers > 0),
        }
    }

    /// The flight was forgotten: nobody has been able to join since, so its count is final, too.
    fn close_detached(&self, id: FlightId, own: Option<Arc<Flight<V>>>) -> Option<Closed<K, V>> {
        let detached = lock(&self.detached).remove(&id);
        let flight = own.or(detached)?;
        let followers = flight.snapshot().followers();
        Some(Closed { flight, followers, key: None })
    }

    /// Step 3. The work has been dropped.
    #[cold]
    pub(crate) fn abandon(
        &self,
        hash: KeyHash,
        id: FlightId,
        mut node: Pin<&mut Node<K>>,
        own: Option<Arc<Flight<V>>>,
    ) {
        if self.release(hash, node.as_mut()) {
            return;
        }
        let Some(mut locked) = self.release_locked(hash, node) else { return };
        let mut removed = None;
        let abandoned = match locked.shard.get(hash, |_, slot| slot.id() == id) {
            Some(Slot::Solo { .. }) => {
                removed = locked.remove(hash, id);
                None
            }
            Some(Slot::Shared { flight, .. }) => {
                let flight = Arc::clone(flight);
                let left = flight.abandon();
                if left.is_dead() {
                    removed = locked.remove(hash, id);
                }
                Some((flight, left))
            }
            None => {
                drop(locked);
                self.abandon_detached(id, own);
                return;
            }
        };
        drop(locked);
        if let Some((flight, left)) = abandoned {
            flight.wake_successors(left);
        }
        drop(removed);
    }

    fn abandon_detached(&self, id: FlightId, own: Option<Arc<Flight<V>>>) {
        if let Some(Closed { flight, .. }) = self.close_detached(id, own) {
            let left = flight.abandon();
            flight.wake_successors(left);
        }
    }

    /// Step 5, its locked part: removes the slot of a flight that somebody saw dead, unless a
    /// newcomer has led it out of there.
    #[cold]
    pub(crate) fn bury(&self, hash: KeyHash, flight: &Arc<Flight<V>>) {
        let id = flight.id();
        let mut locked = self.lock(hash);
        if locked.shard.get(hash, |_, slot| slot.id() == id).is_none() {
            drop(locked);
            // Detached flights get no newcomers: dead they stay.
            drop(self.close_detached(id, None));
        } else if flight.snapshot().is_dead() {
            let removed = locked.remove(hash, id);
            drop(locked);
            drop(removed);
        }
    }

    /// Step 6.
    pub(crate) fn forget<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        self.cut_loose(hash, key, |_| true)
    }

    /// Step 6 for a flight without followers.
    pub(crate) fn forget_unshared<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        self.cut_loose(hash, key, |slot| slot.followers() == 0)
    }

    fn cut_loose<Q>(&self, hash: KeyHash, key: &Q, if_: impl FnOnce(&Slot<V>) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        if self.cells.is_empty(hash) {
            return false;
        }
        let mut locked = self.lock(hash);
        if let Some(found) = locked.cell.find(hash, |k| k.borrow() == key) {
            let removed = locked.cell.remove(&found);
            drop(locked);
            drop(removed);
            return true;
        }
        let Some(slot) = locked.shard.get(hash, |k, _| k.borrow() == key) else { return false };
        if !if_(slot) {
            return false;
        }
        let id = slot.id();
        if let Slot::Shared { flight, .. } = slot {
            // In the same critical section: the leader finds it in one place or the other.
            lock(&self.detached).insert(id, Arc::clone(flight));
        }
        let removed = locked.remove(hash, id);
        drop(locked);
        drop(removed);
        true
    }

    pub(crate) fn contains<Q>(&self, hash: KeyHash, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq,
    {
        if self.cells.is_empty(hash) {
            return false;
        }
        let mut locked = self.lock(hash);
        locked.cell.find(hash, |k| k.borrow() == key).is_some()
            || locked.shard.get(hash, |k, _| k.borrow() == key).is_some()
    }

    /// One shard after the other. Flights move between a cell and the map only under the lock, so
    /// none is counted twice or missed for moving.
    pub(crate) fn len(&self) -> usize {
        (0..self.map.shards()).map(|i| self.count(i, &self.map.lock(i))).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        (0..self.map.shards()).all(|i| self.count(i, &self.map.lock(i)) == 0)
    }

    /// `None` if that would mean to wait for a lock.
    pub(crate) fn try_len(&self) -> Option<usize> {
        (0..self.map.shards()).map(|i| Some(self.count(i, &self.map.try_lock(i)?))).sum()
    }

    fn count(&self, i: usize, shard: &M::Shard<'_>) -> usize {
        // SAFETY: the shard is locked.
        #[allow(unsafe_code, reason = "looks into cells")]
        let in_cells = unsafe { self.cells.count(i, self.shard_bits()) };
        shard.len() + in_cells
    }
}

impl<K, S> Locked<'_, K, S> {
    /// Ends the flight of this node, if it began in a cell and still is there.
    fn release(&mut self, node: Pin<&mut Node<K>>) -> Option<K> {
        if node.is_claimed() { self.cell.release(node) } else { None }
    }

    /// Moves all flights in the cell to the map.
    fn move_to_map<V>(&mut self, slot: impl Fn(FlightId, KeyHash) -> Slot<V>)
    where
        S: Shard<K, V>,
    {
        while let Some(Moved { key, id, hash }) = self.cell.pop() {
            self.shard.insert(key, slot(id, hash));
        }
    }

    /// Takes a flight out of the map.
    fn remove<V>(&mut self, hash: KeyHash, id: FlightId) -> Option<(K, Slot<V>)>
    where
        S: Shard<K, V>,
    {
        let removed = self.shard.remove(hash, |_, slot| slot.id() == id)?;
        self.cell.sub();
        Some(removed)
    }
}

/// How many cells, as a power of two: four for each key at least, so that a key seldom finds another
/// in its cell.
fn cell_bits(shards: usize, capacity: usize) -> u32 {
    let wanted = capacity.saturating_mul(4).clamp(CELLS, CELLS_MAX).max(shards);
    wanted.next_power_of_two().trailing_zeros()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::pin::pin;

    use super::*;
    use crate::flight::Follower;

    /// G4, which no caller can see here: `len` does not count what was forgotten.
    #[test]
    fn g04_a_forgotten_flight_that_everybody_left_is_kept_nowhere() {
        let table: Table<u64, u64> = Table::new(2, 0);
        let hash = KeyHash::new(1);
        let who = OnCancel::TakeOver;
        let (mut node, no_node) = (pin!(Node::new()), pin!(Node::new()));
        let Entered::Lead(id) = table.enter(hash, &1, who, node.as_mut()) else {
            panic!("the key is free");
        };
        let Entered::Follow(flight, generation) = table.enter(hash, &1, who, no_node) else {
            panic!("the key is in flight");
        };
        let follower = Follower::new(&table, hash, who, flight, generation);
        table.abandon(hash, id, node, None);
        assert!(table.forget(hash, &1));
        assert_eq!(lock(&table.detached).len(), 1);
        drop(follower);
        assert!(lock(&table.detached).is_empty());
    }
}
