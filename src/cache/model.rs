//! The store of the models, with moka's face as far as it is used: one atomic word says which of all states that it
//! has ever had is the latest.
//!
//! Who looks reads the word and takes no lock, as moka's readers do; who writes exchanges it; who removes what is
//! not there writes nothing. None of this orders anything else: a look may miss what was done last, unless
//! something else has told it, and that must be the doing of the crate. The mutex is `std`'s, which loom does not
//! see; it is never held where loom may interrupt.

use std::{
    borrow::Borrow,
    hash::{BuildHasher, Hash},
    marker::PhantomData,
    sync::{Arc, Mutex},
};

use super::{ReadThrough, ReadThroughBuilder};
use crate::sync::{AtomicU64, Ordering};

type State<K, T> = Arc<[Arc<(K, T)>]>;

pub(super) struct Store<K, T, S> {
    latest: AtomicU64,
    states: Mutex<Vec<State<K, T>>>,
    _hasher: S,
}

impl<K: Eq + Hash, T: Clone, S> Store<K, T, S> {
    pub(super) fn get<Q: ?Sized + Eq>(&self, key: &Q) -> Option<T>
    where
        K: Borrow<Q>,
    {
        // Relaxed, everywhere here: see above.
        let state = self.state(self.latest.load(Ordering::Relaxed));
        let entry = state.iter().find(|entry| entry.0.borrow() == key)?;
        Some(entry.1.clone())
    }

    pub(super) fn contains_key<Q: ?Sized + Eq>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    pub(super) fn insert(&self, key: K, value: T) {
        let entry = Arc::new((key, value));
        self.change(&entry.0, Some(&entry));
    }

    pub(super) fn invalidate<Q: ?Sized + Eq>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.change(key, None);
    }

    /// moka compares dates, which leaves a doubt about what is stored at the same instant. So nothing is
    /// removed here: that it is not found must be the doing of others.
    pub(super) fn invalidate_all(&self) {}

    /// Puts something into the place of what is there under the key.
    fn change<Q: ?Sized + Eq>(&self, key: &Q, with: Option<&Arc<(K, T)>>)
    where
        K: Borrow<Q>,
    {
        let mut latest = self.latest.load(Ordering::Relaxed);
        loop {
            let state = self.state(latest);
            let others = state.iter().filter(|entry| entry.0.borrow() != key);
            let changed: State<K, T> = others.chain(with).cloned().collect();
            if with.is_none() && changed.len() == state.len() {
                return;
            }
            let next = {
                let mut states = self.states.lock().expect("nothing panics while it is locked");
                states.push(changed);
                states.len() as u64 - 1
            };
            let exchanged =
                self.latest.compare_exchange(latest, next, Ordering::Relaxed, Ordering::Relaxed);
            match exchanged {
                Ok(_) => return,
                Err(now) => latest = now,
            }
        }
    }
}

impl<K, T, S> Store<K, T, S> {
    fn new(hasher: S) -> Self {
        let states = Mutex::new(vec![Arc::new([]) as State<K, T>]);
        Self { latest: AtomicU64::new(0), states, _hasher: hasher }
    }

    pub(super) fn entry_count(&self) -> u64 {
        self.state(self.latest.load(Ordering::Relaxed)).len() as u64
    }

    fn state(&self, number: u64) -> State<K, T> {
        let states = self.states.lock().expect("nothing panics while it is locked");
        Arc::clone(&states[number as usize])
    }
}

/// There are none.
#[derive(Debug)]
pub struct Settings<K, V, E>(PhantomData<(K, V, E)>);

impl<K, V, E> Default for Settings<K, V, E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K, V, E, S> ReadThroughBuilder<K, V, E, S>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
    S: BuildHasher + Clone + Send + Sync + 'static,
{
    /// Makes the cache.
    pub fn build(self) -> ReadThrough<K, V, E, S> {
        self.made_by(|_, hasher, _| Store::new(hasher))
    }
}

impl<K, V, E, S> ReadThrough<K, V, E, S> {
    /// Whether nothing is left of any load.
    pub fn is_idle(&self) -> bool {
        self.core.loads.is_idle()
    }
}
