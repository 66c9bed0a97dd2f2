//! Calls that are kept but not polled: what that does to a second call of their key, and what helps.

#![cfg(not(loom))]

mod common;

use std::time::Duration;

use common::{Polled, limited, on_paused_clock};
use futures_lite::future::yield_now;
use shardflight::Group;
use tokio::{sync::oneshot, time::timeout};

/// A second call follows the kept one, which nobody polls. It is no deadlock of the group: as soon as the
/// kept one is polled, or dropped, the second has its value.
#[test]
fn g06_second_call_waits_while_the_kept_one_is_not_polled() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let work = || async {
            yield_now().await;
            1
        };
        let mut kept = Polled::pending(group.run(&1, work()));
        let mut second = Polled::pending(group.run(&1, async { 2 }));
        assert!(kept.is_woken() && !second.is_woken());
        assert_eq!(kept.woken_value(), 1);
        assert_eq!(second.woken_value(), 1);

        let kept = Polled::pending(group.run(&1, work()));
        let mut second = Polled::pending(group.run(&1, async { 2 }));
        drop(kept);
        assert_eq!(second.woken_value(), 2);
        assert!(group.is_empty());
    });
}

/// The same in `select!`: with the call in its own task, a branch may call its key again.
#[test]
fn g06_branch_of_a_select_calls_the_key_of_a_kept_call() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let mut kept = group.spawn(1, async { value.await.expect("sent") });
        let second = tokio::select! {
            value = &mut kept => panic!("{value:?} before it was sent"),
            () = tokio::time::sleep(Duration::from_millis(10)) => {
                land.send(1).expect("it waits");
                timeout(Duration::from_secs(60), group.run(&1, async { 2 })).await
            }
        };
        assert_eq!(second, Ok(1));
        assert_eq!(kept.await, Ok(1));
    });
}
