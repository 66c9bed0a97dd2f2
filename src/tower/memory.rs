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
    /// The same, by what only the trailers said: a head that may be shared proves nothing.
    AloneAtTheEnd,
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

    pub(super) fn is_alone_at_the_end(&self, key: &Key) -> bool {
        matches!(self.recall(key), Some(Remembered::AloneAtTheEnd))
    }

    pub(super) fn forget(&self, key: &Key) {
        if let Some(keys) = self.keys.get() {
            keys.remove(key);
        }
    }

    /// Forgets it after this time at the latest.
    pub(super) fn shorten(&self, key: &Key, rest: Duration) {
        let Some(keys) = self.keys.get() else { return };
        let latest = Instant::now() + rest;
        if let Some((until, remembered)) = keys.get(key)
            && until > latest
        {
            keys.insert(key.clone(), (latest, remembered));
        }
    }

    pub(super) fn remember(&self, key: &Key, remembered: Remembered, so_long: Duration) {
        if self.most == 0 || so_long.is_zero() || key.len() > LONGEST_KEY {
            return;
        }
        let until = Instant::now() + so_long.min(LONGEST);
        self.keys.get_or_init(|| Cache::new(self.most)).insert(key.clone(), (until, remembered));
    }
}

/// In bytes: nobody is to fill the memory with targets and headers. Requests with a longer one wait for each
/// other, once.
const LONGEST_KEY: usize = 4096;

/// A year: clocks have an end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(all(test, not(loom)))]
mod tests {
    use http::Request;

    use super::*;
    use crate::tower::{Policy, judge::Content};

    fn key(n: usize) -> Key {
        let (mut request, ()) = Request::get(format!("/{n}")).body(()).unwrap().into_parts();
        Policy::new().key_of(&mut request, Content::Absent).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn it_forgets_when_the_time_has_come() {
        let memory = Memory::new(8);
        let second = Duration::from_secs(1);
        memory.remember(&key(1), Remembered::Alone, second);
        memory.remember(&key(2), Remembered::Alone, Duration::MAX);
        memory.remember(&key(3), Remembered::Alone, Duration::ZERO);
        assert!(memory.recall(&key(1)).is_some());
        assert!(memory.recall(&key(3)).is_none());
        tokio::time::advance(second).await;
        assert!(memory.recall(&key(1)).is_none());
        assert!(memory.recall(&key(2)).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_shortened_ends_sooner_and_never_later() {
        let memory = Memory::new(8);
        let second = Duration::from_secs(1);
        memory.remember(&key(1), Remembered::Alone, 10 * second);
        memory.remember(&key(2), Remembered::Alone, second);
        for n in 1..=3 {
            memory.shorten(&key(n), 2 * second);
        }
        assert!(memory.recall(&key(3)).is_none());
        tokio::time::advance(second).await;
        assert!(memory.recall(&key(1)).is_some() && memory.recall(&key(2)).is_none());
        tokio::time::advance(second).await;
        assert!(memory.recall(&key(1)).is_none());
    }

    #[test]
    fn it_is_bounded() {
        let memory = Memory::new(100);
        for n in 0..10_000 {
            memory.remember(&key(n), Remembered::Alone, Duration::MAX);
        }
        let remembered = (0..10_000).filter(|n| memory.recall(&key(*n)).is_some()).count();
        assert!((1..=100).contains(&remembered), "{remembered} of 100");
        // Nobody fills it with long keys, either.
        let long = format!("/{}", "x".repeat(LONGEST_KEY));
        let (mut request, ()) = Request::get(long).body(()).unwrap().into_parts();
        let long = Policy::new().key_of(&mut request, Content::Absent).unwrap();
        memory.remember(&long, Remembered::Alone, Duration::MAX);
        assert!(memory.recall(&long).is_none());
        let none = Memory::new(0);
        none.remember(&key(1), Remembered::Alone, Duration::MAX);
        assert!(none.recall(&key(1)).is_none());
    }
}
