//! Random sequences of the calls for production against a model of the contract: relays, fresh calls,
//! leads, handles and caps, with drops, panics and forgetting. (Threads and plain calls: `model.rs`.)
//!
//! All of it happens on one thread, so that each step is a whole one. A work says by whom it is polled:
//! that tells who leads. Who leads a flight that has to wait cannot be seen; while there is one, everybody
//! who was woken looks before the next step.

#![cfg(not(loom))]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::mpsc,
    task::{Context, Poll},
};

use common::{Dice, Polled, limited, panic_text, sequences::check_any_sequence, text};
use proptest::{
    prelude::{Strategy, any},
    prop_oneof,
};
use shardflight::{CallError, Entry, Group, Lead, OnCancel, Role};
use tokio::sync::oneshot;

static KEYS: [usize; 2] = [0, 1];

/// One operation. Those that pick one of several take a number and use its remainder.
#[derive(Debug, Clone)]
enum Step {
    Call { key: usize, how: How },
    LeadOrJoin { key: usize },
    Join { key: usize },
    Land { leader: usize },
    Panic { leader: usize },
    DropLeader { leader: usize },
    DropAny { caller: usize },
    Forget { key: usize },
    Settle,
}

#[derive(Debug, Clone, Copy)]
struct How {
    relay: bool,
    fresh: bool,
    fail: bool,
    cap: Option<usize>,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let how = (any::<bool>(), any::<bool>(), proptest::bool::weighted(0.25), 0_usize..12).prop_map(
        |(relay, fresh, fail, cap)| How { relay, fresh, fail, cap: (cap < 4).then_some(cap) },
    );
    prop_oneof![
        8 => (key.clone(), how).prop_map(|(key, how)| Step::Call { key, how }),
        2 => key.clone().prop_map(|key| Step::LeadOrJoin { key }),
        2 => key.clone().prop_map(|key| Step::Join { key }),
        3 => any::<usize>().prop_map(|leader| Step::Land { leader }),
        1 => any::<usize>().prop_map(|leader| Step::Panic { leader }),
        5 => any::<usize>().prop_map(|leader| Step::DropLeader { leader }),
        3 => any::<usize>().prop_map(|caller| Step::DropAny { caller }),
        1 => key.prop_map(|key| Step::Forget { key }),
        4 => proptest::strategy::Just(Step::Settle),
    ]
}

/// What a caller gets: a value, with its role unless it had only a handle.
type Answer = Result<(usize, Option<Role>), CallError>;

/// How a call came back: `Err` has the text of a panic.
type Return = Result<Answer, String>;

#[derive(Debug)]
enum Event {
    Polled(usize),
    Dropped(usize),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Value,
    Panic,
}

/// Does nothing by itself, and says what is done with it. Its value is its caller's number.
struct Work {
    caller: usize,
    end: oneshot::Receiver<End>,
    events: mpsc::Sender<Event>,
}

impl Future for Work {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let _ = self.events.send(Event::Polled(self.caller));
        match Pin::new(&mut self.end).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(End::Value)) => Poll::Ready(self.caller),
            // As `panic!`, without the report on standard error.
            Poll::Ready(Ok(End::Panic)) => resume_unwind(Box::new(format!("of {}", self.caller))),
            Poll::Ready(Err(_)) => panic!("the test is over"),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Dropped(self.caller));
    }
}

// ---------------------------------------------------------------------------------------------
// The model: what the contract says, in the words of the contract.

#[derive(Debug, Default)]
struct Flight {
    /// As far as it can be known: one that took over a waiting flight is still among the `able`.
    leader: Option<usize>,
    /// It has not begun.
    waits: bool,
    /// The work that was begun and is not over; its caller may have gone.
    work: Option<usize>,
    able: BTreeSet<usize>,
    /// Those who asked to be told of a cancellation.
    bound: BTreeSet<usize>,
    handles: BTreeSet<usize>,
    /// Those who have lost their leader, or their flight, and are going to hear of it.
    told: BTreeSet<usize>,
    /// Those who may have lost one.
    perhaps: BTreeSet<usize>,
    /// Who led it in the end, and whose work it was.
    ended: Option<(usize, usize, End)>,
    followers: Option<RangeInclusive<usize>>,
}

#[derive(Debug)]
struct Slot {
    running: usize,
    pending: Option<usize>,
}

#[derive(Debug, Default)]
struct Model {
    flights: Vec<Flight>,
    slots: BTreeMap<usize, Slot>,
    flight_of: BTreeMap<usize, usize>,
    relays: BTreeSet<usize>,
    /// Works that have been begun and not been dropped.
    alive: BTreeSet<usize>,
    begun: usize,
}

impl Flight {
    fn is_leaderless(&self) -> bool {
        self.leader.is_none() && !self.waits && self.ended.is_none()
    }

    fn followers(&self) -> RangeInclusive<usize> {
        let unseen_leader = usize::from(self.leader.is_none());
        let sure = self.able.len() + self.bound.len() + self.handles.len() - unseen_leader;
        sure..=sure + self.told.len() + self.perhaps.len()
    }

    fn forget(&mut self, caller: usize) {
        for set in
            [&mut self.able, &mut self.bound, &mut self.handles, &mut self.told, &mut self.perhaps]
        {
            set.remove(&caller);
        }
    }
}

impl Model {
    /// A new flight that this caller leads.
    fn open(&mut self, caller: usize) -> usize {
        self.flights.push(Flight { leader: Some(caller), waits: true, ..Flight::default() });
        self.flights.len() - 1
    }

    /// Where a call gets to: `false` if it is refused.
    fn enters(&mut self, caller: usize, key: usize, how: How) -> bool {
        if how.relay {
            self.relays.insert(caller);
        }
        let Some(Slot { running, pending }) = self.slots.get(&key) else {
            let running = self.open(caller);
            self.slots.insert(key, Slot { running, pending: None });
            self.flight_of.insert(caller, running);
            return true;
        };
        let (running, pending) = (*running, *pending);
        let flight = &self.flights[running];
        // What it would lead has not begun.
        let joins_running = !how.fresh || flight.is_leaderless() && flight.work.is_none();
        let index = match (joins_running, pending) {
            (true, _) => running,
            (false, Some(pending)) => pending,
            (false, None) => {
                let pending = self.open(caller);
                self.slots.get_mut(&key).expect("found above").pending = Some(pending);
                self.flight_of.insert(caller, pending);
                return true;
            }
        };
        let flight = &mut self.flights[index];
        if flight.is_leaderless() {
            flight.leader = Some(caller);
        } else if how.cap.is_some_and(|cap| *flight.followers().start() >= cap) {
            return false;
        } else if how.fail {
            flight.bound.insert(caller);
        } else {
            flight.able.insert(caller);
        }
        self.flight_of.insert(caller, index);
        true
    }

    fn joins(&mut self, caller: usize, key: usize) -> bool {
        let Some(slot) = self.slots.get(&key) else { return false };
        self.flights[slot.running].handles.insert(caller);
        self.flight_of.insert(caller, slot.running);
        true
    }

    /// A lead without work: it has begun at once.
    fn leads(&mut self, caller: usize, key: usize) {
        let running = self.open(caller);
        self.flights[running].waits = false;
        self.slots.insert(key, Slot { running, pending: None });
        self.flight_of.insert(caller, running);
    }

    /// G1, G7: who polls a work is the only leader of its flight, and it is the work that there was.
    fn polls(&mut self, caller: usize, work: usize) {
        let index = self.flight_of[&caller];
        let pending = self.slots.values().any(|slot| slot.pending == Some(index));
        assert!(!pending, "{caller} begins before the flight before it has ended");
        let flight = &mut self.flights[index];
        if let Some((leader, of, _)) = flight.ended {
            assert_eq!((caller, work), (leader, of), "polled after the end");
            return;
        }
        if flight.leader.is_none() {
            assert!(flight.able.remove(&caller), "{caller} cannot lead");
            flight.leader = Some(caller);
        }
        assert_eq!(flight.leader, Some(caller), "{caller} leads beside another");
        flight.waits = false;
        if flight.work.is_none() {
            assert_eq!(work, caller, "the work of one that is gone");
            flight.work = Some(work);
            self.alive.insert(work);
            self.begun += 1;
        }
        assert_eq!(flight.work, Some(work), "a second work");
    }

    fn ends(&mut self, leader: usize, end: End) -> usize {
        let index = self.flight_of[&leader];
        let flight = &mut self.flights[index];
        flight.followers = Some(flight.followers());
        let work = flight.work.take().unwrap_or(leader);
        flight.ended = Some((leader, work, end));
        self.close(index);
        work
    }

    /// Takes a flight out of its slot; what was pending is in its place then.
    fn close(&mut self, index: usize) {
        self.slots.retain(|_, slot| {
            if slot.pending == Some(index) {
                slot.pending = None;
            }
            if slot.running != index {
                return true;
            }
            match slot.pending.take() {
                None => false,
                Some(pending) => {
                    slot.running = pending;
                    true
                }
            }
        });
    }

    fn forgets(&mut self, key: usize) -> bool {
        let running = self.slots.get(&key).map(|slot| slot.running);
        running.inspect(|running| self.close(*running)).is_some()
    }

    /// G7: a dropped follower affects nobody, unless it was the last that could have led.
    fn drops(&mut self, caller: usize) {
        let index = self.flight_of[&caller];
        let flight = &mut self.flights[index];
        let led = flight.leader == Some(caller);
        let may_have_led = flight.leader.is_none() && flight.waits && flight.able.contains(&caller);
        flight.forget(caller);
        if flight.ended.is_some() {
            return;
        }
        if led {
            flight.leader = None;
            flight.told.append(&mut flight.bound);
            flight.told.append(&mut flight.perhaps);
        } else if may_have_led {
            flight.perhaps.append(&mut flight.bound);
        }
        let is_dead = flight.leader.is_none() && flight.able.is_empty();
        if is_dead {
            flight.told.append(&mut flight.bound);
            flight.told.append(&mut flight.perhaps);
            flight.told.append(&mut flight.handles);
        }
        // A relayed work stays as long as there is somebody to go on with it.
        if is_dead || led && flight.work.is_some_and(|work| !self.relays.contains(&work)) {
            flight.work = None;
        }
        if is_dead {
            flight.waits = false;
            self.close(index);
        }
    }

    fn dropped(&mut self, work: usize) {
        self.alive.remove(&work);
    }

    /// Whether an answer that came back is the one that is due, G2, G7, G8.
    fn returns(&mut self, caller: usize, returned: &Return) {
        let flight = &mut self.flights[self.flight_of[&caller]];
        let told = flight.told.contains(&caller) || flight.perhaps.contains(&caller);
        match (flight.ended, returned) {
            (Some((leader, work, End::Value)), Ok(Ok((value, role)))) => {
                assert_eq!(*value, work, "the value of another execution");
                match role {
                    None => {}
                    Some(Role::Joined) => assert_ne!(caller, leader),
                    Some(Role::Led { followers }) => {
                        assert_eq!(caller, leader);
                        let due = flight.followers.as_ref().expect("it has ended");
                        assert!(due.contains(followers), "{followers} followers, not {due:?}");
                    }
                }
            }
            (Some((leader, work, End::Panic)), Err(text)) => {
                assert_eq!((caller, text.as_str()), (leader, format!("of {work}").as_str()));
            }
            (Some((leader, work, End::Panic)), Ok(Err(CallError::Panicked(panicked)))) => {
                assert_ne!(caller, leader);
                assert_eq!(panicked.message(), format!("of {work}"));
            }
            (_, Ok(Err(CallError::Cancelled))) => assert!(told, "{caller} lost no leader"),
            other => panic!("{caller} came back with {other:?}"),
        }
        flight.forget(caller);
    }

    /// Nobody was woken who has not looked: then everybody has what is due.
    fn is_quiet(&mut self) {
        for flight in &mut self.flights {
            // They were not told.
            flight.bound.append(&mut flight.perhaps);
        }
        for (index, flight) in self.flights.iter().enumerate() {
            assert!(flight.told.is_empty(), "{:?} are not told", flight.told);
            let waiting = !flight.able.is_empty() || !flight.bound.is_empty();
            if flight.ended.is_some() {
                assert!(!waiting && flight.handles.is_empty(), "no answer: {flight:?}");
            } else if flight.waits {
                let pending = self.slots.values().any(|slot| slot.pending == Some(index));
                assert!(pending, "it should have begun: {flight:?}");
            } else if flight.leader.is_none() {
                assert!(!waiting, "nobody leads: {flight:?}");
            }
        }
    }

    fn leaders(&self) -> Vec<usize> {
        let leading = self.flights.iter().filter(|flight| flight.ended.is_none() && !flight.waits);
        leading.filter_map(|flight| flight.leader).collect()
    }

    fn has_waiting_flights(&self) -> bool {
        self.flights.iter().any(|flight| flight.waits)
    }
}

// ---------------------------------------------------------------------------------------------
// The group under test, and what drives its callers.

struct Test<'a> {
    group: &'a Group<usize, usize>,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    /// Calls and handles that have no answer yet.
    futures: BTreeMap<usize, Polled<'a, Answer>>,
    leads: BTreeMap<usize, Lead<usize, usize>>,
    /// How to tell a work to end.
    works: BTreeMap<usize, oneshot::Sender<End>>,
    callers: usize,
    dice: Dice,
    model: Model,
}

impl<'a> Test<'a> {
    fn new(group: &'a Group<usize, usize>, seed: u64) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            group,
            sender,
            events,
            futures: BTreeMap::new(),
            leads: BTreeMap::new(),
            works: BTreeMap::new(),
            callers: 0,
            dice: Dice::new(seed),
            model: Model::default(),
        }
    }

    fn next_caller(&mut self) -> usize {
        self.callers += 1;
        self.callers - 1
    }

    fn take(&mut self, step: &Step) {
        if self.model.has_waiting_flights() {
            self.settle();
        }
        match *step {
            Step::Call { key, how } => self.call(key, how),
            Step::LeadOrJoin { key } => self.lead_or_join(key),
            Step::Join { key } => {
                let caller = self.next_caller();
                let handle = self.group.join(&KEYS[key]);
                assert_eq!(handle.is_some(), self.model.joins(caller, key));
                if let Some(handle) = handle {
                    self.wait_for(caller, handle);
                }
            }
            Step::Land { leader } => self.end(leader, End::Value),
            Step::Panic { leader } => self.end(leader, End::Panic),
            Step::DropLeader { leader } => {
                let leaders = self.model.leaders();
                self.drop_one(&leaders, leader);
            }
            Step::DropAny { caller } => {
                let all: Vec<_> = self.futures.keys().copied().collect();
                self.drop_one(&all, caller);
            }
            Step::Forget { key } => {
                assert_eq!(self.group.forget(&KEYS[key]), self.model.forgets(key));
            }
            Step::Settle => self.settle(),
        }
        self.check();
    }

    fn call(&mut self, key: usize, how: How) {
        if how.cap.is_some() {
            // How many follow is certain only when nobody is about to go.
            self.settle();
        }
        let caller = self.next_caller();
        let (tell, end) = oneshot::channel();
        self.works.insert(caller, tell);
        let work = Work { caller, end, events: self.sender.clone() };
        let mut call = self.group.call(&KEYS[key]);
        if how.fail {
            call = call.on_cancel(OnCancel::Fail);
        }
        if how.fresh {
            call = call.fresh();
        }
        if let Some(cap) = how.cap {
            call = call.max_followers(cap);
        }
        let full = |outcome: shardflight::Outcome<usize>| (outcome.value, Some(outcome.role));
        let mut future = match how.relay {
            true => Polled::new(async move { call.relay(work).await.map(full) }),
            false => Polled::new(async move { call.run(work).await.map(full) }),
        };
        if self.model.enters(caller, key, how) {
            self.futures.insert(caller, future);
            self.poll(caller);
        } else {
            assert_eq!(future.poll(), Poll::Ready(Err(CallError::TooManyFollowers)));
        }
    }

    fn lead_or_join(&mut self, key: usize) {
        let caller = self.next_caller();
        match (self.group.lead_or_join(&KEYS[key]), self.model.joins(caller, key)) {
            (Entry::Join(handle), true) => self.wait_for(caller, handle),
            (Entry::Lead(lead), false) => {
                self.model.leads(caller, key);
                self.leads.insert(caller, lead);
            }
            (entry, _) => panic!("{caller} got {entry:?}"),
        }
    }

    fn wait_for(&mut self, caller: usize, handle: shardflight::Handle<usize>) {
        let future = Polled::new(async { handle.await.map(|value| (value, None)) });
        self.futures.insert(caller, future);
        self.poll(caller);
    }

    /// Ends the work of one of the leaders, and sees it return.
    fn end(&mut self, choice: usize, end: End) {
        let leaders = self.model.leaders();
        let Some(leader) = leaders.get(choice % leaders.len().max(1)).copied() else { return };
        if let Some(lead) = self.leads.remove(&leader) {
            self.model.ends(leader, End::Value);
            let followers = lead.land(leader);
            let flight = &self.model.flights[self.model.flight_of[&leader]];
            let due = flight.followers.as_ref().expect("it has ended");
            assert!(due.contains(&followers), "{followers} followers, not {due:?}");
            return;
        }
        let work = self.model.ends(leader, end);
        let tell = self.works.remove(&work).expect("a work ends once");
        tell.send(end).expect("the work waits");
        self.poll(leader);
        assert!(!self.futures.contains_key(&leader), "its work has ended");
    }

    fn drop_one(&mut self, of: &[usize], choice: usize) {
        if let Some(caller) = of.get(choice % of.len().max(1)) {
            self.model.drops(*caller);
            drop(self.leads.remove(caller));
            drop(self.futures.remove(caller));
            self.hear(None);
        }
    }

    fn poll(&mut self, caller: usize) {
        let Some(future) = self.futures.get_mut(&caller) else { return };
        let polled = catch_unwind(AssertUnwindSafe(|| future.poll()));
        self.hear(Some(caller));
        let returned = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(answer)) => Ok(answer),
            Err(payload) => Err(text(&*payload).to_owned()),
        };
        drop(self.futures.remove(&caller));
        self.model.returns(caller, &returned);
        self.hear(None);
    }

    /// What happened while that caller was polled.
    fn hear(&mut self, polled: Option<usize>) {
        while let Ok(event) = self.events.try_recv() {
            match (event, polled) {
                (Event::Polled(work), Some(caller)) => self.model.polls(caller, work),
                (Event::Polled(work), None) => panic!("nobody polls {work}"),
                (Event::Dropped(work), _) => self.model.dropped(work),
            }
        }
    }

    /// Polls whoever is woken, in any order, until everybody has what is due.
    fn settle(&mut self) {
        loop {
            let is_woken =
                |(caller, future): (&usize, &Polled<'_, _>)| future.is_woken().then_some(*caller);
            let woken: Vec<_> = self.futures.iter().filter_map(is_woken).collect();
            if woken.is_empty() {
                break;
            }
            let one = self.dice.below(woken.len());
            self.poll(woken[one]);
        }
        self.model.is_quiet();
    }

    /// What anybody can see from outside (G4, G5, G7), and which works there are.
    fn check(&self) {
        for key in &KEYS {
            let in_flight = self.model.slots.contains_key(key);
            assert_eq!(self.group.is_in_flight(key), in_flight, "key {key}");
        }
        assert_eq!(self.group.len(), self.model.slots.len());
        let works: BTreeSet<_> =
            self.model.flights.iter().filter_map(|flight| flight.work).collect();
        assert_eq!(self.model.alive, works, "a work was lost, or kept");
    }

    /// Lands whatever is in the air.
    fn finish(mut self) -> usize {
        self.settle();
        while !self.model.leaders().is_empty() {
            self.end(0, End::Value);
            self.settle();
            self.check();
        }
        assert!(self.futures.is_empty(), "some wait for nobody");
        assert!(self.group.is_empty());
        self.model.begun
    }
}

/// Scenarios 1, 4 to 8, 12, 15, 19, 29 to 31, 35 and 41 in random order, G1 to G8, for calls that relay,
/// that are fresh, that are capped, and that have no work: after every step of every sequence the group
/// does what the model says, no work is lost or kept, and at the end nothing is left.
#[test]
fn any_sequence_of_calls_for_production_keeps_the_contract() {
    limited(|| {
        check_any_sequence(600, 500, 100, step(), |steps, seed| {
            let group = Group::new();
            let mut test = Test::new(&group, seed);
            for step in steps {
                test.take(step);
            }
            let _ = test.finish();
        });
    });
}

/// The model itself: it objects to a second leader, to a pending flight that begins, and to an answer
/// that is not due.
#[test]
fn model_objects_to_what_the_contract_forbids() {
    limited(|| {
        let mut model = Model::default();
        let how = |fresh| How { relay: true, fresh, fail: false, cap: None };
        assert!(model.enters(0, 0, how(false)));
        model.polls(0, 0);
        assert!(model.enters(1, 0, how(false)));
        assert!(panic_text(|| model.polls(1, 1)).contains("1 leads beside another"));
        assert!(model.enters(2, 0, how(true)));
        assert!(panic_text(|| model.polls(2, 2)).contains("before the flight before it"));
        model.drops(0);
        assert!(panic_text(|| model.polls(1, 1)).contains("a second work"));
        model.polls(1, 0);
        let cancelled = Ok(Err(CallError::Cancelled));
        assert!(panic_text(|| model.returns(1, &cancelled)).contains("lost no leader"));
        assert_eq!(model.ends(1, End::Value), 0);
        let value = |value| Ok(Ok((value, Some(Role::Led { followers: 0 }))));
        assert!(panic_text(|| model.returns(1, &value(1))).contains("another execution"));
        model.returns(1, &value(0));
        assert!(panic_text(|| model.is_quiet()).contains("it should have begun"));
        model.polls(2, 2);
        model.is_quiet();
    });
}
