//! Wakers that panic, or do more than to schedule: what is the executor's fault stays its own.

#![cfg(not(loom))]

mod common;

use std::{
    cell::{Cell, RefCell},
    future::pending,
    hash::{BuildHasherDefault, Hasher},
    mem::{ManuallyDrop, take},
    pin::{Pin, pin},
    ptr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker},
    time::Duration,
};

use common::{OnDrop, Polled, limited, panic_text};
use futures_lite::future::yield_now;
use shardflight::{CallError, Group, Handle, OnCancel, Stats};

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("no room in the queue");
    }
}

/// Polls a caller that follows with such a waker, and runs `then` while it waits.
fn with_a_follower_whose_waker_panics(group: &Group<u64, u32>, then: impl FnOnce()) {
    let mut follower = Box::pin(group.run(&1, async { 0 }));
    let waker = Waker::from(Arc::new(Panics));
    assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    then();
}

/// G6, G8: the leader gets its value, and so do those who wait behind the one with the waker.
#[test]
fn g06_waker_that_panics_keeps_nobody_from_the_value() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.run(&1, async {
            futures_lite::future::yield_now().await;
            7
        }));
        with_a_follower_whose_waker_panics(&group, || {
            let mut behind = Polled::pending(group.run(&1, async { 0 }));
            assert_eq!(leader.poll(), Poll::Ready(7));
            assert_eq!(behind.woken_value(), 7);
        });
        assert!(group.is_empty());
    });
}

/// G6, G7: the lead gets past it.
#[test]
fn g06_waker_that_panics_keeps_nobody_from_taking_over() {
    limited(|| {
        for _ in 0..50 {
            let group: Group<u64, u32> = Group::new();
            let leader = Polled::pending(group.run(&1, std::future::pending()));
            with_a_follower_whose_waker_panics(&group, || {
                let mut behind =
                    [(); 3].map(|()| Some(Polled::pending(group.run(&1, async { 7 }))));
                drop(leader);
                let values: Vec<_> =
                    common::settle(&mut behind).into_iter().map(|(_, value)| value).collect();
                assert_eq!(values, [7, 7, 7]);
            });
        }
    });
}

type Task = Mutex<Option<Pin<Box<dyn Future<Output = u32> + Send>>>>;

/// A task that is polled by whoever wakes it, there and then.
struct Inline {
    task: Task,
    panics: bool,
    value: AtomicU32,
}

impl Inline {
    fn new(call: impl Future<Output = u32> + Send + 'static) -> Arc<Self> {
        Arc::new(Self { task: Mutex::new(Some(Box::pin(call))), panics: false, value: 0.into() })
    }

    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        // One that wakes itself is being polled.
        if let Ok(mut task) = self.task.try_lock()
            && let Some(call) = &mut *task
            && let Poll::Ready(value) = call.as_mut().poll(&mut Context::from_waker(&waker))
        {
            self.value.store(value, SeqCst);
            *task = None;
        }
    }

    fn value(&self) -> u32 {
        self.value.load(SeqCst)
    }
}

impl Wake for Inline {
    fn wake(self: Arc<Self>) {
        self.poll();
        assert!(!self.panics, "no room in the queue");
    }
}

/// G9: a waker may come back to the same flight.
#[test]
fn g09_wakers_that_poll_in_place() {
    limited(|| {
        for _ in 0..50 {
            let group: Group<u64, u32> = Group::new();
            let leader = Polled::pending(group.run(&1, std::future::pending()));
            let tasks: Vec<_> = (0..40)
                .map(|_| {
                    let group = group.clone();
                    Inline::new(async move { group.run(&1, async { 7 }).await })
                })
                .collect();
            tasks.iter().for_each(Inline::poll);
            drop(leader);
            assert!(tasks.iter().all(|task| task.value() == 7));
            assert!(group.is_empty());
        }
    });
}

/// One that, when it is woken, drops all that are left of some tasks.
struct Drops(Arc<Mutex<Vec<Arc<Inline>>>>);

impl Wake for Drops {
    fn wake(self: Arc<Self>) {
        let tasks = take(&mut *self.0.lock().unwrap());
        // Their own wakers keep them, too.
        tasks.iter().for_each(|task| *task.task.lock().unwrap() = None);
    }
}

/// G7, G9: a waker may drop other followers of the flight.
#[test]
fn g09_waker_that_drops_followers() {
    limited(|| {
        for lands in [true, false] {
            let group: Group<u64, u32> = Group::new();
            let (send, value) = tokio::sync::oneshot::channel();
            let mut leader =
                Polled::pending(group.run(&1, async { value.await.expect("it is sent") }));
            let doomed = Arc::new(Mutex::new(Vec::new()));
            let waker = Waker::from(Arc::new(Drops(Arc::clone(&doomed))));
            let mut first = Box::pin(group.run(&1, async { 8 }));
            assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            for _ in 0..40 {
                let group = group.clone();
                let task = Inline::new(async move { group.run(&1, async { 8 }).await });
                task.poll();
                doomed.lock().unwrap().push(task);
            }
            let mut last = Polled::pending(group.run(&1, async { 9 }));
            if lands {
                send.send(7).unwrap();
                assert_eq!(leader.poll(), Poll::Ready(7));
                assert_eq!(last.woken_value(), 7);
            } else {
                drop(leader);
                // Of the two that are left one leads; the first was woken, or not.
                let value = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                assert!(value == Poll::Ready(8) || last.poll() == Poll::Ready(9));
            }
        }
    });
}

/// G6: one that is called again for each panic, because it is back in the list by then, would keep
/// whoever wakes it for ever.
#[test]
fn g06_waker_that_polls_in_place_and_panics_is_woken_once() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let call = |work| {
            let group = group.clone();
            async move { group.run(&1, work).await }
        };
        let leader = Polled::pending(call(std::future::pending()));
        // The first to be woken lets a newcomer lead.
        let newcomer = Inline::new(call(std::future::pending()));
        let mut first = Box::pin(call(std::future::pending()));
        let waker = Waker::from(Arc::clone(&newcomer));
        assert!(first.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let mut panics = Inline::new(call(std::future::pending()));
        Arc::get_mut(&mut panics).expect("just made").panics = true;
        panics.poll();
        // Because of it all are woken.
        let mut told = Polled::pending(async {
            group.call(&1).on_cancel(OnCancel::Fail).run(async { 0 }).await
        });
        drop(leader);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(group.in_flight()[0].followers, 2);
    });
}

/// G6: those who are back in the list while the others are called are not called again: that would go on
/// for ever.
#[test]
fn g06_those_who_come_back_are_not_called_again() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let tasks: Vec<_> = (0..40)
            .map(|_| {
                let group = group.clone();
                Inline::new(async move { group.run(&1, std::future::pending()).await })
            })
            .collect();
        tasks.iter().for_each(Inline::poll);
        // Because of it all are woken.
        let mut told = Polled::pending(async {
            group.call(&1).on_cancel(OnCancel::Fail).run(async { 0 }).await
        });
        drop(leader);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(group.in_flight()[0].followers, 39);
        // They keep themselves.
        tasks.iter().for_each(|task| drop(task.task.lock().unwrap().take()));
        assert!(group.is_empty());
    });
}

struct PanicsWhenDropped;

impl Wake for PanicsWhenDropped {
    fn wake(self: Arc<Self>) {}
}

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        panic!("the last of it");
    }
}

/// G4, G8: a follower that goes is gone, whatever becomes of its waker.
#[test]
fn g08_waker_that_panics_when_it_is_dropped_leaves_no_follower_behind() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, std::future::pending()));
        let mut follower = Box::pin(group.run(&1, async { 0 }));
        let waker = Waker::from(Arc::new(PanicsWhenDropped));
        assert!(follower.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        assert_eq!(common::panic_text(move || drop(follower)), "the last of it");
        assert_eq!(group.in_flight()[0].followers, 0);
        drop(leader);
        assert!(group.is_empty());
    });
}

/// G8, G9: a flight keeps the waker of a task that is to be aborted when nobody wants it, and outlives the task.
/// Whoever drops the flight gets the value, and has been told of, although the `Drop` of that waker panics.
#[test]
fn g08_waker_of_a_task_that_is_gone_costs_nobody_the_value() {
    limited(|| {
        for followers in 1..4 {
            let stats = Arc::new(Stats::default());
            let group: Group<u64, u32> = Group::builder().observer(Arc::clone(&stats)).build();
            let call = group.call(&1).abort_when_abandoned();
            let (task, handle) = call.task(pending()).expect("no limit");
            let mut task = Box::pin(task);
            assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let work = || async {
                yield_now().await;
                7
            };
            let mut callers: Vec<_> =
                (0..followers).map(|_| Some(Polled::pending(group.run(&1, work())))).collect();
            drop(handle);
            let waker = Waker::from(Arc::new(PanicsWhenDropped));
            assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            // The last one is the flight's.
            drop(waker);
            drop(task);
            let values = common::settle(&mut callers);
            assert!(values.len() == followers && values.iter().all(|(_, value)| *value == 7));
            let told = stats.snapshot();
            assert_eq!((told.in_flight(), told.waiting()), (0, 0), "{told:?}");
            assert_eq!(told.answered as usize, followers - 1);
        }
    });
}

/// G9: the waker of such a task is cloned under no lock. It may drop the last handle, which rings for the task.
#[test]
fn g09_waker_whose_clone_drops_the_last_handle_of_its_task() {
    thread_local! { static HANDLE: RefCell<Option<Handle<u32>>> = const { RefCell::new(None) } }
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| {
            drop(HANDLE.take());
            RawWaker::new(data, &VTABLE)
        },
        |_| (),
        |_| (),
        |_| (),
    );

    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (task, handle) =
            group.call(&1).abort_when_abandoned().task(pending()).expect("no limit");
        let mut task = pin!(task);
        // It is to be called instead of an earlier waker, too.
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        HANDLE.set(Some(handle));
        #[expect(unsafe_code, reason = "a waker that does something when it is cloned")]
        // SAFETY: none of its functions looks at the data.
        let waker = unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &VTABLE)) };
        assert!(task.poll(&mut Context::from_waker(&waker)).is_ready(), "nobody wants it");
        assert!(group.is_empty());
    });
}

thread_local! { static IS_ARMED: Cell<bool> = const { Cell::new(false) } }

/// A waker of which the next that is dropped panics, once it is armed.
fn panics_when_armed() -> ManuallyDrop<Waker> {
    static VTABLE: RawWakerVTable = RawWakerVTable::new(
        |data| RawWaker::new(data, &VTABLE),
        |_| (),
        |_| (),
        |_| assert!(!IS_ARMED.take(), "the waker"),
    );
    #[expect(unsafe_code, reason = "a waker that panics when one of many is dropped")]
    // SAFETY: none of its functions looks at the data.
    let waker = unsafe { Waker::from_raw(RawWaker::new(ptr::null(), &VTABLE)) };
    ManuallyDrop::new(waker)
}

/// G8: a follower takes work over, and its waker panics when it is dropped. Nobody else is there, so the work is
/// dropped while the follower unwinds. A panic of that is the second, and ends nothing.
#[test]
fn g08_waker_that_panics_when_its_follower_takes_work_over_that_panics_too() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let dropped = Arc::new(AtomicU32::new(0));
        let last = {
            let dropped = Arc::clone(&dropped);
            OnDrop::new(move || {
                dropped.fetch_add(1, SeqCst);
                panic!("the work");
            })
        };
        let leader = Polled::pending(group.call(&1).relay(async move {
            let _last = last;
            pending().await
        }));
        let waker = panics_when_armed();
        let mut cx = Context::from_waker(&waker);
        // It drops the call while it unwinds.
        let mut follower = Box::pin(async { group.run(&1, async { 0 }).await });
        assert!(follower.as_mut().poll(&mut cx).is_pending());
        drop(leader);
        IS_ARMED.set(true);
        assert_eq!(panic_text(|| follower.as_mut().poll(&mut cx)), "the waker");
        assert_eq!(dropped.load(SeqCst), 1);
        assert!(group.is_empty());
    });
}

/// G6, G8: the same with a task that has a limit, beside a follower: that one goes on with the work, and the
/// handle of the task is told.
#[test]
fn g06_waker_that_panics_when_its_task_takes_over_keeps_no_handle_waiting() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.call(&1).relay(pending()));
        let mut other = Polled::pending(group.run(&1, async { 0 }));
        // Not polled before, so it needs no timer.
        let call = group.call(&1).timeout(Duration::from_secs(1));
        let (task, handle) = call.task(async { 0 }).expect("no limit");
        let mut handle = Polled::pending(handle);
        // It drops the task while it unwinds.
        let mut task = Box::pin(async {
            task.await;
        });
        drop(leader);
        let waker = panics_when_armed();
        IS_ARMED.set(true);
        let polls = || task.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(panic_text(polls), "the waker");
        assert_eq!(handle.woken_value(), Err(CallError::Cancelled));
        assert!(other.is_woken() && other.poll().is_pending(), "it has the work");
    });
}

/// A future that has ended does not touch the group any more.
#[test]
fn g04_future_polled_after_its_end_says_so() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut returned = pin!(group.run(&1, async { 7 }));
        let mut panicked = pin!(group.run(&2, async { panic!("the work") }));
        let cx = &mut Context::from_waker(Waker::noop());
        assert_eq!(returned.as_mut().poll(cx), Poll::Ready(7));
        assert_eq!(common::panic_text(|| panicked.as_mut().poll(cx)), "the work");
        for future in [returned.as_mut() as std::pin::Pin<&mut dyn Future<Output = u32>>, panicked]
        {
            let mut future = future;
            let text = common::panic_text(|| future.as_mut().poll(cx));
            assert_eq!(text, "the future of a call was polled after it returned");
        }
        assert!(group.is_empty());
    });
}

/// Maps all keys to one hash.
#[derive(Default)]
struct OneHash;

impl Hasher for OneHash {
    fn finish(&self) -> u64 {
        1
    }

    fn write(&mut self, _: &[u8]) {}
}

type Meeting = Group<u64, u32, BuildHasherDefault<OneHash>>;

/// The waker of a fresh call of one key. It lets a task follow the fresh call of the other key, and drops
/// that, so that the task takes over.
struct Meddles {
    group: Meeting,
    key: u64,
    fresh: Arc<[Task; 2]>,
    /// Of those that meddle, the first does.
    task: Arc<Mutex<Option<Arc<Inline>>>>,
}

impl Wake for Meddles {
    fn wake(self: Arc<Self>) {
        let mut place = self.task.lock().unwrap();
        if place.is_some() {
            return;
        }
        let (group, other) = (self.group.clone(), 1 - self.key);
        let task = Inline::new(async move { group.run(&other, async { 7 }).await });
        *place = Some(Arc::clone(&task));
        drop(place);
        task.poll();
        drop(self.fresh[other as usize].lock().unwrap().take());
        assert_eq!(task.value(), 7, "it leads, and has nothing to wait for");
    }
}

/// G6, G9: of two flights that are let begin together, the waker of one's leader meets the other before its
/// leader is called. A plain task that takes that over begins: if it waited, it would be called under a lock
/// that its own waker then comes back to.
#[test]
fn g09_waker_that_polls_in_place_takes_over_a_flight_that_was_pending() {
    limited(|| {
        let group: Meeting = Group::with_hasher(BuildHasherDefault::default());
        let old = [0, 1].map(|key| {
            let group = group.clone();
            Polled::pending(async move { group.run(&key, std::future::pending()).await })
        });
        let (fresh, task) = (Arc::new([(); 2].map(|()| Task::default())), Arc::default());
        for key in [0, 1] {
            let group_of_call = group.clone();
            let mut call: Pin<Box<dyn Future<Output = u32> + Send>> = Box::pin(async move {
                let call = group_of_call.call(&key).fresh();
                call.run(std::future::pending()).await.expect("a value").value
            });
            let waker = Waker::from(Arc::new(Meddles {
                group: group.clone(),
                key,
                fresh: Arc::clone(&fresh),
                task: Arc::clone(&task),
            }));
            assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
            *fresh[key as usize].lock().unwrap() = Some(call);
        }
        assert_eq!(group.forget_all(), 2);
        let task = task.lock().unwrap().take();
        assert_eq!(task.expect("one was woken").value(), 7);
        drop(old);
    });
}
