//! Step 6 for all flights: what `Group::forget_all` does, one shard after the other.

use std::hash::Hash;

use super::{Locked, Map, Moved, Removed, Shard, Table};

impl<K, V, M> Table<K, V, M>
where
    K: Eq + Hash,
    M: Map<K, V>,
{
    /// Cuts loose every flight that is there when this begins, unless it ends meanwhile. Flights move
    /// between a cell and the map only under the lock of their shard, so none is missed for moving.
    /// Returns how many they were.
    pub(crate) fn forget_all(&self) -> usize {
        // Nothing is dropped before all of them are forgotten: the `Drop` of a key may panic (G8).
        let swept: Vec<Swept<K, V>> =
            (0..self.map.shards()).map(|i| self.forget_shard(i)).collect();
        swept.iter().map(|shard| shard.in_cells.len() + shard.in_map.len()).sum()
    }

    fn forget_shard(&self, i: usize) -> Swept<K, V> {
        let mut shard = self.map.lock(i);
        let mut in_cells = Vec::new();
        // SAFETY: the shard is locked until after the looks.
        #[allow(unsafe_code, reason = "looks into cells")]
        let cells = unsafe { self.cells.look_at_all(i) };
        for mut cell in cells {
            while let Some(flight) = cell.take() {
                in_cells.push(flight);
            }
        }
        let mut slots = Vec::new();
        shard.for_each(|_, slot| slots.push((slot.hash(), slot.id())));
        let mut in_map: Vec<Removed<K, V>> = Vec::with_capacity(slots.len());
        for &(hash, id) in &slots {
            let mut locked = self.look(shard, hash);
            in_map.extend(self.detach(&mut locked, hash, id));
            let Locked { cell, shard: same } = locked;
            drop(cell);
            shard = same;
        }
        drop(shard);
        in_map.iter_mut().for_each(Removed::call_next);
        let ids = in_cells.iter().map(|flight| flight.id).chain(slots.iter().map(|slot| slot.1));
        for id in ids {
            self.tell(id, |observer| observer.forgotten(id));
        }
        Swept { in_cells, in_map }
    }
}

/// What was in a shard.
struct Swept<K, V> {
    in_cells: Vec<Moved<K>>,
    in_map: Vec<Removed<K, V>>,
}
