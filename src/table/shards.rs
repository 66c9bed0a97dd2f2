//! The map of production: dashmap's shards, entered with a hash that is already known.
//!
//! dashmap's own methods hash the key at each call and hand out guards; its raw interface gives
//! each shard's lock and table, so one hash serves a whole flight and no guard leaves this file.

use std::{
    borrow::Borrow,
    cell::Cell,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
    sync::atomic::{AtomicU64, Ordering},
};

use dashmap::{DashMap, SharedValue};

use super::{FlightId, KeyHash, Looked, Map, Slot, Verdict};

/// dashmap is never asked to hash.
type NoHasher = BuildHasherDefault<DefaultHasher>;

pub(crate) struct Shards<K, V> {
    map: DashMap<K, Slot<V>, NoHasher>,
    /// Buckets, full or not, that a shard keeps.
    keep: usize,
}

/// Buckets a shard keeps whatever happens: too few to be worth giving back.
const KEEP: usize = 64;

impl<K: Eq + Hash, V> Shards<K, V> {
    fn index(&self, hash: KeyHash) -> usize {
        self.map.determine_shard(hash.wide() as usize)
    }
}

/// What a shard's lock guards. A macro because the type of the table has no public name.
macro_rules! locked {
    ($self:ident, $hash:ident) => {
        $self.map.shards()[$self.index($hash)].write()
    };
}

/// Gives room back after a wave of keys has passed: in steps of a factor 8, so that the cost of
/// moving is spread over the removals before it.
macro_rules! shrink {
    ($self:ident, $table:ident) => {
        if $table.buckets() > $self.keep && $table.len() < $table.buckets() / 8 {
            let room = ($self.keep / 2).max($table.len() * 2);
            $table.shrink_to(room, |(_, slot)| slot.get().hash().wide());
        }
    };
}

impl<K: Eq + Hash, V> Map<K, V> for Shards<K, V> {
    fn new(shards: usize, capacity: usize) -> Self {
        Self {
            map: DashMap::with_capacity_and_hasher_and_shard_amount(
                capacity,
                NoHasher::default(),
                shards,
            ),
            // Twice what hashbrown makes of this capacity at most: it fills 7 in 8.
            keep: KEEP.max((capacity.div_ceil(shards) * 8 / 7).next_power_of_two()),
        }
    }

    #[inline(always)]
    fn enter<Q, R>(
        &self,
        hash: KeyHash,
        key: &Q,
        occupied: impl FnOnce(&mut Slot<V>) -> R,
        vacant: impl FnOnce(FlightId) -> R,
    ) -> R
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + ToOwned<Owned = K>,
    {
        let mut table = locked!(self, hash);
        if let Some((_, slot)) = table.get_mut(hash.wide(), |(k, _)| k.borrow() == key) {
            return occupied(slot.get_mut());
        }
        // Under the lock, so that a caller that joins makes no copy of its key. If it panics,
        // nothing has been inserted.
        let key = key.to_owned();
        let id = next_id();
        let slot = SharedValue::new(Slot::Solo { hash, id });
        table.insert(hash.wide(), (key, slot), |(_, slot)| slot.get().hash().wide());
        vacant(id)
    }

    #[inline(always)]
    fn remove<R>(
        &self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
        removed: impl FnOnce(&Slot<V>) -> R,
    ) -> Option<(K, Slot<V>, R)> {
        let mut table = locked!(self, hash);
        let (key, slot) = table.remove_entry(hash.wide(), |(k, slot)| is_it(k, slot.get()))?;
        let result = removed(slot.get());
        shrink!(self, table);
        drop(table);
        Some((key, slot.into_inner(), result))
    }

    fn look<R>(
        &self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
        decide: impl FnOnce(&Slot<V>) -> Verdict<R>,
    ) -> Option<Looked<K, V, R>> {
        let mut table = locked!(self, hash);
        let (_, slot) = table.get(hash.wide(), |(k, slot)| is_it(k, slot.get()))?;
        match decide(slot.get()) {
            Verdict::Keep(result) => Some((result, None)),
            Verdict::Remove(result) => {
                let id = slot.get().id();
                let removed = table.remove_entry(hash.wide(), |(_, slot)| slot.get().id() == id);
                shrink!(self, table);
                drop(table);
                Some((result, removed.map(|(key, slot)| (key, slot.into_inner()))))
            }
        }
    }

    fn len(&self) -> usize {
        self.map.shards().iter().map(|shard| shard.read().len()).sum()
    }

    fn try_len(&self) -> Option<usize> {
        self.map.shards().iter().map(|shard| shard.try_read().map(|table| table.len())).sum()
    }
}

/// An id that no other flight of this process has. Threads take them in blocks, so that no counter
/// is shared on the path of a call.
#[inline]
fn next_id() -> FlightId {
    const BLOCK: u64 = 1 << 16;
    static NEXT_BLOCK: AtomicU64 = AtomicU64::new(0);
    thread_local! { static NEXT: Cell<u64> = const { Cell::new(0) } }

    NEXT.with(|next| {
        let mut id = next.get();
        if id % BLOCK == 0 {
            // Relaxed: the numbers must differ, nothing else follows from them.
            id = NEXT_BLOCK.fetch_add(1, Ordering::Relaxed) * BLOCK + 1;
        }
        next.set(id + 1);
        FlightId(id)
    })
}
