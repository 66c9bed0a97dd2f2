//! What the table makes of a key's hash.

/// The part of a key's hash that the table uses, computed once and outside every lock.
///
/// 32 bits, so that a slot with its hash fits into 16 bytes: a map that grows must not call the
/// user's `Hash` under its lock. They serve 2^19 keys in each of 64 shards before bits are used
/// twice.
///
/// A whole word all the same: what it is moved with is then copied in pieces that do not overlap, and
/// need not wait for each other when they are read again at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

/// The same in half the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShortHash(u32);

impl KeyHash {
    /// Of no key; any would do.
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn new(hash: u64) -> Self {
        // One multiplication (Knuth, "The Art of Computer Programming" 3, 6.4) spreads what a weak
        // hasher leaves in the low bits, as one that returns an integer key itself does.
        Self(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
    }

    /// The first bits: the number of a shard, or, with more of them, of a cell of that shard.
    #[inline(always)]
    pub(super) fn leading(self, bits: u32) -> usize {
        (self.0 >> (32 - bits)) as usize
    }

    /// Without the last bits, so many: with a shift that is known the number of a cell.
    #[inline(always)]
    pub(super) fn after(self, shift: u32) -> usize {
        (self.0 >> shift) as usize
    }

    /// The last bits.
    #[inline(always)]
    pub(super) fn trailing(self) -> usize {
        self.0 as usize
    }

    pub(super) fn short(self) -> ShortHash {
        ShortHash(self.0 as u32)
    }

    /// Spread over 64 bits, as the tables of the shards take it: they choose by the lowest bits, and
    /// then by the highest, which must differ within a shard.
    #[cfg(not(loom))]
    pub(super) fn wide(self) -> u64 {
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl From<ShortHash> for KeyHash {
    fn from(ShortHash(hash): ShortHash) -> Self {
        Self(hash.into())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn weak_hashes_spread_over_shards_and_buckets() {
        let mut shards = std::collections::HashSet::new();
        for weak in 0..64_u64 {
            shards.insert(KeyHash::new(weak).leading(6));
        }
        assert!(shards.len() > 32, "64 neighbouring integers share {} shards", shards.len());
    }
}
