//! Panics: of loads, of the user's types, and of what moka calls. The caller sees them, and nothing is stuck.

use std::{
    future::ready,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_lite::future::yield_now;
use shardflight::{CallError, cache::ReadThrough};

use crate::{
    common::{Polled, limited, panic_text, text},
    kit::{
        Key, Place, Value, Watched, at_once, builder, counted, disarm, explode_at, get, looks,
        trap, unwanted, visit, watched, watched_builder,
    },
};

/// The leader unwinds with its payload, its followers with the text; the next call loads anew.
#[test]
fn a_panic_of_a_load_goes_to_all_who_share_it() {
    limited(|| {
        let (cache, stats) = counted(builder());
        let broken = async {
            yield_now().await;
            panic!("broken")
        };
        let mut leader = Polled::pending(cache.get(&1, broken));
        let mut follower = Polled::pending(cache.get(&1, unwanted()));
        let mut second = Polled::pending(cache.get_spawning(&1, unwanted()));
        assert_eq!(panic_text(|| leader.poll()), "broken");
        assert_eq!(panic_text(|| follower.poll()), "broken");
        assert_eq!(panic_text(|| second.poll()), "broken");
        assert_eq!((cache.loading(), cache.get_if_present(&1)), (0, None));
        assert_eq!(panic_text(|| cache.get_blocking(&1, || panic!("again"))), "again");
        assert_eq!(get(&cache, Ok(7)), Ok(7));
        assert_eq!(looks(&stats), [0, 0, 6]);
        let counted = stats.snapshot();
        assert_eq!((counted.loads, counted.failed_loads, counted.panicked), (1, 0, 2));
    });
}

/// A payload that is not text stays what it is for the leader.
#[test]
fn a_payload_reaches_the_leader_as_it_is() {
    use crate::common::NotText;

    limited(|| {
        let cache = builder().build();
        let load = || std::panic::resume_unwind(Box::new(NotText(5)));
        let payload = catch_unwind(AssertUnwindSafe(|| cache.get_blocking(&1, load)));
        let payload = payload.expect_err("it panics");
        assert_eq!(payload.downcast_ref(), Some(&NotText(5)));
    });
}

/// A load that asks for its own key would wait for itself; it panics and says so, for callers of each kind. The key is
/// free afterwards.
#[test]
fn a_load_that_asks_for_its_own_key_panics() {
    limited(|| {
        let cache = builder().build();
        let reentrant = CallError::Reentrant.to_string();
        let text = panic_text(|| at_once(cache.get(&1, async { cache.get(&1, unwanted()).await })));
        assert_eq!(text, reentrant);
        let nested = async { cache.get_blocking(&1, || unreachable!("recursion")) };
        assert_eq!(panic_text(|| at_once(cache.get(&1, nested))), reentrant);
        let text = panic_text(|| cache.get_blocking(&1, || at_once(cache.get(&1, unwanted()))));
        assert_eq!(text, reentrant);
        let nested = async { cache.get_spawning(&1, unwanted()).await };
        assert_eq!(panic_text(|| at_once(cache.get(&1, nested))), reentrant);
        // By way of another key.
        let nested = async { cache.get(&2, async { cache.get(&1, unwanted()).await }).await };
        assert_eq!(panic_text(|| at_once(cache.get(&1, nested))), reentrant);
        assert_eq!((cache.loading(), get(&cache, Ok(7))), (0, Ok(7)));
    });
}

/// It may see what is there, and put it there.
#[test]
fn a_load_may_use_what_does_not_wait_with_its_own_key() {
    limited(|| {
        let cache = builder().build();
        let load = || {
            assert_eq!(cache.get_if_present(&1), None);
            cache.insert(&1, 5);
            let found = cache.get_blocking(&1, || unreachable!("it is there"));
            cache.invalidate(&1);
            found
        };
        assert_eq!(cache.get_blocking(&1, load), Ok(5));
        assert_eq!((cache.get_if_present(&1), cache.loading()), (None, 0));
    });
}

type Operation = (&'static str, fn(&Watched));

/// Every way to use a key, with a load that brings 2.
const OPERATIONS: [Operation; 9] = [
    ("get", |cache| drop(at_once(cache.get(&Key(1), ready(Ok(Value(2))))))),
    ("get_spawning", |cache| drop(at_once(cache.get_spawning(&Key(1), ready(Ok(Value(2))))))),
    ("get_blocking", |cache| drop(cache.get_blocking(&Key(1), || Ok(Value(2))))),
    ("get_many", |cache| {
        let load = |keys: Vec<Key>| ready(keys.into_iter().map(|key| (key, Ok(Value(2)))));
        drop(at_once(cache.get_many([Key(1), Key(5)], load)));
    }),
    ("failing", |cache| drop(cache.get_blocking(&Key(1), || Err("down")))),
    ("get_if_present", |cache| drop(cache.get_if_present(&Key(1)))),
    ("insert", |cache| cache.insert(&Key(1), Value(2))),
    ("invalidate", |cache| cache.invalidate(&Key(1))),
    ("while it is invalidated", |cache| {
        let load = || {
            cache.invalidate(&Key(1));
            Ok(Value(2))
        };
        drop(cache.get_blocking(&Key(1), load));
    }),
];

/// Each visit of a place that a panic can come from, in each operation, on a key that is there, is not, or has an
/// error: the caller sees the panic, no key is stuck, and the cache works as before.
fn explode_everywhere(place: Place) -> usize {
    let mut exploded = 0;
    for (name, operation) in OPERATIONS {
        for state in 0..3 {
            for visits in 0.. {
                let lives = watched_builder().negative_ttl(crate::kit::secs(60));
                let cache = lives.build();
                match state {
                    0 => {}
                    1 => cache.insert(&Key(1), Value(1)),
                    _ => assert_eq!(cache.get_blocking(&Key(1), || Err("old")), Err("old")),
                }
                explode_at(place, visits);
                let panic = catch_unwind(AssertUnwindSafe(|| operation(&cache)));
                if disarm() {
                    // As many visits as there are have been seen.
                    assert!(panic.is_ok());
                    break;
                }
                exploded += 1;
                let payload = panic.expect_err("the caller sees it");
                assert_eq!(text(&*payload), format!("in {place:?}"), "{name}");
                assert_eq!(cache.loading(), 0, "{name} {state} {visits}");
                assert_works(&cache);
            }
        }
    }
    exploded
}

fn assert_works(cache: &Watched) {
    let old = cache.get_blocking(&Key(1), || Ok(Value(3)));
    let olds = [Ok(Value(1)), Ok(Value(2)), Ok(Value(3)), Err("old"), Err("down")];
    assert!(olds.contains(&old), "{old:?}");
    cache.invalidate(&Key(1));
    assert_eq!(cache.get_if_present(&Key(1)), None);
    assert_eq!(at_once(cache.get(&Key(1), ready(Ok(Value(4))))), Ok(Value(4)));
    assert_eq!(at_once(cache.get(&Key(1), unwanted())), Ok(Value(4)));
    cache.insert(&Key(1), Value(5));
    assert_eq!(cache.get_if_present(&Key(1)), Some(Value(5)));
    assert_eq!(cache.loading(), 0);
}

#[test]
fn a_panic_in_hash_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::HashKey) > 27));
}

#[test]
fn a_panic_in_eq_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::EqKey) > 9));
}

#[test]
fn a_panic_in_clone_of_a_key_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::CloneKey) > 9));
}

#[test]
fn a_panic_in_clone_of_a_value_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::CloneValue) > 9));
}

#[test]
fn a_panic_in_a_weigher_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::Weigh) > 9));
}

#[test]
fn a_panic_in_time_to_live_of_leaves_nothing() {
    limited(|| assert!(explode_everywhere(Place::TtlOf) > 9));
}

/// Of those that the caller drops; those that moka holds are dropped when moka sees fit.
#[test]
fn a_panic_in_drop_of_a_value_leaves_nothing() {
    limited(|| {
        let cache = watched();
        // It is not kept: the copy for the cache is dropped.
        let load = || {
            cache.invalidate(&Key(1));
            explode_at(Place::DropValue, 0);
            Ok(Value(1))
        };
        assert_eq!(panic_text(|| cache.get_blocking(&Key(1), load)), "in DropValue");
        assert_eq!(cache.loading(), 0);
        assert_works(&cache);
        let inserts = cache.clone();
        crate::kit::trap(Place::TtlOf, 0, move || {
            inserts.invalidate(&Key(1));
            explode_at(Place::DropValue, 0);
        });
        assert_eq!(panic_text(|| cache.insert(&Key(1), Value(1))), "in DropValue");
        assert_works(&cache);
    });
}

/// A value that has been stored is removed although the weigher's panic comes in between, if it is outdated.
#[test]
fn a_weigher_that_panics_while_its_key_is_invalidated_leaves_nothing() {
    limited(|| {
        let cache = watched();
        let invalidating = cache.clone();
        crate::kit::trap(Place::Weigh, 0, move || {
            invalidating.invalidate(&Key(1));
            std::panic::resume_unwind(Box::new("in Weigh"));
        });
        let text = panic_text(|| cache.get_blocking(&Key(1), || Ok(Value(1))));
        assert_eq!(text, "in Weigh");
        assert_eq!((cache.get_if_present(&Key(1)), cache.loading()), (None, 0));
        assert_works(&cache);
    });
}

/// A load and its error, which both may panic when they are dropped.
struct Load(Option<Result<Arc<()>, Failure>>);

impl Future for Load {
    type Output = Result<Arc<()>, Failure>;
    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(self.0.take().expect("it is polled once"))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        visit(Place::DropWork);
    }
}

#[derive(Debug, Clone)]
struct Failure;

impl Drop for Failure {
    fn drop(&mut self) {
        visit(Place::DropWork);
    }
}

type Numbers = ReadThrough<u64, Arc<()>, Failure>;

/// How a cache is used that has the key 1, and how many more copies of that value it keeps then.
type Look = (&'static str, fn(&Numbers, &Arc<()>), usize);

const ON_FRESH: [Look; 4] = [
    (
        "get_many",
        |cache, _| {
            let unused = Load(None);
            let load = move |_| {
                let _ = &unused;
                ready([])
            };
            drop(at_once(cache.get_many([1], load)));
        },
        0,
    ),
    (
        "get_many that loads",
        |cache, value| {
            struct Many(Load);
            impl Future for Many {
                type Output = [(u64, Result<Arc<()>, Failure>); 1];
                fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
                    Poll::Ready([(2, self.0.0.take().expect("it is polled once"))])
                }
            }
            let load = |_: Vec<u64>| Many(Load(Some(Ok(Arc::clone(value)))));
            drop(at_once(cache.get_many([1, 2], load)));
        },
        0,
    ),
    (
        "get that looks again",
        |cache, value| {
            // Another load ends between its two looks.
            let (inserts, inserted) = (cache.clone(), Arc::clone(value));
            trap(Place::Missed, 0, move || inserts.insert(&2, inserted));
            drop(at_once(cache.get(&2, Load(Some(Err(Failure))))));
        },
        1,
    ),
    (
        "get_blocking that looks again",
        |cache, value| {
            let (inserts, inserted) = (cache.clone(), Arc::clone(value));
            trap(Place::Missed, 0, move || inserts.insert(&2, inserted));
            let load = Load(None);
            drop(cache.get_blocking(&2, move || {
                let _ = &load;
                Err(Failure)
            }));
        },
        1,
    ),
];

/// Of a value that is fresh, or is to be refreshed.
const ON_ANY: [Look; 5] = [
    ("get", |cache, value| drop(at_once(cache.get(&1, Load(Some(Ok(Arc::clone(value))))))), 0),
    ("get that fails", |cache, _| drop(at_once(cache.get(&1, Load(Some(Err(Failure)))))), 0),
    (
        "get_spawning",
        |cache, value| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _context = runtime.enter();
            drop(at_once(cache.get_spawning(&1, Load(Some(Ok(Arc::clone(value)))))));
        },
        0,
    ),
    (
        "get_blocking",
        |cache, value| {
            let load = Load(Some(Ok(Arc::clone(value))));
            drop(cache.get_blocking(&1, move || {
                let mut load = load;
                let answer = load.0.take().expect("it is called once");
                drop(load);
                answer
            }));
        },
        0,
    ),
    ("get_blocking that fails", |cache, _| drop(cache.get_blocking(&1, || Err(Failure))), 0),
];

/// A load that is not needed, that has returned, or whose error nobody sees: if its `Drop` panics, the answer that was
/// to be returned is dropped.
#[test]
fn no_answer_leaks_when_a_load_panics_as_it_is_dropped() {
    fn explode(soft_ttl: Duration, (name, look, kept): Look) -> usize {
        for visits in 0.. {
            let value = Arc::new(());
            let builder = ReadThrough::builder().observer(crate::kit::Visits).soft_ttl(soft_ttl);
            let cache: Numbers = builder.build();
            cache.insert(&1, Arc::clone(&value));
            assert_eq!(Arc::strong_count(&value), 2);
            explode_at(Place::DropWork, visits);
            let panicked = catch_unwind(AssertUnwindSafe(|| look(&cache, &value)));
            if disarm() {
                return visits;
            }
            drop(panicked);
            assert_eq!(Arc::strong_count(&value), 2 + kept, "{name}, {visits}");
        }
        unreachable!("it ends when it was not visited so often")
    }

    limited(|| {
        let hour = crate::kit::secs(3_600);
        let fresh = ON_FRESH.iter().chain(&ON_ANY).map(|look| explode(hour, *look));
        assert!(fresh.sum::<usize>() >= 9);
        let due = ON_ANY.map(|look| explode(Duration::ZERO, look));
        assert!(due.iter().sum::<usize>() >= 6, "{due:?}");
    });
}
