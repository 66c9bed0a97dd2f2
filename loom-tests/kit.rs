//! What the models are made of: the runner, a group with a fixed hasher, and work that notices when
//! it overlaps other work.

use std::{
    future::Future,
    hash::{BuildHasherDefault, DefaultHasher, Hash},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use loom::{
    cell::UnsafeCell,
    future::block_on,
    model::Builder,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};
use shardflight::Entry;

pub(crate) type Hasher = BuildHasherDefault<DefaultHasher>;
pub(crate) type Group<K = u64> = shardflight::Group<K, u64, Hasher>;
pub(crate) type Lead = shardflight::Lead<u64, u64, Hasher>;

/// The one key of the models, unless they say otherwise.
pub(crate) const KEY: u64 = 1;

/// Runs a model with at most `preemptions` preemptions in each execution.
///
/// 2 is the least that finds what is known to go wrong here; more where it is affordable.
#[track_caller]
pub(crate) fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    let executions = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let begin = Instant::now();
    let counter = std::sync::Arc::clone(&executions);
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    println!("{name}: {executions:?} executions, bound {preemptions}, {:?}", begin.elapsed());
}

/// A fresh group, of two cells: a group has no fewer cells than shards are asked for.
pub(crate) fn group_of<K: Eq + Hash>() -> Group<K> {
    shardflight::Group::<K, u64>::builder().hasher(Hasher::default()).shards(2).build()
}

/// A fresh group. Flights take over in an order drawn from their ids; with `skip` ids used up before,
/// a model can have both orders of two followers.
pub(crate) fn group_after(skip: u64) -> Group {
    let group =
        shardflight::Group::builder().hasher(BuildHasherDefault::default()).shards(2).build();
    for _ in 0..skip {
        group.run_blocking(&u64::MAX, || 0);
    }
    group
}

pub(crate) fn group() -> Group {
    group_after(0)
}

/// The lead of the key, which nobody has. It may go to another thread.
pub(crate) fn lead(group: &Group) -> Lead {
    match group.lead_or_join(&KEY) {
        Entry::Lead(lead) => lead,
        Entry::Join(_) => unreachable!("the key is free"),
    }
}

/// Polls once, as a task would that is never polled again.
pub(crate) fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// A call that has been polled once and waits, for its work or for its leader's.
pub(crate) fn pending<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    assert!(poll_once(call.as_mut()).is_pending());
    call
}

/// Starts a caller in a thread of its own: a task, or the thread itself.
pub(crate) fn spawn_run(group: &Group, executions: &Executions, blocking: bool) -> JoinHandle<u64> {
    let (group, executions) = (group.clone(), executions.clone());
    thread::spawn(move || match blocking {
        true => group.run_blocking(&KEY, || executions.execute()),
        false => block_on(group.run(&KEY, executions.work())),
    })
}

/// Work that is interrupted once.
pub(crate) async fn ready_at_the_second_poll(value: u64) -> u64 {
    let mut polled = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(value);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// A place for loom to change threads at, of its own choice.
///
/// Which other orders are worth a run it infers from the last access to each atomic. A thread that
/// loads a word and then exchanges it hides from it the loads by others before: that they could come
/// in between is never tried. So whoever loads without the lock crosses first, and so does whoever is
/// to be met there. Relaxed: it orders nothing.
#[derive(Clone)]
pub(crate) struct Crossing(Arc<AtomicUsize>);

impl Crossing {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicUsize::new(0)))
    }

    pub(crate) fn cross(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What several threads touch in turn. loom fails the model if the crate does not order two touches. It is
/// in an `Arc` of std's, which orders nothing for loom.
#[derive(Clone)]
pub(crate) struct InTurn(std::sync::Arc<Place>);

struct Place(UnsafeCell<()>);

// SAFETY: there is nothing in it; loom checks that no two accesses overlap.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Sync for Place {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Send for Place {}

impl InTurn {
    pub(crate) fn new() -> Self {
        Self(std::sync::Arc::new(Place(UnsafeCell::new(()))))
    }

    pub(crate) fn touch(&self) {
        self.0.0.with_mut(|_| ());
    }

    /// Work that never ends and touches it when it is dropped, whether it was polled or not.
    pub(crate) fn touched_when_dropped(&self) -> impl Future<Output = u64> + Send + use<> {
        struct Touch(InTurn);
        impl Drop for Touch {
            fn drop(&mut self) {
                self.0.touch();
            }
        }

        let touch = Touch(self.clone());
        async move {
            let _touch = touch;
            std::future::pending().await
        }
    }
}

/// Counts executions in a place that loom guards: two that overlap, or of which the later does not
/// see the earlier, fail the model (G1).
#[derive(Clone)]
pub(crate) struct Executions(Arc<Count>);

struct Count {
    running: AtomicUsize,
    executed: UnsafeCell<u64>,
}

// SAFETY: loom checks at each access that no other overlaps it; that is what it is here for.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Sync for Count {}
// SAFETY: a number.
#[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
unsafe impl Send for Count {}

impl Executions {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Count { running: AtomicUsize::new(0), executed: UnsafeCell::new(0) }))
    }

    /// Begins an execution that ends when it is dropped.
    #[allow(unsafe_code, reason = "loom's cell is what detects an overlap")]
    pub(crate) fn begin(&self) -> Execution {
        // Relaxed: a place for loom to interrupt at that orders nothing, so that only the crate
        // itself can make one execution visible to the next.
        assert_eq!(self.0.running.fetch_add(1, Ordering::Relaxed), 0, "G1: executions overlap");
        let number = self.0.executed.with_mut(|executed| {
            // SAFETY: loom checks that nobody else is in here.
            unsafe {
                *executed += 1;
                *executed
            }
        });
        Execution { of: self.clone(), number }
    }

    /// One execution, whose value is its number.
    pub(crate) fn execute(&self) -> u64 {
        self.begin().number
    }

    /// As [`Crossing::cross`], to meet an execution.
    pub(crate) fn cross(&self) {
        self.0.running.fetch_add(0, Ordering::Relaxed);
    }

    /// Work that is ready at once.
    pub(crate) fn work(&self) -> impl Future<Output = u64> + use<> {
        let executions = self.clone();
        async move { executions.execute() }
    }

    /// Work that never ends; once begun, it is an execution until it has been dropped.
    pub(crate) fn stuck(&self) -> impl Future<Output = u64> + Send + use<> {
        let executions = self.clone();
        async move {
            // From the first poll on: work that never ran is no execution.
            let _execution = executions.begin();
            std::future::pending().await
        }
    }

    /// Work that is interrupted so many times, one execution from its first poll to its end.
    pub(crate) fn interrupted(&self, times: usize) -> impl Future<Output = u64> + Send + use<> {
        let executions = self.clone();
        async move {
            let execution = executions.begin();
            for _ in 1..times {
                ready_at_the_second_poll(0).await;
            }
            ready_at_the_second_poll(execution.number).await
        }
    }
}

/// One that is under way.
pub(crate) struct Execution {
    of: Executions,
    pub(crate) number: u64,
}

impl Drop for Execution {
    fn drop(&mut self) {
        // An access that the next execution has to see.
        self.of.0.executed.with_mut(|_| ());
        // Relaxed: as in `begin`.
        self.of.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
