//! A look at a cell under the lock of its shard.

use std::{pin::Pin, ptr};

use super::{
    super::{KeyHash, Stamp},
    Cell, Cells, Spot, Word,
    node::{CROWD, Claim, Link, Node, Resident, as_ptr},
};
use crate::{flight::FlightId, sync::Ordering};

/// So many flights a cell chains at most: to look at one costs a cache line of somebody's.
const CHAIN_MAX: usize = 4;

/// A look at a cell under the lock of its shard. What it changes is written back when it is dropped,
/// also by a panic of the user's `Eq`. Until then nobody else changes the cell, unless it is empty.
pub(in crate::table) struct Look<'c, K> {
    pub(super) cell: &'c Cell<K>,
    /// What the cell contains.
    pub(super) raw: *mut Node<K>,
    /// What it is to contain: a chain, or the number of flights in the map.
    pub(super) chain: Link<K>,
    pub(super) crowd: u32,
}

impl<K> Cells<K> {
    /// Looks at a cell, and keeps the flights in it from ending until the look is over.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the cell's shard, and keeps it until it has dropped the result.
    pub(in crate::table) unsafe fn look(&self, hash: KeyHash) -> Look<'_, K> {
        // SAFETY: passed on.
        unsafe { Self::look_at(self.in_row(hash)) }
    }

    /// Looks at the cells of a shard, one after the other.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the shard, and keeps it until it has dropped the result and all that
    /// came out of it.
    pub(in crate::table) unsafe fn look_at_all(
        &self,
        shard: usize,
    ) -> impl Iterator<Item = Look<'_, K>> {
        // SAFETY: passed on.
        self.of_shard(shard).iter().map(|cell| unsafe { Self::look_at(cell) })
    }

    /// # Safety
    ///
    /// As for `look`.
    pub(super) unsafe fn look_at(cell: &Cell<K>) -> Look<'_, K> {
        // Acquire, here and below: pairs with the claim, for the node.
        let mut raw = cell.load(Ordering::Acquire);
        loop {
            let look = |raw, chain, crowd| Look { cell, raw, chain, crowd };
            match Word::from_raw(raw) {
                Word::Empty => return look(raw, Link::NONE, 0),
                Word::Crowd(n) => return look(raw, Link::NONE, n),
                Word::Chain(link) => return look(raw, link, 0),
                Word::Moved => unreachable!("only a row that was replaced has such cells"),
                Word::Lone(link) => {
                    let chain = link.with_more().0;
                    match cell.compare_exchange(raw, chain, Ordering::AcqRel, Ordering::Acquire) {
                        Ok(_) => return look(chain, link, 0),
                        Err(now) => raw = now,
                    }
                }
            }
        }
    }
}

impl<'c, K> Look<'c, K> {
    /// Looks at a node of the chain.
    pub(super) fn at<R>(&self, link: Link<K>, look: impl FnOnce(&Resident<K>) -> R) -> R {
        // SAFETY: a node of a chain stays; and we hold the lock, so nobody changes it.
        let resident = unsafe { &(*link.node()).resident };
        // SAFETY: as above.
        resident.with(|it| look(unsafe { &*it }))
    }

    /// The same, to change it.
    pub(super) fn change<R>(
        &mut self,
        link: Link<K>,
        change: impl FnOnce(&mut Resident<K>) -> R,
    ) -> R {
        // SAFETY: a node of a chain stays; and we hold the lock, so nobody else looks at it.
        let resident = unsafe { &(*link.node()).resident };
        // SAFETY: as above.
        resident.with_mut(|it| change(unsafe { &mut *it }))
    }

    /// What is behind a node, which is looked at only if something may be.
    pub(super) fn behind(&self, link: Link<K>) -> Link<K> {
        if link.has_more() { self.at(link, |it| it.next) } else { Link::NONE }
    }

    /// The flight of this key in the cell.
    pub(in crate::table) fn find(
        &mut self,
        hash: KeyHash,
        mut is_it: impl FnMut(&K) -> bool,
    ) -> Option<Found<K>> {
        let mut link = self.chain;
        while !link.is_none() {
            if link.may_be(hash) {
                let found = self.at(link, |it| {
                    let key = it.key.as_ref().expect("a flight in a cell has its key");
                    is_it(key).then_some((it.id, it.began))
                });
                if let Some((id, began)) = found {
                    return Some(Found { link, id, began });
                }
            }
            link = self.behind(link);
        }
        None
    }

    /// Shows each flight in the cell.
    pub(in crate::table) fn for_each(&self, mut see: impl FnMut(&K, FlightId, Stamp)) {
        let mut link = self.chain;
        while !link.is_none() {
            self.at(link, |it| {
                see(it.key.as_ref().expect("a flight in a cell has its key"), it.id, it.began);
            });
            link = self.behind(link);
        }
    }

    /// Where a new flight of the cell belongs.
    pub(in crate::table) fn place(&self) -> Place<'c, K> {
        if self.raw.is_null() {
            return Place::Empty(Spot::of(self.cell));
        }
        let (mut link, mut length) = (self.chain, 0);
        while !link.is_none() {
            (link, length) = (self.behind(link), length + 1);
        }
        match length {
            0 => Place::Map,
            1..CHAIN_MAX => Place::Chain,
            _ => Place::Full,
        }
    }

    /// Begins the node's flight at the head of the chain.
    pub(in crate::table) fn push(&mut self, hash: KeyHash, mut node: Pin<&mut Node<K>>) {
        assert!(!self.chain.is_none(), "a chain begins with a claim");
        node.as_mut().come(Claim::Found);
        let (head, next) = (Link::to(as_ptr(node), hash), self.chain);
        self.change(head, |it| it.next = next);
        self.chain = head.with_more();
    }

    /// Takes a flight out of the chain.
    fn unlink(&mut self, link: Link<K>) -> Moved<K> {
        let (moved, next) = self.change(link, |it| {
            let key = it.key.take().expect("a flight in a cell has its key");
            (Moved { key, id: it.id, hash: it.hash, began: it.began }, it.next)
        });
        if link.node() == self.chain.node() {
            // As it was when this one came before it. If what was behind that has gone since, it is
            // taken for a chain until it ends.
            self.chain = next;
        } else {
            let mut before = self.chain;
            while self.behind(before).node() != link.node() {
                before = self.behind(before);
            }
            self.change(before, |it| it.next = next);
            if before.node() == self.chain.node() && next.is_none() {
                self.chain = before.without_more();
            }
        }
        moved
    }

    /// Takes a flight out of the cell for good.
    pub(in crate::table) fn remove(&mut self, found: &Found<K>) -> K {
        self.unlink(found.link).key
    }

    /// Takes the first flight of the chain out of the cell for good.
    pub(in crate::table) fn take(&mut self) -> Option<Moved<K>> {
        if self.chain.is_none() { None } else { Some(self.unlink(self.chain)) }
    }

    /// Takes the first flight of the chain, for the caller to put it into the map.
    pub(in crate::table) fn pop(&mut self) -> Option<Moved<K>> {
        if self.chain.is_none() {
            return None;
        }
        self.add();
        self.take()
    }

    /// Makes an empty cell one of which flights are in the map: the caller is going to add one. `false`
    /// if somebody has claimed it meanwhile; then this look is over.
    pub(in crate::table) fn open(&mut self) -> bool {
        if !self.raw.is_null() {
            return true;
        }
        let crowd = crowd_of(1);
        // AcqRel: as a claim.
        let opened = self
            .cell
            .compare_exchange(self.raw, crowd, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if opened {
            // It counts one that is not there yet; if it never comes, the look ends with none.
            self.raw = crowd;
        }
        opened
    }

    /// A flight of this cell has been put into the map.
    pub(in crate::table) fn add(&mut self) {
        assert!(!self.raw.is_null(), "a flight begins in its cell if that is empty");
        self.crowd = self.crowd.checked_add(1).expect("fewer than 2^32 flights in a cell");
    }

    /// A flight of this cell has been taken out of the map.
    pub(in crate::table) fn sub(&mut self) {
        self.crowd = self.crowd.checked_sub(1).expect("each was counted once");
    }

    /// Whether flights of this cell are in the map.
    pub(in crate::table) fn is_crowded(&self) -> bool {
        self.crowd > 0
    }

    /// Ends the node's flight if it still is in the cell; returns its key then. Afterwards no cell
    /// points to the node.
    pub(in crate::table) fn release(&mut self, mut node: Pin<&mut Node<K>>) -> Option<K> {
        let own = as_ptr(node.as_mut());
        node.leave();
        let mut link = self.chain;
        while link.node() != own {
            if link.is_none() {
                return None;
            }
            link = self.behind(link);
        }
        Some(self.unlink(link).key)
    }
}

impl<K> Drop for Look<'_, K> {
    fn drop(&mut self) {
        debug_assert!(self.chain.is_none() || self.crowd == 0, "a crowd leaves no chain behind");
        let raw = match self.crowd {
            0 => self.chain.0,
            n => crowd_of(n),
        };
        if raw != self.raw {
            // Release: whoever claims, looks at or releases the cell next sees what was done here,
            // and what the flights did that have ended.
            self.cell.store(raw, Ordering::Release);
        }
    }
}

/// The word that says so many flights of the cell are in the map.
pub(super) fn crowd_of<K>(n: u32) -> *mut Node<K> {
    ptr::without_provenance_mut((n as usize) << 2 | CROWD)
}

/// A flight found in a cell. Good until the look that found it changes the chain.
pub(in crate::table) struct Found<K> {
    link: Link<K>,
    pub(in crate::table) id: FlightId,
    pub(in crate::table) began: Stamp,
}

/// A flight taken out of a cell.
pub(in crate::table) struct Moved<K> {
    pub(in crate::table) key: K,
    pub(in crate::table) id: FlightId,
    /// By which its leader will look for it.
    pub(in crate::table) hash: KeyHash,
    pub(in crate::table) began: Stamp,
}

pub(in crate::table) enum Place<'c, K> {
    /// The cell, to be claimed as without the lock.
    Empty(Spot<'c, K>),
    /// The chain.
    Chain,
    /// The map, where others of the cell are.
    Map,
    /// The map, with all that is in the chain, which is long enough.
    Full,
}
