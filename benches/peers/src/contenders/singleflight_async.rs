//! singleflight-async: `work` with an owned key and a closure that makes the future. It has no choice
//! of hasher (std's).

use std::{borrow::Borrow, hash::Hash};

use kit::contenders::AsyncGroup;
use singleflight_async::SingleFlight;

pub(crate) struct SingleflightAsync<K, V>(SingleFlight<K, V>);

impl<K, V> AsyncGroup<K, V> for SingleflightAsync<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(_keys: usize) -> Self {
        Self(SingleFlight::new())
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
