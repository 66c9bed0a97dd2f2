//! How the futures are polled: ready at once, waking themselves, and no oftener than it takes.

#![cfg(not(loom))]

mod common;

use std::{future::poll_fn, task::Poll};

use common::{Executions, Polled, limited, on_paused_clock, settle};
use futures_lite::future::yield_now;
use shardflight::{Group, Role};

/// Scenario 26, G2: work that is ready at its first poll makes a call that is.
#[test]
fn s26_work_that_is_ready_at_once_makes_the_call_ready() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for value in 0..100 {
            let mut call = Polled::new(group.run(&1, async { value }));
            assert_eq!(call.poll(), Poll::Ready(value));
            assert!(group.is_empty(), "while the future is still there");
        }
    });
}

/// Scenario 26, G6: work that wakes itself while it is being polled, also as it takes over.
#[test]
fn s26_work_may_wake_itself_while_it_is_polled() {
    /// Wakes itself twice at every poll, by reference and by value, and is ready at the third.
    fn restless() -> impl Future<Output = u32> {
        let mut polls = 0;
        poll_fn(move |cx| {
            polls += 1;
            cx.waker().wake_by_ref();
            let waker = cx.waker().clone();
            waker.wake();
            match polls {
                3 => Poll::Ready(polls),
                _ => Poll::Pending,
            }
        })
    }

    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut callers: Vec<_> =
            (0..3).map(|_| Some(Polled::pending(group.run(&1, restless())))).collect();
        assert_eq!(settle(&mut callers), [(0, 3), (1, 3), (2, 3)]);

        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let mut callers: Vec<_> =
            (0..3).map(|_| Some(Polled::pending(group.run(&1, restless())))).collect();
        drop(leader);
        let values = settle(&mut callers);
        assert_eq!(values.len(), 3);
        assert!(values.iter().all(|(_, value)| *value == 3));
        assert!(group.is_empty());
    });
}

/// Scenario 37: a follower is polled when it joins and when the flight lands, however long the work
/// takes and however often it is polled.
#[test]
fn s37_follower_is_polled_twice_for_a_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let work = || async {
            for _ in 0..200 {
                yield_now().await;
            }
            1
        };
        let mut leader = Polled::pending(group.run(&1, work()));
        let mut followers: Vec<_> =
            (0..100).map(|_| Polled::pending(group.run(&1, work()))).collect();
        while leader.poll().is_pending() {
            assert!(followers.iter().all(|follower| !follower.is_woken()));
        }
        for follower in &mut followers {
            assert_eq!(follower.woken_value(), 1);
            assert_eq!(follower.polls, 2);
        }
        assert_eq!(leader.polls, 201);
    });
}

/// Scenario 37: an abandonment costs a few followers one more poll, not the whole herd.
#[test]
fn s37_abandonment_wakes_a_few_of_many() {
    limited(|| {
        const FOLLOWERS: usize = 1_000;
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let leader = Polled::pending(group.run(&1, executions.endless()));
        let mut followers: Vec<_> = (0..FOLLOWERS)
            .map(|_| Polled::pending(group.run(&1, executions.yielding(1))))
            .collect();
        drop(leader);
        let woken = followers.iter().filter(|follower| follower.is_woken()).count();
        assert!((1..=16).contains(&woken), "{woken} of {FOLLOWERS} were woken");
        let mut polls = Vec::new();
        while let Some(i) = followers.iter().position(Polled::is_woken) {
            if followers[i].poll() == Poll::Ready(1) {
                polls.push(followers.swap_remove(i).polls);
            }
        }
        assert_eq!(polls.len(), FOLLOWERS);
        assert!(polls.iter().all(|polls| *polls <= 4), "{:?}", polls.iter().max());
        // Joining, landing, the declined turns, and the leader's polls of its own work.
        let sum: usize = polls.iter().sum();
        assert!(sum <= 2 * FOLLOWERS + 16 + 2, "{sum} polls of {FOLLOWERS}");
        assert_eq!(executions.started(), 2);
        assert!(group.is_empty());
    });
}

/// Scenario 36: 20 callers of a work that fails wait for one execution, not for 20 in a row.
#[test]
fn s36_failing_work_is_shared_like_any_other() {
    use std::time::Duration;
    use tokio::time::{Instant, sleep};

    on_paused_clock(|| async {
        let group: Group<u64, Result<u32, String>> = Group::new();
        let executions = Executions::default();
        let time = Duration::from_millis(100);
        let begun = Instant::now();
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let (group, executions) = (group.clone(), executions.clone());
                tokio::spawn(async move {
                    let work = async {
                        let _running = executions.begin();
                        sleep(time).await;
                        Err("no".to_owned())
                    };
                    group.call(&1).run(work).await
                })
            })
            .collect();
        let mut leaders = 0;
        for caller in callers {
            let outcome = caller.await.expect("no panic").expect("an error is a value");
            assert_eq!(outcome.value, Err("no".to_owned()));
            leaders += usize::from(outcome.role == Role::Led { followers: 19 });
        }
        assert_eq!(begun.elapsed(), time);
        assert_eq!((leaders, executions.started()), (1, 1));
        assert!(group.is_empty());
    });
}
