//! What the types promise at compile time, and that none of it is asked of the user's.

#![cfg(not(loom))]

mod common;

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt::Debug,
    rc::Rc,
    task::Poll,
};

use common::{Polled, limited};
use shardflight::{
    Answered, Call, CallError, Entry, FlightId, Group, GroupBuilder, Handle, InFlight, Lead,
    Observer, OnCancel, Outcome, Panicked, Role, Stats, StatsSnapshot,
};
use static_assertions::{assert_impl_all, assert_not_impl_any};

type Hasher = ahash::RandomState;
type Local = Rc<u8>;
/// `Send`, but not `Sync`.
type Single = Cell<u8>;

// Scenario 42: the handles go wherever their parts may.
assert_impl_all!(Group<String, Vec<u8>>: Send, Sync, Unpin, Clone, Default, Debug);
assert_impl_all!(Group<String, Vec<u8>, std::hash::RandomState>: Send, Sync, Unpin, Clone, Default);
assert_impl_all!(Group<String, Local>: Unpin, Clone, Default, Debug);
assert_not_impl_any!(Group<String, Local>: Send, Sync);
assert_not_impl_any!(Group<Local, String>: Send, Sync);
// The value is shared by reference until the last follower has cloned it.
assert_not_impl_any!(Group<String, Single>: Send, Sync);

assert_impl_all!(GroupBuilder<String, Vec<u8>>: Send, Sync, Unpin, Debug);
assert_impl_all!(GroupBuilder<Local, Local>: Send, Sync, Unpin, Debug);

assert_impl_all!(Call<'static, String, Vec<u8>, Hasher, str>: Send, Sync, Unpin, Debug);
assert_impl_all!(Call<'static, u64, Local, Hasher, u64>: Unpin, Debug);
assert_not_impl_any!(Call<'static, u64, Local, Hasher, u64>: Send, Sync);

assert_impl_all!(Handle<Vec<u8>>: Send, Sync, Unpin, Debug, Clone, Future<Output = Result<Vec<u8>, CallError>>);
assert_impl_all!(Handle<Local>: Unpin, Debug, Clone);
assert_not_impl_any!(Handle<Local>: Send, Sync);
assert_not_impl_any!(Handle<Single>: Send, Sync);
assert_not_impl_any!(Handle<Vec<u8>>: Copy);

assert_impl_all!(Lead<String, Vec<u8>>: Send, Unpin, Debug);
assert_impl_all!(Lead<String, Vec<u8>, std::hash::RandomState>: Send, Unpin, Debug);
assert_impl_all!(Lead<u64, Local>: Unpin, Debug);
assert_not_impl_any!(Lead<u64, Local>: Send, Sync);
assert_not_impl_any!(Lead<Local, u64>: Send, Sync);
assert_not_impl_any!(Lead<u64, Single>: Send, Sync);
#[cfg(feature = "tower")]
mod http_layer {
    use axum::{Router, body::Body};
    use http::Request;
    use shardflight::tower::{
        Alone, Coalesce, CoalesceLayer, Coalesced, HeaderRule, Key, KnownBodies, Policy, Refusal,
        Replayed, RequestBody, ResponseBody, ResponseFuture, ResponseHeaderRule,
    };
    use std::convert::Infallible;
    use tower::Service;

    use super::*;

    assert_impl_all!(CoalesceLayer: Send, Sync, Unpin, Clone, Default, Debug);
    assert_impl_all!(Policy: Send, Sync, Unpin, Clone, Default, Debug);
    assert_impl_all!(Coalesce<Router>: Send, Sync, Unpin, Clone, Debug, Service<Request<Body>, Error = Infallible>);
    assert_impl_all!(ResponseFuture<Router, Body>: Send, Debug, Future);
    assert_impl_all!(ResponseBody<Body>: Send, Unpin, Debug, http_body::Body<Data = bytes::Bytes>);
    assert_impl_all!(RequestBody<Body>: Send, Unpin, Debug, http_body::Body<Data = bytes::Bytes>);
    assert_impl_all!(CoalesceLayer<Replayed<Body>>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(Coalesce<Router, Replayed<Body>>: Send, Sync, Unpin, Clone, Debug, Service<Request<Body>, Error = Infallible>);
    assert_impl_all!(KnownBodies: Send, Sync, Unpin, Copy, Debug, Default, Eq);
    assert_impl_all!(Replayed<Body>: Send, Sync, Unpin, Copy, Debug);
    assert_impl_all!(Key: Send, Sync, Unpin, Clone, Debug, Eq, std::hash::Hash);
    assert_impl_all!(Coalesced: Send, Sync, Unpin, Clone, Debug, Eq);
    assert_impl_all!(Alone: Send, Sync, Unpin, Clone, Debug, Eq, std::hash::Hash);
    assert_impl_all!(Refusal: Send, Sync, Unpin, Clone, Debug, Eq, Error);
    assert_impl_all!(HeaderRule: Send, Sync, Unpin, Copy, Debug, Eq);
    assert_impl_all!(ResponseHeaderRule: Send, Sync, Unpin, Copy, Debug, Eq);
}

#[cfg(feature = "moka")]
mod caches {
    use shardflight::cache::{Configured, EarlyRefresh, Kept, ReadThrough, ReadThroughBuilder};

    use super::*;

    assert_impl_all!(ReadThrough<String, Vec<u8>, String>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(ReadThrough<u64, u8, (), std::hash::RandomState>: Send, Sync, Unpin, Clone, Debug);
    assert_not_impl_any!(ReadThrough<String, Local, String>: Send, Sync);
    assert_impl_all!(ReadThroughBuilder<String, Vec<u8>, String>: Send, Unpin, Debug);
    type Over = ReadThroughBuilder<u64, u8, (), Hasher, Configured<u64, u8, ()>>;
    assert_impl_all!(Over: Send, Unpin, Debug);
    assert_impl_all!(Kept<String, Vec<u8>>: Send, Sync, Unpin, Clone, Debug);
    assert_impl_all!(EarlyRefresh: Send, Sync, Unpin, Copy, Debug, PartialEq);
    assert_not_impl_any!(Kept<Local, u8>: Send, Sync);

    /// Futures are `Send` when their loads are, for owned and borrowed kinds of keys, and in generic code.
    #[test]
    fn s42_futures_of_a_cache_are_send_when_their_loads_are() {
        fn in_generic_code<'a, K, V, E, F>(
            cache: &'a ReadThrough<K, V, E>,
            key: &'a K,
            load: F,
        ) -> impl Future<Output = Result<V, E>> + Send
        where
            K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
            V: Clone + Send + Sync + 'static,
            E: Clone + Send + Sync + 'static,
            F: Future<Output = Result<V, E>> + Send,
        {
            cache.get(key, load)
        }

        limited(|| {
            let cache: ReadThrough<String, u8, String> = ReadThrough::builder().build();
            let (text, key) = ("key", "key".to_owned());
            assert_send(&cache.get(text, async { Ok(1) }));
            assert_send(&cache.get(&key, async { Ok(1) }));
            assert_send(&cache.get_many([key.clone()], |_| async { [] }));
            #[cfg(feature = "tokio")]
            assert_send(&cache.get_spawning(text, async { Ok(1) }));
            let cell = Cell::new(1);
            let sends = async move {
                std::future::ready(()).await;
                Ok(cell.get())
            };
            assert_send(&cache.get(text, sends));
            assert_send(&in_generic_code(&cache, &key, async { Ok(1) }));
            let blocking = || cache.get_blocking(text, || Ok(1));
            assert_send(&blocking);
            let nested = async { cache.get("a", cache.get("b", async { Ok(1) })).await };
            assert_send(&nested);
        });
    }

    /// And loads need not be: they may stay on one thread, and borrow.
    #[test]
    fn s42_loads_of_a_cache_need_not_be_send() {
        limited(|| {
            let cache: ReadThrough<u64, u32, String> = ReadThrough::builder().build();
            let log = Rc::new(RefCell::new(0));
            let load = || {
                let log = Rc::clone(&log);
                async move {
                    futures_lite::future::yield_now().await;
                    *log.borrow_mut() += 1;
                    Ok(*log.borrow())
                }
            };
            let mut leader = Polled::pending(cache.get(&1, load()));
            let mut follower = Polled::pending(cache.get(&1, load()));
            assert_eq!((leader.woken_value(), follower.woken_value()), (Ok(1), Ok(1)));
            let mut calls = 0;
            let blocking = cache.get_blocking(&2, || {
                calls += 1;
                Ok(calls)
            });
            assert_eq!((blocking, calls), (Ok(1), 1));
            let load = |keys: Vec<u64>| {
                let log = Rc::clone(&log);
                async move { keys.into_iter().map(move |key| (key, Ok(*log.borrow()))) }
            };
            let found = futures_lite::future::block_on(cache.get_many([1, 3], load));
            assert_eq!((&found[&1], &found[&3]), (&Ok(1), &Ok(1)));
        });
    }
}

// One lead for one flight.
assert_not_impl_any!(Lead<u64, u64>: Clone, Copy);

assert_impl_all!(Entry<String, Vec<u8>>: Send, Unpin, Debug);
assert_impl_all!(Entry<u64, Local>: Unpin, Debug);
assert_not_impl_any!(Entry<u64, Local>: Send, Sync);

assert_impl_all!(Outcome<Vec<u8>>: Send, Sync, Unpin, Debug, Clone, Eq);
assert_impl_all!(Outcome<u8>: Copy, std::hash::Hash);
assert_not_impl_any!(Outcome<Local>: Send, Sync);
assert_impl_all!(Role: Send, Sync, Unpin, Debug, Copy, Eq, std::hash::Hash);
assert_impl_all!(OnCancel: Send, Sync, Unpin, Debug, Copy, Eq, Default);
assert_impl_all!(CallError: Send, Sync, Unpin, Debug, Clone, Eq, Error);
assert_impl_all!(Panicked: Send, Sync, Unpin, Debug, Clone, Eq, Error);

assert_impl_all!(FlightId: Send, Sync, Unpin, Debug, std::fmt::Display, Copy, Eq, std::hash::Hash);
assert_impl_all!(InFlight<String>: Send, Sync, Unpin, Debug, Clone, Eq);
assert_not_impl_any!(InFlight<Local>: Send, Sync);
assert_impl_all!(Stats: Send, Sync, Unpin, Debug, Default, Observer);
assert_impl_all!(Answered<'static>: Send, Sync, Unpin, Debug, Copy, Eq);
assert_impl_all!(StatsSnapshot: Send, Sync, Unpin, Debug, Copy, Eq, Default);
assert_impl_all!(std::sync::Arc<dyn Observer>: Send, Sync, Observer);
assert_impl_all!((Stats, std::sync::Arc<Stats>): Observer);
#[cfg(feature = "metrics")]
assert_impl_all!(shardflight::MetricsObserver: Send, Sync, Unpin, Debug, Observer);
#[cfg(feature = "tracing")]
assert_impl_all!(shardflight::TracingObserver: Send, Sync, Unpin, Debug, Observer);

fn assert_send<T: Send>(_: &T) {}

/// Scenario 42: with parts that are `Send` the futures are, for borrowed and for owned kinds of key,
/// and with work that is `Send` and not `Sync`.
#[test]
fn s42_futures_are_send_when_their_parts_are() {
    fn in_generic_code<'a, K, V, F>(
        group: &'a Group<K, V>,
        key: &'a K,
        work: F,
    ) -> impl Future<Output = V> + Send
    where
        K: std::hash::Hash + Eq + Clone + Send + Sync,
        V: Clone + Send + Sync,
        F: Future<Output = V> + Send,
    {
        group.run(key, work)
    }

    limited(|| {
        let group: Group<String, Vec<u8>> = Group::new();
        assert_send(&group.run("key", async { Vec::new() }));
        assert_send(&group.call("key").run(async { Vec::new() }));
        assert_send(&group.call("key").relay(async { Vec::new() }));
        assert_send(&group.run_many(["key".to_owned()], |_| async { [] }));
        let (task, handle) = group.call("key").task(async { Vec::new() }).expect("no limit");
        assert_send(&task);
        drop((task, handle));
        let cell = Cell::new(1);
        let sends = async move {
            std::future::ready(()).await;
            vec![cell.get()]
        };
        assert_send(&group.run("key", sends));
        let key = "key".to_owned();
        assert_send(&in_generic_code(&group, &key, async { Vec::new() }));
        let nested = async { group.run("a", group.run("b", async { Vec::new() })).await };
        assert_send(&nested);
    });
}

/// Scenario 42: and they are usable when they are not: values, keys and works that stay on one
/// thread.
#[test]
fn s42_values_keys_and_works_need_not_be_send() {
    limited(|| {
        let group: Group<Local, Rc<RefCell<u32>>> = Group::new();
        let key = Rc::new(1);
        let log = Rc::new(RefCell::new(0));
        let work = || {
            let log = Rc::clone(&log);
            async move {
                futures_lite::future::yield_now().await;
                *log.borrow_mut() += 1;
                log
            }
        };
        let mut leader = Polled::pending(group.run(&key, work()));
        let mut follower = Polled::pending(group.call(&key).run(work()));
        assert!(Rc::ptr_eq(&leader.woken_value(), &log));
        assert!(Rc::ptr_eq(&follower.woken_value().expect("a value").value, &log));
        let blocking = group.run_blocking(&key, || Rc::clone(&log));
        assert_eq!(*blocking.borrow(), 1);
        let load = |keys: Vec<Local>| {
            let log = Rc::clone(&log);
            async move { keys.into_iter().map(move |key| (key, Rc::clone(&log))) }
        };
        let found = futures_lite::future::block_on(group.run_many([Rc::clone(&key)], load));
        assert!(Rc::ptr_eq(&found[&key], &log));
        let Entry::Lead(lead) = group.lead_or_join(&key) else { panic!("the key is free") };
        let handle = lead.handle();
        assert_eq!(lead.land(Rc::clone(&log)), 1);
        assert!(Rc::ptr_eq(&handle.wait().expect("a value"), &log));
        assert!(group.is_empty());
    });
}

/// Scenario 42: works may borrow, mutably too, and nothing has to be `UnwindSafe`.
#[test]
fn s42_works_may_borrow_and_need_not_be_unwind_safe() {
    limited(|| {
        // A value that is neither `UnwindSafe` nor `Sync`.
        let group: Group<u64, Rc<RefCell<u32>>> = Group::new();
        let mut calls = 0;
        let counter = &mut calls;
        let mut call = Polled::new(group.run(&1, async {
            *counter += 1;
            Rc::new(RefCell::new(*counter))
        }));
        let Poll::Ready(value) = call.poll() else {
            panic!("it was to be ready");
        };
        assert_eq!(*value.borrow(), 1);
        drop(call);
        group.run_blocking(&1, || {
            calls += 1;
            Rc::default()
        });
        assert_eq!(calls, 2);
    });
}

/// Scenario 42: `Debug` of every public type says what it is, without asking for `Debug` of keys and
/// values, and without waiting.
#[test]
fn s42_every_public_type_has_a_debug_that_tells_something() {
    #[derive(PartialEq, Eq, Hash, Clone)]
    struct Silent;

    limited(|| {
        let group: Group<Silent, Silent> = Group::new();
        let leader = Polled::pending(group.run(&Silent, std::future::pending()));
        assert_eq!(format!("{group:?}"), "Group { len: 1 }");
        let handle = group.join(&Silent).expect("in flight");
        let text = format!("{handle:?}");
        assert!(text.starts_with("Handle { flight: "), "{text}");
        assert!(text.ends_with("is_landed: false, .. }"), "{text}");
        drop(leader);
        let entry = group.lead_or_join(&Silent);
        let text = format!("{entry:?}");
        assert!(text.starts_with("Lead(Lead { flight: "), "{text}");
        let text = format!("{:?}", group.lead_or_join(&Silent));
        assert!(text.starts_with("Join(Handle { flight: "), "{text}");
        drop(entry);
        let builder: GroupBuilder<Silent, Silent> = Group::builder().shards(3).capacity(5);
        let text = format!("{builder:?}");
        assert!(text.contains("shards: 4") && text.contains("capacity: 5"), "{text}");

        let group: Group<String, u8> = Group::new();
        let text = format!("{:?}", group.call("the key").on_cancel(OnCancel::Fail));
        assert!(text.contains("the key") && text.contains("Fail"), "{text}");
        let text = format!("{:?}", group.call("key").fresh().max_followers(7));
        assert!(text.contains("fresh: true") && text.contains("max_followers: 7"), "{text}");

        let led = group.call("key").run_blocking(|| 5).expect("a value");
        let text = format!("{led:?}");
        assert!(text.contains('5') && text.contains("followers: 0"), "{text}");

        let mut leader = Polled::pending(group.run("key", async {
            futures_lite::future::yield_now().await;
            panic!("the reason")
        }));
        let mut follower = Polled::pending(group.call("key").run(async { 1 }));
        assert_eq!(common::panic_text(|| leader.poll()), "the reason");
        let error = follower.woken_value().expect_err("it panicked");
        assert!(format!("{error:?}").contains("the reason"));
    });
}

/// The texts of errors begin in lower case and have no full stop, as `Error` asks for.
#[test]
fn errors_are_displayed_in_lower_case_without_a_full_stop() {
    limited(|| {
        let mut texts = std::collections::HashSet::new();
        for error in [
            CallError::Cancelled,
            CallError::TimedOut,
            CallError::TooManyFollowers,
            CallError::Reentrant,
        ] {
            let text = error.to_string();
            assert!(texts.insert(text.clone()), "{error:?} says what another does");
            assert!(text.starts_with(|first: char| first.is_lowercase()), "{text}");
            assert!(!text.ends_with('.'), "{text}");
            assert!(error.source().is_none());
        }
    });
}

/// A wrapper may have its group and its key from different places, as with an `async fn`.
#[test]
fn s42_group_and_key_may_live_for_different_times() {
    fn wrapper<F: Future<Output = u32>>(
        group: &Group<String, u32>,
        key: &str,
        work: F,
    ) -> impl Future<Output = u32> {
        group.run(key, work)
    }

    limited(|| {
        let group = Group::new();
        let key = "key".to_owned();
        assert_eq!(futures_lite::future::block_on(wrapper(&group, &key, async { 7 })), 7);
    });
}
