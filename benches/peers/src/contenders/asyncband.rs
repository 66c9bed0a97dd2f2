//! asyncband: its `singleflight::Group`, with our hasher.

use std::{borrow::Borrow, hash::Hash};

use ahash::RandomState;
use asyncband::singleflight::Group;
use kit::contenders::AsyncGroup;

pub(crate) struct Asyncband<K, V>(Group<K, V, RandomState>);

impl<K, V> AsyncGroup<K, V> for Asyncband<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(_keys: usize) -> Self {
        Self(Group::with_hasher(RandomState::new()))
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        self.0.work(key.to_owned(), move || work)
    }
}
