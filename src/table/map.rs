//! What the two backends of the map have in common, and what is in them.

use std::mem;

use super::{KeyHash, Stamp, hash::ShortHash};
use crate::{
    flight::{Flight, FlightId},
    sync::Arc,
};

/// The map's entry for a key in flight.
pub(crate) enum Slot<V> {
    /// Nobody has joined: no `Flight` exists. It was not the only one in its cell.
    Solo {
        hash: ShortHash,
        id: FlightId,
    },
    Shared {
        hash: ShortHash,
        flight: Arc<Flight<V>>,
    },
    /// The one under way is to be followed by another (step 7).
    Queued {
        hash: ShortHash,
        queue: Box<Queue<V>>,
    },
}

pub(crate) struct Queue<V> {
    /// Not queued itself.
    running: Slot<V>,
    next: Arc<Flight<V>>,
}

impl<V> Slot<V> {
    /// Of a flight that nobody has joined. A date needs more room than there is here.
    pub(super) fn new(hash: KeyHash, id: FlightId, began: Stamp) -> Self {
        let hash = hash.short();
        match began {
            Stamp::NONE => Self::Solo { hash, id },
            _ => Self::Shared { hash, flight: Arc::new(Flight::new(id, began)) },
        }
    }

    pub(super) fn hash(&self) -> KeyHash {
        self.short_hash().into()
    }

    fn short_hash(&self) -> ShortHash {
        match self {
            Self::Solo { hash, .. } | Self::Shared { hash, .. } | Self::Queued { hash, .. } => {
                *hash
            }
        }
    }

    pub(super) fn id(&self) -> FlightId {
        match self {
            Self::Solo { id, .. } => *id,
            Self::Shared { flight, .. } => flight.id(),
            Self::Queued { queue, .. } => queue.running.id(),
        }
    }

    /// The flight under way, if others than its leader know of it.
    pub(super) fn flight(&self) -> Option<&Arc<Flight<V>>> {
        match self {
            Self::Solo { .. } => None,
            Self::Shared { flight, .. } => Some(flight),
            Self::Queued { queue, .. } => queue.running.flight(),
        }
    }

    /// The pending one.
    pub(super) fn next(&self) -> Option<&Arc<Flight<V>>> {
        match self {
            Self::Solo { .. } | Self::Shared { .. } => None,
            Self::Queued { queue, .. } => Some(&queue.next),
        }
    }

    /// Whether the flight of this id is here, under way or pending.
    pub(super) fn has(&self, id: FlightId) -> bool {
        self.id() == id || self.next().is_some_and(|next| next.id() == id)
    }

    /// One of the two.
    pub(super) fn of(&self, id: FlightId) -> Option<&Arc<Flight<V>>> {
        self.next().filter(|next| next.id() == id).or_else(|| self.flight())
    }

    pub(super) fn began(&self) -> Stamp {
        self.flight().map_or(Stamp::NONE, |flight| flight.began())
    }

    pub(super) fn followers(&self) -> usize {
        self.flight().map_or(0, |flight| flight.snapshot().followers())
    }

    /// A flight that nobody has joined becomes one that somebody has.
    fn share(&mut self, flight: Arc<Flight<V>>) {
        match self {
            Self::Queued { queue, .. } => queue.running.share(flight),
            slot => *slot = Self::Shared { hash: slot.short_hash(), flight },
        }
    }

    /// The flight under way, for one that is going to follow it.
    pub(super) fn flight_or_share(&mut self) -> &Arc<Flight<V>> {
        if self.flight().is_none() {
            self.share(Arc::new(Flight::new(self.id(), Stamp::NONE)));
        }
        self.flight().expect("just shared")
    }

    /// Puts a pending flight behind the one under way.
    pub(super) fn queue(&mut self, next: Arc<Flight<V>>) {
        let hash = self.short_hash();
        // To be replaced at once; an id that no flight has.
        let running = mem::replace(self, Self::Solo { hash, id: FlightId(0) });
        *self = Self::Queued { hash, queue: Box::new(Queue { running, next }) };
    }

    /// Takes the pending flight away; the one under way stays.
    pub(super) fn unqueue(&mut self) -> Option<Arc<Flight<V>>> {
        let hash = self.short_hash();
        match mem::replace(self, Self::Solo { hash, id: FlightId(0) }) {
            Self::Queued { queue, .. } => {
                let Queue { running, next } = *queue;
                *self = running;
                Some(next)
            }
            slot => {
                *self = slot;
                None
            }
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

    fn for_each(&self, see: impl FnMut(&K, &Slot<V>));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_slot_with_its_hash_takes_16_bytes() {
        assert_eq!(size_of::<Slot<String>>(), 16);
    }
}
