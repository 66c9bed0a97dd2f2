//! Corners where two or three of the rarer things meet: each once went wrong.

#![cfg(not(loom))]

mod common;

use std::{
    cell::{Cell, RefCell},
    future::pending,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use common::{Polled, limited};
use shardflight::{Group, OnCancel};

/// A task that may be aborted takes over a flight that has yet to begin: whoever joins that before its
/// handle goes still gets the value.
#[test]
fn a_pending_flight_that_was_taken_over_is_not_aborted_while_somebody_follows() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let running = Polled::pending(group.run(&1, pending()));
        let first = Polled::pending(group.call(&1).fresh().run(pending()));
        let call = group.call(&1).fresh().abort_when_abandoned();
        let (task, handle) = call.task(async { 3 }).unwrap();
        let mut task = Polled::pending(task);
        drop(first);
        assert!(task.is_woken() && task.poll().is_pending(), "it leads, and waits for its turn");

        let call = group.call(&1).fresh().on_cancel(OnCancel::Fail);
        let mut follower = Polled::pending(call.run(pending()));
        drop(handle);
        assert!(task.is_woken() && task.poll().is_pending(), "somebody wants its value");
        drop(running);
        assert!(task.is_woken() && task.poll().is_ready());
        assert_eq!(follower.woken_value().unwrap().value, 3);
        assert!(group.is_empty());
    });
}

struct PanickingWaker;

impl Wake for PanickingWaker {
    fn wake(self: Arc<Self>) {
        panic!("in a waker");
    }
}

/// G8: a handle whose task cannot be woken is not followed by anybody all the same.
#[test]
fn g08_panic_of_the_waker_of_a_task_loses_no_handle() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let (task, handle) = group.call(&1).abort_when_abandoned().task(pending()).unwrap();
        let mut task = pin!(task);
        let waker = Waker::from(Arc::new(PanickingWaker));
        assert!(task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        drop(handle);
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert!(group.is_empty());
    });
}

/// The pending flight of a key takes the place of one that is too old, and may be too old, too.
#[test]
fn max_age_is_asked_of_a_pending_flight_that_it_lets_begin() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let _running = Polled::pending(group.run(&1, pending()));
        let _next = Polled::pending(group.call(&1).fresh().run(pending()));
        let mut call = Polled::new(group.call(&1).max_age(Duration::ZERO).run(async { 3 }));
        assert!(matches!(call.poll(), Poll::Ready(Ok(outcome)) if outcome.value == 3));
    });
}

thread_local! {
    /// How many more keys are copied before one panics.
    static COPIES: Cell<Option<u32>> = const { Cell::new(None) };
    /// The `Drop` of the next key panics.
    static DROP_PANICS: Cell<bool> = const { Cell::new(false) };
    /// What is done before the next key is copied.
    static BEFORE_COPY: RefCell<Option<Box<dyn FnOnce()>>> = const { RefCell::new(None) };
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key(u64);

impl Clone for Key {
    fn clone(&self) -> Self {
        if let Some(action) = BEFORE_COPY.take() {
            action();
        }
        if let Some(copies) = COPIES.get() {
            assert!(copies > 0, "in the copy of a key");
            COPIES.set(Some(copies - 1));
        }
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        if DROP_PANICS.take() {
            panic!("in the drop of a key");
        }
    }
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

/// G8: a batch that is cancelled gives up all of its keys, whatever the `Drop` of one does.
#[test]
fn g08_panic_in_the_drop_of_one_key_leaves_none_of_a_batch() {
    limited(|| {
        let group: Group<Key, u64> = Group::new();
        let load = |_| pending::<Vec<(Key, u64)>>();
        let call = Polled::pending(group.run_many((0..20).map(Key), load));
        assert_eq!(group.len(), 20);
        DROP_PANICS.set(true);
        assert!(panics(|| drop(call)));
        assert!(group.is_empty());
    });
}

/// G8: so does one that leaves keys out.
#[test]
fn g08_panic_in_the_drop_of_a_key_that_was_left_out_leaves_none() {
    limited(|| {
        let group: Group<Key, u64> = Group::new();
        let load = async |keys: Vec<Key>| {
            mem::forget(keys);
            DROP_PANICS.set(true);
            Vec::<(Key, u64)>::new()
        };
        let mut call = Polled::new(group.run_many((0..20).map(Key), load));
        assert!(panics(|| _ = call.poll()));
        assert!(group.is_empty());
    });
}

/// G8: and of two calls of `load` the second is given up although the work of the first panics.
#[test]
fn g08_panic_in_the_drop_of_one_load_leaves_none_of_the_other() {
    struct PanicsInDrop;
    impl Drop for PanicsInDrop {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                panic!("in the drop of the work");
            }
        }
    }

    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let leader = Polled::pending(group.run(&2, pending()));
        let load = async |_: Vec<u64>| {
            let _panics = PanicsInDrop;
            pending::<Vec<(u64, u64)>>().await
        };
        let mut call = Polled::pending(group.run_many([1, 2], load));
        drop(leader);
        assert!(call.poll().is_pending());
        assert_eq!(group.len(), 2, "two loads");
        assert!(panics(|| drop(call)));
        assert!(group.is_empty());
    });
}

/// G8: a batch copies each key for the table, and again for itself.
#[test]
fn g08_panic_in_the_copy_of_a_key_leaves_none_of_a_batch() {
    limited(|| {
        let group: Group<Key, u64> = Group::new();
        for copies in 0..6 {
            COPIES.set(Some(copies));
            let load = |_| pending::<Vec<(Key, u64)>>();
            let mut call = Polled::new(group.run_many((0..3).map(Key), load));
            assert!(panics(|| _ = call.poll()));
            drop(call);
            COPIES.set(None);
            assert!(group.is_empty(), "after {copies} copies");
        }
    });
}

/// G4, G8: a caller that is beaten to its key while it copies it, and joins, has a copy to drop.
#[test]
fn g08_panic_in_the_drop_of_a_copy_that_was_not_needed_loses_no_follower() {
    limited(|| {
        let group: Group<Key, u64> = Group::new();
        let leader = {
            let group = group.clone();
            Box::pin(async move { group.run(&Key(1), pending()).await })
        };
        let leader = std::rc::Rc::new(RefCell::new(leader as Pin<Box<dyn Future<Output = u64>>>));
        let beats = std::rc::Rc::clone(&leader);
        BEFORE_COPY.set(Some(Box::new(move || {
            let cx = &mut Context::from_waker(Waker::noop());
            assert!(beats.borrow_mut().as_mut().poll(cx).is_pending());
            DROP_PANICS.set(true);
        })));
        let key = Key(1);
        let mut follower = Polled::new(group.run(&key, pending()));
        assert!(panics(|| _ = follower.poll()));
        drop((follower, leader));
        assert!(group.is_empty());
    });
}

/// G4, G8: nor does one that gave its key away.
#[cfg(feature = "tokio")]
#[test]
fn g08_panic_in_the_drop_of_a_key_given_to_spawn_loses_no_follower() {
    limited(|| {
        let runtime = common::multi_thread();
        let group: Group<Key, u64> = Group::new();
        let key = Key(1);
        let leader = Polled::pending(group.run(&key, pending()));
        let _context = runtime.enter();
        DROP_PANICS.set(true);
        assert!(panics(|| drop(group.spawn(Key(1), pending()))));
        drop(runtime);
        drop(leader);
        assert!(group.is_empty());
    });
}

/// A handle among a thousand followers makes a cancelled leader no dearer: it cannot take over, so there
/// is nobody to be told.
#[test]
fn handle_does_not_wake_the_herd() {
    limited(|| {
        let group: Group<u64, u64> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let handle = group.join(&1).expect("it is in flight");
        let herd: Vec<_> = (0..1000).map(|_| Polled::pending(group.run(&1, pending()))).collect();
        drop(leader);
        let woken = herd.iter().filter(|follower| follower.is_woken()).count();
        assert!((1..=16).contains(&woken), "{woken} were woken");
        drop((handle, herd));
        assert!(group.is_empty());
    });
}
