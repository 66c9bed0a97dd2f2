//! The book that the soak keeps of every execution, and what it checks callers' answers against.
//!
//! Instants are numbers of one counter, so that "before" has no doubt in it.

use std::{
    hash::{Hash, Hasher},
    sync::{
        Arc, OnceLock,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
};

use shardflight::Role;

/// Keys below this are hot: they come again and again. All others are new once, and never again.
pub const HOT: u64 = 16;

/// Of so many keys it is known at once whether their work runs.
const WATCHED: u64 = 1 << 20;

/// On the heap, where one that is left behind is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Box<u64>);

impl Key {
    pub fn new(id: u64) -> Self {
        Self(Box::new(id))
    }

    pub fn id(&self) -> u64 {
        *self.0
    }

    /// Only flights of such keys are ever forgotten, so only these may have two executions at once.
    pub fn is_forgettable(&self) -> bool {
        self.id() % 2 == 1
    }

    /// `lead_or_join` forgets a flight that is being aborted. So where nothing is to be forgotten a key
    /// has either one or the other.
    pub fn is_abortable(&self) -> bool {
        self.is_forgettable() || self.id().is_multiple_of(4)
    }

    pub fn is_leadable(&self) -> bool {
        self.is_forgettable() || !self.is_abortable()
    }
}

/// Three neighbours have one hash: keys that meet must not mix their answers up (G10).
impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.id() / 3).hash(state);
    }
}

/// What flights land with.
#[derive(Clone, Debug)]
pub struct Value {
    execution: Arc<Execution>,
}

/// One piece of work: of the call that brings it, until it is begun.
#[derive(Debug)]
pub struct Execution {
    ledger: Arc<Ledger>,
    key: u64,
    is_forgettable: bool,
    /// Whether a follower may go on with it.
    is_relay: bool,
    /// Instants, 0 if they have not come.
    began: AtomicU64,
    ended: AtomicU64,
    first_seen: AtomicU64,
    /// When the latest of the calls began that were answered with its value.
    latest_call: AtomicU64,
    is_led: AtomicBool,
    /// Followers by its leader's word, if that told.
    followers: AtomicUsize,
    joined: AtomicUsize,
}

/// An execution under way, until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Execution>);

/// A call, from its beginning.
#[derive(Clone, Debug)]
pub struct Called {
    key: u64,
    at: u64,
    fresh: bool,
}

/// What became of executions, and the first thing that is wrong.
#[derive(Debug)]
pub struct Ledger {
    clock: AtomicU64,
    /// The key whose work runs there, and one; or 0.
    running: Box<[AtomicU64]>,
    fault: OnceLock<String>,
    pub begun: AtomicU64,
    pub landed: AtomicU64,
    pub panicked: AtomicU64,
    /// Works that were dropped half done.
    pub cancelled: AtomicU64,
    /// Works that went on under another leader.
    pub relayed: AtomicU64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            clock: AtomicU64::new(1),
            running: (0..WATCHED).map(|_| AtomicU64::new(0)).collect(),
            fault: OnceLock::new(),
            begun: AtomicU64::new(0),
            landed: AtomicU64::new(0),
            panicked: AtomicU64::new(0),
            cancelled: AtomicU64::new(0),
            relayed: AtomicU64::new(0),
        }
    }
}

impl Ledger {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// Something is wrong. The first to say so is heard.
    pub fn blame(&self, what: String) {
        let _ = self.fault.set(what);
    }

    pub fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.blame(what());
        }
    }

    /// To be made before a call can register.
    pub fn call(&self, key: &Key, fresh: bool) -> Called {
        Called { key: key.id(), at: self.now(), fresh }
    }

    pub fn execution(self: &Arc<Self>, key: &Key, is_relay: bool) -> Arc<Execution> {
        Arc::new(Execution {
            ledger: Arc::clone(self),
            key: key.id(),
            is_forgettable: key.is_forgettable(),
            is_relay,
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            first_seen: AtomicU64::new(u64::MAX),
            latest_call: AtomicU64::new(0),
            is_led: AtomicBool::new(false),
            followers: AtomicUsize::new(usize::MAX),
            joined: AtomicUsize::new(0),
        })
    }

    fn place(&self, key: u64) -> &AtomicU64 {
        let place = if key < HOT { key } else { HOT + key % (WATCHED - HOT) };
        &self.running[place as usize]
    }

    /// The caller has the value.
    pub fn answered(&self, called: &Called, value: &Value) {
        let execution = &*value.execution;
        let Called { key, at, fresh } = *called;
        self.check(execution.key == key, || {
            format!("G2: a caller of key {key} got the value of key {}", execution.key)
        });
        let (began, ended) = (execution.began.load(SeqCst), execution.ended.load(SeqCst));
        self.check(ended != 0, || format!("G2: key {key} has a value of work that has not ended"));
        self.check(!fresh || began > at, || {
            format!("fresh: a call of key {key} at {at} got the value of work begun at {began}")
        });
        // Of a call and an answer in question whichever is written down later finds the other.
        execution.latest_call.fetch_max(at, SeqCst);
        execution.first_seen.fetch_min(self.now(), SeqCst);
        let seen = execution.first_seen.load(SeqCst);
        let latest_call = execution.latest_call.load(SeqCst);
        self.check(latest_call < seen, || {
            format!("G3: a call of key {key} at {latest_call} got a value that was seen at {seen}")
        });
    }

    /// The caller, who brought `own`, was told its role.
    pub fn played(&self, own: &Execution, value: &Value, role: Role) {
        let execution = &*value.execution;
        let is_own = std::ptr::eq(own, execution);
        let key = execution.key;
        self.check(is_own || own.began.load(SeqCst) == 0, || {
            format!(
                "G2: the work of a call of key {key} ran, but the call got the value of another"
            )
        });
        match role {
            Role::Led { followers } => {
                execution.landed_for(followers);
                if !is_own {
                    self.relayed.fetch_add(1, Relaxed);
                    self.check(execution.is_relay, || {
                        format!("G2: a leader of key {key} got the value of work it had no part in")
                    });
                }
            }
            Role::Joined => {
                execution.joined();
                self.check(!is_own, || format!("G2: the leader of key {key} was told it joined"));
            }
        }
    }

    /// When no call is in progress.
    pub fn check_quiet(&self) {
        let left = self.running.iter().map(|place| place.load(SeqCst)).find(|&key| key != 0);
        self.check(left.is_none(), || {
            format!("G4: the work of key {} never ended", left.unwrap() - 1)
        });
    }
}

impl Execution {
    /// To be called first in the work. What cancelled work does until it is gone counts as running, so
    /// `Running` is to be dropped last.
    pub fn begin(self: &Arc<Self>) -> Running {
        let (ledger, key) = (&self.ledger, self.key);
        ledger.begun.fetch_add(1, Relaxed);
        let earlier = self.began.swap(ledger.now(), SeqCst);
        ledger.check(earlier == 0, || format!("G2: a work of key {key} began twice"));
        if !self.is_forgettable {
            let other = ledger.place(key).swap(key + 1, SeqCst);
            ledger.check(other == 0, || {
                format!("G1: work of key {key} began while work of key {} ran", other - 1)
            });
        }
        Running(Arc::clone(self))
    }

    pub fn has_begun(&self) -> bool {
        self.began.load(SeqCst) != 0
    }

    /// The leader says how many followed it.
    pub fn landed_for(&self, followers: usize) {
        self.followers.store(followers, SeqCst);
        let again = self.is_led.swap(true, SeqCst);
        self.ledger.check(!again, || format!("G2: one work of key {} has two leaders", self.key));
    }

    /// A follower, or a handle with all its clones, has the value.
    fn joined(&self) {
        self.joined.fetch_add(1, SeqCst);
    }
}

impl Drop for Execution {
    fn drop(&mut self) {
        let (joined, followers) = (*self.joined.get_mut(), *self.followers.get_mut());
        self.ledger.check(joined <= followers, || {
            format!(
                "G2: {joined} joined work of key {}, whose leader knew of {followers}",
                self.key
            )
        });
    }
}

impl Value {
    /// For those that wait without being told a role.
    pub fn joined(&self) {
        self.execution.joined();
    }

    pub fn is_of(&self, own: &Arc<Execution>) -> bool {
        Arc::ptr_eq(&self.execution, own)
    }

    pub fn is_relay(&self) -> bool {
        self.execution.is_relay
    }
}

impl Running {
    /// The work is done; its destructors are still to come.
    pub fn done(&self) -> Value {
        self.0.ended.store(self.0.ledger.now(), SeqCst);
        Value { execution: Arc::clone(&self.0) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Execution { ledger, key, is_forgettable, ended, .. } = &*self.0;
        if ended.load(SeqCst) != 0 {
            ledger.landed.fetch_add(1, Relaxed);
        } else if thread::panicking() {
            ledger.panicked.fetch_add(1, Relaxed);
        } else {
            ledger.cancelled.fetch_add(1, Relaxed);
        }
        if !is_forgettable {
            // Somebody who begins too early has time to be seen.
            for _ in 0..50 {
                std::hint::spin_loop();
            }
            let own = ledger.place(*key).swap(0, SeqCst);
            ledger.check(own == key + 1, || format!("G1: work of key {key} ended twice"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger() -> (Arc<Ledger>, Key) {
        (Arc::new(Ledger::default()), Key::new(2))
    }

    fn value(ledger: &Arc<Ledger>, key: &Key) -> Value {
        ledger.execution(key, false).begin().done()
    }

    fn blames(ledger: &Ledger, what: &str) -> bool {
        ledger.fault().is_some_and(|fault| fault.starts_with(what))
    }

    #[test]
    fn two_executions_at_once_are_a_fault() {
        let (ledger, key) = ledger();
        let first = ledger.execution(&key, false).begin();
        let elsewhere = ledger.execution(&Key::new(4), false).begin();
        assert_eq!(ledger.fault(), None);
        let second = ledger.execution(&key, false).begin();
        assert!(blames(&ledger, "G1"));
        drop((first, second, elsewhere));
    }

    #[test]
    fn two_executions_of_what_was_forgotten_are_none() {
        let (ledger, key) = (ledger().0, Key::new(3));
        let both = [(); 2].map(|()| ledger.execution(&key, false).begin());
        drop(both);
        assert_eq!(ledger.fault(), None);
    }

    #[test]
    fn one_execution_after_the_other_is_none() {
        let (ledger, key) = ledger();
        for _ in 0..2 {
            let called = ledger.call(&key, true);
            ledger.answered(&called, &value(&ledger, &key));
        }
        ledger.check_quiet();
        assert_eq!(ledger.fault(), None);
    }

    #[test]
    fn a_value_that_was_seen_before_the_call_is_a_fault() {
        let (ledger, key) = ledger();
        let (early, value) = (ledger.call(&key, false), value(&ledger, &key));
        ledger.answered(&early, &value);
        ledger.answered(&early, &value);
        assert_eq!(ledger.fault(), None);
        let late = ledger.call(&key, false);
        ledger.answered(&late, &value);
        assert!(blames(&ledger, "G3"));
    }

    #[test]
    fn a_value_of_work_that_began_before_a_fresh_call_is_a_fault() {
        let (ledger, key) = ledger();
        let running = ledger.execution(&key, false).begin();
        let (any, fresh) = (ledger.call(&key, false), ledger.call(&key, true));
        ledger.answered(&any, &running.done());
        assert_eq!(ledger.fault(), None);
        ledger.answered(&fresh, &running.done());
        assert!(blames(&ledger, "fresh"));
    }

    #[test]
    fn a_value_of_another_key_is_a_fault() {
        let (ledger, key) = ledger();
        let called = ledger.call(&Key::new(0), false);
        ledger.answered(&called, &value(&ledger, &key));
        assert!(blames(&ledger, "G2"));
    }

    #[test]
    fn two_leaders_are_a_fault() {
        let (ledger, key) = ledger();
        let own = ledger.execution(&key, false);
        let value = own.begin().done();
        ledger.played(&own, &value, Role::Led { followers: 0 });
        assert_eq!(ledger.fault(), None);
        ledger.played(&own, &value, Role::Led { followers: 0 });
        assert!(blames(&ledger, "G2"));
    }

    #[test]
    fn more_followers_than_the_leader_knew_are_a_fault() {
        let (ledger, key) = ledger();
        let own = ledger.execution(&key, false);
        let value = own.begin().done();
        ledger.played(&own, &value, Role::Led { followers: 1 });
        value.joined();
        value.joined();
        drop((own, value));
        assert!(blames(&ledger, "G2"));
    }

    #[test]
    fn work_that_ran_in_vain_is_a_fault() {
        let (ledger, key) = ledger();
        let own = ledger.execution(&key, false);
        drop(own.begin());
        let value = value(&ledger, &key);
        ledger.played(&own, &value, Role::Joined);
        assert!(blames(&ledger, "G2"));
    }

    #[test]
    fn work_that_never_ends_is_a_fault() {
        let (ledger, key) = ledger();
        let running = ledger.execution(&key, false).begin();
        ledger.check_quiet();
        assert!(blames(&ledger, "G4"));
        drop(running);
    }
}
