//! What an observer is told, while callers race: the events of each flight in their order, and sums
//! that come out even.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    // Those of std order nothing for loom.
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use loom::{future::block_on, thread};
use shardflight::{FlightId, Observer};

use crate::kit::{Executions, Group, Hasher, InTurn, KEY, check, pending, poll_once};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Led,
    Joined,
    TakenOver,
    Landed,
    Cancelled,
    Answered,
    Left,
}
use Event::*;

/// The standard library's mutex: it is never held where loom could change threads, and orders nothing
/// for loom.
#[derive(Default)]
struct Log(Mutex<Vec<(FlightId, Event)>>);

impl Log {
    fn push(&self, flight: FlightId, event: Event) {
        self.0.lock().unwrap().push((flight, event));
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
    fn landed(&self, flight: FlightId, _: usize, _: Duration) {
        self.push(flight, Landed);
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
}

/// A fresh group that is observed, and its log.
fn observed() -> (Group, Arc<Log>) {
    let log = Arc::new(Log::default());
    let group = shardflight::Group::builder().hasher(Hasher::default()).shards(2);
    (group.observer(Arc::clone(&log)).build(), log)
}

/// Of every flight the leads come one after the other, no follower is answered before the landing, and
/// everybody who joined went one way.
fn assert_told_in_order(log: &Log) {
    let all = log.0.lock().unwrap();
    for flight in all.iter().filter(|(_, event)| *event == Led).map(|(flight, _)| flight) {
        let of_flight = || all.iter().filter(|(it, _)| it == flight).map(|(_, event)| *event);
        let leads: Vec<_> =
            of_flight().filter(|event| !matches!(event, Joined | Answered | Left)).collect();
        assert_eq!(leads[0], Led, "{all:?}");
        assert_eq!(leads.len() % 2, 0, "{all:?}");
        for lead in leads[1..].chunks(2) {
            assert!(matches!(lead, [Cancelled, TakenOver] | [Landed] | [Cancelled]), "{all:?}");
        }
        let landed = of_flight().position(|event| event == Landed);
        let answered = of_flight().position(|event| event == Answered);
        assert!(answered.is_none() || landed < answered, "{all:?}");
        let count = |of: &[Event]| of_flight().filter(|event| of.contains(event)).count();
        assert_eq!(count(&[Joined]), count(&[Answered, Left, TakenOver]), "{all:?}");
    }
}

/// Two callers race: each leads a flight of its own, or one follows. A watched flight begins and ends
/// in its cell as others do.
#[test]
fn g1_g4_watched_flights_race() {
    check(3, || {
        let (group, log) = observed();
        let executions = Executions::new();
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        block_on(group.run(&KEY, executions.work()));
        other.join().unwrap();
        assert!(group.is_empty(), "G4");
        assert_told_in_order(&log);
    });
}

/// The leader is dropped while a follower joins, takes over, or leaves: `cancelled` comes before the
/// next `taken_over`.
#[test]
fn g7_leads_are_told_in_their_order() {
    check(3, || {
        let (group, log) = observed();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let other = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || block_on(group.run(&KEY, executions.work())))
        };
        drop(leader);
        other.join().unwrap();
        assert!(group.is_empty(), "G4");
        assert_told_in_order(&log);
    });
}

/// The same with a follower that leaves while the lead is given up.
#[test]
fn g4_who_leaves_while_the_leader_goes_is_told_once() {
    check(2, || {
        let (group, log) = observed();
        let executions = Executions::new();
        let leader = pending(group.run(&KEY, executions.stuck()));
        let follower = {
            let (group, executions) = (group.clone(), executions.clone());
            thread::spawn(move || drop(pending_or_ready(group.run(&KEY, executions.stuck()))))
        };
        drop(leader);
        follower.join().unwrap();
        assert!(group.is_empty(), "G4");
        assert_told_in_order(&log);
    });
}

/// G7: the leads of a flight are told in turn: each sees what the observer did at the one before. A newcomer
/// leads and goes between a follower's look at the state and its change of it; the state is as it was then.
#[test]
fn g7_leads_are_told_in_turn() {
    struct Leads {
        place: InTurn,
        /// A panic of an observer goes no further, so what loom says to it is kept here.
        is_in_turn: AtomicBool,
    }
    impl Leads {
        fn touch(&self) {
            if catch_unwind(AssertUnwindSafe(|| self.place.touch())).is_err() {
                self.is_in_turn.store(false, SeqCst);
            }
        }
    }
    impl Observer for Leads {
        fn taken_over(&self, _: FlightId) {
            self.touch();
        }
        fn cancelled(&self, _: FlightId) {
            self.touch();
        }
    }

    check(3, || {
        let builder = shardflight::Group::builder().hasher(Hasher::default()).shards(2);
        let leads = Leads { place: InTurn::new(), is_in_turn: AtomicBool::new(true) };
        let leads = Arc::new(leads);
        let group: Group = builder.observer(Arc::clone(&leads)).build();
        let leader = pending(group.run(&KEY, std::future::pending()));
        let follower = pending(group.run(&KEY, async { 1 }));
        drop(leader);
        let in_between = {
            let group = group.clone();
            thread::spawn(move || drop(pending_or_ready(group.run(&KEY, std::future::pending()))))
        };
        assert_eq!(block_on(follower), 1);
        in_between.join().unwrap();
        assert!(leads.is_in_turn.load(SeqCst));
        assert!(group.is_empty(), "G4");
    });
}

fn pending_or_ready<F: Future>(call: F) -> Pin<Box<F>> {
    let mut call = Box::pin(call);
    let _ = poll_once(call.as_mut());
    call
}
