//! The map of the models: one mutex around a list, built from primitives that loom sees into.
//!
//! The ordinary tests run it against the same contract as the map of production.

use std::borrow::Borrow;

use super::{FlightId, KeyHash, Looked, Map, Slot, Verdict};
use crate::sync::{Mutex, lock};

pub(crate) struct Single<K, V>(Mutex<Locked<K, V>>);

struct Locked<K, V> {
    entries: Vec<(K, Slot<V>)>,
    /// Counted in here, so that loom replays the same ids and has no further atomic to explore.
    next_id: u64,
}

impl<K, V> Locked<K, V> {
    fn position(
        &self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<usize> {
        self.entries.iter().position(|(k, slot)| slot.hash() == hash && is_it(k, slot))
    }
}

impl<K, V> Map<K, V> for Single<K, V> {
    fn new(_shards: usize, _capacity: usize) -> Self {
        Self(Mutex::new(Locked { entries: Vec::new(), next_id: 1 }))
    }

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
        let mut locked = lock(&self.0);
        if let Some(i) = locked.position(hash, |k, _| k.borrow() == key) {
            return occupied(&mut locked.entries[i].1);
        }
        let key = key.to_owned();
        let id = FlightId(locked.next_id);
        locked.next_id += 1;
        locked.entries.push((key, Slot::Solo { hash, id }));
        vacant(id)
    }

    fn remove<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
        removed: impl FnOnce(&Slot<V>) -> R,
    ) -> Option<(K, Slot<V>, R)> {
        let mut locked = lock(&self.0);
        let i = locked.position(hash, is_it)?;
        let (key, slot) = locked.entries.swap_remove(i);
        let result = removed(&slot);
        drop(locked);
        Some((key, slot, result))
    }

    fn look<R>(
        &self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
        decide: impl FnOnce(&Slot<V>) -> Verdict<R>,
    ) -> Option<Looked<K, V, R>> {
        let mut locked = lock(&self.0);
        let i = locked.position(hash, is_it)?;
        match decide(&locked.entries[i].1) {
            Verdict::Keep(result) => Some((result, None)),
            Verdict::Remove(result) => Some((result, Some(locked.entries.swap_remove(i)))),
        }
    }

    fn len(&self) -> usize {
        lock(&self.0).entries.len()
    }

    fn try_len(&self) -> Option<usize> {
        self.0.try_lock().ok().map(|locked| locked.entries.len())
    }
}
