//! What is known of keys whose answers cannot be shared as they are, for a while.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::HeaderName;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::Key;

/// How the last answers to a key were.
#[derive(Debug, Clone)]
pub(super) enum Remembered {
    /// Not to be shared. Its requests run alone, so that they do not wait for each other in vain.
    Alone,
    /// Different for different values of these headers, which then belong into the key.
    Varies(Arc<[HeaderName]>),
}

/// Bounded: what is asked for least goes first, and is learnt again.
pub(super) struct Memory {
    keys: OnceLock<Cache<Key, (Instant, Remembered)>>,
    most: usize,
}

impl Memory {
    pub(super) fn new(most: usize) -> Self {
        Self { keys: OnceLock::new(), most }
    }

    /// Costs nothing as long as there is nothing to remember.
    pub(super) fn recall(&self, key: &Key) -> Option<Remembered> {
        let (until, remembered) = self.keys.get()?.get(key)?;
        (Instant::now() < until).then_some(remembered)
    }

    pub(super) fn remember(&self, key: &Key, remembered: Remembered, so_long: Duration) {
        if self.most == 0 || so_long.is_zero() {
            return;
        }
        let until = Instant::now() + so_long.min(LONGEST);
        self.keys.get_or_init(|| Cache::new(self.most)).insert(key.clone(), (until, remembered));
    }
}

/// A year: clocks have an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
