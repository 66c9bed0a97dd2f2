//! What the integration tests share: a time limit, futures polled by hand, works that are watched.

#![allow(dead_code, reason = "every test file uses a part of its own")]

pub(crate) mod sequences;
pub(crate) mod traps;

use std::{
    any::Any,
    fmt,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use shardflight::Group;
use tokio::{
    sync::oneshot,
    task::{JoinHandle, spawn_blocking},
};

/// Far beyond what any test takes on a busy machine: only a hang reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a test's body and fails, instead of hanging, if it does not come to an end.
pub(crate) fn limited(body: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match finished.recv_timeout(LIMIT) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("the test did not finish within {LIMIT:?}"),
        Err(RecvTimeoutError::Disconnected) => {
            if let Err(payload) = thread.join() {
                resume_unwind(payload);
            }
        }
    }
}

/// Runs an async body on tokio with threads of its own.
pub(crate) fn on_tokio<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    limited(move || multi_thread().block_on(body()));
}

/// Runs an async body on one tokio thread whose clock jumps to the next timer when all is idle.
pub(crate) fn on_paused_clock<F: Future<Output = ()>>(body: impl FnOnce() -> F + Send + 'static) {
    limited(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime")
            .block_on(body());
    });
}

pub(crate) fn multi_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("a runtime")
}

/// What a panic carries, as text.
pub(crate) fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("not text")
}

/// The text of the panic that `f` must end with.
pub(crate) fn panic_text<R>(f: impl FnOnce() -> R) -> String {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it was to panic"),
        Err(payload) => text(&*payload).to_owned(),
    }
}

/// Counts how often it was woken.
#[derive(Debug, Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// A future that the test polls by hand.
pub(crate) struct Polled<'a, T> {
    future: Pin<Box<dyn Future<Output = T> + 'a>>,
    wakes: Arc<Wakes>,
    seen: usize,
    pub(crate) polls: usize,
}

impl<'a, T> Polled<'a, T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'a) -> Self {
        Self { future: Box::pin(future), wakes: Arc::default(), seen: 0, polls: 0 }
    }

    /// A future that has been polled once and is pending.
    pub(crate) fn pending(future: impl Future<Output = T> + 'a) -> Self {
        let mut polled = Self::new(future);
        assert!(polled.poll().is_pending(), "it was to be pending");
        polled
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        self.seen = self.wakes.count();
        self.polls += 1;
        let waker = Waker::from(Arc::clone(&self.wakes));
        self.future.as_mut().poll(&mut Context::from_waker(&waker))
    }

    /// Whether it was woken since it was last polled.
    pub(crate) fn is_woken(&self) -> bool {
        self.wakes.count() > self.seen
    }

    /// The value of a future that was woken for it and is polled once more.
    pub(crate) fn woken_value(&mut self) -> T {
        assert!(self.is_woken(), "nobody woke it");
        match self.poll() {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("it was to be ready"),
        }
    }
}

/// Polls whoever is woken until nobody is; returns the values, with the place of who got them.
///
/// Those that are ready are taken out of the list (`None`).
pub(crate) fn settle<T>(callers: &mut [Option<Polled<'_, T>>]) -> Vec<(usize, T)> {
    let mut ready = Vec::new();
    loop {
        let mut quiet = true;
        for (i, place) in callers.iter_mut().enumerate() {
            if let Some(caller) = place.as_mut().filter(|caller| caller.is_woken()) {
                quiet = false;
                if let Poll::Ready(value) = caller.poll() {
                    *place = None;
                    ready.push((i, value));
                }
            }
        }
        if quiet {
            return ready;
        }
    }
}

/// Watches works: how many were begun, how many run, and how many ever did at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Executions(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    started: AtomicUsize,
    running: AtomicUsize,
    peak: AtomicUsize,
}

impl Executions {
    /// To be called first in a work, which keeps the answer until it ends: it is told by its
    /// destructor, so that what cancelled work does until it is gone counts as running.
    pub(crate) fn begin(&self) -> Running {
        self.0.started.fetch_add(1, SeqCst);
        let running = self.0.running.fetch_add(1, SeqCst) + 1;
        self.0.peak.fetch_max(running, SeqCst);
        Running(self.clone())
    }

    /// Work that never ends by itself.
    pub(crate) fn endless<T>(&self) -> impl Future<Output = T> + Send + use<T>
    where
        T: Send,
    {
        let executions = self.clone();
        async move {
            let _running = executions.begin();
            std::future::pending().await
        }
    }

    /// Work that is pending once, and then has a value.
    pub(crate) fn yielding<T: Send>(&self, value: T) -> impl Future<Output = T> + Send + use<T> {
        let executions = self.clone();
        async move {
            let _running = executions.begin();
            futures_lite::future::yield_now().await;
            value
        }
    }

    /// Work of a thread, which takes a little while.
    pub(crate) fn spinning<T>(&self, value: T) -> T {
        let _running = self.begin();
        spin();
        value
    }

    pub(crate) fn started(&self) -> usize {
        self.0.started.load(SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.0.running.load(SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.0.peak.load(SeqCst)
    }
}

#[derive(Debug)]
pub(crate) struct Running(Executions);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, SeqCst);
    }
}

/// Work that is watched, and ends with the value that it is sent.
pub(crate) fn waits_for<T: Send + 'static>(
    executions: &Executions,
    value: oneshot::Receiver<T>,
) -> impl Future<Output = T> + Send + use<T> {
    let executions = executions.clone();
    async move {
        let _running = executions.begin();
        value.await.expect("sent")
    }
}

/// Runs when it is dropped.
pub(crate) struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub(crate) fn new(last: F) -> Self {
        Self(Some(last))
    }

    /// It will not run.
    pub(crate) fn defuse(mut self) {
        self.0 = None;
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(last) = self.0.take() {
            last();
        }
    }
}

/// Tasks and threads that call one group at once, and the works that they run.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    group: Group<u64, usize>,
    executions: Executions,
    callers: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Adds a task for each of `those`.
    pub(crate) fn tasks<T, F>(
        &mut self,
        those: impl IntoIterator<Item = T>,
        calls: impl Fn(T, Group<u64, usize>, Executions) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        for one in those {
            let calls = calls(one, self.group.clone(), self.executions.clone());
            self.callers.push(tokio::spawn(calls));
        }
    }

    /// Adds a thread for each of `those`.
    pub(crate) fn threads<T: Send + 'static>(
        &mut self,
        those: impl IntoIterator<Item = T>,
        calls: impl Fn(T, Group<u64, usize>, Executions) + Clone + Send + 'static,
    ) {
        for one in those {
            let (group, executions) = (self.group.clone(), self.executions.clone());
            let calls = calls.clone();
            self.callers.push(spawn_blocking(move || calls(one, group, executions)));
        }
    }

    /// Everybody comes back, and nobody has failed.
    pub(crate) async fn come_back(self) -> (Group<u64, usize>, Executions) {
        for caller in self.callers {
            caller.await.expect("no caller fails");
        }
        (self.group, self.executions)
    }
}

/// A key that rings when it is found equal to the one in the table, that is while its caller joins.
#[derive(Debug)]
pub(crate) struct RingingKey {
    id: u64,
    bell: Option<Sender<()>>,
}

impl RingingKey {
    pub(crate) fn silent(id: u64) -> Self {
        Self { id, bell: None }
    }
}

/// What the table keeps does not ring.
impl Clone for RingingKey {
    fn clone(&self) -> Self {
        Self::silent(self.id)
    }
}

impl Hash for RingingKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl PartialEq for RingingKey {
    fn eq(&self, other: &Self) -> bool {
        let equal = self.id == other.id;
        if equal {
            for bell in [&self.bell, &other.bell].into_iter().flatten() {
                let _ = bell.send(());
            }
        }
        equal
    }
}

impl Eq for RingingKey {}

/// Tells a test when callers that it cannot look into, threads and tasks, have joined a flight.
#[derive(Debug)]
pub(crate) struct Doorbell {
    bell: Sender<()>,
    rings: Receiver<()>,
}

impl Doorbell {
    pub(crate) fn new() -> Self {
        let (bell, rings) = mpsc::channel();
        Self { bell, rings }
    }

    pub(crate) fn key(&self, id: u64) -> RingingKey {
        RingingKey { id, bell: Some(self.bell.clone()) }
    }

    /// Returns when so many more callers have joined the flight of `id`.
    pub(crate) fn wait_for<V>(&self, callers: usize, group: &Group<RingingKey, V>, id: u64) {
        for _ in 0..callers {
            self.rings.recv_timeout(LIMIT).expect("a caller that joins");
        }
        // The bell rings under the lock of the key's shard. Who has held that lock after it knows
        // that the joining is complete.
        assert!(group.is_in_flight(&RingingKey::silent(id)));
    }
}

/// What a short work does on a thread. It spins: on a busy machine a thread that yields waits for a
/// whole time slice of everybody else.
pub(crate) fn spin() {
    for _ in 0..2_000 {
        std::hint::spin_loop();
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ x >> 31) % n as u64) as usize
    }
}

/// A value that is not text to panic with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotText(pub(crate) u32);

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
