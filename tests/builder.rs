//! The settings of a group: shards, capacity and hasher.

#![cfg(not(loom))]

mod common;

use std::{
    collections::hash_map::DefaultHasher,
    hash::{BuildHasher, BuildHasherDefault, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use common::{Polled, limited, panic_text};
use shardflight::Group;

/// Keys in flight at once, each looked for, joined and landed.
fn assert_works<S: BuildHasher>(group: &Group<u64, u64, S>) {
    let keys: Vec<u64> = (0..500).collect();
    let mut leaders: Vec<_> = keys
        .iter()
        .map(|key| {
            Polled::pending(group.run(key, async {
                futures_lite::future::yield_now().await;
                *key
            }))
        })
        .collect();
    assert_eq!(group.len(), keys.len());
    let mut followers: Vec<_> = keys
        .iter()
        .map(|key| Polled::pending(group.run(key, async { unreachable!("it follows") })))
        .collect();
    assert_eq!(group.len(), keys.len());
    for (key, (leader, follower)) in keys.iter().zip(leaders.iter_mut().zip(&mut followers)) {
        assert!(group.is_in_flight(key));
        assert_eq!((leader.woken_value(), follower.woken_value()), (*key, *key));
        assert!(!group.is_in_flight(key));
    }
    assert!(group.is_empty());
}

/// G10: any number of shards works; 0 and numbers that are no power of two are rounded up.
#[test]
fn g10_shards_are_rounded_up() {
    limited(|| {
        for (asked, made) in [(0, 2), (1, 2), (2, 2), (3, 4), (64, 64), (65, 128), (1_000, 1_024)] {
            let builder = Group::<u64, u64>::builder().shards(asked);
            assert!(format!("{builder:?}").contains(&format!("shards: {made},")), "{builder:?}");
            assert_works(&builder.build());
        }
    });
}

/// More shards than the limit are refused with a text that names both numbers; the limit is not.
#[test]
fn too_many_shards_panic_with_clear_text() {
    limited(|| {
        let limit = 1 << 20;
        drop(Group::<u64, u64>::builder().shards(limit));
        for too_many in [limit + 1, usize::MAX] {
            let text = panic_text(|| Group::<u64, u64>::builder().shards(too_many));
            assert!(text.contains("shards must be at most 1048576"), "{text}");
            assert!(text.contains(&too_many.to_string()), "{text}");
        }
    });
}

/// G10: any capacity works, with any number of shards, and is no limit.
#[test]
fn g10_capacity_is_no_limit() {
    limited(|| {
        for capacity in [0, 1, 100, 10_000] {
            for shards in [0, 64, 4_096] {
                let group = Group::builder().capacity(capacity).shards(shards).build();
                assert!(group.is_empty());
                assert_works(&group);
            }
        }
    });
}

/// A hasher of the user's, in every way to pass it.
#[test]
fn custom_hashers_work() {
    limited(|| {
        assert_works(&Group::with_hasher(RandomState::new()));
        assert_works(&Group::<u64, u64, BuildHasherDefault<DefaultHasher>>::default());
        assert_works(&Group::builder().hasher(RandomState::new()).build());
        assert_works(&Group::builder().shards(8).hasher(ahash::RandomState::new()).build());
        assert_works(&Group::<u64, u64>::default());
        assert_works(&Group::<u64, u64>::new());
    });
}

/// G9: the user's hasher is asked once for a call, whatever becomes of the flight.
#[test]
fn g09_key_is_hashed_once_for_a_call() {
    #[derive(Debug, Clone)]
    struct Counting(Arc<AtomicUsize>);
    impl BuildHasher for Counting {
        type Hasher = DefaultHasher;
        fn build_hasher(&self) -> DefaultHasher {
            self.0.fetch_add(1, SeqCst);
            DefaultHasher::new()
        }
    }

    limited(|| {
        let hashed = Arc::new(AtomicUsize::new(0));
        let group: Group<u64, u64, _> = Group::with_hasher(Counting(Arc::clone(&hashed)));
        group.run_blocking(&1, || 1);
        assert_eq!(hashed.load(SeqCst), 1, "from start to landing");

        // Growing and shrinking shards do not ask again either.
        let keys: Vec<u64> = (0..10_000).collect();
        let leaders: Vec<_> = keys
            .iter()
            .map(|key| Polled::pending(group.run(key, std::future::pending())))
            .collect();
        drop(leaders);
        assert_eq!(hashed.load(SeqCst), 10_001);

        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        drop(leader);
        assert_eq!(follower.woken_value(), 2);
        assert_eq!(hashed.load(SeqCst), 10_003);
        assert!(group.is_empty());
    });
}
