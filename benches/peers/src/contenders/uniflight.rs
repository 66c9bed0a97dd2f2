//! uniflight: `Merger` with its default scope, the process. It hashes with ahash, as we do.

use std::{borrow::Borrow, hash::Hash};

use futures_util::FutureExt;
use kit::contenders::AsyncGroup;
use uniflight::Merger;

pub(crate) struct Uniflight<K: Send + Sync + 'static, V: Send + Sync + 'static>(Merger<K, V>);

impl<K, V> AsyncGroup<K, V> for Uniflight<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(_keys: usize) -> Self {
        Self(Merger::new())
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        self.0.execute(key, move || work).map(|value| value.expect("no work panics"))
    }
}
