//! `invalidate`, `invalidate_all` and `insert` are final: after they have returned no call gets what was under
//! way before. Each order of steps that one thread can bring about; the rest is for the models and the stress.

use std::{
    future::{pending, ready},
    hash::{BuildHasher, Hasher},
};

use shardflight::cache::ReadThrough;
use tokio::{sync::oneshot, task::yield_now, time::advance};

use crate::{
    common::{Polled, limited, on_paused_clock},
    kit::{
        Answer, Cache, Key, Place, Value, Watched, assert_all_visited, at_once, builder, get,
        millis, secs, sent, trap, until, unwanted, watched, watched_builder,
    },
};

/// What is said to be final.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wipe {
    Key,
    All,
    Insert,
}

const WIPES: [Wipe; 3] = [Wipe::Key, Wipe::All, Wipe::Insert];

/// What is inserted.
const NEW: u64 = 100;

impl Wipe {
    fn wipe(self, cache: &Cache) {
        match self {
            Self::Key => cache.invalidate(&1),
            Self::All => cache.invalidate_all(),
            Self::Insert => cache.insert(&1, NEW),
        }
    }

    /// What there is afterwards.
    fn leaves(self) -> Option<u64> {
        (self == Self::Insert).then_some(NEW)
    }

    /// The next call gets what it loads now, or what has been inserted.
    fn assert_final(self, cache: &Cache) {
        assert_eq!(cache.get_if_present(&1), self.leaves(), "{self:?}");
        let now = self.leaves().unwrap_or(2);
        assert_eq!(get(cache, Ok(2)), Ok(now), "{self:?}");
        assert_eq!(cache.get_if_present(&1), Some(now), "{self:?}");
    }
}

/// What is there goes.
#[test]
fn what_is_cached_goes() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().build();
            cache.insert(&1, 1);
            wipe.wipe(&cache);
            wipe.assert_final(&cache);
        }
    });
}

/// `invalidate` concerns its key, `invalidate_all` every one.
#[test]
fn other_keys_stay_unless_all_go() {
    limited(|| {
        let cache = builder().build();
        let all = || [1, 2, 3].map(|key| cache.get_if_present(&key));
        (1..=3).for_each(|key| cache.insert(&key, key));
        cache.invalidate(&2);
        assert_eq!(all(), [Some(1), None, Some(3)]);
        cache.invalidate_all();
        assert_eq!(all(), [None, None, None]);
        cache.insert(&1, 4);
        assert_eq!(all(), [Some(4), None, None], "what comes later stays");
    });
}

/// What nobody can find any more does not stay in memory.
#[test]
fn what_has_been_invalidated_is_freed() {
    limited(|| {
        let cache = builder().build();
        let held = || {
            cache.moka().run_pending_tasks();
            cache.moka().entry_count()
        };
        (0..100).for_each(|key| cache.insert(&key, key));
        assert_eq!(held(), 100);
        cache.invalidate(&1);
        assert_eq!(held(), 99);
        cache.invalidate_all();
        until(|| held() == 0);
    });
}

/// A load that began before lands afterwards: its callers get its value, and it is not kept.
#[test]
fn a_load_under_way_is_not_kept() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().build();
            let (land, value) = oneshot::channel();
            let mut leader = Polled::pending(cache.get(&1, sent(value)));
            let mut follower = Polled::pending(cache.get(&1, unwanted()));
            wipe.wipe(&cache);
            assert_eq!(cache.loading(), 0);
            land.send(Ok(1)).expect("it waits");
            assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(1), Ok(1)));
            wipe.assert_final(&cache);
        }
    });
}

/// Nobody joins it who comes afterwards, though it is still under way, and it does not replace what they load.
#[test]
fn a_load_under_way_is_not_joined() {
    limited(|| {
        for wipe in [Wipe::Key, Wipe::All] {
            let cache = builder().build();
            let (land, value) = oneshot::channel();
            let mut early = Polled::pending(cache.get(&1, sent(value)));
            wipe.wipe(&cache);
            assert_eq!(get(&cache, Ok(2)), Ok(2), "{wipe:?}");
            land.send(Ok(1)).expect("it waits");
            assert_eq!(early.woken_value(), Ok(1));
            assert_eq!(cache.get_if_present(&1), Some(2), "{wipe:?}");

            // The same with a newer load that is under way when the older one lands.
            wipe.wipe(&cache);
            let (land_1, value_1) = oneshot::channel();
            let (land_2, value_2) = oneshot::channel();
            let mut early = Polled::pending(cache.get(&1, sent(value_1)));
            wipe.wipe(&cache);
            let mut late = Polled::pending(cache.get(&1, sent(value_2)));
            land_1.send(Ok(3)).expect("it waits");
            assert_eq!(early.woken_value(), Ok(3));
            let mut joins = Polled::pending(cache.get(&1, unwanted()));
            assert_eq!(cache.get_if_present(&1), None, "{wipe:?}");
            land_2.send(Ok(4)).expect("it waits");
            assert_eq!((late.woken_value(), joins.woken_value()), (Ok(4), Ok(4)));
            assert_eq!(cache.get_if_present(&1), Some(4), "{wipe:?}");
        }
    });
}

/// Blocking loads are under way in the same way.
#[test]
fn a_blocking_load_under_way_is_neither_kept_nor_joined() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().build();
            let early = cache.get_blocking(&1, || {
                wipe.wipe(&cache);
                // It would be recursion, if it joined.
                assert_eq!(get(&cache, Ok(2)), Ok(wipe.leaves().unwrap_or(2)));
                Ok(1)
            });
            assert_eq!(early, Ok(1));
            assert_eq!(cache.get_if_present(&1), Some(wipe.leaves().unwrap_or(2)), "{wipe:?}");
        }
    });
}

/// The leader goes, and a follower of before takes over afterwards: its load begins then, so it may be kept, unless
/// a newer one has begun.
#[test]
fn a_follower_that_takes_over_afterwards_loads_anew() {
    limited(|| {
        for wipe in [Wipe::Key, Wipe::All] {
            let cache = builder().build();
            let leader = Polled::pending(cache.get(&1, pending()));
            let mut follower = Polled::pending(cache.get(&1, ready(Ok(2))));
            wipe.wipe(&cache);
            drop(leader);
            assert_eq!(follower.woken_value(), Ok(2));
            assert_eq!(cache.get_if_present(&1), Some(2), "{wipe:?}");
        }

        // What has been inserted meanwhile need not be loaded.
        let cache = builder().build();
        let leader = Polled::pending(cache.get(&1, pending()));
        let mut follower = Polled::pending(cache.get(&1, unwanted()));
        Wipe::Insert.wipe(&cache);
        drop(leader);
        assert_eq!(follower.woken_value(), Ok(NEW));
    });
}

/// It took over before: it is a load under way like any.
#[test]
fn a_follower_that_has_taken_over_before_is_not_kept() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().build();
            let leader = Polled::pending(cache.get(&1, pending()));
            let (land, value) = oneshot::channel();
            let mut follower = Polled::pending(cache.get(&1, sent(value)));
            drop(leader);
            assert!(follower.poll().is_pending());
            wipe.wipe(&cache);
            land.send(Ok(1)).expect("it waits");
            assert_eq!(follower.woken_value(), Ok(1));
            wipe.assert_final(&cache);
        }
    });
}

/// A leader that goes afterwards does not take a newer load with it.
#[test]
fn a_leader_that_goes_leaves_a_newer_load_alone() {
    limited(|| {
        let cache = builder().build();
        let early = Polled::pending(cache.get(&1, pending()));
        cache.invalidate(&1);
        let (land, value) = oneshot::channel();
        let mut late = Polled::pending(cache.get(&1, sent(value)));
        drop(early);
        assert_eq!(cache.loading(), 1);
        land.send(Ok(2)).expect("it waits");
        assert_eq!(late.woken_value(), Ok(2));
        assert_eq!(cache.get_if_present(&1), Some(2));
    });
}

/// Of a batch under way the keys that are invalidated are not kept, the others are.
#[test]
fn a_batch_under_way_is_kept_but_for_what_was_invalidated() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().build();
            let (land, values) = oneshot::channel();
            let mut values = Some(values);
            let mut batch =
                Polled::pending(cache.get_many([1, 2], |_| sent(values.take().expect("one load"))));
            wipe.wipe(&cache);
            let late = wipe.leaves().unwrap_or(3);
            assert_eq!(get(&cache, Ok(3)), Ok(late));
            land.send([(1, Ok(1)), (2, Ok(2))]).expect("it waits");
            let found = batch.woken_value();
            assert_eq!((found[&1], found[&2]), (Ok(1), Ok(2)));
            let other = (wipe != Wipe::All).then_some(2);
            let kept = (cache.get_if_present(&1), cache.get_if_present(&2));
            assert_eq!(kept, (Some(late), other), "{wipe:?}");
        }
    });
}

/// A refresh under way, in a task of its own or in a caller's, neither brings its value nor keeps the old one.
#[test]
fn a_refresh_under_way_is_not_kept() {
    on_paused_clock(|| async {
        for (wipe, spawns) in WIPES.into_iter().flat_map(|wipe| [(wipe, true), (wipe, false)]) {
            let cache = builder().soft_ttl(secs(1)).build();
            cache.insert(&1, 0);
            advance(secs(1)).await;
            let (land, value) = oneshot::channel();
            let mut refresh = None;
            match spawns {
                true => assert_eq!(at_once(cache.get_spawning(&1, sent(value))), Ok(0)),
                false => refresh = Some(Polled::pending(cache.get(&1, sent(value)))),
            }
            yield_now().await;
            assert_eq!(at_once(cache.get(&1, unwanted())), Ok(0), "it is being refreshed");
            wipe.wipe(&cache);
            assert_eq!(cache.get_if_present(&1), wipe.leaves(), "{wipe:?}");
            land.send(Ok(1)).expect("it waits");
            yield_now().await;
            if let Some(mut refresh) = refresh {
                assert_eq!(refresh.woken_value(), Ok(1));
            }
            wipe.assert_final(&cache);
        }
    });
}

/// An error that is under way is not kept either.
#[test]
fn an_error_under_way_is_not_kept() {
    limited(|| {
        for wipe in WIPES {
            let cache = builder().negative_ttl(secs(60)).build();
            let (land, value) = oneshot::channel();
            let mut leader = Polled::pending(cache.get(&1, sent(value)));
            wipe.wipe(&cache);
            land.send(Err("down")).expect("it waits");
            let expected = wipe.leaves().ok_or("down");
            assert_eq!(leader.woken_value(), expected, "an inserted value answers");
            wipe.assert_final(&cache);
        }
    });
}

/// A load that fails does not bring back what was invalidated meanwhile, neither for its own callers nor as a
/// value whose refresh is put off.
#[test]
fn a_failing_load_does_not_bring_back_what_was_invalidated() {
    on_paused_clock(|| async {
        for (wipe, age) in WIPES.into_iter().flat_map(|wipe| [(wipe, 5), (wipe, 11)]) {
            let lives = builder().soft_ttl(secs(5)).time_to_live(secs(10));
            let cache = lives.stale_if_error(secs(60)).negative_ttl(millis(1)).build();
            cache.insert(&1, 0);
            advance(secs(age)).await;
            let (land, value) = oneshot::channel();
            let mut leader = Polled::pending(cache.get(&1, sent(value)));
            wipe.wipe(&cache);
            land.send(Err("down")).expect("it waits");
            assert_eq!(leader.woken_value(), wipe.leaves().ok_or("down"), "{wipe:?} at {age}");
            wipe.assert_final(&cache);
        }
    });
}

/// What the place-by-place tests below call, with a value that no load has.
const LATE: u64 = 50;

fn wipe_watched(cache: &Watched, wipe: Wipe) {
    match wipe {
        Wipe::Key => cache.invalidate(&Key(1)),
        Wipe::All => cache.invalidate_all(),
        Wipe::Insert => cache.insert(&Key(1), Value(NEW)),
    }
}

/// Between B3 and B4: moka's weigher is called when a load is allowed to store, and has not yet. What it stores
/// afterwards is removed, or passed over.
#[test]
fn a_load_that_is_about_to_store_is_not_kept() {
    limited(|| {
        for wipe in WIPES {
            let cache = watched();
            let invalidating = cache.clone();
            trap(Place::Weigh, 0, move || wipe_watched(&invalidating, wipe));
            let early = at_once(cache.get(&Key(1), ready(Ok(Value(1)))));
            assert_eq!(early, Ok(Value(1)));
            assert_all_visited();
            // Of two that overlap in a store the later may be lost.
            let left = cache.get_if_present(&Key(1));
            assert!(left.is_none() || wipe == Wipe::Insert && left == Some(Value(NEW)), "{left:?}");
            let late = at_once(cache.get(&Key(1), ready(Ok(Value(LATE)))));
            assert_eq!(late, Ok(left.unwrap_or(Value(LATE))), "{wipe:?}");
        }
    });
}

/// The same for a value that is inserted.
#[test]
fn a_value_that_is_about_to_be_inserted_is_not_kept() {
    limited(|| {
        for wipe in [Wipe::Key, Wipe::All] {
            let cache = watched();
            let invalidating = cache.clone();
            trap(Place::Weigh, 0, move || wipe_watched(&invalidating, wipe));
            cache.insert(&Key(1), Value(1));
            assert_all_visited();
            assert_eq!(cache.get_if_present(&Key(1)), None, "{wipe:?}");
        }
    });
}

/// L3, between B4 and B6: a suspect's value is in the store while it is looked whose it is, and nobody finds it,
/// neither at the first look nor at that of a flight.
#[test]
fn what_a_suspect_has_stored_is_passed_over_before_it_is_removed() {
    limited(|| {
        let cache = watched();
        let invalidating = cache.clone();
        trap(Place::Weigh, 0, move || {
            invalidating.invalidate(&Key(1));
            let looking = invalidating.clone();
            // After the one that moka makes of what it stores: that of B6.
            trap(Place::CloneValue, 1, move || {
                assert!(looking.moka().contains_key(&Key(1)), "it is in the store");
                assert_eq!(looking.get_if_present(&Key(1)), None);
                let late = at_once(looking.get(&Key(1), ready(Ok(Value(LATE)))));
                assert_eq!(late, Ok(Value(LATE)));
            });
        });
        let early = at_once(cache.get(&Key(1), ready(Ok(Value(1)))));
        assert_eq!(early, Ok(Value(1)));
        assert_all_visited();
        assert_ne!(cache.get_if_present(&Key(1)), Some(Value(1)));
    });
}

/// M3: a flight has found the old value when it looked again; who comes after the invalidation does not get it.
#[test]
fn a_flight_that_has_found_the_old_value_is_not_joined() {
    limited(|| {
        let cache = watched();
        let other = cache.clone();
        trap(Place::Missed, 0, move || {
            other.insert(&Key(1), Value(1));
            // The next clone is what M3 gets.
            trap(Place::CloneValue, 0, move || {
                other.invalidate(&Key(1));
                assert_eq!(other.get_if_present(&Key(1)), None);
                let late = at_once(other.get(&Key(1), ready(Ok(Value(LATE)))));
                assert_eq!(late, Ok(Value(LATE)));
            });
        });
        assert_eq!(at_once(cache.get(&Key(1), unwanted())), Ok(Value(1)));
        assert_all_visited();
        assert_eq!(cache.get_if_present(&Key(1)), Some(Value(LATE)));
    });
}

/// An old value that is found for a load that failed, and is to be stored again with its refresh put off, is
/// invalidated in between.
#[test]
fn a_value_that_is_put_off_is_not_stored_again() {
    on_paused_clock(|| async {
        for wipe in WIPES {
            let lives = watched_builder().time_to_live(secs(1));
            let cache = lives.stale_if_error(secs(60)).negative_ttl(secs(1)).build();
            cache.insert(&Key(1), Value(1));
            advance(secs(2)).await;
            let load = async {
                let invalidating = cache.clone();
                trap(Place::CloneValue, 0, move || wipe_watched(&invalidating, wipe));
                Err("down")
            };
            // It had been found, or was outdated by a look at the floor.
            let found = if wipe == Wipe::All { Err("down") } else { Ok(Value(1)) };
            assert_eq!(at_once(cache.get(&Key(1), load)), found, "{wipe:?}");
            assert_all_visited();
            let left = cache.get_if_present(&Key(1)).map(|value| value.0);
            assert_eq!(left, wipe.leaves(), "{wipe:?}");
        }
    });
}

/// Of two inserts that overlap the one that began later wins.
#[test]
fn of_overlapping_inserts_the_later_wins() {
    limited(|| {
        let cache = watched();
        let inserting = cache.clone();
        // Before the first has been allowed to store.
        trap(Place::TtlOf, 0, move || inserting.insert(&Key(1), Value(2)));
        cache.insert(&Key(1), Value(1));
        assert_all_visited();
        assert_eq!(cache.get_if_present(&Key(1)), Some(Value(2)));
    });
}

/// A refresh that begins while a value is inserted keeps that from being stored; the value of before goes all the same,
/// and does not come back when the refresh fails.
#[test]
fn an_insert_that_loses_to_a_refresh_takes_the_old_value_with_it() {
    use std::{cell::RefCell, rc::Rc, time::Duration};

    limited(|| {
        // Before it is allowed to store, and after.
        for place in [Place::TtlOf, Place::Weigh] {
            let lives = watched_builder().soft_ttl(Duration::ZERO).negative_ttl(secs(60));
            let cache = lives.build();
            cache.insert(&Key(1), Value(1));
            let (land, value) = oneshot::channel();
            let refresh = Rc::new(RefCell::new(None));
            let (begun, other) = (Rc::clone(&refresh), cache.clone());
            trap(place, 0, move || {
                let call = async move { other.get(&Key(1), sent(value)).await };
                *begun.borrow_mut() = Some(Polled::pending(call));
            });
            cache.insert(&Key(1), Value(2));
            assert_all_visited();
            assert_ne!(cache.get_if_present(&Key(1)), Some(Value(1)), "{place:?}");
            land.send(Err("down")).expect("it waits");
            let mut refresh = refresh.take().expect("it has begun");
            assert_ne!(refresh.woken_value(), Ok(Value(1)), "{place:?}");
            assert_ne!(cache.get_if_present(&Key(1)), Some(Value(1)), "{place:?}");
        }
    });
}

/// An insert that overlaps a load wins, whichever of them began first, if the load has not stored.
#[test]
fn an_insert_from_inside_a_load_wins() {
    limited(|| {
        let cache = builder().build();
        let load = async {
            cache.insert(&1, 5);
            assert_eq!(cache.get_if_present(&1), Some(5));
            Ok(1)
        };
        assert_eq!(at_once(cache.get(&1, load)), Ok(1));
        assert_eq!(cache.get_if_present(&1), Some(5));
    });
}

/// All keys have one hash.
#[derive(Clone)]
struct Same;

impl BuildHasher for Same {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self
    }
}

impl Hasher for Same {
    fn finish(&self) -> u64 {
        7
    }

    fn write(&mut self, _: &[u8]) {}
}

/// Keys whose hashes are equal are invalidated each by itself: another's value stays, and another's load, which may
/// have to be loaded again, is at least the answer to its callers.
#[test]
fn a_key_whose_hash_is_the_same_keeps_its_value_and_its_callers() {
    limited(|| {
        let cache: ReadThrough<u64, u64, &str, Same> =
            ReadThrough::builder_with_hasher(Same).build();
        cache.insert(&2, 20);
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&3, sent(value)));
        cache.invalidate(&1);
        assert_eq!(cache.get_if_present(&2), Some(20));
        let mut follower = Polled::pending(cache.get(&3, unwanted()));
        land.send(Ok(30)).expect("it waits");
        assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(30), Ok(30)));
        let again: Answer = at_once(cache.get(&3, ready(Ok(31))));
        assert!(matches!(again, Ok(30 | 31)));
        assert_eq!(cache.get_if_present(&3), again.ok());
        assert_eq!(cache.loading(), 0);
    });
}
