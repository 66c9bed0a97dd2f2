//! The contender for blocking callers: Go's algorithm with a `Condvar` where it has a `WaitGroup`.
//!
//! A type of its own, so that neither kind of caller pays for the other. `Condvar::notify_all` is a
//! system call even when nobody waits. A `WaitGroup` counts its waiters and makes none; `COUNTED`
//! does the same, and the plain form is what is usually written. What it does not do is said in
//! `mutex_group`.

use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Condvar, Mutex},
};

use ahash::RandomState;

pub struct CondvarGroup<K, V, const COUNTED: bool> {
    calls: Mutex<HashMap<K, Arc<Call<V>>, RandomState>>,
}

struct Call<V> {
    state: Mutex<State<V>>,
    done: Condvar,
}

struct State<V> {
    /// `None` inside: the leader went without a value.
    outcome: Option<Option<V>>,
    waiting: usize,
}

impl<V: Clone> Call<V> {
    fn wait(&self) -> Option<V> {
        let mut state = self.state.lock().expect("nothing panics under it");
        state.waiting += 1;
        let state = self
            .done
            .wait_while(state, |state| state.outcome.is_none())
            .expect("nothing panics under it");
        state.outcome.clone().flatten()
    }
}

impl<V> Call<V> {
    /// Returns how many wait.
    fn end(&self, outcome: Option<V>) -> usize {
        let mut state = self.state.lock().expect("nothing panics under it");
        state.outcome = Some(outcome);
        state.waiting
    }
}

impl<K, V, const COUNTED: bool> Default for CondvarGroup<K, V, COUNTED> {
    fn default() -> Self {
        Self { calls: Mutex::new(HashMap::with_hasher(RandomState::new())) }
    }
}

impl<K: Eq + Hash, V: Clone, const COUNTED: bool> CondvarGroup<K, V, COUNTED> {
    pub fn run<Q>(&self, key: &Q, work: impl FnOnce() -> V) -> V
    where
        K: Borrow<Q>,
        Q: ?Sized + Eq + Hash + ToOwned<Owned = K>,
    {
        loop {
            let mut calls = self.calls.lock().expect("nothing panics under it");
            if let Some(call) = calls.get(key) {
                let call = Arc::clone(call);
                drop(calls);
                if let Some(value) = call.wait() {
                    return value;
                }
                continue;
            }
            let call = Arc::new(Call {
                state: Mutex::new(State { outcome: None, waiting: 0 }),
                done: Condvar::new(),
            });
            calls.insert(key.to_owned(), Arc::clone(&call));
            drop(calls);

            let mut lead = Lead { group: self, key, call, value: None };
            let value = work();
            lead.value = Some(value.clone());
            return value;
        }
    }
}

/// Ends the call when it is dropped, with the value it has by then: none if the work panicked.
struct Lead<'a, K, V, Q, const COUNTED: bool>
where
    K: Eq + Hash + Borrow<Q>,
    Q: ?Sized + Eq + Hash,
{
    group: &'a CondvarGroup<K, V, COUNTED>,
    key: &'a Q,
    call: Arc<Call<V>>,
    value: Option<V>,
}

impl<K, V, Q, const COUNTED: bool> Drop for Lead<'_, K, V, Q, COUNTED>
where
    K: Eq + Hash + Borrow<Q>,
    Q: ?Sized + Eq + Hash,
{
    fn drop(&mut self) {
        let waiting = self.call.end(self.value.take());
        let calls = &self.group.calls;
        // Bound, so that key and call are dropped after the lock is released.
        let _removed = calls.lock().expect("nothing panics under it").remove_entry(self.key);
        // Who comes later than `waiting` was read finds the outcome and does not wait.
        if !COUNTED || waiting > 0 {
            self.call.done.notify_all();
        }
    }
}
