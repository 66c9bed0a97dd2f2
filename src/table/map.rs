//! What the two backends of the map have in common, and what is in them.

use super::KeyHash;
use crate::{
    flight::{Flight, FlightId},
    sync::Arc,
};

/// The map's entry for a key in flight.
pub(crate) enum Slot<V> {
    /// Nobody has joined: no `Flight` exists. Too many others were in its cell.
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
    pub(super) fn hash(&self) -> KeyHash {
        match self {
            Self::Solo { hash, .. } | Self::Shared { hash, .. } => *hash,
        }
    }

    pub(super) fn id(&self) -> FlightId {
        match self {
            Self::Solo { id, .. } => *id,
            Self::Shared { flight, .. } => flight.id(),
        }
    }

    pub(super) fn followers(&self) -> usize {
        match self {
            Self::Solo { .. } => 0,
            Self::Shared { flight, .. } => flight.snapshot().followers(),
        }
    }
}

/// What the two backends have in common: locks, each over its part of the map.
pub(crate) trait Map<K, V> {
    type Shard<'a>: Shard<K, V>
    where
        Self: 'a;

    /// `shards` is a power of two, at least 2, which a backend may ignore; `capacity` is over all of
    /// them.
    fn new(shards: usize, capacity: usize) -> Self;

    /// How many there are, a power of two.
    fn shards(&self) -> usize;

    fn lock(&self, shard: usize) -> Self::Shard<'_>;

    /// `None` if that would mean to wait.
    fn try_lock(&self, shard: usize) -> Option<Self::Shard<'_>>;

    /// An id that no other flight has.
    fn next_id(&self) -> FlightId;
}

/// A part of the map, locked. Within one hash what is looked for is told by `is_it`.
pub(crate) trait Shard<K, V> {
    fn get(
        &mut self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<&mut Slot<V>>;

    /// The key is not there.
    fn insert(&mut self, key: K, slot: Slot<V>);

    fn remove(
        &mut self,
        hash: KeyHash,
        is_it: impl FnMut(&K, &Slot<V>) -> bool,
    ) -> Option<(K, Slot<V>)>;

    fn len(&self) -> usize;
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_with_its_hash_takes_16_bytes() {
        assert_eq!(size_of::<Slot<String>>(), 16);
    }
}
