//! async_singleflight: its `UnaryGroup`, which is the one for work that cannot fail, with our hasher.

use std::{borrow::Borrow, hash::Hash};

use ahash::RandomState;
use async_singleflight::UnaryGroup;
use kit::contenders::AsyncGroup;

pub(crate) struct AsyncSingleflight<K, V>(UnaryGroup<K, V, RandomState>);

impl<K, V> AsyncGroup<K, V> for AsyncSingleflight<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(_keys: usize) -> Self {
        Self(UnaryGroup::new())
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        self.0.work(key, work)
    }
}
