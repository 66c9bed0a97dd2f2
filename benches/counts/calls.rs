//! The calls whose cost is counted, each a function of its own.

use std::{
    future::{pending, poll_fn},
    hash::{BuildHasher, Hash},
    hint::black_box,
    pin::{Pin, pin},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    thread,
};

use dashmap::DashMap;
use kit::contenders::MutexGroup;
use shardflight::Group;

/// ahash with a fixed seed, so that every run does the same.
#[derive(Clone)]
pub(crate) struct Seeded(ahash::RandomState);

impl Default for Seeded {
    fn default() -> Self {
        Self(ahash::RandomState::with_seeds(1, 2, 3, 4))
    }
}

impl BuildHasher for Seeded {
    type Hasher = ahash::AHasher;

    #[inline]
    fn build_hasher(&self) -> ahash::AHasher {
        self.0.build_hasher()
    }

    #[inline]
    fn hash_one<T: Hash>(&self, key: T) -> u64 {
        self.0.hash_one(key)
    }
}

type Flights<K> = Group<K, u64, Seeded>;
type Mutexed<K> = MutexGroup<K, u64, Seeded>;
type Map = DashMap<u64, u64, Seeded>;

/// Where it lies must not differ from run to run.
#[repr(align(64))]
struct OwnLines<T>(T);

fn map() -> OwnLines<Map> {
    OwnLines(DashMap::with_capacity_and_hasher_and_shard_amount(0, Seeded::default(), 64))
}

fn mutexed<K: Eq + Hash>() -> OwnLines<Mutexed<K>> {
    OwnLines(Mutexed::with_capacity(0))
}

/// A call that does not wait.
#[inline(always)]
fn ready<F: Future>(future: Pin<&mut F>) -> F::Output {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!("nobody else has this key"),
    }
}

#[inline(always)]
fn is_pending<F: Future>(future: Pin<&mut F>) {
    assert!(future.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[inline(never)]
fn nothing(key: u64) -> u64 {
    key
}

#[inline(never)]
fn run(group: &Flights<u64>, key: u64) -> u64 {
    ready(pin!(group.run(&key, async move { key })))
}

#[inline(never)]
fn run_blocking(group: &Flights<u64>, key: u64) -> u64 {
    group.run_blocking(&key, || key)
}

#[inline(never)]
fn run_str(group: &Flights<String>, key: &str) -> u64 {
    ready(pin!(group.run(key, async move { 1 })))
}

#[inline(never)]
fn run_mutexed(group: &Mutexed<u64>, key: u64) -> u64 {
    ready(pin!(group.run(&key, async move { key })))
}

#[inline(never)]
fn run_str_mutexed(group: &Mutexed<String>, key: &str) -> u64 {
    ready(pin!(group.run(key, async move { 1 })))
}

#[inline(never)]
fn insert_and_remove(map: &Map, key: u64) -> u64 {
    map.insert(key, key);
    map.remove(&key).map_or(0, |(_, value)| value)
}

const HOT: &u64 = &7;

/// Polls once, to join, and drops.
#[inline(never)]
fn join_and_leave(group: &Flights<u64>) {
    is_pending(pin!(group.run(HOT, pending())));
}

#[inline(never)]
fn join_and_leave_mutexed(group: &Mutexed<u64>) {
    is_pending(pin!(group.run(HOT, pending())));
}

/// Makes calls by the number, each with a key of its own unless it is a hot one.
type Make<'a> = &'a (dyn Fn(u64) -> u64 + Sync);

/// Hands out how to make the calls of this name.
fn with(name: &str, f: &mut dyn FnMut(Make<'_>)) {
    let text = |i: u64| format!("{i:032}");
    let texts: Vec<String> = (0..256).map(text).collect();
    let text = |i: u64| texts[i as usize % texts.len()].as_str();
    match name {
        "nothing" => f(&nothing),
        "run" => {
            let group = Flights::with_hasher(Seeded::default());
            f(&|key| run(&group, key));
        }
        "run_blocking" => {
            let group = Flights::with_hasher(Seeded::default());
            f(&|key| run_blocking(&group, key));
        }
        "run_str" => {
            let group = Flights::with_hasher(Seeded::default());
            f(&|i| run_str(&group, text(i)));
        }
        "join_and_leave" => {
            let group = Flights::with_hasher(Seeded::default());
            let mut leader = pin!(group.run(HOT, pending()));
            is_pending(leader.as_mut());
            f(&|_| {
                join_and_leave(&group);
                0
            });
        }
        "mutex: run" => {
            let group = &mutexed().0;
            f(&|key| run_mutexed(group, key));
        }
        "mutex: run_str" => {
            let group = &mutexed().0;
            f(&|i| run_str_mutexed(group, text(i)));
        }
        "mutex: join_and_leave" => {
            let group = &mutexed().0;
            let mut leader = pin!(group.run(HOT, pending()));
            is_pending(leader.as_mut());
            f(&|_| {
                join_and_leave_mutexed(group);
                0
            });
        }
        "DashMap: insert, remove" => {
            let map = &map().0;
            f(&|key| insert_and_remove(map, key));
        }
        "flight of 1" | "flight of 9" => {
            let group = Flights::with_hasher(Seeded::default());
            let followers = if name.ends_with('9') { 9 } else { 1 };
            f(&|_| {
                LANDING.store(false, Relaxed);
                let mut leader = pin!(group.run(HOT, landing()));
                is_pending(leader.as_mut());
                follow(&group, followers, &mut || ready(leader.as_mut()))
            });
        }
        "mutex: flight of 1" | "mutex: flight of 9" => {
            let group = &mutexed().0;
            let followers = if name.ends_with('9') { 9 } else { 1 };
            f(&|_| {
                LANDING.store(false, Relaxed);
                let mut leader = pin!(group.run(HOT, landing()));
                is_pending(leader.as_mut());
                follow_mutexed(group, followers, &mut || ready(leader.as_mut()))
            });
        }
        _ => panic!("no call is named {name}"),
    }
}

static LANDING: AtomicBool = AtomicBool::new(false);

fn landing() -> impl Future<Output = u64> + Send {
    poll_fn(|_| if LANDING.load(Relaxed) { Poll::Ready(1) } else { Poll::Pending })
}

/// So many followers join, one in the stack frame of the other, the leader lands, and they resume.
#[inline(never)]
fn follow(group: &Flights<u64>, followers: u32, land: &mut dyn FnMut() -> u64) -> u64 {
    if followers == 0 {
        LANDING.store(true, Relaxed);
        return land();
    }
    let mut call = pin!(group.run(HOT, pending()));
    is_pending(call.as_mut());
    follow(group, followers - 1, land) + ready(call)
}

#[inline(never)]
fn follow_mutexed(group: &Mutexed<u64>, followers: u32, land: &mut dyn FnMut() -> u64) -> u64 {
    if followers == 0 {
        LANDING.store(true, Relaxed);
        return land();
    }
    let mut call = pin!(group.run(HOT, pending()));
    is_pending(call.as_mut());
    follow_mutexed(group, followers - 1, land) + ready(call)
}

/// Makes so many calls.
pub(crate) fn make(name: &str, count: u64) {
    with(name, &mut |make| {
        for i in 0..count {
            black_box(make(black_box(i)));
        }
    });
}

/// Written before and after each call, to be found in the list of all stores.
static BEFORE: AtomicU64 = AtomicU64::new(0);
static AFTER: AtomicU64 = AtomicU64::new(0);

/// Makes so many calls in one thread and then as many in another, after some in both. Prints where
/// it marks them.
pub(crate) fn make_from_two_threads(name: &str, count: u64) {
    with(name, &mut |make| {
        let make_all = |thread: u64| {
            for i in 0..64 {
                black_box(make(thread << 32 | i));
            }
            for i in 64..64 + count {
                BEFORE.store(i, Relaxed);
                black_box(make(black_box(thread << 32 | i)));
                AFTER.store(i, Relaxed);
            }
        };
        println!("{:p} {:p}", &BEFORE, &AFTER);
        make_all(0);
        // The first one stays, with its stack and what is local to it.
        thread::scope(|scope| _ = scope.spawn(|| make_all(1)));
    });
}
