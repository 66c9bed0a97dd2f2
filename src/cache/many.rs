//! `get_many`: a batch of keys, of which those that are not there are loaded together.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, Hash},
    mem,
};

use super::{
    ReadThrough,
    loads::Stamp,
    read_through::{Core, Loading, Looked},
};
use crate::panics::{DroppedFirst, drop_each};

impl<K, V, E, S> ReadThrough<K, V, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// The values of many keys: those that are in the cache, those that others are loading, and all the rest by
    /// one call of `load`, as in [`Group::run_many`](crate::Group::run_many). Each key is cached, and shared with
    /// callers of single keys and other batches, by itself.
    ///
    /// A key that `load` leaves out is absent from the answer, unless there was an old value that may still be
    /// used; nothing is kept for it. If that is to be remembered, return an error for it, or let the value be an
    /// `Option`. Values that are to be refreshed are loaded with the rest, by one batch at a time.
    ///
    /// ```
    /// use shardflight::cache::ReadThrough;
    /// use std::convert::Infallible;
    ///
    /// # futures_lite::future::block_on(async {
    /// async fn select_where_id_in(ids: Vec<u64>) -> Vec<(u64, Result<String, Infallible>)> {
    ///     ids.into_iter().map(|id| (id, Ok(format!("user {id}")))).collect()
    /// }
    ///
    /// let users: ReadThrough<u64, String, Infallible> = ReadThrough::builder().build();
    /// users.insert(&1, "root".to_owned());
    /// let page = users.get_many([1, 2, 3], select_where_id_in).await; // asks for 2 and 3
    /// assert_eq!((page[&1].clone(), page[&3].clone()), (Ok("root".to_owned()), Ok("user 3".to_owned())));
    /// # });
    /// ```
    ///
    /// It takes time in proportion to the number of keys, apart from `load`.
    ///
    /// # Cancel safety
    ///
    /// As [`Group::run_many`](crate::Group::run_many): dropping this drops what `load` is doing, and followers of
    /// its keys take over.
    ///
    /// # Errors
    ///
    /// Those that `load` returned for a key, for that key.
    ///
    /// # Panics
    ///
    /// As [`Group::run_many`](crate::Group::run_many).
    pub async fn get_many<I, F, Fut, R>(&self, keys: I, mut load: F) -> HashMap<K, Result<V, E>>
    where
        I: IntoIterator<Item = K>,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = R>,
        R: IntoIterator<Item = (K, Result<V, E>)>,
    {
        let core = &*self.core;
        let (mut found, mut missing) = (HashMap::new(), HashMap::new());
        for key in keys {
            if found.contains_key(&key) {
                continue;
            }
            let Entry::Vacant(place) = missing.entry(key) else { continue };
            match core.look_up(place.key()) {
                Looked::Answer(answer) => drop(found.insert(place.into_key(), answer)),
                Looked::Due(value, of) => drop(place.insert(Some((value, of)))),
                Looked::Nothing => {
                    core.forget_older(place.key());
                    place.insert(None);
                }
            }
        }
        if missing.is_empty() {
            // Before the answer is returned, here and below (see `panics`).
            drop(load);
            return found;
        }
        let keys: Vec<K> = missing.keys().cloned().collect();
        let loaded =
            core.group.run_many(keys, |keys| core.load_many(keys, &missing, &mut load)).await;
        found.extend(loaded);
        for (key, due) in missing {
            if let Some((value, _)) = due {
                core.tell(|observer| observer.missed());
                found.entry(key).or_insert(Ok(value));
            }
        }
        drop(load);
        found
    }
}

impl<K, V, E, S> Core<K, V, E, S>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// The work of the flights of these keys. `load` is called before this returns.
    fn load_many<'c, F, Fut, R>(
        &'c self,
        keys: Vec<K>,
        due: &HashMap<K, Option<(V, Stamp)>>,
        load: &mut F,
    ) -> impl Future<Output = Vec<(K, Result<V, E>)>> + use<'c, K, V, E, S, F, Fut, R>
    where
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = R>,
        R: IntoIterator<Item = (K, Result<V, E>)>,
    {
        let (mut answers, mut begun) = (Vec::new(), Begun::default());
        for key in keys {
            let due = due.get(&key).and_then(|due| due.as_ref().map(|(_, of)| *of));
            match self.begin(&key, due) {
                Ok(loading) => begun.insert(key, loading),
                Err(answer) => answers.push((key, answer)),
            }
        }
        let keys: Vec<K> = begun.places.keys().cloned().collect();
        let loads = (!keys.is_empty()).then(|| load(keys));
        async move {
            if let Some(loads) = loads {
                for (key, answer) in DroppedFirst::new(loads).await {
                    if let Some(loading) = begun.take(&key) {
                        let answer = self.keep(&key, loading, answer);
                        answers.push((key, answer));
                    }
                }
            }
            drop(begun);
            answers
        }
    }
}

/// The loads of a batch.
struct Begun<'l, K> {
    // Apart from the keys: a map forgets the rest of itself when the `Drop` of a key panics.
    loads: Vec<Option<Loading<'l>>>,
    places: HashMap<K, usize>,
}

impl<K> Default for Begun<'_, K> {
    fn default() -> Self {
        Self { loads: Vec::new(), places: HashMap::new() }
    }
}

impl<K> Drop for Begun<'_, K> {
    fn drop(&mut self) {
        drop(mem::take(&mut self.loads));
        drop_each(mem::take(&mut self.places));
    }
}

impl<'l, K: Eq + Hash> Begun<'l, K> {
    fn insert(&mut self, key: K, loading: Loading<'l>) {
        self.places.insert(key, self.loads.len());
        self.loads.push(Some(loading));
    }

    fn take(&mut self, key: &K) -> Option<Loading<'l>> {
        self.loads[*self.places.get(key)?].take()
    }
}
