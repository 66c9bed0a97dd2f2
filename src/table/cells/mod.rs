//! The front of the table: words, the cells, in which a flight that nobody joins costs one
//! compare-exchange to begin and one to end, and no lock.
//!
//! A key's hash chooses its cell: its first bits a shard, and more of them a cell of the shard's *row*.
//! What others must know of a flight in a cell, above all its key, lies in a [`Node`] inside the leader's
//! own pinned future or stack frame, and the cell's word points to it. The few flights that meet in one
//! cell form a chain of nodes. A cell in which a flight was joined, or in which too many meet, hands all
//! of them over to the map behind the shard locks, and counts them until they are gone.
//!
//! # The word
//!
//! | word | which flights of this cell there are | who may change it |
//! |---|---|---|
//! | `Empty`, all zero | none | anybody, to `Lone`, by compare-exchange |
//! | `Lone(node)` | that of the node | its leader, to `Empty`; the holder of the shard lock, to `Chain`; both by compare-exchange |
//! | `Chain(node)` | those of the node and of the ones behind it | the holder of the shard lock |
//! | `Crowd(n)` | `n`, all of them in the map | the holder of the shard lock |
//! | `Moved` | those of another cell, in the shard's next row | nobody |
//!
//! All keys of a cell belong to one shard (a cell's number begins with its shard's), so one lock
//! covers a cell and what of it is in the map. To look at a lone node is to make it a chain of one
//! first.
//!
//! # Growth
//!
//! All shards begin with their parts of one row, so that a call need not ask where its cell is. A shard of
//! which too many flights are in the map gets a longer row of its own ([`grow`]), from whoever has found a
//! chain full, under the shard lock:
//!
//! 1. Of the flights in the map each is counted in its cell of the new row, which nobody else knows yet.
//! 2. Each cell of the old row becomes `Moved`: an `Empty` one by compare-exchange, for it may be
//!    claimed meanwhile, any other after a look at it, and after its chain has been hung into the new row.
//! 3. The new row is published. The old one stays in memory as long as the group, for somebody may
//!    still be about to claim or to release in it.
//!
//! From then on calls look for the row of their shard first. Who has not heard of it, or comes late, meets
//! `Moved` and takes the lock, and has the new row then.
//!
//! # Why it holds
//!
//! - *One flight for each key* (G1). Without the lock a flight begins only in an `Empty` cell, and
//!   `Empty` says that no other flight of the cell exists. Of the cells that a hash has had, one in each
//!   row, all but one are `Moved` whenever anybody can know of that one; so it does not matter which
//!   row a claim or a release has found, nor when. Under the lock it begins after a look at
//!   all of them, in a word that nobody else changes; or, if that is `Empty`, by the same
//!   compare-exchange as without the lock.
//! - *A node that is looked at stays.* Its word is `Chain` then, so its leader fails to release it and
//!   waits for the lock. A node that is still claimed when it is dropped ends the process, for nothing
//!   could make the pointer to it good again; `Pin` promises that it is dropped before its memory is
//!   used for anything else.
//! - *A leader finds what became of its flight.* It fails to release what was looked at, and finds what
//!   has moved in the new row or fails in the old one. Under the lock its node is in the chain, and then
//!   nobody has joined; or it is not, and then the flight is in the map under its id, or was forgotten.
//! - *No mistaken identity* (the ABA problem). A word `Lone(node)` that a leader releases can only be
//!   its own claim: a node is claimed once, and while it is pinned its address is nobody else's.
//! - *Ordering.* A claim publishes the node (Release) to whoever makes it a chain (Acquire). A release,
//!   and whatever makes a word `Empty` under the lock, publishes what the flights before it did
//!   (Release) to the next claim (Acquire): executions of a key see each other. So does growth: it takes
//!   an `Empty` cell out of use with Acquire, and publishes the next row with Release to whoever
//!   loads it (Acquire).
//!
//! Who cannot go on without the lock waits for the lock, and that parks. Nobody spins until somebody
//! else moves: a compare-exchange is tried again only after another caller's has succeeded.

#![allow(unsafe_code, reason = "a cell points into the leader's own future")]

mod grow;
mod look;
mod node;
mod row;

pub(super) use self::look::{Look, Moved, Place};
pub(crate) use self::node::Node;

use std::{
    iter,
    pin::Pin,
    ptr,
    // Not that of the models: it keeps what is reached through pointers.
    sync::Arc,
};

use self::{
    node::{CROWD, Claim, Link, MORE, as_ptr},
    row::Row,
};
use super::KeyHash;
use crate::sync::{AtomicBool, AtomicPtr, Mutex, Ordering};

/// What a word says.
enum Word<K> {
    Empty,
    Lone(Link<K>),
    Chain(Link<K>),
    Crowd(u32),
    Moved,
}

/// A crowd of none, which no cell in use contains.
const MOVED: usize = CROWD;

impl<K> Word<K> {
    #[inline(always)]
    fn from_raw(raw: *mut Node<K>) -> Self {
        match raw.addr() {
            0 => Self::Empty,
            MOVED => Self::Moved,
            addr if addr & CROWD != 0 => Self::Crowd((addr >> 2) as u32),
            addr if addr & MORE != 0 => Self::Chain(Link(raw)),
            _ => Self::Lone(Link(raw)),
        }
    }
}

type Cell<K> = AtomicPtr<Node<K>>;

pub(super) struct Cells<K> {
    /// Of all shards, as the group was made.
    first: Row<K>,
    /// Whether a shard has others by now.
    has_grown: AtomicBool,
    /// Of each shard what it has instead; null if nothing. Only the holder of its lock changes it.
    later: Box<[AtomicPtr<Row<K>>]>,
    /// What was ever there, for there may be somebody who has found it there.
    kept: Mutex<Vec<Arc<Row<K>>>>,
}

/// The cell of a key.
pub(super) struct Spot<'c, K> {
    cell: &'c Cell<K>,
    /// What a node is that comes there.
    claim: Claim,
}

impl<K> Cells<K> {
    /// 2 to the power of `bits` cells for 2 to the power of `shard_bits` shards, no more than cells.
    pub(super) fn new(shard_bits: u32, bits: u32) -> Self {
        assert!(shard_bits <= bits);
        let later = (0..1_usize << shard_bits).map(|_| AtomicPtr::new(ptr::null_mut())).collect();
        let (has_grown, kept) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        Self { first: Row::of_all(bits), has_grown, later, kept }
    }

    fn shard_bits(&self) -> u32 {
        self.later.len().trailing_zeros()
    }

    /// A row in which this shard has its cells.
    fn row(&self, shard: usize) -> &Row<K> {
        // Acquire: pairs with the Release in `grow`; the cells are there, and what flights did in those
        // before them is seen.
        let row = self.later[shard].load(Ordering::Acquire);
        // SAFETY: what was put there is kept as long as `self`.
        unsafe { row.as_ref() }.unwrap_or(&self.first)
    }

    /// Whether a key's cell is in another row than the first, as far as the caller knows.
    #[inline(always)]
    pub(super) fn has_grown(&self) -> bool {
        // Relaxed: who does not see it yet meets `Moved`.
        self.has_grown.load(Ordering::Relaxed)
    }

    /// The cell of a key in the first row.
    #[inline(always)]
    fn in_first(&self, hash: KeyHash) -> &Cell<K> {
        // SAFETY: this is the row of all shards.
        unsafe { self.first.of_any(hash) }
    }

    /// The cell of a key. The holder of the shard's lock gets the one in use, anybody else that or one
    /// that was.
    #[inline]
    fn in_row(&self, hash: KeyHash) -> &Cell<K> {
        self.row(hash.leading(self.shard_bits())).of(hash)
    }

    /// The same at less cost where there is one row.
    #[inline]
    fn of(&self, hash: KeyHash) -> &Cell<K> {
        if self.has_grown() { self.in_row(hash) } else { self.in_first(hash) }
    }

    /// Those of a shard, in the order of their numbers.
    fn of_shard(&self, shard: usize) -> &[Cell<K>] {
        self.row(shard).of_shard(shard, self.shard_bits())
    }

    /// For as long as no shard has grown; afterwards nothing begins there.
    #[inline(always)]
    pub(super) fn spot_in_first(&self, hash: KeyHash) -> Spot<'_, K> {
        Spot { cell: self.in_first(hash), claim: Claim::First }
    }

    pub(super) fn spot(&self, hash: KeyHash) -> Spot<'_, K> {
        Spot::of(self.of(hash))
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
    pub(super) fn release(&self, hash: KeyHash, node: Pin<&mut Node<K>>) -> bool {
        Self::release_from(self.of(hash), hash, node)
    }

    /// The same of a node that has come into the first row.
    #[inline(always)]
    pub(super) fn release_in_first(&self, hash: KeyHash, node: Pin<&mut Node<K>>) -> bool {
        Self::release_from(self.in_first(hash), hash, node)
    }

    #[inline(always)]
    fn release_from(cell: &Cell<K>, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let raw = Link::to(as_ptr(node.as_mut()), hash).0;
        // Release: the next flight sees what this one did. Acquire: the leader gets its key back from
        // whoever had a look at it and restored the word.
        let released = cell
            .compare_exchange(raw, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if released {
            node.leave();
        }
        released
    }

    /// How many flights are in the cells of a shard.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the shard.
    pub(super) unsafe fn count(&self, shard: usize) -> usize {
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
            Word::Moved => unreachable!("only a row that was replaced has such cells"),
        };
        self.of_shard(shard).iter().map(chain).sum()
    }
}

impl<'c, K> Spot<'c, K> {
    /// In any row.
    fn of(cell: &'c Cell<K>) -> Self {
        Self { cell, claim: Claim::Found }
    }

    /// Whether nothing of this cell is in flight, so that a claim is worth trying.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        // Acquire: who learns from this that a flight has ended sees what it did.
        self.cell.load(Ordering::Acquire).is_null()
    }

    /// Begins the flight of a node with the key's hash in this cell, if that is `Empty`. Needs no lock.
    #[inline(always)]
    pub(super) fn claim(&self, hash: KeyHash, mut node: Pin<&mut Node<K>>) -> bool {
        let raw = Link::to(as_ptr(node.as_mut()), hash).0;
        // Before the claim: from then on others read the node.
        node.as_mut().come(self.claim);
        // Release: whoever looks at the node sees what was put into it. Acquire: the flight that begins
        // sees what the one before it did.
        let claimed = self
            .cell
            .compare_exchange(ptr::null_mut(), raw, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok();
        if !claimed {
            node.leave();
        }
        claimed
    }
}

#[cfg(all(test, not(loom)))]
impl<K> Cells<K> {
    /// How many cells there are.
    pub(super) fn total(&self) -> usize {
        (0..self.later.len()).map(|shard| self.of_shard(shard).len()).sum()
    }

    /// How many flights in the map the cells count.
    pub(super) fn crowded(&self) -> usize {
        let crowd = |cell: &Cell<K>| match Word::from_raw(cell.load(Ordering::Acquire)) {
            Word::Crowd(n) => n as usize,
            Word::Empty | Word::Lone(_) | Word::Chain(_) | Word::Moved => 0,
        };
        (0..self.later.len()).flat_map(|shard| self.of_shard(shard)).map(crowd).sum()
    }
}
