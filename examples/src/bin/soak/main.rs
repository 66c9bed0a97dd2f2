//! Everything at once, for as long as you like: every way to call, hot keys and ever-new ones, callers
//! that vanish at any moment, and work that panics. What it checks is in `ledger.rs`: G1 to G5, fresh
//! calls, and, after each round, that nothing is left: no flight, and no memory.
//!
//! `cargo run --release -p examples --bin soak -- 60`

mod answers;
mod choices;
mod duel;
mod kind;
mod tasks;
mod threads;

use std::{
    fmt, fs,
    hash::RandomState,
    mem, panic,
    pin::Pin,
    process,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use examples::{
    heap,
    ledger::{HOT, Key, Ledger, Value},
    progress::Progress,
};
use fastrand::Rng;
use futures_lite::future;
use shardflight::{CallError, Group, Role};
use tokio::runtime::Runtime;

use crate::{
    answers::{ON_PURPOSE, text},
    choices::Course,
    duel::{Rival, Turn},
    kind::{KINDS, Kind, OF_TASKS, OF_THREADS},
};

#[global_allocator]
static HEAP: heap::Counting = heap::Counting;

const TASKS: usize = 48;
const THREADS: usize = 6;
/// Besides, the one that makes the wave, and the one that fights the duels.
const WAVES: usize = TASKS + THREADS;
const DUELS: usize = WAVES + 1;
const CALLERS: usize = DUELS + 1;
/// Keys in flight at once, once a round.
const WAVE: u64 = 4_000;

/// No call takes that long: works are short, and callers that hold them up are dropped soon.
const HANGS: Duration = Duration::from_secs(20);
/// What the runtime and the threads' locals may take, now more, now less. Ten bytes left behind by each
/// call come to more than that in a second.
const SLACK: i64 = 256 << 10;
/// The same for the pages of the process, which the system's allocator does not give back one by one.
const RESIDENT_SLACK: i64 = 32 << 20;
/// Rounds before memory must be flat.
const WARM_UP: u64 = 3;

/// Mixes everything, and fails if any of it breaks a guarantee
#[derive(Parser)]
struct Args {
    /// How long, in seconds
    #[arg(default_value_t = 30)]
    seconds: u64,
    /// What the callers choose follows from it, but not how they interleave
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Calls = Group<Key, Value, RandomState>;
type Answer = Result<(Value, Option<Role>), CallError>;
type AnyCall = Pin<Box<dyn Future<Output = Answer> + Send>>;

struct Soak {
    group: Calls,
    ledger: Arc<Ledger>,
    counts: [AtomicU64; KINDS.len()],
    newest: AtomicU64,
    /// Calls that nobody polls any more, until somebody drops them.
    parked: Mutex<Vec<AnyCall>>,
    start: Instant,
    /// What each caller does, and since when.
    busy: [AtomicU64; CALLERS],
    is_over: AtomicBool,
}

impl Soak {
    fn count(&self, kind: Kind) {
        self.counts[kind as usize].fetch_add(1, Relaxed);
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.ledger.blame(what());
        }
    }

    fn key(&self, rng: &mut Rng) -> Key {
        match rng.u32(..4) {
            0 => Key::new(self.newest.fetch_add(1, Relaxed)),
            // Some others still have to do with one of these.
            1 => Key::new(self.newest.load(Relaxed).saturating_sub(rng.u64(1..8)).max(HOT)),
            _ => Key::new(rng.u64(..HOT)),
        }
    }

    fn forget(&self, rng: &mut Rng) {
        let key = self.key(rng);
        if key.is_forgettable() {
            match rng.bool() {
                true if self.group.forget(&key) => self.count(Kind::Forget),
                false if self.group.forget_unshared(&key) => self.count(Kind::ForgetUnshared),
                _ => {}
            }
        }
    }

    /// Many keys at once, so that the table grows, and must shrink again.
    async fn wave(&self, rng: &mut Rng) {
        // No other caller comes near enough.
        let first = self.newest.fetch_add(WAVE + 16, Relaxed);
        let keys: Vec<Key> = (first..first + WAVE).map(Key::new).collect();
        let own: Vec<_> = keys.iter().map(|key| self.ledger.execution(key, false)).collect();
        let course = Course { steps: 2, sleeps: false, panics: false, recurses: false };
        let mut calls = Vec::new();
        for (key, own) in keys.iter().zip(&own) {
            self.counts[Kind::Wave as usize].fetch_add(1, Relaxed);
            let mut call = Box::pin(self.group.call(key).run(self.work(key, own, course)));
            if future::poll_once(&mut call).await.is_none() {
                calls.push(call);
            }
        }
        rng.shuffle(&mut calls);
        calls.truncate(WAVE as usize / 2);
        for call in calls {
            let answered = call.await;
            self.check(answered.is_ok(), || "a key of a wave has no value".to_owned());
        }
    }

    fn begins(&self, caller: usize, kind: Kind) {
        let at = self.start.elapsed().as_millis() as u64 + 1;
        self.busy[caller].store(at << 8 | kind as u64, Relaxed);
    }

    fn rests(&self, caller: usize) {
        self.busy[caller].store(0, Relaxed);
    }

    fn check_progress(&self) {
        let now = self.start.elapsed().as_millis() as u64;
        for busy in &self.busy {
            let busy = busy.load(Relaxed);
            let hangs = busy != 0 && now.saturating_sub(busy >> 8) > HANGS.as_millis() as u64;
            self.check(!hangs, || {
                let kind = KINDS[(busy & 0xff) as usize];
                format!("G6: a caller ({kind}) waits for more than {HANGS:?}")
            });
        }
    }
}

/// Lets all callers loose for a while, and waits until the last has gone.
fn round(soak: &'static Soak, runtime: &Runtime, seed: u64, length: Duration) {
    let rng = move |caller: usize| Rng::with_seed(seed ^ (caller as u64) << 40);
    soak.is_over.store(false, SeqCst);
    let mut tasks = vec![runtime.spawn(async move {
        soak.begins(WAVES, Kind::Wave);
        soak.wave(&mut rng(WAVES)).await;
        soak.rests(WAVES);
    })];
    tasks.extend((0..TASKS).map(|caller| {
        runtime.spawn(async move {
            let mut rng = rng(caller);
            while !soak.is_over.load(Relaxed) {
                let kind = OF_TASKS[rng.usize(..OF_TASKS.len())];
                soak.begins(caller, kind);
                soak.ask(kind, &mut rng).await;
                soak.rests(caller);
                if rng.u32(..16) == 0 {
                    soak.forget(&mut rng);
                }
                tokio::task::yield_now().await;
            }
        })
    }));
    let threads = (TASKS..TASKS + THREADS).map(|caller| {
        thread::spawn(move || {
            let mut rng = rng(caller);
            while !soak.is_over.load(Relaxed) {
                let kind = OF_THREADS[rng.usize(..OF_THREADS.len())];
                soak.begins(caller, kind);
                soak.ask_blocking(kind, &mut rng);
                soak.rests(caller);
            }
        })
    });
    let mut threads: Vec<_> = threads.collect();
    let rival = Arc::new(Rival::default());
    let (one, other) = (Arc::clone(&rival), rival);
    threads.push(thread::spawn(move || other.fight(&mut rng(CALLERS))));
    threads.push(thread::spawn(move || {
        let mut rng = rng(DUELS);
        while !soak.is_over.load(Relaxed) {
            soak.begins(DUELS, Kind::Duel);
            soak.duel(&one, &mut rng);
            soak.rests(DUELS);
            if rng.u32(..64) == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
        one.give_turn(Turn::Leave);
    }));

    let start = Instant::now();
    let mut rng = rng(CALLERS + 1);
    loop {
        thread::sleep(Duration::from_millis(2));
        soak.is_over.fetch_or(start.elapsed() >= length, SeqCst);
        let is_last = tasks.iter().all(|task| task.is_finished())
            && threads.iter().all(|thread| thread.is_finished());
        let mut parked =
            mem::take(&mut *soak.parked.lock().unwrap_or_else(PoisonError::into_inner));
        rng.shuffle(&mut parked);
        drop(parked);
        soak.check_progress();
        stop_at_faults(soak);
        if is_last {
            break;
        }
    }
    // Work that nobody waits for.
    until("G4: flights are left", soak, || soak.group.is_empty());
    soak.ledger.check_quiet();
    stop_at_faults(soak);
}

fn until(what: &str, soak: &Soak, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        thread::sleep(Duration::from_millis(1));
        if start.elapsed() > HANGS {
            soak.ledger.blame(what.to_owned());
        }
        stop_at_faults(soak);
    }
}

fn stop_at_faults(soak: &Soak) {
    if let Some(fault) = soak.ledger.fault() {
        eprintln!("\nFAILED after {:.1?}: {fault}", soak.start.elapsed());
        process::exit(1);
    }
}

/// Of the process, in bytes; 0 where that is not to be known.
fn resident() -> i64 {
    const PAGE: i64 = 4096;
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()).unwrap_or(0) * PAGE
}

fn main() {
    let Args { seconds, seed } = Args::parse();
    let soak: &'static Soak = Box::leak(Box::new(Soak {
        group: Group::builder().hasher(RandomState::new()).build(),
        ledger: Arc::default(),
        counts: [const { AtomicU64::new(0) }; KINDS.len()],
        newest: AtomicU64::new(HOT + 8),
        parked: Mutex::default(),
        start: Instant::now(),
        busy: [const { AtomicU64::new(0) }; CALLERS],
        is_over: AtomicBool::new(false),
    }));
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let text = text(info.payload());
        if !text.starts_with(ON_PURPOSE) {
            report(info);
            soak.ledger.blame(format!("a panic: {text}"));
        }
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("tokio can start its threads");

    let length = Duration::from_secs(seconds);
    let each = (length / 10).clamp(Duration::from_millis(100), Duration::from_secs(2));
    let mut progress = Progress::start();
    let (mut rounds, mut allowed, mut allowed_resident) = (0, 0, 0);
    let mut in_use = 0;
    while soak.start.elapsed() < length || rounds <= WARM_UP {
        round(soak, &runtime, seed.wrapping_add(rounds << 20), each);
        rounds += 1;
        if rounds <= WARM_UP {
            // The last of what was spawned is being freed.
            thread::sleep(Duration::from_millis(50));
            allowed = allowed.max(heap::in_use() + SLACK);
            allowed_resident = allowed_resident.max(resident() + RESIDENT_SLACK);
        } else {
            let grew = format!("memory is not flat: more than {} in use", Bytes(allowed));
            until(&grew, soak, || heap::in_use() <= allowed);
            soak.check(resident() <= allowed_resident, || {
                format!("memory is not flat: {} resident", Bytes(resident()))
            });
        }
        in_use = heap::in_use();
        progress.show(format_args!(
            "{:.0?} of {length:.0?}: {} executions, {} in use, {} resident",
            soak.start.elapsed(),
            soak.ledger.begun.load(Relaxed),
            Bytes(in_use),
            Bytes(resident()),
        ));
    }
    drop(progress);
    stop_at_faults(soak);

    println!();
    let Ledger { begun, landed, panicked, cancelled, relayed, .. } = &*soak.ledger;
    let executions = [
        ("works begun", begun),
        ("works landed", landed),
        ("works panicked", panicked),
        ("works cancelled", cancelled),
        ("works relayed", relayed),
    ];
    for (name, count) in KINDS.into_iter().zip(&soak.counts).chain(executions) {
        println!("{name:<24}{:>12}", count.load(Relaxed));
    }
    println!("{:<24}{rounds:>12}", "rounds");
    println!("{:<24}{:>12}", "in use after warm-up", Bytes(allowed - SLACK).to_string());
    println!("{:<24}{:>12}", "in use at the end", Bytes(in_use).to_string());
    println!("{:<24}{:>12}", "resident at the end", Bytes(resident()).to_string());
    println!("\nNo fault in {:.1?}", soak.start.elapsed());
}

struct Bytes(i64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}
