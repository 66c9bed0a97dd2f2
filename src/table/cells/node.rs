//! What a cell points to, and the pointer.

use std::{marker::PhantomPinned, pin::Pin, process::abort, ptr};

use super::super::{KeyHash, Stamp};
use crate::{flight::FlightId, sync::UnsafeCell};

/// What others may look at of a flight in a cell. Aligned as memory from an allocator is anyway, for
/// the bits that [`Link`] needs.
#[repr(align(16))]
pub(crate) struct Node<K> {
    /// Whether a cell may point here. The leader's own.
    claim: Claim,
    /// The leader's own until it claims and after it releases; in between the lock holder's.
    pub(super) resident: UnsafeCell<Resident<K>>,
    _pinned: PhantomPinned,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    None,
    /// In the group's first row, as far as its leader knows; the group has no observer.
    First,
    /// In a cell that is to be found by the hash.
    Found,
}

pub(super) struct Resident<K> {
    /// Taken out when the flight moves into the map or is forgotten.
    pub(super) key: Option<K>,
    pub(super) id: FlightId,
    pub(super) hash: KeyHash,
    pub(super) began: Stamp,
    pub(super) next: Link<K>,
}

// SAFETY: `next` is a pointer like that in the cell, to be followed under the lock alone. Otherwise a
// node owns a key.
unsafe impl<K: Send> Send for Node<K> {}

// SAFETY: what is in the `UnsafeCell` is reached through `Cells` alone, and there by one thread at a
// time, under the rules above; that thread gets a `&K` or, when the flight moves, the `K`.
unsafe impl<K: Send + Sync> Sync for Node<K> {}

impl<K> Node<K> {
    pub(crate) fn new() -> Self {
        let (id, hash, began) = (FlightId(0), KeyHash::NONE, Stamp::NONE);
        let resident = Resident { key: None, id, hash, began, next: Link::NONE };
        Self { claim: Claim::None, resident: UnsafeCell::new(resident), _pinned: PhantomPinned }
    }

    /// Puts a flight into a node that is in no cell.
    #[inline(always)]
    pub(in crate::table) fn fill(
        self: Pin<&mut Self>,
        key: K,
        id: FlightId,
        hash: KeyHash,
        began: Stamp,
    ) {
        assert!(!self.is_claimed());
        // SAFETY: the node is in no cell, so `&mut self` is all access there is.
        self.resident.with_mut(|it| unsafe {
            *it = Resident { key: Some(key), id, hash, began, next: Link::NONE }
        });
    }

    /// The key, if it still is here, of a node that is in no cell.
    #[inline(always)]
    pub(in crate::table) fn take_key(self: Pin<&mut Self>) -> Option<K> {
        assert!(!self.is_claimed());
        // SAFETY: the node is in no cell, so `&mut self` is all access there is.
        self.resident.with_mut(|it| unsafe { (*it).key.take() })
    }

    /// When the flight began of a node that is in no cell any more.
    pub(in crate::table) fn began(&self) -> Stamp {
        assert!(!self.is_claimed());
        // SAFETY: the node is in no cell, so its owner is all who looks at it.
        self.resident.with(|it| unsafe { (*it).began })
    }

    /// Whether the flight began in a cell. Whether it still is there its leader learns by releasing.
    #[inline(always)]
    pub(in crate::table) fn is_claimed(&self) -> bool {
        self.claim != Claim::None
    }

    /// The same of one in the first row, as far as its leader knows. The group has no observer then.
    #[inline(always)]
    pub(in crate::table) fn is_in_first(&self) -> bool {
        self.claim == Claim::First
    }

    /// The same of one that is in any row.
    pub(in crate::table) fn is_found(&self) -> bool {
        self.claim == Claim::Found
    }

    #[inline(always)]
    pub(super) fn come(self: Pin<&mut Self>, claim: Claim) {
        // SAFETY: nothing is moved.
        unsafe { self.get_unchecked_mut() }.claim = claim;
    }

    /// No cell points to the node, or to its flight, any more.
    #[inline(always)]
    pub(in crate::table) fn leave(self: Pin<&mut Self>) {
        self.come(Claim::None);
    }
}

impl<K> Drop for Node<K> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.is_claimed() {
            // A pointer to it would dangle. No path leads here: a `Lead` gives its flight up.
            abort();
        }
    }
}

/// A pointer to a node, with bits that save a look at the node:
///
/// | bits | meaning |
/// |---|---|
/// | 0 | others may be behind it |
/// | 1 | not a node, but a number ([`Word::Crowd`](super::Word)) |
/// | 2, 3 | of the key's hash: a node with others cannot be the one that is looked for |
pub(super) struct Link<K>(pub(super) *mut Node<K>);

const BITS: usize = 0b1111;
pub(super) const MORE: usize = 0b0001;
pub(super) const CROWD: usize = 0b0010;
const HASH: usize = 0b1100;

impl<K> Link<K> {
    pub(super) const NONE: Self = Self(ptr::null_mut());
    const BITS_FIT: () = assert!(align_of::<Node<K>>() > BITS);

    #[inline(always)]
    pub(super) fn to(node: *mut Node<K>, hash: KeyHash) -> Self {
        let () = Self::BITS_FIT;
        Self(node.map_addr(|addr| addr | hash.trailing() << 2 & HASH))
    }

    pub(super) fn is_none(self) -> bool {
        self.0.is_null()
    }

    pub(super) fn node(self) -> *mut Node<K> {
        self.0.map_addr(|addr| addr & !BITS)
    }

    /// Whether the node may have this hash.
    pub(super) fn may_be(self, hash: KeyHash) -> bool {
        self.0.addr() & HASH == hash.trailing() << 2 & HASH
    }

    pub(super) fn has_more(self) -> bool {
        self.0.addr() & MORE != 0
    }

    pub(super) fn with_more(self) -> Self {
        Self(self.0.map_addr(|addr| addr | MORE))
    }

    pub(super) fn without_more(self) -> Self {
        Self(self.0.map_addr(|addr| addr & !MORE))
    }
}

impl<K> Clone for Link<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Link<K> {}

#[inline(always)]
pub(super) fn as_ptr<K>(node: Pin<&mut Node<K>>) -> *mut Node<K> {
    // SAFETY: nothing is moved out of the reference.
    ptr::from_mut(unsafe { node.get_unchecked_mut() })
}
