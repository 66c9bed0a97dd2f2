//! Any runtime, none, and several of them on one key.

#![cfg(not(loom))]

mod common;

use std::{
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use common::{Dice, Doorbell, Executions, LIMIT, RingingKey, limited, on_paused_clock};
use futures_lite::future::yield_now;
use shardflight::{Group, Role};
use tokio::sync::oneshot;

/// The ways to run a future or a closure that a caller may choose.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Runtime {
    TokioCurrentThread,
    TokioMultiThread,
    Smol,
    BareBlockOn,
    Thread,
}

use Runtime::{BareBlockOn, Smol, Thread, TokioCurrentThread, TokioMultiThread};

const ALL: [Runtime; 5] = [TokioCurrentThread, TokioMultiThread, Smol, BareBlockOn, Thread];

impl Runtime {
    /// Runs a call with a work that says that it has begun and then waits for its value.
    fn call(
        self,
        group: &Group<RingingKey, usize>,
        key: &RingingKey,
        executions: &Executions,
        begun: &mpsc::Sender<oneshot::Sender<usize>>,
    ) -> (usize, Role) {
        let (land, value) = oneshot::channel();
        let begin = || {
            let running = executions.begin();
            begun.send(land).expect("the test waits");
            running
        };
        let outcome = if self == Thread {
            group.call(key).run_blocking(|| {
                let _running = begin();
                value.blocking_recv().expect("sent")
            })
        } else {
            self.block_on(group.call(key).run(async {
                let _running = begin();
                value.await.expect("sent")
            }))
        };
        let outcome = outcome.expect("a value");
        (outcome.value, outcome.role)
    }

    fn block_on<F: Future>(self, future: F) -> F::Output {
        match self {
            TokioCurrentThread => tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime")
                .block_on(future),
            TokioMultiThread => common::multi_thread().block_on(future),
            Smol => smol::block_on(future),
            BareBlockOn => futures_lite::future::block_on(future),
            Thread => unreachable!("a thread has no runtime"),
        }
    }
}

/// G12: each runtime alone, as leader and as follower.
#[test]
fn g12_each_runtime_leads_and_follows_itself() {
    limited(|| {
        for runtime in ALL {
            meet(runtime, &[runtime, runtime]);
        }
    });
}

/// Scenario 8, G12, G2: all of them on one key, each of them once the leader.
#[test]
fn g12_all_runtimes_follow_each() {
    limited(|| {
        for runtime in ALL {
            meet(runtime, &ALL);
        }
    });
}

/// Lets the followers join a flight that `leader` leads, and looks at all answers.
fn meet(leader: Runtime, followers: &[Runtime]) {
    let group: Group<RingingKey, usize> = Group::new();
    let bell = Doorbell::new();
    let executions = Executions::default();
    let (begun, works) = mpsc::channel();
    let keys: Vec<_> = followers.iter().map(|_| bell.key(1)).collect();
    let silent = RingingKey::silent(1);
    thread::scope(|scope| {
        let call = |runtime: Runtime, key| {
            let (group, executions, begun) = (&group, &executions, begun.clone());
            scope.spawn(move || runtime.call(group, key, executions, &begun))
        };
        let led = call(leader, &silent);
        let land = works.recv_timeout(LIMIT).expect("the work begins");
        let joined: Vec<_> =
            followers.iter().zip(&keys).map(|(runtime, key)| call(*runtime, key)).collect();
        bell.wait_for(followers.len(), &group, 1);
        land.send(3).expect("it waits");
        let expected = Role::Led { followers: followers.len() };
        assert_eq!(led.join().expect("no panic"), (3, expected), "{leader:?}");
        for (joined, runtime) in joined.into_iter().zip(followers) {
            assert_eq!(joined.join().expect("no panic"), (3, Role::Joined), "{runtime:?}");
        }
    });
    assert_eq!(executions.started(), 1);
    assert!(group.is_empty());
}

/// G12, G7: when the leader is cancelled one of them takes over, whichever it is, and the others
/// get its value.
#[test]
fn g12_any_runtime_takes_over_from_any() {
    limited(|| {
        for round in 0..20 {
            let group: Group<RingingKey, usize> = Group::new();
            let bell = Doorbell::new();
            let executions = Executions::default();
            let (begun, works) = mpsc::channel();
            let keys: Vec<_> = ALL.iter().map(|_| bell.key(1)).collect();
            let silent = RingingKey::silent(1);
            let leader = common::Polled::pending(group.run(&silent, executions.endless()));
            thread::scope(|scope| {
                let followers: Vec<_> = ALL
                    .iter()
                    .zip(&keys)
                    .map(|(runtime, key)| {
                        let (group, executions, begun) = (&group, &executions, begun.clone());
                        scope.spawn(move || runtime.call(group, key, executions, &begun))
                    })
                    .collect();
                bell.wait_for(ALL.len(), &group, 1);
                drop(leader);
                let land = works.recv_timeout(LIMIT).expect("one takes over");
                land.send(round).expect("it waits");
                let answers: Vec<_> = followers
                    .into_iter()
                    .map(|follower| follower.join().expect("no panic"))
                    .collect();
                assert!(answers.iter().all(|(value, _)| *value == round));
                let led = Role::Led { followers: ALL.len() - 1 };
                assert_eq!(answers.iter().filter(|(_, role)| *role == led).count(), 1);
            });
            assert_eq!((executions.started(), executions.peak()), (2, 1));
            assert!(group.is_empty());
        }
    });
}

/// G12, G1: all of them hammer three keys, and some give up half way.
#[test]
fn g12_runtimes_that_hammer_the_same_keys_run_one_work_each_at_a_time() {
    limited(|| {
        const CALLS: usize = 400;
        let group: Group<usize, usize> = Group::new();
        let executions = [Executions::default(), Executions::default(), Executions::default()];
        thread::scope(|scope| {
            for (seed, runtime) in ALL.into_iter().enumerate() {
                let (group, executions) = (&group, &executions);
                let mut dice = Dice::new(seed as u64);
                scope.spawn(move || {
                    if runtime == Thread {
                        for i in 0..CALLS {
                            let key = dice.below(3);
                            group.run_blocking(&key, || executions[key].spinning(i));
                        }
                        return;
                    }
                    runtime.block_on(async {
                        for i in 0..CALLS {
                            let key = dice.below(3);
                            let mut call = Box::pin(group.run(&key, executions[key].yielding(i)));
                            if dice.below(3) == 0 {
                                futures_lite::future::poll_once(&mut call).await;
                                yield_now().await;
                            } else {
                                call.await;
                            }
                        }
                    });
                });
            }
        });
        for executions in executions {
            assert!(executions.started() > 0);
            assert_eq!((executions.running(), executions.peak()), (0, 1));
        }
        assert!(group.is_empty());
    });
}

/// G12: tasks of smol's executor, which is made and driven by hand.
#[test]
fn g12_tasks_of_smol_share_a_flight() {
    limited(|| {
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let executor = smol::LocalExecutor::new();
        let values = smol::block_on(executor.run(async {
            let tasks: Vec<_> =
                (0..10).map(|i| executor.spawn(group.run(&1, executions.yielding(i)))).collect();
            let mut values = Vec::new();
            for task in tasks {
                values.push(task.await);
            }
            values
        }));
        assert_eq!(executions.started(), 1);
        assert_eq!(values, [values[0]; 10]);
        assert!(group.is_empty());
    });
}

/// G12, G7: tokio's timeout around a call is a cancellation like any other.
#[test]
fn g12_timeout_of_the_runtime_cancels_a_call() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let second = Duration::from_secs(1);
        let led = tokio::time::timeout(second, group.run(&1, std::future::pending()));
        let follows = group.run(&1, async {
            tokio::time::sleep(second).await;
            2
        });
        let begun = tokio::time::Instant::now();
        let (led, followed) = tokio::join!(led, follows);
        assert!(led.is_err());
        assert_eq!(followed, 2);
        assert_eq!(begun.elapsed(), 2 * second);
        assert!(group.is_empty());
    });
}

/// Scenario 28, as far as nothing is spawned by the crate: a runtime that is shut down drops its
/// tasks, and a thread that followed one of them comes back.
#[test]
fn s28_runtime_that_is_shut_down_frees_the_threads_that_follow() {
    limited(|| {
        let group: Group<RingingKey, usize> = Group::new();
        let bell = Doorbell::new();
        let executions = Executions::default();
        let runtime = common::multi_thread();
        let (begun, has_begun) = mpsc::channel();
        runtime.spawn({
            let (group, work) = (group.clone(), executions.endless());
            async move {
                let work = async {
                    begun.send(()).expect("the test waits");
                    work.await
                };
                group.run(&RingingKey::silent(1), work).await
            }
        });
        has_begun.recv_timeout(LIMIT).expect("it begins");
        let key = bell.key(1);
        thread::scope(|scope| {
            let follower = scope.spawn(|| group.run_blocking(&key, || 4));
            bell.wait_for(1, &group, 1);
            runtime.shutdown_timeout(LIMIT);
            assert_eq!(follower.join().expect("no panic"), 4);
        });
        assert!(group.is_empty());
    });
}

static PAGES: LazyLock<Group<String, usize>> = LazyLock::new(Group::new);

/// G12: a group in a `static`, with tasks that need `'static`.
#[test]
fn g12_group_in_a_static_serves_all() {
    limited(|| {
        let executions = Executions::default();
        let runtime = common::multi_thread();
        let task = runtime.spawn(PAGES.run("page", executions.yielding(1)));
        let value = smol::block_on(PAGES.run("page", executions.yielding(1)));
        assert_eq!(value, 1);
        assert_eq!(runtime.block_on(task).expect("no panic"), 1);
        assert_eq!(executions.peak(), 1);
        assert!(PAGES.is_empty());
    });
}
