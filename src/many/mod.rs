//! `run_many`: a batch of keys, each of which is a flight of its own, loaded together.

mod wait;

use std::{
    collections::HashMap,
    future::{Future, poll_fn},
    hash::{BuildHasher, Hash},
    mem,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
    thread,
};

use futures_util::stream::{FuturesUnordered, Stream};
use pin_project_lite::pin_project;

use crate::{
    CallError, Group,
    flight::{Ask, Batch, Follower, Payload, Pending, Permit, reentry},
    group::unwind,
    panics::{contain, discard, drop_each},
    table::{Entered, Table},
};

use self::wait::{Seat, Settled, Wait};

impl<K, V, S> Group<K, V, S>
where
    K: Eq + Hash + Clone,
    V: Clone,
    S: BuildHasher,
{
    /// Gets the values of many keys, each from a flight of its own. Keys that are in flight are joined;
    /// all others are led by one call of `load`. Callers of single keys and of other batches meet this
    /// one on each key, whichever comes first.
    ///
    /// Each key lands by itself as soon as `load` has returned. A key that `load` leaves out is
    /// abandoned (a follower with work of its own takes over) and absent from the answer; what `load`
    /// returns beyond its keys is dropped. Other batches that wait for a key that was left out load it again, so
    /// better return something for each, an `Option` or a `Result`. A joined key whose leader is cancelled is led by another
    /// call of `load`, if it falls to this caller; keys that come free one by one are loaded one by one.
    /// Keys may be listed twice.
    ///
    /// ```
    /// use shardflight::Group;
    ///
    /// # futures_lite::future::block_on(async {
    /// async fn select_where_id_in(ids: Vec<u64>) -> Vec<(u64, String)> {
    ///     ids.into_iter().map(|id| (id, format!("user {id}"))).collect()
    /// }
    ///
    /// let users: Group<u64, String> = Group::new();
    /// let found = users.run_many([1, 2, 3], select_where_id_in).await;
    /// assert_eq!(found[&2], "user 2");
    /// # });
    /// ```
    ///
    /// It takes time in proportion to the number of keys, apart from `load`.
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run), for each key: dropping this drops what `load` is doing, and then followers
    /// of the keys that it led take over.
    ///
    /// # Panics
    ///
    /// If `load` panics, with the original payload; the followers of all its keys panic with its text.
    /// If the work of a joined key panics, with its text, and without running the panic hook again. If one of the
    /// keys is being loaded by the work that makes this call, or awaits it, and would wait for itself.
    pub async fn run_many<I, F, Fut, R>(&self, keys: I, load: F) -> HashMap<K, V>
    where
        I: IntoIterator<Item = K>,
        F: FnMut(Vec<K>) -> Fut,
        Fut: Future<Output = R>,
        R: IntoIterator<Item = (K, V)>,
    {
        // The caller's iterator is run to its end before anything is led.
        let mut found: HashMap<K, Option<V>> = HashMap::new();
        let mut listed = Vec::new();
        for key in keys {
            if found.insert(key.clone(), None).is_none() {
                listed.push(key);
            }
        }
        let mut waits = All(FuturesUnordered::new());
        let mut leads = Leads::default();
        for key in listed {
            let (table, hash) = self.core().locate(&key);
            let seat = match table.open(hash, &key, &Ask::DEFAULT, false) {
                Entered::Lead(id) => {
                    leads.insert(key, Permit::new(table, hash, id, None));
                    continue;
                }
                Entered::TakeOver(flight) => {
                    Seat::Leading { pending: Pending::new(Permit::taken_over(table, hash, flight)) }
                }
                Entered::Follow(flight, ticket) => {
                    Seat::Following { follower: Follower::new(table, hash, flight, ticket) }
                }
                Entered::Reentrant => unwind(&CallError::Reentrant),
                Entered::Pending(_) | Entered::Full | Entered::Gone(_) => {
                    unreachable!("nothing of this was asked for")
                }
            };
            waits.push(Wait::new(key, seat));
        }
        let table = self.core().table();
        let mut loads = Loads { table, load, running: All(FuturesUnordered::new()) };
        loads.begin(leads);
        poll_fn(|cx| {
            loop {
                let mut leads = Leads::default();
                while let Poll::Ready(Some((key, settled))) = waits.poll_next(cx) {
                    match settled {
                        Settled::Value(value) => drop(found.insert(key, Some(value))),
                        Settled::Lead(permit) => leads.insert(key, permit),
                    }
                }
                let begun = !leads.is_empty();
                loads.begin(leads);
                while let Poll::Ready(Some(values)) = loads.running.poll_next(cx) {
                    found.extend(values.into_iter().map(|(key, value)| (key, Some(value))));
                }
                match () {
                    () if waits.0.is_empty() && loads.running.0.is_empty() => {
                        return Poll::Ready(());
                    }
                    // What has begun has been polled, but what it woke has not.
                    () if begun => {}
                    // Asked of all of them, because those that nobody woke were not polled.
                    () if !reentry::is_idle() && waits.any(Wait::would_wait_for_this_stack) => {
                        unwind(&CallError::Reentrant);
                    }
                    () => return Poll::Pending,
                }
            }
        })
        .await;
        // Here, and not when this returns: an answer that is being returned leaks if a destructor panics.
        drop((waits, loads));
        found.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// Futures that are all dropped even if that of one panics: by itself the collection leaks the others,
/// and the leads and places with them (G8).
struct All<F>(FuturesUnordered<One<F>>);

pin_project! {
    struct One<F> {
        // None only when all are dropped.
        #[pin]
        future: Option<F>,
    }
}

impl<F> All<F> {
    fn push(&self, future: F) {
        self.0.push(One { future: Some(future) });
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<F::Output>>
    where
        F: Future,
    {
        Pin::new(&mut self.0).poll_next(cx)
    }

    fn any(&self, is_it: impl Fn(Pin<&F>) -> bool) -> bool {
        let mut all = Pin::new(&self.0).iter_pin_ref();
        all.any(|one| one.project_ref().future.as_pin_ref().is_some_and(&is_it))
    }
}

impl<F> Drop for All<F> {
    fn drop(&mut self) {
        let mut first = None;
        for one in Pin::new(&mut self.0).iter_pin_mut() {
            let dropped = catch_unwind(AssertUnwindSafe(|| one.project().future.set(None)));
            if let Err(payload) = dropped
                && let Some(later) = first.replace(payload)
            {
                discard(later);
            }
        }
        match first {
            Some(payload) if !thread::panicking() => resume_unwind(payload),
            payload => payload.into_iter().for_each(discard),
        }
    }
}

impl<F: Future> Future for One<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let future = self.project().future.as_pin_mut();
        future.expect("not polled after it was dropped").poll(cx)
    }
}

/// The flights of one call of `load`.
struct Leads<'t, K: Eq + Hash, V> {
    // Apart from the keys, and before them: a map forgets the rest of itself when the `Drop` of a key
    // panics, and no flight must be left behind (G8).
    permits: Vec<Option<Permit<&'t Table<K, V>>>>,
    places: HashMap<K, usize>,
}

impl<K: Eq + Hash, V> Default for Leads<'_, K, V> {
    fn default() -> Self {
        Self { permits: Vec::new(), places: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Drop for Leads<'_, K, V> {
    fn drop(&mut self) {
        drop(mem::take(&mut self.permits));
        drop_each(mem::take(&mut self.places));
    }
}

impl<'t, K: Eq + Hash, V> Leads<'t, K, V> {
    fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }

    fn insert(&mut self, key: K, permit: Permit<&'t Table<K, V>>) {
        self.permits.push(Some(permit));
        self.places.insert(key, self.permits.len() - 1);
    }

    fn take(&mut self, key: &K) -> Option<Permit<&'t Table<K, V>>> {
        self.permits[*self.places.get(key)?].take()
    }
}

struct Loads<'t, K: Eq + Hash, V, F, Fut> {
    table: &'t Table<K, V>,
    load: F,
    running: All<Load<'t, K, V, Fut>>,
}

impl<'t, K, V, F, Fut> Loads<'t, K, V, F, Fut>
where
    K: Eq + Hash + Clone,
    F: FnMut(Vec<K>) -> Fut,
{
    fn begin(&mut self, leads: Leads<'t, K, V>) {
        if leads.is_empty() {
            return;
        }
        let batch = Batch::new(leads.permits.iter().flatten().map(Permit::id));
        let keys = leads.places.keys().cloned().collect();
        let (table, load) = (self.table, &mut self.load);
        let begin = || batch.within(|| catch_unwind(AssertUnwindSafe(|| load(keys))));
        match table.around(batch.flights(), begin) {
            Ok(work) => self.running.push(Load { work: Some(work), table, batch, leads }),
            Err(payload) => panicked(leads, payload),
        }
    }
}

/// Followers of every key learn what happened.
fn panicked<K: Eq + Hash, V>(mut leads: Leads<'_, K, V>, payload: Payload) -> ! {
    for mut permit in leads.permits.drain(..).flatten() {
        permit.panicked(&*payload);
    }
    // A second panic while this one unwinds would abort the process.
    contain(|| drop(leads));
    resume_unwind(payload)
}

pin_project! {
    /// One call of `load` and the flights that it is for.
    struct Load<'t, K, V, Fut>
    where
        K: Eq,
        K: Hash,
    {
        // Before `leads`: cancelled work is dropped before the lead is passed on (G1).
        #[pin]
        work: Option<Fut>,
        table: &'t Table<K, V>,
        batch: Batch,
        leads: Leads<'t, K, V>,
    }

    impl<K, V, Fut> PinnedDrop for Load<'_, K, V, Fut>
    where
        K: Eq,
        K: Hash,
    {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.batch.within(|| this.work.set(None));
        }
    }
}

impl<K, V, Fut, R> Future for Load<'_, K, V, Fut>
where
    K: Eq + Hash,
    V: Clone,
    Fut: Future<Output = R>,
    R: IntoIterator<Item = (K, V)>,
{
    type Output = Vec<(K, V)>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<(K, V)>> {
        let mut this = self.project();
        // The iterator may be lazy, and is the caller's, too. What it has yielded before it panics has
        // been loaded, but has not landed.
        let poll = || {
            this.batch.within(|| {
                catch_unwind(AssertUnwindSafe(|| {
                    let work = this.work.as_mut().as_pin_mut().expect("polled until it is ready");
                    let loaded: Vec<(K, V)> = ready!(work.poll(cx)).into_iter().collect();
                    this.work.set(None);
                    Poll::Ready(loaded)
                }))
            })
        };
        let polled = this.table.around(this.batch.flights(), poll);
        let loaded = match polled {
            Ok(polled) => ready!(polled),
            Err(payload) => {
                this.batch.within(|| contain(|| this.work.set(None)));
                panicked(mem::take(this.leads), payload)
            }
        };
        let mut landed = Vec::with_capacity(this.leads.permits.len());
        for (key, value) in loaded {
            if let Some(mut permit) = this.leads.take(&key) {
                landed.push((key, permit.land(value).0));
            }
        }
        // What was left out is abandoned.
        drop(mem::take(this.leads));
        Poll::Ready(landed)
    }
}
