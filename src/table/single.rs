//! The map of the models: one mutex around a list, built from primitives that loom sees into.
//!
//! The ordinary tests run it against the same contract as the map of production.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{FlightId, KeyHash, Map, Shard, Slot};
use crate::sync::{Mutex, MutexGuard, lock};

pub(crate) struct Single<K, V> {
    entries: Mutex<Vec<(K, Slot<V>)>>,
    /// Of this table, so that loom replays the same ids; std's, so that it has no further atomic to
    /// explore.
    next_id: AtomicU64,
}

impl<K, V> Map<K, V> for Single<K, V> {
    type Shard<'a>
        = MutexGuard<'a, Vec<(K, Slot<V>)>>
    where
        Self: 'a;

    fn new(_shards: usize, _capacity: usize) -> Self {
        Self { entries: Mutex::new(Vec::new()), next_id: AtomicU64::new(1) }
    }

    fn shards(&self) -> usize {
        1
    }

    fn lock(&self, _shard: usize) -> Self::Shard<'_> {
        lock(&self.entries)
    }

    fn try_lock(&self, _shard: usize) -> Option<Self::Shard<'_>> {
        self.entries.try_lock().ok()
    }

    fn next_id(&self) -> FlightId {
        FlightId(self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

impl<K, V> Shard<K, V> for MutexGuard<'_, Vec<(K, Slot<V>)>> {
    fn get(
        &mut self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<&mut Slot<V>> {
        let found = self.iter_mut().find(|(key, slot)| slot.hash() == hash && is_it(key, slot));
        found.map(|(_, slot)| slot)
    }

    fn insert(&mut self, key: K, slot: Slot<V>) {
        self.push((key, slot));
    }

    fn remove(
        &mut self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<(K, Slot<V>)> {
        let i = self.iter().position(|(key, slot)| slot.hash() == hash && is_it(key, slot))?;
        Some(self.swap_remove(i))
    }

    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn for_each(&self, mut see: impl FnMut(&K, &Slot<V>)) {
        self.iter().for_each(|(key, slot)| see(key, slot));
    }
}
