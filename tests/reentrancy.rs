//! Work that calls its own group with its own key: reported, not hung.

#![cfg(not(loom))]

mod common;

use std::{cell::RefCell, future::pending, pin::Pin, task::Poll, thread};

use common::{Doorbell, Polled, RingingKey, limited, panic_text};
use futures_lite::future::{block_on, poll_once, yield_now};
use shardflight::{CallError, Entry, Group, OnCancel, Role};

/// Scenario 27, G13: a direct recursion, async in async.
#[test]
fn g13_async_recursion_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let value = block_on(group.run(&1, async {
            assert_eq!(group.call(&1).run(async { 1 }).await, Err(CallError::Reentrant));
            yield_now().await;
            // At a later poll, too.
            let told = group.call(&1).on_cancel(OnCancel::Fail).run(async { 1 });
            assert_eq!(told.await, Err(CallError::Reentrant));
            2
        }));
        assert_eq!(value, 2);
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: blocking in blocking, and each in the other.
#[test]
fn g13_blocking_and_mixed_recursion_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let reentrant = || Err(CallError::Reentrant);
        let value = group.run_blocking(&1, || {
            assert_eq!(group.call(&1).run_blocking(|| 1), reentrant());
            assert_eq!(block_on(group.call(&1).run(async { 1 })), reentrant());
            2
        });
        assert_eq!(value, 2);
        let value = block_on(group.run(&1, async {
            assert_eq!(group.call(&1).run_blocking(|| 1), reentrant());
            3
        }));
        assert_eq!(value, 3);
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: from `run` and `run_blocking` it is a panic that says so, and as a panic of the
/// work it reaches the caller.
#[test]
fn g13_recursive_run_panics_with_a_text_that_says_so() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let expected = CallError::Reentrant.to_string();
        assert!(expected.contains("recursive"), "{expected}");
        let nested = || block_on(group.run(&1, group.run(&1, async { 1 })));
        assert_eq!(panic_text(nested), expected);
        let nested = || group.run_blocking(&1, || group.run_blocking(&1, || 1));
        assert_eq!(panic_text(nested), expected);
        assert!(group.is_empty());
        assert_eq!(group.run_blocking(&1, || 7), 7);
    });
}

/// Scenario 27, G13: a -> b -> a on one stack, through both kinds of calls; b alone is legal.
#[test]
fn g13_recursion_through_another_key_is_reported() {
    limited(|| {
        let group: Group<&str, u32> = Group::new();
        let value = block_on(group.run(&"a", async {
            let b = group.run(&"b", async {
                yield_now().await;
                assert_eq!(group.call(&"a").run(async { 0 }).await, Err(CallError::Reentrant));
                assert_eq!(group.len(), 2);
                1
            });
            b.await + group.run_blocking(&"c", || group.run_blocking(&"d", || 10))
        }));
        assert_eq!(value, 11);
        let value = group.run_blocking(&"a", || {
            group.run_blocking(&"b", || {
                assert_eq!(group.call(&"a").run_blocking(|| 0), Err(CallError::Reentrant));
                2
            })
        });
        assert_eq!(value, 2);
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: through another handle it is the same group; another group is another matter.
#[test]
fn g13_recursion_goes_by_group_not_by_handle() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let handle = group.clone();
        let other: Group<u64, u32> = Group::new();
        let value = group.run_blocking(&1, || {
            assert_eq!(handle.call(&1).run_blocking(|| 0), Err(CallError::Reentrant));
            other.run_blocking(&1, || {
                assert_eq!(group.call(&1).run_blocking(|| 0), Err(CallError::Reentrant));
                5
            })
        });
        assert_eq!(value, 5);
        assert!(group.is_empty() && other.is_empty());
    });
}

/// Calls the group from its destructor.
struct CallsWhenDropped<'a> {
    group: &'a Group<u64, u32>,
    key: u64,
    answers: &'a RefCell<Vec<Result<u32, CallError>>>,
}

impl Drop for CallsWhenDropped<'_> {
    fn drop(&mut self) {
        let answer = block_on(self.group.call(&self.key).run(async { 8 }));
        self.answers.borrow_mut().push(answer.map(|outcome| outcome.value));
    }
}

/// Scenarios 23 and 27, G13: from the destructors of work that returned, panicked or is cancelled.
#[test]
fn g13_recursion_from_the_drop_of_work_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let answers = RefCell::default();
        let calls = || CallsWhenDropped { group: &group, key: 1, answers: &answers };
        let reentrant = || vec![Err(CallError::Reentrant)];

        let held = calls();
        let returns = Polled::new(group.run(&1, async {
            let _held = held;
            1
        }))
        .poll();
        assert_eq!(returns, Poll::Ready(1));
        assert_eq!(answers.take(), reentrant());

        let held = calls();
        let cancelled = Polled::pending(group.run(&1, async {
            let _held = held;
            pending().await
        }));
        drop(cancelled);
        assert_eq!(answers.take(), reentrant());

        // What the work owns but never moved into a local goes with the future after a panic.
        let held = calls();
        let mut panics = Polled::new(group.run(&1, async {
            assert!(held.key != 1, "on purpose");
            let _held = held;
            1
        }));
        assert_eq!(panic_text(|| panics.poll()), "on purpose");
        assert_eq!(answers.take(), reentrant());

        let held = calls();
        let blocking = || {
            let _held = held;
            2
        };
        assert_eq!(group.run_blocking(&1, blocking), 2);
        assert_eq!(answers.take(), reentrant());
        assert!(group.is_empty());
    });
}

/// G13: destructors of work that never ran belong to no execution: their calls are calls like any
/// other.
#[test]
fn g13_drop_of_work_that_never_ran_may_call() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let answers = RefCell::default();
        let held = CallsWhenDropped { group: &group, key: 1, answers: &answers };
        let never_polled = group.run(&1, async {
            let _held = held;
            1
        });
        drop(never_polled);
        assert_eq!(answers.take(), [Ok(8)]);

        let leader = Polled::pending(group.run(&2, async {
            yield_now().await;
            2
        }));
        let held = CallsWhenDropped { group: &group, key: 1, answers: &answers };
        let follower = Polled::pending(group.run(&2, async {
            let _held = held;
            1
        }));
        drop(follower);
        assert_eq!(answers.take(), [Ok(8)]);
        drop(leader);
        assert!(group.is_empty());
    });
}

/// G13: it goes by flight, not by key: after `forget` a call with the same key is legal, and the
/// recursion of the newer flight is reported in turn.
#[test]
fn g13_call_after_forget_is_legal() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let value = block_on(group.run(&1, async {
            assert!(group.forget(&1));
            let inner = group.call(&1).run(async {
                assert_eq!(group.call(&1).run(async { 0 }).await, Err(CallError::Reentrant));
                assert!(group.forget_unshared(&1));
                group.run_blocking(&1, || 1)
            });
            let outcome = inner.await.expect("another flight");
            assert_eq!(outcome.role, Role::Led { followers: 0 });
            outcome.value + 1
        }));
        assert_eq!(value, 2);
        assert!(group.is_empty());
    });
}

/// G13: one that took over runs on the same flight: its recursion is reported, too.
#[test]
fn g13_recursion_of_one_that_took_over_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let leader = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async {
            assert_eq!(group.call(&1).run(async { 0 }).await, Err(CallError::Reentrant));
            4
        }));
        drop(leader);
        assert_eq!(follower.woken_value(), 4);
        assert!(group.is_empty());
    });
}

/// Scenario 27, G13: relayed work is the flight's in whatever hands it is: its recursion is reported when
/// another's task or thread polls it, and what it asks of other keys is legal.
#[test]
fn g13_recursion_of_relayed_work_is_reported_in_every_hand() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let (key, silent) = (bell.key(1), RingingKey::silent(1));
        let (tell, told) = std::sync::mpsc::channel();
        let work = {
            let group = group.clone();
            async move {
                let (own, other) = (RingingKey::silent(1), RingingKey::silent(2));
                for hand in 0..3 {
                    let mut answers = vec![
                        group.call(&own).relay(async { 0 }).await,
                        group.call(&own).fresh().run(async { 0 }).await,
                        group.call(&own).run_blocking(|| 0),
                    ];
                    let through_another = group.call(&other).relay({
                        let (group, own) = (group.clone(), own.clone());
                        async move { u32::from(group.call(&own).run_blocking(|| 0).is_err()) }
                    });
                    assert_eq!(through_another.await.expect("another key").value, 1);
                    answers.retain(|answer| *answer != Err(CallError::Reentrant));
                    tell.send((hand, answers)).expect("the test listens");
                    if hand < 2 {
                        yield_now().await;
                    }
                }
                7
            }
        };
        let leader = Polled::pending(group.call(&silent).relay(work));
        let mut follower = Polled::pending(group.run(&silent, pending()));
        drop(leader);
        assert!(follower.poll().is_pending());
        thread::scope(|scope| {
            let takes_over = scope.spawn(|| group.run_blocking(&key, || 0));
            bell.wait_for(1, &group, 1);
            drop(follower);
            assert_eq!(takes_over.join().expect("no panic"), 7);
        });
        let hands: Vec<_> = told.try_iter().collect();
        assert_eq!(hands, [(0, vec![]), (1, vec![]), (2, vec![])]);
        assert!(group.is_empty());
    });
}

/// G13: calls that do not wait are no recursion: to join, to ask for the lead, to register a task.
#[test]
fn g13_calls_that_do_not_wait_are_legal_inside_the_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut waits = Vec::new();
        let (mut task, mut watched) = (None, None);
        let value = group.run_blocking(&1, || {
            waits.push(group.join(&1).expect("in flight"));
            match group.lead_or_join(&1) {
                Entry::Join(handle) => waits.push(handle),
                Entry::Lead(lead) => panic!("{lead:?} beside the one that runs"),
            }
            let (follows, handle) = group.call(&1).task(async { 0 }).expect("no limit");
            task = Some(follows);
            watched = Some(handle);
            4
        });
        assert_eq!(value, 4);
        block_on(task.expect("made"));
        waits.extend(watched);
        assert_eq!(waits.len(), 3);
        assert!(waits.into_iter().all(|handle| handle.wait() == Ok(4)));
        assert!(group.is_empty());
    });
}

/// G13: callers on other stacks are followers, not recursions, also while the work is being polled;
/// and between the polls of the work its own thread may follow.
#[test]
fn g13_others_on_their_own_stack_follow() {
    limited(|| {
        let group: Group<RingingKey, u32> = Group::new();
        let bell = Doorbell::new();
        let (key, silent) = (bell.key(1), RingingKey::silent(1));
        thread::scope(|scope| {
            let mut leader = Polled::pending(group.run(&silent, async {
                yield_now().await;
                scope.spawn(|| {
                    let outcome = group.call(&key).run_blocking(|| 0).expect("it follows");
                    assert_eq!((outcome.value, outcome.role), (6, Role::Joined));
                });
                bell.wait_for(1, &group, 1);
                6
            }));
            let mut between = Polled::pending(group.call(&silent).run(async { 0 }));
            assert_eq!(leader.woken_value(), 6);
            assert_eq!(between.woken_value().expect("a value").role, Role::Joined);
        });
        assert!(group.is_empty());
    });
}

/// G13: a recursion that was reported leaves the flight as it was: others join and get the value.
#[test]
fn g13_reported_recursion_disturbs_nobody() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut leader = Polled::pending(group.call(&1).run(async {
            for _ in 0..3 {
                assert!(group.call(&1).run(async { 0 }).await.is_err());
                yield_now().await;
            }
            9
        }));
        let mut follower = Polled::pending(group.run(&1, async { 0 }));
        let outcome = loop {
            assert!(leader.is_woken());
            if let Poll::Ready(outcome) = leader.poll() {
                break outcome.expect("a value");
            }
        };
        assert_eq!((outcome.value, outcome.role), (9, Role::Led { followers: 1 }));
        assert_eq!(follower.woken_value(), 9);
        assert!(group.is_empty());
    });
}

/// G13: many levels of legal nesting, each with a recursion that is found however deep it is.
#[test]
fn g13_recursion_is_found_at_any_depth() {
    fn nest(group: &Group<u64, u64>, level: u64) -> u64 {
        group.run_blocking(&level, || {
            for outer in 0..=level {
                let recursion = group.call(&outer).run_blocking(|| 0);
                assert_eq!(recursion, Err(CallError::Reentrant), "{outer} in {level}");
            }
            match level {
                40 => level,
                _ => nest(group, level + 1),
            }
        })
    }

    limited(|| {
        let group: Group<u64, u64> = Group::new();
        assert_eq!(nest(&group, 0), 40);
        assert!(group.is_empty());
    });
}

/// G13: the handle of a flight that is to begin after this work would wait for the work. It is of use to
/// whoever comes later.
#[test]
fn g13_work_that_waits_for_the_flight_after_it_is_reported() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let next = RefCell::new(None);
        let work = async {
            let (task, handle) = group.call(&1).fresh().task(async { 2 }).expect("no limit");
            assert_eq!(handle.clone().await, Err(CallError::Reentrant));
            assert_eq!(handle.clone().wait(), Err(CallError::Reentrant));
            next.replace(Some((task, handle)));
            1
        };
        assert_eq!(block_on(group.run(&1, work)), 1);
        let (task, handle) = next.take().expect("the work ran");
        block_on(task);
        assert_eq!(block_on(handle), Ok(2));
        assert!(group.is_empty());
    });
}

/// Polls a call outside, once, and then awaits it inside the work of key 1.
fn awaited_inside<'g, T: 'g>(group: &'g Group<u64, u32>, call: impl Future<Output = T> + 'g) -> T {
    let (moves_in, answer) = (RefCell::new(None), RefCell::new(None));
    let mut leader = Polled::pending(group.call(&1).run(async {
        yield_now().await;
        let call: Pin<Box<dyn Future<Output = T> + 'g>> = moves_in.take().expect("put there");
        answer.replace(Some(call.await));
        7
    }));
    let mut call: Pin<Box<dyn Future<Output = T> + 'g>> = Box::pin(call);
    assert!(block_on(poll_once(&mut call)).is_none());
    moves_in.replace(Some(call));
    let outcome = leader.woken_value().expect("a value");
    assert_eq!((outcome.value, outcome.role), (7, Role::Led { followers: 0 }));
    drop(leader);
    answer.take().expect("it was awaited")
}

/// G13: a call that followed before it came inside the work it follows is told there, whether it was woken
/// or not, and leaves.
#[test]
fn g13_follower_that_is_awaited_inside_the_work_it_follows() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let reentrant = Err(CallError::Reentrant);
        assert_eq!(awaited_inside(&group, group.call(&1).run(async { 0 })), reentrant);
        assert_eq!(awaited_inside(&group, group.call(&1).relay(async { 0 })), reentrant);
        let told = group.call(&1).on_cancel(OnCancel::Fail).run(async { 0 });
        assert_eq!(awaited_inside(&group, told), reentrant);
        let text = panic_text(|| awaited_inside(&group, group.run(&1, async { 0 })));
        assert!(text.contains("recursive"), "{text}");
        assert!(group.is_empty());
    });
}

/// G13: nothing on the stack tells a call that the work awaits from one of another task that is polled there, by a
/// waker or an executor. It is told. A task of the crate goes on following; its handle is told, and may ask again.
#[test]
fn g13_call_of_a_task_that_is_polled_on_top_of_the_work_is_told() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let (waits, told) = (RefCell::new(None), RefCell::new(None));
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            let (mut call, mut task, mut handle): (Polled<'_, _>, Polled<'_, _>, Polled<'_, _>) =
                waits.take().expect("put there");
            told.replace(Some((call.poll(), task.poll(), handle.poll())));
            waits.replace(Some((call, task, handle)));
            7
        }));
        let call = Polled::pending(group.call(&1).run(async { 0 }));
        let (task, handle) = group.call(&1).task(async { 0 }).expect("no limit");
        waits.replace(Some((call, Polled::pending(task), Polled::pending(handle))));
        assert_eq!(leader.woken_value(), 7);
        let (call, polled, asked) = told.take().expect("it ran");
        assert_eq!(call, Poll::Ready(Err(CallError::Reentrant)));
        assert_eq!(polled, Poll::Pending);
        assert_eq!(asked, Poll::Ready(Err(CallError::Reentrant)));
        let (_, mut task, mut handle) = waits.take().expect("put back");
        task.woken_value();
        assert_eq!(handle.poll(), Poll::Ready(Ok(7)));
        assert!(group.is_empty());
    });
}

/// G13: so is one that leads, or follows, the flight that begins after the work. The next one leads it.
#[test]
fn g13_fresh_call_that_is_awaited_inside_the_work_before_it() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let fresh = || group.call(&1).fresh().run(async { 8 });
        assert_eq!(awaited_inside(&group, fresh()), Err(CallError::Reentrant));
        assert!(group.is_empty());
        let both = async {
            let [mut leads, mut follows, last] = [(); 3].map(|()| Polled::pending(fresh()));
            yield_now().await;
            assert_eq!(follows.poll(), Poll::Ready(Err(CallError::Reentrant)));
            assert!(!last.is_woken());
            assert_eq!(leads.poll(), Poll::Ready(Err(CallError::Reentrant)));
            last
        };
        let mut last = awaited_inside(&group, both);
        assert_eq!(last.woken_value().expect("a value").value, 8);
        assert!(group.is_empty());
    });
}

/// G13: so is a batch that joined the key, though nothing woke its wait for it. What it leads is abandoned.
#[test]
fn g13_batch_that_is_awaited_inside_the_work_of_a_key_it_joined() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut follower = None;
        let batch = group.run_many([1, 2], |_| pending::<Vec<_>>());
        let batch = async {
            let mut batch = Polled::pending(batch);
            follower = Some(Polled::pending(group.run(&2, async { 5 })));
            yield_now().await;
            batch.poll()
        };
        let text = panic_text(|| awaited_inside(&group, batch));
        assert!(text.contains("recursive"), "{text}");
        assert_eq!(follower.expect("it was polled").woken_value(), 5);
        assert!(group.is_empty());
    });
}

/// G13: and one that follows a key of a batch, inside the load of that.
#[test]
fn g13_follower_that_is_awaited_inside_the_load_it_follows() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let moves_in = RefCell::new(None);
        let mut batch = Polled::pending(group.run_many([1, 2], |keys| {
            let moves_in = &moves_in;
            async move {
                yield_now().await;
                let mut follower: Polled<'_, _> = moves_in.take().expect("put there");
                assert_eq!(follower.poll(), Poll::Ready(Err(CallError::Reentrant)));
                keys.into_iter().map(|key| (key, 7)).collect::<Vec<_>>()
            }
        }));
        moves_in.replace(Some(Polled::pending(group.call(&2).run(async { 0 }))));
        assert_eq!(batch.woken_value().len(), 2);
        assert!(group.is_empty());
    });
}

/// G13: a call that waits for another key's work inside of work has nothing to report.
#[test]
fn g13_follower_that_is_awaited_inside_other_work() {
    limited(|| {
        let group: Group<u64, u32> = Group::new();
        let mut other = Polled::pending(group.run(&2, async {
            yield_now().await;
            9
        }));
        let follower = async {
            let mut follower = Polled::pending(group.run(&2, async { 0 }));
            yield_now().await;
            assert!(follower.poll().is_pending());
            assert_eq!(other.woken_value(), 9);
            follower.woken_value()
        };
        assert_eq!(awaited_inside(&group, follower), 9);
        assert!(group.is_empty());
    });
}
