//! `get_many`: what is there, what others load, and one load for all the rest.

use std::{
    collections::BTreeSet,
    future::{pending, ready},
    sync::{Arc, Mutex},
};

use shardflight::cache::ReadThrough;
use tokio::{sync::oneshot, time::advance};

use crate::{
    common::{Polled, limited, on_paused_clock, panic_text},
    kit::{Answer, Cache, at_once, builder, counted, get, looks, secs, sent, unwanted},
};

/// Which keys were loaded, one list for each call.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<BTreeSet<u64>>>>);

impl Asked {
    fn note(&self, keys: &[u64]) {
        let set: BTreeSet<u64> = keys.iter().copied().collect();
        assert_eq!(set.len(), keys.len(), "no key twice: {keys:?}");
        self.0.lock().unwrap().push(set);
    }

    fn take(&self) -> Vec<Vec<u64>> {
        let asked = std::mem::take(&mut *self.0.lock().unwrap());
        asked.into_iter().map(|keys| keys.into_iter().collect()).collect()
    }

    /// All keys, with what `answer` has for them.
    fn get(
        &self,
        cache: &Cache,
        keys: &[u64],
        answer: impl Fn(u64) -> Option<Answer> + Copy,
    ) -> Vec<(u64, Answer)> {
        let load = |keys: Vec<u64>| {
            self.note(&keys);
            ready(keys.into_iter().filter_map(move |key| Some((key, answer(key)?))))
        };
        let mut found: Vec<_> =
            at_once(cache.get_many(keys.iter().copied(), load)).into_iter().collect();
        found.sort_by_key(|(key, _)| *key);
        found
    }
}

/// What is there is not loaded; the rest is, once, and is there from then on, for single callers, too.
#[test]
fn what_is_not_there_is_loaded_together() {
    limited(|| {
        let ((cache, stats), asked) = (counted(builder()), Asked::default());
        cache.insert(&1, 1);
        let found = asked.get(&cache, &[1, 2, 3], |key| Some(Ok(key * 10)));
        assert_eq!(found, [(1, Ok(1)), (2, Ok(20)), (3, Ok(30))]);
        assert_eq!(asked.take(), [[2, 3]]);
        assert_eq!(looks(&stats), [1, 0, 2]);
        assert_eq!(stats.snapshot().loads, 2);
        let found = asked.get(&cache, &[3, 2, 1], |_| None);
        assert_eq!(found, [(1, Ok(1)), (2, Ok(20)), (3, Ok(30))]);
        assert_eq!(asked.take(), [[0; 0]; 0], "nothing is asked for");
        assert_eq!(at_once(cache.get(&2, unwanted())), Ok(20));
    });
}

/// No keys: no load, no look-up.
#[test]
fn an_empty_list_calls_nothing() {
    limited(|| {
        let ((cache, stats), asked) = (counted(builder()), Asked::default());
        assert_eq!(asked.get(&cache, &[], |_| None), []);
        assert_eq!((asked.take().len(), looks(&stats)), (0, [0, 0, 0]));
    });
}

/// Keys that are listed twice are looked up and loaded once, be they there or not.
#[test]
fn keys_may_be_listed_twice() {
    limited(|| {
        let ((cache, stats), asked) = (counted(builder()), Asked::default());
        cache.insert(&1, 1);
        let found = asked.get(&cache, &[1, 2, 1, 2, 2], |key| Some(Ok(key)));
        assert_eq!(found, [(1, Ok(1)), (2, Ok(2))]);
        assert_eq!(asked.take(), [[2]]);
        assert_eq!(looks(&stats), [1, 0, 1]);
    });
}

/// Keys that others load are waited for, and those of the batch are joined by others.
#[test]
fn a_batch_joins_and_is_joined() {
    limited(|| {
        let (cache, stats) = counted(builder());
        let (land_1, value_1) = oneshot::channel();
        let mut single = Polled::pending(cache.get(&1, sent(value_1)));
        let (land, values) = oneshot::channel();
        let mut values = Some(values);
        let mut batch = Polled::pending(cache.get_many([1, 2, 3], |keys| {
            assert_eq!(keys.iter().copied().collect::<BTreeSet<_>>(), BTreeSet::from([2, 3]));
            sent(values.take().expect("one load"))
        }));
        let mut follower = Polled::pending(cache.get(&2, unwanted()));
        let no_load = |_: Vec<u64>| async { unreachable!("all is being loaded") as [_; 0] };
        let mut other = Polled::pending(cache.get_many([3, 1], no_load));
        assert_eq!(cache.loading(), 3);

        land.send([(2, Ok(20)), (3, Err("down"))]).expect("it waits");
        assert!(batch.poll().is_pending(), "one key is to come");
        assert_eq!(follower.woken_value(), Ok(20));
        assert!(other.poll().is_pending());
        assert_eq!(cache.get_if_present(&2), Some(20), "each key by itself");
        land_1.send(Ok(10)).expect("it waits");
        assert_eq!(single.woken_value(), Ok(10));
        let found = batch.woken_value();
        assert_eq!((found[&1], found[&2], found[&3]), (Ok(10), Ok(20), Err("down")));
        let found = other.woken_value();
        assert_eq!((found.len(), found[&1], found[&3]), (2, Ok(10), Err("down")));
        assert_eq!((cache.loading(), stats.snapshot().loads), (0, 2));
        assert_eq!((stats.snapshot().failed_loads, stats.snapshot().joined), (1, 4));
    });
}

/// Errors are those of their keys; they are kept as those of single loads are.
#[test]
fn errors_belong_to_their_keys() {
    on_paused_clock(|| async {
        let asked = Asked::default();
        let answer = |key| Some(if key == 2 { Err("down") } else { Ok(key) });
        let cache = builder().build();
        let expected = [(1, Ok(1)), (2, Err("down")), (3, Ok(3))];
        assert_eq!(asked.get(&cache, &[1, 2, 3], answer), expected);
        assert_eq!(asked.get(&cache, &[1, 2, 3], answer), expected);
        assert_eq!(asked.take(), [vec![1, 2, 3], vec![2]]);

        let cache = builder().negative_ttl(secs(1)).build();
        assert_eq!(asked.get(&cache, &[1, 2, 3], answer), expected);
        assert_eq!(asked.get(&cache, &[1, 2, 3], answer), expected);
        assert_eq!(asked.take(), [[1, 2, 3]]);
        advance(secs(1)).await;
        assert_eq!(asked.get(&cache, &[1, 2, 3], answer), expected);
        assert_eq!(asked.take(), [[2]]);
    });
}

/// A key that is left out is absent, nothing is kept for it, and whoever follows it loads it himself.
#[test]
fn keys_that_are_left_out_are_absent() {
    limited(|| {
        let ((cache, stats), asked) = (counted(builder().negative_ttl(secs(60))), Asked::default());
        let found = asked.get(&cache, &[1, 2], |key| (key == 1).then_some(Ok(key)));
        assert_eq!(found, [(1, Ok(1))]);
        assert_eq!((cache.loading(), cache.moka().iter().count()), (0, 1));
        assert_eq!((stats.snapshot().loads, stats.snapshot().failed_loads), (1, 0));
        assert_eq!(asked.get(&cache, &[1, 2], |key| Some(Ok(key))), [(1, Ok(1)), (2, Ok(2))]);
        assert_eq!(asked.take(), [vec![1, 2], vec![2]]);

        let (land, values) = oneshot::channel::<[(u64, Answer); 0]>();
        let mut values = Some(values);
        let mut batch =
            Polled::pending(cache.get_many([5], |_| sent(values.take().expect("one load"))));
        let mut follower = Polled::pending(cache.get(&5, ready(Ok(50))));
        land.send([]).expect("it waits");
        assert!(batch.woken_value().is_empty());
        assert_eq!(follower.woken_value(), Ok(50));
        assert_eq!(cache.get_if_present(&5), Some(50));
    });
}

/// An old value that may be used takes the place of what is left out, and of what fails; one that has expired only of
/// what fails.
#[test]
fn an_old_value_takes_the_place_of_what_is_left_out() {
    on_paused_clock(|| async {
        let lives = builder().soft_ttl(secs(10)).time_to_live(secs(20)).stale_if_error(secs(10));
        let ((cache, stats), asked) = (counted(lives), Asked::default());
        (1..=3).for_each(|key| cache.insert(&key, key));
        advance(secs(10)).await;
        let answer = |key| match key {
            1 => None,
            2 => Some(Err("down")),
            _ => Some(Ok(30)),
        };
        let found = asked.get(&cache, &[1, 2, 3, 1], answer);
        assert_eq!(found, [(1, Ok(1)), (2, Ok(2)), (3, Ok(30))]);
        assert_eq!(asked.take(), [[1, 2, 3]], "what is due is refreshed by one batch");
        assert_eq!(looks(&stats), [0, 0, 3]);
        let counted = stats.snapshot();
        assert_eq!((counted.refreshes, counted.loads, counted.failed_loads), (3, 1, 1));
        advance(secs(10)).await;
        assert_eq!(asked.get(&cache, &[1, 2], answer), [(2, Ok(2))]);
    });
}

/// While a batch refreshes, others get the old values at once; it refreshes no key that is being refreshed.
#[test]
fn one_batch_refreshes_at_a_time() {
    on_paused_clock(|| async {
        let ((cache, stats), asked) = (counted(builder().soft_ttl(secs(10))), Asked::default());
        (1..=3).for_each(|key| cache.insert(&key, key));
        advance(secs(10)).await;
        let single = Polled::pending(cache.get(&3, pending()));
        let (land, values) = oneshot::channel();
        let mut values = Some(values);
        let mut batch = Polled::pending(cache.get_many([1, 2, 3], |keys| {
            asked.note(&keys);
            sent(values.take().expect("one load"))
        }));
        assert_eq!(asked.take(), [[1, 2]]);
        assert_eq!(asked.get(&cache, &[1, 2], |_| None), [(1, Ok(1)), (2, Ok(2))]);
        assert_eq!(asked.take().len(), 0);
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(1));
        land.send([(1, Ok(10)), (2, Ok(20))]).expect("it waits");
        let found = batch.woken_value();
        assert_eq!((found[&1], found[&2], found[&3]), (Ok(10), Ok(20), Ok(3)));
        drop(single);
        assert_eq!(asked.get(&cache, &[1, 2, 3], |_| None), [(1, Ok(10)), (2, Ok(20)), (3, Ok(3))]);
        assert_eq!(stats.snapshot().refreshes, 4);
    });
}

/// What a load returns for keys that nobody asked for is dropped, and of a key that it returns twice one is taken.
#[test]
fn keys_that_nobody_asked_for_are_dropped() {
    limited(|| {
        let (cache, stats) = counted(builder());
        cache.insert(&3, 3);
        let load = |_| ready([(1, Ok(1)), (2, Ok(2)), (3, Ok(30)), (1, Ok(10))]);
        let found = at_once(cache.get_many([1, 3], load));
        assert_eq!((found.len(), found[&3]), (2, Ok(3)));
        assert_eq!(found[&1], Ok(1));
        assert_eq!([1, 2, 3].map(|key| cache.get_if_present(&key)), [Some(1), None, Some(3)]);
        assert_eq!((stats.snapshot().loads, cache.loading()), (1, 0));
    });
}

/// A panic of the load, when it is called or when it is polled, leaves nothing: no key is stuck, nothing is kept.
#[test]
fn a_panic_of_the_load_leaves_nothing() {
    limited(|| {
        let cache = builder().build();
        cache.insert(&3, 3);
        let call = |keys: Vec<u64>| {
            assert!(keys.is_empty(), "at the call");
            ready([(1, Ok(1))])
        };
        let text = panic_text(|| at_once(cache.get_many([1, 2, 3], call)));
        assert!(text.contains("at the call"), "{text}");
        let poll = |_| async { panic!("at the poll") as [(u64, Answer); 0] };
        let text = panic_text(|| at_once(cache.get_many([1, 2, 3], poll)));
        assert_eq!(text, "at the poll");

        // When its answer is run through: what came before is kept.
        let iterated = |keys: Vec<u64>| {
            ready(keys.into_iter().enumerate().map(|(i, key)| {
                assert!(i == 0, "at the second");
                (key, Ok(key))
            }))
        };
        let text = panic_text(|| at_once(cache.get_many([1, 2, 3], iterated)));
        assert!(text.contains("at the second"), "{text}");
        let kept = [1, 2].map(|key| cache.get_if_present(&key));
        assert_eq!(kept.iter().flatten().count(), 1);
        assert_eq!(cache.loading(), 0);
        cache.invalidate_all();
        assert_eq!(get(&cache, Ok(7)), Ok(7));
    });
}

/// A batch that is dropped leaves its keys to those who follow.
#[test]
fn a_batch_that_is_dropped_leaves_its_keys_to_its_followers() {
    limited(|| {
        let cache = builder().build();
        let batch = Polled::pending(cache.get_many([1, 2], |_| pending::<[(u64, Answer); 0]>()));
        let mut follower = Polled::pending(cache.get(&1, ready(Ok(10))));
        drop(batch);
        assert_eq!(cache.loading(), 1);
        assert_eq!(follower.woken_value(), Ok(10));
        assert_eq!((cache.loading(), cache.get_if_present(&1)), (0, Some(10)));
    });
}

/// A batch takes over what others abandon, by another call of its load.
#[test]
fn a_batch_takes_over() {
    limited(|| {
        let (cache, asked) = (builder().build(), Asked::default());
        let single = Polled::pending(cache.get(&1, pending()));
        let mut batch = Polled::pending(cache.get_many([1, 2], |keys| {
            asked.note(&keys);
            ready(keys.into_iter().map(|key| (key, Ok(key))))
        }));
        assert_eq!(cache.get_if_present(&2), Some(2));
        drop(single);
        let found = batch.woken_value();
        assert_eq!((found[&1], found[&2]), (Ok(1), Ok(2)));
        assert_eq!(asked.take(), [[2], [1]]);
        assert_eq!(cache.get_if_present(&1), Some(1));
    });
}

/// A batch in the load of one of its own keys would wait for itself.
#[test]
fn a_batch_that_would_wait_for_itself_panics() {
    limited(|| {
        let cache = builder().build();
        let nested = async {
            let many = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(key))));
            cache.get_many([1, 2], many).await[&1]
        };
        let text = panic_text(|| at_once(cache.get(&1, nested)));
        assert_eq!(text, shardflight::CallError::Reentrant.to_string());
        assert_eq!((cache.loading(), get(&cache, Ok(7))), (0, Ok(7)));
    });
}

/// `V` may be an `Option`, to remember what is not there.
#[test]
fn absent_rows_may_be_values() {
    limited(|| {
        let cache: ReadThrough<u64, Option<u64>, ()> = ReadThrough::builder().build();
        let load = |keys: Vec<u64>| ready(keys.into_iter().map(|key| (key, Ok(None))));
        assert_eq!(at_once(cache.get_many([1], load))[&1], Ok(None));
        assert_eq!(cache.get_if_present(&1), Some(None));
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(None));
    });
}
