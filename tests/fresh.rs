//! `fresh`: an execution that begins after the call, one running and one pending at most.

#![cfg(not(loom))]

mod common;

use std::{
    future::pending,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::Duration,
};

use common::{
    Dice, Doorbell, Executions, LIMIT, Polled, RingingKey, limited, on_tokio, panic_text, settle,
};
use futures_lite::future::{block_on, poll_once, yield_now};
use shardflight::{CallError, Entry, Group, OnCancel, Role};
use tokio::sync::oneshot;

/// A call that leads until it is sent a value.
fn leads<'a>(
    group: &'a Group<u64, u32>,
    executions: &Executions,
) -> (oneshot::Sender<u32>, Polled<'a, u32>) {
    let (land, value) = oneshot::channel();
    let running = executions.begin();
    let leader = Polled::pending(group.run(&1, async move {
        let _running = running;
        value.await.expect("sent")
    }));
    (land, leader)
}

/// G3: a fresh caller does not join what began before it, but begins when that has ended; those that
/// are not fresh go on joining what runs.
#[test]
fn g03_fresh_call_begins_after_what_runs() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let mut fresh = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
        let mut joins = Polled::pending(group.run(&1, async { unreachable!("it joins the old") }));
        let mut second =
            Polled::pending(group.call(&1).fresh().run(async { unreachable!("it follows") }));
        assert!(fresh.poll().is_pending() && second.poll().is_pending());
        assert_eq!(executions.started(), 1);
        land.send(1).expect("it waits");
        assert_eq!((old.woken_value(), joins.woken_value()), (1, 1));
        assert!(group.is_in_flight(&1), "the pending one has taken the place");

        assert!(fresh.is_woken());
        assert!(fresh.poll().is_pending());
        // Now it runs, and is joined by those that are not fresh.
        let mut joins = Polled::pending(group.run(&1, async { unreachable!("it joins the new") }));
        let outcome = fresh.woken_value().expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 2 }));
        assert_eq!(second.woken_value().expect("a value").role, Role::Joined);
        assert_eq!(joins.woken_value(), 2);
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// Where there is nothing to wait for a fresh call is a call like any other.
#[test]
fn g03_fresh_call_of_a_free_key_begins_at_once() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut call = Polled::new(group.call(&1).fresh().run(async { 1 }));
        let Poll::Ready(Ok(outcome)) = call.poll() else { panic!("it was to be ready") };
        assert_eq!(outcome.role, Role::Led { followers: 0 });
        let outcome = group.call(&1).fresh().run_blocking(|| 2).expect("a value");
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 0 }));
        assert!(group.is_empty());
    });
}

/// However many fresh callers come, in however many waves: one execution runs and one is pending.
#[test]
fn g03_one_runs_and_one_is_pending() {
    limited(|| {
        let group: Group<u64, usize> = Group::new();
        let executions = Executions::default();
        let mut callers: Vec<_> = (0..10)
            .map(|i| Some(Polled::pending(group.call(&1).fresh().run(executions.yielding(i)))))
            .collect();
        assert_eq!((executions.started(), group.len()), (1, 1));
        for wave in 1..5 {
            callers.extend((0..50).map(|i| {
                let work = executions.yielding(100 * wave + i);
                Some(Polled::pending(group.call(&1).fresh().run(work)))
            }));
            // The one that runs ends, and the pending one begins.
            let running = executions.started();
            for place in &mut callers {
                if let Some(caller) = place.as_mut().filter(|caller| caller.is_woken())
                    && caller.poll().is_ready()
                {
                    *place = None;
                }
            }
            assert!(executions.started() <= running + 1, "two began");
            assert!(group.len() <= 1, "keys are counted, not flights");
        }
        let rest = settle(&mut callers);
        assert!(callers.iter().all(Option::is_none), "{} came back last", rest.len());
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(executions.started() <= 10, "{} executions", executions.started());
        assert!(group.is_empty());
    });
}

/// Whatever ends the one that runs, the pending one begins: a panic, a cancellation, and the same after
/// one that took over.
#[test]
fn g06_pending_flight_begins_whatever_ends_the_one_before() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let fresh = || Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));

        let mut panics = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic!("on purpose")
        }));
        let mut next = fresh();
        assert_eq!(panic_text(|| panics.poll()), "on purpose");
        assert!(next.is_woken() && next.poll().is_pending());
        assert_eq!(next.woken_value().expect("a value").value, 2);

        let cancelled = Polled::pending(group.run(&1, pending()));
        let mut next = fresh();
        drop(cancelled);
        assert!(next.is_woken() && next.poll().is_pending());
        assert_eq!(next.woken_value().expect("a value").value, 2);

        // The last follower of a leaderless flight ends it.
        let cancelled = Polled::pending(group.run(&1, pending()));
        let follower = Polled::pending(group.run(&1, async { 0 }));
        let mut next = fresh();
        drop(cancelled);
        assert!(!next.is_woken(), "somebody is about to take over");
        drop(follower);
        assert!(next.is_woken() && next.poll().is_pending());
        assert_eq!(next.woken_value().expect("a value").value, 2);

        // One takes over: it is still the flight before.
        let cancelled = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, executions.yielding(1)));
        let mut next = fresh();
        drop(cancelled);
        assert!(follower.poll().is_pending());
        assert!(next.poll().is_pending());
        assert_eq!(follower.woken_value(), 1);
        assert!(next.is_woken() && next.poll().is_pending());
        assert_eq!(next.woken_value().expect("a value").value, 2);

        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        let mut next = fresh();
        assert_eq!(lead.land(0), 0);
        assert!(next.is_woken() && next.poll().is_pending());
        assert_eq!(next.woken_value().expect("a value").value, 2);
        assert_eq!(executions.peak(), 1);
        assert!(group.is_empty());
    });
}

/// A fresh caller that finds a flight that nobody leads, with nothing begun, leads it: what it runs
/// begins after its call. If work has been begun there, it waits for that to end.
#[test]
fn g03_fresh_call_leads_a_leaderless_flight_unless_its_work_has_begun() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let cancelled = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!("too late") }));
        drop(cancelled);
        let mut fresh = Polled::new(group.call(&1).fresh().run(async { 2 }));
        let Poll::Ready(Ok(outcome)) = fresh.poll() else { panic!("nobody is before it") };
        assert_eq!((outcome.value, outcome.role), (2, Role::Led { followers: 1 }));
        assert_eq!(follower.woken_value(), 2);

        let (land, value) = oneshot::channel();
        let work = async { value.await.expect("sent") };
        let cancelled = Polled::pending(group.call(&1).relay(work));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!("relayed") }));
        drop(cancelled);
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async { 4 }));
        land.send(3).expect("it waits");
        assert_eq!(follower.woken_value(), 3);
        assert_eq!(fresh.woken_value().expect("a value").value, 4);
        assert!(group.is_empty());
    });
}

/// G7, G4: a pending flight is taken over as any other, before it begins; and if all go, nothing is
/// left of it while the one before goes on.
#[test]
fn g07_pending_flight_is_taken_over() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let first = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
        let told = group.call(&1).fresh().on_cancel(OnCancel::Fail);
        let mut told = Polled::pending(told.run(executions.yielding(0)));
        let mut second = Polled::pending(group.call(&1).fresh().run(executions.yielding(3)));
        drop(first);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert!(second.poll().is_pending());
        assert_eq!(executions.started(), 1, "the old one still runs");
        // It is the leader now: another joins it.
        let mut third = Polled::pending(group.call(&1).fresh().run(executions.yielding(4)));
        land.send(1).expect("it waits");
        assert_eq!(old.woken_value(), 1);
        assert!(second.is_woken() && second.poll().is_pending());
        assert_eq!(second.woken_value().expect("a value").value, 3);
        assert_eq!(third.woken_value().expect("a value").value, 3);
        assert_eq!((executions.started(), executions.peak()), (2, 1));

        for leader_goes_first in [false, true] {
            let (land, mut old) = leads(&group, &executions);
            let one = Polled::pending(group.call(&1).fresh().run(executions.yielding(0)));
            let other = Polled::pending(group.call(&1).fresh().run(executions.yielding(0)));
            match leader_goes_first {
                true => drop((one, other)),
                false => drop((other, one)),
            }
            assert_eq!(group.len(), 1);
            let mut joins = Polled::pending(group.run(&1, async { 0 }));
            land.send(5).expect("it waits");
            assert_eq!((old.woken_value(), joins.woken_value()), (5, 5));
            assert!(group.is_empty());
        }
    });
}

/// G7: a newcomer to a pending flight that nobody leads leads it, and waits, too.
#[test]
fn g07_newcomer_leads_a_leaderless_pending_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let first = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
        let mut sleeps = Polled::pending(group.call(&1).fresh().run(executions.yielding(3)));
        drop(first);
        let mut newcomer = Polled::pending(group.call(&1).fresh().run(executions.yielding(4)));
        assert!(sleeps.poll().is_pending());
        assert_eq!(executions.started(), 1);
        land.send(1).expect("it waits");
        assert_eq!(old.woken_value(), 1);
        assert!(newcomer.is_woken() && newcomer.poll().is_pending());
        assert_eq!(newcomer.woken_value().expect("a value").value, 4);
        assert_eq!(sleeps.woken_value().expect("a value").value, 4);
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// G5: `forget` of the one that runs lets the pending one begin at once; each lands for its own.
#[test]
fn g05_forget_lets_the_pending_flight_begin() {
    limited(|| {
        for is_shared in [false, true] {
            let group: Group<u64, u32> = Group::new();
            let executions = Executions::default();
            let (land, mut old) = leads(&group, &executions);
            let follower =
                is_shared.then(|| Polled::pending(group.run(&1, async { unreachable!("joined") })));
            let mut fresh = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
            assert!(group.forget(&1));
            assert_eq!(group.len(), 1);
            assert!(fresh.is_woken() && fresh.poll().is_pending());
            assert_eq!(executions.running(), 2, "as `forget` says");
            assert_eq!(fresh.woken_value().expect("a value").value, 2);
            assert!(group.is_empty());
            land.send(1).expect("it waits");
            assert_eq!(old.woken_value(), 1);
            if let Some(mut follower) = follower {
                assert_eq!(follower.woken_value(), 1);
            }
            assert!(group.is_empty());
        }
    });
}

/// `forget` again forgets the pending one, which runs now; `forget_unshared` makes way, too, and
/// `max_age` for as many as are too old.
#[test]
fn g05_each_forget_takes_one_flight() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let old = Polled::pending(group.run(&1, pending()));
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async { 2 }));
        assert!(group.forget(&1) && group.forget(&1));
        assert!(!group.forget(&1));
        assert!(group.is_empty());
        assert_eq!(fresh.woken_value().expect("a value").value, 2);
        drop(old);

        let old = Polled::pending(group.run(&1, pending()));
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async { 3 }));
        assert!(group.forget_unshared(&1), "a pending flight is no follower");
        assert_eq!(fresh.woken_value().expect("a value").value, 3);
        drop(old);

        let old = Polled::pending(group.run(&1, pending()));
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async { 4 }));
        let replaces = group.call(&1).max_age(Duration::ZERO).max_followers(0);
        let mut replaces = Polled::new(replaces.run(async { 5 }));
        // It replaces what ran, and what was pending in its place: that is too old, too.
        assert!(matches!(replaces.poll(), Poll::Ready(Ok(outcome)) if outcome.value == 5));
        assert_eq!(fresh.woken_value().expect("a value").value, 4);
        drop(old);
        assert!(group.is_empty());
    });
}

/// `len`, `join` and `is_in_flight` see keys: a pending flight is none of its own, and cannot be joined
/// by those that are not fresh.
#[test]
fn g04_pending_flights_are_not_counted() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let mut fresh = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
        assert_eq!(group.len(), 1);
        let handle = group.join(&1).expect("in flight");
        let Entry::Join(entry) = group.lead_or_join(&1) else { panic!("it is led") };
        land.send(1).expect("it waits");
        assert_eq!(old.woken_value(), 1);
        assert_eq!((handle.wait(), entry.wait()), (Ok(1), Ok(1)));
        assert_eq!(group.len(), 1);
        let handle = group.join(&1).expect("the pending one has its place");
        assert!(fresh.poll().is_pending());
        assert_eq!(fresh.woken_value().expect("a value").role, Role::Led { followers: 1 });
        assert_eq!(handle.wait(), Ok(2));
        assert!(group.is_empty());
    });
}

/// `max_followers` counts those of the pending flight; its leader is none of them.
#[test]
fn s41_followers_of_the_pending_flight_are_limited() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let old = Polled::pending(group.run(&1, pending()));
        let crowd = [(); 3].map(|()| Polled::pending(group.run(&1, pending())));
        let call = |n| group.call(&1).fresh().max_followers(n);
        let leads = Polled::pending(call(0).run(async { 2 }));
        assert_eq!(Polled::new(call(0).run(async { 0 })).poll(), full());
        let follows = Polled::pending(call(1).run(async { 3 }));
        assert_eq!(Polled::new(call(1).run(async { 0 })).poll(), full());
        drop(follows);
        let mut follows = Polled::pending(call(1).run(async { 4 }));
        drop(leads);
        // Nobody leads: the place is the lead's.
        let mut leads = Polled::pending(call(0).run(async { 5 }));
        drop((crowd, old));
        assert_eq!(leads.woken_value().expect("a value").role, Role::Led { followers: 1 });
        assert_eq!(follows.woken_value().expect("a value").value, 5);
        assert!(group.is_empty());
    });
}

fn full<T>() -> Poll<Result<T, CallError>> {
    Poll::Ready(Err(CallError::TooManyFollowers))
}

/// Threads wait for the flight before their own; under a timeout no longer than that, as leaders of
/// the pending one and as its followers, and nothing is left of them.
#[test]
fn fresh_threads_wait_and_give_up_in_time() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let timed = |timeout| {
            let call = group.call(&1).fresh().timeout(timeout);
            call.run_blocking(|| unreachable!("the old one runs"))
        };
        for timeout in [Duration::ZERO, Duration::from_millis(1)] {
            assert_eq!(timed(timeout), Err(CallError::TimedOut), "it would have led");
        }
        let mut leads = Polled::pending(group.call(&1).fresh().run(executions.yielding(2)));
        assert_eq!(timed(Duration::from_millis(1)), Err(CallError::TimedOut), "it followed");
        land.send(1).expect("it waits");
        assert_eq!(old.woken_value(), 1);
        assert!(leads.poll().is_pending());
        assert_eq!(leads.woken_value().expect("a value").role, Role::Led { followers: 0 });
        // Its own work is not limited.
        let own = group.call(&1).fresh().timeout(Duration::ZERO).run_blocking(|| 3);
        assert_eq!(own.expect("a value").value, 3);
        assert!(group.is_empty());
    });
}

/// G6: threads, too, begin when what runs has ended.
#[test]
fn g06_fresh_threads_begin_when_what_runs_has_ended() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let executions = Executions::default();
        let bell = Doorbell::new();
        let (silent, keys) = (RingingKey::silent(1), [(); 3].map(|()| bell.key(1)));
        let (land, value) = oneshot::channel();
        let running = executions.begin();
        let mut old = Polled::pending(group.run(&silent, async {
            let _running = running;
            value.await.expect("sent")
        }));
        thread::scope(|scope| {
            let threads = keys.each_ref().map(|key| {
                scope.spawn(|| {
                    let call = group.call(key).fresh().timeout(LIMIT);
                    call.run_blocking(|| {
                        let _running = executions.begin();
                        2
                    })
                })
            });
            bell.wait_for(keys.len(), &group, 1);
            land.send(1).expect("it waits");
            assert_eq!(old.woken_value(), 1);
            let mut roles: Vec<_> = threads
                .into_iter()
                .map(|thread| thread.join().expect("no panic").expect("a value"))
                .map(|outcome| (outcome.value, outcome.role == Role::Joined))
                .collect();
            roles.sort_unstable();
            assert_eq!(roles, [(2, false), (2, true), (2, true)]);
        });
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: a fresh call from inside the own work would wait for its end: it is reported, with
/// a pending flight and without.
#[test]
fn g13_fresh_call_inside_its_own_work_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let reentrant = || Err(CallError::Reentrant);
        let mut leader = Polled::pending(group.run(&1, async {
            for _ in 0..2 {
                assert_eq!(group.call(&1).fresh().run(async { 0 }).await, reentrant());
                assert_eq!(group.call(&1).fresh().relay(async { 0 }).await, reentrant());
                assert_eq!(group.call(&1).fresh().run_blocking(|| 0), reentrant());
                group.run_blocking(&2, || {
                    assert_eq!(group.call(&1).fresh().run_blocking(|| 0), reentrant());
                    0
                });
                yield_now().await;
            }
            1
        }));
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async {
            assert_eq!(group.call(&1).fresh().run(async { 0 }).await, reentrant());
            2
        }));
        assert!(leader.poll().is_pending());
        assert_eq!(leader.woken_value(), 1);
        assert_eq!(fresh.woken_value().expect("a value").value, 2);
        assert!(group.is_empty());
    });
}

/// G13: a task that is registered from inside the work does not wait itself: it may be fresh.
#[test]
fn g13_fresh_task_inside_the_work_is_legal() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut inner = None;
        let outer = group.run_blocking(&1, || {
            inner = Some(group.call(&1).fresh().task(async { 2 }).expect("no limit"));
            1
        });
        let (task, handle) = inner.expect("made");
        assert_eq!(group.len(), 1);
        block_on(task);
        assert_eq!((outer, handle.wait()), (1, Ok(2)));
        assert!(group.is_empty());
    });
}

/// Scenario 38: more than 65,535 fresh callers share the pending flight.
#[test]
fn s38_more_than_65_535_fresh_callers() {
    limited(|| {
        const CALLERS: usize = 70_000;
        let group: Group<u64, u32> = Group::new();
        let executions = Executions::default();
        let (land, mut old) = leads(&group, &executions);
        let mut callers: Vec<_> = (0..CALLERS)
            .map(|_| Some(Polled::pending(group.call(&1).fresh().run(executions.yielding(2)))))
            .collect();
        land.send(1).expect("it waits");
        assert_eq!(old.woken_value(), 1);
        let values = settle(&mut callers);
        assert_eq!(values.len(), CALLERS);
        let led = |role| role == Role::Led { followers: CALLERS - 1 };
        let outcomes = values.into_iter().map(|(_, answer)| answer.expect("a value"));
        assert_eq!(outcomes.filter(|outcome| led(outcome.role)).count(), 1);
        assert_eq!((executions.started(), executions.peak()), (2, 1));
        assert!(group.is_empty());
    });
}

/// What is read by a work, and written by callers.
#[derive(Debug, Default)]
struct Store {
    version: AtomicU64,
    shared: AtomicUsize,
}

impl Store {
    fn write(&self) -> u64 {
        self.version.fetch_add(1, SeqCst) + 1
    }

    fn read(&self) -> u64 {
        self.version.load(SeqCst)
    }

    /// Read-your-writes.
    fn check(&self, written: u64, read: u64, role: Role) {
        assert!(read >= written, "wrote {written}, and read {read}");
        if role == Role::Joined {
            self.shared.fetch_add(1, SeqCst);
        }
    }
}

/// Scenarios 2 and 32, G1, G3: callers write and then ask afresh, from tasks and threads, with others
/// that are not fresh, that relay, and that give up at any time: everybody sees what it wrote, and one
/// execution runs at a time.
#[test]
fn g03_fresh_callers_read_what_they_wrote() {
    on_tokio(|| async {
        const ROUNDS: usize = 2_000;
        let group: Group<u64, u64> = Group::new();
        let executions = Executions::default();
        let store: Arc<Store> = Arc::default();
        let read = {
            let (executions, store) = (executions.clone(), Arc::clone(&store));
            move || {
                let (executions, store) = (executions.clone(), Arc::clone(&store));
                async move {
                    let _running = executions.begin();
                    let read = store.read();
                    yield_now().await;
                    read
                }
            }
        };
        let mut callers = Vec::new();
        for seed in 0..6 {
            let (group, store, read) = (group.clone(), Arc::clone(&store), read.clone());
            callers.push(tokio::spawn(async move {
                let mut dice = Dice::new(seed);
                for _ in 0..ROUNDS {
                    let written = store.write();
                    match dice.below(5) {
                        0 => drop(group.run(&1, read()).await),
                        1 => {
                            let outcome = group.call(&1).fresh().relay(read()).await;
                            let outcome = outcome.expect("a value");
                            store.check(written, outcome.value, outcome.role);
                        }
                        kind => {
                            let mut call = pin!(group.call(&1).fresh().run(read()));
                            let polls = if kind == 2 { dice.below(4) } else { usize::MAX };
                            for _ in 0..polls {
                                if let Some(outcome) = poll_once(&mut call).await {
                                    let outcome = outcome.expect("a value");
                                    store.check(written, outcome.value, outcome.role);
                                    break;
                                }
                                tokio::task::yield_now().await;
                            }
                        }
                    }
                }
            }));
        }
        for seed in 0..2 {
            let (group, store) = (group.clone(), Arc::clone(&store));
            let executions = executions.clone();
            callers.push(tokio::task::spawn_blocking(move || {
                let mut dice = Dice::new(seed);
                for _ in 0..ROUNDS {
                    let written = store.write();
                    let timeout = match dice.below(3) {
                        0 => Duration::from_micros(20),
                        _ => Duration::MAX,
                    };
                    let answer = group.call(&1).fresh().timeout(timeout).run_blocking(|| {
                        let _running = executions.begin();
                        let read = store.read();
                        common::spin();
                        read
                    });
                    match answer {
                        Ok(outcome) => store.check(written, outcome.value, outcome.role),
                        Err(error) => {
                            assert_eq!(error, CallError::TimedOut);
                            assert_ne!(timeout, Duration::MAX);
                        }
                    }
                }
            }));
        }
        for caller in callers {
            caller.await.expect("everybody reads what it wrote");
        }
        assert!(store.shared.load(SeqCst) > 0, "nothing was shared");
        assert_eq!((executions.running(), executions.peak()), (0, 1));
        assert!(group.is_empty());
    });
}

/// The same while flights are forgotten: then executions may overlap, but nobody reads what is older
/// than its call, and everybody comes back.
#[test]
fn g05_fresh_callers_read_what_they_wrote_while_flights_are_forgotten() {
    limited(|| {
        const ROUNDS: usize = 5_000;
        let group: Group<u64, u64> = Group::new();
        let store = Store::default();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..ROUNDS {
                        let written = store.write();
                        let outcome = match round % 2 {
                            0 => group.call(&1).fresh().run_blocking(|| store.read()),
                            _ => block_on(group.call(&1).fresh().run(async {
                                let read = store.read();
                                yield_now().await;
                                read
                            })),
                        };
                        let outcome = outcome.expect("a value");
                        store.check(written, outcome.value, outcome.role);
                    }
                });
            }
            scope.spawn(|| (0..ROUNDS).for_each(|_| _ = group.forget(&1)));
        });
        assert!(group.is_empty());
    });
}
