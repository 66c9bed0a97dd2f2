//! `timeout`: how long a call waits for the work of others, as a task, with a handle, and as a thread that
//! has taken work over. What threads wait for otherwise is in `limits`.

#![cfg(not(loom))]

mod common;

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    task::Poll,
    thread,
};

use common::{
    Doorbell, Executions, OnDrop, Polled, RingingKey, limited, on_paused_clock, panic_text,
    waits_for,
};
use shardflight::{CallError, Entry, Group, OnCancel, Role};
use tokio::{
    sync::oneshot,
    time::{Duration, Instant, sleep},
};

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Work that takes that long.
async fn slow(time: Duration, value: u32) -> u32 {
    sleep(time).await;
    value
}

async fn not_mine() -> u32 {
    unreachable!("there is work already")
}

/// A follower gives up when its time has come, and leaves: the leader does not count it. Another goes on
/// waiting.
#[test]
fn async_follower_gives_up_when_its_time_has_come() {
    on_paused_clock(|| async {
        for on_cancel in [OnCancel::TakeOver, OnCancel::Fail] {
            let group: Group<u64, u32> = Group::new();
            let began = Instant::now();
            let leader = group.call(&1).run(slow(ms(1_000), 7));
            let hurried = async {
                let call = group.call(&1).on_cancel(on_cancel).timeout(ms(50));
                assert_eq!(call.run(not_mine()).await, Err(CallError::TimedOut));
                assert_eq!(began.elapsed(), ms(50));
                assert_eq!(group.in_flight()[0].followers, 1);
            };
            let patient = group.call(&1).timeout(ms(1_500)).run(not_mine());
            let (led, (), followed) = tokio::join!(leader, hurried, patient);
            assert_eq!(led.expect("a value").role, Role::Led { followers: 1 });
            assert_eq!(followed.expect("a value").value, 7);
            assert!(group.is_empty());
        }
    });
}

/// Work of its own is not limited: of a call that leads from the beginning, takes over, or has waited for
/// the flight before its own.
#[test]
fn own_work_of_an_async_call_is_not_limited() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let call = || group.call(&1).timeout(ms(50));
        assert_eq!(call().run(slow(ms(500), 1)).await.expect("a value").value, 1);
        assert_eq!(call().relay(slow(ms(500), 2)).await.expect("a value").value, 2);

        for relays in [false, true] {
            let leader = Polled::pending(group.run(&1, pending()));
            let successor = async {
                match relays {
                    false => call().run(slow(ms(500), 3)).await,
                    true => call().relay(slow(ms(500), 3)).await,
                }
            };
            let cancels = async {
                sleep(ms(40)).await;
                drop(leader);
            };
            let (answer, ()) = tokio::join!(successor, cancels);
            assert_eq!(answer.expect("a value").value, 3);
        }

        let before = group.run(&1, slow(ms(40), 4));
        let fresh = call().fresh().relay(slow(ms(500), 5));
        let (before, fresh) = tokio::join!(before, fresh);
        assert_eq!((before, fresh.expect("a value").value), (4, 5));
        assert!(group.is_empty());
    });
}

/// A fresh call gives up on the flight before its own. One that waits with it has the lead then.
#[test]
fn fresh_call_gives_up_on_the_flight_before_its_own() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let began = Instant::now();
        let before = group.run(&1, slow(ms(1_000), 1));
        let hurried = async {
            let answer = group.call(&1).fresh().timeout(ms(100)).run(not_mine()).await;
            assert_eq!(answer, Err(CallError::TimedOut));
            assert_eq!(began.elapsed(), ms(100));
        };
        let follows = group.call(&1).fresh().run(slow(ms(10), 2));
        let (before, (), follows) = tokio::join!(before, hurried, follows);
        assert_eq!((before, follows.expect("a value").value), (1, 2));
        assert_eq!(began.elapsed(), ms(1_010));
        assert!(group.is_empty());
    });
}

/// One time for all that a call waits for: a follower that takes over work that another has begun gives
/// that up, too. If somebody else is there the work goes on, and otherwise it is dropped.
#[test]
fn g07_async_call_that_takes_work_over_gives_up_in_time() {
    on_paused_clock(|| async {
        for is_followed in [true, false] {
            let group: Group<u64, u32> = Group::new();
            let began = Instant::now();
            let executions = Executions::default();
            let work = {
                let running = executions.clone();
                async move {
                    let _running = running.begin();
                    slow(ms(3_000), 1).await
                }
            };
            let leader = Polled::pending(group.call(&1).relay(work));
            let cancels = async {
                sleep(ms(150)).await;
                drop(leader);
            };
            let hurried = async {
                let answer = group.call(&1).timeout(ms(200)).run(not_mine()).await;
                assert_eq!(answer, Err(CallError::TimedOut));
                assert_eq!(began.elapsed(), ms(200));
                assert_eq!(executions.running(), usize::from(is_followed));
                assert_eq!(group.is_empty(), !is_followed);
            };
            let patient = async {
                if is_followed {
                    assert_eq!(group.run(&1, not_mine()).await, 1);
                    assert_eq!(began.elapsed(), ms(3_000));
                }
            };
            tokio::join!(cancels, hurried, patient);
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
    });
}

/// The same for a thread, which blocks on the work. With another follower there it is left to a draw whether it
/// takes the work over.
#[test]
fn g07_thread_that_takes_work_over_gives_up_in_time() {
    limited(|| {
        let taken = Arc::new(AtomicU32::new(0));
        for round in 0..40 {
            let is_followed = round % 2 == 0;
            let group: Group<RingingKey, u32> = Group::new();
            let (silent, bell) = (RingingKey::silent(1), Doorbell::new());
            let key = bell.key(1);
            let executions = Executions::default();
            let (land, value) = oneshot::channel();
            let mut work = Box::pin(waits_for(&executions, value));
            let leader = {
                let here = thread::current().id();
                let taken = Arc::clone(&taken);
                Polled::pending(group.call(&silent).relay(poll_fn(move |cx| {
                    if thread::current().id() != here {
                        taken.fetch_or(1 << u8::from(is_followed), SeqCst);
                    }
                    work.as_mut().poll(cx)
                })))
            };
            let patient = is_followed.then(|| Polled::pending(group.run(&silent, not_mine())));
            thread::scope(|scope| {
                let hurried = scope.spawn(|| {
                    let began = std::time::Instant::now();
                    let answer = group.call(&key).timeout(ms(10)).run_blocking(|| 2);
                    (answer, began.elapsed())
                });
                bell.wait_for(1, &group, 1);
                drop(leader);
                let (answer, waited) = hurried.join().expect("no panic");
                assert_eq!(answer, Err(CallError::TimedOut));
                assert!(waited >= ms(10));
            });
            assert_eq!(executions.running(), usize::from(is_followed));
            if let Some(mut patient) = patient {
                assert!(patient.is_woken(), "the work is its own now");
                assert!(patient.poll().is_pending());
                land.send(1).expect("it waits");
                assert_eq!(patient.woken_value(), 1);
            }
            assert_eq!((executions.started(), executions.running()), (1, 0));
            assert!(group.is_empty());
        }
        assert_eq!(taken.load(SeqCst), 0b11, "it took the work over, alone and beside another");
    });
}

/// Also of work that never lets the thread sleep.
#[test]
fn thread_gives_up_on_work_that_wakes_itself() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let (silent, bell) = (RingingKey::silent(1), Doorbell::new());
        let key = bell.key(1);
        let busy = poll_fn(|cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let leader = Polled::pending(group.call(&silent).relay(busy));
        thread::scope(|scope| {
            let hurried = scope.spawn(|| group.call(&key).timeout(ms(20)).run_blocking(|| 2));
            bell.wait_for(1, &group, 1);
            drop(leader);
            assert_eq!(hurried.join().expect("no panic"), Err(CallError::TimedOut));
        });
        assert!(group.is_empty());
    });
}

/// The work that a thread gives up is dropped as a part of its flight, before the key is free; a panic in its
/// `Drop` is the thread's.
#[test]
fn g08_work_that_panics_when_it_is_given_up_leaves_nothing_behind() {
    limited(|| {
        let group: &'static Group<u64, u32> = Box::leak(Box::default());
        let was_free = Arc::new(AtomicBool::new(true));
        let work = {
            let was_free = Arc::clone(&was_free);
            async move {
                let _bomb = OnDrop::new(move || {
                    was_free.store(group.is_empty(), SeqCst);
                    panic!("dropped");
                });
                pending::<u32>().await
            }
        };
        let leader = Polled::pending(group.call(&1).relay(work));
        let follower = Polled::pending(group.run(&1, not_mine()));
        drop(leader);
        // Nobody leads, and the thread comes before the follower looks.
        let gives_up = || {
            drop(follower);
            group.call(&1).timeout(ms(1)).run_blocking(|| 2)
        };
        assert_eq!(panic_text(gives_up), "dropped");
        assert!(!was_free.load(SeqCst));
        assert!(group.is_empty());
        assert_eq!(group.run_blocking(&1, || 3), 3);
    });
}

/// A task that follows, or waits for the flight before its own, gives up, and its handle is told: also one
/// that would not take over. A task that leads has the time that its work needs.
#[test]
fn handle_is_told_that_its_task_gave_up() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let began = Instant::now();
        let land = group.spawn(1, slow(ms(1_000), 1));
        let call = || group.call(&1).timeout(ms(50));
        let handles = [
            call().spawn(not_mine()),
            call().on_cancel(OnCancel::Fail).spawn(not_mine()),
            call().fresh().spawn(not_mine()),
            call().fresh().spawn(not_mine()),
            call().abort_when_abandoned().spawn(not_mine()),
        ];
        for handle in handles {
            assert_eq!(handle.expect("no limit").await, Err(CallError::TimedOut));
        }
        assert_eq!(began.elapsed(), ms(50));
        assert_eq!(group.in_flight()[0].followers, 1, "the handle of the one that leads");
        assert_eq!(land.await, Ok(1));
        let leads = call().spawn(slow(ms(500), 2)).expect("no limit");
        assert_eq!(leads.await, Ok(2));
        assert!(group.is_empty());
    });
}

/// Who asks again after the flight has landed all the same has the value.
#[test]
fn handle_whose_task_gave_up_has_the_value_when_it_is_there() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let land = group.spawn(1, slow(ms(1_000), 1));
        let handle = group.call(&1).timeout(ms(50)).spawn(not_mine()).expect("no limit");
        assert_eq!(handle.clone().await, Err(CallError::TimedOut));
        assert_eq!(land.await, Ok(1));
        assert_eq!(handle.await, Ok(1));
    });
}

/// G6: a task with a limit is dropped while it follows, or waits for the flight before its own. Nobody would
/// tell its handle when to stop waiting for others, so the handle is told immediately.
#[test]
fn g06_handle_is_told_when_its_task_with_a_limit_is_dropped() {
    on_paused_clock(|| async {
        for (is_polled, on_cancel, is_fresh) in [
            (false, OnCancel::TakeOver, false),
            (true, OnCancel::TakeOver, false),
            (true, OnCancel::Fail, false),
            (false, OnCancel::TakeOver, true),
            (true, OnCancel::TakeOver, true),
        ] {
            let group: Group<u64, u32> = Group::new();
            let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
            let call = group.call(&1).on_cancel(on_cancel).timeout(ms(50));
            let call = if is_fresh { call.fresh() } else { call };
            let (task, handle) = call.task(not_mine()).expect("no limit");
            let follows =
                is_fresh.then(|| Polled::pending(group.call(&1).fresh().run(async { 2 })));
            let mut task = Polled::new(task);
            if is_polled {
                assert!(task.poll().is_pending());
            }
            let mut waits = Polled::pending(handle.clone());
            drop(task);
            assert_eq!(waits.woken_value(), Err(CallError::Cancelled));
            assert_eq!(handle.clone().wait(), Err(CallError::Cancelled));
            // The flight goes on, and who asks again has its value.
            lead.land(1);
            let value = follows.map_or(1, |mut fresh| fresh.woken_value().expect("a value").value);
            assert_eq!(handle.await, Ok(value));
            assert!(group.is_empty());
        }
    });
}

/// G6: so is that of a task that leads, with work of its own or with work that it has taken over, while another
/// goes on with the flight.
#[test]
fn g06_handle_is_told_when_its_task_with_a_limit_is_dropped_as_a_leader() {
    on_paused_clock(|| async {
        for relays in [false, true] {
            let group: Group<u64, u32> = Group::new();
            let (land, value) = oneshot::channel();
            let leader = relays.then(|| {
                let work = async { value.await.expect("sent") };
                Polled::pending(group.call(&1).relay(work))
            });
            let (task, handle) = group.call(&1).timeout(ms(50)).task(pending()).expect("no limit");
            let mut task = Polled::pending(task);
            drop(leader);
            assert_eq!(task.is_woken(), relays);
            assert!(task.poll().is_pending(), "it leads");
            let mut follower = Polled::pending(group.run(&1, async { 2 }));
            let mut waits = Polled::pending(handle.clone());
            drop(task);
            assert_eq!(waits.woken_value(), Err(CallError::Cancelled));
            let value = match relays {
                false => follower.woken_value(),
                true => {
                    assert!(follower.is_woken() && follower.poll().is_pending());
                    land.send(1).expect("it waits");
                    follower.woken_value()
                }
            };
            assert_eq!(value, if relays { 1 } else { 2 });
            assert_eq!(handle.await, Ok(value));
            assert!(group.is_empty());
        }
    });
}

/// G6: without a limit the handle waits on for whoever leads, as long as anybody does.
#[test]
fn g06_handle_of_a_task_without_a_limit_waits_on_when_it_is_dropped() {
    limited(|| {
        for lands in [true, false] {
            let group: Group<u64, u32> = Group::new();
            let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
            let (task, handle) = group.call(&1).task(not_mine()).expect("no limit");
            let task = Polled::pending(task);
            let mut waits = Polled::pending(handle);
            drop(task);
            assert!(!waits.is_woken());
            let told = match lands {
                true => Ok(lead.land(1)).map(|_| 1),
                false => {
                    drop(lead);
                    Err(CallError::Cancelled)
                }
            };
            assert_eq!(waits.woken_value(), told);
            assert!(group.is_empty());
        }
    });
}

/// A runtime that is shut down drops its tasks, and their handles are told.
#[test]
fn handle_is_told_when_the_runtime_of_its_task_is_shut_down() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let runtime = common::multi_thread();
        let handle = {
            let _context = runtime.enter();
            let call = group.call(&1).on_cancel(OnCancel::Fail).timeout(Duration::from_secs(3_600));
            call.spawn(not_mine()).expect("no limit")
        };
        drop(runtime);
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        assert_eq!(lead.land(1), 0);
    });
}

/// A runtime without a timer is refused before anything is registered. A task of `Call::task` that finds none
/// panics there, and its handle is told.
#[test]
fn spawned_call_with_a_limit_needs_a_runtime_with_a_timer() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let _context = runtime.enter();
        let spawns = |timeout| group.call(&1).timeout(timeout).spawn(not_mine());
        let text = panic_text(|| drop(spawns(ms(1))));
        assert!(text.contains("timers are disabled"), "{text}");
        assert_eq!(group.in_flight()[0].followers, 0);
        // Neither of these needs one.
        let zero = spawns(Duration::ZERO).expect("no limit");
        assert_eq!(runtime.block_on(zero), Err(CallError::TimedOut));
        let patient = spawns(Duration::MAX).expect("no limit");

        let (task, handle) = group.call(&1).timeout(ms(1)).task(not_mine()).expect("no limit");
        let spawned = runtime.spawn(task);
        assert_eq!(runtime.block_on(handle), Err(CallError::Cancelled));
        assert!(runtime.block_on(spawned).expect_err("no timer").is_panic());
        assert_eq!(lead.land(1), 1);
        assert_eq!(runtime.block_on(patient), Ok(1));
    });
}

/// A call that waits, and whose runtime is shut down meanwhile, panics at its next poll, and leaves.
#[test]
fn call_that_waits_panics_when_its_runtime_is_shut_down() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let runtime = common::multi_thread();
        let mut follower = {
            let _context = runtime.enter();
            Polled::pending(group.call(&1).timeout(Duration::from_secs(3_600)).run(not_mine()))
        };
        drop(runtime);
        let text = panic_text(|| follower.poll());
        assert!(text.contains("shut"), "{text}");
        drop(follower);
        assert_eq!(lead.land(1), 0);
    });
}

/// The timer of a call goes with its wait: a future that is kept after it returned, or panicked, is not woken by
/// it.
#[test]
fn call_that_has_returned_is_not_woken_when_its_time_would_have_been_over() {
    on_paused_clock(|| async {
        async fn stays_asleep<T>(call: Polled<'_, T>) {
            assert!(!call.is_woken());
            sleep(ms(100)).await;
            assert!(!call.is_woken());
        }
        let group: Group<u64, u32> = Group::new();
        let limited = || group.call(&1).timeout(ms(50));

        // It has followed.
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let mut follower = Polled::pending(limited().run(not_mine()));
        lead.land(1);
        assert_eq!(follower.woken_value().expect("a value").value, 1);
        stays_asleep(follower).await;

        // It is told.
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let mut told = Polled::pending(limited().on_cancel(OnCancel::Fail).run(not_mine()));
        drop(lead);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        stays_asleep(told).await;

        // It has taken work over, which returns at the next poll, at a later one, or panics there.
        for case in 0..3 {
            let (land, value) = oneshot::channel::<u32>();
            let leader =
                Polled::pending(group.call(&1).relay(async { value.await.expect("sent") }));
            let mut taker = Polled::pending(limited().run(not_mine()));
            drop(leader);
            let mut land = Some(land);
            if case > 0 {
                assert!(taker.is_woken() && taker.poll().is_pending());
            }
            if case < 2 {
                land.take().expect("once").send(2).expect("it waits");
                assert_eq!(taker.woken_value().expect("a value").value, 2);
            } else {
                drop(land);
                assert!(taker.is_woken());
                assert!(panic_text(|| taker.poll()).starts_with("sent"));
            }
            stays_asleep(taker).await;
        }

        // Its task has followed.
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is taken") };
        let (task, handle) = limited().task(not_mine()).expect("no limit");
        let mut task = Polled::pending(task);
        lead.land(3);
        task.woken_value();
        assert_eq!(handle.await, Ok(3));
        stays_asleep(task).await;
        assert!(group.is_empty());
    });
}

/// For a follower that would be told, a successor that gives the work up is a cancelled leader.
#[test]
fn g07_told_follower_is_told_when_a_successor_runs_out_of_time() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.call(&1).relay(slow(ms(1_000), 1)));
        let mut taker = Polled::pending(group.call(&1).timeout(ms(100)).run(not_mine()));
        drop(leader);
        assert!(taker.is_woken() && taker.poll().is_pending(), "it has the work");
        let mut told = {
            let call = group.call(&1).on_cancel(OnCancel::Fail);
            Polled::pending(call.run(not_mine()))
        };
        let patient = group.run(&1, not_mine());
        let gives_up = async {
            sleep(ms(100)).await;
            assert_eq!(taker.woken_value(), Err(CallError::TimedOut));
            assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        };
        assert_eq!(tokio::join!(patient, gives_up).0, 1);
        assert!(group.is_empty());
    });
}

/// No time at all, and all of it, need no timer.
#[test]
fn zero_and_max_need_no_runtime() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, async {
            futures_lite::future::yield_now().await;
            7
        }));
        let mut hurried = Polled::new(group.call(&1).timeout(Duration::ZERO).run(not_mine()));
        assert_eq!(hurried.poll(), Poll::Ready(Err(CallError::TimedOut)));
        let mut patient = Polled::pending(group.call(&1).timeout(Duration::MAX).run(not_mine()));
        assert_eq!(leader.woken_value(), 7);
        assert_eq!(patient.woken_value().expect("a value").value, 7);
        // Nor does a call that has nothing to wait for.
        let mut leads = Polled::new(group.call(&1).timeout(ms(1)).run(async { 8 }));
        assert!(matches!(leads.poll(), Poll::Ready(Ok(outcome)) if outcome.value == 8));
        assert!(group.is_empty());
    });
}

/// A call that has to wait without a runtime panics as tokio's timers do, and leaves.
#[test]
fn call_that_waits_outside_a_runtime_panics() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let text = panic_text(|| Polled::new(group.call(&1).timeout(ms(1)).run(not_mine())).poll());
        assert!(text.contains("Tokio"), "{text}");
        assert_eq!(group.in_flight()[0].followers, 0);
        drop(leader);
        assert!(group.is_empty());
    });
}
