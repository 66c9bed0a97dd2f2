//! The front of the table: one word for each of a fixed number of cells, where a flight that nobody
//! joins costs one compare-exchange to begin and one to end, and no lock.
//!
//! A key's hash chooses its cell. What others must know of a flight in a cell, above all its key, lies
//! in a [`Node`] inside the leader's own pinned future or stack frame, and the cell's word points to
//! it. The few flights that meet in one cell form a chain of nodes. A cell in which a flight was
//! joined, or in which too many meet, hands all of them over to the map behind the shard locks, and
//! counts them until they are gone.
//!
//! # The word
//!
//! | word | which flights of this cell there are | who may change it |
//! |---|---|---|
//! | `Empty`, all zero | none | anybody, to `Lone`, by compare-exchange |
//! | `Lone(node)` | that of the node | its leader, to `Empty`; the holder of the shard lock, to `Chain`; both by compare-exchange |
//! | `Chain(node)` | those of the node and of the ones behind it | the holder of the shard lock |
//! | `Crowd(n)` | `n`, all of them in the map | the holder of the shard lock |
//!
//! All keys of a cell belong to one shard (a cell's number begins with its shard's), so one lock
//! covers a cell and what of it is in the map. To look at a lone node is to make it a chain of one
//! first.
//!
//! # Why it holds
//!
//! - *One flight for each key* (G1). Without the lock a flight begins only in an `Empty` cell, and
//!   `Empty` says that no other flight of the cell exists. Under the lock it begins after a look at
//!   all of them, in a word that nobody else changes; or, if that is `Empty`, by the same
//!   compare-exchange as without the lock.
//! - *A node that is looked at stays.* Its word is `Chain` then, so its leader fails to release it and
//!   waits for the lock. A node that is still claimed when it is dropped ends the process, for nothing
//!   could make the pointer to it good again; `Pin` promises that it is dropped before its memory is
//!   used for anything else.
//! - *A leader finds what became of its flight.* Under the lock its node is in the chain, and then
//!   nobody has joined; or it is not, and then the flight is in the map under its id, or was forgotten.
//! - *No mistaken identity* (the ABA problem). A word `Lone(node)` that a leader releases can only be
//!   its own claim: a node is claimed once, and while it is pinned its address is nobody else's.
//! - *Ordering.* A claim publishes the node (Release) to whoever makes it a chain (Acquire). A release,
//!   and whatever makes a word `Empty` under the lock, publishes what the flights before it did
//!   (Release) to the next claim (Acquire): executions of a key see each other.
//!
//! Who cannot go on without the lock waits for the lock, and that parks. Nobody spins until somebody
//! else moves: a compare-exchange is tried again only after another caller's has succeeded.

#![allow(unsafe_code, reason = "a cell points into the leader's own future")]

mod look;
mod node;

pub(super) use self::look::{Look, Moved, Place};
pub(crate) use self::node::Node;

use std::{iter, pin::Pin, ptr};

use self::node::{CROWD, Link, MORE, as_ptr};
use super::KeyHash;
use crate::sync::{AtomicPtr, Ordering};

/// What a word says.
enum Word<K> {
    Empty,
    Lone(Link<K>),
    Chain(Link<K>),
    Crowd(u32),
}

impl<K> Word<K> {
    #[inline(always)]
    fn from_raw(raw: *mut Node<K>) -> Self {
        match raw.addr() {
            0 => Self::Empty,
            addr if addr & CROWD != 0 => Self::Crowd((addr >> 2) as u32),
            addr if addr & MORE != 0 => Self::Chain(Link(raw)),
            _ => Self::Lone(Link(raw)),
        }
    }
}

type Cell<K> = AtomicPtr<Node<K>>;

pub(super) struct Cells<K> {
    /// 2 to the power of 32 - `shift`, so that what is left of a hash is always one of them.
    cells: Box<[Cell<K>]>,
    shift: u32,
}

/// The cell of a key.
pub(super) struct Spot<'c, K>(&'c Cell<K>);

impl<K> Cells<K> {
    /// 2 to the power of `bits` cells.
    pub(super) fn new(bits: u32) -> Self {
        assert!((1..=32).contains(&bits));
        let cells = (0..1_usize << bits).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        Self { cells, shift: 32 - bits }
    }

    #[inline(always)]
    fn of(&self, hash: KeyHash) -> &Cell<K> {
        let cell = hash.after(self.shift);
        debug_assert!(cell < self.cells.len());
        // SAFETY: a hash of 32 bits without `shift` of them is less than 2 to the power of the others,
        // which is how many cells there are (`new`).
        unsafe { self.cells.get_unchecked(cell) }
    }

    #[inline(always)]
    pub(super) fn spot(&self, hash: KeyHash) -> Spot<'_, K> {
        Spot(self.of(hash))
    }

    /// Those of a shard, one of `2 ^ shard_bits`.
    fn of_shard(&self, shard: usize, shard_bits: u32) -> &[Cell<K>] {
        let each = 32 - self.shift - shard_bits;
        &self.cells[shard << each..(shard + 1) << each]
    }

    /// Whether nothing of this cell is in flight.
    #[inline(always)]
    pub(super) fn is_empty(&self, hash: KeyHash) -> bool {
        self.spot(hash).is_empty()
    }

    /// Whether flights of this cell are in the map, so that a look at that is worth its while.
    #[inline(always)]
    pub(super) fn is_crowded(&self, hash: KeyHash) -> bool {
        // Relaxed: what is found in the map is found under its lock.
        matches!(Word::from_raw(self.of(hash).load(Ordering::Relaxed)), Word::Crowd(_))
    }

    /// Has the cell's cache line brought here, to be written: the compare-exchange of a release waits
    /// for everything before it, and would only then begin to wait for the line.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: KeyHash) {
        #[cfg(all(target_arch = "x86_64", not(loom)))]
        {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: a hint, which reads and writes nothing.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(self.of(hash).as_ptr().cast()) };
        }
        #[cfg(not(all(target_arch = "x86_64", not(loom))))]
        let _ = hash;
    }

    /// Ends the node's flight if nobody has looked at it. Otherwise its leader must come again with
    /// the lock. Needs none.
    #[inline(always)]
    pub(super) fn release(&self, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let raw = Link::to(as_ptr(node.as_mut()), hash).0;
        // Release: the next flight sees what this one did. Acquire: the leader gets its key back from
        // whoever had a look at it and restored the word.
        let released = self
            .of(hash)
            .compare_exchange(raw, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if released {
            node.set_claimed(false);
        }
        released
    }

    /// How many flights are in the cells of a shard, one of `2 ^ shard_bits`.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the shard.
    pub(super) unsafe fn count(&self, shard: usize, shard_bits: u32) -> usize {
        let chain = |cell: &Cell<K>| match Word::from_raw(cell.load(Ordering::Acquire)) {
            Word::Empty | Word::Crowd(_) => 0,
            Word::Lone(_) => 1,
            Word::Chain(head) => {
                iter::successors(Some(head), |link| {
                    // SAFETY: nodes of a chain stay, and only the lock's holder changes them.
                    let resident = unsafe { &(*link.node()).resident };
                    // SAFETY: as above.
                    let next = resident.with(|it| unsafe { (*it).next });
                    (!next.is_none()).then_some(next)
                })
                .count()
            }
        };
        self.of_shard(shard, shard_bits).iter().map(chain).sum()
    }
}

impl<K> Spot<'_, K> {
    /// Whether nothing of this cell is in flight, so that a claim is worth trying.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        // Acquire: who learns from this that a flight has ended sees what it did.
        self.0.load(Ordering::Acquire).is_null()
    }

    /// Begins the flight of a node with the key's hash in this cell, if that is `Empty`. Needs no lock.
    #[inline(always)]
    pub(super) fn claim(&self, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let raw = Link::to(as_ptr(node.as_mut()), hash).0;
        // Before the claim: from then on others read the node.
        node.as_mut().set_claimed(true);
        // Release: whoever looks at the node sees what was put into it. Acquire: the flight that begins
        // sees what the one before it did.
        let claimed = self
            .0
            .compare_exchange(ptr::null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if !claimed {
            node.set_claimed(false);
        }
        claimed
    }
}

#[cfg(all(test, not(loom)))]
impl<K> Cells<K> {
    /// How many flights in the map the cells count.
    pub(super) fn crowded(&self) -> usize {
        let crowd = |cell: &Cell<K>| match Word::from_raw(cell.load(Ordering::Acquire)) {
            Word::Crowd(n) => n as usize,
            Word::Empty | Word::Lone(_) | Word::Chain(_) => 0,
        };
        self.cells.iter().map(crowd).sum()
    }
}
