//! What an observer is told: every way a flight and its callers can go.

#![cfg(not(loom))]

mod common;

use std::{
    cell::Cell,
    collections::HashMap,
    future::{pending, ready},
    hash::{Hash, Hasher},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use common::{Dice, OnDrop, Polled, limited, multi_thread, on_tokio, panic_text};
use futures_lite::future::yield_now;
use shardflight::{CallError, Entry, FlightId, Group, Observer, OnCancel, Stats};

#[derive(Debug, Clone, PartialEq)]
enum Event {
    Led,
    Joined,
    TakenOver,
    Landed(usize),
    Panicked(usize),
    Cancelled,
    Answered,
    Left,
    Forgotten,
    Refused(CallError),
}
use Event::*;

/// Writes everything down.
#[derive(Debug, Default)]
struct Log {
    events: Mutex<Vec<(Option<FlightId>, Event)>>,
    ages: Mutex<Vec<Duration>>,
    parts: Mutex<Vec<Vec<FlightId>>>,
}

impl Log {
    fn push(&self, flight: FlightId, event: Event) {
        self.events.lock().unwrap().push((Some(flight), event));
    }

    /// What has happened since this was last asked, in the order of events.
    fn take(&self) -> Vec<Event> {
        self.take_all().into_iter().map(|(_, event)| event).collect()
    }

    fn take_all(&self) -> Vec<(Option<FlightId>, Event)> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    fn last_age(&self) -> Duration {
        *self.ages.lock().unwrap().last().expect("a flight has ended")
    }
}

impl Observer for Log {
    fn led(&self, flight: FlightId) {
        self.push(flight, Led);
    }
    fn joined(&self, flight: FlightId) {
        self.push(flight, Joined);
    }
    fn taken_over(&self, flight: FlightId) {
        self.push(flight, TakenOver);
    }
    fn landed(&self, flight: FlightId, followers: usize, age: Duration) {
        self.ages.lock().unwrap().push(age);
        self.push(flight, Landed(followers));
    }
    fn panicked(&self, flight: FlightId, followers: usize, age: Duration) {
        self.ages.lock().unwrap().push(age);
        self.push(flight, Panicked(followers));
    }
    fn cancelled(&self, flight: FlightId) {
        self.push(flight, Cancelled);
    }
    fn answered(&self, flight: FlightId, _: Duration) {
        self.push(flight, Answered);
    }
    fn left(&self, flight: FlightId, _: Duration) {
        self.push(flight, Left);
    }
    fn forgotten(&self, flight: FlightId) {
        self.push(flight, Forgotten);
    }
    fn refused(&self, why: &CallError) {
        self.events.lock().unwrap().push((None, Refused(why.clone())));
    }
    fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
        self.parts.lock().unwrap().push(flights.to_vec());
        part();
    }
}

fn logged<K: Eq + Hash, V>() -> (Group<K, V>, Arc<Log>) {
    let log = Arc::new(Log::default());
    (Group::builder().observer(Arc::clone(&log)).build(), log)
}

/// Keys of which all have one hash, so that their flights meet in one cell.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Alike(u64);

impl Hash for Alike {
    fn hash<H: Hasher>(&self, state: &mut H) {
        0.hash(state);
    }
}

/// A flight that nobody joins, by every way to lead one.
#[test]
fn an_unshared_flight_is_led_and_lands() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let alone = vec![Led, Landed(0)];
        futures_lite::future::block_on(group.run(&1, async { 1 }));
        assert_eq!(log.take(), alone);
        futures_lite::future::block_on(group.run(&1, async {
            yield_now().await;
            1
        }));
        assert_eq!(log.take(), alone);
        group.run_blocking(&1, || 1);
        assert_eq!(log.take(), alone);
        let relayed = futures_lite::future::block_on(group.call(&1).relay(async { 1 }));
        assert!(relayed.is_ok());
        assert_eq!(log.take(), alone);
        let many = futures_lite::future::block_on(
            group.run_many([1], |keys| ready(keys.into_iter().map(|key| (key, key)))),
        );
        assert_eq!(many[&1], 1);
        assert_eq!(log.take(), alone);
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        assert_eq!(lead.land(1), 0);
        assert_eq!(log.take(), alone);
        // The handle of a task counts among its followers, and is no caller beside it.
        let (task, handle) = group.call(&1).task(async { 1 }).expect("the key is free");
        futures_lite::future::block_on(task);
        assert_eq!(handle.wait(), Ok(1));
        assert_eq!(log.take(), [Led, Landed(1)]);
    });
}

/// The same if the cell of the key is taken by others: in a chain and in the map.
#[test]
fn flights_that_meet_in_a_cell_are_told_of_too() {
    limited(|| {
        let (group, log) = logged::<Alike, u64>();
        let key = |i| Alike(i);
        let keys: Vec<_> = (0..9).map(key).collect();
        let mut leaders: Vec<_> = keys
            .iter()
            .map(|key| {
                Polled::pending(group.run(key, async {
                    yield_now().await;
                    key.0
                }))
            })
            .collect();
        assert_eq!(log.take(), vec![Led; 9]);
        let begun = Instant::now();
        for leader in &mut leaders {
            let age = begun.elapsed();
            assert!(leader.woken_value() < 9);
            assert!(log.last_age() >= age);
        }
        assert_eq!(log.take(), vec![Landed(0); 9]);

        let leads: Vec<_> = keys
            .iter()
            .map(|key| match group.lead_or_join(key) {
                Entry::Lead(lead) => lead,
                Entry::Join(_) => panic!("the key is free"),
            })
            .collect();
        assert_eq!(log.take(), vec![Led; 9]);
        let begun = Instant::now();
        for (lead, key) in leads.into_iter().zip(&keys) {
            // Also those that were forgotten.
            let forgotten = key.0 % 2 == 1 && group.forget(key);
            let age = begun.elapsed();
            lead.land(0);
            assert!(log.last_age() >= age);
            let expected = if forgotten { vec![Forgotten, Landed(0)] } else { vec![Landed(0)] };
            assert_eq!(log.take(), expected);
        }
        assert!(group.is_empty());
    });
}

/// Followers join and are answered, after the landing.
#[test]
fn a_shared_flight_lands_before_its_followers_are_answered() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        let mut first = Polled::pending(group.run(&1, async { unreachable!() }));
        let mut second = Polled::pending(group.call(&1).run(async { unreachable!() }));
        assert_eq!(log.take(), [Led, Joined, Joined]);
        assert_eq!(leader.woken_value(), 1);
        assert_eq!(log.take(), [Landed(2)]);
        assert_eq!(first.woken_value(), 1);
        assert_eq!(second.woken_value().expect("a value").value, 1);
        assert_eq!(log.take(), [Answered, Answered]);
    });
}

/// A leader is cancelled and a follower takes over; the age is that of the flight.
#[test]
fn a_flight_that_is_taken_over_keeps_its_age() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let leader = Polled::pending(group.run(&1, pending()));
        let begun = Instant::now();
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        let id = group.in_flight()[0].flight;
        drop(leader);
        let age = begun.elapsed();
        assert_eq!(follower.woken_value(), 2);
        assert!(log.last_age() >= age);
        let events = log.take_all();
        assert!(events.iter().all(|(flight, _)| *flight == Some(id)));
        let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
        assert_eq!(events, [Led, Joined, Cancelled, TakenOver, Landed(0)]);
    });
}

/// A newcomer that finds no leader joins and leads.
#[test]
fn a_newcomer_that_leads_at_once_has_joined_too() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let leader = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async { 2 }));
        drop(leader);
        assert!(!group.in_flight()[0].is_led);
        let mut newcomer = Polled::new(group.run(&1, async { 3 }));
        assert_eq!(newcomer.poll(), Poll::Ready(3));
        assert_eq!(follower.woken_value(), 3);
        let expected = [Led, Joined, Cancelled, Joined, TakenOver, Landed(1), Answered];
        assert_eq!(log.take(), expected);
    });
}

/// A leader that goes alone ends its flight; a follower that goes leaves it.
#[test]
fn who_goes_is_told_of() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        drop(Polled::pending(group.run(&1, pending())));
        assert_eq!(log.take(), [Led, Cancelled]);
        // A future that is not polled is no call.
        drop(group.run(&1, async { 1 }));
        assert_eq!(log.take(), []);

        let leader = Polled::pending(group.run(&1, pending()));
        drop(Polled::pending(group.run(&1, async { 2 })));
        assert_eq!(log.take(), [Led, Joined, Left]);
        let mut told =
            Polled::pending(group.call(&1).on_cancel(OnCancel::Fail).run(async { unreachable!() }));
        let late = group.call(&1).timeout(Duration::from_millis(1)).run_blocking(|| 0);
        assert_eq!(late, Err(CallError::TimedOut));
        assert_eq!(log.take(), [Joined, Joined, Left]);
        drop(leader);
        assert_eq!(told.woken_value(), Err(CallError::Cancelled));
        assert_eq!(log.take(), [Cancelled, Left]);
        assert!(group.is_empty());
    });
}

/// A follower of a landed flight that goes without looking has left.
#[test]
fn a_follower_that_does_not_look_has_left() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        let follower = Polled::pending(group.run(&1, async { unreachable!() }));
        leader.woken_value();
        drop(follower);
        assert_eq!(log.take(), [Led, Joined, Landed(1), Left]);
    });
}

#[test]
fn a_panic_is_told_with_its_followers() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        assert_eq!(panic_text(|| group.run_blocking(&1, || panic!("alone"))), "alone");
        assert_eq!(log.take(), [Led, Panicked(0)]);
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic!("the reason")
        }));
        let mut follower = Polled::pending(group.call(&1).run(async { unreachable!() }));
        assert_eq!(panic_text(|| leader.poll()), "the reason");
        assert!(matches!(follower.woken_value(), Err(CallError::Panicked(_))));
        drop(leader);
        assert_eq!(log.take(), [Led, Joined, Panicked(1), Answered]);
    });
}

/// Every way to forget, solo and shared; the forgotten flight ends as others do.
#[test]
fn forgotten_flights_are_told_of_and_end() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let value = || async {
            yield_now().await;
            1
        };
        let mut leader = Polled::pending(group.run(&1, value()));
        assert!(group.forget_unshared(&1));
        assert!(!group.forget_unshared(&1));
        leader.woken_value();
        assert_eq!(log.take(), [Led, Forgotten, Landed(0)]);

        let mut leader = Polled::pending(group.run(&1, value()));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!() }));
        assert!(!group.forget_unshared(&1));
        assert!(group.forget(&1));
        leader.woken_value();
        follower.woken_value();
        assert_eq!(log.take(), [Led, Joined, Forgotten, Landed(1), Answered]);

        let stuck = Polled::pending(group.run(&1, pending()));
        let answer = group.call(&1).max_age(Duration::ZERO).run_blocking(|| 2);
        assert!(answer.is_ok());
        assert_eq!(log.take(), [Led, Forgotten, Led, Landed(0)]);
        drop(stuck);
        assert_eq!(log.take(), [Cancelled]);
    });
}

#[test]
fn refusals_are_told_with_their_reason() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let leader = Polled::pending(group.run(&1, pending()));
        let refused = group.call(&1).max_followers(0).run_blocking(|| 0);
        assert_eq!(refused, Err(CallError::TooManyFollowers));
        let follower = Polled::pending(group.run(&1, async { 0 }));
        let refused = group.call(&1).max_followers(1).task(async { 0 });
        assert!(matches!(refused, Err(CallError::TooManyFollowers)));
        let full = || Refused(CallError::TooManyFollowers);
        assert_eq!(log.take(), [Led, full(), Joined, full()]);
        drop((follower, leader));
        log.take();

        group.run_blocking(&1, || {
            let recursive = group.call(&1).run_blocking(|| 0);
            assert_eq!(recursive, Err(CallError::Reentrant));
            7
        });
        assert_eq!(log.take(), [Led, Refused(CallError::Reentrant), Landed(0)]);
    });
}

/// `relay`: work that goes from hand to hand, and work that is left to nobody.
#[test]
fn relayed_work_is_told_of_at_each_hand() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let work = async {
            yield_now().await;
            1
        };
        let leader = Polled::pending(group.call(&1).relay(work));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!() }));
        drop(leader);
        assert_eq!(follower.woken_value(), 1);
        assert_eq!(log.take(), [Led, Joined, Cancelled, TakenOver, Landed(0)]);

        // The last to leave takes the lead, to drop the work as its leader does.
        let leader = Polled::pending(group.call(&1).relay(pending()));
        let follower = Polled::pending(group.run(&1, async { unreachable!() }));
        drop(leader);
        drop(follower);
        assert_eq!(log.take(), [Led, Joined, Cancelled, TakenOver, Cancelled]);

        drop(Polled::pending(group.call(&1).relay(pending())));
        assert_eq!(log.take(), [Led, Cancelled]);

        assert!(group.is_empty());
    });
}

/// `fresh`: the flight behind the one under way is led from the time it waits.
#[test]
fn pending_flights_are_led_while_they_wait() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let mut old = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        let mut fresh = Polled::pending(group.call(&1).fresh().run(async { 2 }));
        let mut second = Polled::pending(group.call(&1).fresh().run(async { unreachable!() }));
        assert_eq!(log.take(), [Led, Led, Joined]);
        assert_eq!(old.woken_value(), 1);
        assert_eq!(fresh.woken_value().expect("a value").value, 2);
        assert_eq!(second.woken_value().expect("a value").value, 2);
        assert_eq!(log.take(), [Landed(0), Landed(1), Answered]);

        let old = Polled::pending(group.run(&1, pending()));
        let fresh = Polled::pending(group.call(&1).fresh().run(async { 2 }));
        let mut second = Polled::pending(group.call(&1).fresh().run(async { 3 }));
        drop(fresh);
        assert_eq!(log.take(), [Led, Led, Joined, Cancelled]);
        assert!(second.poll().is_pending());
        assert_eq!(log.take(), [TakenOver]);
        let late = group.call(&1).fresh().timeout(Duration::from_millis(1)).run_blocking(|| 4);
        assert_eq!(late, Err(CallError::TimedOut));
        assert_eq!(log.take(), [Joined, Left]);
        assert!(group.forget(&1));
        assert_eq!(second.woken_value().expect("a value").value, 3);
        drop(old);
        assert_eq!(log.take(), [Forgotten, Landed(0), Cancelled]);
    });
}

/// The clones of a handle are one caller.
#[test]
fn handles_are_callers() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        let Entry::Join(handle) = group.lead_or_join(&1) else { panic!("it is in flight") };
        let dropped = group.join(&1).expect("it is in flight");
        assert_eq!(log.take(), [Led, Joined, Joined]);
        drop(dropped.clone());
        assert_eq!(log.take(), []);
        drop(dropped);
        assert_eq!(log.take(), [Left]);
        let late = group.join(&1).expect("it is in flight").wait_timeout(Duration::ZERO);
        assert_eq!(late, Err(CallError::TimedOut));
        assert_eq!(log.take(), [Joined, Left]);
        assert_eq!(lead.land(1), 1);
        assert_eq!(handle.clone().wait(), Ok(1));
        assert_eq!(handle.clone().wait(), Ok(1));
        drop(handle);
        assert_eq!(log.take(), [Landed(1), Answered]);
        assert!(group.join(&1).is_none());
        assert_eq!(log.take(), []);

        let Entry::Lead(lead) = group.lead_or_join(&1) else { panic!("the key is free") };
        let handle = lead.handle();
        drop(lead);
        assert_eq!(handle.wait(), Err(CallError::Cancelled));
        assert_eq!(log.take(), [Led, Joined, Cancelled, Left]);
    });
}

/// Tasks that follow are callers in the place of their handles; a task that nobody wants is cancelled.
#[test]
fn tasks_are_callers() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        let (task, handle) = group.call(&1).task(async { unreachable!() }).expect("it may join");
        let told = group.call(&1).on_cancel(OnCancel::Fail);
        let (idle, told) = told.task(async { unreachable!() }).expect("it may join");
        let mut task = Polled::pending(task);
        futures_lite::future::block_on(idle);
        leader.woken_value();
        task.woken_value();
        assert_eq!((handle.wait(), told.wait()), (Ok(1), Ok(1)));
        assert_eq!(log.take(), [Led, Joined, Joined, Landed(2), Answered, Answered]);

        let unwanted = group.call(&1).abort_when_abandoned().task(pending());
        let (task, handle) = unwanted.expect("the key is free");
        let mut task = Polled::pending(task);
        drop(handle);
        task.woken_value();
        assert_eq!(log.take(), [Led, Cancelled]);

        // What is being aborted is forgotten for one that leads and cannot wait.
        let lead_meanwhile = OnDrop::new(|| match group.lead_or_join(&1) {
            Entry::Lead(lead) => assert_eq!(lead.land(2), 0),
            Entry::Join(_) => panic!("nothing comes of it any more"),
        });
        let unwanted = group.call(&1).abort_when_abandoned().task(async move {
            let _lead_meanwhile = lead_meanwhile;
            pending().await
        });
        let (task, handle) = unwanted.expect("the key is free");
        let mut task = Polled::pending(task);
        drop(handle);
        task.woken_value();
        assert_eq!(log.take(), [Led, Forgotten, Led, Landed(0), Cancelled]);
        assert!(group.is_empty());
    });
}

/// `run_many`: each key is a flight, what is left out is cancelled, and a panic is that of all.
#[test]
fn batches_are_told_of_key_by_key() {
    limited(|| {
        let (group, log) = logged::<u64, u64>();
        let mut stuck = Polled::pending(group.run(&0, async {
            yield_now().await;
            10
        }));
        log.parts.lock().unwrap().clear();
        let mut batch = Polled::pending(group.run_many([0, 1, 2], |keys| async move {
            yield_now().await;
            keys.into_iter().filter(|key| *key != 2).map(|key| (key, key)).collect::<Vec<_>>()
        }));
        assert_eq!(log.take(), [Led, Joined, Led, Led]);
        stuck.woken_value();
        let found = batch.woken_value();
        assert_eq!((found.len(), found[&0], found[&1]), (2, 10, 1));
        let events = log.take();
        assert_eq!(events.len(), 4, "{events:?}");
        assert_eq!(events[0], Landed(1));
        for event in [Answered, Landed(0), Cancelled] {
            assert!(events.contains(&event), "{events:?}");
        }
        // The call of `load`, and two polls of what it returned, are parts of both flights.
        let parts = log.parts.lock().unwrap().clone();
        assert_eq!(parts.iter().filter(|flights| flights.len() == 2).count(), 3, "{parts:?}");

        let text = panic_text(|| {
            futures_lite::future::block_on(group.run_many([1, 2], |_| {
                panic!("no load");
                #[allow(unreachable_code, reason = "to name the type")]
                ready(Vec::new())
            }))
        });
        assert_eq!(text, "no load");
        assert_eq!(log.take(), [Led, Led, Panicked(0), Panicked(0)]);
        assert!(group.is_empty());
    });
}

/// Each poll and each call of a leader's work runs inside of `around`; a follower's does not.
#[test]
fn the_work_runs_inside_of_around() {
    thread_local! { static INSIDE: Cell<usize> = const { Cell::new(0) } }

    struct Around;
    impl Observer for Around {
        fn around(&self, flights: &[FlightId], part: &mut dyn FnMut()) {
            assert_eq!(flights.len(), 1);
            INSIDE.set(INSIDE.get() + 1);
            part();
            INSIDE.set(INSIDE.get() - 1);
        }
    }

    limited(|| {
        let group: Group<u64, usize> = Group::builder().observer(Around).build();
        let work = || async {
            let first = INSIDE.get();
            yield_now().await;
            first + INSIDE.get()
        };
        assert_eq!(futures_lite::future::block_on(group.run(&1, work())), 2);
        assert_eq!(group.run_blocking(&1, || INSIDE.get()), 1);
        let leader = Polled::pending(group.call(&1).relay(work()));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!() }));
        drop(leader);
        assert_eq!(follower.woken_value(), 2);
        let leader = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async { INSIDE.get() }));
        drop(leader);
        assert_eq!(follower.woken_value(), 1);
        // As one call inside of another.
        let nested = group.run_blocking(&1, || group.run_blocking(&2, || INSIDE.get()));
        assert_eq!(nested, 2);
        let many =
            group.run_many([7], |keys| ready(keys.into_iter().map(|key| (key, INSIDE.get()))));
        assert_eq!(futures_lite::future::block_on(many)[&7], 1);
        assert_eq!(INSIDE.get(), 0);
    });
}

/// The part is run once, whatever the observer does with it, and a panic of the work stays the work's.
#[test]
fn a_part_is_run_once_whatever_around_does() {
    struct Never;
    impl Observer for Never {
        fn around(&self, _: &[FlightId], _: &mut dyn FnMut()) {}
    }
    struct Twice;
    impl Observer for Twice {
        fn around(&self, _: &[FlightId], part: &mut dyn FnMut()) {
            part();
            part();
        }
    }
    struct Before;
    impl Observer for Before {
        fn around(&self, _: &[FlightId], _: &mut dyn FnMut()) {
            panic!("before");
        }
    }
    struct After;
    impl Observer for After {
        fn around(&self, _: &[FlightId], part: &mut dyn FnMut()) {
            part();
            panic!("after");
        }
    }

    fn assert_once(observer: impl Observer) {
        let group: Group<u64, usize> = Group::builder().observer(observer).build();
        let runs = AtomicUsize::new(0);
        let run = || runs.fetch_add(1, SeqCst);
        assert_eq!(group.run_blocking(&1, run), 0);
        assert_eq!(futures_lite::future::block_on(group.run(&1, async { run() })), 1);
        assert_eq!(panic_text(|| group.run_blocking(&1, || panic!("work"))), "work");
        let panics = group.run(&1, async { panic!("work") });
        assert_eq!(panic_text(|| futures_lite::future::block_on(panics)), "work");
        assert_eq!(runs.load(SeqCst), 2);
        assert!(group.is_empty());
    }

    limited(|| {
        assert_once(Never);
        assert_once(Twice);
        assert_once(Before);
        assert_once(After);
    });
}

/// An observer that panics at everything: no call notices, nothing is stuck.
#[test]
fn g04_an_observer_that_panics_leaves_nothing_behind() {
    struct Panics;
    impl Observer for Panics {
        fn led(&self, _: FlightId) {
            panic!("led");
        }
        fn joined(&self, _: FlightId) {
            panic!("joined");
        }
        fn taken_over(&self, _: FlightId) {
            panic!("taken over");
        }
        fn landed(&self, _: FlightId, _: usize, _: Duration) {
            panic!("landed");
        }
        fn panicked(&self, _: FlightId, _: usize, _: Duration) {
            panic!("panicked");
        }
        fn cancelled(&self, _: FlightId) {
            panic!("cancelled");
        }
        fn answered(&self, _: FlightId, _: Duration) {
            panic!("answered");
        }
        fn left(&self, _: FlightId, _: Duration) {
            panic!("left");
        }
        fn forgotten(&self, _: FlightId) {
            panic!("forgotten");
        }
        fn refused(&self, _: &CallError) {
            panic!("refused");
        }
    }

    limited(|| {
        let group: Group<u64, u64> = Group::builder().observer(Panics).build();
        let leader = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async {
            yield_now().await;
            2
        }));
        drop(Polled::pending(group.run(&1, pending())));
        let refused = group.call(&1).max_followers(0).run_blocking(|| 0);
        assert_eq!(refused, Err(CallError::TooManyFollowers));
        drop(leader);
        assert!(follower.is_woken());
        assert!(follower.poll().is_pending());
        let mut second = Polled::pending(group.run(&1, async { unreachable!() }));
        let handle = group.join(&1).expect("it is in flight");
        assert_eq!(follower.woken_value(), 2);
        assert_eq!(second.woken_value(), 2);
        assert_eq!(handle.wait(), Ok(2));
        assert_eq!(panic_text(|| group.run_blocking(&1, || panic!("work"))), "work");
        let stuck = Polled::pending(group.run(&1, pending()));
        assert!(group.forget(&1));
        drop(stuck);
        assert!(group.is_empty());
    });
}

/// G9: events come outside of every lock. The observer looks into all shards, and calls other keys.
#[test]
fn g09_an_observer_may_use_the_group() {
    #[derive(Default)]
    struct Curious {
        group: OnceLock<Group<u64, u64>>,
        calls: AtomicUsize,
    }
    thread_local! { static NESTED: Cell<bool> = const { Cell::new(false) } }
    impl Curious {
        fn look(&self) {
            if !NESTED.replace(true) {
                let group = self.group.get().expect("there from the beginning");
                self.calls.fetch_add(1, SeqCst);
                assert!(group.len() <= 1 && group.in_flight().len() <= 1);
                assert_eq!(group.run_blocking(&99, || 7), 7);
                NESTED.set(false);
            }
        }
    }
    impl Observer for Curious {
        fn led(&self, _: FlightId) {
            self.look();
        }
        fn joined(&self, _: FlightId) {
            self.look();
        }
        fn taken_over(&self, _: FlightId) {
            self.look();
        }
        fn landed(&self, _: FlightId, _: usize, _: Duration) {
            self.look();
        }
        fn panicked(&self, _: FlightId, _: usize, _: Duration) {
            self.look();
        }
        fn cancelled(&self, _: FlightId) {
            self.look();
        }
        fn answered(&self, _: FlightId, _: Duration) {
            self.look();
        }
        fn left(&self, _: FlightId, _: Duration) {
            self.look();
        }
        fn forgotten(&self, _: FlightId) {
            self.look();
        }
        fn refused(&self, _: &CallError) {
            self.look();
        }
        fn around(&self, _: &[FlightId], part: &mut dyn FnMut()) {
            self.look();
            part();
        }
    }

    limited(|| {
        let curious = Arc::new(Curious::default());
        let group: Group<u64, u64> = Group::builder().observer(Arc::clone(&curious)).build();
        assert!(curious.group.set(group.clone()).is_ok());
        let leader = Polled::pending(group.run(&1, pending()));
        let mut follower = Polled::pending(group.run(&1, async {
            yield_now().await;
            panic!("the work")
        }));
        drop(Polled::pending(group.run(&1, pending())));
        let _ = group.call(&1).max_followers(0).run_blocking(|| 0);
        drop(leader);
        assert!(follower.poll().is_pending());
        let mut second = Polled::pending(group.call(&1).run(pending()));
        assert_eq!(panic_text(|| follower.poll()), "the work");
        assert!(matches!(second.woken_value(), Err(CallError::Panicked(_))));
        let mut forgotten = Polled::pending(group.run(&1, async {
            yield_now().await;
            1
        }));
        assert!(group.forget(&1));
        assert_eq!(forgotten.woken_value(), 1);
        // led x 2, around x 5, joined x 3, left, refused, cancelled, taken over, panicked, answered,
        // forgotten, landed.
        assert_eq!(curious.calls.load(SeqCst), 18);
        assert!(curious.group.get().expect("there").is_empty());
    });
}

/// What would wait for the flight that it is told of is told so, instead of waiting for ever.
#[test]
fn g13_an_observer_that_would_wait_for_its_flight_is_told() {
    #[derive(Default)]
    struct Calls {
        group: OnceLock<Group<u64, u64>>,
        answers: Mutex<Vec<CallError>>,
    }
    impl Observer for Calls {
        fn led(&self, _: FlightId) {
            let group = self.group.get().expect("there from the beginning");
            let answer = group.call(&1).run_blocking(|| 0);
            self.answers.lock().unwrap().extend(answer.err());
        }
        fn cancelled(&self, flight: FlightId) {
            self.led(flight);
        }
    }

    limited(|| {
        let calls = Arc::new(Calls::default());
        let group: Group<u64, u64> = Group::builder().observer(Arc::clone(&calls)).build();
        assert!(calls.group.set(group.clone()).is_ok());
        drop(Polled::pending(group.run(&1, pending())));
        assert_eq!(*calls.answers.lock().unwrap(), vec![CallError::Reentrant; 2]);
        assert!(group.is_empty());
    });
}

/// The user's own panics, in `Clone` of the value and in `Drop` of the key, come after the flight's end.
#[test]
fn panics_of_values_and_keys_do_not_hide_the_end() {
    #[derive(Debug)]
    struct Unclonable;
    impl Clone for Unclonable {
        fn clone(&self) -> Self {
            panic!("no clones");
        }
    }

    #[derive(PartialEq, Eq, Hash, Clone)]
    struct Heavy(u64);
    impl Drop for Heavy {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("too heavy");
            }
        }
    }

    limited(|| {
        let (group, log) = logged::<u64, Unclonable>();
        let mut leader = Polled::pending(group.run(&1, async {
            yield_now().await;
            Unclonable
        }));
        let mut follower = Polled::pending(group.run(&1, async { unreachable!() }));
        let mut last = Polled::pending(group.run(&1, async { unreachable!() }));
        assert_eq!(panic_text(|| leader.poll().is_ready()), "no clones");
        assert_eq!(panic_text(|| follower.poll().is_ready()), "no clones");
        drop(follower);
        // It gets the original.
        assert!(last.poll().is_ready());
        assert_eq!(log.take(), [Led, Joined, Joined, Landed(2), Left, Answered]);

        let (group, log) = logged::<Heavy, u64>();
        let key = std::mem::ManuallyDrop::new(Heavy(1));
        assert_eq!(panic_text(|| group.run_blocking(&*key, || 7)), "too heavy");
        assert_eq!(log.take(), [Led, Landed(0)]);
        assert!(group.is_empty());
    });
}

/// Two observers are both told.
#[test]
fn a_pair_of_observers_is_two() {
    limited(|| {
        let (first, second) = (Arc::new(Log::default()), Arc::new(Log::default()));
        let both = (Arc::clone(&first), Arc::clone(&second));
        let group: Group<u64, u64> = Group::builder().observer(both).build();
        group.run_blocking(&1, || 1);
        assert_eq!(first.take(), [Led, Landed(0)]);
        assert_eq!(second.take(), [Led, Landed(0)]);
        assert_eq!(first.parts.lock().unwrap().len(), 1);
        assert_eq!(second.parts.lock().unwrap().len(), 1);
    });
}

/// The other one of a pair is told, and has the work run inside of what it puts around it, whichever panics.
#[test]
fn an_observer_that_panics_does_not_keep_the_other_of_a_pair_from_being_told() {
    struct Panics;
    impl Observer for Panics {
        fn led(&self, _: FlightId) {
            panic!("led");
        }
        fn landed(&self, _: FlightId, _: usize, _: Duration) {
            panic!("landed");
        }
        fn around(&self, _: &[FlightId], _: &mut dyn FnMut()) {
            panic!("around");
        }
    }
    /// Panics around the second of a pair, which has run the part by then.
    struct After;
    impl Observer for After {
        fn around(&self, _: &[FlightId], part: &mut dyn FnMut()) {
            part();
            panic!("after");
        }
    }

    fn check(log: &Log, observer: impl Observer) {
        let group: Group<u64, u64> = Group::builder().observer(observer).build();
        assert_eq!(group.run_blocking(&1, || 1), 1);
        assert_eq!(log.take(), [Led, Landed(0)]);
        assert_eq!(log.parts.lock().unwrap().drain(..).len(), 1);
    }

    limited(|| {
        let log = Arc::new(Log::default());
        check(&log, (Panics, Arc::clone(&log)));
        check(&log, (Arc::clone(&log), Panics));
        check(&log, (After, Arc::clone(&log)));
        check(&log, (Arc::clone(&log), After));
        check(&log, ((Panics, Panics), (Panics, Arc::clone(&log))));
    });
}

/// The `Drop` of a key that panics comes after what there is to be told, whoever takes the flight out of the table.
#[test]
fn the_drop_of_a_key_that_panics_hides_no_event() {
    #[derive(PartialEq, Eq, Hash, Clone)]
    struct Heavy(u64);
    impl Drop for Heavy {
        fn drop(&mut self) {
            if !thread::panicking() {
                panic!("too heavy");
            }
        }
    }

    limited(|| {
        let key = &*std::mem::ManuallyDrop::new(Heavy(1));

        let (group, log) = logged::<Heavy, u64>();
        let leader = Polled::pending(group.run(key, pending()));
        let follower = Polled::pending(group.run(key, pending()));
        drop(leader);
        assert_eq!(panic_text(|| drop(follower)), "too heavy");
        assert_eq!(log.take(), [Led, Joined, Cancelled, Left]);
        assert!(group.is_empty());

        // In a cell, and in the map.
        for follows in [false, true] {
            let (group, log) = logged::<Heavy, u64>();
            let mut leader = Polled::pending(group.run(key, async {
                yield_now().await;
                7
            }));
            let follower = follows.then(|| Polled::pending(group.run(key, pending())));
            assert_eq!(panic_text(|| group.forget(key)), "too heavy");
            drop(follower);
            assert_eq!(leader.poll(), Poll::Ready(7));
            let told = log.take();
            match follows {
                false => assert_eq!(told, [Led, Forgotten, Landed(0)]),
                true => assert_eq!(told, [Led, Joined, Forgotten, Left, Landed(0)]),
            }
        }
    });
}

/// What a cache tells reaches both of a pair, through an `Arc` and through one without a type.
#[cfg(feature = "moka")]
#[test]
fn what_a_cache_tells_reaches_every_observer() {
    use shardflight::cache::ReadThrough;

    #[derive(Debug, Default)]
    struct Looks(Mutex<Vec<&'static str>>);
    impl Looks {
        fn push(&self, event: &'static str) {
            self.0.lock().unwrap().push(event);
        }
    }
    impl Observer for Looks {
        fn hit(&self) {
            self.push("hit");
        }
        fn stale_hit(&self) {
            self.push("stale hit");
        }
        fn missed(&self) {
            self.push("missed");
        }
        fn refreshing(&self) {
            self.push("refreshing");
        }
        fn loaded(&self, _: Duration) {
            self.push("loaded");
        }
        fn load_failed(&self, _: Duration) {
            self.push("load failed");
        }
    }

    limited(|| {
        let (first, second, stats) =
            (Arc::new(Looks::default()), Arc::new(Looks::default()), Arc::new(Stats::default()));
        let untyped: Arc<dyn Observer> = second.clone();
        let all = (Arc::clone(&first), (untyped, Arc::clone(&stats)));
        let cache: ReadThrough<u64, u64, ()> =
            ReadThrough::builder().soft_ttl(Duration::ZERO).observer(all).build();
        let told = |expected: &[&str]| {
            for looks in [&first, &second] {
                assert_eq!(std::mem::take(&mut *looks.0.lock().unwrap()), expected);
            }
        };
        assert_eq!(cache.get_blocking(&1, || Err(())), Err(()));
        told(&["missed", "load failed"]);
        assert_eq!(cache.get_blocking(&1, || Ok(1)), Ok(1));
        told(&["missed", "loaded"]);
        assert_eq!(cache.get_if_present(&1), Some(1));
        told(&["stale hit"]);
        assert_eq!(cache.get_blocking(&1, || Ok(2)), Ok(2));
        // Only when it is there is it known that somebody waited for it.
        told(&["refreshing", "loaded", "missed"]);
        let stays: ReadThrough<u64, u64, ()> =
            ReadThrough::builder().observer(Arc::clone(&first)).build();
        stays.insert(&1, 1);
        assert_eq!(stays.get_if_present(&1), Some(1));
        assert_eq!(std::mem::take(&mut *first.0.lock().unwrap()), ["hit"]);
        let counted = stats.snapshot();
        assert_eq!((counted.hits, counted.stale_hits, counted.misses), (0, 1, 3));
        assert_eq!((counted.refreshes, counted.loads, counted.failed_loads), (1, 2, 1));
    });
}

/// Checks what adds up, flight by flight, once no call is in progress.
fn assert_adds_up(log: &Log, stats: &Stats) {
    let all = log.take_all();
    let mut leads: HashMap<FlightId, Vec<Event>> = HashMap::new();
    let mut callers: HashMap<FlightId, i64> = HashMap::new();
    for (flight, event) in &all {
        let Some(flight) = *flight else { continue };
        match event {
            Joined => *callers.entry(flight).or_default() += 1,
            Answered | Left => *callers.entry(flight).or_default() -= 1,
            TakenOver => {
                *callers.entry(flight).or_default() -= 1;
                leads.entry(flight).or_default().push(TakenOver);
            }
            Led | Landed(_) | Panicked(_) | Cancelled => {
                leads.entry(flight).or_default().push(event.clone());
            }
            Forgotten | Refused(_) => {}
        }
    }
    for (flight, waiting) in callers {
        assert_eq!(waiting, 0, "callers of {flight}");
    }
    for (flight, leads) in leads {
        assert_eq!(leads.len() % 2, 0, "{flight}: {leads:?}");
        for (i, lead) in leads.chunks(2).enumerate() {
            assert_eq!(lead[0], if i == 0 { Led } else { TakenOver }, "{flight}: {leads:?}");
            let is_last = 2 * i + 2 == leads.len();
            let ends = matches!(lead[1], Landed(_) | Panicked(_)) && is_last;
            assert!(ends || lead[1] == Cancelled, "{flight}: {leads:?}");
        }
    }
    let counted = stats.snapshot();
    let count = |is: fn(&Event) -> bool| all.iter().filter(|(_, event)| is(event)).count() as u64;
    assert_eq!(counted.led, count(|event| *event == Led));
    assert_eq!(counted.joined, count(|event| *event == Joined));
    assert_eq!(counted.taken_over, count(|event| *event == TakenOver));
    assert_eq!(counted.landed, count(|event| matches!(event, Landed(_))));
    assert_eq!(counted.panicked, count(|event| matches!(event, Panicked(_))));
    assert_eq!(counted.cancelled, count(|event| *event == Cancelled));
    assert_eq!(counted.answered, count(|event| *event == Answered));
    assert_eq!(counted.left, count(|event| *event == Left));
    assert_eq!(counted.forgotten, count(|event| *event == Forgotten));
    assert_eq!(counted.refused, count(|event| matches!(event, Refused(_))));
    assert_eq!((counted.in_flight(), counted.waiting()), (0, 0));
    assert_eq!(counted.saved(), counted.answered);
    assert!(counted.joined > 0 && counted.answered > 0, "{counted:?}");
}

/// Tasks that call, cancel, forget and panic on few keys, in every way at once: it adds up.
#[test]
fn events_of_many_tasks_add_up() {
    on_tokio(|| async {
        let (log, stats) = (Arc::new(Log::default()), Arc::new(Stats::default()));
        let both = (Arc::clone(&log), Arc::clone(&stats));
        let group: Group<Alike, u64> = Group::builder().observer(both).build();
        let tasks: Vec<_> = (0..16)
            .map(|seed| {
                let group = group.clone();
                tokio::spawn(async move {
                    let mut dice = Dice::new(seed);
                    for _ in 0..400 {
                        one_of_many(&group, &mut dice).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("nothing goes wrong");
        }
        // Tasks that were spawned on the way end by themselves.
        while !group.is_empty() || tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0
        {
            tokio::task::yield_now().await;
        }
        assert_adds_up(&log, &stats);
    });
}

async fn one_of_many(group: &Group<Alike, u64>, dice: &mut Dice) {
    let key = Alike(dice.below(3) as u64);
    let naps = dice.below(4);
    let work = async move {
        for _ in 0..naps {
            tokio::task::yield_now().await;
        }
        7
    };
    let patience = dice.below(4);
    match dice.below(12) {
        0 => drop(group.forget(&key)),
        1 => drop(group.call(&key).max_age(Duration::from_micros(50)).run(work).await),
        2 => drop(impatient(patience, group.call(&key).fresh().run(work)).await),
        3 => drop(impatient(patience, group.call(&key).relay(work)).await),
        4 => {
            let call = group.call(&key).on_cancel(OnCancel::Fail).max_followers(2);
            drop(impatient(patience, call.run(work)).await);
        }
        5 => match group.lead_or_join(&key) {
            Entry::Lead(lead) if patience > 0 => drop(lead.land(1)),
            Entry::Lead(lead) => drop(lead),
            Entry::Join(handle) => drop(impatient(patience, handle).await),
        },
        6 => {
            let keys = [key, Alike(3)];
            let load = |keys: Vec<Alike>| async move {
                tokio::task::yield_now().await;
                keys.into_iter().map(|key| (key, 7))
            };
            drop(impatient(patience, group.run_many(keys, load)).await);
        }
        7 => {
            let call = group.call(&key).abort_when_abandoned();
            let (task, handle) = call.task(work).expect("it may join");
            tokio::spawn(task);
            drop(impatient(patience, handle).await);
        }
        _ => drop(impatient(patience, group.run(&key, work)).await),
    }
}

/// Gives up after a number of polls.
async fn impatient<F: Future>(polls: usize, call: F) -> Option<F::Output> {
    let mut call = std::pin::pin!(call);
    for _ in 0..polls {
        if let Some(value) = futures_lite::future::poll_once(call.as_mut()).await {
            return Some(value);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Threads and tasks on one key, with work that panics now and then.
#[test]
fn events_of_threads_and_tasks_add_up() {
    limited(|| {
        let (log, stats) = (Arc::new(Log::default()), Arc::new(Stats::default()));
        let both = (Arc::clone(&log), Arc::clone(&stats));
        let group: Group<u64, u64> = Group::builder().observer(both).build();
        let runtime = multi_thread();
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let group = group.clone();
                runtime.spawn(async move {
                    for i in 0..500 {
                        let work = async {
                            tokio::task::yield_now().await;
                            1
                        };
                        drop(impatient(i % 3, group.call(&1).run(work)).await);
                    }
                })
            })
            .collect();
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for i in 0..500 {
                        let work = || {
                            common::spin();
                            assert!(i % 50 > 0, "now and then");
                            2
                        };
                        let call =
                            || group.call(&1).timeout(Duration::from_millis(1)).run_blocking(work);
                        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call));
                    }
                });
            }
        });
        for task in tasks {
            // It follows with `call`, which returns the panics of others.
            runtime.block_on(task).expect("nothing goes wrong");
        }
        assert!(group.is_empty());
        assert_adds_up(&log, &stats);
    });
}
