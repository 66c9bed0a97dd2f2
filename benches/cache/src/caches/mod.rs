//! Who takes part. All hash with ahash, and are told the same of capacity and time.

mod moka;
mod quick_cache;
mod read_through;

use std::{ops::Deref, time::Duration};

use ahash::RandomState;

pub(crate) use self::{
    moka::{MokaAgain, MokaFuture, MokaGet, MokaGetWith},
    quick_cache::{QuickAsync, QuickGet, QuickGetOrInsertWith},
    read_through::{Async, Blocking, Present},
};
use crate::types::{Key, Value};

/// A way to look something up that is loaded if it is not there. Where a cache has none of its own, it is
/// looked up and inserted by two calls, and nothing is shared.
pub(crate) trait Cache<K: Key, V: Value>: Send + Sync + 'static {
    const NAME: &'static str;
    /// Whether it can be told of times.
    const KNOWS_TIME: bool = true;

    fn fresh(settings: &Settings) -> Self;

    fn look(&self, key: &K::Look, load: impl FnOnce() -> V) -> V;
}

#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) capacity: u64,
    pub(crate) times: Times,
    pub(crate) hasher: RandomState,
}

impl Settings {
    pub(crate) fn new(capacity: u64, times: Times) -> Self {
        Self { capacity, times, hasher: RandomState::new() }
    }
}

/// How long values are good for. None comes to its end while it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    /// For ever.
    None,
    /// `time_to_live`.
    Ttl,
    /// `ReadThrough`'s `soft_ttl` and `time_to_live`; of others only the latter.
    SoftTtl,
    /// `ReadThrough`'s `negative_ttl` and `time_to_live`; of moka an `Expiry` that is as constant.
    NegativeTtl,
    /// `ReadThrough`'s `time_to_live_of`; of moka an `Expiry`.
    TtlOf,
    /// `time_to_live`, and `ReadThrough` counts with `Stats`.
    TtlAndStats,
}

impl Times {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "no times",
            Self::Ttl => "time_to_live",
            Self::SoftTtl => "soft_ttl",
            Self::NegativeTtl => "negative_ttl",
            Self::TtlOf => "time_to_live_of",
            Self::TtlAndStats => "time_to_live, Stats",
        }
    }
}

const SOFT_TTL: Duration = Duration::from_secs(1_800);
const TTL: Duration = Duration::from_secs(3_600);

/// The operation that is measured: one function of the same shape for everybody.
#[inline(never)]
pub(crate) fn look<K: Key, V: Value, C: Cache<K, V>>(cache: &C, key: &K::Look, number: u64) -> V {
    cache.look(key, || V::of(number))
}

/// A cache on lines of its own, wherever the allocator or the stack would have put it.
#[repr(align(128))]
pub(crate) struct Apart<C>(pub(crate) C);

impl<C> Deref for Apart<C> {
    type Target = C;

    #[inline]
    fn deref(&self) -> &C {
        &self.0
    }
}
