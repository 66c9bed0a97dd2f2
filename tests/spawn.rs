//! `spawn` and `task`: calls that register at once and outlive their caller.

#![cfg(all(not(loom), feature = "tokio"))]

mod common;

use std::{
    future::pending,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    task::Poll,
    thread,
    time::Duration,
};

use common::{
    Crowd, Dice, Doorbell, Executions, LIMIT, OnDrop, Polled, RingingKey, limited, on_paused_clock,
    on_tokio, panic_text, text, waits_for,
};
use shardflight::{CallError, Entry, Group, Handle, OnCancel, Role};
use tokio::{runtime::Runtime, sync::oneshot, task::yield_now};

/// One thread that runs tasks only while somebody blocks on it.
fn current_thread() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Lets the tasks of this one thread run until none of them can go on.
async fn let_tasks_run() {
    for _ in 0..20 {
        yield_now().await;
    }
}

/// The call registers when it is made, not when its task or its handle is polled.
#[test]
fn g03_spawn_registers_at_the_call() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let handle = group.spawn(1, executions.yielding(7));
        assert!(group.is_in_flight(&1));
        assert_eq!(executions.started(), 0);
        let called = group.call(&2).spawn(executions.yielding(8)).expect("no limit");
        assert_eq!(group.len(), 2);
        // Who comes now joins it, though it has not begun.
        let joined = group.run(&1, async { unreachable!("it follows") });
        assert_eq!(joined.await, 7);
        assert_eq!((handle.await, called.await), (Ok(7), Ok(8)));
        assert_eq!(executions.started(), 2);
        assert!(group.is_empty());
    });
}

/// The work outlives its caller, its handle, and everybody who followed.
#[test]
fn g07_spawned_work_outlives_every_caller() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        drop(group.spawn(1, waits_for(&executions, value)));
        let_tasks_run().await;
        drop(Polled::pending(group.run(&1, async { 0 })));
        drop(group.join(&1).expect("in flight"));
        let_tasks_run().await;
        assert_eq!(executions.running(), 1);
        let mut late = Polled::pending(group.call(&1).run(async { 0 }));
        land.send(5).expect("it waits");
        let_tasks_run().await;
        assert_eq!(late.woken_value().expect("a value").value, 5);
        assert!(group.is_empty());

        // And with nobody at all.
        drop(group.spawn(1, executions.yielding(6)));
        let_tasks_run().await;
        assert_eq!((executions.started(), executions.running()), (2, 0));
        assert!(group.is_empty());
    });
}

/// The flight of a spawned call is followed as any other, and its handle is a follower.
#[test]
fn s35_handle_of_a_spawned_call_is_a_follower() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let (land, value) = oneshot::channel();
        let handle = group.spawn(1, waits_for(&Executions::default(), value));
        let refused = group.call(&1).max_followers(1).spawn(async { 0 });
        assert_eq!(refused.map(drop), Err(CallError::TooManyFollowers));
        let follower = group.call(&1).max_followers(2);
        let mut follower = Polled::pending(follower.run(async { 0 }));
        drop(handle);
        let another = group.call(&1).max_followers(2).spawn(async { 0 }).expect("a free place");
        land.send(3).expect("it waits");
        assert_eq!(another.await, Ok(3));
        assert_eq!(follower.woken_value().expect("a value").role, Role::Joined);
        assert!(group.is_empty());
    });
}

/// A spawn that finds a flight follows it, keeps its work, and takes over; its handle has the value in
/// either case.
#[test]
fn g07_spawn_that_joins_takes_over() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.call(&1).run(async { value.await.expect("sent") }));
        let handle = group.spawn(1, executions.yielding(0));
        let_tasks_run().await;
        land.send(1).expect("it waits");
        // Task and handle are one caller.
        assert_eq!(leader.woken_value().expect("a value").role, Role::Led { followers: 1 });
        assert_eq!(handle.await, Ok(1));
        assert_eq!(executions.started(), 0);

        for with_others in [false, true] {
            let leader = Polled::pending(group.run(&1, pending()));
            let handle = group.spawn(1, executions.yielding(2));
            let others = with_others.then(|| Polled::pending(group.join(&1).expect("in flight")));
            let_tasks_run().await;
            drop(leader);
            assert_eq!(handle.await, Ok(2));
            if let Some(mut others) = others {
                assert_eq!(others.woken_value(), Ok(2));
            }
            assert!(group.is_empty());
        }
        // Also if the handle looks for the first time after that.
        let leader = Polled::pending(group.run(&1, pending()));
        let handle = group.spawn(1, executions.yielding(3));
        drop(leader);
        let_tasks_run().await;
        assert_eq!(handle.clone().wait(), Ok(3));
        assert_eq!(handle.wait(), Ok(3));
        assert!(group.is_empty());
    });
}

/// G8: so it is told if the work that took over panics.
#[test]
fn g08_panic_of_spawned_work_reaches_its_handles() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        for follows in [false, true] {
            let leader = follows.then(|| Polled::pending(group.run(&1, pending())));
            let handle = group.spawn(1, async {
                yield_now().await;
                panic!("on purpose")
            });
            let clone = handle.clone();
            drop(leader);
            for handle in [handle, clone] {
                match handle.await {
                    Err(CallError::Panicked(panicked)) => {
                        assert_eq!(panicked.message(), "on purpose");
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(group.is_empty());
        }
        assert_eq!(group.spawn(1, async { 3 }).await, Ok(3), "the next call starts afresh");
    });
}

/// With `OnCancel::Fail` a spawn that finds a flight drops its work, and its handle is told.
#[test]
fn g07_told_spawn_that_joins_is_told() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let spawn = |value| {
            let call = group.call(&1).on_cancel(OnCancel::Fail);
            call.spawn(executions.yielding(value)).expect("no limit")
        };
        let leader = Polled::pending(group.run(&1, pending()));
        let mut handle = Polled::pending(spawn(0));
        let mut able = Polled::pending(group.run(&1, executions.yielding(1)));
        drop(leader);
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert!(able.poll().is_pending());
        let follows = spawn(0);
        assert_eq!(able.woken_value(), 1);
        assert_eq!(follows.await, Ok(1));
        // It still leads a key that is free.
        assert_eq!(spawn(2).await, Ok(2));
        assert_eq!(executions.started(), 2);
        assert!(group.is_empty());
    });
}

/// Outside a runtime it panics as `tokio::spawn` does, and leaves nothing behind.
#[test]
fn g04_spawn_outside_a_runtime_panics_and_leaves_nothing() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let expected = panic_text(|| tokio::spawn(async {}));
        assert_eq!(panic_text(|| group.spawn(1, async { 1 })), expected);
        assert_eq!(panic_text(|| group.call(&1).spawn(async { 1 })), expected);
        assert!(group.is_empty());
        let leads = group.lead_or_join(&1);
        assert_eq!(panic_text(|| group.spawn(1, async { 1 })), expected);
        let Entry::Lead(lead) = leads else { panic!("the key was free") };
        assert_eq!(lead.land(1), 0, "it did not stay as a follower");
    });
}

/// G13: to spawn or to take a handle inside the work is legal: another task waits for it.
#[test]
fn g13_spawn_inside_the_work_is_legal() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let mut inner = None;
        let led = group.call(&1).run(async {
            inner = Some(group.spawn(1, async { unreachable!("it follows") }));
            let_tasks_run().await;
            4
        });
        assert_eq!(led.await.expect("a value").role, Role::Led { followers: 1 });
        assert_eq!(inner.expect("spawned").await, Ok(4));
        assert!(group.is_empty());
    });
}

/// Scenario 11: the owner of a spawned flight, its runtime, is dropped: the work ends, the handles are
/// told, and nothing is served from it later.
#[test]
fn s11_flight_whose_runtime_is_dropped_serves_nothing_later() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        for begins in [false, true] {
            let runtime = current_thread();
            let (land, value) = oneshot::channel();
            let work = waits_for(&executions, value);
            let handle = {
                let _context = runtime.enter();
                group.spawn(1, work)
            };
            if begins {
                runtime.block_on(let_tasks_run());
                assert_eq!(executions.running(), 1);
            }
            let mut waits = Polled::pending(handle.clone());
            drop(runtime);
            assert_eq!(executions.running(), 0);
            assert_eq!(waits.woken_value(), Err(CallError::Cancelled));
            assert!(land.send(1).is_err(), "the work is gone");
            assert!(group.is_empty());
            assert!(group.join(&1).is_none());
            assert_eq!(group.run_blocking(&1, || 2), 2);
            assert_eq!(handle.wait(), Err(CallError::Cancelled));
        }
        assert_eq!(executions.started(), 1);
    });
}

/// Scenario 28: a runtime is shut down with a flight in the air that it leads: threads that wait in
/// `run_blocking` take over, and handles elsewhere get what they make.
#[test]
fn s28_threads_come_back_when_the_runtime_that_leads_is_shut_down() {
    limited(|| {
        let group: Arc<Group<RingingKey, usize>> = Arc::default();
        let bell = Doorbell::new();
        let executions = Executions::default();
        let runtime = common::multi_thread();
        let handle = {
            let _context = runtime.enter();
            group.spawn(RingingKey::silent(1), executions.endless())
        };
        let (tell, told) = mpsc::channel();
        let waits = thread::spawn(move || tell.send(handle.wait()));
        let keys = [(); 3].map(|()| bell.key(1));
        thread::scope(|scope| {
            let threads = keys.each_ref().map(|key| scope.spawn(|| group.run_blocking(key, || 4)));
            bell.wait_for(keys.len(), &group, 1);
            runtime.shutdown_timeout(LIMIT);
            for thread in threads {
                assert_eq!(thread.join().expect("no panic"), 4);
            }
        });
        assert_eq!(told.recv_timeout(LIMIT), Ok(Ok(4)));
        waits.join().expect("no panic").expect("the test listens");
        assert!(group.is_empty());
    });
}

/// Scenario 28: without anybody who could take over, threads in `wait` are told.
#[test]
fn s28_threads_that_wait_for_handles_come_back_when_the_runtime_is_shut_down() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let runtime = common::multi_thread();
        let (tell, told) = mpsc::channel();
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let _context = runtime.enter();
                // Two lead, and two follow them.
                let handle = group.spawn(i % 2, pending());
                let tell = tell.clone();
                thread::spawn(move || tell.send(handle.wait()))
            })
            .collect();
        runtime.shutdown_timeout(LIMIT);
        for thread in threads {
            assert_eq!(told.recv_timeout(LIMIT), Ok(Err(CallError::Cancelled)));
            thread.join().expect("no panic").expect("the test listens");
        }
        assert!(group.is_empty());
    });
}

/// Scenario 28: a task that follows is dropped with its runtime; its handle still gets the value of the
/// flight, also when nobody else is left who would have been counted.
#[test]
fn s28_handle_whose_following_task_is_dropped_gets_the_value() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for is_polled in [false, true] {
            let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
            let (task, handle) = group.call(&1).task(async { 0 }).expect("no limit");
            let mut task = Polled::new(task);
            if is_polled {
                assert!(task.poll().is_pending());
            }
            let mut handle = Polled::pending(handle);
            drop(task);
            assert!(handle.poll().is_pending(), "the flight goes on");
            lead.land(3);
            assert_eq!(handle.woken_value(), Ok(3));
            assert!(group.is_empty());
        }
    });
}

/// Scenario 28: the same with every other end: one that took over lands or panics alone, a forgotten
/// flight lands, and the flight is given up.
#[test]
fn s28_handle_whose_following_task_is_dropped_is_told_of_every_end() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let follow = || {
            let (task, handle) = group.call(&1).task(async { 0 }).expect("no limit");
            drop(task);
            Polled::pending(handle)
        };

        // The other follower takes over, and has no followers that are counted.
        let leader = Polled::pending(group.run(&1, pending()));
        let mut handle = follow();
        let mut able = Polled::pending(group.run(&1, async { 4 }));
        drop(leader);
        assert_eq!(able.woken_value(), 4);
        assert_eq!(handle.woken_value(), Ok(4));

        let (panic, told) = oneshot::channel::<()>();
        let mut leader = Polled::pending(group.run(&1, async {
            told.await.expect("sent");
            panic!("on purpose")
        }));
        let mut handle = follow();
        panic.send(()).expect("it waits");
        assert_eq!(panic_text(|| leader.poll()), "on purpose");
        match handle.woken_value() {
            Err(CallError::Panicked(panicked)) => assert_eq!(panicked.message(), "on purpose"),
            other => panic!("{other:?}"),
        }

        let (land, value) = oneshot::channel();
        let mut leader = Polled::pending(group.run(&1, async { value.await.expect("sent") }));
        let mut handle = follow();
        assert!(group.forget(&1));
        land.send(5).expect("it waits");
        assert_eq!(leader.woken_value(), 5);
        assert_eq!(handle.woken_value(), Ok(5));

        let leader = Polled::pending(group.run(&1, pending()));
        let mut handle = follow();
        drop(leader);
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert!(group.is_empty());
    });
}

/// A task is for any executor: dropped, polled or not, it gives up what it has.
#[test]
fn g04_dropped_task_gives_up_what_it_has() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        for is_polled in [false, true] {
            let executions = Executions::default();
            let (task, handle) = group.call(&1).task(executions.endless()).expect("no limit");
            assert!(group.is_in_flight(&1));
            let mut task = Polled::new(task);
            if is_polled {
                assert!(task.poll().is_pending());
            }
            drop(task);
            assert_eq!(executions.running(), 0);
            assert!(group.is_empty());
            assert_eq!(handle.wait(), Err(CallError::Cancelled));

            let leads = Polled::pending(group.run(&1, pending()));
            let (task, handle) = group.call(&1).task(executions.endless()).expect("no limit");
            let mut task = Polled::new(task);
            if is_polled {
                assert!(task.poll().is_pending());
            }
            drop(leads);
            assert_eq!(group.len(), 1, "the task is left, and can");
            drop(task);
            assert!(group.is_empty());
            assert_eq!(handle.wait(), Err(CallError::Cancelled));
        }
        // A task outlives the group's handles and its own.
        let (task, handle) = group.call(&1).task(async { 9 }).expect("no limit");
        drop(group);
        let clone = handle.clone();
        drop(handle);
        futures_lite::future::block_on(task);
        assert_eq!(clone.wait(), Ok(9));
    });
}

/// Nothing in a task asks for `Send`: it stays on one thread if its work does.
#[test]
fn s42_task_of_local_work_stays_on_its_thread() {
    limited(|| {
        let group: Group<u64, std::rc::Rc<u32>> = Group::new();
        let value = std::rc::Rc::new(5);
        let work = {
            let value = std::rc::Rc::clone(&value);
            async move { value }
        };
        let (task, handle) = group.call(&1).task(work).expect("no limit");
        let executor = smol::LocalExecutor::new();
        executor.spawn(task).detach();
        let answer = smol::block_on(executor.run(handle)).expect("a value");
        assert!(std::rc::Rc::ptr_eq(&answer, &value));
    });
}

/// Endless work that is dropped with the last that wants it.
fn spawn_abortable(group: &Group<u64, u32>, executions: &Executions) -> Handle<u32> {
    let call = group.call(&1).abort_when_abandoned();
    call.spawn(executions.endless()).expect("no limit")
}

/// How many works run when the tasks have had their turn.
async fn running_at_rest(executions: &Executions) -> usize {
    let_tasks_run().await;
    executions.running()
}

/// The work of an abortable call is dropped when its last handle is, begun or not; clones and followers
/// keep it, and it goes with the last of them.
#[test]
fn g04_abandoned_work_is_aborted() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let spawn = || spawn_abortable(&group, &executions);
        drop(spawn());
        let_tasks_run().await;
        assert_eq!(executions.started(), 0, "nobody wanted it when it was to begin");
        assert!(group.is_empty());

        let handle = spawn();
        let clone = handle.clone();
        let_tasks_run().await;
        drop(handle);
        assert_eq!(running_at_rest(&executions).await, 1);
        let follower = Polled::pending(group.run(&1, async { 0 }));
        drop(clone);
        assert_eq!(running_at_rest(&executions).await, 1);
        let joined = group.join(&1).expect("in flight");
        drop(follower);
        assert_eq!(running_at_rest(&executions).await, 1);
        drop(joined);
        let_tasks_run().await;
        assert_eq!((executions.started(), executions.running()), (1, 0));
        assert!(group.is_empty());
    });
}

/// The same for a task that joined: its place goes with its handles; and once it has taken over, its
/// work goes with the last that wants it.
#[test]
fn g04_abandoned_task_that_joined_is_aborted() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let spawn = || spawn_abortable(&group, &executions);
        let leader = Polled::pending(group.run(&1, pending()));
        drop(spawn());
        let_tasks_run().await;
        drop(leader);
        assert!(group.is_empty(), "nobody is left who could take over");

        let leader = Polled::pending(group.run(&1, pending()));
        let handle = spawn();
        drop(leader);
        assert_eq!(running_at_rest(&executions).await, 1);
        let mut waits = Polled::pending(handle);
        let follower = group.join(&1).expect("in flight");
        assert!(waits.poll().is_pending());
        drop(waits);
        assert_eq!(running_at_rest(&executions).await, 1);
        drop(follower);
        let_tasks_run().await;
        assert_eq!((executions.started(), executions.running()), (1, 0));
        assert!(group.is_empty());
    });
}

/// A caller that comes after the last handle went, but before the task looked, keeps the work alive: the task
/// goes on, and the newcomer follows whether it has work or not.
#[test]
fn g07_newcomer_keeps_work_that_was_to_be_aborted() {
    type Comes = fn(&Group<u64, u32>) -> Pin<Box<dyn Future<Output = Result<u32, CallError>> + '_>>;
    const NEWCOMERS: [Comes; 3] = [
        |group| Box::pin(group.join(&1).expect("in flight")),
        |group| match group.lead_or_join(&1) {
            Entry::Join(handle) => Box::pin(handle),
            Entry::Lead(_) => panic!("it is in flight"),
        },
        |group| {
            Box::pin(async {
                let call = group.call(&1).on_cancel(OnCancel::Fail);
                Ok(call.run(async { unreachable!("it follows") }).await?.value)
            })
        },
    ];

    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        for (comes, begins) in NEWCOMERS.iter().flat_map(|comes| [(comes, false), (comes, true)]) {
            let (land, value) = oneshot::channel();
            let call = group.call(&1).abort_when_abandoned();
            let handle = call.spawn(waits_for(&executions, value)).expect("no limit");
            if begins {
                let_tasks_run().await;
            }
            drop(handle);
            let mut newcomer = Polled::pending(comes(&group));
            let_tasks_run().await;
            land.send(6).expect("it waits");
            let_tasks_run().await;
            assert_eq!(newcomer.woken_value(), Ok(6));
        }
        assert_eq!(executions.started(), 2 * NEWCOMERS.len());
        assert!(group.is_empty());
    });
}

/// G1: who comes while the work is being dropped waits for that with its own work, also if it asked to
/// be told; who has none finds no flight, and a lead is one of a new flight.
#[test]
fn g01_newcomers_to_a_dying_flight_take_over_and_are_not_told() {
    limited(|| {
        for on_cancel in [OnCancel::TakeOver, OnCancel::Fail] {
            let group: Group<RingingKey, u32> = Group::new();
            let bell = Doorbell::new();
            let executions = Executions::default();
            let (tell, told) = mpsc::channel();
            let (key, silent) = (bell.key(1), RingingKey::silent(1));
            let last = {
                let (group, executions) = (group.clone(), executions.clone());
                move || {
                    assert!(group.join(&RingingKey::silent(1)).is_none());
                    let comes = thread::spawn({
                        let (group, executions) = (group.clone(), executions.clone());
                        move || {
                            let call = group.call(&key).on_cancel(on_cancel);
                            call.run_blocking(|| {
                                let _running = executions.begin();
                                2
                            })
                        }
                    });
                    bell.wait_for(1, &group, 1);
                    assert_eq!(executions.running(), 1, "it waits for this destructor");
                    tell.send(comes).expect("the test listens");
                }
            };
            let running = executions.begin();
            let work = async move {
                let _parts = (OnDrop::new(last), running);
                pending().await
            };
            let call = group.call(&silent).abort_when_abandoned();
            let (task, handle) = call.task(work).expect("no limit");
            let mut task = Polled::pending(task);
            drop(handle);
            assert!(task.is_woken());
            assert_eq!(task.poll(), Poll::Ready(()));
            let outcome = told.try_recv().expect("it came").join().expect("no panic");
            assert_eq!(outcome.expect("it took over").value, 2);
            assert_eq!((executions.started(), executions.peak()), (2, 1));
            assert!(group.is_empty());
        }
    });
}

/// G7: a spawn with `OnCancel::Fail` that came to a dying flight outlives that, and is told when the leader
/// after it is cancelled, though its task could have led.
#[test]
fn g07_spawn_that_came_to_a_dying_flight_is_told_of_the_next_cancellation() {
    limited(|| {
        let group: &'static Group<u64, u32> = Box::leak(Box::default());
        let executions = Executions::default();
        let (tell, told) = mpsc::channel();
        let come = {
            let executions = executions.clone();
            move || {
                // Tasks, because this is on the stack of the work, which may not wait for itself.
                let able = [(); 2].map(|()| {
                    let (task, _) = group.call(&1).task(executions.endless()).expect("no limit");
                    Polled::pending(task)
                });
                let call = group.call(&1).on_cancel(OnCancel::Fail);
                let (task, handle) = call.task(pending()).expect("no limit");
                tell.send((able, Polled::pending(task), handle)).expect("the test listens");
            }
        };
        let work = async move {
            let _last = OnDrop::new(come);
            pending().await
        };
        let (task, handle) = group.call(&1).abort_when_abandoned().task(work).expect("no limit");
        let mut dying = Polled::pending(task);
        drop(handle);
        assert_eq!(dying.poll(), Poll::Ready(()));

        let (mut able, mut task, handle) = told.try_recv().expect("they came");
        let mut handle = Polled::new(handle);
        assert!(handle.poll().is_pending());
        // One of the two leads, if the task does not ask for it.
        while executions.started() == 0 {
            for caller in able.iter_mut().filter(|caller| caller.is_woken()) {
                assert!(caller.poll().is_pending());
            }
        }
        assert!(!handle.is_woken(), "it is not told of the abort");
        // The leader goes, with or after the other.
        for caller in able {
            drop(caller);
            if executions.running() == 0 {
                break;
            }
        }
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert_eq!(task.poll(), Poll::Ready(()));
        drop(task);
        assert!(group.is_empty());
    });
}

/// `lead_or_join` does not wait for a flight that is dying: it forgets it and leads a new one.
#[test]
fn g05_lead_or_join_forgets_a_dying_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (tell, told) = mpsc::channel();
        let last = {
            let group = group.clone();
            move || tell.send(group.lead_or_join(&1)).expect("the test listens")
        };
        let work = async move {
            let _last = OnDrop::new(last);
            pending().await
        };
        let call = group.call(&1).abort_when_abandoned();
        let (task, handle) = call.task(work).expect("no limit");
        let mut task = Polled::pending(task);
        drop(handle);
        assert_eq!(task.poll(), Poll::Ready(()));
        let Entry::Lead(lead) = told.try_recv().expect("it came") else {
            panic!("nothing can come of what it joined")
        };
        let handle = group.join(&1).expect("in flight");
        assert_eq!(lead.land(3), 1);
        assert_eq!(handle.wait(), Ok(3));
        assert!(group.is_empty());
    });
}

/// G7: while others spawn and lose interest, no caller ever gets `Cancelled` because of it, with work,
/// without, or asking to be told; and one execution runs at a time.
#[test]
fn g07_aborting_cancels_no_newcomer() {
    on_tokio(|| async {
        const ROUNDS: usize = 2_000;
        let mut crowd = Crowd::default();
        crowd.tasks((0..3).map(Dice::new), |mut dice, group, executions| async move {
            for i in 0..ROUNDS {
                let call = group.call(&1).abort_when_abandoned();
                let mut handle = call.spawn(executions.yielding(i)).expect("no limit");
                for _ in 0..dice.below(4) {
                    if let Some(told) = futures_lite::future::poll_once(&mut handle).await {
                        told.expect("its handle was there");
                        break;
                    }
                    yield_now().await;
                }
            }
        });
        crowd.threads([false, true], |blocking, group, executions| {
            for i in 0..ROUNDS {
                if let Some(handle) = group.join(&1) {
                    handle.wait().expect("it kept the flight alive");
                }
                let call = group.call(&1).on_cancel(OnCancel::Fail);
                let answer = match blocking {
                    true => call.run_blocking(|| {
                        let _running = executions.begin();
                        i
                    }),
                    false => futures_lite::future::block_on(call.run(executions.yielding(i))),
                };
                assert!(answer.is_ok(), "{answer:?}");
            }
        });
        let (group, executions) = crowd.come_back().await;
        // Tasks whose handles are gone end by themselves.
        while !group.is_empty() {
            yield_now().await;
        }
        assert_eq!((executions.running(), executions.peak()), (0, 1));
    });
}

/// `fresh` and `max_age` go with `spawn`: it waits for what runs, or replaces it.
#[test]
fn g03_fresh_spawn_begins_after_what_runs() {
    on_paused_clock(|| async {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, value) = oneshot::channel();
        let old = group.spawn(1, waits_for(&executions, value));
        let fresh = group.call(&1).fresh().spawn(executions.yielding(2)).expect("no limit");
        let joins = group.call(&1).fresh().spawn(executions.yielding(3)).expect("no limit");
        let_tasks_run().await;
        assert_eq!((executions.started(), group.len()), (1, 1));
        land.send(1).expect("it waits");
        assert_eq!((old.await, fresh.await, joins.await), (Ok(1), Ok(2), Ok(2)));
        assert_eq!((executions.started(), executions.peak()), (2, 1));

        let stuck = group.spawn(1, pending());
        let call = group.call(&1).max_age(Duration::ZERO);
        assert_eq!(call.spawn(executions.yielding(4)).expect("no limit").await, Ok(4));
        drop(stuck);
        assert!(group.is_empty());

        // One that nobody wants any more while it waits is not begun, and leaves nothing.
        let (land, value) = oneshot::channel();
        let old = group.spawn(1, waits_for(&executions, value));
        let call = group.call(&1).fresh().abort_when_abandoned();
        drop(call.spawn(executions.endless()).expect("no limit"));
        let_tasks_run().await;
        land.send(5).expect("it waits");
        assert_eq!(old.await, Ok(5));
        let_tasks_run().await;
        assert_eq!((executions.started(), executions.running()), (4, 0));
        assert!(group.is_empty());
    });
}

/// Scenario 8, G1, G4, G6: every kind of call on one key, from tasks and threads, with callers that
/// give up, abort, panic and abandon at random: one execution at a time, everybody comes back, and
/// nothing is left.
#[test]
fn s08_mix_of_all_calls_runs_one_work_at_a_time() {
    on_tokio(|| async {
        const ROUNDS: usize = 1_500;
        let panics = Arc::new(AtomicUsize::new(0));
        let mut crowd = Crowd::default();
        crowd.tasks((0..6).map(Dice::new), |mut dice, group, executions| {
            let panics = Arc::clone(&panics);
            async move {
                for i in 0..ROUNDS {
                    let polls = if dice.below(2) == 0 { dice.below(4) } else { usize::MAX };
                    let round = one_async_call(&group, &executions, &mut dice, i);
                    let round = futures_lite::FutureExt::catch_unwind(AssertUnwindSafe(
                        give_up_after(polls, round),
                    ));
                    if let Err(payload) = round.await {
                        assert_eq!(text(&*payload), "on purpose");
                        panics.fetch_add(1, SeqCst);
                    }
                }
            }
        });
        crowd.threads((6..8).map(Dice::new), |mut dice, group, executions| {
            for i in 0..ROUNDS {
                let round = || one_blocking_call(&group, &executions, &mut dice, i);
                if let Err(payload) = catch_unwind(AssertUnwindSafe(round)) {
                    assert_eq!(text(&*payload), "on purpose");
                }
            }
        });
        let (group, executions) = crowd.come_back().await;
        // What was spawned outlives its callers.
        while !group.is_empty() {
            yield_now().await;
        }
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(panics.load(SeqCst) > 0, "no work panicked");
    });
}

/// Polls a future so often at most, and drops it.
async fn give_up_after(polls: usize, future: impl Future<Output = ()>) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if futures_lite::future::poll_once(&mut future).await.is_some() {
            return;
        }
        yield_now().await;
    }
}

/// A work that now and then panics.
fn work(
    executions: &Executions,
    dice: &mut Dice,
    value: usize,
) -> impl Future<Output = usize> + Send + use<> {
    let (yielding, panics) = (executions.yielding(value), dice.below(20) == 0);
    async move {
        let value = yielding.await;
        if panics {
            // As `panic!`, without the report on standard error.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        value
    }
}

async fn one_async_call(
    group: &Group<u64, usize>,
    executions: &Executions,
    dice: &mut Dice,
    i: usize,
) {
    let work = work(executions, dice, i);
    match dice.below(9) {
        0 => drop(group.run(&1, work).await),
        1 => drop(group.call(&1).on_cancel(OnCancel::Fail).run(work).await),
        2 | 3 => drop(group.call(&1).relay(work).await),
        4 => drop(group.spawn(1, work).await),
        5 => drop(group.call(&1).abort_when_abandoned().spawn(work).expect("no limit").await),
        6 => {
            let (task, handle) = group.call(&1).task(work).expect("no limit");
            drop(futures_lite::future::zip(task, handle).await);
        }
        7 => {
            if let Some(handle) = group.join(&1) {
                drop(handle.await);
            }
        }
        _ => {
            let mut work = Some(work);
            let found = group.run_many([1, 2], |keys| {
                let one = if keys.contains(&1) { work.take() } else { None };
                async move {
                    let mut values = Vec::new();
                    if let Some(one) = one {
                        values.push((1, one.await));
                    }
                    values.push((2, 0));
                    values
                }
            });
            drop(found.await);
        }
    }
}

fn one_blocking_call(
    group: &Group<u64, usize>,
    executions: &Executions,
    dice: &mut Dice,
    i: usize,
) {
    let work = || {
        let _running = executions.begin();
        common::spin();
        i
    };
    match dice.below(5) {
        0 | 1 => drop(group.run_blocking(&1, work)),
        2 => drop(group.call(&1).timeout(Duration::from_micros(50)).run_blocking(work)),
        3 => {
            if let Some(handle) = group.join(&1) {
                drop(handle.wait_timeout(Duration::from_micros(50)));
            }
        }
        _ => match group.lead_or_join(&1) {
            Entry::Lead(lead) if dice.below(2) == 0 => drop(lead),
            Entry::Lead(lead) => {
                let running = executions.begin();
                common::spin();
                drop(running);
                lead.land(i);
            }
            Entry::Join(handle) => drop(handle.wait()),
        },
    }
}
