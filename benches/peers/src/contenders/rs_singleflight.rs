//! rs-singleflight: `do_call`, which clones the value as all others do, with an error that never
//! happens. It has no choice of hasher (std's).

use std::{borrow::Borrow, convert::Infallible, hash::Hash};

use futures_util::{FutureExt, TryFutureExt};
use kit::contenders::AsyncGroup;
use rs_singleflight::Group;

pub(crate) struct RsSingleflight<K, V>(Group<K, V, Infallible>);

impl<K, V> AsyncGroup<K, V> for RsSingleflight<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(_keys: usize) -> Self {
        Self(Group::new())
    }

    #[inline]
    fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> impl Future<Output = V> + Send
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        self.0.do_call(key.to_owned(), move || work.map(Ok)).unwrap_or_else(|never| match never {})
    }
}
