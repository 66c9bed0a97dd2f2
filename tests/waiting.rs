//! Many rounds with real threads: tasks and threads come, wait, change their wakers, run out of time and
//! go, while leaders land and are cancelled. Each round ends when all have come back, so that nobody is
//! helped by those of the next: one wake-up that is lost hangs it.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    hint::spin_loop,
    pin::pin,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Waker},
    thread,
    time::Duration,
};

use common::{Dice, Executions, Polled, Wakes, limited};
use futures_lite::future::block_on;
use shardflight::{CallError, Group, OnCancel};

const ROUNDS: usize = 3_000;

fn spin(times: usize) {
    (0..times).for_each(|_| spin_loop());
}

/// A value whose clones are counted, and which can be wrong.
#[derive(Debug)]
struct Value {
    text: Box<str>,
    alive: Arc<AtomicUsize>,
}

impl Value {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self { text: "the value".into(), alive: Arc::clone(alive) }
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        Self::new(&self.alive)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        assert_eq!(&*self.text, "the value");
        self.alive.fetch_sub(1, SeqCst);
    }
}

/// Polls a few times, each with another waker, and goes.
fn comes_and_goes(call: impl Future, dice: &mut Dice) {
    let mut call = pin!(call);
    for _ in 0..=dice.below(3) {
        let waker = Waker::from(Arc::new(Wakes::default()));
        if call.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            return;
        }
        spin(dice.below(500));
    }
}

/// One caller of one round.
fn calls(
    group: &Group<u64, Value>,
    executions: &Executions,
    alive: &Arc<AtomicUsize>,
    dice: &mut Dice,
) {
    let spins = dice.below(1_000);
    let work = || {
        let _running = executions.begin();
        spin(spins);
        Value::new(alive)
    };
    let yields = async {
        let _running = executions.begin();
        futures_lite::future::yield_now().await;
        Value::new(alive)
    };
    let timeout = Duration::from_micros(dice.below(100) as u64);
    spin(dice.below(300));
    match dice.below(8) {
        0 => drop(group.run_blocking(&1, work)),
        1 | 2 => {
            let answer = group.call(&1).timeout(timeout).run_blocking(work);
            assert!(matches!(answer, Ok(_) | Err(CallError::TimedOut)));
        }
        3 => drop(block_on(group.run(&1, yields))),
        4 => {
            // With a waker that wakes nobody first, and then with one that does.
            let mut call = pin!(group.run(&1, yields));
            if call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
                spin(dice.below(500));
                drop(block_on(call));
            }
        }
        5 => {
            let call = group.call(&1).on_cancel(OnCancel::Fail);
            let answer = match dice.below(2) {
                0 => block_on(call.run(yields)),
                _ => call.timeout(timeout).run_blocking(work),
            };
            assert!(matches!(answer, Ok(_) | Err(CallError::Cancelled | CallError::TimedOut)));
        }
        6 => comes_and_goes(group.run(&1, yields), dice),
        _ => comes_and_goes(group.run(&1, pending()), dice),
    }
}

/// G6, G7: a thread that has gone is not there to be called.
#[test]
fn g06_thread_whose_time_ran_out_takes_no_call_along() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let late = group.call(&1).timeout(Duration::from_millis(1)).run_blocking(|| 0);
        assert_eq!(late, Err(CallError::TimedOut));
        let mut task = Polled::pending(group.run(&1, async { 7 }));
        drop(leader);
        assert_eq!(task.woken_value(), 7);
    });
}

/// Runs `round` in so many threads at once, again and again; `after` when all have come back.
fn rounds(
    callers: usize,
    round: impl Fn(usize, usize, &mut Dice) + Sync,
    after: impl Fn(usize) + Sync,
) {
    let barrier = Barrier::new(callers);
    thread::scope(|scope| {
        for i in 0..callers {
            let (barrier, round, after) = (&barrier, &round, &after);
            scope.spawn(move || {
                let mut dice = Dice::new(i as u64);
                for n in 0..ROUNDS {
                    if barrier.wait().is_leader() && n > 0 {
                        after(n - 1);
                    }
                    barrier.wait();
                    round(n, i, &mut dice);
                }
            });
        }
    });
}

/// G1, G4, G6, G7: everybody comes back, however they wait and go.
#[test]
fn g06_nobody_is_left_waiting() {
    limited(|| {
        let (group, executions, alive) = (Group::new(), Executions::default(), Arc::default());
        rounds(
            6,
            |_, _, dice| calls(&group, &executions, &alive, dice),
            |n| {
                assert!(group.is_empty(), "G4: in round {n}");
                assert_eq!(executions.running(), 0);
                assert_eq!(alive.load(SeqCst), 0, "a value is kept, or was lost, in round {n}");
            },
        );
        assert_eq!(executions.peak(), 1, "G1");
    });
}

/// G6, G7: the leader is cancelled, or lands, at the moment when the time of some of the threads runs
/// out. The others are called all the same.
#[test]
fn g06_time_runs_out_while_threads_are_called() {
    limited(|| {
        let group: Group<usize, u64> = Group::new();
        rounds(
            4,
            |n, i, dice| match i {
                0 => {
                    let (send, value) = tokio::sync::oneshot::channel();
                    let mut leader =
                        Box::pin(group.run(&n, async { value.await.expect("it is sent") }));
                    let mut cx = Context::from_waker(Waker::noop());
                    let leads = leader.as_mut().poll(&mut cx).is_pending();
                    spin(4_000 + dice.below(12_000));
                    if leads && dice.below(3) == 0 {
                        send.send(7).expect("it waits");
                        // As a follower it may wait for one that has just taken over.
                        let _ = leader.as_mut().poll(&mut cx);
                    }
                }
                1 => assert!(group.run_blocking(&n, || 7) == 7),
                _ => {
                    let timeout = Duration::from_micros(40 + dice.below(160) as u64);
                    let answer = group.call(&n).timeout(timeout).run_blocking(|| 7);
                    match answer {
                        Ok(outcome) => assert_eq!(outcome.value, 7),
                        Err(error) => assert_eq!(error, CallError::TimedOut),
                    }
                }
            },
            |n| assert!(group.is_empty(), "G4: in round {n}"),
        );
    });
}
