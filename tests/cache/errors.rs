//! Errors: shared, kept for the `negative_ttl` and no longer, and answered by an old value while that may be
//! used.

use std::{future::ready, sync::Arc};

use shardflight::cache::ReadThrough;
use tokio::{sync::oneshot, task::spawn_blocking, time::advance};

use crate::{
    common::{Polled, limited, on_paused_clock, on_tokio},
    kit::{at_once, builder, counted, get, looks, millis, secs, sent, until, unwanted},
};

/// All who share a load get its one error; the next call loads again.
#[test]
fn an_error_goes_to_all_who_share_its_load_and_is_not_kept() {
    on_tokio(|| async {
        let stats = Arc::new(shardflight::Stats::default());
        let cache: ReadThrough<u64, u64, Arc<str>> =
            ReadThrough::builder().observer(Arc::clone(&stats)).build();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let mut follower = Polled::pending(cache.get(&1, unwanted()));
        let blocked = cache.clone();
        let blocked = spawn_blocking(move || blocked.get_blocking(&1, || unreachable!("loading")));
        until(|| stats.snapshot().joined == 2);
        let error: Arc<str> = "down".into();
        land.send(Err(Arc::clone(&error))).expect("it waits");
        for answer in
            [leader.woken_value(), follower.woken_value(), blocked.await.expect("no panic")]
        {
            assert!(Arc::ptr_eq(&answer.expect_err("it failed"), &error));
        }
        assert_eq!(cache.get_if_present(&1), None);
        assert_eq!(cache.moka().iter().count(), 0, "nothing is kept");
        assert_eq!(at_once(cache.get(&1, ready(Ok(7)))), Ok(7));
        let counted = stats.snapshot();
        assert_eq!((counted.loads, counted.failed_loads), (1, 1));
    });
}

/// An error is kept for its time, to the nanosecond, for callers of every kind.
#[test]
fn an_error_is_kept_for_the_negative_ttl_exactly() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().negative_ttl(secs(1)));
        assert_eq!(get(&cache, Err("down")), Err("down"));
        advance(secs(1) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Err("down"));
        assert_eq!(at_once(cache.get_spawning(&1, unwanted())), Err("down"));
        assert_eq!(cache.get_blocking(&1, || unreachable!("it is kept")), Err("down"));
        let many = cache.get_many([1], |_| async { unreachable!("it is kept") as [_; 0] });
        assert_eq!(at_once(many)[&1], Err("down"));
        assert_eq!(looks(&stats), [4, 0, 1]);
        assert_eq!(cache.get_if_present(&1), None, "an error is no value");
        assert_eq!(looks(&stats), [4, 0, 2]);
        advance(millis(1)).await;
        assert_eq!(get(&cache, Ok(7)), Ok(7));
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        advance(secs(100)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7), "values have no such time");
    });
}

/// A value of another caller replaces an error that is kept, and moka's iterator shows what is what.
#[test]
fn a_kept_error_is_seen_as_one_and_gives_way_to_a_value() {
    on_paused_clock(|| async {
        let cache = builder().negative_ttl(secs(1)).build();
        assert_eq!(get(&cache, Err("down")), Err("down"));
        let kept: Vec<_> = cache.moka().iter().map(|(_, kept)| kept).collect();
        assert_eq!((kept.len(), kept[0].value(), kept[0].error()), (1, None, Some(&"down")));
        cache.insert(&1, 7);
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        let kept: Vec<_> = cache.moka().iter().map(|(_, kept)| kept).collect();
        assert_eq!((kept.len(), kept[0].value(), kept[0].error()), (1, Some(&7), None));

        assert_eq!(at_once(cache.get(&2, ready(Err("down")))), Err("down"));
        cache.invalidate(&2);
        assert_eq!(at_once(cache.get(&2, ready(Ok(2)))), Ok(2), "it can be invalidated");
    });
}

/// M3 finds errors that are kept, too.
#[test]
fn who_looked_before_an_error_was_kept_does_not_load_again() {
    use crate::kit::{Key, Place, Value, assert_all_visited, trap, watched_builder};

    limited(|| {
        let cache = watched_builder().negative_ttl(secs(60)).build();
        let quicker = cache.clone();
        trap(Place::Missed, 0, move || {
            assert_eq!(quicker.get_blocking(&Key(1), || Err("down")), Err("down"));
        });
        assert_eq!(at_once(cache.get(&Key(1), unwanted::<Result<Value, _>>())), Err("down"));
        assert_all_visited();
    });
}

/// After its time a value is the answer only to a load that fails, and only for the time that was set.
#[test]
fn an_expired_value_answers_a_failing_load_for_its_time_and_no_longer() {
    on_paused_clock(|| async {
        let (cache, stats) = counted(builder().time_to_live(secs(10)).stale_if_error(secs(5)));
        assert_eq!(get(&cache, Ok(7)), Ok(7));
        advance(secs(10) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        advance(millis(1)).await;
        assert_eq!(cache.get_if_present(&1), None, "it has expired");
        // Each caller tries.
        assert_eq!(get(&cache, Err("down")), Ok(7));
        assert_eq!(cache.get_blocking(&1, || Err("down")), Ok(7));
        assert_eq!(at_once(cache.get_spawning(&1, ready(Err("down")))), Ok(7));
        let many = cache.get_many([1, 2], |keys| {
            ready(keys.into_iter().map(|key| (key, Err("down"))).collect::<Vec<_>>())
        });
        let many = at_once(many);
        assert_eq!((many[&1], many[&2]), (Ok(7), Err("down")));
        assert_eq!(stats.snapshot().failed_loads, 5);
        assert_eq!(stats.snapshot().refreshes, 0, "it is not a value to refresh");
        advance(secs(5) - millis(1)).await;
        assert_eq!(get(&cache, Err("down")), Ok(7));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Err("down")), Err("down"));
        assert_eq!(get(&cache, Ok(8)), Ok(8));
        advance(secs(12)).await;
        assert_eq!(get(&cache, Ok(9)), Ok(9), "a load that succeeds is the answer");
    });
}

/// All who wait for a load that fails get the old value.
#[test]
fn followers_of_a_failing_load_get_the_old_value_too() {
    on_paused_clock(|| async {
        let cache = builder().time_to_live(secs(10)).stale_if_error(secs(5)).build();
        cache.insert(&1, 7);
        advance(secs(11)).await;
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(cache.get(&1, sent(value)));
        let mut follower = Polled::pending(cache.get(&1, unwanted()));
        land.send(Err("down")).expect("it waits");
        assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(7), Ok(7)));
    });
}

/// With a `negative_ttl` the old value is the answer for that time after a failure, without a load, and never
/// longer than it may be.
#[test]
fn after_a_failure_the_old_value_answers_for_the_negative_ttl() {
    on_paused_clock(|| async {
        let lives = builder().time_to_live(secs(10)).stale_if_error(secs(5)).negative_ttl(secs(2));
        let (cache, stats) = counted(lives);
        cache.insert(&1, 7);
        advance(secs(10)).await;
        assert_eq!(get(&cache, Err("down")), Ok(7));
        advance(secs(2) - millis(1)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        assert_eq!(cache.get_if_present(&1), Some(7));
        assert_eq!(looks(&stats), [0, 2, 1]);
        advance(millis(1)).await;
        assert_eq!(cache.get_if_present(&1), None, "somebody is to try");
        assert_eq!(get(&cache, Err("down")), Ok(7));
        advance(millis(2_500)).await;
        assert_eq!(get(&cache, Err("down")), Ok(7));
        // It would be paused until 16.5.
        advance(millis(499)).await;
        assert_eq!(at_once(cache.get(&1, unwanted())), Ok(7));
        advance(millis(1)).await;
        assert_eq!(get(&cache, Err("gone")), Err("gone"), "the hard end");
        assert_eq!(at_once(cache.get(&1, unwanted())), Err("gone"));
        advance(secs(2)).await;
        assert_eq!(get(&cache, Ok(8)), Ok(8));
    });
}

/// A load that panics has no answer, whatever value there is.
#[test]
fn a_panic_is_not_answered_by_an_old_value() {
    on_paused_clock(|| async {
        let cache = builder().time_to_live(secs(10)).stale_if_error(secs(5)).build();
        cache.insert(&1, 7);
        advance(secs(11)).await;
        let text = crate::common::panic_text(|| cache.get_blocking(&1, || panic!("broken")));
        assert_eq!(text, "broken");
        assert_eq!(get(&cache, Err("down")), Ok(7), "and it is still there");
    });
}
