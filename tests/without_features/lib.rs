//! What the crate does without its features. Its own tests enable them all, so these are a package apart:
//! `cargo test -p without-features`.

#![cfg(test)]

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use futures_lite::future::{block_on, poll_once};
use shardflight::{CallError, Group};

const SECOND: Duration = Duration::from_secs(1);

/// Whether it panics with a text that names the option and the feature.
fn is_refused<R>(call: impl FnOnce() -> R) -> bool {
    let Err(payload) = catch_unwind(AssertUnwindSafe(call)) else { return false };
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or(payload.downcast_ref::<&str>().copied()).expect("a text");
    text.contains("`Call::timeout`") && text.contains("feature `tokio`")
}

/// Without a timer an async call that states a timeout is refused where it is made, and nothing is begun.
#[test]
fn timeout_of_an_async_call_panics_where_the_call_is_made() {
    let group: Group<u64, u32> = Group::new();
    for timeout in [Duration::ZERO, SECOND] {
        let call = || group.call(&1).timeout(timeout);
        assert!(is_refused(|| call().run(async { 1 })));
        assert!(is_refused(|| call().relay(async { 1 })));
        assert!(is_refused(|| call().task(async { 1 })));
        assert!(is_refused(|| call().fresh().run(async { 1 })));
    }
    assert!(group.is_empty());
}

#[test]
fn no_timeout_is_no_timeout() {
    let group: Group<u64, u32> = Group::new();
    let call = || group.call(&1).timeout(Duration::MAX);
    assert_eq!(block_on(call().run(async { 1 })).expect("a value").value, 1);
    assert_eq!(block_on(call().relay(async { 2 })).expect("a value").value, 2);
    let (task, handle) = call().task(async { 3 }).expect("no limit");
    block_on(task);
    assert_eq!(handle.wait(), Ok(3));
}

/// Threads tell the time by themselves.
#[test]
fn timeout_of_a_thread_holds() {
    let group: Group<u64, u32> = Group::new();
    let mut leader = Box::pin(group.call(&1).relay(pending()));
    assert!(block_on(poll_once(&mut leader)).is_none());
    let hurried = group.call(&1).timeout(Duration::from_millis(1)).run_blocking(|| 2);
    assert_eq!(hurried, Err(CallError::TimedOut));
    drop(leader);
    assert!(group.is_empty());
}
