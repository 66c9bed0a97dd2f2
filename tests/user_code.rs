//! `Hash`, `Eq`, `Clone` and `Drop` of keys, values and works that panic or call the group again,
//! and hashers that map all keys to one value.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    hash::{BuildHasher, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use common::{
    Polled, limited, panic_text,
    traps::{Key, Place, Value, assert_all_visited, disarm, explode_at, trap},
};
use futures_lite::future::{block_on, yield_now};
use shardflight::{CallError, Entry, Group, Role};

type Watched = Group<Key, Value>;

/// Work that yields once.
async fn soon(value: u64) -> Value {
    yield_now().await;
    Value(value)
}

/// Nobody is in flight, and the key works.
fn assert_free(group: &Watched, key: &Key) {
    assert_all_visited();
    assert!(group.is_empty());
    let outcome = group.call(key).run_blocking(|| Value(100)).expect("it is free");
    assert_eq!((outcome.value.0, outcome.role), (100, Role::Led { followers: 0 }));
}

/// Scenario 39, G8: a panic in `Hash` reaches whoever asks, and changes nothing.
#[test]
fn g08_panic_in_hash_leaves_everything_as_it_was() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let everybody_asks = || {
            let asks: [&dyn Fn(); 6] = [
                &|| drop(block_on(group.run(&key, soon(1)))),
                &|| drop(group.run_blocking(&key, || Value(1))),
                &|| drop(group.call(&key).run_blocking(|| Value(1))),
                &|| _ = group.forget(&key),
                &|| _ = group.forget_unshared(&key),
                &|| _ = group.is_in_flight(&key),
            ];
            for ask in asks {
                explode_at(Place::HashKey, 0);
                assert_eq!(panic_text(ask), "in HashKey");
            }
        };
        everybody_asks();
        assert_free(&group, &key);

        let mut leader = Polled::pending(group.run(&key, soon(2)));
        everybody_asks();
        let mut follower = Polled::pending(group.run(&key, soon(3)));
        assert_eq!((leader.woken_value().0, follower.woken_value().0), (2, 2));
        assert_free(&group, &key);
    });
}

/// Scenario 39, G8: a panic in `Eq`, which runs while the table is locked, unlocks it and leaves the
/// flight joinable.
#[test]
fn g08_panic_in_eq_leaves_the_flight_joinable() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let mut leader = Polled::pending(group.call(&key).run(soon(2)));
        let asks: [&dyn Fn(); 5] = [
            &|| drop(block_on(group.run(&key, soon(1)))),
            &|| drop(group.run_blocking(&key, || Value(1))),
            &|| _ = group.forget(&key),
            &|| _ = group.forget_unshared(&key),
            &|| _ = group.is_in_flight(&key),
        ];
        for ask in asks {
            explode_at(Place::EqKey, 0);
            assert_eq!(panic_text(ask), "in EqKey");
            assert_eq!(group.len(), 1);
        }
        let mut follower = Polled::pending(group.run(&key, soon(3)));
        let led = leader.woken_value().expect("a value");
        assert_eq!((led.value.0, led.role), (2, Role::Led { followers: 1 }));
        assert_eq!(follower.woken_value().0, 2);
        assert_free(&group, &key);
    });
}

/// Scenario 39, G8: if the key cannot be copied there is no flight.
#[test]
fn g08_panic_in_clone_of_a_key_begins_no_flight() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        explode_at(Place::CloneKey, 0);
        let mut call = Polled::new(group.run(&key, soon(1)));
        assert_eq!(panic_text(|| call.poll()), "in CloneKey");
        drop(call);
        assert_free(&group, &key);
        explode_at(Place::CloneKey, 0);
        let blocking = || group.run_blocking(&key, || unreachable!("it does not lead"));
        assert_eq!(panic_text(blocking), "in CloneKey");
        assert_free(&group, &key);
    });
}

/// Scenario 39, G8: a key whose `Drop` panics when the flight is over: the leader sees it, followers
/// have their value.
#[test]
fn g08_panic_in_drop_of_a_key_comes_after_the_landing() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let mut leader = Polled::pending(group.run(&key, soon(2)));
        let mut follower = Polled::pending(group.run(&key, soon(3)));
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| leader.poll()), "in DropKey");
        assert_eq!(follower.woken_value().0, 2);
        assert_free(&group, &key);

        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| group.run_blocking(&key, || Value(1))), "in DropKey");
        assert_free(&group, &key);

        // Abandoned by its only caller, and forgotten.
        let abandoned = Polled::pending(group.run(&key, pending()));
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| drop(abandoned)), "in DropKey");
        assert_free(&group, &key);
        let mut forgotten = Polled::pending(group.run(&key, soon(4)));
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| group.forget(&key)), "in DropKey");
        assert_free(&group, &key);
        assert_eq!(forgotten.woken_value().0, 4);
        assert_free(&group, &key);
    });
}

/// Scenario 39, G8: the last follower of an abandoned flight takes its key away, also if that
/// panics.
#[test]
fn g08_panic_in_drop_of_a_key_that_the_last_follower_buries() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let leader = Polled::pending(group.run(&key, pending()));
        let follower = Polled::pending(group.run(&key, pending()));
        drop(leader);
        explode_at(Place::DropKey, 0);
        assert_eq!(panic_text(|| drop(follower)), "in DropKey");
        assert_free(&group, &key);
    });
}

/// Scenario 39, G8: a panic in `Clone` of the value hits the one caller that clones.
#[test]
fn g08_panic_in_clone_of_a_value_hits_one_caller() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        for leader_clones in [true, false] {
            let mut leader = Polled::pending(group.run(&key, soon(2)));
            let mut one = Polled::pending(group.run(&key, soon(3)));
            let mut other = Polled::pending(group.run(&key, soon(3)));
            if leader_clones {
                explode_at(Place::CloneValue, 0);
                assert_eq!(panic_text(|| leader.poll()), "in CloneValue");
            } else {
                assert_eq!(leader.woken_value().0, 2);
                explode_at(Place::CloneValue, 0);
                assert_eq!(panic_text(|| other.poll()), "in CloneValue");
                other = Polled::new(group.run(&key, async { Value(2) }));
                assert!(group.is_empty());
            }
            assert_eq!(one.woken_value().0, 2);
            if leader_clones {
                assert_eq!(other.woken_value().0, 2);
            } else {
                assert_eq!(other.poll(), Poll::Ready(Value(2)), "a call of its own");
            }
            assert_free(&group, &key);
        }
    });
}

/// Scenario 39, G8: whoever lets go of the flight last drops its value, and gets what that panics
/// with; the key is free.
#[test]
fn g08_panic_in_drop_of_a_value_leaves_no_stuck_key() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let mut leader = Polled::pending(group.run(&key, soon(2)));
        let follower = Polled::pending(group.run(&key, soon(3)));
        let value = leader.woken_value();
        explode_at(Place::DropValue, 0);
        assert_eq!(panic_text(|| drop(follower)), "in DropValue");
        assert_eq!(value.0, 2);
        assert_free(&group, &key);
    });
}

/// Has the group called again at `place`, in every way there is, with the key itself and another.
fn call_again_at(place: Place, group: &Watched) {
    let group = group.clone();
    trap(place, 0, move || {
        for key in [Key(1), Key(2)] {
            let in_flight = group.is_in_flight(&key);
            assert!(!group.forget_unshared(&key) || in_flight);
            assert!(!group.forget(&key), "it was forgotten or followed by nobody");
            assert_eq!(group.run_blocking(&key, || Value(50)).0, 50);
            assert_eq!(block_on(group.run(&key, soon(51))).0, 51);
            assert!(format!("{group:?}").contains("len"));
            assert!(group.len() <= 2);
        }
    });
}

/// Scenario 23, G9: `Hash`, and `Drop` and `Clone` of keys and values, may call the group again when
/// a call leads, follows, lands, is dropped, and when a flight is forgotten.
#[test]
fn g09_hash_clone_and_drop_may_call_the_group_again() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));

        call_again_at(Place::HashKey, &group);
        let leader = Polled::pending(group.run(&key, pending()));
        assert!(group.is_in_flight(&key));
        assert_all_visited();
        call_again_at(Place::DropKey, &group);
        drop(leader);
        assert_free(&group, &key);

        call_again_at(Place::DropKey, &group);
        drop(group.run_blocking(&key, || Value(1)));
        assert_free(&group, &key);

        let leader = Polled::pending(group.run(&key, pending()));
        call_again_at(Place::DropKey, &group);
        assert!(group.forget(&key));
        assert_all_visited();
        drop(leader);
        assert_free(&group, &key);

        let leader = Polled::pending(group.run(&key, pending()));
        let follower = Polled::pending(group.run(&key, pending()));
        drop(leader);
        call_again_at(Place::DropKey, &group);
        drop(follower);
        assert_free(&group, &key);

        let mut leader = Polled::pending(group.run(&key, soon(2)));
        let mut follower = Polled::pending(group.run(&key, soon(3)));
        let last = Polled::pending(group.run(&key, soon(3)));
        call_again_at(Place::CloneValue, &group);
        let led = leader.woken_value();
        assert_all_visited();
        call_again_at(Place::CloneValue, &group);
        let joined = follower.woken_value();
        assert_all_visited();
        assert_eq!((led.0, joined.0), (2, 2));
        drop(follower);
        call_again_at(Place::DropValue, &group);
        drop(last);
        assert_free(&group, &key);
    });
}

/// Scenario 23, G9: work may do anything with its own group but wait for its own key.
#[test]
fn g09_work_may_call_its_own_group() {
    limited(|| {
        let (group, key, other) = (Watched::new(), Key(1), Key(2));
        let value = block_on(group.run(&key, async {
            assert_eq!(group.len(), 1);
            assert!(group.is_in_flight(&key) && !group.is_in_flight(&other));
            let value =
                group.run(&other, soon(3)).await.0 + group.run_blocking(&other, || Value(4)).0;
            assert!(group.forget(&key) && group.is_empty());
            Value(value)
        }));
        assert_eq!(value.0, 7);
        assert_free(&group, &key);
    });
}

/// Scenario 23, G9: so may the destructor of cancelled work, and a waiting follower of that work
/// takes over afterwards.
#[test]
fn g09_drop_of_cancelled_work_may_call_the_group() {
    struct Calls<'a>(&'a Watched);
    impl Drop for Calls<'_> {
        fn drop(&mut self) {
            let (own, other) = (Key(1), Key(2));
            assert!(self.0.is_in_flight(&own));
            assert!(!self.0.forget_unshared(&own), "it is followed");
            let recursion = self.0.call(&own).run_blocking(|| Value(0));
            assert_eq!(recursion, Err(CallError::Reentrant));
            assert_eq!(self.0.run_blocking(&other, || Value(5)).0, 5);
        }
    }

    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let leader = Polled::pending(group.run(&key, async {
            let _calls = Calls(&group);
            pending().await
        }));
        let mut follower = Polled::pending(group.run(&key, async { Value(6) }));
        drop(leader);
        assert_eq!(follower.woken_value().0, 6);
        assert_free(&group, &key);
    });
}

/// G9: `Debug` of a group never waits for a lock: here it is asked for while the table is locked.
#[test]
fn g09_debug_of_a_locked_group_does_not_block() {
    limited(|| {
        let (group, key) = (Watched::new(), Key(1));
        let leader = Polled::pending(group.run(&key, pending()));
        assert_eq!(format!("{group:?}"), "Group { len: 1 }");
        let handle = group.clone();
        trap(Place::EqKey, 0, move || assert_eq!(format!("{handle:?}"), "Group { .. }"));
        assert!(group.is_in_flight(&key));
        drop(leader);
        assert_free(&group, &key);
    });
}

/// All keys have the same hash.
#[derive(Debug, Clone, Copy, Default)]
struct Colliding;

#[derive(Debug)]
struct Zero;

impl Hasher for Zero {
    fn write(&mut self, _bytes: &[u8]) {}
    fn finish(&self) -> u64 {
        0
    }
}

impl BuildHasher for Colliding {
    type Hasher = Zero;
    fn build_hasher(&self) -> Zero {
        Zero
    }
}

/// A call to be made in a group in which the key 1 is in flight, or not.
type Scenario = fn(&Watched);

/// Each kind of call, to its end or half way.
const SCENARIOS: [(&str, Scenario); 10 + cfg!(feature = "tokio") as usize] = [
    ("run", |group| drop(Polled::new(group.run(&Key(1), soon(5))).poll())),
    ("relay", |group| drop(Polled::new(group.call(&Key(1)).relay(soon(5))).poll())),
    ("relay that lands", |group| {
        let key = Key(2);
        let mut relay = Polled::pending(group.call(&key).relay(soon(5)));
        let mut follower = Polled::pending(group.run(&key, soon(6)));
        assert!(relay.poll().is_ready() && follower.poll().is_ready());
    }),
    ("fresh", |group| {
        let key = Key(1);
        let mut calls = [(); 2].map(|()| Polled::new(group.call(&key).fresh().run(soon(5))));
        calls.iter_mut().for_each(|call| drop(call.poll()));
        group.forget(&key);
        calls.iter_mut().for_each(|call| drop(call.poll()));
    }),
    ("max_age", |group| {
        let key = Key(1);
        let call = group.call(&key).max_age(std::time::Duration::ZERO);
        assert!(call.run_blocking(|| Value(5)).is_ok());
    }),
    ("lead and join", |group| {
        if let Entry::Lead(lead) = group.lead_or_join(&Key(1)) {
            let handles = [lead.handle(), group.join(&Key(1)).expect("in flight")];
            assert_eq!(lead.land(Value(5)), 2);
            assert!(handles.iter().all(|handle| handle.clone().wait().is_ok()));
        }
        drop(group.lead_or_join(&Key(1)));
    }),
    ("task", |group| {
        let key = Key(1);
        let (task, handle) = group.call(&key).task(soon(5)).expect("no limit");
        let mut task = Polled::new(task);
        while task.poll().is_pending() && task.is_woken() {}
        drop(Polled::new(handle).poll());
    }),
    ("batch", |group| {
        let keys = [1, 2, 3].map(Key);
        let load = |keys: Vec<Key>| async {
            yield_now().await;
            keys.into_iter().map(|key| (key, Value(5))).collect::<Vec<_>>()
        };
        let mut batch = Polled::pending(group.run_many(keys, load));
        let key = Key(2);
        let mut follower = Polled::pending(group.run(&key, soon(6)));
        drop((batch.poll(), follower.poll()));
    }),
    ("batch that leaves keys out", |group| {
        let load = |_| std::future::ready([(Key(4), Value(5)), (Key(2), Value(5))]);
        drop(Polled::new(group.run_many([1, 2, 3, 2].map(Key), load)).poll());
    }),
    ("batch that is dropped", |group| {
        let load = |_: Vec<Key>| pending::<Vec<(Key, Value)>>();
        drop(Polled::pending(group.run_many([1, 2, 3].map(Key), load)));
    }),
    #[cfg(feature = "tokio")]
    ("spawn", |group| {
        // Not polled: the runtime drops it.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let context = runtime.enter();
        let handle = group.spawn(Key(1), async { Value(5) });
        drop(context);
        drop((handle, runtime));
    }),
];

/// Scenario 39, G8: wherever a key or a value panics in any kind of call: no key is stuck, and no place
/// among the followers is lost.
#[test]
fn g08_panic_anywhere_in_any_call_leaves_no_stuck_key() {
    use Place::{CloneKey, CloneValue, DropKey, DropValue, EqKey, HashKey};

    limited(|| {
        let mut exploded = 0;
        for (name, scenario) in SCENARIOS {
            for place in [HashKey, EqKey, CloneKey, DropKey, CloneValue, DropValue] {
                for is_in_flight in [false, true] {
                    // One visit later each time, until there are no more.
                    for visits in 0.. {
                        let group = Watched::new();
                        let key = Key(1);
                        let leader =
                            is_in_flight.then(|| Polled::pending(group.run(&key, pending())));
                        explode_at(place, visits);
                        let _ = catch_unwind(AssertUnwindSafe(|| scenario(&group)));
                        let has_exploded = !disarm();
                        // `forget` and `max_age` take it away.
                        drop(leader);
                        assert!(group.is_empty(), "{name}, {place:?} {visits}, {is_in_flight}");
                        for key in [1, 2, 3].map(Key) {
                            assert_free(&group, &key);
                        }
                        if !has_exploded {
                            break;
                        }
                        exploded += 1;
                    }
                }
            }
        }
        assert!(exploded > 200, "only {exploded} panics");
    });
}

/// Scenario 22, G10: keys that hash alike are still keys of their own: none waits for another's
/// work, gets its value or is removed with it.
#[test]
fn g10_keys_that_hash_alike_are_independent() {
    limited(|| {
        const KEYS: u64 = 200;
        let group: Group<u64, u64, Colliding> = Group::with_hasher(Colliding);
        let keys: Vec<u64> = (0..KEYS).collect();
        let mut slow: Vec<_> = keys
            .iter()
            .filter(|key| *key % 2 == 0)
            .map(|key| Polled::pending(group.run(key, pending())))
            .collect();
        for key in keys.iter().filter(|key| *key % 2 == 1) {
            let mut quick = Polled::new(group.run(key, async { *key }));
            assert_eq!(quick.poll(), Poll::Ready(*key));
            assert_eq!(group.run_blocking(key, || key + 1), key + 1);
            assert!(!group.is_in_flight(key));
        }
        assert_eq!(group.len(), slow.len());

        let mut followers: Vec<_> = keys
            .iter()
            .filter(|key| *key % 2 == 0)
            .map(|key| Polled::pending(group.run(key, async { *key })))
            .collect();
        assert!(group.forget(&0));
        drop(slow.pop());
        assert_eq!(followers.pop().expect("there is one").woken_value(), KEYS - 2);
        assert!(followers.iter().all(|follower| !follower.is_woken()));
        assert_eq!(group.len(), slow.len() - 1);
        drop(slow);
        for (mut follower, key) in followers.into_iter().zip((0..).step_by(2)) {
            assert_eq!(follower.woken_value(), key);
        }
        assert!(group.is_empty());
    });
}

/// Scenario 39, G8: panics in `Eq` and `Clone` of a key, with any number of others of the same hash in
/// flight, begin nothing and leave all of them as they were.
#[test]
fn g08_panic_in_a_key_among_others_that_hash_alike() {
    limited(|| {
        for others in 1..8 {
            let group: Group<Key, Value, Colliding> = Group::with_hasher(Colliding);
            let keys: Vec<Key> = (0..others).map(Key).collect();
            let mut leaders: Vec<_> =
                keys.iter().map(|key| Polled::pending(group.run(key, soon(1)))).collect();
            let newcomer = Key(100);
            for place in [Place::EqKey, Place::CloneKey] {
                explode_at(place, 0);
                let call = || group.run_blocking(&newcomer, || unreachable!("it does not lead"));
                assert_eq!(panic_text(call), format!("in {place:?}"), "{others} others");
                assert_eq!(group.len(), leaders.len());
            }
            let mut followers: Vec<_> =
                keys.iter().map(|key| Polled::pending(group.run(key, soon(2)))).collect();
            assert_eq!(group.run_blocking(&newcomer, || Value(3)).0, 3);
            for (leader, follower) in leaders.iter_mut().zip(&mut followers) {
                assert_eq!((leader.woken_value().0, follower.woken_value().0), (1, 1));
            }
            assert_all_visited();
            assert!(group.is_empty());
        }
    });
}

/// Scenario 39, G8: a hasher that panics is the caller's affair alone.
#[test]
fn g08_panic_in_the_hasher_leaves_nothing() {
    #[derive(Debug)]
    struct Exploding;
    impl BuildHasher for Exploding {
        type Hasher = Zero;
        fn build_hasher(&self) -> Zero {
            panic!("in the hasher")
        }
    }

    limited(|| {
        let group: Group<u64, u32, Exploding> = Group::with_hasher(Exploding);
        assert_eq!(panic_text(|| group.run_blocking(&1, || 1)), "in the hasher");
        assert_eq!(panic_text(|| group.forget(&1)), "in the hasher");
        assert!(group.is_empty());
    });
}
