//! Who takes over: not always the one whose own time runs out next.

#![cfg(not(loom))]

mod common;

use std::{sync::Arc, time::Duration};

use common::on_paused_clock;
use shardflight::Group;
use tokio::{sync::Barrier, time};

const WAVES: usize = 300;
const CALLERS: u64 = 32;
const WORK: Duration = Duration::from_millis(8);

/// Scenario 25, G7: with deadlines that ascend in the order of joining, 75 % of callers are served
/// (0 % if the oldest took over).
#[test]
fn s25_ascending_deadlines_serve_three_of_four() {
    on_paused_clock(|| async {
        let served = percentage_served(|i| i + 1).await;
        assert!(served >= 75.0, "{served:.1} % were served");
    });
}

/// Scenario 25, G7: the same with deadlines that descend (0 % if the newest took over).
#[test]
fn s25_descending_deadlines_serve_three_of_four() {
    on_paused_clock(|| async {
        let served = percentage_served(|i| CALLERS - i).await;
        assert!(served >= 75.0, "{served:.1} % were served");
    });
}

/// Runs the waves; `steps` says in how many steps of 2 ms the deadline of the `i`th to join is.
async fn percentage_served(steps: fn(u64) -> u64) -> f64 {
    let group: Group<usize, u64> = Group::new();
    let mut served = 0;
    for wave in 0..WAVES {
        let first = tokio::spawn({
            let group = group.clone();
            async move { group.run(&wave, std::future::pending()).await }
        });
        tokio::task::yield_now().await;
        assert!(group.is_in_flight(&wave), "the first leads");
        let begun = time::Instant::now();
        let joined = Arc::new(Barrier::new(CALLERS as usize + 1));
        let callers: Vec<_> = (0..CALLERS)
            .map(|i| {
                let (group, joined) = (group.clone(), Arc::clone(&joined));
                let deadline = begun + Duration::from_millis(2 * steps(i));
                tokio::spawn(async move {
                    let work = async {
                        time::sleep(WORK).await;
                        i
                    };
                    let mut call = std::pin::pin!(group.run(&wave, work));
                    let polled = futures_lite::future::poll_once(&mut call).await;
                    assert_eq!(polled, None, "it follows");
                    joined.wait().await;
                    time::timeout_at(deadline, call).await.is_ok()
                })
            })
            .collect();
        joined.wait().await;
        first.abort();
        for caller in callers {
            served += u32::from(caller.await.expect("no caller fails"));
        }
        assert!(group.is_empty());
    }
    f64::from(served) * 100.0 / (WAVES as u64 * CALLERS) as f64
}
