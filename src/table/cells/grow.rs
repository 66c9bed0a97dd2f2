//! More cells for a shard that has too few (the protocol is in [`super`]).

use std::{ptr, sync::Arc};

use super::{
    Cells, Link, MOVED, Word,
    look::{Look, crowd_of},
    row::Row,
};
use crate::{
    sync::{Ordering, lock},
    table::{CELLS_MAX, KeyHash},
};

/// So many times as many cells, as a power of two. Of all rows that a shard ever had, the last one is
/// seven eighths then.
const GROWTH: u32 = 3;

/// A shard has too few cells if a chain is full and in its map there is more than one flight for so
/// many of them. A full chain alone is chance, and a full map alone has flights that were joined, for
/// which cells are of no use.
const CROWDED: usize = 8;

impl<K> Cells<K> {
    /// Gives a shard more cells if these flights in its map say that it has too few. `each` tells of
    /// them one by one.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the shard, and nothing that came out of a look at its cells.
    #[inline]
    pub(in crate::table) unsafe fn grow_for(
        &self,
        shard: usize,
        in_map: usize,
        each: impl FnOnce(&mut dyn FnMut(KeyHash)),
    ) {
        let has_room = self.row(shard).bits() + GROWTH <= CELLS_MAX.ilog2();
        if in_map > self.of_shard(shard).len() / CROWDED && has_room {
            // SAFETY: passed on.
            unsafe { self.grow(shard, each) };
        }
    }

    /// # Safety
    ///
    /// As for `grow_for`.
    #[cold]
    unsafe fn grow(&self, shard: usize, each: impl FnOnce(&mut dyn FnMut(KeyHash))) {
        let old = self.of_shard(shard);
        let new = Arc::new(self.row(shard).longer(old.len(), GROWTH));
        each(&mut |hash| {
            let cell = new.of(hash);
            // Relaxed, here and wherever the new row is written before it is published.
            let n = match Word::from_raw(cell.load(Ordering::Relaxed)) {
                Word::Crowd(n) => n,
                _ => 0,
            };
            cell.store(crowd_of(n + 1), Ordering::Relaxed);
        });
        for cell in old {
            // SAFETY: it is one of the shard's, whose lock is held until after the look.
            while !unsafe { Self::look_at(cell) }.move_to(&new) {}
        }
        let row = Arc::as_ptr(&new).cast_mut();
        lock(&self.kept).push(new);
        // Release: whoever comes to the new row finds what was put there, and sees what the flights did
        // that have ended in the old one.
        self.later[shard].store(row, Ordering::Release);
        // Relaxed: who has not heard of it meets `Moved`, and the lock's next holder has.
        self.has_grown.store(true, Ordering::Relaxed);
    }
}

impl<K> Look<'_, K> {
    /// Takes the cell out of use, for ever, and hangs its chain into a row that nobody knows yet, where
    /// what of the cell is in the map has been counted. `false` if it was empty and somebody has
    /// claimed it meanwhile; then this look is over.
    fn move_to(mut self, row: &Row<K>) -> bool {
        let moved = ptr::without_provenance_mut(MOVED);
        if self.raw.is_null() {
            // Acquire: what the flights did that have ended here, for those that begin in the new row.
            let exchanged =
                self.cell.compare_exchange(self.raw, moved, Ordering::AcqRel, Ordering::Relaxed);
            return exchanged.is_ok();
        }
        let mut link = self.chain;
        while !link.is_none() {
            let (hash, behind) = (self.at(link, |it| it.hash), self.behind(link));
            let cell = row.of(hash);
            let next = Link(cell.load(Ordering::Relaxed));
            self.change(link, |it| it.next = next);
            let link_there = if next.is_none() { link.without_more() } else { link.with_more() };
            cell.store(link_there.0, Ordering::Relaxed);
            link = behind;
        }
        // Written as this look ends.
        (self.chain, self.crowd) = (Link(moved), 0);
        true
    }
}
