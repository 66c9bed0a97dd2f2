//! The map of production: dashmap's shards, entered with a hash that is already known.
//!
//! dashmap's own methods hash the key at each call and hand out guards of entries; its raw interface
//! gives each shard's lock and table, so that one hash serves a whole flight and one critical section
//! covers a cell and its part of the map.

use std::{
    cell::Cell,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
    sync::atomic::{AtomicU64, Ordering},
};

use dashmap::{DashMap, RwLockWriteGuard, SharedValue};
use hashbrown::raw::RawTable;

use super::{FlightId, KeyHash, Map, Shard, Slot};

/// dashmap is never asked to hash.
type NoHasher = BuildHasherDefault<DefaultHasher>;

pub(crate) struct Shards<K, V> {
    map: DashMap<K, Slot<V>, NoHasher>,
    /// Buckets, full or not, that a shard keeps.
    keep: usize,
}

pub(crate) struct Locked<'a, K, V> {
    table: RwLockWriteGuard<'a, RawTable<(K, SharedValue<Slot<V>>)>>,
    keep: usize,
}

/// Buckets a shard keeps whatever happens: too few to be worth giving back.
const KEEP: usize = 64;

impl<K: Eq + Hash, V> Map<K, V> for Shards<K, V> {
    type Shard<'a>
        = Locked<'a, K, V>
    where
        Self: 'a;

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

    fn shards(&self) -> usize {
        self.map.shards().len()
    }

    #[inline(always)]
    fn lock(&self, shard: usize) -> Locked<'_, K, V> {
        Locked { table: self.map.shards()[shard].write(), keep: self.keep }
    }

    fn try_lock(&self, shard: usize) -> Option<Locked<'_, K, V>> {
        Some(Locked { table: self.map.shards()[shard].try_write()?, keep: self.keep })
    }

    /// An id that no other flight of this process has. Threads take them in blocks, so that no counter
    /// is shared on the path of a call.
    #[inline(always)]
    fn next_id(&self) -> FlightId {
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
}

impl<K, V> Shard<K, V> for Locked<'_, K, V> {
    #[inline]
    fn get(
        &mut self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<&mut Slot<V>> {
        let is_it = |(key, slot): &(K, SharedValue<Slot<V>>)| is_it(key, slot.get());
        self.table.get_mut(hash.wide(), is_it).map(|(_, slot)| slot.get_mut())
    }

    #[inline]
    fn insert(&mut self, key: K, slot: Slot<V>) {
        let hash = slot.hash().wide();
        let entry = (key, SharedValue::new(slot));
        self.table.insert(hash, entry, |(_, slot)| slot.get().hash().wide());
    }

    #[inline]
    fn remove(
        &mut self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<(K, Slot<V>)> {
        let is_it = |(key, slot): &(K, SharedValue<Slot<V>>)| is_it(key, slot.get());
        let (key, slot) = self.table.remove_entry(hash.wide(), is_it)?;
        // Room is given back after a wave of keys has passed, in steps of a factor 8, so that the cost
        // of moving is spread over the removals before it.
        if self.table.buckets() > self.keep && self.table.len() < self.table.buckets() / 8 {
            let room = (self.keep / 2).max(self.table.len() * 2);
            self.table.shrink_to(room, |(_, slot)| slot.get().hash().wide());
        }
        Some((key, slot.into_inner()))
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn for_each(&self, mut see: impl FnMut(&K, &Slot<V>)) {
        // SAFETY: the table is there, and borrowed, until the last entry has been seen.
        #[allow(unsafe_code, reason = "a raw table has no other way to see what is in it")]
        let entries = unsafe { self.table.iter().map(|entry| entry.as_ref()) };
        entries.for_each(|(key, slot)| see(key, slot.get()));
    }
}
