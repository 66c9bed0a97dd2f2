//! The `Shared` recipe: futures' `Shared` in a map under a mutex, with our hasher.
//!
//! The map has it weakly, so that callers who all go away leave no half-done work to the next one,
//! and the work takes its key out of the map before it is done: nobody joins what has landed. Whoever
//! is polled polls the work, so it must be boxed and borrow nothing.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex},
};

use ahash::RandomState;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use kit::contenders::AsyncGroup;

type Calls<K, V> = Mutex<HashMap<K, WeakShared<BoxFuture<'static, V>>, RandomState>>;

pub(crate) struct SharedRecipe<K, V: Clone> {
    calls: Arc<Calls<K, V>>,
}

impl<K, V> SharedRecipe<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn enter<Q, F>(&self, key: &Q, work: F) -> Shared<BoxFuture<'static, V>>
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        let mut map = self.calls.lock().expect("nothing panics under it");
        if let Some(call) = map.get(key).and_then(WeakShared::upgrade) {
            return call;
        }
        let (calls, own_key) = (Arc::clone(&self.calls), key.to_owned());
        let call = async move {
            let value = work.await;
            calls.lock().expect("nothing panics under it").remove(own_key.borrow());
            value
        };
        let call = call.boxed().shared();
        let weak = call.downgrade().expect("it has not been polled");
        map.insert(key.to_owned(), weak);
        call
    }
}

impl<K, V> AsyncGroup<K, V> for SharedRecipe<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn with_capacity(keys: usize) -> Self {
        let map = HashMap::with_capacity_and_hasher(keys, RandomState::new());
        Self { calls: Arc::new(Mutex::new(map)) }
    }

    async fn run<'a, Q, F>(&'a self, key: &'a Q, work: F) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + Send + Sync + ToOwned<Owned = K>,
        F: Future<Output = V> + Send + 'static,
    {
        self.enter(key, work).await
    }
}
