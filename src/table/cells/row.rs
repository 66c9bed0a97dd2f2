//! Cells that lie one after the other.

use std::ptr;

use super::{super::KeyHash, Cell};

/// The cells of one shard or, in the order of their numbers, of all.
pub(super) struct Row<K> {
    cells: Box<[Cell<K>]>,
    /// What is left of a hash without so many bits is the number of a cell among those of all shards, if
    /// each had as many as are here for one.
    shift: u32,
}

impl<K> Row<K> {
    /// Of all shards: 2 to the power of `bits` cells.
    pub(super) fn of_all(bits: u32) -> Self {
        assert!((1..=32).contains(&bits));
        Self { cells: empty(1 << bits), shift: 32 - bits }
    }

    /// Of one shard that has so many cells here, with `2 ^ bits` more than in this row.
    pub(super) fn longer(&self, cells: usize, bits: u32) -> Self {
        Self { cells: empty(cells << bits), shift: self.shift - bits }
    }

    /// How many cells all shards would have, as a power of two.
    pub(super) fn bits(&self) -> u32 {
        32 - self.shift
    }

    /// The cell of a hash in a row of all shards.
    ///
    /// # Safety
    ///
    /// It is one of all shards.
    #[inline(always)]
    pub(super) unsafe fn of_any(&self, hash: KeyHash) -> &Cell<K> {
        let cell = hash.after(self.shift);
        debug_assert!(cell < self.cells.len());
        // SAFETY: a hash of 32 bits without `shift` of them is less than 2 to the power of the others,
        // which is how many cells there are (`of_all`).
        unsafe { self.cells.get_unchecked(cell) }
    }

    /// The cell of a hash in a row of its shard, or of all.
    #[inline]
    pub(super) fn of(&self, hash: KeyHash) -> &Cell<K> {
        &self.cells[hash.after(self.shift) & (self.cells.len() - 1)]
    }

    /// Those of a shard, one of `2 ^ shard_bits`.
    pub(super) fn of_shard(&self, shard: usize, shard_bits: u32) -> &[Cell<K>] {
        let each = 1 << (self.bits() - shard_bits);
        let from = (shard * each) & (self.cells.len() - 1);
        &self.cells[from..from + each]
    }
}

fn empty<K>(cells: usize) -> Box<[Cell<K>]> {
    (0..cells).map(|_| Cell::new(ptr::null_mut())).collect()
}
