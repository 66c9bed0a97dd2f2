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
mod clock;
#[cfg(all(test, not(loom)))]
mod contract;
mod hash;
mod in_flight;
mod map;
#[cfg(not(loom))]
mod shards;
#[cfg(any(loom, test))]
mod single;
mod sweep;
mod watched;

#[cfg(not(loom))]
use self::shards::Shards as Backend;
#[cfg(loom)]
use self::single::Single as Backend;

use std::{
    borrow::Borrow, collections::BTreeMap, hash::Hash, marker::PhantomData, pin::Pin,
    time::Duration,
};

pub(crate) use self::{cells::Node, clock::Stamp, hash::KeyHash, watched::End};
use self::{
    cells::{Cells, Look, Moved, Place, Spot},
    clock::Clock,
    map::{Map, Shard, Slot},
};
use crate::{
    flight::{Ask, Flight, FlightId, Joined, Relay, Ticket, reentry, state::Who},
    observer::Watch,
    sync::{Arc, Mutex, lock},
};

/// How whoever has to do with a flight finds its table again: by reference or, if it may outlive the
/// caller, as a handle of the group.
pub(crate) trait Reach: Clone {
    type K: Eq + Hash;
    type V;

    fn table(&self) -> &Table<Self::K, Self::V>;
}

impl<K: Eq + Hash, V> Reach for &Table<K, V> {
    type K = K;
    type V = V;

    #[inline(always)]
    fn table(&self) -> &Table<K, V> {
        self
    }
}

/// What a caller found.
pub(crate) enum Entered<V> {
    /// It leads a new flight.
    Lead(FlightId),
    /// It leads a flight that others know of.
    TakeOver(Arc<Flight<V>>),
    /// It leads a flight that must not begin yet.
    Pending(Arc<Flight<V>>),
    Follow(Arc<Flight<V>>, Ticket),
    /// There are too many followers for it.
    Full,
    /// It would wait for work on its own stack.
    Reentrant,
    /// It found one that it can neither lead nor follow.
    Gone(FlightId),
}

/// The key of a caller that does not know yet whether the table needs one.
pub(crate) trait Wanted<K> {
    fn is(&self, key: &K) -> bool;

    /// Asked for once.
    fn own(&mut self) -> K;
}

impl<K: Borrow<Q>, Q: ?Sized + Eq + ToOwned<Owned = K>> Wanted<K> for &Q {
    fn is(&self, key: &K) -> bool {
        key.borrow() == *self
    }

    fn own(&mut self) -> K {
        (*self).to_owned()
    }
}

/// A key that the caller gives away, unless it joins: then it is dropped when the caller has its place.
#[cfg(feature = "tokio")]
pub(crate) struct Given<K>(pub(crate) Option<K>);

#[cfg(feature = "tokio")]
impl<K: Eq> Wanted<K> for &mut Given<K> {
    fn is(&self, key: &K) -> bool {
        self.0.as_ref().is_some_and(|own| own == key)
    }

    fn own(&mut self) -> K {
        self.0.take().expect("asked for once")
    }
}

/// Where a flight begins that finds its key free.
enum Start<'n, K> {
    /// In its cell, if that has room.
    Node(Pin<&'n mut Node<K>>),
    /// In the map. Its leader may move.
    Map { is_shared: bool },
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

/// What the last follower to leave has done with a flight.
pub(crate) enum Buried<K, V> {
    /// There is work in it, to be dropped first: the follower has the lead.
    Led,
    /// It is over, or goes on with a newcomer. What was in the slot is kept for its `Drop` to run after
    /// everything else.
    Over(Option<Removed<K, V>>),
}

impl<K, V> Closed<K, V> {
    /// Whether the outcome is for anybody but the leader.
    fn is_awaited(&self) -> bool {
        self.followers > 0 || self.flight.has_audience()
    }
}

/// Cells of a group that asks for no capacity.
#[cfg(not(loom))]
const CELLS: usize = 4096;
/// As few as can be, so that keys of a model meet in one, if it asks for as few shards.
#[cfg(loom)]
const CELLS: usize = 2;

/// 512 MiB of them.
const CELLS_MAX: usize = 1 << 26;

/// So many flights of a shard may be in the map in any case, without asking for more cells.
#[cfg(not(loom))]
const FEW: usize = 16;
/// As many as there are in models of other things.
#[cfg(loom)]
const FEW: usize = 5;

/// Of the capacity, one in so many has room in the map from the beginning. It grows as needed.
const MAP_SHARE: usize = 4;

pub(crate) struct Table<K, V, M = Backend<K, V>> {
    cells: Cells<K>,
    map: M,
    /// Shared flights that were forgotten, until they end. A first leader does not know its
    /// followers, and looks for them here when its slot is gone. Locked inside a shard's lock or
    /// alone, and only by `forget` and by what was forgotten.
    detached: Mutex<BTreeMap<FlightId, Arc<Flight<V>>>>,
    clock: Clock,
    watch: Option<Watch>,
    _key: PhantomData<K>,
}

/// A flight that has been taken out of the map, to be dropped after unlocking.
pub(crate) struct Removed<K, V> {
    /// Unless it is still that of the next flight.
    key: Option<K>,
    slot: Slot<V>,
    /// The pending flight that has taken its place, and may begin. Its leader is yet to be called.
    promoted: Option<Arc<Flight<V>>>,
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
        // What is joined, and what meets too many others in one cell: a part of all.
        let map = M::new(shards, capacity / MAP_SHARE);
        Self {
            cells: Cells::new(map.shards().trailing_zeros(), cell_bits),
            map,
            detached: Mutex::new(BTreeMap::new()),
            clock: Clock::new(),
            watch: None,
            _key: PhantomData,
        }
    }

    fn shard_bits(&self) -> u32 {
        self.map.shards().trailing_zeros()
    }

    fn lock(&self, hash: KeyHash) -> Locked<'_, K, M::Shard<'_>> {
        self.look(self.map.lock(hash.leading(self.shard_bits())), hash)
    }

    /// `shard` is that of the key.
    fn look<'t>(&'t self, shard: M::Shard<'t>, hash: KeyHash) -> Locked<'t, K, M::Shard<'t>> {
        // SAFETY: the lock of the hash's shard is taken, and released after the look is dropped.
        #[allow(unsafe_code, reason = "looks into a cell")]
        let cell = unsafe { self.cells.look(hash) };
        Locked { cell, shard }
    }

    /// Step 1 without a lock, in a cell that is empty. If the caller leads, the node is in the table
    /// until `close` or `abandon`.
    #[inline(always)]
    pub(crate) fn claim<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        ask: &Ask,
        node: Pin<&mut Node<K>>,
    ) -> Option<FlightId>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        if ask.max_age.is_some() {
            self.clock.turn_on();
        }
        // A caller that finds somebody there makes no copy of its key. What is to be dated, and told of,
        // or comes into another row than the first, begins in `enter`.
        let spot = self.cells.spot_in_first(hash);
        if self.cells.has_grown() || !spot.is_empty() || self.clock.is_on() {
            return None;
        }
        self.claim_spot(&spot, hash, key, Stamp::NONE, node)
    }

    #[inline(always)]
    fn claim_spot<Q>(
        &self,
        spot: &Spot<'_, K>,
        hash: KeyHash,
        key: &Q,
        began: Stamp,
        mut node: Pin<&mut Node<K>>,
    ) -> Option<FlightId>
    where
        K: Borrow<Q>,
        Q: ?Sized + ToOwned<Owned = K>,
    {
        let id = self.map.next_id();
        node.as_mut().fill(key.to_owned(), id, hash, began);
        spot.claim(hash, node).then_some(id)
    }

    /// The same in whichever row the cell is.
    #[inline(never)]
    fn claim_in_any<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        began: Stamp,
        node: Pin<&mut Node<K>>,
    ) -> Option<FlightId>
    where
        K: Borrow<Q>,
        Q: ?Sized + ToOwned<Owned = K>,
    {
        let spot = self.cells.spot(hash);
        if spot.is_empty() { self.claim_spot(&spot, hash, key, began, node) } else { None }
    }

    /// Step 1. If the caller leads, the node may be in the table until `close` or `abandon`.
    #[inline(always)]
    pub(crate) fn enter<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        ask: &Ask,
        mut node: Pin<&mut Node<K>>,
    ) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        if self.clock.is_on() {
            return self.enter_dated(hash, key, ask, node);
        }
        if self.cells.has_grown()
            && let Some(id) = self.claim_in_any(hash, key, Stamp::NONE, node.as_mut())
        {
            return Entered::Lead(id);
        }
        if !ask.is_plain() || !self.cells.is_crowded(hash) {
            return self.enter_locked(hash, key, ask, Start::Node(node), None);
        }
        // Most who follow: they have nothing particular in mind, and find a flight in the map. What is
        // there is not in its cell, which need not be looked at.
        let mut shard = self.map.lock(hash.leading(self.shard_bits()));
        match shard.get(hash, |k, _| k.borrow() == key) {
            Some(slot) if reentry::is_within(slot.id()) => Entered::Reentrant,
            Some(Slot::Shared { flight, .. }) if flight.join_plainly() => {
                Entered::Follow(Arc::clone(flight), Ticket::PLAIN)
            }
            Some(slot) => self.meet_slot(slot, ask),
            None => self.enter_locked(hash, key, ask, Start::Node(node), Some(shard)),
        }
    }

    /// The same of a flight that is dated: without a lock, if it can.
    #[cold]
    fn enter_dated<Q>(
        &self,
        hash: KeyHash,
        key: &Q,
        ask: &Ask,
        mut node: Pin<&mut Node<K>>,
    ) -> Entered<V>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        let entered = match self.claim_in_any(hash, key, self.clock.now(), node.as_mut()) {
            Some(id) => Entered::Lead(id),
            None => self.enter_locked(hash, key, ask, Start::Node(node.as_mut()), None),
        };
        self.tell_entry(&entered);
        entered
    }

    /// Step 1 for a caller that may move before its flight ends. If that is to be followed in any case,
    /// it is shared from the beginning.
    pub(crate) fn open(
        &self,
        hash: KeyHash,
        key: impl Wanted<K>,
        ask: &Ask,
        is_shared: bool,
    ) -> Entered<V> {
        let entered = self.enter_locked(hash, key, ask, Start::Map { is_shared }, None);
        self.tell_entry(&entered);
        entered
    }

    /// `shard` is that of the key, if the caller has locked it.
    #[inline(never)]
    fn enter_locked<'t>(
        &'t self,
        hash: KeyHash,
        mut key: impl Wanted<K>,
        ask: &Ask,
        mut start: Start<'_, K>,
        mut shard: Option<M::Shard<'t>>,
    ) -> Entered<V> {
        if let Some(max_age) = ask.max_age {
            debug_assert!(shard.is_none(), "flights are cut loose under the lock");
            // A pending flight that comes into its place may be as old.
            while self.forget_older(hash, |k| key.is(k), max_age) {}
        }
        loop {
            let mut locked = match shard.take() {
                Some(shard) => self.look(shard, hash),
                None => self.lock(hash),
            };
            match self.meet(&mut locked, hash, |k| key.is(k), ask) {
                None => {}
                Some(Entered::Gone(id)) if ask.who == Who::Permit => {
                    // It ends without a value, and the caller cannot wait: the rest as after `forget`.
                    let removed = self.detach(&mut locked, hash, id);
                    drop(locked);
                    self.forgotten(id, removed);
                    continue;
                }
                Some(entered) => return entered,
            }
            if let Start::Map { .. } = start
                && !locked.cell.open()
            {
                // Somebody else has claimed the empty cell meanwhile, and needed no lock for it.
                continue;
            }
            let spare = match &mut start {
                // Of a claim that failed. A caller that joins leaves it there: if its `Drop` panics, who
                // has joined must be able to leave.
                Start::Node(node) => node.as_mut().take_key(),
                Start::Map { .. } => None,
            };
            // Under the lock, so that a caller that joins makes no copy. If it panics, nothing has
            // changed.
            let (key, id) = (spare.unwrap_or_else(|| key.own()), self.map.next_id());
            let began = self.clock.stamp();
            match &mut start {
                Start::Node(node) => match locked.cell.place() {
                    Place::Chain => {
                        node.as_mut().fill(key, id, hash, began);
                        locked.cell.push(hash, node.as_mut());
                        return Entered::Lead(id);
                    }
                    Place::Map => {
                        locked.insert(key, Slot::new(hash, id, began));
                        return Entered::Lead(id);
                    }
                    Place::Full => {
                        locked.insert(key, Slot::new(hash, id, began));
                        self.relieve(hash, locked);
                        return Entered::Lead(id);
                    }
                    Place::Empty(spot) => {
                        node.as_mut().fill(key, id, hash, began);
                        if spot.claim(hash, node.as_mut()) {
                            return Entered::Lead(id);
                        }
                        // Lost, as above.
                    }
                },
                Start::Map { is_shared: false } => {
                    locked.insert(key, Slot::new(hash, id, began));
                    return Entered::Lead(id);
                }
                Start::Map { is_shared: true } => {
                    let flight = Arc::new(Flight::new(id, began));
                    locked.insert(
                        key,
                        Slot::Shared { hash: hash.short(), flight: Arc::clone(&flight) },
                    );
                    return Entered::TakeOver(flight);
                }
            }
        }
    }

    /// After a flight that its full cell had no place for: if there are many such, the shard gets more
    /// cells.
    #[cold]
    fn relieve(&self, hash: KeyHash, locked: Locked<'_, K, M::Shard<'_>>) {
        let Locked { cell, shard } = locked;
        drop(cell);
        if shard.len() > FEW {
            let number = hash.leading(self.shard_bits());
            // SAFETY: the shard is locked, and nothing of it is looked at any more.
            #[allow(unsafe_code, reason = "moves what is in cells")]
            unsafe {
                self.cells.grow_for(number, shard.len(), |count| {
                    shard.for_each(|_, slot| count(slot.hash()));
                });
            }
        }
    }

    /// Meets the flight of a key, if there is one. If that is in the cell it moves to the map, where
    /// there is room for more; but not for a caller that is refused.
    fn meet(
        &self,
        locked: &mut Locked<'_, K, M::Shard<'_>>,
        hash: KeyHash,
        mut is_it: impl FnMut(&K) -> bool,
        ask: &Ask,
    ) -> Option<Entered<V>> {
        let would_wait_for_itself = |id| !ask.nests && reentry::is_within(id);
        if let Some(found) = locked.cell.find(hash, &mut is_it) {
            if would_wait_for_itself(found.id) {
                return Some(Entered::Reentrant);
            }
            if ask.max_followers == 0 && !ask.fresh {
                return Some(Entered::Full);
            }
            locked.move_to_map();
            let slot = locked.shard.get(hash, |_, slot| slot.id() == found.id);
            return Some(self.meet_slot(slot.expect("just moved there"), ask));
        }
        if !locked.cell.is_crowded() {
            return None;
        }
        let slot = locked.shard.get(hash, |k, _| is_it(k))?;
        match would_wait_for_itself(slot.id()) {
            true => Some(Entered::Reentrant),
            false => Some(self.meet_slot(slot, ask)),
        }
    }

    /// Joins a flight, or leads it if nobody does.
    #[inline]
    fn meet_slot(&self, slot: &mut Slot<V>, ask: &Ask) -> Entered<V> {
        match slot {
            _ if ask.fresh => self.meet_afresh(slot, ask),
            Slot::Shared { flight, .. } => Self::join(flight, ask, Entered::TakeOver),
            slot => Self::meet_first(slot, ask),
        }
    }

    /// The same for a flight that nobody has joined, or that another waits for.
    #[cold]
    fn meet_first(slot: &mut Slot<V>, ask: &Ask) -> Entered<V> {
        Self::join(slot.flight_or_share(), ask, Entered::TakeOver)
    }

    /// Step 7: the flight under way began before the call; the one after it will not have.
    #[cold]
    fn meet_afresh(&self, slot: &mut Slot<V>, ask: &Ask) -> Entered<V> {
        if let Some(flight) = slot.flight()
            && flight.lead_out_afresh()
        {
            return Entered::TakeOver(Arc::clone(flight));
        }
        if let Some(next) = slot.next() {
            return Self::join(next, ask, Entered::Pending);
        }
        let next = Flight::pending(self.map.next_id(), slot.id(), self.clock.stamp());
        let next = Arc::new(next);
        slot.queue(Arc::clone(&next));
        Entered::Pending(next)
    }

    #[inline]
    fn join(
        flight: &Arc<Flight<V>>,
        ask: &Ask,
        lead: impl FnOnce(Arc<Flight<V>>) -> Entered<V>,
    ) -> Entered<V> {
        match flight.join(ask) {
            Joined::Lead => lead(Arc::clone(flight)),
            Joined::Follow(ticket) => Entered::Follow(Arc::clone(flight), ticket),
            Joined::Full => Entered::Full,
            Joined::Gone => Entered::Gone(flight.id()),
        }
    }

    /// Joins the key's flight without being able to lead it.
    pub(crate) fn follow(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K) -> bool,
    ) -> Option<(Arc<Flight<V>>, Ticket)> {
        if self.cells.is_empty(hash) {
            return None;
        }
        let ask = Ask { who: Who::Workless, nests: true, ..Ask::DEFAULT };
        let mut locked = self.lock(hash);
        let met = self.meet(&mut locked, hash, is_it, &ask)?;
        drop(locked);
        self.tell_entry(&met);
        match met {
            Entered::Follow(flight, ticket) => Some((flight, ticket)),
            _ => None,
        }
    }

    /// Joins, for the leader of a flight that began in the map, that flight: also one that was forgotten.
    pub(crate) fn follow_own(
        &self,
        hash: KeyHash,
        id: FlightId,
        own: Option<&Arc<Flight<V>>>,
    ) -> (Arc<Flight<V>>, Ticket) {
        let flight = own.cloned().unwrap_or_else(|| self.share_own(hash, id));
        // No lock: only its leader, which waits for this, could give it up or end it.
        let ask = Ask { who: Who::Workless, nests: true, ..Ask::DEFAULT };
        let Joined::Follow(ticket) = flight.join(&ask) else {
            unreachable!("it is led, and not dying")
        };
        self.tell(id, |observer| observer.joined(id));
        (flight, ticket)
    }

    fn share_own(&self, hash: KeyHash, id: FlightId) -> Arc<Flight<V>> {
        let mut locked = self.lock(hash);
        match locked.shard.get(hash, |_, slot| slot.id() == id) {
            Some(slot) => Arc::clone(slot.flight_or_share()),
            // It was forgotten, maybe before anybody had joined. Then its flight is made here, where the
            // step that ends it looks.
            None => {
                let mut detached = lock(&self.detached);
                let made = || Arc::new(Flight::new(id, Stamp::NONE));
                Arc::clone(detached.entry(id).or_insert_with(made))
            }
        }
    }

    /// Fetches what `close` will need, while something else goes on.
    #[inline(always)]
    pub(crate) fn expect_end(&self, hash: KeyHash) {
        self.cells.prefetch(hash);
    }

    /// Step 2 without a lock, of a flight in its cell that nobody has looked at, so that nobody has
    /// joined. `false` if it is none, or somebody is to be told. Its key is dropped here.
    #[inline(always)]
    pub(crate) fn end(&self, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let released = node.is_in_first() && self.cells.release_in_first(hash, node.as_mut());
        if released {
            node.take_key();
        }
        released
    }

    /// Step 2, its locked part: by id, so that a newer flight of the key stays (G5). The number of
    /// followers is read in the critical section that ends joining, which makes it final (G3).
    /// `None` if nobody waits.
    pub(crate) fn close(
        &self,
        hash: KeyHash,
        id: FlightId,
        mut home: Option<Pin<&mut Node<K>>>,
        own: Option<Arc<Flight<V>>>,
        end: End,
    ) -> Option<Closed<K, V>> {
        match self.watch {
            None if home.as_ref().is_some_and(|node| node.is_found())
                && self.release(hash, &mut home) =>
            {
                None
            }
            None => self.close_locked(hash, id, home, own),
            Some(_) => self.close_watched(hash, id, home, own, end),
        }
    }

    /// Ends a flight that began in its cell and that nobody has looked at. Its key is dropped here.
    fn release(&self, hash: KeyHash, home: &mut Option<Pin<&mut Node<K>>>) -> bool {
        let Some(node) = home else { return false };
        let released = node.is_claimed() && self.cells.release(hash, node.as_mut());
        if released {
            node.as_mut().take_key();
        }
        released
    }

    /// The same with the lock, for one that others have looked at. `None` if that was all; otherwise
    /// the flight is not in its cell, or not any more.
    fn release_locked(
        &self,
        hash: KeyHash,
        home: Option<Pin<&mut Node<K>>>,
    ) -> Option<Locked<'_, K, M::Shard<'_>>> {
        let mut locked = self.lock(hash);
        let key = home.and_then(|node| locked.release(node));
        if key.is_none() {
            return Some(locked);
        }
        drop(locked);
        drop(key);
        None
    }

    fn close_locked(
        &self,
        hash: KeyHash,
        id: FlightId,
        home: Option<Pin<&mut Node<K>>>,
        own: Option<Arc<Flight<V>>>,
    ) -> Option<Closed<K, V>> {
        let mut locked = self.release_locked(hash, home)?;
        let removed = locked.remove(hash, id);
        let followers = removed.as_ref().map_or(0, |removed| removed.slot.followers());
        drop(locked);
        let Some(Removed { key, slot, promoted }) = removed else {
            return self.close_detached(id, own).filter(Closed::is_awaited);
        };
        if let Some(next) = promoted {
            next.call_aside();
        }
        let flight = Arc::clone(slot.flight()?);
        Some(Closed { flight, followers, key }).filter(Closed::is_awaited)
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
        mut home: Option<Pin<&mut Node<K>>>,
        own: Option<Arc<Flight<V>>>,
    ) {
        if self.release(hash, &mut home) {
            return;
        }
        let Some(mut locked) = self.release_locked(hash, home) else { return };
        let (mut removed, mut abandoned) = (None, None);
        match locked.shard.get(hash, |_, slot| slot.has(id)) {
            None => {
                drop(locked);
                self.abandon_detached(id, own);
                return;
            }
            Some(slot) => match slot.of(id).cloned() {
                None => removed = locked.remove(hash, id),
                Some(flight) => {
                    let left = flight.abandon();
                    if left.is_dead() {
                        removed = locked.remove(hash, id);
                    }
                    abandoned = Some((flight, left));
                }
            },
        }
        drop(locked);
        if let Some((flight, left)) = abandoned {
            flight.wake_successors(left);
        }
        removed.into_iter().for_each(Removed::settle);
    }

    fn abandon_detached(&self, id: FlightId, own: Option<Arc<Flight<V>>>) {
        if let Some(Closed { flight, .. }) = self.close_detached(id, own) {
            let left = flight.abandon();
            flight.wake_successors(left);
        }
    }

    /// Step 8: gives the lead up together with the work, or gives the work back if nobody is there to
    /// go on with it. Then the flight is led as before.
    #[cold]
    pub(crate) fn hand_over(
        &self,
        hash: KeyHash,
        id: FlightId,
        home: &mut Option<Pin<&mut Node<K>>>,
        own: Option<&Arc<Flight<V>>>,
        relay: Relay<V>,
    ) -> Result<(), Relay<V>> {
        let mut locked = self.lock(hash);
        let (flight, left) = match locked.shard.get(hash, |_, slot| slot.has(id)) {
            Some(slot) => match slot.of(id).cloned() {
                // Nobody has joined.
                None => return Err(relay),
                Some(flight) => {
                    let left = flight.hand_over(relay)?;
                    drop(locked);
                    (flight, left)
                }
            },
            // In its cell, where nobody has joined either, or detached. Also then under the lock, which
            // keeps `bury` from leading out what `hand_over` may lead out itself.
            None => {
                let detached = || lock(&self.detached).get(&id).cloned();
                let Some(flight) = own.cloned().or_else(detached) else { return Err(relay) };
                let left = flight.hand_over(relay)?;
                drop(locked);
                (flight, left)
            }
        };
        // It is in the map or detached, so no cell points to it.
        if let Some(node) = home {
            node.as_mut().leave();
        }
        flight.wake_successors(left);
        Ok(())
    }

    /// Step 5, its locked part: removes the slot of a flight that somebody saw dead, unless a
    /// newcomer has led it out of there.
    #[cold]
    #[must_use]
    pub(crate) fn bury(&self, hash: KeyHash, flight: &Arc<Flight<V>>) -> Buried<K, V> {
        let id = flight.id();
        let mut locked = self.lock(hash);
        let is_there = locked.shard.get(hash, |_, slot| slot.has(id)).is_some();
        if !flight.snapshot().is_dead() {
            return Buried::Over(None);
        }
        if flight.has_relay() {
            // Of a detached flight, too: it gets no newcomers, so dead it has stayed.
            flight.reclaim();
            return Buried::Led;
        }
        let mut removed = if is_there { locked.remove(hash, id) } else { None };
        drop(locked);
        match &mut removed {
            Some(removed) => removed.call_next(),
            None => drop(self.close_detached(id, None)),
        }
        Buried::Over(removed)
    }

    /// Step 6.
    pub(crate) fn forget(&self, hash: KeyHash, is_it: impl FnMut(&K) -> bool) -> bool {
        self.cut_loose(hash, is_it, |_, _, _| true)
    }

    /// Step 6 for a flight without followers.
    pub(crate) fn forget_unshared(&self, hash: KeyHash, is_it: impl FnMut(&K) -> bool) -> bool {
        self.cut_loose(hash, is_it, |followers, _, _| followers == 0)
    }

    /// Step 6 for a flight that is as old as this.
    pub(crate) fn forget_older(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K) -> bool,
        age: Duration,
    ) -> bool {
        self.clock.turn_on();
        self.cut_loose(hash, is_it, |_, began, _| self.clock.longest(began) >= age)
    }

    /// Step 6 for this flight alone.
    #[cfg(feature = "tower")]
    pub(crate) fn forget_flight(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K) -> bool,
        flight: FlightId,
    ) -> bool {
        self.cut_loose(hash, is_it, |_, _, id| id == flight)
    }

    fn cut_loose(
        &self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K) -> bool,
        if_: impl FnOnce(usize, Stamp, FlightId) -> bool,
    ) -> bool {
        if self.cells.is_empty(hash) {
            return false;
        }
        let mut locked = self.lock(hash);
        if let Some(found) = locked.cell.find(hash, &mut is_it) {
            if !if_(0, found.began, found.id) {
                return false;
            }
            let removed = locked.cell.remove(&found);
            drop(locked);
            self.tell(found.id, |observer| observer.forgotten(found.id));
            drop(removed);
            return true;
        }
        let Some(slot) = locked.shard.get(hash, |k, _| is_it(k)) else { return false };
        if !if_(slot.followers(), slot.began(), slot.id()) {
            return false;
        }
        let id = slot.id();
        let removed = self.detach(&mut locked, hash, id);
        drop(locked);
        self.forgotten(id, removed);
        true
    }

    /// After a flight has been detached, and unlocking.
    fn forgotten(&self, id: FlightId, removed: Option<Removed<K, V>>) {
        let mut removed = removed;
        removed.iter_mut().for_each(Removed::call_next);
        self.tell(id, |observer| observer.forgotten(id));
        // Last: the `Drop` of its key may panic.
        drop(removed);
    }

    /// Takes a flight out of the map that goes on without its slot.
    fn detach(
        &self,
        locked: &mut Locked<'_, K, M::Shard<'_>>,
        hash: KeyHash,
        id: FlightId,
    ) -> Option<Removed<K, V>> {
        let removed = locked.remove(hash, id)?;
        if let Some(flight) = removed.slot.flight() {
            // In the same critical section: the leader finds it in one place or the other.
            lock(&self.detached).insert(id, Arc::clone(flight));
        }
        Some(removed)
    }

    pub(crate) fn contains(&self, hash: KeyHash, mut is_it: impl FnMut(&K) -> bool) -> bool {
        if self.cells.is_empty(hash) {
            return false;
        }
        let mut locked = self.lock(hash);
        locked.cell.find(hash, &mut is_it).is_some()
            || locked.shard.get(hash, |k, _| is_it(k)).is_some()
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
        let in_cells = unsafe { self.cells.count(i) };
        shard.len() + in_cells
    }
}

impl<K, S> Locked<'_, K, S> {
    /// Ends the flight of this node, if it began in a cell and still is there.
    fn release(&mut self, node: Pin<&mut Node<K>>) -> Option<K> {
        if node.is_claimed() { self.cell.release(node) } else { None }
    }

    /// Moves all flights in the cell to the map.
    fn move_to_map<V>(&mut self)
    where
        S: Shard<K, V>,
    {
        while let Some(Moved { key, id, hash, began }) = self.cell.pop() {
            self.shard.insert(key, Slot::new(hash, id, began));
        }
    }

    /// Puts a flight into the map, and all that are in the cell.
    fn insert<V>(&mut self, key: K, slot: Slot<V>)
    where
        S: Shard<K, V>,
    {
        self.move_to_map();
        self.cell.add();
        self.shard.insert(key, slot);
    }

    /// Takes a flight out of the map, pending or not. If another waits for its end, that one is in its
    /// place then, and may begin: callers that are not fresh can join it from here on, and take it over,
    /// and must have nothing to wait for then.
    fn remove<V>(&mut self, hash: KeyHash, id: FlightId) -> Option<Removed<K, V>>
    where
        S: Shard<K, V>,
    {
        let (key, mut slot) = self.shard.remove(hash, |_, slot| slot.has(id))?;
        let Some(next) = slot.unqueue() else {
            self.cell.sub();
            return Some(Removed { key: Some(key), slot, promoted: None });
        };
        if next.id() == id {
            self.shard.insert(key, slot);
            let slot = Slot::Shared { hash: hash.short(), flight: next };
            return Some(Removed { key: None, slot, promoted: None });
        }
        next.let_begin();
        self.shard.insert(key, Slot::Shared { hash: hash.short(), flight: Arc::clone(&next) });
        Some(Removed { key: None, slot, promoted: Some(next) })
    }
}

impl<K, V> Removed<K, V> {
    /// After unlocking: calls the leader of the flight that has waited for this, and drops what is left.
    fn settle(mut self) {
        self.call_next();
    }

    fn call_next(&mut self) {
        if let Some(next) = self.promoted.take() {
            next.call_aside();
        }
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
        let (mut node, no_node) = (pin!(Node::new()), pin!(Node::new()));
        let Entered::Lead(id) = table.enter(hash, &1, &Ask::DEFAULT, node.as_mut()) else {
            panic!("the key is free");
        };
        let Entered::Follow(flight, ticket) = table.enter(hash, &1, &Ask::DEFAULT, no_node) else {
            panic!("the key is in flight");
        };
        let follower = Follower::new(&table, hash, flight, ticket);
        table.abandon(hash, id, Some(node), None);
        assert!(table.forget(hash, |_| true));
        assert_eq!(lock(&table.detached).len(), 1);
        drop(follower);
        assert!(lock(&table.detached).is_empty());
    }
}
