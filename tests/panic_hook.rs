//! One panic runs the panic hook once, however many callers follow the work that panicked.

#![cfg(not(loom))]

mod common;

use std::{
    collections::HashMap,
    panic::{self, AssertUnwindSafe, catch_unwind},
    sync::{Mutex, Once, PoisonError},
    task::Poll,
    thread,
};

use common::{Doorbell, Polled, RingingKey, limited, panic_text};
use futures_lite::future::yield_now;
use shardflight::{CallError, Group};

/// How often the hook has reported a panic with this text: each test has one of its own.
fn reports(text: &str) -> usize {
    static REPORTS: Mutex<Option<HashMap<String, usize>>> = Mutex::new(None);
    static HOOK: Once = Once::new();
    let reports = || REPORTS.lock().unwrap_or_else(PoisonError::into_inner);
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = common::text(info.payload()).to_owned();
            *reports().get_or_insert_default().entry(text).or_default() += 1;
            default(info);
        }));
    });
    reports().get_or_insert_default().get(text).copied().unwrap_or(0)
}

/// Work that waits once and then panics, with the hook.
async fn panics<T>(text: &str) -> T {
    yield_now().await;
    panic!("{text}")
}

/// G8: of a thousand tasks each unwinds with the text of the leader's panic, and the hook is run once.
#[test]
fn g08_panic_of_a_leader_with_a_thousand_followers_runs_the_hook_once() {
    const TEXT: &str = "one of a thousand";
    limited(|| {
        assert_eq!(reports(TEXT), 0);
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, panics(TEXT)));
        let mut followers: Vec<_> =
            (0..1_000).map(|_| Polled::pending(group.run(&1, async { 1 }))).collect();
        assert_eq!(panic_text(|| leader.poll()), TEXT);
        for follower in &mut followers {
            let payload =
                catch_unwind(AssertUnwindSafe(|| follower.poll())).expect_err("it panics");
            // What a formatted panic carries.
            assert_eq!(payload.downcast_ref::<String>().map(String::as_str), Some(TEXT));
        }
        assert_eq!(reports(TEXT), 1);
    });
}

/// G8: so it is for threads.
#[test]
fn g08_panic_of_a_leader_with_threads_behind_it_runs_the_hook_once() {
    const TEXT: &str = "seen by threads";
    limited(|| {
        assert_eq!(reports(TEXT), 0);
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let keys: Vec<_> = (0..8).map(|_| bell.key(1)).collect();
        let group = &group;
        thread::scope(|scope| {
            let mut followers = Vec::new();
            let led = panic_text(|| {
                group.run_blocking(&RingingKey::silent(1), || {
                    for key in &keys {
                        let follow = || panic_text(|| group.run_blocking(key, || 1));
                        followers.push(scope.spawn(follow));
                    }
                    bell.wait_for(keys.len(), group, 1);
                    panic!("{TEXT}")
                })
            });
            assert_eq!(led, TEXT);
            for follower in followers {
                assert_eq!(follower.join().expect("it is caught"), TEXT);
            }
        });
        assert_eq!(reports(TEXT), 1);
    });
}

/// G8: a batch that joins a key, a batch that leads, a task, and a call with a full answer.
#[test]
fn g08_panic_that_batches_tasks_and_calls_learn_of_runs_the_hook_once() {
    const TEXT: &str = "in a batch";
    limited(|| {
        assert_eq!(reports(TEXT), 0);
        let group: Group<u64, u32> = Group::new();
        let load = |_| panics::<Vec<(u64, u32)>>(TEXT);
        let mut leader = Polled::pending(group.run_many([1, 2], load));
        let mut single = Polled::pending(group.run(&1, async { 1 }));
        let mut batch = Polled::pending(group.run_many([1, 2], |_| async { [(1, 1), (2, 2)] }));
        let mut call = Polled::pending(group.call(&2).run(async { 2 }));
        let (task, handle) = group.call(&2).task(async { 2 }).expect("no limit");
        let mut task = Polled::pending(task);
        assert_eq!(panic_text(|| leader.poll()), TEXT);
        assert_eq!(panic_text(|| single.poll()), TEXT);
        assert_eq!(panic_text(|| batch.poll()), TEXT);
        assert_eq!(task.poll(), Poll::Ready(()));
        for answer in [call.woken_value().map(|outcome| outcome.value), handle.wait()] {
            assert!(
                matches!(answer, Err(CallError::Panicked(panicked)) if panicked.message() == TEXT)
            );
        }
        assert_eq!(reports(TEXT), 1);
    });
}

/// A call inside its own work is a mistake of the caller's own, and reported as one.
#[test]
fn g13_recursion_runs_the_hook() {
    const TEXT: &str =
        "recursive call: the work called its own group with its own key and would wait for itself";
    limited(|| {
        let before = reports(TEXT);
        let group: Group<u64, u32> = Group::new();
        let nested = || group.run_blocking(&1, || group.run_blocking(&1, || 1));
        assert_eq!(panic_text(nested), TEXT);
        assert_eq!(reports(TEXT), before + 1);
    });
}

/// The load of a cache, for async and blocking callers.
#[cfg(feature = "moka")]
#[test]
fn panic_of_a_load_runs_the_hook_once() {
    use shardflight::cache::ReadThrough;

    const TEXT: &str = "in a load";
    limited(|| {
        assert_eq!(reports(TEXT), 0);
        let cache: ReadThrough<u64, u32, ()> = ReadThrough::builder().build();
        let mut leader = Polled::pending(cache.get(&1, panics(TEXT)));
        let mut followers: Vec<_> =
            (0..100).map(|_| Polled::pending(cache.get(&1, async { Ok(1) }))).collect();
        let mut batch = Polled::pending(cache.get_many([1], |_| async { [(1, Ok(1))] }));
        assert_eq!(panic_text(|| leader.poll()), TEXT);
        for follower in &mut followers {
            assert_eq!(panic_text(|| follower.poll()), TEXT);
        }
        assert_eq!(panic_text(|| batch.poll()), TEXT);
        assert_eq!(reports(TEXT), 1);
    });
}

/// Requests of a layer: followers are told by a response.
#[cfg(feature = "tower")]
#[test]
fn panic_of_a_service_runs_the_hook_once() {
    use http::{Request, Response, StatusCode};
    use shardflight::tower::CoalesceLayer;
    use tower::{Layer, ServiceExt, service_fn};

    const TEXT: &str = "in a service";
    common::on_tokio(|| async {
        assert_eq!(reports(TEXT), 0);
        let service = service_fn(|_: Request<String>| async {
            panics::<Result<Response<String>, ()>>(TEXT).await
        });
        let service = CoalesceLayer::new().layer(service);
        let ask = || {
            service.clone().oneshot(Request::get("http://localhost/").body(String::new()).unwrap())
        };
        let mut leader = Polled::pending(ask());
        let mut followers: Vec<_> = (0..100).map(|_| Polled::pending(ask())).collect();
        assert_eq!(panic_text(|| leader.poll()), TEXT);
        for follower in &mut followers {
            let response = follower.woken_value().expect("a response");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
        assert_eq!(reports(TEXT), 1);
    });
}
