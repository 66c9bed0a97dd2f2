//! What a table tells people of its flights.

use std::hash::Hash;

use super::{Map, Shard, Table};
use crate::InFlight;

impl<K, V, M> Table<K, V, M>
where
    K: Eq + Hash + Clone,
    M: Map<K, V>,
{
    /// The flights that `len` counts. Keys are cloned under the lock.
    pub(crate) fn in_flight(&self) -> Vec<InFlight<K>> {
        self.clock.turn_on();
        let mut found = Vec::new();
        for i in 0..self.map.shards() {
            let shard = self.map.lock(i);
            // SAFETY: the shard is locked until after the looks.
            #[allow(unsafe_code, reason = "looks into cells")]
            let cells = unsafe { self.cells.look_at_all(i) };
            for cell in cells {
                cell.for_each(|key, id, began| {
                    found.push(InFlight {
                        key: key.clone(),
                        flight: id,
                        age: self.clock.age(began),
                        followers: 0,
                        is_led: true,
                    });
                });
            }
            shard.for_each(|key, slot| {
                let state = slot.flight().map(|flight| flight.snapshot());
                found.push(InFlight {
                    key: key.clone(),
                    flight: slot.id(),
                    age: self.clock.age(slot.began()),
                    followers: state.map_or(0, |state| state.followers()),
                    is_led: state.is_none_or(|state| !state.is_leaderless()),
                });
            });
        }
        found
    }
}
