//! Random sequences of calls, drops, panics and forgetting, against a model of the contract.
//!
//! Works do nothing by themselves: each says that it began, then ends as it is told. Everything
//! that happens arrives as an event, so the test always knows what it waits for. The one thing the
//! contract leaves open, which follower takes over, the model learns from the event and then holds
//! the group to.

#![cfg(not(loom))]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::Pin,
    sync::{Arc, mpsc},
    task::{Context, Poll, Wake, Waker},
    thread,
    time::Duration,
};

use common::{
    Dice, Doorbell, RingingKey, limited, panic_text, sequences::check_any_sequence, text,
};
use proptest::{
    prelude::{Strategy, any},
    prop_oneof,
};
use shardflight::{CallError, Group, OnCancel, Outcome, Role};
use tokio::sync::oneshot;

const KEYS: usize = 3;

/// Long for one step on a busy machine, short enough for a failing sequence to be shrunk.
const STEP: Duration = Duration::from_secs(10);

/// One operation. Those that pick one of several take a number and use its remainder.
#[derive(Debug, Clone)]
enum Step {
    Call {
        key: usize,
        blocking: bool,
        fail: bool,
    },
    /// Ends the work of one of those that lead.
    Land {
        leader: usize,
    },
    Panic {
        leader: usize,
    },
    /// Drops the future of an async caller.
    DropLeader {
        leader: usize,
    },
    DropAny {
        caller: usize,
    },
    Forget {
        key: usize,
    },
    ForgetUnshared {
        key: usize,
    },
    /// Lets everybody who was woken look. Without it the steps find leaderless flights.
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        8 => (key.clone(), any::<bool>(), proptest::bool::weighted(0.25)).prop_map(
            |(key, blocking, fail)| Step::Call { key, blocking, fail }
        ),
        2 => any::<usize>().prop_map(|leader| Step::Land { leader }),
        1 => any::<usize>().prop_map(|leader| Step::Panic { leader }),
        4 => any::<usize>().prop_map(|leader| Step::DropLeader { leader }),
        2 => any::<usize>().prop_map(|caller| Step::DropAny { caller }),
        1 => key.clone().prop_map(|key| Step::Forget { key }),
        1 => key.prop_map(|key| Step::ForgetUnshared { key }),
        5 => proptest::strategy::Just(Step::Settle),
    ]
}

type Answer = Result<Outcome<usize>, CallError>;

/// How a call came back: `Err` has the text of a panic.
type Return = Result<Answer, String>;

#[derive(Debug)]
enum Event {
    Woken(usize),
    Leads(usize),
    Returned(usize, Return),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Value,
    Panic,
}

// ---------------------------------------------------------------------------------------------
// The model: what the contract says, in the words of the contract.

#[derive(Debug)]
struct Flight {
    leader: Option<usize>,
    /// Those that can take over, and those that asked to be told of a cancellation instead.
    able: BTreeSet<usize>,
    bound: BTreeSet<usize>,
    /// Those of `bound` whose leader was cancelled, until they come back.
    told: BTreeSet<usize>,
    /// Whose work landed or panicked.
    ended: Option<(usize, End)>,
    /// How many followers it had then: those that were told of an earlier cancellation may have
    /// left already or not.
    followers: RangeInclusive<usize>,
}

impl Flight {
    fn new() -> Self {
        Self {
            leader: None,
            able: BTreeSet::new(),
            bound: BTreeSet::new(),
            told: BTreeSet::new(),
            ended: None,
            followers: 0..=0,
        }
    }
}

#[derive(Debug, Default)]
struct Model {
    flights: Vec<Flight>,
    /// By key, the flight that a call would join.
    current: BTreeMap<usize, usize>,
    flight_of: BTreeMap<usize, usize>,
    begun: usize,
}

impl Model {
    fn enters(&mut self, caller: usize, key: usize, fail: bool) -> bool {
        let leads = !self.current.contains_key(&key);
        let flight = *self.current.entry(key).or_insert_with(|| {
            self.flights.push(Flight::new());
            self.flights.len() - 1
        });
        self.flight_of.insert(caller, flight);
        let flight = &mut self.flights[flight];
        match fail {
            false => flight.able.insert(caller),
            true => flight.bound.insert(caller),
        };
        leads
    }

    /// G1, G7: whoever begins is the only one of its flight.
    fn begins(&mut self, caller: usize) {
        let flight = &mut self.flights[self.flight_of[&caller]];
        assert!(flight.leader.is_none(), "{caller} leads beside {:?}", flight.leader);
        assert!(flight.ended.is_none(), "{caller} begins after the end");
        assert!(!flight.told.contains(&caller), "{caller} was to be told");
        assert!(flight.able.remove(&caller) || flight.bound.remove(&caller));
        flight.leader = Some(caller);
        self.begun += 1;
    }

    fn ends(&mut self, leader: usize, end: End) {
        let index = self.flight_of[&leader];
        self.current.retain(|_, current| *current != index);
        let flight = &mut self.flights[index];
        flight.ended = Some((leader, end));
        let sure = flight.able.len() + flight.bound.len();
        flight.followers = sure..=sure + flight.told.len();
    }

    /// G7: a dropped follower affects nobody, unless it was the last that could have led.
    fn drops(&mut self, caller: usize) {
        let index = self.flight_of[&caller];
        let flight = &mut self.flights[index];
        let led = flight.leader == Some(caller);
        if led {
            flight.leader = None;
            flight.told.append(&mut flight.bound);
        }
        flight.able.remove(&caller);
        flight.bound.remove(&caller);
        flight.told.remove(&caller);
        if flight.leader.is_none() && flight.ended.is_none() && flight.able.is_empty() {
            self.current.retain(|_, current| *current != index);
        }
    }

    /// Whether an answer that came back is the one that is due, G2, G7, G8.
    fn returns(&mut self, caller: usize, returned: &Return) {
        let flight = &mut self.flights[self.flight_of[&caller]];
        let told = flight.told.remove(&caller);
        let role_of = |role| match role {
            Role::Joined => None,
            Role::Led { followers } => Some(followers),
        };
        match (flight.ended, returned) {
            (Some((leader, End::Value)), Ok(Ok(outcome))) => {
                assert_eq!(outcome.value, leader, "the value of another execution");
                match role_of(outcome.role) {
                    None => assert_ne!(caller, leader),
                    Some(followers) => {
                        assert_eq!(caller, leader);
                        let due = &flight.followers;
                        assert!(due.contains(&followers), "{followers} followers, not {due:?}");
                    }
                }
            }
            (Some((leader, End::Panic)), Err(text)) => {
                assert_eq!((caller, text.as_str()), (leader, format!("of {leader}").as_str()));
            }
            (Some((leader, End::Panic)), Ok(Err(CallError::Panicked(panicked)))) => {
                assert_ne!(caller, leader);
                assert_eq!(panicked.message(), format!("of {leader}"));
            }
            (_, Ok(Err(CallError::Cancelled))) => assert!(told, "{caller} lost no leader"),
            other => panic!("{caller} came back with {other:?}"),
        }
        if flight.ended.is_none_or(|(leader, _)| leader != caller) {
            flight.able.remove(&caller);
            flight.bound.remove(&caller);
        }
    }

    /// Callers that have an answer to come without anybody doing anything.
    fn is_quiet(&self) -> bool {
        self.flights.iter().all(|flight| {
            let waiting = !flight.able.is_empty() || !flight.bound.is_empty();
            flight.told.is_empty()
                && (flight.ended.is_none() || !waiting)
                && (flight.leader.is_some() || flight.able.is_empty())
        })
    }

    fn leaders(&self) -> Vec<usize> {
        let leading = self.flights.iter().filter(|flight| flight.ended.is_none());
        leading.filter_map(|flight| flight.leader).collect()
    }
}

// ---------------------------------------------------------------------------------------------
// The group under test, and what drives its callers.

struct WakeUp(usize, mpsc::Sender<Event>);

impl Wake for WakeUp {
    fn wake(self: Arc<Self>) {
        let _ = self.1.send(Event::Woken(self.0));
    }
}

struct Test<'a> {
    group: &'a Group<RingingKey, usize>,
    keys: &'a [RingingKey],
    bell: Doorbell,
    sender: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    /// The async callers that have no answer yet.
    futures: BTreeMap<usize, Pin<Box<dyn Future<Output = Answer> + 'a>>>,
    woken: Vec<usize>,
    /// How to tell a work to end.
    works: BTreeMap<usize, oneshot::Sender<End>>,
    callers: usize,
    dice: Dice,
    model: Model,
}

impl<'a> Test<'a> {
    fn new(group: &'a Group<RingingKey, usize>, keys: &'a [RingingKey], seed: u64) -> Self {
        let (sender, events) = mpsc::channel();
        Self {
            group,
            keys,
            bell: Doorbell::new(),
            sender,
            events,
            futures: BTreeMap::new(),
            woken: Vec::new(),
            works: BTreeMap::new(),
            callers: 0,
            dice: Dice::new(seed),
            model: Model::default(),
        }
    }

    fn take(&mut self, step: &Step) {
        self.drain();
        match *step {
            Step::Call { key, blocking, fail } => self.call(key, blocking, fail),
            Step::Land { leader } => self.end(leader, End::Value),
            Step::Panic { leader } => self.end(leader, End::Panic),
            Step::DropLeader { leader } => {
                let leaders = self.model.leaders();
                let leaders = leaders.into_iter().filter(|l| self.futures.contains_key(l));
                self.drop_one(leaders.collect(), leader);
            }
            Step::DropAny { caller } => {
                self.drop_one(self.futures.keys().copied().collect(), caller)
            }
            Step::Forget { key } => {
                let forgotten = self.model.current.remove(&key).is_some();
                assert_eq!(self.group.forget(&self.keys[key]), forgotten);
            }
            Step::ForgetUnshared { key } => {
                // Who follows is certain only when nobody is about to go.
                self.settle();
                let unshared = self.model.current.get(&key).is_some_and(|flight| {
                    let flight = &self.model.flights[*flight];
                    flight.able.is_empty() && flight.bound.is_empty()
                });
                assert_eq!(self.group.forget_unshared(&self.keys[key]), unshared);
                if unshared {
                    self.model.current.remove(&key);
                }
            }
            Step::Settle => self.settle(),
        }
        self.check();
    }

    fn call(&mut self, key: usize, blocking: bool, fail: bool) {
        let caller = self.callers;
        self.callers += 1;
        let (tell, told) = oneshot::channel();
        self.works.insert(caller, tell);
        let on_cancel = if fail { OnCancel::Fail } else { OnCancel::TakeOver };
        let sender = self.sender.clone();
        let begin = move || sender.send(Event::Leads(caller)).expect("the test listens");
        let end = move |end| match end {
            Ok(End::Value) => caller,
            // As `panic!`, without the report on standard error.
            Ok(End::Panic) => resume_unwind(Box::new(format!("of {caller}"))),
            Err(_) => panic!("the test is over"),
        };
        let leads = self.model.enters(caller, key, fail);
        if !blocking {
            let work = async move {
                begin();
                end(told.await)
            };
            let call = self.group.call(&self.keys[key]).on_cancel(on_cancel);
            self.futures.insert(caller, Box::pin(call.run(work)));
            self.poll(caller);
            return;
        }
        let (group, ringing) = (self.group.clone(), self.bell.key(key as u64));
        let sender = self.sender.clone();
        thread::spawn(move || {
            let work = || {
                begin();
                end(told.blocking_recv())
            };
            let call = || group.call(&ringing).on_cancel(on_cancel).run_blocking(work);
            let returned = catch_unwind(AssertUnwindSafe(call)).map_err(|p| text(&*p).to_owned());
            // The handle goes first: when the test hears of it, nothing of the call is left.
            drop((group, ringing));
            let _ = sender.send(Event::Returned(caller, returned));
        });
        if leads {
            while self.model.flights[self.model.flight_of[&caller]].leader.is_none() {
                self.wait();
            }
        } else {
            self.bell.wait_for(1, self.group, key as u64);
        }
    }

    /// Ends the work of one of the leaders, and sees it return.
    fn end(&mut self, choice: usize, end: End) {
        let leaders = self.model.leaders();
        if leaders.is_empty() {
            return;
        }
        let leader = leaders[choice % leaders.len()];
        self.model.ends(leader, end);
        let tell = self.works.remove(&leader).expect("a work ends once");
        tell.send(end).expect("the work waits");
        if self.futures.contains_key(&leader) {
            self.poll(leader);
            assert!(!self.futures.contains_key(&leader), "its work has ended");
            return;
        }
        loop {
            let event = self.events.recv_timeout(STEP).expect("the leader returns");
            let returned = matches!(event, Event::Returned(caller, _) if caller == leader);
            self.hear(event);
            if returned {
                return;
            }
        }
    }

    fn drop_one(&mut self, of: Vec<usize>, choice: usize) {
        if let Some(caller) = of.get(choice % of.len().max(1)) {
            self.model.drops(*caller);
            self.works.remove(caller);
            drop(self.futures.remove(caller));
        }
    }

    fn poll(&mut self, caller: usize) {
        let Some(future) = self.futures.get_mut(&caller) else {
            return;
        };
        let waker = Waker::from(Arc::new(WakeUp(caller, self.sender.clone())));
        let mut cx = Context::from_waker(&waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        // First who leads, then what came of it.
        self.drain();
        let returned = match polled {
            Ok(Poll::Pending) => return,
            Ok(Poll::Ready(answer)) => Ok(answer),
            Err(payload) => Err(text(&*payload).to_owned()),
        };
        drop(self.futures.remove(&caller));
        self.model.returns(caller, &returned);
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Woken(caller) => self.woken.push(caller),
            Event::Leads(caller) => self.model.begins(caller),
            Event::Returned(caller, returned) => self.model.returns(caller, &returned),
        }
    }

    fn drain(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.hear(event);
        }
    }

    fn wait(&mut self) {
        let Ok(event) = self.events.recv_timeout(STEP) else {
            panic!("nothing happens, but something is due: {:#?}", self.model);
        };
        self.hear(event);
        self.drain();
    }

    /// Polls whoever is woken, in any order, until everybody has what is due.
    fn settle(&mut self) {
        loop {
            self.drain();
            if !self.woken.is_empty() {
                let one = self.dice.below(self.woken.len());
                let caller = self.woken.swap_remove(one);
                self.poll(caller);
            } else if self.model.is_quiet() {
                return;
            } else {
                self.wait();
            }
        }
    }

    /// What anybody can see from outside (G4, G5, G7).
    fn check(&self) {
        for (key, ringing) in self.keys.iter().enumerate() {
            assert_eq!(
                self.group.is_in_flight(ringing),
                self.model.current.contains_key(&key),
                "key {key}"
            );
        }
        assert_eq!(self.group.len(), self.model.current.len());
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

/// Scenarios 1, 4 to 8, 12, 15, 19, 29 to 31 and 35 in random order, G1 to G8: after every step of
/// every sequence the group does what the model says, and at the end nothing is left.
#[test]
fn any_sequence_of_steps_keeps_the_contract() {
    limited(|| {
        check_any_sequence(400, 300, 80, step(), |steps, seed| {
            let group = Group::new();
            let keys: Vec<_> = (0..KEYS as u64).map(RingingKey::silent).collect();
            let mut test = Test::new(&group, &keys, seed);
            for step in steps {
                test.take(step);
            }
            let begun = test.finish();
            assert!(begun > 0 || !steps.iter().any(|step| matches!(step, Step::Call { .. })));
        });
    });
}

/// The model itself: it objects to a second leader, and to an answer that is not due.
#[test]
fn model_objects_to_what_the_contract_forbids() {
    limited(|| {
        let mut model = Model::default();
        assert!(model.enters(0, 0, false));
        model.begins(0);
        assert!(!model.enters(1, 0, false));
        assert!(panic_text(|| model.begins(1)).contains("1 leads beside"));
        let value = |value| Ok(Ok(Outcome { value, role: Role::Joined }));
        assert!(panic_text(|| model.returns(1, &value(0))).contains("came back"));
        let cancelled = Ok(Err(CallError::Cancelled));
        assert!(panic_text(|| model.returns(1, &cancelled)).contains("lost no leader"));
        model.ends(0, End::Value);
        assert!(panic_text(|| model.returns(1, &value(1))).contains("another execution"));
        assert!(!model.is_quiet());
        model.returns(1, &value(0));
        assert!(model.is_quiet());
    });
}
