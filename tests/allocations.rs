//! What calls cost in memory: allocations and clones for each, and what is left afterwards.

#![cfg(not(loom))]
#![allow(unsafe_code, reason = "a global allocator that counts is an unsafe trait")]

mod common;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    future::pending,
    hash::{BuildHasher, Hasher},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use common::limited;
use shardflight::{Call, CallError, Entry, Group, OnCancel, Stats};

/// Counts by thread: each test has one of its own, so that others do not disturb it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    /// Bytes allocated less bytes freed by this thread.
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

fn count(allocations: usize, bytes: isize) {
    ALLOCATIONS.set(ALLOCATIONS.get() + allocations);
    LIVE.set(LIVE.get() + bytes);
}

// SAFETY: everything is passed on to the system's allocator as it came; the counters are cells of
// the thread that neither allocate nor have a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, -layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `dealloc`, and the pointer came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `realloc`, and the pointer came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of allocations that `f` makes on this thread.
fn allocations<R>(f: impl FnOnce() -> R) -> (usize, R) {
    let before = ALLOCATIONS.get();
    let result = f();
    (ALLOCATIONS.get() - before, result)
}

/// Polls without a waker that would allocate.
fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn poll_new<F: Future>(future: F) -> Poll<F::Output> {
    poll(pin!(future))
}

/// A value that counts its clones.
#[derive(Debug)]
struct Counted<'a>(&'a AtomicUsize);

impl Clone for Counted<'_> {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, SeqCst);
        Self(self.0)
    }
}

/// G11: the counters count.
#[test]
fn g11_allocations_and_bytes_are_counted() {
    limited(|| {
        let live = LIVE.get();
        let (n, boxed) = allocations(|| Box::new([0_u8; 100]));
        assert_eq!((n, LIVE.get() - live), (1, 100));
        drop(boxed);
        assert_eq!(LIVE.get(), live);
    });
}

/// G11: an unshared call of a `u64` key allocates nothing and clones nothing, in all four ways.
#[test]
fn g11_unshared_call_allocates_and_clones_nothing() {
    limited(|| {
        let clones = AtomicUsize::new(0);
        // With the capacity there is no first time that pays for the table.
        let group: Group<u64, Counted<'_>> = Group::builder().capacity(10_000).build();
        for key in 0..1_000 {
            let (n, _) = allocations(|| {
                assert!(poll_new(group.run(&key, async { Counted(&clones) })).is_ready());
                assert!(poll_new(group.call(&key).run(async { Counted(&clones) })).is_ready());
                let blocking = group.run_blocking(&key, || Counted(&clones));
                let called = group.call(&key).run_blocking(|| Counted(&clones));
                (blocking, called.is_ok())
            });
            assert_eq!(n, 0, "key {key}");
        }
        assert_eq!(clones.load(SeqCst), 0);
        assert!(group.is_empty());
    });
}

/// G11: an observer changes nothing about it, and neither does the clock.
#[test]
fn g11_observed_unshared_call_allocates_and_clones_nothing() {
    limited(|| {
        let clones = AtomicUsize::new(0);
        let stats = Arc::new(Stats::default());
        let group: Group<u64, Counted<'_>> =
            Group::builder().capacity(10_000).observer(Arc::clone(&stats)).build();
        for key in 0..1_000 {
            let (n, _) = allocations(|| {
                assert!(poll_new(group.run(&key, async { Counted(&clones) })).is_ready());
                group.run_blocking(&key, || Counted(&clones))
            });
            assert_eq!(n, 0, "key {key}");
        }
        assert_eq!(clones.load(SeqCst), 0);
        assert_eq!(stats.snapshot().landed, 2_000);
    });
}

/// G11: nor does one whose work waits, or one that is cancelled; nor do questions and `forget`.
#[test]
fn g11_unshared_call_that_waits_or_is_cancelled_allocates_nothing() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        // The first call of a key pays for its shard's room.
        assert!(poll_new(group.run(&1, async { 1 })).is_ready());
        let (n, ()) = allocations(|| {
            let mut waits = pin!(group.run(&1, async {
                futures_lite::future::yield_now().await;
                1
            }));
            assert!(poll(waits.as_mut()).is_pending());
            assert!(group.is_in_flight(&1));
            assert_eq!(group.len(), 1);
            assert!(poll(waits).is_ready());
            assert!(poll_new(group.run(&1, pending())).is_pending());
            assert!(group.is_empty(), "it was dropped");
            let mut forgotten = pin!(group.run(&1, pending()));
            assert!(poll(forgotten.as_mut()).is_pending());
            assert!(group.forget(&1));
        });
        assert_eq!(n, 0);
    });
}

/// G11: a `String` key called with `&str` costs the owned key and nothing else.
#[test]
fn g11_unshared_call_of_a_string_key_allocates_the_key_alone() {
    limited(|| {
        let group: Group<String, u64> = Group::builder().capacity(10_000).build();
        for key in ["a", "another", "a rather long one, for a key"] {
            let (n, _) = allocations(|| poll_new(group.run(key, async { 1 })));
            assert_eq!(n, 1, "{key}");
            let (n, _) = allocations(|| group.run_blocking(key, || 1));
            assert_eq!(n, 1, "{key}");
            let (n, _) = allocations(|| poll_new(group.run(key, pending())));
            assert_eq!(n, 1, "{key}");
        }
    });
}

/// G11: the first follower pays for the shared flight; later ones, and those that are dropped,
/// allocate nothing; landing clones the value once for each follower and allocates nothing.
#[test]
fn g11_first_follower_pays_for_the_flight_and_later_ones_nothing() {
    limited(|| {
        let clones = AtomicUsize::new(0);
        // The map that shared flights move to grows at times, unless it has room already.
        let group: Group<String, Counted<'_>> = Group::builder().capacity(10_000).build();
        let (land, landed) = tokio::sync::oneshot::channel();
        let mut leader = pin!(group.run("key", async {
            landed.await.expect("sent");
            Counted(&clones)
        }));
        assert!(poll(leader.as_mut()).is_pending());

        let mut first = pin!(group.run("key", pending()));
        let (n, polled) = allocations(|| poll(first.as_mut()));
        assert!(polled.is_pending());
        assert_eq!(n, 1, "the first follower");

        let mut followers: Vec<_> =
            (0..100).map(|_| Box::pin(group.run("key", pending()))).collect();
        let (n, ()) = allocations(|| {
            for follower in &mut followers {
                assert!(poll(follower.as_mut()).is_pending());
                assert!(poll(follower.as_mut()).is_pending());
            }
        });
        assert_eq!(n, 0, "later followers");

        let (n, ()) = allocations(|| {
            for _ in 0..100 {
                assert!(poll_new(group.run("key", pending())).is_pending());
            }
        });
        assert_eq!(n, 0, "dropped followers");

        land.send(()).expect("it waits");
        let (n, ()) = allocations(|| {
            assert!(poll(leader).is_ready());
            assert!(poll(first).is_ready());
            for follower in &mut followers {
                assert!(poll(follower.as_mut()).is_ready());
            }
        });
        assert_eq!(n, 0, "landing");
        // The flight keeps the original for the last of the 101 followers; the leader clones, too.
        assert_eq!(clones.load(SeqCst), 101);
    });
}

/// All keys have the same hash, so that they meet in one cell.
#[derive(Default)]
struct Same;

impl BuildHasher for Same {
    type Hasher = Same;
    fn build_hasher(&self) -> Same {
        Same
    }
}

impl Hasher for Same {
    fn write(&mut self, _: &[u8]) {}
    fn finish(&self) -> u64 {
        0
    }
}

/// G11: four keys in flight fit into a cell. A fifth moves them to the map of their shard, which allocates if it
/// has to grow; it keeps its room.
#[test]
fn g11_fifth_key_of_a_cell_pays_for_the_growth_of_the_map() {
    limited(|| {
        let group: Group<u64, u64, Same> = Group::default();
        let keys: Vec<u64> = (0..7).collect();
        for is_warm in [false, true] {
            let mut callers: Vec<_> =
                keys.iter().map(|key| Box::pin(group.run(key, pending()))).collect();
            let paid: Vec<usize> = callers
                .iter_mut()
                .map(|caller| allocations(|| assert!(poll(caller.as_mut()).is_pending())).0)
                .collect();
            assert_eq!(paid[..4], [0; 4], "in the cell");
            match is_warm {
                // Twice: for the four of the cell, and for the fifth.
                false => assert_eq!(paid[4..], [2, 0, 0], "in a map without room"),
                true => assert_eq!(paid[4..], [0; 3], "in a map with room"),
            }
            drop(callers);
            assert!(group.is_empty());
        }
    });
}

/// G11: the first follower of a flight moves its cell to the map, and pays for the flight and the growth of the
/// map: three allocations at most, one if the map has room.
#[test]
fn g11_first_follower_pays_for_the_growth_of_the_map() {
    limited(|| {
        for others in 0..4 {
            let group: Group<u64, u64, Same> = Group::default();
            let keys: Vec<u64> = (0..=others).collect();
            for is_warm in [false, true] {
                let mut leaders: Vec<_> =
                    keys.iter().map(|key| Box::pin(group.run(key, pending()))).collect();
                for leader in &mut leaders {
                    assert!(poll(leader.as_mut()).is_pending());
                }
                let mut follower = pin!(group.run(&0, pending()));
                let (n, polled) = allocations(|| poll(follower.as_mut()));
                assert!(polled.is_pending());
                match is_warm {
                    false => assert_eq!(n, if others < 3 { 2 } else { 3 }, "{others} others"),
                    true => assert_eq!(n, 1, "{others} others"),
                }
                let (n, polled) = allocations(|| poll_new(group.run(&0, pending())));
                assert!(polled.is_pending());
                assert_eq!(n, 0, "a later follower");
            }
        }
    });
}

/// G11: to take over a flight allocates nothing.
#[test]
fn g11_taking_over_allocates_nothing() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let mut leader = Box::pin(group.run(&1, pending()));
        assert!(poll(leader.as_mut()).is_pending());
        let mut followers: Vec<_> = (0..40).map(|_| Box::pin(group.run(&1, async { 2 }))).collect();
        for follower in &mut followers {
            assert!(poll(follower.as_mut()).is_pending());
        }
        let (n, ()) = allocations(|| {
            drop(leader);
            let mut left = followers.len();
            let mut ready = [false; 40];
            while left > 0 {
                for (follower, ready) in followers.iter_mut().zip(&mut ready) {
                    if !*ready && poll(follower.as_mut()).is_ready() {
                        *ready = true;
                        left -= 1;
                    }
                }
            }
        });
        assert_eq!(n, 0);
        assert!(group.is_empty());
    });
}

/// G11: options cost nothing: not in a call that is unshared, nor in one that is refused, gives up, or
/// only follows. An async call that has to wait, and states a timeout, pays for its timer.
#[test]
fn g11_options_allocate_nothing() {
    limited(|| {
        const HOUR: Duration = Duration::from_secs(3_600);
        fn call<'a, V: Clone>(
            group: &'a Group<u64, V>,
            key: &'a u64,
        ) -> Call<'a, u64, V, ahash::RandomState, u64> {
            group.call(key).on_cancel(OnCancel::Fail).max_followers(100).max_age(HOUR)
        }

        let clones = AtomicUsize::new(0);
        let group: Group<u64, Counted<'_>> = Group::builder().capacity(10_000).build();
        for key in 0..1_000 {
            let (n, ()) = allocations(|| {
                let timed = || call(&group, &key).timeout(HOUR);
                assert!(poll_new(timed().run(async { Counted(&clones) })).is_ready());
                assert!(poll_new(timed().fresh().run(async { Counted(&clones) })).is_ready());
                assert!(timed().run_blocking(|| Counted(&clones)).is_ok());
                assert!(call(&group, &key).fresh().run_blocking(|| Counted(&clones)).is_ok());
                // Others in the same group are dated now, too.
                group.run_blocking(&key, || Counted(&clones));
            });
            assert_eq!(n, 0, "key {key}");
        }
        assert_eq!(clones.load(SeqCst), 0);

        let mut leader = pin!(group.run(&1, pending()));
        assert!(poll(leader.as_mut()).is_pending());
        let (n, refused) = allocations(|| {
            poll_new(call(&group, &1).timeout(HOUR).max_followers(0).run(pending()))
        });
        assert!(matches!(refused, Poll::Ready(Err(CallError::TooManyFollowers))));
        assert_eq!(n, 0, "a call that is refused");
        let give_up = || call(&group, &1).timeout(Duration::ZERO).run_blocking(|| Counted(&clones));
        // The first follower pays for the flight, and the first that blocks for its thread.
        assert!(give_up().is_err());
        let mut followers: Vec<_> =
            (0..10).map(|_| Box::pin(call(&group, &1).run(pending()))).collect();
        let (n, ()) = allocations(|| {
            assert!(matches!(give_up(), Err(CallError::TimedOut)));
            for follower in &mut followers {
                assert!(poll(follower.as_mut()).is_pending());
            }
        });
        assert_eq!(n, 0, "followers");

        // The time of an async call begins when it has to wait.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.expect("a runtime");
        let _context = runtime.enter();
        let mut timed = Box::pin(call(&group, &1).timeout(HOUR).run(pending()));
        let (n, ()) = allocations(|| assert!(poll(timed.as_mut()).is_pending()));
        assert_eq!(n, 1, "the timer");
        let (n, ()) = allocations(|| assert!(poll(timed.as_mut()).is_pending()));
        assert_eq!(n, 0, "there is one");
    });
}

/// G11: a relay that leads pays for the box of its work; one that only follows, and the passing on from
/// hand to hand, cost nothing.
#[test]
fn g11_relay_pays_for_its_box_when_it_leads_and_nothing_when_it_follows() {
    limited(|| {
        let group: Group<u64, u64> = Group::builder().capacity(10_000).build();
        let (n, _) = allocations(|| poll_new(group.call(&1).relay(async { 1 })));
        assert_eq!(n, 1);

        let mut leader = Box::pin(group.call(&1).relay(pending()));
        assert!(poll(leader.as_mut()).is_pending());
        // It pays for the flight.
        let mut first = Box::pin(group.run(&1, pending()));
        assert!(poll(first.as_mut()).is_pending());
        let mut follower = Box::pin(group.call(&1).relay(pending()));
        let (n, ()) = allocations(|| {
            assert!(poll(follower.as_mut()).is_pending());
            assert!(poll_new(group.call(&1).relay(pending())).is_pending(), "and is dropped");
        });
        assert_eq!(n, 0, "it follows");
        drop(first);
        let (n, ()) = allocations(|| {
            drop(leader);
            assert!(poll(follower.as_mut()).is_pending());
            drop(follower);
        });
        assert_eq!(n, 0, "it takes over");
        assert!(group.is_empty());
    });
}

/// G11: a lead costs nothing, a handle its place, and one more when it waits; its clones none. Landing
/// clones nothing.
#[test]
fn g11_handles_pay_for_themselves() {
    limited(|| {
        let clones = AtomicUsize::new(0);
        let group: Group<u64, Counted<'_>> = Group::builder().capacity(10_000).build();
        // The first call of a key pays for its shard's room.
        drop(group.lead_or_join(&1));
        let (n, entry) = allocations(|| group.lead_or_join(&1));
        let Entry::Lead(lead) = entry else { panic!("the key is free") };
        assert_eq!(n, 0, "a lead");
        let (n, mut first) = allocations(|| group.join(&1).expect("in flight"));
        assert_eq!(n, 2, "the first follower: the flight, and its place");
        let (n, polled) = allocations(|| poll(Pin::new(&mut first)).is_pending());
        assert!(polled);
        assert!(n <= 2, "the first that waits made {n} allocations");
        let (n, mut handle) = allocations(|| group.join(&1).expect("in flight"));
        assert_eq!(n, 1, "a later handle");
        let (n, polled) = allocations(|| poll(Pin::new(&mut handle)).is_pending());
        assert!(polled);
        assert_eq!(n, 1, "its place among those that wait");
        let (n, clone) = allocations(|| {
            assert!(poll(Pin::new(&mut handle)).is_pending());
            handle.clone()
        });
        assert_eq!(n, 0, "a clone");
        let (n, followers) = allocations(|| lead.land(Counted(&clones)));
        // That of the event that nobody waits on here is made when it is notified.
        assert!(n <= 1, "landing made {n} allocations");
        assert_eq!((followers, clones.load(SeqCst)), (2, 0));
        let (n, ()) = allocations(|| {
            assert!(matches!(poll(Pin::new(&mut handle)), Poll::Ready(Ok(_))));
            assert!(clone.wait_timeout(Duration::ZERO).is_ok());
        });
        assert!(n <= 1, "{n} allocations for an answer that is there");
        drop(first);
        assert!(group.is_empty());
    });
}

/// Scenario 10, G11: futures that are never polled cost nothing, whatever their key.
#[test]
fn g11_future_that_is_never_polled_allocates_nothing() {
    limited(|| {
        let group: Group<String, u64> = Group::new();
        let (n, ()) = allocations(|| {
            for _ in 0..100_000 {
                drop(group.run("key", async { 1 }));
            }
        });
        assert_eq!(n, 0);
    });
}

/// Scenario 27, G13: to detect a recursion allocates nothing.
#[test]
fn g13_reporting_a_recursion_allocates_nothing() {
    limited(|| {
        let group: Group<String, u64> = Group::new();
        let value = group.run_blocking("key", || {
            let (n, ()) = allocations(|| {
                let answer = group.call("key").run_blocking(|| 1);
                assert_eq!(answer, Err(CallError::Reentrant));
                let answer = poll_new(group.call("key").run(async { 1 }));
                assert_eq!(answer, Poll::Ready(Err(CallError::Reentrant)));
            });
            assert_eq!(n, 0);
            7
        });
        assert_eq!(value, 7);
    });
}

/// What a table of 64 shards may keep of a wave that has passed.
const KEPT: isize = 256 * 1024;

/// Scenario 9, G4: the memory of 100,000 flights that were in the air at once, and cancelled, is
/// given back.
#[test]
fn s09_memory_of_100_000_cancelled_flights_is_given_back() {
    limited(|| {
        const KEYS: u64 = 100_000;
        let group: Group<Arc<str>, u64> = Group::new();
        let before = LIVE.get();
        {
            let keys: Vec<Arc<str>> = (0..KEYS).map(|key| key.to_string().into()).collect();
            let mut callers: Vec<_> = keys
                .iter()
                .flat_map(|key| [group.run(key, pending()), group.run(key, pending())])
                .map(Box::pin)
                .collect();
            let without_table = LIVE.get();
            for caller in &mut callers {
                assert!(poll(caller.as_mut()).is_pending());
            }
            assert_eq!(group.len(), KEYS as usize);
            let peak = LIVE.get() - without_table;
            assert!(peak > 20 * KEPT, "the table and the flights had {peak} bytes");
        }
        assert!(group.is_empty());
        let kept = LIVE.get() - before;
        assert!(kept <= KEPT, "{kept} bytes are kept");
        drop(group);
    });
}

/// Scenario 13, G7: 10,000 callers that join and leave one long flight leave no trace in it.
#[test]
fn s13_list_of_waiters_does_not_grow() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let mut leader = Box::pin(group.run(&1, pending()));
        assert!(poll(leader.as_mut()).is_pending());
        assert!(poll_new(group.run(&1, pending())).is_pending());
        let before = LIVE.get();
        for _ in 0..10_000 {
            assert!(poll_new(group.run(&1, pending())).is_pending());
        }
        assert_eq!(LIVE.get(), before, "one after the other");
        let mut herd: Vec<_> = (0..10_000).map(|_| Box::pin(group.run(&1, pending()))).collect();
        for caller in &mut herd {
            assert!(poll(caller.as_mut()).is_pending());
        }
        drop(herd);
        assert_eq!(LIVE.get(), before, "all at once");
    });
}

/// Scenario 14, G4: a soak of two million calls over ever-new keys, of which some are shared, some
/// cancelled and some forgotten: the memory is what it was after the first of them.
#[test]
fn s14_soak_over_new_keys_keeps_memory_flat() {
    limited(|| {
        const WARM: u64 = 50_000;
        const CALLS: u64 = 2_000_000;
        let group: Group<u64, u64> = Group::new();
        let mut after_warming = 0;
        for key in 0..CALLS {
            if key == WARM {
                after_warming = LIVE.get();
            }
            if key % 16 != 0 {
                group.run_blocking(&key, || key);
                continue;
            }
            let mut leader = pin!(group.run(&key, async {
                futures_lite::future::yield_now().await;
                key
            }));
            assert!(poll(leader.as_mut()).is_pending());
            let mut follower = pin!(group.run(&key, pending()));
            if key % 32 == 0 {
                assert!(poll(follower.as_mut()).is_pending());
            }
            if key % 48 == 0 {
                assert!(group.forget(&key));
            }
            if key % 80 != 0 {
                assert_eq!(poll(leader), Poll::Ready(key));
            }
        }
        assert!(group.is_empty());
        let grown = LIVE.get() - after_warming;
        assert!(grown <= 0, "{grown} bytes more");
    });
}

/// Scenario 14, G4: no flight keeps its value once its callers have theirs.
#[test]
fn s14_flight_keeps_no_value() {
    limited(|| {
        let group: Group<u64, Arc<u64>> = Group::new();
        let value = Arc::new(5);
        let mut leader = Box::pin(group.run(&1, async {
            futures_lite::future::yield_now().await;
            Arc::clone(&value)
        }));
        let mut follower = Box::pin(group.run(&1, pending()));
        let mut never_looks = Box::pin(group.run(&1, pending()));
        assert!(poll(leader.as_mut()).is_pending());
        assert!(poll(follower.as_mut()).is_pending());
        assert!(poll(never_looks.as_mut()).is_pending());
        drop(poll(leader.as_mut()));
        drop(poll(follower.as_mut()));
        drop(never_looks);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(group.is_empty());
    });
}

/// Scenario 14, G4: relays, pending flights, handles, tasks and batches of a soak leave no memory behind,
/// however they end.
#[test]
fn s14_soak_of_relays_fresh_calls_handles_and_batches_keeps_memory_flat() {
    limited(|| {
        const WARM: u64 = 2_000;
        const ROUNDS: u64 = 50_000;
        let group: Group<u64, u64> = Group::new();
        let mut after_warming = 0;
        for key in 0..ROUNDS {
            if key == WARM {
                after_warming = LIVE.get();
            }
            let key = &key;
            let yields = || async move {
                futures_lite::future::yield_now().await;
                *key
            };
            {
                let work = async { futures_lite::future::yield_now().await };
                let mut leader = Box::pin(group.call(key).relay({
                    let key = *key;
                    async move {
                        work.await;
                        key
                    }
                }));
                assert!(poll(leader.as_mut()).is_pending());
                let mut follower = pin!(group.run(key, pending()));
                let mut fresh = pin!(group.call(key).fresh().run(yields()));
                if key % 2 == 0 {
                    assert!(poll(follower.as_mut()).is_pending());
                }
                if key % 3 == 0 {
                    assert!(poll(fresh.as_mut()).is_pending());
                }
                if key % 5 == 0 {
                    assert!(group.forget(key));
                }
                drop(leader);
                if key % 4 == 0 {
                    assert!(poll(follower.as_mut()).is_ready());
                }
                if key % 7 != 0 {
                    let _ = poll(fresh);
                }
            }
            let mut handle = group.join(key);
            assert!(handle.is_none(), "nobody is left");
            {
                let Entry::Lead(lead) = group.lead_or_join(key) else { panic!("it is free") };
                handle = group.join(key);
                let mut batch = pin!(group.run_many([*key, key + 1], |keys| async {
                    futures_lite::future::yield_now().await;
                    keys.into_iter().map(|key| (key, key)).collect::<Vec<_>>()
                }));
                assert!(poll(batch.as_mut()).is_pending());
                if key % 3 != 0 {
                    lead.land(*key);
                }
            }
            let handle = handle.expect("it was in flight");
            let answer = handle.wait();
            assert!(matches!(answer, Ok(_) | Err(CallError::Cancelled)), "{answer:?}");
            let call = group.call(key).abort_when_abandoned();
            let (task, handle) = call.task(yields()).expect("no limit");
            let mut task = pin!(task);
            if key % 2 == 0 {
                assert!(poll(task.as_mut()).is_pending());
            }
            drop(handle);
            if key % 3 == 0 {
                assert!(poll(task).is_ready());
            }
        }
        assert!(group.is_empty());
        let grown = LIVE.get() - after_warming;
        assert!(grown <= 0, "{grown} bytes more");
    });
}
